//! Privileged instructions that the hypervisor carries out for a guest's kernel.
//!
//! Each may trap, and is given up then if the handler of general protection says so.

use core::arch::asm;

use hypercall_abi::call::Hypercall;
use hypercall_abi::physdev::{SET_IOPL, SetIopl};

use super::gate::Machine;
use super::probe::may_trap;
use super::request;
use crate::error::{HypercallError, Site, perform};
use crate::trap::Trapped;

/// One of the instructions below that neither read nor write memory or a register that Rust code
/// has, but for their declared output.
macro_rules! harmless {
    ([$instruction:literal] $($operands:tt)*) => {
        // SAFETY: by the choice of instructions.
        unsafe { may_trap!([$instruction] $($operands)*) }
    };
}

/// The base of `fs`, as a model-specific register.
pub const FS_BASE: u32 = 0xc000_0100;
/// The base of `gs` in kernel mode.
pub const GS_BASE: u32 = 0xc000_0101;
/// The base of `gs` in user mode.
pub const KERNEL_GS_BASE: u32 = 0xc000_0102;

/// Reads a model-specific register.
///
/// # Errors
/// [`Trapped`] for one that this guest has not.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{raw::privileged, trap::Trapped};
/// # fn example() -> Result<(), Trapped> {
/// let base = privileged::read_msr(0xc000_0100)?; // of `fs`
/// privileged::write_fs_base(base)?;
/// # Ok(())
/// # }
/// ```
pub fn read_msr(register: u32) -> Result<u64, Trapped> {
    let (low, high): (u32, u32);
    // SAFETY: reading these registers changes nothing.
    unsafe {
        may_trap!(["rdmsr"] in("ecx") register, inout("eax") 0 => low, inout("edx") 0 => high)
    }
    .map(|()| u64::from(high) << 32 | u64::from(low))
}

/// Sets the base of `fs`, which nothing in kernel mode uses, by `wrmsr`.
///
/// # Errors
/// [`Trapped`] for an address that is none.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{raw::privileged, trap::Trapped};
/// # fn example() -> Result<(), Trapped> {
/// privileged::write_fs_base(0x1000)?;
/// # Ok(())
/// # }
/// ```
pub fn write_fs_base(base: u64) -> Result<(), Trapped> {
    let (low, high) = (base & 0xffff_ffff, base >> 32);
    // SAFETY: nothing uses `fs`.
    unsafe { may_trap!(["wrmsr"] in("ecx") FS_BASE, in("rax") low, in("rdx") high) }
}

/// The limit of a segment. `None` for a selector without a segment that ring 3 may use.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{raw::privileged, descriptor::Gdt, println};
/// # fn example() {
/// println!("{:?}", privileged::segment_limit(Gdt::selector(0)));
/// # }
/// ```
#[must_use]
pub fn segment_limit(selector: u16) -> Option<u64> {
    let limit: u64;
    let found: u8;
    // SAFETY: reads a descriptor's limit; a selector without one clears the zero flag.
    unsafe {
        asm!("lsl {limit}, {selector}", "setz {found}", selector = in(reg) u64::from(selector),
            limit = inout(reg) 0_u64 => limit, found = out(reg_byte) found, options(nostack));
    }
    (found != 0).then_some(limit)
}

/// A control register that can be read.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{raw::privileged::Control, trap::Trapped};
/// # fn example() -> Result<(), Trapped> {
/// let address = Control::Cr2.read()?; // of the last page fault
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names of registers")]
pub enum Control {
    Cr0,
    Cr2,
    Cr3,
    Cr4,
    Cr8,
}

impl Control {
    /// Reads it. The task-switched flag in `Cr0` is the virtual one, `Cr3` is a machine address.
    ///
    /// # Errors
    /// [`Trapped`] if the hypervisor refuses.
    pub fn read(self) -> Result<u64, Trapped> {
        let value;
        let done = match self {
            Self::Cr0 => harmless!(["mov {value}, cr0"] value = out(reg) value),
            Self::Cr2 => harmless!(["mov {value}, cr2"] value = out(reg) value),
            Self::Cr3 => harmless!(["mov {value}, cr3"] value = out(reg) value),
            Self::Cr4 => harmless!(["mov {value}, cr4"] value = out(reg) value),
            Self::Cr8 => harmless!(["mov {value}, cr8"] value = out(reg) value),
        };
        done.map(|()| value)
    }
}

