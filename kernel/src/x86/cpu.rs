//! What the CPU can do, what it must be able to do, and how it is set up.
//!
//! # Meltdown
//!
//! The kernel's memory is mapped while guests run, so a CPU on which ring 3 can read it by
//! speculation must not be used unknowingly. Safe are: vendors whose CPUs never had the flaw (AMD
//! and Hygon); CPUs that say so themselves (`RDCL_NO` in `IA32_ARCH_CAPABILITIES`); and QEMU's
//! emulator, known by its hypervisor signature `TCGTCGTCGTCG`, which does not speculate whatever
//! model it shows. All others are refused unless the command line says `meltdown=unsafe`.

use core::arch::x86_64::{__cpuid_count, CpuidResult};

use kernel_core::emulate::msr::PAT;
use kernel_core::emulate::xcr0;
use spin::Once;
use x86_64::VirtAddr;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags, Efer, EferFlags};
use x86_64::registers::model_specific::{FsBase, GsBase, KernelGsBase, Msr, Star};

use super::{debug, gdt};

const IA32_ARCH_CAPABILITIES: u32 = 0x10a;
const RDCL_NO: u64 = 1;

/// What this kernel wants to know about the CPU. All CPUs of a machine are taken to be alike.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Features {
    /// 1 GiB pages.
    pub huge_pages: bool,
    /// Ring 0 can be kept from executing guests' pages.
    pub smep: bool,
    /// Ring 0 can be kept from reading and writing guests' pages.
    pub smap: bool,
    /// The parts of the extended state that are kept for vCPUs; 0: by `fxsave`.
    pub parts: u64,
    /// Whether ring 3 cannot read ring 0's memory by speculation (see the module's text).
    pub meltdown_safe: bool,
}

static FEATURES: Once<Features> = Once::new();

/// The features of this machine; those of all CPUs are taken to be the same.
pub(crate) fn features() -> &'static Features {
    FEATURES.call_once(find_features)
}

/// Executes CPUID.
pub(crate) fn cpuid(leaf: u32, subleaf: u32) -> CpuidResult {
    __cpuid_count(leaf, subleaf)
}

/// Something the kernel cannot do without: leaf, register (0 eax to 3 edx), bit, name.
const NEEDED: [(u32, usize, u32, &str); 11] = [
    (1, 3, 0, "FPU"),
    (1, 3, 4, "TSC"),
    (1, 3, 5, "MSR"),
    (1, 3, 9, "APIC"),
    (1, 3, 13, "PGE"),
    (1, 3, 15, "CMOV"),
    (1, 3, 24, "FXSR"),
    (1, 3, 26, "SSE2"),
    (1, 3, 16, "PAT"),
    (0x8000_0001, 3, 11, "SYSCALL"),
    (0x8000_0001, 3, 20, "NX"),
];

/// The first feature this CPU lacks and the kernel needs.
pub(crate) fn missing_feature() -> Option<&'static str> {
    NEEDED.iter().find(|(leaf, register, bit, _)| !has(*leaf, *register, *bit)).map(|row| row.3)
}

/// The memory types that page-table entries choose from.
const IA32_PAT: u32 = 0x277;

/// Sets up this CPU's control registers, memory types and system-call selectors. Descriptors come before it,
/// interrupt table and entry point after it.
pub(crate) fn init() {
    let features = features();
    let cr0 = Cr0Flags::PROTECTED_MODE_ENABLE
        | Cr0Flags::MONITOR_COPROCESSOR
        | Cr0Flags::EXTENSION_TYPE
        | Cr0Flags::NUMERIC_ERROR
        | Cr0Flags::WRITE_PROTECT
        | Cr0Flags::ALIGNMENT_MASK
        | Cr0Flags::PAGING;
    // SAFETY: protection and paging stay on; caches are on; the FPU raises its own exceptions.
    unsafe { Cr0::write(cr0) };

    let mut cr4 = Cr4Flags::PHYSICAL_ADDRESS_EXTENSION
        | Cr4Flags::PAGE_GLOBAL
        | Cr4Flags::OSFXSR
        | Cr4Flags::OSXMMEXCPT_ENABLE;
    cr4.set(Cr4Flags::MACHINE_CHECK_EXCEPTION, has(1, 3, 7));
    cr4.set(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION, features.smep);
    cr4.set(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION, features.smap);
    cr4.set(Cr4Flags::OSXSAVE, features.parts != 0);
    // SAFETY: only features the CPU has; no kernel page is a user page but the M2P, which ring 0
    // reaches through the direct map.
    unsafe { Cr4::write(cr4) };

    let efer = EferFlags::LONG_MODE_ENABLE
        | EferFlags::LONG_MODE_ACTIVE
        | EferFlags::NO_EXECUTE_ENABLE
        | EferFlags::SYSTEM_CALL_EXTENSIONS;
    // SAFETY: long mode stays on; the CPU has the other two (`missing_feature`).
    unsafe { Efer::write(efer) };
    debug::clear();
    FsBase::write(VirtAddr::zero());
    GsBase::write(VirtAddr::zero());
    KernelGsBase::write(VirtAddr::zero());
    // SAFETY: entries 0 to 3, which all mappings of ring 0 use, stay what they are at reset.
    unsafe { Msr::new(IA32_PAT).write(PAT) };
    // SAFETY: the selectors are those of the reserved descriptors.
    unsafe { Star::write_raw(gdt::STAR_SYSRET, gdt::KERNEL_CS) };
}

