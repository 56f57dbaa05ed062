//! What CPUID shows a guest (`docs/src/abi`): the machine's answer, filtered by an allow-list.
//!
//! A feature is shown if a PV guest can use it and the kernel lets it work. Everything else is
//! hidden, so that a new feature of a new processor is never shown by accident. A domain can be shown
//! less, if the tools say so before it runs ([`Limits`]).

use hypercall_abi::cpuid as leaf;
use hypercall_abi::memory::E820_RAM;
use hypercall_abi::types::PAGE_SHIFT;

use crate::dispatch::low_u32;
use crate::domain::Domain;
use crate::emulate::control::{CR4_DE, CR4_FSGSBASE, CR4_OSXSAVE, CR4_TSD};
use crate::emulate::xcr0::{self, AVX_FEATURE, XSAVE_FEATURE};
use crate::platform::Platform;
use crate::system::System;

/// Leaf 1, ecx: SSE3 PCLMULQDQ SSSE3 CX16 SSE4.1 SSE4.2 MOVBE POPCNT AES RDRAND.
const LEAF1_ECX: u32 =
    1 << 0 | 1 << 1 | 1 << 9 | 1 << 13 | 1 << 19 | 1 << 20 | 1 << 22 | 1 << 23 | 1 << 25 | 1 << 30;
/// Leaf 1, ecx, with AVX: FMA AVX F16C.
const LEAF1_AVX: u32 = 1 << 12 | AVX_FEATURE | 1 << 29;
/// Leaf 1, ecx: OSXSAVE.
const OSXSAVE: u32 = 1 << 27;
/// Leaf 1, ecx: a hypervisor is present.
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1, ecx, of the initial domain's kernel: EIST.
const INITIAL_ECX: u32 = 1 << 7;
/// Leaves 1 and 0x80000001, edx, of the initial domain's kernel: MTRR.
const INITIAL_EDX: u32 = 1 << 12;
/// Leaf 1, edx, of Intel: SEP. On AMD's there is no `sysenter` in long mode.
const INTEL_EDX: u32 = 1 << 11;
/// Leaf 1, edx: FPU DE TSC MSR PAE MCE CX8 APIC MCA CMOV PAT CLFLUSH ACPI MMX FXSR SSE SSE2 SS HTT.
const LEAF1_EDX: u32 = 1 << 0
    | 1 << 2
    | 1 << 4
    | 1 << 5
    | 1 << 6
    | 1 << 7
    | 1 << 8
    | 1 << 9
    | 1 << 14
    | 1 << 15
    | 1 << 16
    | 1 << 19
    | 1 << 22
    | 1 << 23
    | 1 << 24
    | 1 << 25
    | 1 << 26
    | 1 << 27
    | 1 << 28;
/// Leaf 1, eax: family, model, stepping.
const SIGNATURE: u32 = 0x0fff_0fff;
/// Leaf 1, ebx: all but the number of the CPU.
pub(crate) const NO_CPU: u32 = 0x00ff_ffff;
/// Leaf 7, ebx: FSGSBASE.
const FSGSBASE: u32 = 1 << 0;
/// Leaf 7, ebx, with AVX: AVX2.
const LEAF7_EBX_AVX: u32 = 1 << 5;
/// Leaf 7, ecx, with AVX: VAES VPCLMULQDQ.
const LEAF7_ECX_AVX: u32 = 1 << 9 | 1 << 10;
/// Leaf 0xd, subleaf 1, eax: XSAVEOPT XSAVEC XGETBV with ecx 1.
const EXTENDED_STATE: u32 = 7;
/// `xsavec` in that.
const XSAVEC: u32 = 1 << 1;
/// Leaf 7, ebx: FSGSBASE BMI1 BMI2 ERMS RDSEED ADX CLFLUSHOPT CLWB SHA.
const LEAF7_EBX: u32 =
    FSGSBASE | 1 << 3 | 1 << 8 | 1 << 9 | 1 << 18 | 1 << 19 | 1 << 23 | 1 << 24 | 1 << 29;
