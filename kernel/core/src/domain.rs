//! A domain: one guest and what belongs to it.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use hypercall_abi::layout::LEGACY_MAX_VCPUS;
use hypercall_abi::types::{DomId, Mfn, VcpuId};
use spin::Once;

use crate::grant::GrantTable;
use crate::lock::Lock;
use crate::mm::DomainMemory;
use crate::platform::Platform;
use crate::vcpu::Vcpu;

/// What a domain may do beyond using what is its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Privilege {
    /// An ordinary domain.
    None,
    /// The initial domain: owns the devices and controls the other domains.
    Initial,
}

/// Why a domain no longer runs (ABI: `SHUTDOWN_*`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ShutdownReason(pub u32);

/// Lines about itself that a domain may cause in the log between two refills.
const LOG_LINES: u32 = 64;

/// vCPUs a domain can have: as many as have their information in the shared page from the start.
pub const MAX_VCPUS: usize = LEGACY_MAX_VCPUS;

/// One guest.
pub struct Domain<P: Platform> {
    /// Its number.
    pub id: DomId,
    /// Its rights.
    pub privilege: Privilege,
    /// The frame it shares with the kernel (ABI: `shared_info`).
    pub shared_info: Mfn,
    /// Its memory.
    pub memory: DomainMemory,
    /// What it grants, and what it has mapped of others.
    pub grants: GrantTable<P>,
    vcpus: [Once<P::Arc<Vcpu>>; MAX_VCPUS],
    shutdown: Lock<Option<ShutdownReason>>,
    stopped: AtomicBool,
    log_lines: AtomicU32,
}

impl<P: Platform> Domain<P> {
    /// A domain that runs nothing yet.
    #[must_use]
    pub const fn new(
        id: DomId,
        privilege: Privilege,
        shared_info: Mfn,
        memory: DomainMemory,
    ) -> Self {
        Self {
            id,
            privilege,
            shared_info,
            memory,
            grants: GrantTable::new(),
            vcpus: [const { Once::new() }; MAX_VCPUS],
            shutdown: Lock::new(None),
            stopped: AtomicBool::new(false),
            log_lines: AtomicU32::new(LOG_LINES),
        }
    }

    /// Whether this is the initial domain.
    #[must_use]
    pub fn is_privileged(&self) -> bool {
        self.privilege == Privilege::Initial
    }

    /// Stops the domain for good. The first reason stays.
    pub fn shut_down(&self, platform: &P, reason: ShutdownReason) {
        self.shutdown.lock(platform).get_or_insert(reason);
        self.stopped.store(true, Ordering::Release);
    }

    /// Why the domain stopped, once it has.
    pub fn shutdown_reason(&self, platform: &P) -> Option<ShutdownReason> {
        if self.stopped.load(Ordering::Acquire) { *self.shutdown.lock(platform) } else { None }
    }

    /// The vCPU with this number.
    #[inline]
    #[must_use]
    pub fn vcpu(&self, id: VcpuId) -> Option<&P::Arc<Vcpu>> {
        self.vcpus.get(usize::try_from(id.0).ok()?)?.get()
    }

    /// All its vCPUs, in the order of their numbers.
    pub fn vcpus(&self) -> impl Iterator<Item = &P::Arc<Vcpu>> {
        self.vcpus.iter().map_while(Once::get)
    }

    /// Gives the domain a vCPU, under the vCPU's own number; the numbers below are taken.
    pub fn add_vcpu(&self, vcpu: P::Arc<Vcpu>) {
        let place = usize::try_from(vcpu.id.0).ok().and_then(|at| self.vcpus.get(at));
        if let Some(place) = place {
            place.call_once(|| vcpu);
        }
    }

    /// Takes one of the lines the domain may cause in the log. A guest must not be able to flood it.
    pub fn may_log(&self) -> bool {
        self.log_lines
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok()
    }
}

impl<P: Platform> fmt::Debug for Domain<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Domain").field("id", &self.id).finish_non_exhaustive()
    }
}
