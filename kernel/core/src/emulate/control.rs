//! Control and debug registers.
//!
//! Measured on Xen 4.17:
//!
//! | register | read | write |
//! |--|--|--|
//! | cr0 | 80050033, and TS as the guest set it | `#GP` if anything but TS differs; else TS is set or cleared |
//! | cr2 | what was last written or faulted | any value |
//! | cr3 | machine address of the kernel's level-4 table | bits 0-11 are ignored; `#GP` unless the frame can be a level-4 table of the domain |
//! | cr4 | 660 and the guest's own bits | never faults: TSD, DE, and where the processor has them FSGSBASE and OSXSAVE, are taken; all else is ignored |
//! | dr0-dr3 | | `#GP` unless canonical and outside the hypervisor |
//! | dr6, dr7 | reserved bits as on a processor | `#GP` for bits above 31, GD, enabled port breakpoints |
//!
//! The virtual TS is cleared by the `#NM` it causes. With DE set, dr4 and dr5 are `#UD`.

use super::privileged::{ControlRegister, DebugRegister};
use super::state::{PrivilegedState, Refused};

/// CR0 but for TS: PG, AM, WP, NE, ET, MP, PE.
pub const CR0_FIXED: u64 = 0x8005_0033;
/// CR0.TS.
pub const CR0_TS: u64 = 1 << 3;
/// CR4 but for the guest's own bits: OSXMMEXCPT, OSFXSR, MCE, PAE.
pub const CR4_FIXED: u64 = 0x660;
/// CR4.TSD: `rdtsc` is privileged.
pub const CR4_TSD: u64 = 1 << 2;
/// CR4.DE: dr4 and dr5 do not exist.
pub const CR4_DE: u64 = 1 << 3;
/// CR4.FSGSBASE.
pub const CR4_FSGSBASE: u64 = 1 << 16;
/// CR4.OSXSAVE.
pub const CR4_OSXSAVE: u64 = 1 << 18;
/// Bits of CR4 a guest may own.
pub const CR4_GUEST: u64 = CR4_TSD | CR4_DE | CR4_FSGSBASE | CR4_OSXSAVE;

/// Bits of CR3 that are no part of the frame's address.
const CR3_FLAGS: u64 = 0xfff;

/// What a guest reads.
pub fn read(state: &impl PrivilegedState, register: ControlRegister) -> u64 {
    match register {
        ControlRegister::Cr0 if state.is_task_switched() => CR0_FIXED | CR0_TS,
        ControlRegister::Cr0 => CR0_FIXED,
        ControlRegister::Cr2 => state.fault_address(),
        ControlRegister::Cr3 => state.root(),
        ControlRegister::Cr4 => CR4_FIXED | state.cr4(),
    }
}

/// Does what a guest writes.
///
/// # Errors
///
/// [`Refused`] for a change of CR0 beyond TS, and for a frame that can't be the root.
pub fn write(
    state: &mut impl PrivilegedState,
    register: ControlRegister,
    value: u64,
) -> Result<(), Refused> {
    match register {
        ControlRegister::Cr0 if value & !CR0_TS != CR0_FIXED => return Err(Refused),
        ControlRegister::Cr0 => state.set_task_switched(value & CR0_TS != 0),
        ControlRegister::Cr2 => state.set_fault_address(value),
        ControlRegister::Cr3 => state.set_root(value & !CR3_FLAGS)?,
        ControlRegister::Cr4 => state.set_cr4(value & CR4_GUEST & state.cr4_features()),
    }
    Ok(())
}

/// The debug register an encoding means; `None` if there is none with CR4.DE as it is.
pub fn debug_register(state: &impl PrivilegedState, encoded: DebugRegister) -> Option<u8> {
    match encoded.number() {
        4 | 5 if state.cr4() & CR4_DE != 0 => None,
        aliased @ (4 | 5) => Some(aliased | 2),
        number => Some(number),
    }
}