/// Leaf 0x80000001, ecx: LAHF ABM SSE4A MISALIGNSSE 3DNOWPREFETCH TBM.
const EXT1_ECX: u32 = 1 << 0 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 21;
/// Leaf 0x80000001, ecx, with AVX: XOP FMA4.
const EXT1_ECX_AVX: u32 = 1 << 11 | 1 << 16;
/// Leaf 0x80000001, edx: SYSCALL NX MMXEXT FFXSR RDTSCP LM 3DNOW.
const EXT1_EDX: u32 = 1 << 11 | 1 << 20 | 1 << 22 | 1 << 25 | 1 << 27 | 1 << 29 | 1 << 30 | 1 << 31;
/// `rdtscp` in that.
const RDTSCP: u32 = 1 << 27;
/// Leaf 0x80000007, edx, of the initial domain: the counter is invariant.
const INVARIANT: u32 = 1 << 8;
/// Leaf 0x80000008, eax: 48 bits of virtual addresses.
const VIRTUAL_BITS: u32 = 48 << 8;
/// Bits of leaf 0x80000001 edx that AMD repeats from leaf 1 edx.
const EXT1_EDX_MIRROR: u32 = 0x0183_f3ff;

/// Who asks. The initial domain's kernel sees what real hardware is set up by, as on Xen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Viewer {
    /// The initial domain's kernel.
    InitialKernel,
    /// The initial domain's user mode.
    InitialUser,
    /// Any other domain.
    Other,
}

impl Viewer {
    /// What only the initial domain's kernel sees.
    fn kernels(self, bits: u32) -> u32 {
        if self == Self::InitialKernel { bits } else { 0 }
    }
}

/// What of the policy a domain is shown at most. What the policy has not got, nobody is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The highest leaves: from 0 on, from 0x80000000 on, and of the hypervisor's own.
    pub leaves: [u32; 3],
    /// The features of [`FEATURES`].
    pub features: [u32; FEATURES.len()],
}

impl Limits {
    /// All that there is.
    pub const NONE: Self = Self { leaves: [u32::MAX; 3], features: [u32::MAX; FEATURES.len()] };
}

/// Where features are that can be hidden from a domain: leaf, subleaf, and number of the register.
pub const FEATURES: [(u32, u32, usize); 7] = [
    (1, 0, 2),
    (1, 0, 3),
    (7, 0, 1),
    (7, 0, 2),
    (0x8000_0001, 0, 2),
    (0x8000_0001, 0, 3),
    (xcr0::LEAF, 1, 0),
];

/// The guest's view of one leaf: eax, ebx, ecx, edx.
#[must_use]
pub fn policy<P: Platform>(
    system: &System<P>,
    viewer: Viewer,
    limits: &Limits,
    (wanted, subleaf): (u32, u32),
) -> [u32; 4] {
    let parts = parts(&system.platform, limits);
    let whole = |wanted| whole(system, viewer, parts, wanted, subleaf);
    let [basic, extended, own] = limits.leaves;
    let mut registers = match wanted {
        leaf::BASE..=leaf::LAST if wanted > own => [0; 4],
        leaf::BASE => {
            let [_, names @ ..] = whole(wanted);
            let [ebx, ecx, edx] = names;
            [leaf::LAST.min(own), ebx, ecx, edx]
        }
        1..leaf::BASE if wanted > basic => [0; 4],
        0x8000_0001.. if wanted > extended => [0; 4],
        _ => whole(wanted),
    };
    let highest = match wanted {
        0 => basic,
        0x8000_0000 => extended,
        _ => u32::MAX,
    };
    let has_subleaves = matches!(wanted, 7 | xcr0::LEAF);
    let subleaf = if has_subleaves { subleaf } else { 0 };
    let places = FEATURES.iter().zip(&limits.features);
    for (&(leaf, _, number), shown) in places.filter(|((a, b, _), _)| (*a, *b) == (wanted, subleaf))
    {
        // That there is a hypervisor is not to be hidden.
        let always = if (leaf, number) == (1, 2) { HYPERVISOR } else { 0 };
        registers.get_mut(number).into_iter().for_each(|register| *register &= shown | always);
    }
    let [eax, rest @ ..] = registers;
    let [ebx, ecx, edx] = rest;
    [eax.min(highest), ebx, ecx, edx]
}

