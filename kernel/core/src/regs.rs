//! The registers of a guest, as entry code saves them.

use hypercall_abi::layout::{FLAT_RING3_CS64, FLAT_RING3_DS};

use crate::bounce::rflags;

/// Guest registers on the kernel's stack: the first 168 bytes of the ABI's `cpu_user_regs`.
///
/// Entry code pushes them in this order and pops them again on the way out; whatever a handler
/// changes here is what the guest continues with.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct GuestRegs {
    /// General register.
    pub r15: u64,
    /// General register.
    pub r14: u64,
    /// General register.
    pub r13: u64,
    /// General register.
    pub r12: u64,
    /// General register.
    pub rbp: u64,
    /// General register.
    pub rbx: u64,
    /// General register.
    pub r11: u64,
    /// General register.
    pub r10: u64,
    /// General register.
    pub r9: u64,
    /// General register.
    pub r8: u64,
    /// General register.
    pub rax: u64,
    /// General register.
    pub rcx: u64,
    /// General register.
    pub rdx: u64,
    /// General register.
    pub rsi: u64,
    /// General register.
    pub rdi: u64,
    /// The exception's error code; 0 where it has none.
    pub error_code: u32,
    /// How ring 0 was entered: an exception vector, or [`Self::SYSCALL`].
    pub entry_vector: u32,
    /// Next instruction.
    pub rip: u64,
    /// Code segment selector in the low 16 bits.
    pub cs: u64,
    /// Flags as the processor has them: IF is always set while a guest runs.
    pub rflags: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Stack segment selector in the low 16 bits.
    pub ss: u64,
}

/// One of the two structures of a guest's registers, with the 15 that both have from the other, and
/// the rest as given.
macro_rules! with_general {
    ($structure:ident, $from:ident, { $($rest:tt)+ }) => {
        $structure {
            r15: $from.r15, r14: $from.r14, r13: $from.r13, r12: $from.r12, rbp: $from.rbp,
            rbx: $from.rbx, r11: $from.r11, r10: $from.r10, r9: $from.r9, r8: $from.r8,
            rax: $from.rax, rcx: $from.rcx, rdx: $from.rdx, rsi: $from.rsi, rdi: $from.rdi,
            $($rest)+
        }
    };
}

pub(crate) use with_general;

impl GuestRegs {
    /// Value of [`Self::entry_vector`] after a `syscall` instruction.
    pub const SYSCALL: u32 = 0x100;

    /// Value of [`Self::entry_vector`] after a `syscall` instruction in 32-bit code.
    pub const SYSCALL_32: u32 = 0x101;

    /// Value of [`Self::entry_vector`] after a `sysenter` instruction. RIP and RSP are not known then.
    pub const SYSENTER: u32 = 0x102;

    /// The arguments of a hypercall, first to sixth.
    #[must_use]
    pub const fn hypercall_args(&self) -> [u64; 6] {
        [self.rdi, self.rsi, self.rdx, self.r10, self.r8, self.r9]
    }

    /// Puts arguments where the guest's next `syscall` instruction will look for them.
    pub const fn set_hypercall_args(&mut self, args: [u64; 6]) {
        [self.rdi, self.rsi, self.rdx, self.r10, self.r8, self.r9] = args;
    }

    /// Lets the guest be left by the quick way where RIP and selectors allow it: RCX and R11 are
    /// lost then. For handlers, which find both in their frame.
    pub const fn leave_by_sysret(&mut self) {
        self.entry_vector = Self::SYSCALL;
    }

    /// Lets the guest be left with every register as it is here.
    pub const fn leave_by_iretq(&mut self) {
        self.entry_vector = 0;
    }

