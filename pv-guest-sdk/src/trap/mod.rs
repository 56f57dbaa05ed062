//! Traps: what the processor was doing, what happened, and what a guest wants done about it.
//!
//! Every virtual CPU has a table of handlers (`vcpu::Vcpu::handle`), one for each vector.
//! A handler is a plain function in safe code. It runs with events held back, on the stack of what
//! it interrupted, and says by its [`Resume`] how to go on:
//!
//! ```no_run,ignore-gnu
//! use pv_guest_sdk::trap::{Resume, Trap, Vector};
//! use pv_guest_sdk::{BootInfo, HypercallError, println, vcpu::Vcpu};
//!
//! fn on_page_fault(trap: &Trap<'_>) -> Resume {
//!     println!("{:#x} at {:#x}", trap.error().bits(), trap.fault_address());
//!     Resume::Skip
//! }
//!
//! fn main(boot: &BootInfo<'static>) -> Result<(), HypercallError> {
//!     let vcpu = Vcpu::start(boot)?;
//!     vcpu.handle(Vector::PAGE_FAULT, on_page_fault);
//!     Ok(())
//! }
//! ```
//!
//! A trap without a handler prints the registers and the way there, and ends the domain as
//! crashed. Traps of user mode never reach a handler: they end `user::User::run`.

mod error;
mod frame;
mod vector;

pub use error::ErrorCode;
pub use frame::TrapFrame;
pub use vector::Vector;

/// How to go on after a trap of the kernel's own code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Resume {
    /// With the instruction at the saved address: for a trap the next one, for a fault the same
    /// one again, because its cause is gone.
    Again,
    /// Give the operation of the SDK that trapped up; it returns [`Trapped`]. A trap that comes
    /// behind its instruction has nothing to give up: this is [`Resume::Again`] then. Where no
    /// operation of the SDK trapped, it is [`Resume::Unhandled`].
    Skip,
    /// Not at all.
    Unhandled,
}

/// An operation was given up because it trapped and the handler said [`Resume::Skip`].
///
/// # Examples
///
/// ```ignore-none
/// # use pv_guest_sdk::{trap::Trapped};
/// assert!(!Trapped.to_string().is_empty());
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Trapped;

impl core::fmt::Display for Trapped {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the operation trapped")
    }
}

impl core::error::Error for Trapped {}

/// What `vcpu::Vcpu::observe` saw.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{trap::{Observed, Vector}, println};
/// # fn example(seen: Option<Observed>) {
/// if let Some(Observed { vector: Vector::PAGE_FAULT, address, .. }) = seen {
///     println!("a page fault at {address:#x}");
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Observed {
    /// What happened.
    pub vector: Vector,
    /// The processor's error code.
    pub error: ErrorCode,
    /// Of a page fault: the address that was accessed.
    pub address: u64,
}

/// A function that handles traps.
pub type Handler = fn(&Trap<'_>) -> Resume;

/// One trap, as its handler sees it.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{trap::{Resume, Trap}, println};
/// # fn example() {
/// fn on_page_fault(trap: &Trap<'_>) -> Resume {
///     println!("{}: {}", trap.vector(), trap.error().explain(trap.vector()));
///     println!("at {:#x} by {:#x}", trap.fault_address(), trap.frame().rip);
///     Resume::Skip
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Trap<'a> {
    frame: &'a TrapFrame,
    fault_address: u64,
}

impl<'a> Trap<'a> {
    /// Puts together what the entry code saved and the address the hypervisor left.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use pv_guest_sdk::{trap::{Trap, TrapFrame}};
    /// # fn example(frame: &TrapFrame) {
    /// let trap = Trap::new(frame, 0x1000); // for a test of a handler
    /// # }
    /// ```
    #[must_use]
    pub const fn new(frame: &'a TrapFrame, fault_address: u64) -> Self {
        Self { frame, fault_address }
    }

    /// What happened.
    #[must_use]
    pub fn vector(&self) -> Vector {
        self.frame.vector()
    }

    /// The processor's error code; none is 0.
    #[must_use]
    pub fn error(&self) -> ErrorCode {
        ErrorCode::from_bits_retain(self.frame.error)
    }

    /// Of a page fault: the address that was accessed.
    #[must_use]
    pub const fn fault_address(&self) -> u64 {
        self.fault_address
    }

    /// Everything the processor held.
    #[must_use]
    pub const fn frame(&self) -> &'a TrapFrame {
        self.frame
    }
}
