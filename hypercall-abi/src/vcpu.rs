//! `vcpu_op(command, vcpu, argument)`: vCPUs, their timers, and their information.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

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

/// What a vCPU is doing, and for how long it did what.
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct RunstateInfo {
    /// One of [`RUNSTATES`].
    pub state: u32,
    /// No meaning.
    pub pad: u32,
    /// Since when; bit 63: [`RUNSTATE_UPDATE`]. Unit: nanoseconds of system time.
    pub state_entry_time: u64,
    /// How long it was in each of [`RUNSTATES`]. Unit: nanoseconds.
    pub time: [u64; 4],
}

abi_layout! { RunstateInfo = "struct vcpu_runstate_info", size 48, align 8 {
    state @ 0, pad = "" @ 4, state_entry_time @ 8, time @ 16,
}}

/// Argument of [`REGISTER_RUNSTATE_MEMORY_AREA`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct RegisterRunstateArea {
    /// Guest address of a [`RunstateInfo`] to keep up to date; 0 ends it.
    pub addr: u64,
}

abi_layout! { RegisterRunstateArea = "struct vcpu_register_runstate_memory_area", size 8, align 8 {
    addr @ 0,
}}

/// Argument of [`REGISTER_VCPU_TIME_MEMORY_AREA`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct RegisterTimeArea {
    /// Guest address of a `VcpuTimeInfo` to keep up to date; 0 ends it.
    pub addr: u64,
}

abi_layout! { RegisterTimeArea = "struct vcpu_register_time_memory_area", size 8, align 8 {
    addr @ 0,
}}

/// Argument of [`REGISTER_VCPU_INFO`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct RegisterVcpuInfo {
    /// The machine frame that shall hold the `VcpuInfo`.
    pub mfn: u64,
    /// Where in it; the 64 bytes must not leave the page. Unit: bytes.
    pub offset: u32,
    /// No meaning.
    pub rsvd: u32,
}

abi_layout! { RegisterVcpuInfo = "struct vcpu_register_vcpu_info", size 16, align 8 {
    mfn @ 0, offset @ 8, rsvd @ 12,
}}

/// Argument of [`SET_PERIODIC_TIMER`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct SetPeriodicTimer {
    /// At least a millisecond. Unit: nanoseconds.
    pub period_ns: u64,
}

abi_layout! { SetPeriodicTimer = "struct vcpu_set_periodic_timer", size 8, align 8 {
    period_ns @ 0,
}}

/// Argument of [`SET_SINGLESHOT_TIMER`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct SetSingleshotTimer {
    /// When. Unit: nanoseconds of system time.
    pub timeout_abs_ns: u64,
    /// [`SINGLESHOT_FUTURE`] or nothing.
    pub flags: u32,
    /// No meaning.
    pub pad: u32,
}

abi_layout! { SetSingleshotTimer = "struct vcpu_set_singleshot_timer", size 16, align 8 {
    timeout_abs_ns @ 0, flags @ 8, pad = "" @ 12,
}}

/// Answer of [`GET_PHYSID`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct GetPhysid {
    /// APIC identity in the lower half, ACPI identity in the upper.
    pub phys_id: u64,
}

abi_layout! { GetPhysid = "struct vcpu_get_physid", size 8, align 8 { phys_id @ 0 } }
