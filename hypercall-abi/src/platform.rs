//! `platform_op`: settings of the machine, for the privileged domain.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub use crate::ops::platform::*;

/// What [`PlatformOp::interface_version`] must be.
pub const INTERFACE_VERSION: u32 = 0x0300_0001;

/// The envelope of every operation.
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct PlatformOp {
    /// The sub-op.
    pub cmd: u32,
    /// [`INTERFACE_VERSION`].
    pub interface_version: u32,
    /// The sub-op's structure; 128 bytes.
    pub payload: [u64; 16],
}

abi_layout! { PlatformOp = "struct xen_platform_op", size 136, align 8 {
    cmd @ 0, interface_version @ 4, payload = "u" @ 8,
}}

/// Payload of [`SETTIME64`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct SetTime64 {
    /// Wall-clock time. Unit: seconds since 1970.
    pub secs: u64,
    /// The part below a second. Unit: nanoseconds.
    pub nsecs: u32,
    /// Must be 0.
    pub mbz: u32,
    /// The system time then. Unit: nanoseconds.
    pub system_time: u64,
}

abi_layout! { SetTime64 = "struct xenpf_settime64", size 24, align 8 {
    secs @ 0, nsecs @ 8, mbz @ 12, system_time @ 16,
}}

/// Payload of [`ENTER_ACPI_SLEEP`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct EnterAcpiSleep {
    /// Value of the first control register.
    pub val_a: u16,
    /// Value of the second.
    pub val_b: u16,
    /// 0 to 5; 5 is off.
    pub sleep_state: u32,
    /// Bit 0: the registers are the extended ones.
    pub flags: u32,
}

abi_layout! { EnterAcpiSleep = "struct xenpf_enter_acpi_sleep", size 12, align 4 {
    val_a @ 0, val_b @ 2, sleep_state @ 4, flags @ 8,
}}

/// Payload of [`GET_CPUINFO`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct CpuInfo {
    /// In: which real CPU.
    pub xen_cpuid: u32,
    /// Out: the highest present.
    pub max_present: u32,
    /// Out: bit 0: online; bit 1: no such CPU.
    pub flags: u32,
    /// Out: its APIC identity.
    pub apic_id: u32,
    /// Out: its ACPI identity.
    pub acpi_id: u32,
}

abi_layout! { CpuInfo = "struct xenpf_pcpuinfo", size 20, align 4 {
    xen_cpuid @ 0, max_present @ 4, flags @ 8, apic_id @ 12, acpi_id @ 16,
}}
