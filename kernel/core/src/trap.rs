//! Exceptions a guest raises.

use hypercall_abi::layout::{MACH2PHYS_VIRT_END, MACH2PHYS_VIRT_START};

use crate::emulate::soft_interrupt;
use crate::guest_memory::GuestRange;
use crate::platform::Platform;
use crate::system::Context;
use crate::trace::Kind;

/// An exception as the processor reported it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Exception {
    /// Vector.
    pub vector: u8,
    /// Error code; 0 where the vector has none.
    pub error_code: u32,
    /// Faulting linear address of a page fault, else 0.
    pub address: u64,
    /// What DR6 says of a debug exception, else 0.
    pub debug_status: u64,
}

const DEBUG: u8 = 1;
/// Invalid opcode.
pub const INVALID_OPCODE: u8 = 6;
const DEVICE_NOT_AVAILABLE: u8 = 7;
/// General protection fault.
pub(crate) const GENERAL_PROTECTION: u8 = 13;
const PAGE_FAULT: u8 = 14;

/// Bit of a page fault's error code: the page is there, and what was done is not allowed.
const FAULT_PRESENT: u32 = 1 << 0;
/// Bit of a page fault's error code: user mode.
pub(crate) const FAULT_USER: u32 = 1 << 2;
/// Bit of a general-protection error code: it names a gate of the interrupt table.
const CODE_GATE: u32 = 1 << 1;

