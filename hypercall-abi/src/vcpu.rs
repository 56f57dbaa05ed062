//! `vcpu_op(command, vcpu, argument)`: vCPUs, their timers, and their information.

pub use crate::ops::vcpu::*;

numbers! {
    /// What a vCPU can be doing, with its C name ([`RunstateInfo::state`]).
    RUNSTATES: u32 {
        RUNNING = 0, "RUNSTATE_running", "Runs on a real CPU.";
        RUNNABLE = 1, "RUNSTATE_runnable", "Could run, but no CPU is free.";
        BLOCKED = 2, "RUNSTATE_blocked", "Waits for an event.";
        OFFLINE = 3, "RUNSTATE_offline", "Is down, paused or not yet up.";
    }
}

/// [`RunstateInfo::state_entry_time`]: set while the rest is being written, if the guest asked.
pub const RUNSTATE_UPDATE: u64 = 1 << 63;
/// [`SetSingleshotTimer::flags`]: fail with `ETIME` if the time has passed.
pub const SINGLESHOT_FUTURE: u32 = 1;

abi_structs! {
    /// What a vCPU is doing, and for how long it did what.
    RunstateInfo = "struct vcpu_runstate_info", size 48, align 8 {
        /// One of [`RUNSTATES`].
        0 state: u32,
        /// No meaning.
        4 pad: u32 = "",
        /// Since when; bit 63: [`RUNSTATE_UPDATE`]. Unit: nanoseconds of system time.
        8 state_entry_time: u64,
        /// How long it was in each of [`RUNSTATES`]. Unit: nanoseconds.
        16 time: [u64; 4],
    }

    /// Argument of [`REGISTER_RUNSTATE_MEMORY_AREA`].
    RegisterRunstateArea = "struct vcpu_register_runstate_memory_area", size 8, align 8 {
        /// Guest address of a [`RunstateInfo`] to keep up to date; 0 ends it.
        0 addr: u64,
    }

    /// Argument of [`REGISTER_VCPU_TIME_MEMORY_AREA`].
    RegisterTimeArea = "struct vcpu_register_time_memory_area", size 8, align 8 {
        /// Guest address of a `VcpuTimeInfo` to keep up to date; 0 ends it.
        0 addr: u64,
    }

    /// Argument of [`REGISTER_VCPU_INFO`].
    RegisterVcpuInfo = "struct vcpu_register_vcpu_info", size 16, align 8 {
        /// The machine frame that shall hold the `VcpuInfo`.
        0 mfn: u64,
        /// Where in it; the 64 bytes must not leave the page. Unit: bytes.
        8 offset: u32,
        /// No meaning.
        12 rsvd: u32,
    }

    /// Argument of [`SET_PERIODIC_TIMER`].
    SetPeriodicTimer = "struct vcpu_set_periodic_timer", size 8, align 8 {
        /// At least a millisecond. Unit: nanoseconds.
        0 period_ns: u64,
    }

    /// Argument of [`SET_SINGLESHOT_TIMER`].
    SetSingleshotTimer = "struct vcpu_set_singleshot_timer", size 16, align 8 {
        /// When. Unit: nanoseconds of system time.
        0 timeout_abs_ns: u64,
        /// [`SINGLESHOT_FUTURE`] or nothing.
        8 flags: u32,
        /// No meaning.
        12 pad: u32 = "",
    }

    /// Answer of [`GET_PHYSID`].
    GetPhysid = "struct vcpu_get_physid", size 8, align 8 {
        /// APIC identity in the lower half, ACPI identity in the upper.
        0 phys_id: u64,
    }
}
