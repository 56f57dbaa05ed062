//! Everything a guest's kernel can do, once: traps, memory, page tables, segments, floating point,
//! privileged instructions. It ends well if all of it went as expected.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::{boxed::Box, format, string::String, vec::Vec};
use core::{error::Error, fmt::Debug, sync::atomic::Ordering::Relaxed};

use pv_guest_sdk::abi::types::Mfn;
use pv_guest_sdk::descriptor::{Descriptor, Gdt, Ldt};
use pv_guest_sdk::paging::{Access, Frame, Memory, Page, Table};
use pv_guest_sdk::raw::fpu::{FpuState, set_task_switched};
use pv_guest_sdk::raw::privileged::{self as instruction, Control, Plain};
use pv_guest_sdk::raw::probe::Raise;
use pv_guest_sdk::{BootInfo, Machine, cpuid, entry, println, vary, vcpu::Vcpu};

entry!(main);
pv_guest_sdk::heap!();

type Outcome = Result<(), Box<dyn Error>>;

fn main(boot: &BootInfo<'static>) -> Outcome {
    let vcpu = Vcpu::start(boot)?;
    let memory = Memory::start(boot)?;
    println!("{} of {} pages", vary!("free", memory.free()), vary!("all", boot.pages()));
    traps(vcpu)?;
    mapping(vcpu, memory)?;
    segments(vcpu)?;
    floating_point(vcpu)?;
    instructions(vcpu, memory)
}

/// The vector and error code of a trap; none is 999.
type Seen = (u16, u64);

/// The trap that an operation causes.
fn trap<T>(vcpu: &Vcpu, operation: impl FnOnce() -> T) -> Seen {
    let (_, seen) = vcpu.observe(operation);
    seen.map_or((999, 0), |seen| (seen.vector.number(), seen.error.bits()))
}

fn check<T: Debug + PartialEq>(what: &str, got: T, wanted: T) -> Outcome {
    println!("{what}: {got:x?}");
    if got == wanted { Ok(()) } else { Err(format!("{what} should be {wanted:x?}").into()) }
}

fn traps(vcpu: &Vcpu) -> Outcome {
    let wanted: [(Raise, Seen); 10] = [
        (Raise::DivideError, (0, 0)),
        (Raise::SingleStep, (1, 0)),
        (Raise::Breakpoint, (3, 0)),
        (Raise::Interrupt(4), (4, 0)),
        (Raise::InvalidOpcode, (6, 0)),
        (Raise::Segment(0x1233), (13, 0x1230)),
        (Raise::GeneralProtection, (13, 0)),
        (Raise::PageFault, (14, 0)),
        (Raise::X87, (16, 0)),
        (Raise::Interrupt(0x80), (0x80, 0)),
    ];
    wanted.into_iter().try_for_each(|(raise, wanted)| {
        check(&format!("{raise:?}"), trap(vcpu, || raise.now()), wanted)
    })?;
    let came = |&number: &u8| trap(vcpu, || Raise::Interrupt(number).now()).0 != 999;
    check("software interrupts", (32..=255).filter(came).count(), 224)?;
    let info = vcpu.info().ok_or("nothing is shared with the hypervisor")?;
    info.upcall_pending.store(1, Relaxed);
    vcpu.hold_events(false);
    check("an event waits", info.upcall_pending.load(Relaxed), 0)
}

fn mapping(vcpu: &Vcpu, memory: Memory) -> Outcome {
    const AT: Page = Page::fixed(0x1000_0000);
    let mut frame = Frame::new()?;
    frame.bytes_mut()[..4].copy_from_slice(b"page");
    let found = memory.machine(frame.number()).and_then(|frame| memory.page(frame));
    check("there and back by the lists of frames", found == Some(frame.number()), true)?;
    let mut mapping = memory.map(AT, frame, Access::WRITE)?;
    println!("mapped: {}", memory.walk(AT));
    check("load", mapping.load(0)?, 0x6567_6170)?;
    check("mapped twice", memory.map(AT, Frame::new()?, Access::WRITE).is_err(), true)?;
    mapping.store(1, 0x11)?;
    mapping.protect(Access::empty())?;
    check("protected", trap(vcpu, || mapping.store(1, 0x22)), (14, 3))?;
    check("fault's address", Control::Cr2.read()?, 0x1000_0008)?;
    mapping.protect_by_store(Access::WRITE)?;
    mapping.store(2, 0x33)?;
    println!("by a store to the table: {}", mapping.entry());
    let frame = mapping.unmap()?;
    println!("unmapped: {}", memory.walk(AT));
    check("what was stored", (frame.bytes()[8], frame.bytes()[16]), (0x11, 0x33))?;
    let free = memory.free();
    (1..=4).try_for_each(|level| Table::pin(Frame::new()?, level)?.unpin())?;
    check("tables pinned and unpinned, pages lost", free - memory.free(), 0)?;
    let numbers: Vec<String> = (1..=3000).map(|number| format!("{number}")).collect();
    check("strings on the heap, bytes", numbers.iter().map(String::len).sum(), 10_893_usize)
}

