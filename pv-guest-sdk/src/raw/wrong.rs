//! Wrong moves: what a guest must not do, for guests that test what happens then.
//!
//! None of them does harm in Rust's sense: each faults at its first instruction, at an address
//! that is never this program's, and a fault without a handler ends the domain.

use core::arch::asm;

use hypercall_abi::layout::{HYPERVISOR_VIRT_END, HYPERVISOR_VIRT_START, MACH2PHYS_VIRT_START};

use crate::shutdown::{Reason, shutdown};

/// A way to go wrong.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{BootInfo, raw::wrong::WrongMove};
/// # fn example(boot: &BootInfo<'_>) {
/// if let Some(wrong) = boot.argument("do").and_then(WrongMove::named) {
///     wrong.make(); // it does not return
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WrongMove {
    /// An instruction that does not exist.
    UndefinedInstruction,
    /// An instruction that only ring 0 may execute.
    PrivilegedInstruction,
    /// A division by zero.
    DivideByZero,
    /// A breakpoint without a handler for it.
    Breakpoint,
    /// A software interrupt that nobody handles.
    SoftwareInterrupt,
    /// Reading where nothing is mapped.
    ReadUnmapped,
    /// Reading the hypervisor's own memory.
    ReadHypervisor,
    /// Writing the table of all frames, which guests may only read.
    WriteFrameTable,
    /// Reading an address that is none.
    ReadNonCanonical,
    /// Running the hypervisor's own memory.
    RunHypervisor,
    /// Faulting on a stack where nothing is mapped.
    NoStack,
}

impl WrongMove {
    /// Every move and the word for it.
    pub const ALL: &[(Self, &str)] = &[
        (Self::UndefinedInstruction, "undefined-instruction"),
        (Self::PrivilegedInstruction, "privileged-instruction"),
        (Self::DivideByZero, "divide-by-zero"),
        (Self::Breakpoint, "breakpoint"),
        (Self::SoftwareInterrupt, "software-interrupt"),
        (Self::ReadUnmapped, "read-unmapped"),
        (Self::ReadHypervisor, "read-hypervisor"),
        (Self::WriteFrameTable, "write-frame-table"),
        (Self::ReadNonCanonical, "read-non-canonical"),
        (Self::RunHypervisor, "run-hypervisor"),
        (Self::NoStack, "no-stack"),
    ];

    /// The move of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|&(wrong, _)| wrong)
    }

    /// Makes the move. Should the domain go on behind it, it says so and ends as crashed.
    pub fn make(self) -> ! {
        const HYPERVISOR: u64 = HYPERVISOR_VIRT_START.midpoint(HYPERVISOR_VIRT_END);
        const NON_CANONICAL: u64 = 0x1234_0000_0000_0000;
        const UNMAPPED: u64 = 0x1000;
        match self {
            // SAFETY: faults.
            Self::UndefinedInstruction => unsafe { asm!("ud2") },
            // SAFETY: faults in ring 3.
            Self::PrivilegedInstruction => unsafe { asm!("lidt [rsp]") },
            // SAFETY: faults.
            Self::DivideByZero => unsafe {
                asm!("div ecx", inout("eax") 1 => _, inout("edx") 0 => _, in("ecx") 0);
            },
            // SAFETY: traps, and continues behind with nothing changed if it is ignored.
            Self::Breakpoint => unsafe { asm!("int3") },
            // SAFETY: as before; vector 0x90 means nothing to anybody.
            Self::SoftwareInterrupt => unsafe { asm!("int 0x90") },
            Self::ReadUnmapped => read(UNMAPPED),
            Self::ReadHypervisor => read(HYPERVISOR),
            Self::ReadNonCanonical => read(NON_CANONICAL),
            // SAFETY: guests cannot write there: faults.
            Self::WriteFrameTable => unsafe {
                asm!("mov qword ptr [{}], 0", in(reg) MACH2PHYS_VIRT_START);
            },
            // SAFETY: guests cannot run what is there: faults.
            Self::RunHypervisor => unsafe { asm!("jmp {}", in(reg) HYPERVISOR, options(noreturn)) },
            // SAFETY: the first use of the stack faults, and nothing can be delivered on it.
            Self::NoStack => unsafe {
                asm!("mov rsp, {}", "push 0", "ud2", in(reg) UNMAPPED, options(noreturn))
            },
        }
        crate::println!("error: survived {self:?}");
        shutdown(Reason::Crash)
    }
}

/// Reads eight bytes and forgets them.
fn read(address: u64) {
    // SAFETY: faults, or reads bytes that nobody looks at.
    unsafe {
        asm!("mov {0}, [{0}]", inout(reg) address => _, options(nostack));
    }
}