/// Sets the running guest's own bits of CR4: TSD, DE and FSGSBASE, which it may have only on a CPU that has it.
pub(crate) fn set_guest_cr4(bits: u64) {
    let owned = Cr4Flags::TIMESTAMP_DISABLE | Cr4Flags::DEBUGGING_EXTENSIONS | Cr4Flags::FSGSBASE;
    let wanted = Cr4Flags::from_bits_truncate(bits) & owned;
    let old = Cr4::read();
    let new = (old - owned) | wanted;
    if new != old {
        // SAFETY: none of these bits matters to ring 0, which reads bases by their MSRs.
        unsafe { Cr4::write(new) };
    }
}

/// Sets what `rdtscp` shows; the CPU has the instruction.
pub(crate) fn set_tsc_aux(value: u32) {
    // SAFETY: ring 0 does not use it.
    unsafe { Msr::new(0xc000_0103).write(u64::from(value)) };
}

/// The microcode's revision, with the signature in its lower half where the CPU gives one.
pub(crate) fn microcode() -> u64 {
    // SAFETY: every CPU with 64-bit mode has the register.
    unsafe { Msr::new(0x8b).read() }
}

/// Writes back and empties the caches.
pub(crate) fn write_back_caches() {
    // SAFETY: slow, and nothing else.
    unsafe { core::arch::asm!("wbinvd", options(nostack, preserves_flags)) };
}

/// Sets EFER.NXE alone, for page tables with the bit to be loaded before [`init`].
pub(crate) fn enable_no_execute() {
    // SAFETY: the CPU has the feature (`missing_feature` was asked).
    unsafe { Efer::update(|flags| flags.insert(EferFlags::NO_EXECUTE_ENABLE)) };
}

fn find_features() -> Features {
    Features {
        huge_pages: has(0x8000_0001, 3, 26),
        smep: has(7, 1, 7),
        smap: has(7, 1, 20),
        // AMD's, before they say that they always restore them.
        parts: xcr0::kept(&|leaf, subleaf| {
            let CpuidResult { eax, ebx, ecx, edx } = cpuid(leaf, subleaf);
            [eax, ebx, ecx, edx]
        }),
        meltdown_safe: is_amd() || says_rdcl_no() || emulated(),
    }
}

/// Whether bit `bit` of a CPUID register (0 eax to 3 edx) is set; `false` for an absent leaf.
fn has(leaf: u32, register: usize, bit: u32) -> bool {
    let highest = cpuid(leaf & 0x8000_0000, 0).eax;
    let found = cpuid(leaf, 0);
    leaf <= highest && [found.eax, found.ebx, found.ecx, found.edx][register] >> bit & 1 != 0
}

/// AMD's and Hygon's.
fn is_amd() -> bool {
    let leaf = cpuid(0, 0);
    let vendor = text([leaf.ebx, leaf.edx, leaf.ecx]);
    &vendor == b"AuthenticAMD" || &vendor == b"HygonGenuine"
}

fn emulated() -> bool {
    let leaf = cpuid(0x4000_0000, 0);
    has(1, 2, 31) && &text([leaf.ebx, leaf.ecx, leaf.edx]) == b"TCGTCGTCGTCG"
}

fn says_rdcl_no() -> bool {
    // SAFETY: the register exists where CPUID says so, which is asked first.
    has(7, 3, 29) && unsafe { Msr::new(IA32_ARCH_CAPABILITIES).read() } & RDCL_NO != 0
}

fn text(registers: [u32; 3]) -> [u8; 12] {
    let mut bytes = [0; 12];
    for (chunk, register) in bytes.chunks_exact_mut(4).zip(registers) {
        chunk.copy_from_slice(&register.to_le_bytes());
    }
    bytes
}
