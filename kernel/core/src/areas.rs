//! What a vCPU is told in its own memory when it is switched in: how long it did what, and the time.
//!
//! The areas are guest addresses. They are written with the guest's kernel tables loaded; an area
//! that can't be written is passed over.

use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::vcpu::{RUNSTATE_UPDATE, RunstateInfo};
use hypercall_abi::vm_assist::TYPE_RUNSTATE_UPDATE_FLAG;

use crate::guest_memory;
use crate::platform::Platform;
use crate::system::Context;

/// Guest addresses of a vCPU's areas; 0: none.
#[derive(Debug, Default)]
pub struct Areas {
    /// Of `vcpu_runstate_info`.
    pub runstate: AtomicU64,
    /// Of `vcpu_time_info`.
    pub time: AtomicU64,
}

impl<P: Platform> Context<'_, P> {
    /// Writes the vCPU's areas.
    pub(crate) fn write_areas(&self) {
        if self.vcpu.wants_clock.swap(false, Ordering::Relaxed) {
            let clock = self.system.clock.for_vcpu(self.system.platform.tsc());
            self.vcpu.info(&self.system.platform).set_clock(&clock);
        }
        let time = self.vcpu.areas.time.load(Ordering::Relaxed);
        if time != 0 {
            let info = self.system.clock.for_vcpu(self.system.platform.tsc());
            self.vcpu.info(&self.system.platform).set_clock(&info);
            // An area that is not there is not written.
            self.in_kernel_space(|platform| {
                let _ = guest_memory::write(platform, time, &info);
            });
        }
        self.write_runstate();
    }

    /// Writes the vCPU's runstate to where the guest wants it, if it wants it.
    pub(crate) fn write_runstate(&self) {
        let address = self.vcpu.areas.runstate.load(Ordering::Relaxed);
        if address != 0 {
            self.in_kernel_space(|_| self.write_runstate_at(address));
        }
    }

    /// Does something with the guest's kernel tables loaded.
    fn in_kernel_space(&self, does: impl FnOnce(&P)) {
        let platform = &self.system.platform;
        let in_kernel = self.vcpu.in_kernel_mode();
        if !in_kernel {
            self.vcpu.roots.enter_kernel(platform);
        }
        does(platform);
        if !in_kernel {
            // It was in user mode, so it has tables for it.
            let _ = self.vcpu.roots.enter_user(platform);
        }
    }

    /// Writes the runstate to a guest address; with the assist for it, in a way that shows a reader
    /// on another CPU that it is being written.
    fn write_runstate_at(&self, address: u64) {
        let platform = &self.system.platform;
        let mut info: RunstateInfo = self.system.runstate(self.vcpu);
        if !self.has_assist(TYPE_RUNSTATE_UPDATE_FLAG) {
            let _ = guest_memory::write(platform, address, &info);
            return;
        }
        let entry_time = address.wrapping_add(offset_of!(RunstateInfo, state_entry_time) as u64);
        info.state_entry_time |= RUNSTATE_UPDATE;
        let written = guest_memory::write(platform, entry_time, &info.state_entry_time)
            .and_then(|()| guest_memory::write(platform, address, &info));
        if written.is_ok() {
            info.state_entry_time &= !RUNSTATE_UPDATE;
            let _ = guest_memory::write(platform, entry_time, &info.state_entry_time);
        }
    }
}
