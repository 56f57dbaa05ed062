//! `callback_op` and `nmi_op`: where a guest wants to be entered by the hypervisor.

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

abi_structs! {
    /// Sets a callback.
    CallbackRegister = "struct callback_register", size 16, align 8 {
        /// One of [`TYPES`].
        0 kind: u16 = "type",
        /// [`MASK_EVENTS`] or nothing.
        2 flags: u16,
        /// No meaning.
        4 pad: u32 = "",
        /// Where the callback starts; must be canonical.
        8 address: u64,
    }

    /// Removes a callback.
    CallbackUnregister = "struct callback_unregister", size 4, align 2 {
        /// One of [`TYPES`].
        0 kind: u16 = "type",
        /// No meaning.
        2 pad: u16 = "_unused",
    }

    /// Argument of `nmi_op` register: the older way to set the callback for non-maskable interrupts.
    NmiCallback = "struct xennmi_callback", size 16, align 8 {
        /// Where the callback starts.
        0 handler_address: u64,
        /// No meaning.
        8 pad: u64,
    }
}
