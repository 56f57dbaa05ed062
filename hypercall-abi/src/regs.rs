//! A vCPU's registers, as guest and hypervisor exchange them.

use crate::trap::TrapInfo;

abi_structs! {
    /// The general registers of a vCPU.
    #[expect(missing_docs, reason = "a register's name says what it is")]
    CpuUserRegs = "struct cpu_user_regs", size 200, align 8 {
        0 r15: u64,
        8 r14: u64,
        16 r13: u64,
        24 r12: u64,
        32 rbp: u64,
        40 rbx: u64,
        48 r11: u64,
        56 r10: u64,
        64 r9: u64,
        72 r8: u64,
        80 rax: u64,
        88 rcx: u64,
        96 rdx: u64,
        104 rsi: u64,
        112 rdi: u64,
        /// Of the last exception; private to the hypervisor.
        120 error_code: u32,
        /// Of the last exception; private to the hypervisor.
        124 entry_vector: u32,
        128 rip: u64,
        136 cs: u16,
        /// No meaning.
        138 pad0: u16 = "_pad0",
        /// The event mask when the frame was made.
        140 saved_upcall_mask: u8,
        /// No meaning.
        141 pad1: [u8; 3] = "_pad1",
        144 rflags: u64,
        152 rsp: u64,
        160 ss: u16,
        /// No meaning.
        162 pad2: [u16; 3] = "_pad2",
        168 es: u16,
        /// No meaning.
        170 pad3: [u16; 3] = "_pad3",
        176 ds: u16,
        /// No meaning.
        178 pad4: [u16; 3] = "_pad4",
        184 fs: u16,
        /// No meaning.
        186 pad5: [u16; 3] = "_pad5",
        192 gs: u16,
        /// No meaning.
        194 pad6: [u16; 3] = "_pad6",
    }

    /// What the `iret` hypercall finds at the guest's stack pointer.
    IretContext = "struct iret_context", size 72, align 8 {
        /// What `rax` becomes.
        0 rax: u64,
        /// What `r11` becomes, unless [`GuestContextFlags::IN_SYSCALL`] is set.
        8 r11: u64,
        /// What `rcx` becomes, unless [`GuestContextFlags::IN_SYSCALL`] is set.
        16 rcx: u64,
        /// [`GuestContextFlags::IN_SYSCALL`] or nothing.
        24 flags: u64,
        /// Where to go on.
        32 rip: u64,
        /// Its privilege bits choose: 3 is the guest's user mode, all else its kernel.
        40 cs: u64,
        /// The interrupt flag becomes the event mask, inverted.
        48 rflags: u64,
        /// The stack to go on with.
        56 rsp: u64,
        /// Its segment.
        64 ss: u64,
    }

    /// The whole state of a vCPU, as `vcpu_op` initialise and the tools pass it.
    VcpuGuestContext = "struct vcpu_guest_context", size 5168, align 8 {
        /// Floating-point state in the form of `fxsave`.
        0 fpu_ctxt: [u8; 512],
        /// See [`GuestContextFlags`].
        512 flags: u64,
        /// General registers.
        520 user_regs: CpuUserRegs,
        /// Trap table, by position; the vector in an entry is not looked at.
        720 trap_ctxt: [TrapInfo; 256],
        /// Virtual address of the local descriptor table.
        4816 ldt_base: u64,
        /// Its length. Unit: descriptors of 8 bytes.
        4824 ldt_ents: u64,
        /// Frames of the global descriptor table; machine frames.
        4832 gdt_frames: [u64; 16],
        /// Its length. Unit: descriptors of 8 bytes.
        4960 gdt_ents: u64,
        /// Segment of the kernel's stack.
        4968 kernel_ss: u64,
        /// The kernel's stack pointer on entry from user mode.
        4976 kernel_sp: u64,
        /// Control registers by number; 1 holds the user mode's page tables.
        4984 ctrlreg: [u64; 8],
        /// Debug registers by number.
        5048 debugreg: [u64; 8],
        /// Address of the event callback.
        5112 event_callback_eip: u64,
        /// Address of the failsafe callback.
        5120 failsafe_callback_eip: u64,
        /// Address of the syscall callback.
        5128 syscall_callback_eip: u64,
        /// Assists that are on: one bit a type.
        5136 vm_assist: u64,
        /// Base of `fs`.
        5144 fs_base: u64,
        /// Base of `gs` in kernel mode.
        5152 gs_base_kernel: u64,
        /// Base of `gs` in user mode.
        5160 gs_base_user: u64,
    }
}

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
