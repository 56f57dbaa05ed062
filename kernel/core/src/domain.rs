//! A domain: one guest and what belongs to it.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use hypercall_abi::types::{DomId, Mfn};

use crate::lock::Lock;
use crate::mm::DomainMemory;
use crate::platform::Platform;

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

/// One guest.
#[derive(Debug)]
pub struct Domain {
    /// Its number.
    pub id: DomId,
    /// Its rights.
    pub privilege: Privilege,
    /// The frame it shares with the kernel (ABI: `shared_info`).
    pub shared_info: Mfn,
    /// Its memory.
    pub memory: DomainMemory,
    shutdown: Lock<Option<ShutdownReason>>,
    stopped: AtomicBool,
    log_lines: AtomicU32,
}

impl Domain {
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
    pub fn shut_down(&self, platform: &impl Platform, reason: ShutdownReason) {
        self.shutdown.lock(platform).get_or_insert(reason);
        self.stopped.store(true, Ordering::Release);
    }

    /// Why the domain stopped, once it has.
    pub fn shutdown_reason(&self, platform: &impl Platform) -> Option<ShutdownReason> {
        if self.stopped.load(Ordering::Acquire) { *self.shutdown.lock(platform) } else { None }
    }

    /// Takes one of the lines the domain may cause in the log. A guest must not be able to flood it.
    pub fn may_log(&self) -> bool {
        self.log_lines
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok()
    }
}
