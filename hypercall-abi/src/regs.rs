//! A vCPU's registers, as guest and hypervisor exchange them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::trap::TrapInfo;

/// The general registers of a vCPU.
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
#[expect(missing_docs, reason = "a register's name says what it is")]
pub struct CpuUserRegs {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// Of the last exception; private to the hypervisor.
    pub error_code: u32,
    /// Of the last exception; private to the hypervisor.
    pub entry_vector: u32,
    pub rip: u64,
    pub cs: u16,
    /// No meaning.
    pub pad0: u16,
    /// The event mask when the frame was made.
    pub saved_upcall_mask: u8,
    /// No meaning.
    pub pad1: [u8; 3],
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u16,
    /// No meaning.
    pub pad2: [u16; 3],
    pub es: u16,
    /// No meaning.
    pub pad3: [u16; 3],
    pub ds: u16,
    /// No meaning.
    pub pad4: [u16; 3],
    pub fs: u16,
    /// No meaning.
    pub pad5: [u16; 3],
    pub gs: u16,
    /// No meaning.
    pub pad6: [u16; 3],
}

abi_layout! { CpuUserRegs = "struct cpu_user_regs", size 200, align 8 {
    r15 @ 0, r14 @ 8, r13 @ 16, r12 @ 24, rbp @ 32, rbx @ 40, r11 @ 48, r10 @ 56, r9 @ 64, r8 @ 72,
    rax @ 80, rcx @ 88, rdx @ 96, rsi @ 104, rdi @ 112, error_code @ 120, entry_vector @ 124,
    rip @ 128, cs @ 136, pad0 = "_pad0" @ 138, saved_upcall_mask @ 140, pad1 = "_pad1" @ 141,
    rflags @ 144, rsp @ 152, ss @ 160, pad2 = "_pad2" @ 162, es @ 168, pad3 = "_pad3" @ 170,
    ds @ 176, pad4 = "_pad4" @ 178, fs @ 184, pad5 = "_pad5" @ 186, gs @ 192, pad6 = "_pad6" @ 194,
}}

/// What the `iret` hypercall finds at the guest's stack pointer.
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct IretContext {
    /// What `rax` becomes.
    pub rax: u64,
    /// What `r11` becomes, unless [`GuestContextFlags::IN_SYSCALL`] is set.
    pub r11: u64,
    /// What `rcx` becomes, unless [`GuestContextFlags::IN_SYSCALL`] is set.
    pub rcx: u64,
    /// [`GuestContextFlags::IN_SYSCALL`] or nothing.
    pub flags: u64,
    /// Where to go on.
    pub rip: u64,
    /// Its privilege bits choose: 3 is the guest's user mode, all else its kernel.
    pub cs: u64,
    /// The interrupt flag becomes the event mask, inverted.
    pub rflags: u64,
    /// The stack to go on with.
    pub rsp: u64,
    /// Its segment.
    pub ss: u64,
}

abi_layout! { IretContext = "struct iret_context", size 72, align 8 {
    rax @ 0, r11 @ 8, rcx @ 16, flags @ 24, rip @ 32, cs @ 40, rflags @ 48, rsp @ 56, ss @ 64,
}}

bitflags::bitflags! {
    /// What a [`VcpuGuestContext`] means ([`VcpuGuestContext::flags`]).
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct GuestContextFlags: u64 {
        /// The floating-point state is to be used.
        const I387_VALID = 1 << 0;
        /// The vCPU is in its kernel mode.
        const IN_KERNEL = 1 << 2;
        /// The failsafe callback masks events.
        const FAILSAFE_DISABLES_EVENTS = 1 << 3;
        /// The syscall callback masks events.
        const SYSCALL_DISABLES_EVENTS = 1 << 4;
        /// The vCPU is up.
        const ONLINE = 1 << 5;
        /// Of [`IretContext`] alone: `rcx` and `r11` need not be restored.
        const IN_SYSCALL = 1 << 8;
    }
}

/// The whole state of a vCPU, as `vcpu_op` initialise and the tools pass it.
#[derive(Clone, Copy, Debug, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq)]
#[repr(C)]
pub struct VcpuGuestContext {
    /// Floating-point state in the form of `fxsave`.
    pub fpu_ctxt: [u8; 512],
    /// See [`GuestContextFlags`].
    pub flags: u64,
    /// General registers.
    pub user_regs: CpuUserRegs,
    /// Trap table, by position; the vector in an entry is not looked at.
    pub trap_ctxt: [TrapInfo; 256],
    /// Virtual address of the local descriptor table.
    pub ldt_base: u64,
    /// Its length. Unit: descriptors of 8 bytes.
    pub ldt_ents: u64,
    /// Frames of the global descriptor table; machine frames.
    pub gdt_frames: [u64; 16],
    /// Its length. Unit: descriptors of 8 bytes.
    pub gdt_ents: u64,
    /// Segment of the kernel's stack.
    pub kernel_ss: u64,
    /// The kernel's stack pointer on entry from user mode.
    pub kernel_sp: u64,
    /// Control registers by number; 1 holds the user mode's page tables.
    pub ctrlreg: [u64; 8],
    /// Debug registers by number.
    pub debugreg: [u64; 8],
    /// Address of the event callback.
    pub event_callback_eip: u64,
    /// Address of the failsafe callback.
    pub failsafe_callback_eip: u64,
    /// Address of the syscall callback.
    pub syscall_callback_eip: u64,
    /// Assists that are on: one bit a type.
    pub vm_assist: u64,
    /// Base of `fs`.
    pub fs_base: u64,
    /// Base of `gs` in kernel mode.
    pub gs_base_kernel: u64,
    /// Base of `gs` in user mode.
    pub gs_base_user: u64,
}

abi_layout! { VcpuGuestContext = "struct vcpu_guest_context", size 5168, align 8 {
    fpu_ctxt @ 0, flags @ 512, user_regs @ 520, trap_ctxt @ 720, ldt_base @ 4816, ldt_ents @ 4824,
    gdt_frames @ 4832, gdt_ents @ 4960, kernel_ss @ 4968, kernel_sp @ 4976, ctrlreg @ 4984,
    debugreg @ 5048, event_callback_eip @ 5112, failsafe_callback_eip @ 5120,
    syscall_callback_eip @ 5128, vm_assist @ 5136, fs_base @ 5144, gs_base_kernel @ 5152,
    gs_base_user @ 5160,
}}
