//! Everything a guest's kernel can do, once: traps, memory, page tables, segments, floating point,
//! privileged instructions. It ends well if all of it went as expected.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::{boxed::Box, format, string::String, vec::Vec};
use core::error::Error;
use core::fmt::Debug;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pv_guest_sdk::abi::types::Mfn;
use pv_guest_sdk::descriptor::{Descriptor, Gdt, Ldt};
use pv_guest_sdk::paging::{Access, Frame, Memory, Page, Table};
use pv_guest_sdk::raw::fpu::{FpuState, set_task_switched};
use pv_guest_sdk::raw::privileged::{self as instruction, Control, Plain};
use pv_guest_sdk::raw::probe::Raise;
use pv_guest_sdk::trap::{Resume, Trap, Vector};
use pv_guest_sdk::vcpu::Vcpu;
use pv_guest_sdk::{BootInfo, Machine, cpuid, entry, println, vary};

entry!(main);
pv_guest_sdk::heap!();

type Outcome = Result<(), Box<dyn Error>>;

fn main(boot: &BootInfo<'static>) -> Outcome {
    let vcpu = Vcpu::start(boot)?;
    let memory = Memory::start(boot)?;
    println!("{} of {} pages free", vary!("free", memory.free()), boot.pages());
    for number in 0..=255 {
        vcpu.handle(Vector::interrupt(number), on_trap);
    }
    traps()?;
    mapping(memory)?;
    segments()?;
    floating_point()?;
    instructions(memory)
}

/// The last trap: its vector in the upper half, its error code in the lower.
static TRAP: AtomicU64 = AtomicU64::new(0);
static FAULT_ADDRESS: AtomicU64 = AtomicU64::new(0);

/// Takes down what happened, and goes on behind it.
fn on_trap(trap: &Trap<'_>) -> Resume {
    TRAP.store(u64::from(trap.vector().number()) << 32 | trap.error().bits(), Relaxed);
    FAULT_ADDRESS.store(trap.fault_address(), Relaxed);
    match trap.vector() {
        Vector::DEBUG | Vector::BREAKPOINT | Vector::DEVICE_NOT_AVAILABLE => Resume::Again,
        vector if vector == Vector::OVERFLOW || vector.number() >= 32 => Resume::Again,
        _ => Resume::Skip,
    }
}

/// The vector and error code of the last trap, if there was one since.
fn last() -> Option<(u64, u64)> {
    let trap = TRAP.swap(u64::MAX, Relaxed);
    (trap != u64::MAX).then_some((trap >> 32, trap & 0xffff_ffff))
}

fn check<T: Debug + PartialEq>(what: &str, got: T, wanted: T) -> Outcome {
    println!("{what}: {got:x?}");
    if got == wanted { Ok(()) } else { Err(format!("{what} should be {wanted:x?}").into()) }
}

fn traps() -> Outcome {
    last();
    for (raise, vector, error) in [
        (Raise::DivideError, 0, 0),
        (Raise::SingleStep, 1, 0),
        (Raise::Breakpoint, 3, 0),
        (Raise::Interrupt(4), 4, 0),
        (Raise::InvalidOpcode, 6, 0),
        (Raise::Segment(0x1233), 13, 0x1230),
        (Raise::GeneralProtection, 13, 0),
        (Raise::PageFault, 14, 0),
        (Raise::X87, 16, 0),
        (Raise::Interrupt(0x80), 0x80, 0),
    ] {
        let _trapped = raise.now();
        check(&format!("{raise:?}"), last(), Some((vector, error)))?;
    }
    Ok(())
}

