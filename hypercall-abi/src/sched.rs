//! `sched_op`: giving up the CPU, waiting, and ending.

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

abi_structs! {
    /// Argument of [`SHUTDOWN`] and of [`SHUTDOWN_CODE`].
    SchedShutdown = "struct sched_shutdown", size 4, align 4 {
        /// One of [`REASONS`]; others are kept as they are.
        0 reason: u32,
    }

    /// Argument of [`POLL`].
    SchedPoll = "struct sched_poll", size 24, align 8 {
        /// Guest address of an array of ports (`u32`).
        0 ports: u64,
        /// Length of the array; at most 128.
        8 nr_ports: u32,
        /// No meaning.
        12 pad: u32 = "",
        /// When to stop waiting; 0: never. Unit: nanoseconds of system time.
        16 timeout: u64,
    }

    /// Argument of [`REMOTE_SHUTDOWN`].
    SchedRemoteShutdown = "struct sched_remote_shutdown", size 8, align 4 {
        /// The domain to shut down.
        0 domain_id: DomId,
        /// No meaning.
        2 pad: u16 = "",
        /// One of [`REASONS`].
        4 reason: u32,
    }

    /// Argument of [`WATCHDOG`].
    SchedWatchdog = "struct sched_watchdog", size 8, align 4 {
        /// Which watchdog; 0 asks for a new one.
        0 id: u32,
        /// When it ends the domain; 0 removes it. Unit: seconds from now.
        4 timeout: u32,
    }

    /// Argument of [`PIN_OVERRIDE`].
    SchedPinOverride = "struct sched_pin_override", size 4, align 4 {
        /// The real CPU to stay on; negative ends it.
        0 pcpu: i32,
    }
}
