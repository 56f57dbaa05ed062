//! Model-specific registers: which exist for a guest, what they show and what they accept.
//!
//! Measured on Xen 4.17, initial domain, on processors of both vendors; everything that is not in
//! the table is `#GP(0)` in both directions. Only bits 0 to 31 of rcx name the register.
//!
//! | number | name | read | write |
//! |--|--|--|--|
//! | 0, 1 | `P5_MC_ADDR`, `P5_MC_TYPE` | 0 | `#GP` |
//! | 10 | `TSC` | the counter | `#GP` |
//! | 17, 3a | `PLATFORM_ID`, `FEATURE_CONTROL` (Intel) | 0, 1 (locked) | `#GP` |
//! | 1b | `APIC_BASE` | fee00900 on the boot vCPU, else fee00800 | `#GP` |
//! | c1-c8, 186-189, 309-30b, 38d-390 | performance counters (Intel) | 0 | ignored |
//! | e7, e8, 19a, 1b0 | `MPERF`, `APERF`; `THERM_CONTROL`, `ENERGY_PERF_BIAS` (Intel) | `#GP` | ignored |
//! | 198, 199, 19c | `PERF_STATUS`, `PERF_CTL`, `THERM_STATUS` (Intel) | 0 | `#GP`, but 199: ignored |
//! | 345 | `PERF_CAPABILITIES` | 0 | `#GP` |
//! | 8b | `BIOS_SIGN_ID` | the microcode's revision | 0 ignored (Intel), else `#GP` |
//! | ce | `PLATFORM_INFO` | 0 | `#GP` |
//! | 140 | `MISC_FEATURES_ENABLES` | 0 | 0 accepted, else `#GP` |
//! | 179 | `MCG_CAP` | 1000c02 (Intel), 2 | ignored |
//! | 17a | `MCG_STATUS` | what was written | any |
//! | 17b | `MCG_CTL` | 0 | ignored |
//! | 1a0 | `MISC_ENABLE` | 801801 | ignored |
//! | 277 | `PAT` | 50100070406 | `#GP` |
//! | 280-29f | `MCi_CTL2` | what was written, banks 0 and 1 (Intel), else 0 | any |
//! | 400-47f | `MCi_CTL` | all ones, banks 0 and 1; else 0 | ignored |
//! | | `MCi_STATUS`, `ADDR`, `MISC` | 0 | banks 0 and 1: 0 accepted, else `#GP`; else ignored |
//! | c0000080 | `EFER` | d01: NXE, LMA, LME, SCE | that value accepted, else `#GP` |
//! | c0000100-102 | `FS_BASE`, `GS_BASE`, `KERNEL_GS_BASE` | the base | `#GP` unless canonical; the hypervisor's addresses too are accepted |
//! | c0000103 | `TSC_AUX` | what was written | `#GP` above 32 bits, or if `rdtscp` is hidden |
//! | 40000000 | the hypercall page | 0 | a frame's address; with bits below it, or of a frame that can't be written: refused |
//! | c001001f | `NB_CFG`, on Intel too | 0 | ignored |
//! | c0010000-7, c0010200-b | performance counters (AMD) | 0 | ignored |
//! | c0010041-42, c0010061-6b | frequencies (AMD) | 0 | ignored |
//! | c0010015, c0011029 | `HWCR`, `DE_CFG` (AMD) | 0, 2 | ignored |
//!
//! A guest without a handler for `#GP` reads 0 where it would have got one, but for 4000xxxx. (Xen asks
//! the processor whether it has such a register; QEMU's has all.)
//!
//! Left out on purpose, so `#GP` here: `ARCH_CAPABILITIES` (10a), AMD's memory map and secure loader
//! (c0010010, c0010016-1d, c0010112-113).

use hypercall_abi::cpuid::HYPERCALL_PAGE_MSR;
use hypercall_abi::types::Mfn;

use crate::guest_memory::is_canonical;

