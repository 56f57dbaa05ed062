//! XCR0: which parts of the extended state are in use.
//!
//! Measured on Xen 4.17 with x87, SSE and AVX: 1, 3 and 7 are accepted, any other value is `#GP(0)`,
//! as is another register than ecx 0 (the upper halves of rax, rcx and rdx are ignored) and user
//! mode. `#UD` while the guest's CR4.OSXSAVE is clear, although `xgetbv` works then.

use crate::saved::FpuState;

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
/// Parts in use while a guest has not chosen: what `fxsave` covers.
pub const AT_FIRST: u64 = X87 | SSE;

/// Leaf 1, ecx: XSAVE.
pub(crate) const XSAVE_FEATURE: u32 = 1 << 26;
/// Leaf 1, ecx: AVX.
pub(crate) const AVX_FEATURE: u32 = 1 << 28;
/// The leaf that describes the extended state.
pub(crate) const LEAF: u32 = 0xd;
/// Bytes of the upper halves of the AVX registers, and where they are behind x87, SSE and the header.
pub(crate) const AVX_PLACE: [u32; 2] = [256, 576];

/// The parts of the extended state that are kept for vCPUs, on the processor with this CPUID; 0: those that
/// `fxsave` covers, by it.
#[must_use]
pub fn kept(cpuid: &impl Fn(u32, u32) -> [u32; 4]) -> u64 {
    let ([highest, ..], [_, _, features, _]) = (cpuid(0, 0), cpuid(1, 0));
    if highest < LEAF || features & XSAVE_FEATURE == 0 {
        return 0;
    }
    let ([parts, ..], [size, place, ..]) = (cpuid(LEAF, 0), cpuid(LEAF, 2));
    let parts = u64::from(parts);
    let has_avx = features & AVX_FEATURE != 0 && [size, place] == AVX_PLACE;
    match parts & AT_FIRST {
        AT_FIRST if has_avx => AT_FIRST | parts & AVX,
        AT_FIRST => AT_FIRST,
        _ => 0,
    }
}

/// Those of them that are left to a guest to which some of leaf 1's features, in ecx, are not shown.
pub(crate) const fn shown(kept: u64, features: u32) -> u64 {
    match (features & XSAVE_FEATURE, features & AVX_FEATURE) {
        (0, _) => 0,
        (_, 0) => kept & !AVX,
        _ => kept,
    }
}

/// Bytes of x87, SSE and the header of the state as it is saved.
pub(crate) const LEAST: usize = 576;

/// Bytes of these parts as they are saved; 0 of none.
pub(crate) const fn bytes(parts: u64) -> usize {
    match parts {
        0 => 0,
        _ if has_avx(parts) => size_of::<FpuState>(),
        _ => LEAST,
    }
}

/// Whether AVX is one of these parts.
pub(crate) const fn has_avx(parts: u64) -> bool {
    parts & AVX != 0
}

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
