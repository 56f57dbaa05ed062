//! What a unit is doing, and how long it did what (ABI: `vcpu_runstate_info`).

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use hypercall_abi::vcpu::{OFFLINE, RunstateInfo};

/// The account. Atomics that are not in order by themselves: it is read and changed under the lock of
/// the queue that the unit's place names.
#[derive(Debug)]
pub(super) struct Runstate {
    state: AtomicU32,
    since: AtomicU64,
    time: [AtomicU64; 4],
}

impl Runstate {
    /// Offline from `now` on.
    pub(super) const fn new(now: u64) -> Self {
        Self {
            state: AtomicU32::new(OFFLINE),
            since: AtomicU64::new(now),
            time: [const { AtomicU64::new(0) }; 4],
        }
    }

    pub(super) fn state(&self) -> u32 {
        self.state.load(Relaxed)
    }

    /// Ends one state and begins another. Clocks of CPUs may differ a little: time stands still
    /// rather than go back, so the sum is always the time since the beginning.
    pub(super) fn enter(&self, state: u32, now: u64) {
        let old = self.state();
        if old == state {
            return;
        }
        let since = self.since.load(Relaxed);
        if let Some(time) = usize::try_from(old).ok().and_then(|old| self.time.get(old)) {
            time.store(time.load(Relaxed).wrapping_add(now.saturating_sub(since)), Relaxed);
        }
        self.since.store(now.max(since), Relaxed);
        self.state.store(state, Relaxed);
    }

    pub(super) fn info(&self) -> RunstateInfo {
        RunstateInfo {
            state: self.state(),
            pad: 0,
            state_entry_time: self.since.load(Relaxed),
            time: self.time.each_ref().map(|time| time.load(Relaxed)),
        }
    }
}

/// The account with the time in the current state until `now` added, as `get_runstate_info` has it.
#[must_use]
pub fn up_to(mut info: RunstateInfo, now: u64) -> RunstateInfo {
    let current = usize::try_from(info.state).ok().and_then(|state| info.time.get_mut(state));
    if let Some(time) = current {
        *time = time.wrapping_add(now.saturating_sub(info.state_entry_time));
    }
    info
}
