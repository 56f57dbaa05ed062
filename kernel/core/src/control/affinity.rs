//! On which CPUs a vCPU runs, and sets of CPUs in the caller's memory.

use hypercall_abi::domctl::{AffinityFlags, Bitmap, SETVCPUAFFINITY, VcpuAffinity};
use hypercall_abi::errno::Errno;

use super::info::find;
use super::{Payload, get};
use crate::cpu::{CpuId, CpuSet};
use crate::domain::Domain;
use crate::guest_memory::{self, GuestRange};
use crate::platform::Platform;
use crate::system::{DomainVcpu, System};

/// The longest set that is filled. Unit: bytes.
const MOST_BYTES: u64 = 4096;

impl<P: Platform> System<P> {
    /// `setvcpuaffinity` and `getvcpuaffinity`. Where a vCPU would best run is kept for whoever asks;
    /// nothing follows from it.
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
        let state = &target.vcpu.state;
        if cmd == SETVCPUAFFINITY {
            if flags.contains(AffinityFlags::FORCE) {
                let before = state.lock(&self.platform).before_pin.take();
                before.map_or(Ok(()), |cpus| self.set_hard(&target, cpus))?;
            }
            if let Some(map) = hard {
                let cpus = self.read_cpus(map)?;
                if state.lock(&self.platform).before_pin.is_some() {
                    return Err(Errno::EBUSY);
                }
                self.set_hard(&target, cpus)?;
            }
            if let Some(map) = soft {
                let cpus = self.read_cpus(map)?;
                if cpus.and(self.cpu_set()).is_empty() {
                    return Err(Errno::EINVAL);
                }
                state.lock(&self.platform).soft_affinity = cpus;
            }
        }
        let hard_now = target.vcpu.scheduling.affinity();
        let soft_now = state.lock(&self.platform).soft_affinity;
        let both = if cmd == SETVCPUAFFINITY { soft_now.and(hard_now) } else { soft_now };
        for (map, cpus) in [(hard, hard_now), (soft, both)] {
            map.map_or(Ok(()), |map| self.write_cpus(map, cpus))?;
        }
        Ok(())
    }

    fn set_hard(&self, target: &DomainVcpu<P>, cpus: CpuSet) -> Result<(), Errno> {
        let set = self.scheduler.set_affinity(&self.platform, target, cpus, self.now());
        self.apply(set.map_err(|_| Errno::EINVAL)?);
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
        let mut bytes = [0; 8];
        let length = usize::try_from(map.nr_bits.div_ceil(8)).unwrap_or(8).min(8);
        let into = bytes.get_mut(..length).unwrap_or_default();
        self.platform.read_guest(GuestRange::new(map.bitmap, length)?, into)?;
        let mask = 1_u64.checked_shl(map.nr_bits).map_or(u64::MAX, |bit| bit.wrapping_sub(1));
        Ok(CpuSet::from_bits(u64::from_le_bytes(bytes) & mask))
    }

    /// Writes those of the CPUs that are in use, and zeros for all other bits that the set has.
    fn write_cpus(&self, map: Bitmap, cpus: CpuSet) -> Result<(), Errno> {
        let length = u64::from(map.nr_bits.div_ceil(8));
        if length > MOST_BYTES {
            return Err(Errno::EINVAL);
        }
        let bytes = cpus.and(self.cpu_set()).bits().to_le_bytes();
        for at in 0..length {
            let byte = usize::try_from(at).ok().and_then(|at| bytes.get(at)).copied().unwrap_or(0);
            guest_memory::write(&self.platform, map.bitmap.wrapping_add(at), &byte)?;
        }
        Ok(())
    }
}
