//! What each CPU has for itself: its data, descriptors and stacks, in one area.
//!
//! Areas lie [`PERCPU_STRIDE`] apart and are aligned to it, so a CPU finds its own by rounding its
//! stack pointer down: ring 0 needs neither GS nor a register for that. Pages of an area:
//!
//! | pages | what |
//! |---|---|
//! | 0-3 | [`Cpu`] |
//! | 4 | reserved page of the descriptor table (see [`super::gdt`]) |
//! | 6-7, 9-10, 12-13, 15-16 | stacks of #DB, NMI, #MC, #DF |
//! | 18-31 | main stack; its top is the area's end |
//!
//! The pages between are not mapped, so running over a stack's end is a fault, not a corruption.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use kernel_core::cpu::CpuId;
use kernel_core::system::Here;
use x86_64::VirtAddr;
use x86_64::structures::tss::TaskStateSegment;

use super::acpi::CpuNumbers;
use super::flush::Mailbox;
use super::layout::{MAX_CPUS, PERCPU_BASE, PERCPU_STRIDE};
use super::memory::Memory;
use super::own_cell::OwnCell;
use super::paging::{self, Access};
use super::platform::X86;
use super::{gdt, phys};

const PAGE: u64 = 4096;
const DATA: core::ops::Range<u64> = 0..4;
const GDT_PAGE: u64 = 4;
/// Stacks of the exceptions that can strike where RSP is not ours, in order of their IST number
/// from 1: #DB, NMI, #MC, #DF.
const OWN_STACKS: [core::ops::Range<u64>; 4] = [6..8, 9..11, 12..14, 15..17];
const MAIN_STACK: core::ops::Range<u64> = 18..32;

/// Where in a [`Cpu`] the `syscall` stub puts the guest's stack pointer.
pub(crate) const SAVED_RSP_OFFSET: usize = 0;

/// One CPU's data. Others may look at it, so everything that changes is atomic.
#[repr(C, align(4096))]
pub(crate) struct Cpu {
    /// Scratch of the `syscall` stub, at [`SAVED_RSP_OFFSET`].
    saved_rsp: AtomicU64,
    id: usize,
    numbers: CpuNumbers,
    /// Physical address of the reserved page of the descriptor table.
    gdt_page: u64,
    running: AtomicBool,
    mailbox: Mailbox,
    here: OwnCell<Here<X86>>,
    padding: [u64; 6],
    /// 128 bytes into the area: a task state segment must not cross a page.
    tss: TaskStateSegment,
}

const _: () = assert!(core::mem::offset_of!(Cpu, saved_rsp) == SAVED_RSP_OFFSET);
const _: () = assert!(core::mem::offset_of!(Cpu, tss) == 128);
const _: () = assert!(size_of::<Cpu>() as u64 <= DATA.end * PAGE);
const _: () = assert!(MAIN_STACK.end * PAGE == PERCPU_STRIDE);

/// CPUs with an area.
static COUNT: AtomicUsize = AtomicUsize::new(0);

impl Cpu {
    /// The CPU's number, from 0 without gaps; 0 started the kernel.
    pub(crate) fn id(&self) -> usize {
        self.id
    }

    /// The number of the CPU's local APIC, by which interrupts are sent to it.
    pub(crate) fn apic_id(&self) -> u32 {
        self.numbers.apic
    }

    /// Its numbers: of the local APIC, and in ACPI's tables.
    pub(crate) fn numbers(&self) -> [u32; 2] {
        [self.numbers.apic, self.numbers.acpi]
    }

    /// Top of the stack on which this CPU enters ring 0: the area's end.
    pub(crate) fn main_stack_top(&self) -> u64 {
        self.base() + MAIN_STACK.end * PAGE
    }

    /// Whether the CPU has arrived in this kernel. Before, it belongs to the firmware, and an NMI would
    /// be its end.
    pub(crate) fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }

    /// Notes that this CPU, which must be `self`, has arrived and has its interrupt table.
    pub(crate) fn set_running(&self) {
        self.running.store(true, Ordering::Release);
    }

    /// What the CPU was asked to forget.
    pub(super) fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    /// What the CPU runs, while no entry is being handled.
    pub(super) fn here(&self) -> &OwnCell<Here<X86>> {
        &self.here
    }

    /// Physical address of the page with the CPU's reserved descriptors, to be mapped as page 14 of
    /// a vCPU's descriptor-table window.
    pub(crate) fn gdt_page(&self) -> u64 {
        self.gdt_page
    }

    /// The page with the CPU's reserved descriptors, through the direct map.
    pub(crate) fn descriptors(&self) -> &'static [AtomicU64; 512] {
        phys::table(self.gdt_page)
    }

    /// Linear address of the page with the CPU's reserved descriptors in its own area.
    pub(crate) fn gdt_address(&self) -> u64 {
        self.base() + GDT_PAGE * PAGE
    }

    fn base(&self) -> u64 {
        base(self.id)
    }
}

