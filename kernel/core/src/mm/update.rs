//! The hypercalls that write page-table entries.

use core::sync::atomic::Ordering;

use hypercall_abi::mmu::mmu_update::{
    MACHPHYS_UPDATE, NORMAL_PT_UPDATE, PT_UPDATE_NO_TRANSLATE, PT_UPDATE_PRESERVE_AD,
};
use hypercall_abi::mmu::{MmuUpdate, UVMF_ALL, UVMF_FLUSHTYPE_MASK, UVMF_INVLPG, UVMF_TLB_FLUSH};
use hypercall_abi::types::{Mfn, Pfn};

use super::Mm;
use super::batch::Batch;
use super::change::{Keep, Source};
use super::entry::{Entry, Level};
use super::progress::{Budget, Progress, Stop};
use super::refusal::{Refusal, Why};
use super::roots::VcpuRoots;
use super::tables::slot;
use crate::cpu::CpuSet;
use crate::frames::{FlushDue, FrameOwners, FrameType, TypeRef};
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
        budget: &mut Budget,
    ) -> Progress {
        budget.charge(UPDATE_COST);
        let updated = self
            .finish_pending(budget)
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
        changed.map(drop)
    }

    /// The flush that `update_va_mapping`'s flags ask for. The kernel's own safety does not depend on
    /// it.
    fn flush_as_asked(&self, address: u64, flags: u64) -> Result<(), Refusal> {
        let target = flags & !UVMF_FLUSHTYPE_MASK;
        match flags & UVMF_FLUSHTYPE_MASK {
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
            // None, or both, which is none too.
            _ => Ok(()),
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

/// What a word of `mmu_update`'s requests costs of a slice.
const UPDATE_COST: u32 = 4;
/// The bits of a request's address that are a command.
const COMMAND: u64 = 7;

/// Whose frames the requests of a batch are about. A command that the caller may not give has none:
/// it is refused, but as late as a request's turn comes.
#[derive(Clone, Copy, Debug)]
pub struct Rights<'a> {
    /// Those that entries map.
    pub entries: Option<Source<'a>>,
    /// Those whose page numbers change.
    pub pages: Option<Source<'a>>,
}

/// What a batch takes along from one request to the next.
#[derive(Default)]
struct Along {
    /// The table of the last request, held: batches are mostly about one.
    table: Option<TypeRef>,
    /// A present entry above level 1 has changed.
    stale: bool,
}

impl<P: Platform, O: FrameOwners> Mm<'_, P, O> {
    /// `mmu_update(requests, count, done, domains)`: writes page-table entries of this domain, and
    /// entries of the machine-to-physical table, both by the caller's rights.
    pub fn mmu_update(&self, batch: Batch, rights: Rights<'_>, budget: &mut Budget) -> Progress {
        if self.finish_pending(budget).is_err() {
            return Progress::Again { done: 0 };
        }
        let mut along = Along::default();
        let progress = batch.run(self.platform, budget, |request, budget| {
            self.update_one(&mut along, request, rights, budget)
        });
        self.end_batch(along, budget);
        self.unless_pending(progress, batch.length(), budget)
    }

    fn end_batch(&self, along: Along, budget: &mut Budget) {
        if let Some(table) = along.table {
            self.drop_table(table, budget);
        }
        if along.stale {
            FlushDue::new(self.memory.dirty_cpus()).spend(self.platform);
        }
    }

    #[inline]
    fn update_one(
        &self,
        along: &mut Along,
        request: MmuUpdate,
        rights: Rights<'_>,
        budget: &mut Budget,
    ) -> Result<(), Stop> {
        budget.charge(UPDATE_COST);
        let refused = Refusal::new(Why::Privilege);
        let keep = match u32::try_from(request.ptr & COMMAND).unwrap_or(u32::MAX) {
            NORMAL_PT_UPDATE | PT_UPDATE_NO_TRANSLATE => Keep::Nothing,
            PT_UPDATE_PRESERVE_AD => Keep::Used,
            MACHPHYS_UPDATE => return self.update_machphys(request, rights.pages.ok_or(refused)?),
            command => return Err(Refusal::new(Why::Command(u64::from(command))).into()),
        };
        self.update_entry(along, request, (keep, rights.entries.ok_or(refused)?), budget)
    }

    /// A request alone.
    #[cfg(test)]
    pub(crate) fn one_update(
        &self,
        request: MmuUpdate,
        source: Source<'_>,
        budget: &mut Budget,
    ) -> Result<(), Stop> {
        let mut along = Along::default();
        let rights = Rights { entries: Some(source), pages: Some(source) };
        let updated = self.update_one(&mut along, request, rights, budget);
        self.end_batch(along, budget);
        updated
    }

    /// A call that has done everything is executed once more if tables are left half undone.
    pub(super) fn unless_pending(
        &self,
        progress: Progress,
        count: u32,
        budget: &mut Budget,
    ) -> Progress {
        match progress {
            Progress::Done(_) if self.finish_pending(budget).is_err() => {
                Progress::Again { done: u64::from(count) }
            }
            progress => progress,
        }
    }

    /// Writes one entry.
    #[inline]
    fn update_entry(
        &self,
        Along { table: held, stale }: &mut Along,
        request: MmuUpdate,
        how: (Keep, Source<'_>),
        budget: &mut Budget,
    ) -> Result<(), Stop> {
        let mfn = Mfn::containing(request.ptr);
        let index = entry_index(request.ptr);
        if held.as_ref().is_none_or(|table| table.mfn() != mfn) {
            if let Some(table) = held.take() {
                self.drop_table(table, budget);
            }
            match Level::of(self.platform.frames().word(mfn).frame_type()) {
                Some(level) if self.platform.frames().word(mfn).typed() > 0 => {
                    *held = Some(self.join_table(mfn, level)?);
                }
                _ => return self.write_plain(mfn, index, request.val),
            }
        }
        match held {
            Some(table) => {
                let changed = self.change(table, index, Entry(request.val), how, budget);
                *stale |= changed?;
                self.finish_pending_if(table, budget)
            }
            None => Ok(()),
        }
    }

    /// Nothing but an entry above level 1 can leave something to undo.
    fn finish_pending_if(&self, table: &TypeRef, budget: &mut Budget) -> Result<(), Stop> {
        // What is left is noted, and comes first in the next slice.
        if table.frame_type() != FrameType::L1 && self.finish_pending(budget).is_err() {
            budget.charge(u32::MAX);
        }
        Ok(())
    }

    /// Writes a word of a frame that is no page table: the guest could have done so itself.
    fn write_plain(&self, mfn: Mfn, index: u16, value: u64) -> Result<(), Stop> {
        let held = self.frames.take_writable(mfn, self.owner());
        let held = held.map_err(|error| Refusal::frame(mfn, FrameType::Writable, error))?;
        if let Some(slot) = slot(self.platform.table(mfn), index) {
            slot.store(value, Ordering::Release);
        }
        let _ = self.frames.put_type(held);
        Ok(())
    }

    /// Writes the machine-to-physical entry of a frame.
    fn update_machphys(&self, request: MmuUpdate, source: Source<'_>) -> Result<(), Stop> {
        let mfn = Mfn::containing(request.ptr);
        let owner = match source {
            Source::Own => self.memory.id(),
            Source::Foreign(memory) => memory.id(),
            Source::Devices => return Err(Refusal::new(Why::NotOwned(mfn)).into()),
        };
        let held = self.frames.take(mfn, owner);
        let held = held.map_err(|error| Refusal::frame(mfn, FrameType::None, error))?;
        self.platform.set_m2p(mfn, Pfn(request.val));
        self.frames.put(held);
        Ok(())
    }
}

/// The index of the entry at a machine address in its frame.
pub(super) const fn entry_index(address: u64) -> u16 {
    let [low, high, ..] = ((address >> 3) & 0x1ff).to_le_bytes();
    u16::from_le_bytes([low, high])
}
