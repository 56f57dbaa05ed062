//! Which CPUs may still translate through what a frame was.
//!
//! A clock counts full flushes of all CPUs together. A frame that loses its last reference of a type
//! is stamped with the clock's value; a CPU is stamped with the clock's value after its flush began.
//! A CPU can hold stale translations of the frame only if its own stamp is not above the frame's:
//!
//! - the page-table entry went before the frame's stamp was read, both with locked instructions;
//! - a flush first advances the clock, then forgets. If the frame's stamp is below the value that
//!   the flush got, the entry was gone before the CPU forgot.
//!
//! Frames have room for 32 bits of the clock only. They are extended to the latest time that agrees
//! in those bits and is not in the future, which is never too early: an old frame may cost a flush
//! that was not needed, never miss one that was.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::cpu::{CpuId, CpuSet};
use crate::platform::{Flush, Platform};

/// Value of the clock at a moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Epoch(u64);

/// The stamp of a CPU that is not in use: it holds nothing, so it never needs a flush.
const OFFLINE: u64 = u64::MAX;

/// The clock and the stamps of all CPUs.
#[derive(Debug)]
pub struct Epochs {
    clock: AtomicU64,
    /// The CPUs in use: a bit each.
    online: AtomicU64,
    cpus: [AtomicU64; CpuSet::CAPACITY as usize],
}

impl Epochs {
    /// A clock at its beginning; the boot CPU is in use.
    #[must_use]
    pub const fn new() -> Self {
        let mut cpus = [const { AtomicU64::new(OFFLINE) }; CpuSet::CAPACITY as usize];
        let [boot, ..] = &mut cpus;
        *boot = AtomicU64::new(0);
        Self { clock: AtomicU64::new(1), online: AtomicU64::new(1), cpus }
    }

    /// The clock's low 32 bits, for a frame's stamp.
    #[expect(clippy::cast_possible_truncation, reason = "frames have room for no more")]
    pub(super) fn now_short(&self) -> u32 {
        self.clock.load(Ordering::SeqCst) as u32
    }

    /// A CPU joins, having cached nothing yet. Must come before it can run a guest.
    pub fn cpu_online(&self, cpu: CpuId) {
        self.stamp(cpu, 0);
        self.online.fetch_or(CpuSet::one(cpu).bits(), Ordering::SeqCst);
    }

    /// The beginning of a full flush: to be called before a CPU forgets.
    #[must_use]
    pub fn begin_flush(&self) -> Epoch {
        Epoch(self.clock.fetch_add(1, Ordering::SeqCst).wrapping_add(1))
    }

    /// The CPU has forgotten everything since `begun`.
    pub fn end_flush(&self, cpu: CpuId, begun: Epoch) {
        if let Some(stamp) = self.cpus.get(usize::from(cpu.number())) {
            stamp.fetch_max(begun.0, Ordering::SeqCst);
        }
    }

    /// Those of `cpus` that may have cached translations from before the stamp.
    pub(super) fn stale(&self, cpus: CpuSet, stamp: u32) -> CpuSet {
        self.not_after(cpus, self.extend(stamp))
    }

    /// Those of `cpus` that have not flushed after a time.
    fn not_after(&self, cpus: CpuSet, since: u64) -> CpuSet {
        let mut stale = 0;
        for cpu in cpus.iter() {
            let stamp = self.cpus.get(usize::from(cpu.number()));
            if stamp.is_some_and(|stamp| stamp.load(Ordering::SeqCst) <= since) {
                stale |= CpuSet::one(cpu).bits();
            }
        }
        CpuSet::from_bits(stale)
    }

    /// The CPUs in use that may have cached translations from before one of the stamps: from before
    /// the latest.
    pub(super) fn stale_anywhere(&self, stamps: impl Iterator<Item = u32>) -> CpuSet {
        let latest = stamps.map(|stamp| self.extend(stamp)).max();
        let online = CpuSet::from_bits(self.online.load(Ordering::SeqCst));
        latest.map_or(CpuSet::EMPTY, |since| self.not_after(online, since))
    }

    /// The latest time not in the future that ends in `stamp`.
    fn extend(&self, stamp: u32) -> u64 {
        let now = self.clock.load(Ordering::SeqCst);
        #[expect(clippy::cast_possible_truncation, reason = "the difference is of the low halves")]
        let age = (now as u32).wrapping_sub(stamp);
        now.wrapping_sub(u64::from(age))
    }

    fn stamp(&self, cpu: CpuId, value: u64) {
        if let Some(stamp) = self.cpus.get(usize::from(cpu.number())) {
            stamp.store(value, Ordering::SeqCst);
        }
    }
}

/// The CPUs that may have cached translations of a domain's addresses.
#[derive(Debug, Default)]
pub struct DirtyCpus(AtomicU64);

impl DirtyCpus {
    /// No CPU.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The CPUs at this moment.
    #[must_use]
    pub fn get(&self) -> CpuSet {
        CpuSet::from_bits(self.0.load(Ordering::SeqCst))
    }

    /// `cpu` is about to load a root of the domain. To be called before it does.
    pub fn enter(&self, cpu: CpuId) {
        let bit = CpuSet::one(cpu).bits();
        if self.0.load(Ordering::SeqCst) & bit == 0 {
            self.0.fetch_or(bit, Ordering::SeqCst);
        }
    }

    /// `cpu` has loaded another domain's root, and forgotten everything, globals included.
    pub fn leave(&self, cpu: CpuId) {
        self.0.fetch_and(!CpuSet::one(cpu).bits(), Ordering::SeqCst);
    }
}

impl Default for Epochs {
    fn default() -> Self {
        Self::new()
    }
}

/// CPUs that must forget everything before something may happen. To be spent.
#[must_use = "the CPUs must be flushed before the frame is used"]
#[derive(Debug, Eq, PartialEq)]
pub struct FlushDue {
    cpus: CpuSet,
}

impl FlushDue {
    /// All of `cpus` must forget.
    pub const fn new(cpus: CpuSet) -> Self {
        Self { cpus }
    }

    /// The CPUs.
    #[must_use]
    pub const fn cpus(&self) -> CpuSet {
        self.cpus
    }

    /// Flushes the CPUs and waits for them. To be called without a lock held.
    pub fn spend(self, platform: &impl Platform) {
        if self.cpus.is_empty() {
            return;
        }
        let epochs = platform.frames().epochs();
        let begun = epochs.begin_flush();
        let here = platform.cpu();
        let others = self.cpus.without(here);
        if !others.is_empty() {
            platform.flush_remote(others, Flush::All);
        }
        if self.cpus.contains(here) {
            platform.flush_local(Flush::All);
        }
        for cpu in self.cpus.iter() {
            epochs.end_flush(cpu, begun);
        }
    }
}
