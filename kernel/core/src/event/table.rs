//! A domain's ports: which there are, and which are in use.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use hypercall_abi::errno::Errno;
use hypercall_abi::event::TWO_LEVEL_PORTS;
use hypercall_abi::types::{Port, VcpuId};
use spin::Once;

use super::channel::{Channel, Slot};
use crate::platform::Platform;

/// Ports in a bucket: one word of bits. A guest can tell how many: a number beyond the buckets that
/// exist is no port, one within is a closed port.
const BUCKET: u32 = u64::BITS;
/// Buckets a domain can have.
const BUCKETS: usize = (TWO_LEVEL_PORTS / BUCKET) as usize;

/// Ports with adjacent numbers.
struct Bucket<P: Platform> {
    /// A bit for each port that is not free.
    used: AtomicU64,
    slots: [Slot<P>; BUCKET as usize],
}

impl<P: Platform> Bucket<P> {
    /// Closed ports. The first bucket's first is none, and never free.
    fn new(is_first: bool) -> Self {
        Self {
            used: AtomicU64::new(u64::from(is_first)),
            slots: [const { Slot::new() }; BUCKET as usize],
        }
    }

    /// The lowest free place of the first `count`, which is no longer free then.
    fn take(&self, platform: &P, count: u32) -> Option<u32> {
        let beyond = u64::MAX.checked_shl(count).unwrap_or(0);
        loop {
            let free = !(self.used.load(Ordering::Relaxed) | beyond);
            let lowest = free & free.wrapping_neg();
            if lowest == 0 {
                return None;
            }
            platform.about_to_race();
            // Whoever made it free has forgotten everything about it: acquire.
            if self.used.fetch_or(lowest, Ordering::Acquire) & lowest == 0 {
                return Some(lowest.trailing_zeros());
            }
        }
    }
}

/// A domain's ports. Buckets are made as they are needed, one after the other.
pub struct Ports<P: Platform> {
    buckets: [Once<P::Arc<Bucket<P>>>; BUCKETS],
    limit: AtomicU32,
    sealed: AtomicBool,
}

/// Where a port's slot is, or its bits in words of 64.
pub(super) const fn place(port: Port) -> (u32, u32) {
    (port.0 / BUCKET, port.0 % BUCKET)
}

impl<P: Platform> Ports<P> {
    /// No port in use.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            buckets: [const { Once::new() }; BUCKETS],
            limit: AtomicU32::new(TWO_LEVEL_PORTS),
            sealed: AtomicBool::new(false),
        }
    }

    /// From now on no port is made whose number is not below `limit`. Those there are stay.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit.min(TWO_LEVEL_PORTS), Ordering::Relaxed);
    }

    /// From now on no port is made.
    pub(super) fn seal(&self) {
        self.sealed.store(true, Ordering::SeqCst);
    }

    /// Whether no port is in use.
    pub(super) fn are_closed(&self) -> bool {
        self.used().all(|(_, used)| used == 0)
    }

    /// The bits of ports in use, one word a bucket, with the bucket's first port.
    pub(super) fn used(&self) -> impl Iterator<Item = (Port, u64)> {
        let firsts = (0..TWO_LEVEL_PORTS).step_by(BUCKET as usize);
        firsts.zip(self.buckets.iter().map_while(Once::get)).map(|(first, bucket)| {
            let reserved = u64::from(first == 0);
            (Port(first), bucket.used.load(Ordering::SeqCst) & !reserved)
        })
    }

    /// A port.
    ///
    /// # Errors
    ///
    /// `EINVAL`: the number is none.
    #[inline]
    pub(super) fn slot(&self, platform: &P, port: Port) -> Result<&Slot<P>, Errno> {
        let (index, at) = place(port);
        let bucket = match self.buckets.get(index as usize).and_then(Once::get) {
            Some(bucket) => bucket,
            // The first bucket counts as existing from the beginning.
            None if index == 0 => self.bucket(platform, index)?,
            None => return Err(Errno::EINVAL),
        };
        bucket.slots.get(at as usize).ok_or(Errno::EINVAL)
    }

    /// Makes the lowest free port something, for a vCPU to be told of its events.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: the domain is being ended.
    /// - `ENOSPC`: it has as many ports as it may.
    /// - `ENOMEM`: there is no memory for more.
    pub(super) fn open(
        &self,
        platform: &P,
        as_what: Channel<P>,
        vcpu: VcpuId,
    ) -> Result<Port, Errno> {
        let port = self.take(platform)?;
        let slot = self.slot(platform, port)?;
        let mut channel = slot.lock(platform);
        // Who ends the domain seals the table, then closes what is open: either it sees this port
        // open, or the seal is seen here.
        if self.sealed.load(Ordering::SeqCst) {
            drop(channel);
            self.free(port);
            return Err(Errno::EINVAL);
        }
        slot.set_vcpu(vcpu);
        *channel = as_what;
        Ok(port)
    }

    /// A free port, which is not free then but still closed.
    fn take(&self, platform: &P) -> Result<Port, Errno> {
        let limit = self.limit.load(Ordering::Relaxed);
        for first in (0..limit).step_by(BUCKET as usize) {
            let bucket = self.bucket(platform, first / BUCKET)?;
            if let Some(at) = bucket.take(platform, limit.saturating_sub(first)) {
                return Ok(Port(first.saturating_add(at)));
            }
        }
        Err(Errno::ENOSPC)
    }

    /// Frees a port that is still being bound.
    pub(super) fn abandon(&self, platform: &P, port: Port) {
        if let Ok(slot) = self.slot(platform, port) {
            *slot.lock(platform) = Channel::Closed;
        }
        self.free(port);
    }

    /// Lets a port be taken again. It is closed, and nobody names it.
    pub(super) fn free(&self, port: Port) {
        let (index, at) = place(port);
        if let Some(bucket) = self.buckets.get(index as usize).and_then(Once::get) {
            bucket.used.fetch_and(!1_u64.wrapping_shl(at), Ordering::Release);
        }
    }

    /// A bucket, which is made if it is not there. Its memory is found before, not within the cell's
    /// initialisation: others wait there without serving flushes.
    fn bucket(&self, platform: &P, index: u32) -> Result<&Bucket<P>, Errno> {
        let cell = self.buckets.get(index as usize).ok_or(Errno::ENOSPC)?;
        if let Some(bucket) = cell.get() {
            return Ok(bucket);
        }
        let bucket = platform.arc_with(|| Bucket::new(index == 0)).map_err(|_| Errno::ENOMEM)?;
        Ok(cell.call_once(|| bucket))
    }
}

impl<P: Platform> Default for Ports<P> {
    fn default() -> Self {
        Self::new()
    }
}