use super::state::{BaseMsr, Facts, PrivilegedState, Refused, Vendor};

/// Content of `EFER`.
pub const EFER: u64 = 0xd01;
/// Content of `PAT`.
pub const PAT: u64 = 0x0000_0501_0007_0406;
/// Content of `MISC_ENABLE`: fast strings, and no BTS, no PEBS, no xTPR messages.
const MISC_ENABLE: u64 = 0x0080_1801;
/// Content of `APIC_BASE` but for the boot flag: enabled, at its usual address.
const APIC_BASE: u64 = 0xfee0_0800;
/// `APIC_BASE`: the boot processor.
const APIC_BOOT: u64 = 1 << 8;
/// `FEATURE_CONTROL`: locked, nothing enabled.
const FEATURES_LOCKED: u64 = 1;
/// `DE_CFG`: LFENCE is serialising.
const LFENCE_SERIALISES: u64 = 1 << 1;

/// Machine-check banks a guest has.
const BANKS: usize = 2;

/// The machine-check registers a guest can write. No machine check is ever shown in them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct MachineCheck {
    status: u64,
    control2: [u64; BANKS],
}

/// A register that exists, by what it does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Msr {
    /// Has a value that can't be changed; a write of it is...
    Constant(u64, Writes),
    Timestamp,
    MachineCheckStatus,
    MachineCheckControl2(u32),
    Base(BaseMsr),
    TscAux,
    /// Reads as 0; a frame's address written fills the frame with stubs of hypercalls.
    HypercallPage,
    /// Can't be read; what is written has no effect.
    WriteOnly,
}

/// What becomes of a write to a register without effect.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Writes {
    Refused,
    Ignored,
    /// Accepted if it is this value, else refused.
    Only(u64),
}

/// Reads a register.
///
/// # Errors
///
/// [`Refused`] if it does not exist for the guest.
pub fn read(state: &mut impl PrivilegedState, number: u32) -> Result<u64, Refused> {
    Ok(match find(number, state.facts())? {
        Msr::Constant(value, _) => value,
        Msr::Timestamp => state.timestamp(),
        Msr::MachineCheckStatus => state.machine_check().status,
        Msr::MachineCheckControl2(bank) => match state.machine_check().bank(bank) {
            Some(control2) => *control2,
            None => 0,
        },
        Msr::Base(which) => state.segment_base(which),
        Msr::TscAux => u64::from(state.tsc_aux().ok_or(Refused)?),
        Msr::HypercallPage => 0,
        Msr::WriteOnly => return Err(Refused),
    })
}

/// Whether a register that is refused reads as 0 all the same: there is nobody to hear of a fault.
pub fn reads_without_handler(state: &impl PrivilegedState, number: u32) -> bool {
    !state.handles_protection_fault() && number >> 16 != HYPERCALL_PAGE_MSR >> 16
}

/// Writes a register.
///
/// # Errors
///
/// [`Refused`] if it does not exist for the guest or may not have that value.
pub fn write(state: &mut impl PrivilegedState, number: u32, value: u64) -> Result<(), Refused> {
    match find(number, state.facts())? {
        Msr::Constant(_, Writes::Ignored) | Msr::WriteOnly => {}
        Msr::Constant(_, Writes::Only(accepted)) if value == accepted => {}
        Msr::Constant(_, Writes::Refused | Writes::Only(_)) | Msr::Timestamp => {
            return Err(Refused);
        }
        Msr::MachineCheckStatus => state.machine_check().status = value,
        Msr::MachineCheckControl2(bank) => {
            if let Some(control2) = state.machine_check().bank(bank) {
                *control2 = value;
            }
        }
        Msr::Base(which) if is_canonical(value) => state.set_segment_base(which, value),
        Msr::Base(_) => return Err(Refused),
        Msr::TscAux => {
            state.tsc_aux().ok_or(Refused)?;
            state.set_tsc_aux(u32::try_from(value).map_err(|_| Refused)?);
        }
        // The bits below the address number the page, and there is one.
        Msr::HypercallPage if value & 0xfff != 0 => return Err(Refused),
        Msr::HypercallPage => state.fill_hypercall_page(Mfn::containing(value))?,
    }
    Ok(())
}