/// The same for a domain from which nothing is hidden.
fn whole<P: Platform>(
    system: &System<P>,
    viewer: Viewer,
    parts: u64,
    wanted: u32,
    subleaf: u32,
) -> [u32; 4] {
    let platform = &system.platform;
    let machine = || platform.cpuid(wanted, subleaf);
    let is_intel = || {
        let [_, vendor, ..] = platform.cpuid(0, 0);
        vendor.to_le_bytes() == *b"Genu"
    };
    match wanted {
        leaf::BASE..=leaf::LAST => hypervisor(system, wanted, subleaf),
        leaf::EXTENSION_BASE => {
            let [ebx, ecx, edx] = leaf::EXTENSION_SIGNATURE;
            [leaf::EXTENSION_LAST, ebx, ecx, edx]
        }
        leaf::EXTENSION_VERSION => [leaf::EXTENSION_VERSION_NUMBER, 0, 0, 0],
        0 => {
            let [max, ebx, ecx, edx] = machine();
            [max.min(0xd), ebx, ecx, edx]
        }
        0x8000_0000 => {
            let [max, ebx, ecx, edx] = machine();
            let max = max.min(0x8000_0008);
            if is_intel() { [max, 0, 0, 0] } else { [max, ebx, ecx, edx] }
        }
        _ if !in_range(platform, wanted) => [0; 4],
        1 => features(machine(), viewer, parts, is_intel()),
        7 if subleaf == 0 => {
            let [_, ebx, ecx, _] = machine();
            let ebx = ebx & (LEAF7_EBX | with_avx(parts, LEAF7_EBX_AVX));
            [0, ebx, ecx & with_avx(parts, LEAF7_ECX_AVX), 0]
        }
        xcr0::LEAF => extended_state(platform, parts, subleaf),
        2 | 4 | 0x8000_0002..=0x8000_0004 => machine(),
        0x8000_0005 if is_intel() => [0; 4],
        0x8000_0006 if is_intel() => {
            let [_, _, ecx, _] = machine();
            [0, 0, ecx, 0]
        }
        0x8000_0005 | 0x8000_0006 => machine(),
        0x8000_0001 => extended_features(platform, viewer, is_intel(), parts),
        0x8000_0007 if viewer != Viewer::Other => {
            let [_, _, _, edx] = machine();
            [0, 0, 0, edx & INVARIANT]
        }
        0x8000_0008 => {
            let [eax, ..] = machine();
            [eax & 0xff | VIRTUAL_BITS, 0, 0, 0]
        }
        _ => [0; 4],
    }
}

/// These features, if AVX is one of the parts.
const fn with_avx(parts: u64, features: u32) -> u32 {
    if xcr0::has_avx(parts) { features } else { 0 }
}

/// Leaf 1, of what the machine has there.
fn features(
    [eax, ebx, ecx, edx]: [u32; 4],
    viewer: Viewer,
    parts: u64,
    is_intel: bool,
) -> [u32; 4] {
    let shown = LEAF1_ECX | with_avx(parts, LEAF1_AVX) | viewer.kernels(INITIAL_ECX);
    let xsave = if parts == 0 { 0 } else { XSAVE_FEATURE };
    let intel = if is_intel { INTEL_EDX } else { 0 };
    let edx = edx & (LEAF1_EDX | intel | viewer.kernels(INITIAL_EDX));
    [eax & SIGNATURE, ebx & NO_CPU, ecx & shown | HYPERVISOR | xsave, edx]
}

/// Leaf `0x8000_0001`: the features of AMD's, some of which mirror those of leaf 1 there.
fn extended_features<P: Platform>(
    platform: &P,
    viewer: Viewer,
    is_intel: bool,
    parts: u64,
) -> [u32; 4] {
    let [eax, ebx, ecx, edx] = platform.cpuid(0x8000_0001, 0);
    let [_, _, _, leaf1] = platform.cpuid(1, 0);
    let mirror = edx & leaf1 & LEAF1_EDX & EXT1_EDX_MIRROR;
    let edx = edx & EXT1_EDX | mirror | leaf1 & viewer.kernels(INITIAL_EDX);
    let [eax, ebx] = if is_intel { [0, 0] } else { [eax & SIGNATURE, ebx & !0x00ff_0000] };
    [eax, ebx, ecx & (EXT1_ECX | with_avx(parts, EXT1_ECX_AVX)), edx]
}

/// The parts of the extended state that are kept for vCPUs.
pub(crate) fn kept(platform: &impl Platform) -> u64 {
    xcr0::kept(&|leaf, subleaf| platform.cpuid(leaf, subleaf))
}

/// Those that a domain with these limits may use; 0: XSAVE is hidden.
fn parts(platform: &impl Platform, limits: &Limits) -> u64 {
    let [leaf1_ecx, ..] = limits.features;
    xcr0::shown(kept(platform), leaf1_ecx)
}

