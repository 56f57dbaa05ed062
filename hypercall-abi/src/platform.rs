//! `platform_op`: settings of the machine, for the privileged domain.

pub use crate::ops::platform::*;

/// What [`PlatformOp::interface_version`] must be.
pub const INTERFACE_VERSION: u32 = 0x0300_0001;
/// Of [`CpuInfo::flags`]: the CPU runs.
pub const CPU_ONLINE_FLAG: u32 = 1 << 0;
/// Of [`CpuInfo::flags`]: there is no such CPU.
pub const CPU_INVALID: u32 = 1 << 1;

abi_structs! {
    /// The envelope of every operation.
    PlatformOp = "struct xen_platform_op", size 136, align 8 {
        /// The sub-op.
        0 cmd: u32,
        /// [`INTERFACE_VERSION`].
        4 interface_version: u32,
        /// The sub-op's structure; 128 bytes.
        8 payload: [u64; 16] = "u",
    }

    /// Payload of [`SETTIME64`].
    SetTime64 = "struct xenpf_settime64", size 24, align 8 {
        /// Wall-clock time. Unit: seconds since 1970.
        0 secs: u64,
        /// The part below a second. Unit: nanoseconds.
        8 nsecs: u32,
        /// Must be 0.
        12 mbz: u32,
        /// The system time then. Unit: nanoseconds.
        16 system_time: u64,
    }

    /// Payload of [`ENTER_ACPI_SLEEP`].
    EnterAcpiSleep = "struct xenpf_enter_acpi_sleep", size 12, align 4 {
        /// Value of the first control register.
        0 val_a: u16,
        /// Value of the second.
        2 val_b: u16,
        /// 0 to 5; 5 is off.
        4 sleep_state: u32,
        /// Bit 0: the registers are the extended ones.
        8 flags: u32,
    }

    /// Payload of [`GET_CPU_VERSION`].
    CpuVersion = "struct xenpf_pcpu_version", size 32, align 4 {
        /// In: which real CPU.
        0 xen_cpuid: u32,
        /// Out: the highest present.
        4 max_present: u32,
        /// Out: the vendor's twelve letters.
        8 vendor_id: [u32; 3],
        /// Out: its family.
        20 family: u32,
        /// Out: its model.
        24 model: u32,
        /// Out: its stepping.
        28 stepping: u32,
    }

    /// Payload of [`GET_CPUINFO`].
    CpuInfo = "struct xenpf_pcpuinfo", size 20, align 4 {
        /// In: which real CPU.
        0 xen_cpuid: u32,
        /// Out: the highest present.
        4 max_present: u32,
        /// Out: bit 0: online; bit 1: no such CPU.
        8 flags: u32,
        /// Out: its APIC identity.
        12 apic_id: u32,
        /// Out: its ACPI identity.
        16 acpi_id: u32,
    }
}
