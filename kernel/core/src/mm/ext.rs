//! `mmuext_op`: pins, roots, flushes, whole pages.

use hypercall_abi::mmu::MmuextOp;
use hypercall_abi::mmu::mmuext::{
    CLEAR_PAGE, COPY_PAGE, FLUSH_CACHE, FLUSH_CACHE_GLOBAL, INVLPG_ALL, INVLPG_LOCAL, INVLPG_MULTI,
    MARK_SUPER, NEW_BASEPTR, NEW_USER_BASEPTR, PIN_L1_TABLE, PIN_L2_TABLE, PIN_L3_TABLE,
    PIN_L4_TABLE, SET_LDT, TLB_FLUSH_ALL, TLB_FLUSH_LOCAL, TLB_FLUSH_MULTI, UNMARK_SUPER,
    UNPIN_TABLE,
};
use hypercall_abi::types::Mfn;

use super::Mm;
use super::batch::Batch;
use super::entry::Level;
use super::memory::DomainMemory;
use super::progress::{Budget, Progress, Stop};
use super::refusal::{Refusal, Why};
use super::roots::{VcpuRoots, load_afresh};
use crate::cpu::CpuSet;
use crate::frames::{FlushDue, FrameOwners, FrameType, TypeRef};
use crate::guest_memory::{GuestRange, is_canonical};
use crate::platform::Platform;

/// What filling or copying a page costs of a slice, and a flush, which may wait for other CPUs.
const PAGE_COST: u32 = 64;
const FLUSH_COST: u32 = 32;
/// Descriptors a local descriptor table may have.
const LDT_ENTRIES: u32 = 8192;

/// A local descriptor table that a guest wants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ldt {
    /// Linear address of the first descriptor, at the beginning of a page.
    pub address: u64,
    /// How many; 0: none.
    pub entries: u32,
}

/// Who asks for what on whose frames.
struct Asked<'a, 'b, L> {
    roots: &'a VcpuRoots,
    /// Another domain than the caller, whose frames are meant.
    other: Option<&'a DomainMemory>,
    set_ldt: &'b mut L,
}

