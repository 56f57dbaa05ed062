//! `sched_op`: giving up the CPU, waiting, and ending.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::types::DomId;

pub use crate::ops::sched::*;

numbers! {
    /// Every reason for a shutdown with its C name.
    REASONS: u32 {
        REASON_POWEROFF = 0, "SHUTDOWN_poweroff", "The domain has finished.";
        REASON_REBOOT = 1, "SHUTDOWN_reboot", "The domain wants to be started again.";
        REASON_SUSPEND = 2, "SHUTDOWN_suspend", "The domain is ready to be saved; the third argument is the frame of its start page.";
        REASON_CRASH = 3, "SHUTDOWN_crash", "The domain has failed.";
        REASON_WATCHDOG = 4, "SHUTDOWN_watchdog", "The domain's watchdog ran out.";
        REASON_SOFT_RESET = 5, "SHUTDOWN_soft_reset", "The domain wants to be reset but keep its memory.";
    }
}

/// Argument of [`SHUTDOWN`] and of [`SHUTDOWN_CODE`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct SchedShutdown {
    /// One of [`REASONS`]; others are kept as they are.
    pub reason: u32,
}

abi_layout! { SchedShutdown = "struct sched_shutdown", size 4, align 4 { reason @ 0 } }

/// Argument of [`POLL`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct SchedPoll {
    /// Guest address of an array of ports (`u32`).
    pub ports: u64,
    /// Length of the array; at most 128.
    pub nr_ports: u32,
    /// No meaning.
    pub pad: u32,
    /// When to stop waiting; 0: never. Unit: nanoseconds of system time.
    pub timeout: u64,
}

abi_layout! { SchedPoll = "struct sched_poll", size 24, align 8 {
    ports @ 0, nr_ports @ 8, pad = "" @ 12, timeout @ 16,
}}

/// Argument of [`REMOTE_SHUTDOWN`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct SchedRemoteShutdown {
    /// The domain to shut down.
    pub domain_id: DomId,
    /// No meaning.
    pub pad: u16,
    /// One of [`REASONS`].
    pub reason: u32,
}

abi_layout! { SchedRemoteShutdown = "struct sched_remote_shutdown", size 8, align 4 {
    domain_id @ 0, pad = "" @ 2, reason @ 4,
}}

/// Argument of [`WATCHDOG`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct SchedWatchdog {
    /// Which watchdog; 0 asks for a new one.
    pub id: u32,
    /// When it ends the domain; 0 removes it. Unit: seconds from now.
    pub timeout: u32,
}

abi_layout! { SchedWatchdog = "struct sched_watchdog", size 8, align 4 { id @ 0, timeout @ 4 } }

/// Argument of [`PIN_OVERRIDE`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct SchedPinOverride {
    /// The real CPU to stay on; negative ends it.
    pub pcpu: i32,
}

abi_layout! { SchedPinOverride = "struct sched_pin_override", size 4, align 4 { pcpu @ 0 } }