fn segments(vcpu: &Vcpu) -> Outcome {
    let data = Descriptor::data(0, 0xabcd);
    let table = [Descriptor::NULL, Descriptor::CODE_64, data, data.absent()];
    let (mut gdt, ldt) = (Gdt::load(&table)?, Ldt::load(&table)?);
    for [present, absent] in [[2, 3].map(Gdt::selector), [2, 3].map(Ldt::selector)] {
        let error = u64::from(absent) & !3;
        check("limit", instruction::segment_limit(present), Some(0xabcd))?;
        check("absent", trap(vcpu, || Raise::Segment(absent).now()), (11, error))?;
        check("absent, of a stack", trap(vcpu, || Raise::StackSegment(absent).now()), (12, error))?;
    }
    gdt.update(2, Descriptor::data(0, 0x1234))?;
    check("changed limit", instruction::segment_limit(Gdt::selector(2)), Some(0x1234))?;
    drop((gdt, ldt));
    check("no tables", instruction::segment_limit(Ldt::selector(2)), None)
}

fn floating_point(vcpu: &Vcpu) -> Outcome {
    let state = FpuState::with_vectors(7);
    state.load();
    println!("a hypercall and {:?}", trap(vcpu, || Raise::Breakpoint.now()));
    check("registers kept", FpuState::save().vectors() == state.vectors(), true)?;
    set_task_switched(true)?;
    check("first use", trap(vcpu, || Raise::FloatingPoint.now()), (7, 0))?;
    check("second use", trap(vcpu, || Raise::FloatingPoint.now()), (999, 0))
}

fn instructions(vcpu: &Vcpu, memory: Memory) -> Outcome {
    println!("cpuid: {}", cpuid::Signature::of(cpuid::leaf(&Machine, cpuid::HYPERVISOR, 0)));
    instruction::write_fs_base(0x7f00_1234_5678)?;
    check("base of fs", instruction::read_msr(instruction::FS_BASE)?, 0x7f00_1234_5678)?;
    check("base of gs", instruction::read_msr(instruction::GS_BASE)? >> 31, 0x1_ffff_ffff)?;
    check("unknown MSR", trap(vcpu, || instruction::read_msr(0xdead)), (13, 0))?;
    instruction::write_task_switched(true)?;
    check("cr0, task switched", Control::Cr0.read()? >> 3 & 1, 1)?;
    Plain::Clts.execute()?;
    check("cr0, after clts", Control::Cr0.read()? >> 3 & 1, 0)?;
    let root = Mfn::containing(Control::Cr3.read()?);
    check("cr3 is a frame of this guest", memory.page(root).is_some(), true)?;
    println!("cr4: {}", vary!("cr4", "{:#x}", Control::Cr4.read()?));
    check("cli without rights", trap(vcpu, || Plain::Cli.execute()), (13, 0))?;
    instruction::set_io_level(1)?;
    [Plain::Cli, Plain::Sti, Plain::Wbinvd].into_iter().try_for_each(Plain::execute)?;
    check("interrupt flag", instruction::flags() >> 9 & 1, 1)?;
    instruction::write_diagnostic(0x42)?;
    println!("in: {:#x}", instruction::read_diagnostic()?);
    check("hlt", trap(vcpu, || Plain::Hlt.execute()), (13, 0))?;
    check("invd", trap(vcpu, || Plain::Invd.execute()), (13, 0))
}