/// The CPU this runs on.
///
/// Only on a stack of an area, that is from `main.rs`'s second half on; see [`try_current`].
#[inline(always)]
pub(crate) fn current() -> &'static Cpu {
    let base = (stack_pointer() - 1) & !(PERCPU_STRIDE - 1);
    // SAFETY: the stack pointer lies in (or at the end of) an area's stack, and the area begins
    // with its `Cpu`, written before the stack was first used and never moved.
    unsafe { &*(base as *const Cpu) }
}

/// As [`current`], but on the boot stack too: `None` there.
pub(crate) fn try_current() -> Option<&'static Cpu> {
    let end = base(COUNT.load(Ordering::Acquire));
    (PERCPU_BASE..end).contains(&(stack_pointer() - 1)).then(current)
}

/// CPU number `id`, if it has been set up.
pub(crate) fn get(id: usize) -> Option<&'static Cpu> {
    if id >= COUNT.load(Ordering::Acquire) {
        return None;
    }
    // SAFETY: the area exists, its `Cpu` was written before `COUNT` said so and never moves.
    Some(unsafe { &*(base(id) as *const Cpu) })
}

/// The local APIC number of a CPU, as far as an interrupt of a device can name it: in 8 bits.
pub(super) fn destination(cpu: CpuId) -> u32 {
    get(usize::from(cpu.number())).map_or(0, |cpu| cpu.numbers.apic & 0xff)
}

/// All CPUs set up so far; see [`Cpu::is_running`].
pub(crate) fn all() -> impl Iterator<Item = &'static Cpu> {
    (0..MAX_CPUS).map_while(get)
}

/// Sets up the area of the next CPU, which is called so. Its descriptors
/// become active by [`gdt::load`] on that CPU.
///
/// To be called by the boot CPU only. `None` when memory is exhausted or all areas are taken.
pub(crate) fn prepare(memory: &mut Memory, numbers: CpuNumbers) -> Option<&'static Cpu> {
    let id = COUNT.load(Ordering::Relaxed);
    if id == MAX_CPUS {
        return None;
    }
    let base = base(id);
    for pages in [DATA].into_iter().chain(OWN_STACKS).chain([MAIN_STACK]) {
        for page in pages {
            let frame = memory.alloc_pages(1, PAGE)?;
            paging::map(memory, base + page * PAGE, frame, PAGE, Access::Data)?;
        }
    }
    let gdt_page = memory.alloc_pages(1, PAGE)?;
    paging::map(memory, base + GDT_PAGE * PAGE, gdt_page, PAGE, Access::Data)?;

    let mut tss = TaskStateSegment::new();
    let top = |pages: core::ops::Range<u64>| VirtAddr::new(base + pages.end * PAGE);
    let none = VirtAddr::zero();
    tss.privilege_stack_table = [top(MAIN_STACK), none, none];
    let [debug, nmi, machine_check, double_fault] = OWN_STACKS.map(top);
    tss.interrupt_stack_table = [debug, nmi, machine_check, double_fault, none, none, none];
    let saved_rsp = AtomicU64::new(0);
    let cpu = Cpu {
        saved_rsp,
        id,
        numbers,
        gdt_page,
        running: AtomicBool::new(false),
        mailbox: Mailbox::new(),
        here: OwnCell::new(),
        padding: [0; 6],
        tss,
    };
    // SAFETY: the area's data pages are mapped (just above) and nobody knows of them yet.
    unsafe { (base as *mut Cpu).write(cpu) };
    COUNT.store(id + 1, Ordering::Release);
    let cpu = get(id)?;
    gdt::fill(cpu.descriptors(), (&raw const cpu.tss) as u64);
    Some(cpu)
}

/// Continues with `next` on the main stack of `cpu`, which must be the one this runs on.
pub(crate) fn switch_to_main_stack(cpu: &'static Cpu, next: extern "C" fn() -> !) -> ! {
    // SAFETY: the stack is mapped and unused; what lies on the old one is never needed again.
    unsafe {
        asm!(
            "mov rsp, {stack}",
            "xor ebp, ebp",
            "call {next}",
            stack = in(reg) cpu.main_stack_top(),
            next = in(reg) next,
            options(noreturn),
        )
    }
}

/// Whether `length` bytes at `address` lie in the part of one of this kernel's stacks that is
/// certainly mapped and aligned: what a backtrace may read.
pub(crate) fn stack_contains(address: u64, length: u64) -> bool {
    let inside = |low: u64, high: u64| address >= low && address + length <= high;
    if address & 7 != 0 || address > u64::MAX - length {
        return false;
    }
    if inside(super::boot_stack_area().start, super::boot_stack_area().end) {
        return true;
    }
    let Some(offset) = address.checked_sub(PERCPU_BASE) else {
        return false;
    };
    let id = usize::try_from(offset / PERCPU_STRIDE).unwrap_or(MAX_CPUS);
    id < COUNT.load(Ordering::Acquire)
        && OWN_STACKS
            .iter()
            .chain([&MAIN_STACK])
            .any(|pages| inside(base(id) + pages.start * PAGE, base(id) + pages.end * PAGE))
}

fn base(id: usize) -> u64 {
    PERCPU_BASE + id as u64 * PERCPU_STRIDE
}

#[inline(always)]
fn stack_pointer() -> u64 {
    let value: u64;
    // SAFETY: reads a register, nothing else.
    unsafe { asm!("mov {}, rsp", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}