impl<P: Platform> Context<'_, P> {
    /// Handles an exception of the guest: emulates what is ours to emulate, and gives the guest's
    /// kernel the rest.
    pub(crate) fn exception(&mut self, exception: Exception) {
        match exception.vector {
            DEBUG => self.debug_exception(exception.debug_status),
            INVALID_OPCODE if self.emulated(Self::forced_instruction) => {}
            DEVICE_NOT_AVAILABLE => self.device_not_available(),
            GENERAL_PROTECTION if exception.error_code & CODE_GATE != 0 => {
                self.refused_gate(exception.error_code);
            }
            GENERAL_PROTECTION
                if exception.error_code == 0 && self.emulated(Self::privileged_instruction) => {}
            PAGE_FAULT => self.page_fault(exception),
            vector => self.inject(vector, has_error_code(vector).then_some(exception.error_code)),
        }
    }

    /// Tries to carry an instruction out, and records it if that was done.
    #[inline]
    fn emulated(&mut self, carry_out: impl FnOnce(&mut Self) -> bool) -> bool {
        let rip = self.regs.rip;
        let done = carry_out(self);
        if done && self.system.platform.is_tracing() {
            self.trace_emulated(rip);
        }
        done
    }

    /// Enters the guest's handler for an exception. A guest without one ends.
    pub(crate) fn inject(&mut self, vector: u8, error_code: Option<u32>) {
        let platform = &self.system.platform;
        if platform.is_tracing() {
            let cr2 = self.vcpu.cr2();
            let details = [vector.into(), error_code.unwrap_or(0).into(), cr2];
            self.trace(Kind::Exception, self.regs.rip, &details);
        }
        let handler = self.vcpu.state.lock(platform).traps.get(vector);
        if let Err(error) = self.bounce(handler, error_code) {
            self.crash(format_args!(
                "exception {vector} ({}), error code {:#x}, and {error}",
                name(vector),
                error_code.unwrap_or(0),
            ));
        }
    }

    /// Gives the guest the debug exception that an emulated instruction has earned, for causes in DR6.
    pub(crate) fn debug_exception_of(&mut self, causes: u64) {
        self.debug_exception(causes | 0xffff_0ff0);
    }

    fn debug_exception(&mut self, status: u64) {
        self.vcpu.state.lock(&self.system.platform).debug.report(status);
        self.inject(DEBUG, None);
    }

    /// `int n` that the processor let pass because its gate is open to ring 3. A guest without a
    /// handler gets the fault that a closed gate would have raised.
    pub(crate) fn open_gate(&mut self, vector: u8) {
        let handler = self.vcpu.state.lock(&self.system.platform).traps.get(vector);
        if handler.is_set() {
            self.bounce_or_crash(handler, None);
        } else {
            self.regs.rip = self.regs.rip.wrapping_sub(2);
            self.inject(GENERAL_PROTECTION, Some(gate_code(vector)));
        }
    }

    /// `int n` that the processor refused: decided by the guest's own table. The instruction tells
    /// the vector; error codes of emulators have been seen to be wrong.
    fn refused_gate(&mut self, error_code: u32) {
        let at = self.regs.rip;
        let code = self.code_segment();
        let size = code.size;
        let found = soft_interrupt::decode(size, &|offset: u8| self.fetch_byte(code, at, offset));
        let Ok(found) = found else {
            return self.inject(GENERAL_PROTECTION, Some(error_code));
        };
        let handler = self.vcpu.state.lock(&self.system.platform).traps.get(found.vector);
        // All of a guest is in ring 3 to the processor; its kernel counts as ring 1 here.
        let ring = if self.vcpu.in_kernel_mode() { 1 } else { 3 };
        if handler.ring >= ring {
            self.regs.rip = size.next(at, found.length);
            self.bounce_or_crash(handler, None);
        } else {
            self.inject(GENERAL_PROTECTION, Some(found.error_code()));
        }
    }

    /// The guest used the FPU while its virtual CR0.TS was set. The exception clears it, so that
    /// the handler can use the FPU at once.
    fn device_not_available(&mut self) {
        self.vcpu.state.lock(&self.system.platform).task_switched = false;
        self.system.platform.set_task_switched(false);
        self.inject(DEVICE_NOT_AVAILABLE, None);
    }

    fn page_fault(&mut self, exception: Exception) {
        let Exception { address, error_code, .. } = exception;
        if !self.descriptor_fault(address, error_code)
            && !self.emulated(|cx| cx.table_fault(address, error_code))
        {
            self.guest_page_fault(address, error_code);
        }
    }

    /// Gives the guest a page fault. The processor saw ring 3 in any case; the guest is told which
    /// of its own modes it was.
    pub(crate) fn guest_page_fault(&mut self, address: u64, error_code: u32) {
        let user = if self.vcpu.in_kernel_mode() { 0 } else { FAULT_USER };
        let mut code = error_code & !FAULT_USER | user;
        let readable = MACH2PHYS_VIRT_START..MACH2PHYS_VIRT_END;
        if GuestRange::new(address, 1).is_err() && !readable.contains(&address) {
            // What the hypervisor has mapped where is not for guests to find out.
            code &= !FAULT_PRESENT;
        }
        self.vcpu.set_cr2(&self.system.platform, address);
        self.inject(PAGE_FAULT, Some(code));
    }

    /// Gives the guest a general-protection fault.
    pub(crate) fn general_protection(&mut self, error_code: u32) {
        self.inject(GENERAL_PROTECTION, Some(error_code));
    }
}

/// Error code of a fault that names a gate of the interrupt table.
const fn gate_code(vector: u8) -> u32 {
    (vector as u32).wrapping_shl(3) | CODE_GATE
}

/// Whether the processor pushes an error code for the vector.
#[must_use]
pub const fn has_error_code(vector: u8) -> bool {
    matches!(vector, 8 | 10..=14 | 17 | 21)
}

/// What the manuals call a vector.
#[must_use]
pub const fn name(vector: u8) -> &'static str {
    match vector {
        0 => "divide error",
        1 => "debug",
        2 => "non-maskable interrupt",
        3 => "breakpoint",
        4 => "overflow",
        5 => "bound range exceeded",
        6 => "invalid opcode",
        7 => "device not available",
        8 => "double fault",
        10 => "invalid TSS",
        11 => "segment not present",
        12 => "stack-segment fault",
        13 => "general protection",
        14 => "page fault",
        16 => "x87 floating-point error",
        17 => "alignment check",
        18 => "machine check",
        19 => "SIMD floating-point error",
        20 => "virtualization",
        21 => "control protection",
        _ => "no exception",
    }
}