    /// Whether the guest can be left by `sysret`: RCX and R11 may be lost, and the selectors are
    /// those that `sysret` loads. RIP must be canonical, or the instruction faults in ring 0. With TF it
    /// traps at once, as if the system call had been the instruction that was stepped; `iretq` steps one more.
    #[inline]
    #[must_use]
    pub fn can_leave_by_sysret(&self) -> bool {
        /// RIPs below are canonical, and not so close to the hole that the next one would not be.
        const LOWER_HALF: u64 = 0x0000_7fff_ffff_0000;
        const UPPER_HALF: u64 = 0xffff_8000_0000_0000;
        self.entry_vector == Self::SYSCALL
            && self.cs == u64::from(FLAT_RING3_CS64)
            && self.ss == u64::from(FLAT_RING3_DS)
            && (self.rip < LOWER_HALF || self.rip >= UPPER_HALF)
            && self.rflags & (rflags::RF | rflags::VM) == 0
    }

    /// The general registers with their names, three to a line.
    #[must_use]
    pub const fn by_name(&self) -> [[(&'static str, u64); 3]; 5] {
        [
            [("rax", self.rax), ("rbx", self.rbx), ("rcx", self.rcx)],
            [("rdx", self.rdx), ("rsi", self.rsi), ("rdi", self.rdi)],
            [("rbp", self.rbp), ("r8 ", self.r8), ("r9 ", self.r9)],
            [("r10", self.r10), ("r11", self.r11), ("r12", self.r12)],
            [("r13", self.r13), ("r14", self.r14), ("r15", self.r15)],
        ]
    }

    /// Whether 64-bit code runs, as far as the flat selectors tell.
    #[must_use]
    pub fn is_flat_64(&self) -> bool {
        self.cs & 0xffff == u64::from(FLAT_RING3_CS64)
    }
}

const _: () = assert!(size_of::<GuestRegs>() == 168);

#[cfg(test)]
mod tests {
    use hypercall_abi::regs::CpuUserRegs;
    use zerocopy::{FromBytes, IntoBytes};

    use super::*;

    /// Registers stand at the same places in both structures.
    #[test]
    fn general_registers_go_from_one_structure_to_the_other() {
        let words: [u64; 25] = core::array::from_fn(|place| place as u64);
        let theirs = CpuUserRegs::read_from_bytes(words.as_bytes()).expect("its size");
        let ours = with_general!(GuestRegs, theirs, { ..GuestRegs::default() });
        let GuestRegs { r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, .. } = ours;
        assert_eq!([r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8], words[..10]);
        assert_eq!([ours.rax, ours.rcx, ours.rdx, ours.rsi, ours.rdi], words[10..15]);
        let back = with_general!(CpuUserRegs, ours, { ..CpuUserRegs::default() });
        assert_eq!(back.as_bytes()[..120], words.as_bytes()[..120]);
    }

    /// `sysret` faults in ring 0 for an RIP that is not canonical; so do the instructions behind the
    /// last that is.
    #[test]
    fn only_what_sysret_can_do_is_left_to_it() {
        let good = GuestRegs {
            entry_vector: GuestRegs::SYSCALL,
            cs: FLAT_RING3_CS64.into(),
            ss: FLAT_RING3_DS.into(),
            rflags: rflags::IF,
            ..GuestRegs::default()
        };
        let leaves = |change: fn(&mut GuestRegs)| {
            let mut regs = good;
            change(&mut regs);
            regs.can_leave_by_sysret()
        };
        assert!(leaves(|_| {}));
        assert!(leaves(|regs| regs.rip = 0x7fff_fffe_ffff));
        assert!(leaves(|regs| regs.rip = 0xffff_8000_0000_0000));
        assert!(leaves(|regs| regs.rip = u64::MAX));
        assert!(!leaves(|regs| regs.rip = 0x7fff_ffff_ffff));
        assert!(!leaves(|regs| regs.rip = 0x8000_0000_0000));
        assert!(!leaves(|regs| regs.rip = 0xffff_7fff_ffff_ffff));
        assert!(!leaves(|regs| regs.cs = FLAT_RING3_DS.into()));
        assert!(!leaves(|regs| regs.ss = 0));
        assert!(leaves(|regs| regs.rflags |= rflags::TF));
        assert!(!leaves(|regs| regs.rflags |= rflags::RF));
        assert!(!leaves(|regs| regs.rflags |= rflags::VM));
        assert!(!leaves(GuestRegs::leave_by_iretq));
        assert!(!leaves(|regs| regs.entry_vector = GuestRegs::SYSCALL_32));
    }
}
