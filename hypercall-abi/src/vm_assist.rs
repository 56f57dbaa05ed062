//! `vm_assist(command, type)`: behaviours a guest can switch on.

pub use crate::ops::vm_assist::*;

numbers! {
    /// Every assist with its C name.
    TYPES: u32 {
        TYPE_4GB_SEGMENTS = 0, "VMASST_TYPE_4gb_segments", "Of 32-bit guests; accepted from all.";
        TYPE_4GB_SEGMENTS_NOTIFY = 1, "VMASST_TYPE_4gb_segments_notify", "Of 32-bit guests; accepted from all.";
        TYPE_WRITABLE_PAGETABLES = 2, "VMASST_TYPE_writable_pagetables", "The guest may write to its level-1 tables; each write is trapped and checked.";
        TYPE_PAE_EXTENDED_CR3 = 3, "VMASST_TYPE_pae_extended_cr3", "Top-level tables may lie above 4 GiB. Of 32-bit guests; accepted from all.";
        TYPE_ARCHITECTURAL_IOPL = 4, "VMASST_TYPE_architectural_iopl", "The I/O privilege level is kept in the flags register that the guest sees.";
        TYPE_RUNSTATE_UPDATE_FLAG = 5, "VMASST_TYPE_runstate_update_flag", "Runstate is marked while it is being written.";
        TYPE_M2P_STRICT = 32, "VMASST_TYPE_m2p_strict", "User mode does not see the machine-to-physical table.";
    }
}
