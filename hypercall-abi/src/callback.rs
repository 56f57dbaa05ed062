//! `callback_op` and `nmi_op`: where a guest wants to be entered by the hypervisor.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub use crate::ops::callback::*;

numbers! {
    /// Every kind of callback with its C name.
    TYPES: u16 {
        TYPE_EVENT = 0, "CALLBACKTYPE_event", "An event waits.";
        TYPE_FAILSAFE = 1, "CALLBACKTYPE_failsafe", "A segment could not be loaded on return to the guest.";
        TYPE_SYSCALL = 2, "CALLBACKTYPE_syscall", "64-bit user mode executed `syscall`.";
        TYPE_SYSENTER_DEPRECATED = 3, "CALLBACKTYPE_sysenter_deprecated", "Old number of `TYPE_SYSENTER`.";
        TYPE_NMI = 4, "CALLBACKTYPE_nmi", "A non-maskable interrupt.";
        TYPE_SYSENTER = 5, "CALLBACKTYPE_sysenter", "User mode executed `sysenter`.";
        TYPE_SYSCALL32 = 7, "CALLBACKTYPE_syscall32", "32-bit user mode executed `syscall`.";
    }
}

/// Flag of [`CallbackRegister::flags`]: events are masked when the callback starts.
pub const MASK_EVENTS: u16 = 1;

/// Sets a callback.
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct CallbackRegister {
    /// One of [`TYPES`].
    pub kind: u16,
    /// [`MASK_EVENTS`] or nothing.
    pub flags: u16,
    /// No meaning.
    pub pad: u32,
    /// Where the callback starts; must be canonical.
    pub address: u64,
}

abi_layout! { CallbackRegister = "struct callback_register", size 16, align 8 {
    kind = "type" @ 0, flags @ 2, pad = "" @ 4, address @ 8,
}}

/// Removes a callback.
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct CallbackUnregister {
    /// One of [`TYPES`].
    pub kind: u16,
    /// No meaning.
    pub pad: u16,
}

abi_layout! { CallbackUnregister = "struct callback_unregister", size 4, align 2 {
    kind = "type" @ 0, pad = "_unused" @ 2,
}}

/// Argument of `nmi_op` register: the older way to set the callback for non-maskable interrupts.
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct NmiCallback {
    /// Where the callback starts.
    pub handler_address: u64,
    /// No meaning.
    pub pad: u64,
}

abi_layout! { NmiCallback = "struct xennmi_callback", size 16, align 8 {
    handler_address @ 0, pad @ 8,
}}