/// Writes `cr0` with nothing changed but the task-switched flag.
///
/// # Errors
/// [`Trapped`] if the hypervisor refuses.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{raw::privileged, trap::Trapped};
/// # fn example() -> Result<(), Trapped> {
/// privileged::write_task_switched(false)?;
/// # Ok(())
/// # }
/// ```
pub fn write_task_switched(set: bool) -> Result<(), Trapped> {
    const TASK_SWITCHED: u64 = 1 << 3;
    let value = Control::Cr0.read()? & !TASK_SWITCHED | u64::from(set) << 3;
    // SAFETY: only the flag changes, and Rust code has no floating-point instructions.
    unsafe { may_trap!(["mov cr0, {value}"] value = in(reg) value) }
}

/// An instruction without operands.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{raw::privileged::Plain, trap::Trapped};
/// # fn example() -> Result<(), Trapped> {
/// Plain::Wbinvd.execute()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Plain {
    /// Clears the task-switched flag.
    Clts,
    /// Would hold interrupts back; does nothing.
    Cli,
    /// Would let interrupts come; does nothing.
    Sti,
    /// Would write caches back; does nothing in a domain without devices.
    Wbinvd,
    /// Forgets caches. Refused.
    Invd,
    /// Waits for an interrupt. Refused: that is a hypercall.
    Hlt,
}

impl Plain {
    /// Executes it.
    ///
    /// # Errors
    /// [`Trapped`] if the hypervisor refuses.
    pub fn execute(self) -> Result<(), Trapped> {
        match self {
            Self::Clts => harmless!(["clts"]),
            Self::Cli => harmless!(["cli"]),
            Self::Sti => harmless!(["sti"]),
            Self::Wbinvd => harmless!(["wbinvd"]),
            Self::Invd => harmless!(["invd"]),
            Self::Hlt => harmless!(["hlt"]),
        }
    }
}

/// The port at which firmware tells how far it has come; writing there has no effect.
const DIAGNOSTIC_PORT: u16 = 0x80;

/// Writes a byte to the machine's diagnostic port.
///
/// # Errors
/// [`Trapped`] if this guest may not use ports ([`set_io_level`]).
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{raw::privileged, trap::Trapped};
/// # fn example() -> Result<(), Trapped> {
/// privileged::write_diagnostic(0x42)?;
/// # Ok(())
/// # }
/// ```
pub fn write_diagnostic(value: u8) -> Result<(), Trapped> {
    // SAFETY: no device that could touch memory listens there.
    unsafe { may_trap!(["out dx, al"] in("dx") DIAGNOSTIC_PORT, in("al") value) }
}

/// Reads a byte from the machine's diagnostic port.
///
/// # Errors
/// [`Trapped`] if this guest may not use ports ([`set_io_level`]).
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{raw::privileged, trap::Trapped};
/// # fn example() -> Result<(), Trapped> {
/// let value = privileged::read_diagnostic()?;
/// # Ok(())
/// # }
/// ```
pub fn read_diagnostic() -> Result<u8, Trapped> {
    let value;
    // SAFETY: as in `write_diagnostic`.
    unsafe { may_trap!(["in al, dx"] in("dx") DIAGNOSTIC_PORT, inout("al") 0_u8 => value) }
        .map(|()| value)
}

/// The flags register, as the guest sees it.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{raw::privileged};
/// # fn example() {
/// let are_interrupts_on = privileged::flags() & 1 << 9 != 0;
/// # }
/// ```
#[must_use]
pub fn flags() -> u64 {
    let flags;
    // SAFETY: reads a register.
    unsafe { asm!("pushfq", "pop {}", out(reg) flags, options(nomem, preserves_flags)) };
    flags
}

static IO_LEVEL: Site =
    Site::operation(Hypercall::PhysdevOp, hypercall_abi::physdev::OPS, SET_IOPL, &[]);

/// Sets the virtual I/O privilege level: from 1 on, kernel mode may use ports, `cli` and `sti`.
///
/// # Errors
/// EINVAL (22) above 3.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{raw::privileged, HypercallError};
/// # fn example() -> Result<(), HypercallError> {
/// privileged::set_io_level(1)?; // the kernel may use ports
/// # Ok(())
/// # }
/// ```
pub fn set_io_level(level: u32) -> Result<(), HypercallError> {
    let level = SetIopl { iopl: level };
    perform(&Machine, &IO_LEVEL, &request::set_iopl(&level)).map(drop)
}