impl MachineCheck {
    fn bank(&mut self, bank: u32) -> Option<&mut u64> {
        self.control2.get_mut(usize::try_from(bank).ok()?)
    }
}

fn find(number: u32, facts: Facts) -> Result<Msr, Refused> {
    let intel = facts.vendor == Vendor::Intel;
    let amd = facts.vendor == Vendor::Amd;
    let constant = Msr::Constant;
    Ok(match number {
        0 | 1 | 0xce => constant(0, Writes::Refused),
        0x10 => Msr::Timestamp,
        0x17 if intel => constant(0, Writes::Refused),
        0x1b if facts.is_boot_vcpu => constant(APIC_BASE | APIC_BOOT, Writes::Refused),
        0x1b => constant(APIC_BASE, Writes::Refused),
        0x3a if intel => constant(FEATURES_LOCKED, Writes::Refused),
        0x8b if intel => constant(facts.microcode, Writes::Only(0)),
        0x8b => constant(facts.microcode, Writes::Refused),
        0xe7 | 0xe8 => Msr::WriteOnly,
        0x19a | 0x1b0 if intel => Msr::WriteOnly,
        0xc1..=0xc8 | 0x186..=0x189 | 0x199 | 0x309..=0x30b | 0x38d..=0x390 if intel => {
            constant(0, Writes::Ignored)
        }
        0x198 | 0x19c if intel => constant(0, Writes::Refused),
        0x345 => constant(0, Writes::Refused),
        0x140 => constant(0, Writes::Only(0)),
        0x179 if intel => constant(0x0100_0c00 | BANKS as u64, Writes::Ignored),
        0x179 => constant(BANKS as u64, Writes::Ignored),
        0x17a => Msr::MachineCheckStatus,
        0x17b => constant(0, Writes::Ignored),
        0x1a0 => constant(MISC_ENABLE, Writes::Ignored),
        0x277 => constant(PAT, Writes::Refused),
        0x280..=0x29f if intel => Msr::MachineCheckControl2(number & 0x1f),
        0x280..=0x29f => constant(0, Writes::Ignored),
        0x400..=0x47f => bank_register(number),
        0xc000_0080 => constant(EFER, Writes::Only(EFER)),
        0xc000_0100 => Msr::Base(BaseMsr::Fs),
        0xc000_0101 => Msr::Base(BaseMsr::Gs),
        0xc000_0102 => Msr::Base(BaseMsr::KernelGs),
        0xc000_0103 => Msr::TscAux,
        HYPERCALL_PAGE_MSR => Msr::HypercallPage,
        0xc001_001f => constant(0, Writes::Ignored),
        0xc001_0000..=0xc001_0007
        | 0xc001_0041
        | 0xc001_0042
        | 0xc001_0061..=0xc001_006b
        | 0xc001_0200..=0xc001_020b
            if amd =>
        {
            constant(0, Writes::Ignored)
        }
        0xc001_0015 if amd => constant(0, Writes::Ignored),
        0xc001_1029 if amd => constant(LFENCE_SERIALISES, Writes::Ignored),
        _ => return Err(Refused),
    })
}

/// Four registers a bank: control, status, address, miscellaneous.
fn bank_register(number: u32) -> Msr {
    let (bank, register) = (number >> 2 & 0x1f, number & 3);
    match register {
        _ if usize::try_from(bank).is_ok_and(|bank| bank >= BANKS) => {
            Msr::Constant(0, Writes::Ignored)
        }
        0 => Msr::Constant(u64::MAX, Writes::Ignored),
        _ => Msr::Constant(0, Writes::Only(0)),
    }
}
