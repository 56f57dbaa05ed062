//! A guest's direct write to one of its page tables: the fault becomes a checked update.

use hypercall_abi::types::Mfn;
use hypercall_abi::vm_assist::TYPE_WRITABLE_PAGETABLES;

use crate::emulate::execute::After;
use crate::emulate::memory_operand::SegmentBases;
use crate::emulate::table_write::{self, Faulting};
use crate::frames::DeviceAccess;
use crate::mm::{Refusal, Why};
use crate::platform::{Platform, SegmentBase};
use crate::system::Context;

/// A page fault's error code for a write to a page that is there and read-only, but for the bit that
/// tells user mode.
const WRITE_TO_READ_ONLY: u32 = 3;
/// The bits of it that matter here: present, write, reserved bits, instruction fetch.
const CODE: u32 = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4;

impl<P: Platform> Context<'_, P> {
    /// Carries out a write of the guest's kernel to an L1 table, if the fault is one. For the
    /// privileged domain the assist for it need not be on, and what it stores to a device's frame
    /// that may only be read is lost: Xen does the same. False if the fault is the guest's.
    pub(crate) fn table_fault(&mut self, address: u64, error_code: u32) -> bool {
        let assisted = self.domain.is_privileged() || self.has_assist(TYPE_WRITABLE_PAGETABLES);
        let write = error_code & CODE == WRITE_TO_READ_ONLY;
        if !write || !assisted || !self.vcpu.in_kernel_mode() {
            return false;
        }
        let platform = &self.system.platform;
        let rip = self.regs.rip;
        let code = self.code_segment();
        let at = Faulting {
            size: code.size,
            regs: self.regs,
            bases: SegmentBases {
                fs: platform.segment_base(SegmentBase::Fs),
                gs: platform.segment_base(SegmentBase::GsActive),
            },
            address,
        };
        let fetch = |offset: u8| self.fetch_byte(code, rip, offset);
        let Ok(write) = table_write::decode(&at, &fetch) else { return false };
        let written = self.mm().write_direct(&self.vcpu.roots, address, |old| {
            let applied = write.apply(old);
            (applied.new, applied)
        });
        let lost = |refusal: &Refusal| match refusal.why {
            Why::NotTable(mfn) if write.is_store() && self.may_only_read(mfn) => {
                Some(write.apply(0))
            }
            _ => None,
        };
        match written.or_else(|refusal| lost(&refusal).ok_or(refusal)) {
            Ok(applied) => {
                if let After::DebugException(causes) = write.retire(self.regs, &applied) {
                    self.debug_exception_of(causes);
                }
                true
            }
            Err(refusal) => {
                if !matches!(refusal.why, Why::NotTable(_) | Why::NoTable(_) | Why::Address(_)) {
                    self.refused("write to a page table", &refusal);
                }
                false
            }
        }
    }

    /// Whether a frame is a device's of which the caller may only read.
    fn may_only_read(&self, mfn: Mfn) -> bool {
        let frames = self.system.platform.frames();
        let read = frames.is_device(mfn) && frames.device_access(mfn) == DeviceAccess::Read;
        read && self.domain.is_privileged()
    }
}