/// Leaf 0xd. The size in use, in ebx, depends on who runs ([`as_it_runs`]).
fn extended_state(platform: &impl Platform, parts: u64, subleaf: u32) -> [u32; 4] {
    let [avx_size, avx_place] = xcr0::AVX_PLACE;
    match subleaf {
        _ if parts == 0 => [0; 4],
        0 if xcr0::has_avx(parts) => [low_u32(parts), 0, avx_place.saturating_add(avx_size), 0],
        0 => [low_u32(parts), 0, avx_place, 0],
        1 => {
            let [eax, ..] = platform.cpuid(xcr0::LEAF, 1);
            [eax & EXTENDED_STATE, 0, 0, 0]
        }
        2 if xcr0::has_avx(parts) => [avx_size, avx_place, 0, 0],
        _ => [0; 4],
    }
}

/// What depends on the state of the vCPU that runs here: whether XSAVE is on, and the size of what it has in use.
#[must_use]
pub fn as_it_runs(
    platform: &impl Platform,
    (wanted, subleaf): (u32, u32),
    [eax, ebx, ecx, edx]: [u32; 4],
    is_on: bool,
) -> [u32; 4] {
    let size = || {
        let [_, ebx, ..] = platform.cpuid(wanted, subleaf);
        ebx
    };
    match (wanted, subleaf) {
        (1, _) if is_on && ecx & XSAVE_FEATURE != 0 => [eax, ebx, ecx | OSXSAVE, edx],
        (xcr0::LEAF, 0) if eax != 0 => [eax, size(), ecx, edx],
        (xcr0::LEAF, 1) if eax & XSAVEC != 0 => [eax, size(), ecx, edx],
        _ => [eax, ebx, ecx, edx],
    }
}

impl<P: Platform> System<P> {
    /// Bits of CR4 that are a domain's own, by what it is shown.
    pub(crate) fn cr4_features(&self, domain: &Domain<P>) -> u64 {
        let limits = *domain.cpuid.lock(&self.platform);
        let [_, leaf7, ..] = policy(self, Viewer::Other, &limits, (7, 0));
        let bases = if leaf7 & FSGSBASE == 0 { 0 } else { CR4_FSGSBASE };
        let xsave = if parts(&self.platform, &limits) == 0 { 0 } else { CR4_OSXSAVE };
        CR4_TSD | CR4_DE | bases | xsave
    }

    /// Bits of XCR0 that a domain may set.
    pub(crate) fn xcr0_features(&self, domain: &Domain<P>) -> u64 {
        parts(&self.platform, &domain.cpuid.lock(&self.platform))
    }
}

/// Whether the guest's highest leaves, as shown, admit this one.
fn in_range(platform: &impl Platform, wanted: u32) -> bool {
    let base = wanted & 0x8000_0000;
    let [max, ..] = platform.cpuid(base, 0);
    wanted <= max
}

/// The hypervisor's own leaves (ABI).
fn hypervisor<P: Platform>(system: &System<P>, wanted: u32, subleaf: u32) -> [u32; 4] {
    match wanted {
        leaf::BASE => {
            let [ebx, ecx, edx] = leaf::SIGNATURE;
            [leaf::LAST, ebx, ecx, edx]
        }
        leaf::VERSION => [low_u32(crate::calls::version::VERSION), 0, 0, 0],
        leaf::HYPERCALL_PAGE => [1, leaf::HYPERCALL_PAGE_MSR, leaf::FEATURE_PRESERVE_AD, 0],
        // Bit 2 says that there is `rdtscp`.
        leaf::TSC if subleaf == 0 => {
            let [_, _, _, edx] = system.platform.cpuid(0x8000_0001, 0);
            [u32::from(edx & RDTSCP != 0) << 2, 0, 0, 0]
        }
        // The machine's rate; the guest's counter is the machine's, unscaled.
        leaf::TSC if subleaf == 2 => [low_u32(system.clock.tsc_khz()), 0, 0, 0],
        leaf::PV_LIMITS if subleaf == 0 => [0, address_bits(system), 0, 0],
        _ => [0; 4],
    }
}

/// Bits of the highest machine address that a guest can see.
fn address_bits<P: Platform>(system: &System<P>) -> u32 {
    let memory = system.memory_map.iter().filter(|entry| entry.kind.get() == E820_RAM);
    let end = memory.map(|entry| entry.addr.get().saturating_add(entry.size.get())).max();
    // Whole frames: the last one's number, then its bytes.
    let last = (end.unwrap_or(0) >> PAGE_SHIFT).saturating_sub(1);
    u64::BITS.saturating_sub(last.leading_zeros()).saturating_add(PAGE_SHIFT)
}

#[cfg(test)]
mod tests;
