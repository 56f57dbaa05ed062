//! The floating-point and vector registers.
//!
//! Rust code of a guest has none: the target's code uses integer registers alone. So they belong
//! to user mode, and the kernel saves and loads them as a whole.

use core::arch::asm;

use hypercall_abi::call::Hypercall;

use super::gate::Machine;
use super::request;
use crate::error::{HypercallError, Site, perform};

/// The state of these registers, in the form of `fxsave`.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{raw::fpu::FpuState};
/// # fn example() {
/// let mine = FpuState::save();
/// FpuState::with_vectors(7).load();
/// assert_ne!(FpuState::save().vectors(), FpuState::initial().vectors());
/// mine.load();
/// # }
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[repr(C, align(16))]
pub struct FpuState([u8; 512]);

/// Where the vector registers begin, and how long they are together. Unit: bytes.
const VECTORS: core::ops::Range<usize> = 160..416;

impl FpuState {
    /// What a program starts with: all zero, all exceptions masked.
    #[must_use]
    pub const fn initial() -> Self {
        let mut state = [0; 512];
        state[0] = 0x7f;
        state[1] = 0x03;
        state[24] = 0x80;
        state[25] = 0x1f;
        Self(state)
    }

    /// The same, with every byte of the vector registers another value, from `first` on.
    #[must_use]
    pub fn with_vectors(first: u8) -> Self {
        let mut state = Self::initial();
        let vectors = state.0.get_mut(VECTORS).into_iter().flatten();
        for (byte, offset) in vectors.zip(0..=u8::MAX) {
            *byte = first.wrapping_add(offset);
        }
        state
    }

    /// What the vector registers hold.
    #[must_use]
    pub fn vectors(&self) -> &[u8] {
        self.0.get(VECTORS).unwrap_or_default()
    }

    /// Loads the registers.
    pub fn load(&self) {
        // SAFETY: 512 aligned bytes that an earlier save or `initial` left, so that no reserved
        // bit is set; nothing of Rust lives in these registers.
        unsafe { asm!("fxrstor64 [{}]", in(reg) self, options(nostack)) };
    }

    /// Saves the registers as they are.
    #[must_use]
    pub fn save() -> Self {
        let mut state = Self::initial();
        // SAFETY: 512 aligned bytes.
        unsafe { asm!("fxsave64 [{}]", in(reg) &raw mut state, options(nostack)) };
        state
    }
}

static TASKSWITCH: Site = Site::call(Hypercall::FpuTaskswitch, &[]);

/// Sets or clears the virtual task-switched flag: while it is set, the next floating-point
/// instruction raises [`crate::trap::Vector::DEVICE_NOT_AVAILABLE`], which clears it.
///
/// # Errors
/// [`HypercallError`] if the hypervisor refuses.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, raw::fpu::set_task_switched};
/// # fn example() -> Result<(), HypercallError> {
/// set_task_switched(true)?; // the next use of these registers traps
/// # Ok(())
/// # }
/// ```
pub fn set_task_switched(set: bool) -> Result<(), HypercallError> {
    perform(&Machine, &TASKSWITCH, &request::fpu_taskswitch(set.into())).map(drop)
}
