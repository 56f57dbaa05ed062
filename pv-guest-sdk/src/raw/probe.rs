//! Operations that may trap, and be given up for it.
//!
//! Each instruction that may trap has a row in the section `.fixups`: its address, and where to go
//! on if the trap's handler says `Resume::Skip`. A flag, set before the instruction and cleared
//! behind it, tells which way was taken.

use core::arch::{asm, global_asm};

use hypercall_abi::layout::FLAT_KERNEL_SS;

use crate::trap::Trapped;

/// An instruction that may trap; evaluates to whether it was given up.
macro_rules! may_trap {
    ([$($instruction:literal),+] $($operands:tt)*) => {{
        let given_up: u32;
        core::arch::asm!(
            "mov {given_up:e}, 1",
            "2:",
            $($instruction,)+
            "mov {given_up:e}, 0",
            "3:",
            ".pushsection .fixups, \"a\", @progbits",
            ".quad 2b, 3b",
            ".popsection",
            given_up = out(reg) given_up,
            $($operands)*
        );
        if given_up == 0 { Ok(()) } else { Err(Trapped) }
    }};
}

// One `int` for every vector, four bytes each.
global_asm!(
    ".pushsection .text.interrupts, \"ax\", @progbits",
    ".balign 32",
    ".globl __pv_interrupts",
    "__pv_interrupts:",
    ".set __pv_vector, 0",
    ".rept 256",
    "4: .byte 0xcd, __pv_vector",
    "5: ret",
    "nop",
    ".pushsection .fixups, \"a\", @progbits",
    ".quad 4b, 5b",
    ".popsection",
    ".set __pv_vector, __pv_vector + 1",
    ".endr",
    ".popsection",
);

pub(super) use may_trap;

/// A way to raise a trap on purpose. None of them changes anything beside.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{raw::probe::Raise, vcpu::Vcpu, println};
/// # fn example(vcpu: &Vcpu) {
/// let (_, seen) = vcpu.observe(|| Raise::DivideError.now());
/// println!("{seen:?}");
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Raise {
    /// Divides by zero.
    DivideError,
    /// Executes one instruction with the single-step flag set.
    SingleStep,
    /// Executes `int3`.
    Breakpoint,
    /// Executes an instruction that does not exist.
    InvalidOpcode,
    /// Executes a floating-point instruction that does nothing.
    FloatingPoint,
    /// Divides by zero in the old floating-point unit, with its exception enabled.
    X87,
    /// Loads a selector into `fs`, which nothing uses, and then the null selector.
    Segment(u16),
    /// Loads a selector into `ss`, which faults unless it is one for a stack, and then the usual
    /// one.
    StackSegment(u16),
    /// Reads at an address that is none.
    GeneralProtection,
    /// Reads at the hypervisor's own addresses.
    PageFault,
    /// Executes `int` with this vector.
    Interrupt(u8),
}

impl Raise {
    /// Makes the move.
    ///
    /// # Errors
    /// [`Trapped`] if the trap's handler gave the instruction up. Traps that come behind their
    /// instruction, and instructions that did not trap, are `Ok`.
    pub fn now(self) -> Result<(), Trapped> {
        match self {
            // SAFETY: faults, and changes two registers that are declared.
            Self::DivideError => unsafe {
                may_trap!(["div {zero:e}"] zero = in(reg) 0,
                    inout("eax") 1 => _, inout("edx") 0 => _)
            },
            Self::SingleStep => {
                single_step();
                Ok(())
            }
            // SAFETY: traps, and goes on behind.
            Self::Breakpoint => unsafe { may_trap!(["int3"]) },
            // SAFETY: faults.
            Self::InvalidOpcode => unsafe { may_trap!(["ud2"]) },
            // SAFETY: does nothing but trap.
            Self::FloatingPoint => unsafe { may_trap!(["fnop"]) },
            Self::X87 => x87(),
            // SAFETY: nothing uses this segment; only its selector changes, and back.
            Self::Segment(selector) => unsafe {
                may_trap!(["mov fs, {selector:e}", "mov fs, {null:e}"]
                    selector = in(reg) u32::from(selector), null = in(reg) 0)
            },
            // SAFETY: faults, or the next instruction sets the flat segment again.
            Self::StackSegment(selector) => unsafe {
                may_trap!(["mov ss, {selector:e}", "mov ss, {flat:e}"]
                    selector = in(reg) u32::from(selector),
                    flat = in(reg) u32::from(FLAT_KERNEL_SS))
            },
            Self::GeneralProtection => read(0x1234_0000_0000_0000),
            Self::PageFault => read(0xffff_8400_0000_0000),
            Self::Interrupt(vector) => interrupt(vector),
        }
    }
}

fn read(address: u64) -> Result<(), Trapped> {
    // SAFETY: the callers' addresses are never this program's: it faults.
    unsafe { may_trap!(["mov {at}, [{at}]"] at = inout(reg) address => _, options(nostack)) }
}

fn single_step() {
    // SAFETY: the trap comes behind the `nop`; its handler goes on with the flag cleared.
    unsafe {
        asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop");
    }
}

/// One by zero; the exception comes with the next floating-point instruction that waits.
fn x87() -> Result<(), Trapped> {
    let mut enabled = 0x037b_u16;
    // SAFETY: Rust code has no floating-point registers here. The control word is read only.
    unsafe {
        asm!("fninit", "fldcw [{}]", "fld1", "fldz", "fdivp", in(reg) &raw mut enabled);
    }
    // SAFETY: only waits for the exception.
    let raised = unsafe { may_trap!(["fwait"]) };
    // SAFETY: clears the exception and all else.
    unsafe { asm!("fninit") };
    raised
}

unsafe extern "C" {
    static __pv_interrupts: u8;
}

fn interrupt(vector: u8) -> Result<(), Trapped> {
    let code = (&raw const __pv_interrupts).wrapping_add(4 * usize::from(vector));
    // SAFETY: an `int` that comes back behind itself with nothing changed, or whose trap's handler
    // decides.
    unsafe {
        asm!("call {}", in(reg) code);
    }
    Ok(())
}

/// A mapped byte range that belongs to nobody else: one word of it is loaded.
///
/// # Safety
/// The address must be within a mapping that the caller owns and no Rust reference sees.
pub(crate) unsafe fn load(address: u64) -> Result<u64, Trapped> {
    let value;
    // SAFETY: by this function's contract; a fault is given up by its handler or ends the domain.
    unsafe {
        may_trap!(["mov {value}, [{address}]"] value = out(reg) value, address = in(reg) address,
            options(nostack, preserves_flags))
    }
    .map(|()| value)
}

/// Stores a word.
///
/// # Safety
/// As of [`load`].
pub(crate) unsafe fn store(address: u64, value: u64) -> Result<(), Trapped> {
    // SAFETY: as in `load`.
    unsafe {
        may_trap!(["mov [{address}], {value}"] value = in(reg) value, address = in(reg) address,
            options(nostack, preserves_flags))
    }
}
