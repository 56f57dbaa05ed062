//! Making other CPUs forget translations.
//!
//! Each CPU has a count of what it was asked and a count of what it has done. Who asks raises the
//! first, interrupts the CPU, and waits until the second has got as far. One flush of everything
//! serves all requests that came before it. Ring 0 runs with interrupts off, so whoever waits for
//! anything there serves its own requests meanwhile (`Platform::spin_wait`): two CPUs that ask each
//! other do not wait for ever.

use core::sync::atomic::{AtomicU64, Ordering};

use kernel_core::cpu::CpuSet;
use x86_64::registers::control::{Cr4, Cr4Flags};

use super::percpu::{self, Cpu};
use super::{apic, interrupt};

/// One CPU's requests.
#[derive(Debug)]
pub(super) struct Mailbox {
    asked: AtomicU64,
    done: AtomicU64,
}

impl Mailbox {
    pub(super) const fn new() -> Self {
        Self { asked: AtomicU64::new(0), done: AtomicU64::new(0) }
    }
}

/// Serves what this CPU was asked.
pub(super) fn serve() {
    let mailbox = percpu::current().mailbox();
    let asked = mailbox.asked.load(Ordering::Acquire);
    if mailbox.done.load(Ordering::Relaxed) != asked {
        everything();
        mailbox.done.store(asked, Ordering::Release);
    }
}

/// Makes the other CPUs of a set forget everything, and waits until they have.
pub(super) fn others(cpus: CpuSet) {
    let this = percpu::current().id();
    let targets = || {
        let others = cpus.iter().map(|cpu| usize::from(cpu.number())).filter(|id| *id != this);
        others.filter_map(percpu::get).filter(|cpu| cpu.is_running())
    };
    // How far each has to get; requests that others add meanwhile do not matter.
    let mut wanted = [0; CpuSet::CAPACITY as usize];
    for cpu in targets() {
        wanted[cpu.id()] = cpu.mailbox().asked.fetch_add(1, Ordering::AcqRel) + 1;
        apic::send(cpu.apic_id(), interrupt::FLUSH);
    }
    let has_done = |cpu: &Cpu| cpu.mailbox().done.load(Ordering::Acquire) >= wanted[cpu.id()];
    for cpu in targets() {
        while !has_done(cpu) {
            core::hint::spin_loop();
            serve();
        }
    }
}

/// Forgets every translation on this CPU, global ones included: clearing CR4.PGE does.
pub(super) fn everything() {
    let flags = Cr4::read();
    // SAFETY: only PGE changes, and is set again below.
    unsafe { Cr4::write(flags - Cr4Flags::PAGE_GLOBAL) };
    // SAFETY: the flags that were in force before.
    unsafe { Cr4::write(flags) };
}
