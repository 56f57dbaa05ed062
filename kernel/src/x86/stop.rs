//! Stopping CPUs, this one and the others.

use core::sync::atomic::{AtomicBool, Ordering};

use x86_64::VirtAddr;
use x86_64::instructions::tables::lidt;
use x86_64::instructions::{hlt, interrupts};
use x86_64::structures::DescriptorTablePointer;

use super::{apic, percpu};

static STOPPING: AtomicBool = AtomicBool::new(false);

/// Disables interrupts on this CPU.
pub(crate) fn disable_interrupts() {
    interrupts::disable();
}

/// Makes every other CPU halt, by NMI: it also reaches one that has interrupts off.
pub(crate) fn other_cpus() {
    STOPPING.store(true, Ordering::SeqCst);
    let this = this_cpu();
    for cpu in percpu::all().filter(|cpu| cpu.is_running() && cpu.id() != this) {
        apic::send_nmi(cpu.apic_id());
    }
}

/// Whether the machine is being stopped: what an NMI means then.
pub(crate) fn requested() -> bool {
    STOPPING.load(Ordering::SeqCst)
}

/// Halts this CPU for good.
pub(crate) fn halt() -> ! {
    loop {
        interrupts::disable();
        hlt();
    }
}

/// The number of the CPU this runs on; 0 while there is only one.
pub(crate) fn this_cpu() -> usize {
    percpu::try_current().map_or(0, |cpu| cpu.id())
}

/// Makes the CPU reset itself: an exception without an interrupt table.
pub(crate) fn triple_fault() -> ! {
    let nothing = DescriptorTablePointer { limit: 0, base: VirtAddr::zero() };
    // SAFETY: the CPU resets at the next line; no handler is needed any more.
    unsafe { lidt(&nothing) };
    interrupts::int3();
    halt()
}

/// Sleeps until an interrupt came; interrupts are on meanwhile.
pub(crate) fn wait_for_interrupt() {
    interrupts::enable_and_hlt();
    interrupts::disable();
}

/// Waits for interrupts for ever, with interrupts on.
pub(crate) fn idle() -> ! {
    loop {
        wait_for_interrupt();
    }
}
