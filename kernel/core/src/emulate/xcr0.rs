//! XCR0: which parts of the extended state are in use.
//!
//! Measured on Xen 4.17 with x87, SSE and AVX: 1, 3 and 7 are accepted, any other value is `#GP(0)`,
//! as is another register than ecx 0 (the upper halves of rax, rcx and rdx are ignored) and user
//! mode. `#UD` while the guest's CR4.OSXSAVE is clear, although `xgetbv` works then.

/// x87, always in use.
const X87: u64 = 1 << 0;
/// SSE.
const SSE: u64 = 1 << 1;
/// AVX.
const AVX: u64 = 1 << 2;
/// The three parts of AVX-512.
const AVX512: u64 = 7 << 5;

/// Parts a PV guest may use at all; PKRU, AMX and what comes later need more than a bit here.
pub const KNOWN: u64 = X87 | SSE | AVX | AVX512;

/// Whether a processor with these features accepts the value.
#[must_use]
pub const fn is_valid(value: u64, features: u64) -> bool {
    value & !(features & KNOWN) == 0
        && value & X87 != 0
        && needs(value, AVX, SSE)
        && needs(value, AVX512, AVX)
        && needs(value, AVX512, AVX512)
}

/// With any of these parts, all of the others.
const fn needs(value: u64, part: u64, others: u64) -> bool {
    value & part == 0 || value & others == others
}
