//! Giving a domain vCPUs.

use core::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::start::VcpuInfo;
use hypercall_abi::types::VcpuId;

use crate::domain::{Domain, MAX_VCPUS};
use crate::mm::VcpuRoots;
use crate::platform::{NoMemory, Platform};
use crate::sched::Reasons;
use crate::system::{DomainVcpu, System};
use crate::timer;
use crate::vcpu::Vcpu;

/// Words of the set of windows in use.
const WORDS: usize = timer::MAX_VCPUS / 64;

/// The descriptor-table windows that vCPUs have. There are as many as vCPUs there can be, so whoever
/// has a window also has a place in every list of vCPUs.
#[derive(Debug)]
pub struct Windows([AtomicU64; WORDS]);

impl Windows {
    /// All free.
    #[must_use]
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; WORDS])
    }

    /// Takes a free one.
    fn take(&self) -> Option<u32> {
        for (number, word) in (0_u32..).zip(&self.0) {
            let taken = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bits| {
                let free = bits.trailing_ones();
                (free < 64).then(|| bits | 1_u64.wrapping_shl(free))
            });
            if let Ok(before) = taken {
                return Some(number.wrapping_mul(64).wrapping_add(before.trailing_ones()));
            }
        }
        None
    }

    /// Gives one back.
    pub(crate) fn give(&self, window: u32) {
        let word = usize::try_from(window / 64).ok().and_then(|at| self.0.get(at));
        if let Some(word) = word {
            word.fetch_and(!1_u64.wrapping_shl(window % 64), Ordering::Relaxed);
        }
    }
}

impl Default for Windows {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Platform> System<P> {
    /// Gives a domain its next vCPU, which is down.
    ///
    /// # Errors
    ///
    /// [`NoMemory`]: also when the domain, or the system, has as many as it can have.
    pub(crate) fn add_vcpu(
        &self,
        domain: &P::Arc<Domain<P>>,
        roots: VcpuRoots,
    ) -> Result<(), NoMemory> {
        let number = domain.vcpus().count();
        let id = u32::try_from(number).ok().filter(|_| number < MAX_VCPUS).ok_or(NoMemory)?;
        let window = self.windows.take().ok_or(NoMemory)?;
        let place = u64::from(id).wrapping_mul(size_of::<VcpuInfo>() as u64);
        let now = self.now();
        let new = || Vcpu::new(VcpuId(id), roots, domain.shared_info, place, window, now);
        let made = self.platform.make_window(window).and_then(|()| self.platform.arc_with(new));
        let vcpu = made.inspect_err(|_| self.windows.give(window))?;
        // Under the lock, so that who unpauses the domain meanwhile finds it.
        let pauses = domain.pauses.lock(&self.platform);
        domain.add_vcpu(vcpu.clone());
        let target = DomainVcpu { domain: domain.clone(), vcpu };
        if *pauses != 0 {
            self.hold(&target, Reasons::PAUSED);
        }
        drop(pauses);
        // Another CPU may have added one of that number.
        if domain.vcpu(VcpuId(id)).is_none_or(|there| there.window != window) {
            self.windows.give(window);
            return Err(NoMemory);
        }
        Ok(())
    }
}
