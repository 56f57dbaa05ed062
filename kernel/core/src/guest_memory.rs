//! Guest addresses: an allegation of the guest until the kernel has copied through them.
//!
//! A [`GuestRange`] has been checked as a whole, once: it does not wrap and does not touch the
//! hypervisor's part of the address space. Whether anything is mapped there is found out by copying,
//! which can fail at any byte.

use hypercall_abi::errno::Errno;
use hypercall_abi::layout::{HYPERVISOR_VIRT_END, HYPERVISOR_VIRT_START};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::platform::Platform;

/// A guest address that could not be read or written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GuestFault {
    /// The linear address that faulted, or the start of the range where it is not known.
    pub address: u64,
}

impl From<GuestFault> for Errno {
    fn from(_: GuestFault) -> Self {
        Self::EFAULT
    }
}

/// A range of guest addresses outside the hypervisor's part.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GuestRange {
    start: u64,
    len: usize,
}

impl GuestRange {
    /// The `len` bytes from `start`.
    ///
    /// # Errors
    ///
    /// [`GuestFault`] if the range wraps around or touches the hypervisor's part.
    pub fn new(start: u64, len: usize) -> Result<Self, GuestFault> {
        let fault = GuestFault { address: start };
        // A range may end where the address space does.
        let behind_first = u64::try_from(len.saturating_sub(1));
        let last = behind_first.ok().and_then(|length| start.checked_add(length)).ok_or(fault)?;
        if last < HYPERVISOR_VIRT_START || start >= HYPERVISOR_VIRT_END {
            Ok(Self { start, len })
        } else {
            Err(fault)
        }
    }

    /// First address.
    #[must_use]
    pub const fn start(self) -> u64 {
        self.start
    }

    /// Length in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "an empty range is legal and not special")]
    pub const fn len(self) -> usize {
        self.len
    }
}

/// Whether all upper bits of the address repeat bit 47, as the processor demands.
#[inline]
#[must_use]
pub const fn is_canonical(address: u64) -> bool {
    address.wrapping_add(1 << 47) < 1 << 48
}

/// Whether a guest's array may begin here: what the ABI looks at before it reads the first element,
/// even of an empty array. Where the array ends is found out by reading it.
#[inline]
#[must_use]
pub const fn may_begin_at(address: u64) -> bool {
    address < 1 << 47 || address >= HYPERVISOR_VIRT_END
}

/// Copies one structure from the guest, once.
///
/// # Errors
///
/// [`GuestFault`] if any byte of it can't be read.
pub fn read<T: FromBytes + IntoBytes>(
    platform: &impl Platform,
    address: u64,
) -> Result<T, GuestFault> {
    let range = GuestRange::new(address, size_of::<T>())?;
    let mut value = T::new_zeroed();
    platform.read_guest(range, value.as_mut_bytes())?;
    Ok(value)
}

/// Copies one structure to the guest.
///
/// Every byte of it is some field's, so that no byte comes from whatever lay there before: what has
/// padding is not [`IntoBytes`], and a reserved field has to be given a value.
///
/// ```compile_fail,E0277
/// #[derive(zerocopy::IntoBytes, zerocopy::Immutable)]
/// #[repr(C)]
/// struct Padded {
///     short: u32,
///     long: u64,
/// }
/// ```
///
/// # Errors
///
/// [`GuestFault`] if any byte of it can't be written; bytes before it may have been.
pub fn write<T: IntoBytes + Immutable + ?Sized>(
    platform: &impl Platform,
    address: u64,
    value: &T,
) -> Result<(), GuestFault> {
    let bytes = value.as_bytes();
    platform.write_guest(GuestRange::new(address, bytes.len())?, bytes)
}
