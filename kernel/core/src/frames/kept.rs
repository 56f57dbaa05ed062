//! Devices that the kernel drives itself, and that guests don't get as they like.

use core::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::types::Mfn;

/// Runs of frames that can be kept.
const RUNS: usize = 32;

/// What a domain that has devices may do with a frame that is no memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DeviceAccess {
    /// Map it as it likes.
    Full,
    /// Map it read-only.
    Read,
    /// Nothing.
    None,
}

/// There are more runs of kept frames than there is room for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TooManyKept;

#[derive(Debug)]
struct Run {
    start: u64,
    end: u64,
    access: DeviceAccess,
}

/// The frames of such devices. Written at boot, read ever after.
#[derive(Debug)]
pub(super) struct KeptDevices(heapless::Vec<Run, RUNS>);

impl KeptDevices {
    pub(super) const fn new() -> Self {
        Self(heapless::Vec::new())
    }

    pub(super) fn keep(
        &mut self,
        start: Mfn,
        count: u64,
        access: DeviceAccess,
    ) -> Result<(), TooManyKept> {
        let run = Run { start: start.0, end: start.0.saturating_add(count), access };
        self.0.push(run).map_err(|_| TooManyKept)
    }

    /// Whether one of the frames from `first` to `last` is not anybody's who has devices.
    pub(super) fn any(&self, first: u64, last: u64) -> bool {
        let mut closed = self.0.iter().filter(|run| run.access == DeviceAccess::None);
        closed.any(|run| first < run.end && run.start <= last)
    }

    /// What may be done with a frame; of several runs that have it the strictest says.
    pub(super) fn access(&self, mfn: Mfn) -> DeviceAccess {
        let runs = self.0.iter().filter(|run| (run.start..run.end).contains(&mfn.0));
        runs.fold(DeviceAccess::Full, |access, run| match (access, run.access) {
            (DeviceAccess::None, _) | (_, DeviceAccess::None) => DeviceAccess::None,
            (DeviceAccess::Full, other) | (other, DeviceAccess::Full) => other,
            (DeviceAccess::Read, DeviceAccess::Read) => DeviceAccess::Read,
        })
    }
}

/// Tables of messages that can be locked at a time.
const TABLES: usize = 128;
/// How many bits of a word say where a run begins; the others have its length.
const START_BITS: u32 = 48;

/// Runs of devices' frames that nobody may map writable for the time being.
#[derive(Debug)]
pub(super) struct LockedDevices([AtomicU64; TABLES]);

impl LockedDevices {
    pub(super) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; TABLES])
    }

    /// Adds a run; false if there is no room.
    pub(super) fn lock(&self, first: u64, last: u64) -> bool {
        let word = pack(first, last);
        self.0
            .iter()
            .any(|cell| cell.compare_exchange(0, word, Ordering::SeqCst, Ordering::Relaxed).is_ok())
    }

    /// Removes a run, once.
    pub(super) fn unlock(&self, first: u64, last: u64) {
        let word = pack(first, last);
        let _ = self.0.iter().any(|cell| {
            cell.compare_exchange(word, 0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
        });
    }

    pub(super) fn has(&self, mfn: Mfn) -> bool {
        self.0.iter().any(|cell| {
            let word = cell.load(Ordering::SeqCst);
            let first = word & ((1 << START_BITS) - 1);
            let behind = mfn.0.wrapping_sub(first);
            word != 0 && behind < word.wrapping_shr(START_BITS)
        })
    }
}

fn pack(first: u64, last: u64) -> u64 {
    let length = last.saturating_sub(first).saturating_add(1);
    length.wrapping_shl(START_BITS) | first
}
