//! CPUID leaves by which a guest finds the hypervisor, and this system's own leaves.
//!
//! A PV guest reads them with the prefix [`crate::layout::FORCED_EMULATION_PREFIX`]; plain `cpuid`
//! may show the machine's.

/// First leaf: `eax` is the highest leaf, `ebx`, `ecx`, `edx` are [`SIGNATURE`].
pub const BASE: u32 = 0x4000_0000;
/// `eax`: version as major in the upper half and minor in the lower.
pub const VERSION: u32 = BASE + 1;
/// `eax`: pages of hypercall stubs; `ebx`: [`HYPERCALL_PAGE_MSR`]; `ecx`: features.
pub const HYPERCALL_PAGE: u32 = BASE + 2;
/// Time-stamp counter: mode, offset, scale and frequency, by sub-leaf.
pub const TSC: u32 = BASE + 3;
/// Features of hardware-virtualised guests; all zero for a PV guest.
pub const HVM: u32 = BASE + 4;
/// Limits of a PV guest; `ebx` bits 0 to 7 are [`MACHINE_ADDRESS_WIDTH_MASK`].
pub const PV_LIMITS: u32 = BASE + 5;
/// The highest leaf Xen 4.17 has.
pub const LAST: u32 = PV_LIMITS;

/// `ebx`, `ecx`, `edx` of [`BASE`]: the text `XenVMMXenVMM`.
pub const SIGNATURE: [u32; 3] = signature(*b"XenVMMXenVMM");

/// The model-specific register whose write fills a hypercall page.
pub const HYPERCALL_PAGE_MSR: u32 = 0x4000_0000;
/// `ecx` of [`HYPERCALL_PAGE`]: page-table updates that preserve accessed and dirty exist.
pub const FEATURE_PRESERVE_AD: u32 = 1;
/// `ebx` of [`PV_LIMITS`]: how many bits a machine address has. Unit: bits.
pub const MACHINE_ADDRESS_WIDTH_MASK: u32 = 0xff;

/// First leaf of **this system's own extension** (Xen has nothing here): `eax` is the highest
/// extension leaf, `ebx`, `ecx`, `edx` are [`EXTENSION_SIGNATURE`]. A guest that sees another
/// signature, or zeros, runs on something else and must not use extensions.
pub const EXTENSION_BASE: u32 = BASE + 0x100;
/// `eax`: version of the extension, major in the upper half and minor in the lower; the rest is 0.
pub const EXTENSION_VERSION: u32 = EXTENSION_BASE + 1;
/// The highest extension leaf.
pub const EXTENSION_LAST: u32 = EXTENSION_VERSION;
/// `ebx`, `ecx`, `edx` of [`EXTENSION_BASE`]: the text `ParavaneHypV`.
pub const EXTENSION_SIGNATURE: [u32; 3] = signature(*b"ParavaneHypV");
/// The version that [`EXTENSION_VERSION`] answers.
pub const EXTENSION_VERSION_NUMBER: u32 = crate::extension::VERSION_NUMBER;

/// Twelve characters as the three registers that carry them.
const fn signature(text: [u8; 12]) -> [u32; 3] {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = text;
    [
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
        u32::from_le_bytes([i, j, k, l]),
    ]
}
