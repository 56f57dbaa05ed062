//! On which CPUs a vCPU runs, and sets of CPUs in the caller's memory.

use hypercall_abi::domctl::{AffinityFlags, Bitmap, SETVCPUAFFINITY, VcpuAffinity};
use hypercall_abi::errno::Errno;

use super::info::find;
use super::{Payload, get};
use crate::cpu::{CpuId, CpuSet};
use crate::domain::Domain;
use crate::guest_memory::{self, GuestRange};
use crate::platform::Platform;
use crate::system::System;

/// The longest set that is filled. Unit: bytes.
const MOST_BYTES: u64 = 4096;

impl<P: Platform> System<P> {
    /// `setvcpuaffinity` and `getvcpuaffinity`.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: no such vCPU can be; no set is named, or one that is nowhere or too long; no CPU
    ///   in use is in a set.
    /// - `ESRCH`: the domain has not got the vCPU.
    /// - `EBUSY`: the vCPU is kept on a CPU by its own choice.
    /// - `EFAULT`: a set can't be read or written.
    pub(crate) fn affinity(
        &self,
        domain: &P::Arc<Domain<P>>,
        cmd: u32,
        payload: &Payload,
    ) -> Result<(), Errno> {
        let asked: VcpuAffinity = get(payload);
        let target = find::<P>(domain, asked.vcpu.0)?;
        let flags = AffinityFlags::from_bits_retain(asked.flags);
        let wanted = |flag, map: Bitmap| Some(map).filter(|_| flags.contains(flag));
        let hard = wanted(AffinityFlags::HARD, asked.cpumap_hard);
        let soft = wanted(AffinityFlags::SOFT, asked.cpumap_soft);
        if asked.flags == 0 || hard.iter().chain(&soft).any(|map| map.bitmap == 0) {
            return Err(Errno::EINVAL);
        }
        let platform = &self.platform;
        let (record, state) = (&target.vcpu.scheduling, &target.vcpu.state);
        let (mut hard_now, mut soft_now) = (record.affinity(), record.soft_affinity());
        if cmd == SETVCPUAFFINITY {
            let mut pin = state.lock(platform).before_pin;
            if flags.contains(AffinityFlags::FORCE) {
                hard_now = pin.take().unwrap_or(hard_now);
            }
            if let Some(map) = hard {
                hard_now = self.read_cpus(map)?;
                if pin.is_some() {
                    return Err(Errno::EBUSY);
                }
            }
            if let Some(map) = soft {
                soft_now = self.read_cpus(map)?;
            }
            // Where it runs best may be nowhere.
            if hard_now.and(self.cpu_set()).is_empty() {
                return Err(Errno::EINVAL);
            }
        }
        let both = if cmd == SETVCPUAFFINITY { soft_now.and(hard_now) } else { soft_now };
        for (map, cpus) in [(hard, hard_now), (soft, both)] {
            map.map_or(Ok(()), |map| self.write_cpus(map, cpus))?;
        }
        // Only now something changes: the answer can be written.
        if cmd == SETVCPUAFFINITY {
            if flags.contains(AffinityFlags::FORCE) {
                state.lock(platform).before_pin = None;
            }
            record.set_soft_affinity(soft_now);
            let set = self.scheduler.set_affinity(platform, &target, hard_now, self.now());
            self.apply(set.map_err(|_| Errno::EINVAL)?);
        }
        Ok(())
    }

    /// The CPUs that run guests.
    pub(crate) fn cpu_set(&self) -> CpuSet {
        (0..CpuSet::CAPACITY)
            .filter_map(CpuId::new)
            .filter(|&cpu| self.cpus.get(cpu).is_some())
            .fold(CpuSet::EMPTY, |set, cpu| set.or(CpuSet::one(cpu)))
    }

    fn read_cpus(&self, map: Bitmap) -> Result<CpuSet, Errno> {
        self.read_bits(map).map(CpuSet::from_bits)
    }

    /// The first 64 bits of a set.
    pub(super) fn read_bits(&self, map: Bitmap) -> Result<u64, Errno> {
        let mut bytes = [0; 8];
        let length = usize::try_from(bytes_of(map)).unwrap_or(8).min(8);
        let into = bytes.get_mut(..length).unwrap_or_default();
        self.platform.read_guest(GuestRange::new(map.bitmap, length)?, into)?;
        let bits = if length == 0 { 0 } else { map.nr_bits };
        let mask = 1_u64.checked_shl(bits).map_or(u64::MAX, |bit| bit.wrapping_sub(1));
        Ok(u64::from_le_bytes(bytes) & mask)
    }

    /// Writes those of the CPUs that are in use, and zeros for all other bits that the set has.
    fn write_cpus(&self, map: Bitmap, cpus: CpuSet) -> Result<(), Errno> {
        self.write_bits(map, cpus.and(self.cpu_set()).bits())
    }

    /// Writes the first 64 bits of a set, and zeros for all others that it has.
    pub(super) fn write_bits(&self, map: Bitmap, bits: u64) -> Result<(), Errno> {
        let length = u64::from(bytes_of(map));
        if length > MOST_BYTES {
            return Err(Errno::EINVAL);
        }
        let bytes = bits.to_le_bytes();
        for at in 0..length {
            let byte = usize::try_from(at).ok().and_then(|at| bytes.get(at)).copied().unwrap_or(0);
            guest_memory::write(&self.platform, map.bitmap.wrapping_add(at), &byte)?;
        }
        Ok(())
    }
}

/// Bytes of a bit map. The sum wraps as on Xen, so that the highest counts are of none.
const fn bytes_of(map: Bitmap) -> u32 {
    map.nr_bits.wrapping_add(7) / 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::life::tests::World;

    #[test]
    fn a_set_has_a_longest_length() {
        let world = World::new(64);
        let filled = |nr_bits| {
            world.put(0, &[u64::MAX; 512]);
            let map = Bitmap { nr_bits, ..Bitmap::default() };
            world.system.write_bits(map, 0x102).map(|()| [0, 8, 4088].map(|at| world.told_at(at)))
        };
        let longest = 8 * u32::try_from(MOST_BYTES).unwrap();
        assert_eq!(filled(longest), Ok([0x102, 0, 0]));
        assert_eq!(filled(longest + 1), Err(Errno::EINVAL));
        assert_eq!(filled(9), Ok([!0xffff | 0x102, u64::MAX, u64::MAX]));
    }
}
