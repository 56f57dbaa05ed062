//! Entering a guest's handler: the frame on its stack, and the registers the handler starts with.
//!
//! A handler starts like an interrupt handler on the bare machine, with two words more on the stack,
//! R11 and RCX, because the return may have to use `sysret`, which destroys them:
//!
//! | offset | what |
//! |---|---|
//! | 0, 8 | RCX, R11 |
//! | 16 | error code, for vectors that have one |
//! | then | RIP; CS, with the event mask as it was in bits 32 to 39; RFLAGS; RSP; SS |

use hypercall_abi::layout::{FLAT_KERNEL_CS, FLAT_KERNEL_SS};

use crate::guest_memory;
use crate::platform::Platform;
use crate::saved::Selectors;
use crate::system::Context;
use crate::vcpu::Handler;

/// Bits of RFLAGS.
pub mod rflags {
    /// Trap after each instruction.
    pub const TF: u64 = 1 << 8;
    /// Interrupts are enabled.
    pub const IF: u64 = 1 << 9;
    /// Direction of string instructions.
    pub const DF: u64 = 1 << 10;
    /// I/O privilege level, two bits.
    pub const IOPL: u64 = 3 << 12;
    /// Nested task.
    pub const NT: u64 = 1 << 14;
    /// Instruction breakpoints are off for one instruction.
    pub const RF: u64 = 1 << 16;
    /// Virtual 8086 mode.
    pub const VM: u64 = 1 << 17;
    /// Alignment check.
    pub const AC: u64 = 1 << 18;
}

/// Flags no handler starts with.
const CLEARED: u64 = rflags::TF | rflags::NT | rflags::RF | rflags::VM | rflags::AC;

/// Words of the longest frame: the eight of the table above.
const MOST_WORDS: usize = 8;

/// The guest's handler can't be entered; its domain must end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BounceError {
    /// There is no handler.
    NoHandler,
    /// The frame can't be written at this address.
    Stack(u64),
}

impl core::fmt::Display for BounceError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoHandler => f.write_str("the guest has set no handler for it"),
            Self::Stack(address) => {
                write!(f, "the handler's frame can't be written to the stack at {address:#x}")
            }
        }
    }
}

impl<P: Platform> Context<'_, P> {
    /// Makes the guest continue in `handler`, with what it was doing in a frame on its kernel stack.
    ///
    /// From user mode the vCPU changes to kernel mode and its kernel stack first.
    ///
    /// # Errors
    ///
    /// [`BounceError`]; the guest can't continue then.
    pub(crate) fn bounce(
        &mut self,
        handler: Handler,
        error_code: Option<u32>,
    ) -> Result<(), BounceError> {
        if !handler.is_set() {
            return Err(BounceError::NoHandler);
        }
        let from_kernel = self.vcpu.in_kernel_mode();
        let stack = self.kernel_stack();
        let mask = self.vcpu.info(&self.system.platform).mask();
        let frame = self.frame(from_kernel, mask, error_code);
        let words = frame.get(usize::from(error_code.is_none())..).unwrap_or(&[]);
        self.enter(handler, stack & !15, words)
    }

    /// The top of the stack that a handler gets; the vCPU is in kernel mode from then on.
    fn kernel_stack(&self) -> u64 {
        if self.vcpu.in_kernel_mode() {
            return self.regs.rsp;
        }
        self.enter_kernel_mode();
        self.vcpu.state.lock(&self.system.platform).kernel_sp
    }

    /// Writes a frame below `top` and makes the guest continue in `handler`.
    fn enter(&mut self, handler: Handler, top: u64, frame: &[u64]) -> Result<(), BounceError> {
        let stack = top.wrapping_sub(size_of_val(frame) as u64);
        guest_memory::write(&self.system.platform, stack, frame)
            .map_err(|fault| BounceError::Stack(fault.address))?;
        if handler.masks_events {
            let info = self.vcpu.info(&self.system.platform);
            info.set_mask(info.mask() | 1);
        }
        self.regs.rip = handler.address;
        self.regs.cs = u64::from(FLAT_KERNEL_CS);
        self.regs.rsp = stack;
        self.regs.ss = u64::from(FLAT_KERNEL_SS);
        self.regs.rflags &= !CLEARED;
        self.regs.leave_by_sysret();
        Ok(())
    }

    /// The frame, lowest address first. Without an error code the first word is not used, and RCX
    /// and R11 move up by one.
    fn frame(&self, from_kernel: bool, mask: u8, error_code: Option<u32>) -> [u64; MOST_WORDS] {
        let regs = &*self.regs;
        // Guest kernels run in ring 3; their handlers shall see that they came from the kernel.
        let cs = if from_kernel { regs.cs & 0xfffc } else { regs.cs & 0xffff };
        let cs = cs | u64::from(mask).wrapping_shl(32);
        let interrupts = if mask == 0 { rflags::IF } else { 0 };
        let flags = regs.rflags & !(rflags::IF | rflags::IOPL) | interrupts | self.visible_iopl();
        let [rcx, r11, code] = match error_code {
            Some(code) => [regs.rcx, regs.r11, u64::from(code)],
            None => [0, regs.rcx, regs.r11],
        };
        [rcx, r11, code, regs.rip, cs, flags, regs.rsp, regs.ss]
    }

    /// The vCPU has been switched in, and a data selector could not be loaded: enters the guest's
    /// handler for that. Its frame has all four selectors above R11, as they were to be.
    pub(crate) fn failsafe(&mut self) {
        let platform = &self.system.platform;
        let handler = self.vcpu.state.lock(platform).failsafe;
        let Selectors { ds, es, fs, gs } = self.vcpu.saved.lock(platform).selectors;
        let [ds, es, fs, gs] = [ds, es, fs, gs].map(u64::from);
        let from_kernel = self.vcpu.in_kernel_mode();
        let stack = self.kernel_stack();
        let mask = self.vcpu.info(platform).mask();
        let [_, rcx, r11, rip, cs, flags, rsp, ss] = self.frame(from_kernel, mask, None);
        let frame = [rcx, r11, ds, es, fs, gs, rip, cs, flags, rsp, ss];
        // A guest that has set no handler goes on at address 0.
        if let Err(error) = self.enter(handler, stack & !15, &frame) {
            self.crash(format_args!("a data selector can't be loaded, and {error}"));
        }
    }

    /// What a frame shows as IOPL: nothing, unless the guest asked to see it.
    fn visible_iopl(&self) -> u64 {
        if self.has_assist(hypercall_abi::vm_assist::TYPE_ARCHITECTURAL_IOPL) {
            self.vcpu.state.lock(&self.system.platform).iopl
        } else {
            0
        }
    }

    /// Changes from user to kernel mode: the kernel's tables and the kernel's GS.
    pub(crate) fn enter_kernel_mode(&self) {
        self.vcpu.set_kernel_mode(true);
        self.system.platform.swap_gs();
        self.vcpu.roots.enter_kernel(&self.system.platform);
    }

    /// Changes from kernel to user mode. False if the guest has given no tables for user mode.
    pub(crate) fn enter_user_mode(&self) -> bool {
        if !self.vcpu.roots.enter_user(&self.system.platform) {
            return false;
        }
        self.vcpu.set_kernel_mode(false);
        self.system.platform.swap_gs();
        true
    }
}