fn mapping(memory: Memory) -> Outcome {
    const AT: Page = Page::fixed(0x1000_0000);
    const PROTECTED: Option<(u64, u64)> = Some((14, 3));
    let mut frame = Frame::new()?;
    frame.bytes_mut()[..4].copy_from_slice(b"page");
    let number = frame.number();
    let found = memory.machine(number).and_then(|frame| memory.page(frame));
    check("there and back by the lists of frames", found == Some(number), true)?;
    let mut mapping = memory.map(AT, frame, Access::WRITE)?;
    println!("mapped: {}", memory.walk(AT));
    check("load", mapping.load(0)?, 0x6567_6170)?;
    check("mapped twice", memory.map(AT, Frame::new()?, Access::WRITE).is_err(), true)?;
    mapping.store(1, 0x11)?;
    mapping.protect(Access::empty())?;
    check("protected", (mapping.store(1, 0x22).is_err(), last()), (true, PROTECTED))?;
    let address = FAULT_ADDRESS.load(Relaxed);
    check("fault's address", (address, Control::Cr2.read()?), (0x1000_0008, 0x1000_0008))?;
    mapping.protect_by_store(Access::WRITE)?;
    mapping.store(2, 0x33)?;
    println!("by a store to the table: {}", mapping.entry());
    let frame = mapping.unmap()?;
    println!("unmapped: {}", memory.walk(AT));
    check("what was stored", (frame.bytes()[8], frame.bytes()[16]), (0x11, 0x33))?;
    let free = memory.free();
    for level in 1..=4 {
        Table::pin(Frame::new()?, level)?.unpin()?;
    }
    check("tables pinned and unpinned, pages lost", free - memory.free(), 0)?;
    let numbers: Vec<String> = (1..=3000).map(|number| format!("{number}")).collect();
    check("strings on the heap, bytes", numbers.iter().map(String::len).sum(), 10_893_usize)
}

fn segments() -> Outcome {
    let data = Descriptor::data(0, 0xabcd);
    let table = [Descriptor::NULL, Descriptor::CODE_64, data, data.absent()];
    let (mut gdt, ldt) = (Gdt::load(&table)?, Ldt::load(&table)?);
    for (name, selectors) in
        [("GDT", [2, 3].map(Gdt::selector)), ("LDT", [2, 3].map(Ldt::selector))]
    {
        let [present, absent] = selectors;
        let error = u64::from(absent) & !3;
        check(&format!("{name} limit"), instruction::segment_limit(present), Some(0xabcd))?;
        let _trapped = (Raise::Segment(absent).now(), check("absent", last(), Some((11, error)))?);
        let _trapped =
            (Raise::StackSegment(absent).now(), check("absent", last(), Some((12, error)))?);
    }
    gdt.update(2, Descriptor::data(0, 0x1234))?;
    check("changed limit", instruction::segment_limit(Gdt::selector(2)), Some(0x1234))?;
    drop((gdt, ldt));
    check("no tables", instruction::segment_limit(Ldt::selector(2)), None)
}

fn floating_point() -> Outcome {
    let state = FpuState::with_vectors(7);
    state.load();
    println!("a hypercall, a trap");
    Raise::Breakpoint.now()?;
    check("registers kept", FpuState::save().vectors() == state.vectors(), true)?;
    last();
    set_task_switched(true)?;
    Raise::FloatingPoint.now()?;
    check("first use", last(), Some((7, 0)))?;
    Raise::FloatingPoint.now()?;
    check("second use", last(), None)
}

fn instructions(memory: Memory) -> Outcome {
    const REFUSED: (bool, Option<(u64, u64)>) = (true, Some((13, 0)));
    let leaf = cpuid::leaf(&Machine, cpuid::HYPERVISOR, 0);
    println!("cpuid: {}", cpuid::Signature::of(leaf));
    instruction::write_fs_base(0x7f00_1234_5678)?;
    check("base of fs", instruction::read_msr(instruction::FS_BASE)?, 0x7f00_1234_5678)?;
    check("base of gs", instruction::read_msr(instruction::GS_BASE)? >> 31, 0x1_ffff_ffff)?;
    check("unknown MSR", (instruction::read_msr(0xdead).is_err(), last()), REFUSED)?;
    instruction::write_task_switched(true)?;
    check("cr0, task switched", Control::Cr0.read()? >> 3 & 1, 1)?;
    Plain::Clts.execute()?;
    check("cr0, after clts", Control::Cr0.read()? >> 3 & 1, 0)?;
    let root = Mfn::containing(Control::Cr3.read()?);
    check("cr3 is a frame of this guest", memory.page(root).is_some(), true)?;
    println!("cr4: {}", vary!("cr4", "{:#x}", Control::Cr4.read()?));
    check("cli without rights", (Plain::Cli.execute().is_err(), last()), REFUSED)?;
    instruction::set_io_level(1)?;
    for plain in [Plain::Cli, Plain::Sti, Plain::Wbinvd] {
        plain.execute()?;
    }
    check("interrupt flag", instruction::flags() >> 9 & 1, 1)?;
    instruction::write_diagnostic(0x42)?;
    println!("in: {:#x}", instruction::read_diagnostic()?);
    check("hlt", (Plain::Hlt.execute().is_err(), last()), REFUSED)?;
    check("invd", (Plain::Invd.execute().is_err(), last()), REFUSED)
}
