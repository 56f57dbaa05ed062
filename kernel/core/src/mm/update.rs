//! The hypercalls that write page-table entries.

use hypercall_abi::mmu::{UVMF_ALL, UVMF_FLUSHTYPE_MASK, UVMF_INVLPG, UVMF_NONE, UVMF_TLB_FLUSH};

use super::Mm;
use super::change::{Keep, Source};
use super::entry::Entry;
use super::progress::{Budget, Progress, Stop};
use super::refusal::{Refusal, Why};
use super::roots::VcpuRoots;
use crate::cpu::CpuSet;
use crate::frames::{FlushDue, FrameOwners};
use crate::guest_memory;
use crate::platform::{Flush, Platform};

impl<P: Platform, O: FrameOwners> Mm<'_, P, O> {
    /// `update_va_mapping(address, value, flags)`: writes the L1 entry for an address of the current
    /// address space. With `source` another domain's frames can be mapped.
    #[inline]
    pub fn update_va_mapping(
        &self,
        roots: &VcpuRoots,
        (address, value, flags): (u64, u64, u64),
        source: Source<'_>,
    ) -> Progress {
        let mut budget = Budget::new();
        let updated = self
            .finish_pending(&mut budget)
            .and_then(|()| self.update_address(roots, address, Entry(value), source))
            .and_then(|()| self.flush_as_asked(address, flags).map_err(Stop::from));
        match updated {
            Ok(()) => Progress::Done(0),
            Err(Stop::Again) => Progress::Again { done: 0 },
            Err(Stop::Refused(refusal)) => Progress::Refused { done: 0, refusal },
        }
    }

    #[inline]
    fn update_address(
        &self,
        roots: &VcpuRoots,
        address: u64,
        entry: Entry,
        source: Source<'_>,
    ) -> Result<(), Stop> {
        let root = roots.kernel().ok_or(Refusal::new(Why::NoTable(address)))?;
        let (table, index) = self.entry_for(root, address)?;
        let mut budget = Budget::new();
        let how = (Keep::Nothing, source);
        let changed = self.change(&table, index, entry, how, &mut budget);
        self.drop_table(table, &mut budget);
        changed
    }

    /// The flush that `update_va_mapping`'s flags ask for. The kernel's own safety does not depend on
    /// it.
    fn flush_as_asked(&self, address: u64, flags: u64) -> Result<(), Refusal> {
        let target = flags & !UVMF_FLUSHTYPE_MASK;
        match flags & UVMF_FLUSHTYPE_MASK {
            UVMF_NONE => Ok(()),
            UVMF_TLB_FLUSH => {
                let cpus = self.flush_target(target)?;
                FlushDue::new(cpus).spend(self.platform);
                Ok(())
            }
            UVMF_INVLPG => {
                let cpus = self.flush_target(target)?;
                self.flush_page(cpus, address);
                Ok(())
            }
            _ => Err(Refusal::new(Why::Command(flags))),
        }
    }

    fn flush_target(&self, target: u64) -> Result<CpuSet, Refusal> {
        match target {
            0 => Ok(CpuSet::one(self.platform.cpu())),
            UVMF_ALL => Ok(self.memory.dirty_cpus()),
            set => self.flush_set(set),
        }
    }

    /// The CPUs for a set of vCPUs at a guest address. All CPUs on which the domain may have left
    /// something: more than asked is never wrong.
    pub(super) fn flush_set(&self, set: u64) -> Result<CpuSet, Refusal> {
        let vcpus: u64 = guest_memory::read(self.platform, set)
            .map_err(|fault| Refusal::new(Why::Fault(fault.address)))?;
        Ok(if vcpus == 0 { CpuSet::EMPTY } else { self.memory.dirty_cpus() })
    }

    /// Makes CPUs forget one page.
    pub(super) fn flush_page(&self, cpus: CpuSet, address: u64) {
        let here = self.platform.cpu();
        let others = cpus.without(here);
        if !others.is_empty() {
            self.platform.flush_remote(others, Flush::Page(address));
        }
        if cpus.contains(here) {
            self.platform.flush_local(Flush::Page(address));
        }
    }
}