impl<P: Platform, O: FrameOwners> Mm<'_, P, O> {
    /// `mmuext_op(operations, count, done, domain)`, with the vCPU's roots. `other` is the domain
    /// whose frames are meant if it isn't the caller; `set_ldt` is what `SET_LDT` calls.
    pub fn mmuext_op(
        &self,
        roots: &VcpuRoots,
        batch: Batch,
        other: Option<&DomainMemory>,
        set_ldt: &mut impl FnMut(Ldt),
        budget: &mut Budget,
    ) -> Progress {
        let target = self.on(other.unwrap_or(self.memory));
        if target.finish_pending(budget).is_err() {
            return Progress::Again { done: 0 };
        }
        let progress = batch.run(self.platform, budget, |operation, budget| {
            self.one_extended(roots, other, operation, budget, set_ldt)
        });
        target.unless_pending(progress, batch.length(), budget)
    }

    /// One operation. What it leaves to be undone is noted, and comes first in the next slice.
    pub(super) fn one_extended(
        &self,
        roots: &VcpuRoots,
        other: Option<&DomainMemory>,
        operation: MmuextOp,
        budget: &mut Budget,
        set_ldt: &mut impl FnMut(Ldt),
    ) -> Result<(), Stop> {
        budget.charge(1);
        self.extended(&mut Asked { roots, other, set_ldt }, operation, budget)?;
        if self.on(other.unwrap_or(self.memory)).finish_pending(budget).is_err() {
            budget.charge(u32::MAX);
        }
        Ok(())
    }

    fn extended(
        &self,
        asked: &mut Asked<'_, '_, impl FnMut(Ldt)>,
        operation: MmuextOp,
        budget: &mut Budget,
    ) -> Result<(), Stop> {
        let mfn = Mfn(operation.arg1);
        let target = self.on(asked.other.unwrap_or(self.memory));
        match operation.cmd {
            PIN_L1_TABLE => target.pin(mfn, Level::L1, budget),
            PIN_L2_TABLE => target.pin(mfn, Level::L2, budget),
            PIN_L3_TABLE => target.pin(mfn, Level::L3, budget),
            PIN_L4_TABLE => target.pin(mfn, Level::L4, budget),
            UNPIN_TABLE => target.unpin(mfn, budget),
            CLEAR_PAGE | COPY_PAGE => {
                budget.charge(PAGE_COST);
                match operation.cmd {
                    CLEAR_PAGE => target.clear_page(mfn),
                    _ => target.copy_page(mfn, Mfn(operation.arg2)),
                }
            }
            command if known(command) && asked.other.is_some() => {
                Err(Refusal::new(Why::Privilege).into())
            }
            NEW_BASEPTR => self.new_root(asked.roots, mfn, budget),
            NEW_USER_BASEPTR => self.new_user_root(asked.roots, mfn, budget),
            SET_LDT => Ok(self.check_ldt(operation).map(|ldt| (asked.set_ldt)(ldt))?),
            _ => {
                budget.charge(FLUSH_COST);
                Ok(self.flush_operation(operation)?)
            }
        }
    }

    /// Keeps a frame a table of a level until it is unpinned.
    pub(crate) fn pin(&self, mfn: Mfn, level: Level, budget: &mut Budget) -> Result<(), Stop> {
        let held = self.take_table(mfn, level, budget)?;
        Ok(self.pin_table(held, budget)?)
    }

    fn unpin(&self, mfn: Mfn, budget: &mut Budget) -> Result<(), Stop> {
        let frame = self.frames.take(mfn, self.memory.id());
        let frame = frame.map_err(|error| Refusal::frame(mfn, FrameType::None, error))?;
        let held = self.frames.unpin(&frame);
        self.frames.put(frame);
        match held {
            Some(held) => {
                self.drop_table(held, budget);
                Ok(())
            }
            None => Err(Refusal::new(Why::NotPinned(mfn)).into()),
        }
    }

    /// The root of the guest's kernel, from now on. Everything that was cached goes.
    pub(crate) fn new_root(
        &self,
        roots: &VcpuRoots,
        mfn: Mfn,
        budget: &mut Budget,
    ) -> Result<(), Stop> {
        let held = self.take_table(mfn, Level::L4, budget)?;
        self.show_m2p_to_kernel(mfn);
        let old = roots.replace_kernel(Some(held.into_entry()));
        load_afresh(self.platform, mfn);
        self.drop_root(old, budget);
        Ok(())
    }

    /// The roots of a vCPU that never ran.
    ///
    /// # Errors
    ///
    /// The refusal of one of the tables; [`Stop::Again`]. The vCPU has no roots then.
    pub(crate) fn first_roots(
        &self,
        roots: &VcpuRoots,
        kernel: Mfn,
        user: Option<Mfn>,
        budget: &mut Budget,
    ) -> Result<(), Stop> {
        let kernel = self.take_table(kernel, Level::L4, budget)?;
        let user = match user.map(|user| self.take_table(user, Level::L4, budget)) {
            Some(Err(stop)) => {
                self.drop_table(kernel, budget);
                return Err(stop);
            }
            Some(Ok(user)) => {
                self.hide_m2p_from_user(user.mfn());
                Some(user.into_entry())
            }
            None => None,
        };
        // Also of a domain that has the assist for strictness only from now on.
        self.show_m2p(kernel.mfn());
        self.drop_root(roots.replace_kernel(Some(kernel.into_entry())), budget);
        self.drop_root(roots.replace_user(user), budget);
        Ok(())
    }

    /// The root of the guest's user mode, when it is entered next; 0: none.
    fn new_user_root(&self, roots: &VcpuRoots, mfn: Mfn, budget: &mut Budget) -> Result<(), Stop> {
        if roots.user() == Some(mfn) {
            return Ok(());
        }
        let new = match mfn {
            Mfn(0) => None,
            _ => Some(self.take_table(mfn, Level::L4, budget)?.into_entry()),
        };
        if let Some(root) = new {
            self.hide_m2p_from_user(root);
        }
        let old = roots.replace_user(new);
        self.drop_root(old, budget);
        Ok(())
    }

    /// Puts back the roots of a vCPU that runs no more.
    pub(crate) fn end_roots(&self, roots: &VcpuRoots, budget: &mut Budget) {
        self.drop_root(roots.replace_kernel(None), budget);
        self.drop_root(roots.replace_user(None), budget);
    }

    /// Puts back the reference that a vCPU's root was.
    fn drop_root(&self, root: Option<Mfn>, budget: &mut Budget) {
        if let Some(mfn) = root {
            self.drop_table(TypeRef::from_entry(mfn, FrameType::L4), budget);
        }
    }

    fn check_ldt(&self, operation: MmuextOp) -> Result<Ldt, Refusal> {
        let [a, b, c, d, ..] = operation.arg2.to_le_bytes();
        let ldt = Ldt { address: operation.arg1, entries: u32::from_le_bytes([a, b, c, d]) };
        let guests = GuestRange::new(ldt.address, 1).is_ok() && is_canonical(ldt.address);
        if ldt.entries == 0 {
            return Ok(Ldt { address: 0, entries: 0 });
        }
        if !ldt.address.is_multiple_of(4096) || !guests {
            return Err(Refusal::new(Why::Address(ldt.address)));
        }
        if ldt.entries > LDT_ENTRIES {
            return Err(Refusal::new(Why::Count(u64::from(ldt.entries))));
        }
        Ok(ldt)
    }

    fn flush_operation(&self, operation: MmuextOp) -> Result<(), Refusal> {
        let here = CpuSet::one(self.platform.cpu());
        let address = operation.arg1;
        match operation.cmd {
            TLB_FLUSH_LOCAL => self.flush_everything(here),
            TLB_FLUSH_ALL => self.flush_everything(self.memory.dirty_cpus()),
            TLB_FLUSH_MULTI => self.flush_everything(self.named_cpus(operation.arg2)?),
            INVLPG_LOCAL => self.flush_page(here, address),
            INVLPG_ALL => self.flush_page(self.memory.dirty_cpus(), address),
            INVLPG_MULTI => self.flush_page(self.named_cpus(operation.arg2)?, address),
            FLUSH_CACHE if !self.memory.has_devices() => return Err(Refusal::new(Why::Caching)),
            FLUSH_CACHE_GLOBAL if !self.memory.has_devices() => {
                return Err(Refusal::new(Why::AllCaches));
            }
            // The kernel's memory is cached write-back, and devices snoop: nothing to do.
            FLUSH_CACHE | FLUSH_CACHE_GLOBAL => {}
            command @ (MARK_SUPER | UNMARK_SUPER) => return Err(Refusal::new(Why::Gone(command))),
            command => return Err(Refusal::new(Why::Command(u64::from(command)))),
        }
        Ok(())
    }

    fn named_cpus(&self, set: u64) -> Result<CpuSet, Refusal> {
        self.flush_set(set).map_err(|_| Refusal::new(Why::Set(set)))
    }

    fn flush_everything(&self, cpus: CpuSet) {
        FlushDue::new(cpus).spend(self.platform);
    }

    /// Fills a frame with zeros.
    fn clear_page(&self, mfn: Mfn) -> Result<(), Stop> {
        let held = self.frames.take_writable(mfn, self.owner());
        let held = held.map_err(|error| Refusal::frame(mfn, FrameType::Writable, error))?;
        self.platform.zero_frame(mfn);
        let _ = self.frames.put_type(held);
        Ok(())
    }

    fn copy_page(&self, to: Mfn, from: Mfn) -> Result<(), Stop> {
        let source = self.frames.take(from, self.memory.id());
        let source = source.map_err(|error| Refusal::frame(from, FrameType::None, error))?;
        let target = self.frames.take_writable(to, self.owner());
        if target.is_ok() {
            self.platform.copy_frame(to, from);
        }
        self.frames.put(source);
        let target = target.map_err(|error| Refusal::frame(to, FrameType::Writable, error))?;
        let _ = self.frames.put_type(target);
        Ok(())
    }
}

/// Whether a command exists that is about the calling vCPU.
const fn known(command: u32) -> bool {
    matches!(
        command,
        NEW_BASEPTR
            | NEW_USER_BASEPTR
            | SET_LDT
            | TLB_FLUSH_LOCAL
            | TLB_FLUSH_ALL
            | TLB_FLUSH_MULTI
            | INVLPG_LOCAL
            | INVLPG_ALL
            | INVLPG_MULTI
            | FLUSH_CACHE
            | FLUSH_CACHE_GLOBAL
    )
}
