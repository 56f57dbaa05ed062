//! A vCPU's debug registers: what a guest may put into them, and what the processor gets.
//!
//! A breakpoint on an address of the hypervisor would strike in ring 0, and one on a port could not
//! strike, as ports are emulated; both are kept from the processor. Those on ports strike by emulation, for
//! a guest that has set CR4.DE.

use hypercall_abi::errno::Errno;

use hypercall_abi::layout::{HYPERVISOR_VIRT_END, HYPERVISOR_VIRT_START};

use crate::emulate::control::CR4_DE;
use crate::emulate::width::Width;
use crate::guest_memory::is_canonical;
use crate::platform::Platform;

/// Bits of DR6 that always read as 1.
const STATUS_ONES: u64 = 0xffff_0ff0;
/// Bits of DR6 that always read as 0.
const STATUS_ZEROS: u64 = 1 << 12;
/// DR7: the bit that always reads as 1.
const CONTROL_ONES: u64 = 1 << 10;
/// DR7: bits that always read as 0.
const CONTROL_ZEROS: u64 = 0xd800;
/// DR7: faults on access to debug registers; the hypervisor's alone.
const GENERAL_DETECT: u64 = 1 << 13;
/// DR7: the enable bits of all four breakpoints.
const ENABLES: u64 = 0xff;
/// DR7: a breakpoint's kind is this for ports.
const KIND_PORT: u64 = 2;

/// The debug registers of one vCPU.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DebugRegisters {
    addresses: [u64; 4],
    status: u64,
    control: u64,
    /// The bits of DR7 that enable breakpoints on ports: the processor never has them.
    on_ports: u64,
}

/// What a write to DR7 changes in the processor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Written {
    /// Breakpoint address `number`.
    Address {
        /// 0 to 3.
        number: u8,
        /// Linear address of guest memory.
        address: u64,
    },
    /// The status, which is virtual.
    Status,
    /// The control register gets this value.
    Control(u64),
}

impl Default for DebugRegisters {
    fn default() -> Self {
        Self { addresses: [0; 4], status: STATUS_ONES, control: CONTROL_ONES, on_ports: 0 }
    }
}

impl DebugRegisters {
    /// Sets a register of a vCPU with this CR4.
    ///
    /// # Errors
    ///
    /// - `EPERM`: a breakpoint on an address of the hypervisor's or no address at all; a port breakpoint without
    ///   CR4.DE, or access detection, in DR7.
    /// - `EINVAL`: bits above 31 in DR6 or DR7.
    /// - `ENODEV`: no such register; with CR4.DE there is neither DR4 nor DR5.
    pub fn set(&mut self, register: u64, value: u64, cr4: u64) -> Result<Written, Errno> {
        match register {
            4 | 5 if cr4 & CR4_DE != 0 => Err(Errno::ENODEV),
            0..=3 => self.set_address(register, value),
            4 | 6 => {
                u32::try_from(value).map_err(|_| Errno::EINVAL)?;
                self.status = value & !STATUS_ZEROS | STATUS_ONES;
                Ok(Written::Status)
            }
            5 | 7 => self.set_control(value, cr4),
            _ => Err(Errno::ENODEV),
        }
    }

    /// Reads a register of a vCPU with this CR4.
    ///
    /// # Errors
    ///
    /// `ENODEV`: no such register.
    pub fn get(&self, register: u64, cr4: u64) -> Result<u64, Errno> {
        match register {
            4 | 5 if cr4 & CR4_DE != 0 => Err(Errno::ENODEV),
            4 | 6 => Ok(self.status),
            5 | 7 => Ok(self.control | self.on_ports),
            _ => usize::try_from(register)
                .ok()
                .and_then(|at| self.addresses.get(at).copied())
                .ok_or(Errno::ENODEV),
        }
    }

    /// Adds what the processor reported with a debug exception.
    pub const fn report(&mut self, status: u64) {
        // The bits that read as 1 are active when they are 0.
        self.status |= status & !STATUS_ONES;
        self.status &= status | !STATUS_ONES;
    }

    /// The causes in DR6 of the breakpoints on one of these ports.
    #[must_use]
    pub fn on_port(&self, port: u16, width: Width) -> u64 {
        let (first, end) = (u64::from(port), u64::from(port).saturating_add(width.bytes() as u64));
        let strikes = |(number, address): (u32, u64)| {
            let length =
                match self.control.wrapping_shr(number.wrapping_mul(4).wrapping_add(18)) & 3 {
                    0 => 1,
                    1 => 2,
                    2 => 8,
                    _ => 4_u64,
                };
            let start = address & !length.wrapping_sub(1);
            let enabled = self.on_ports.wrapping_shr(number.wrapping_mul(2)) & 3 != 0;
            enabled && start < end && start.saturating_add(length) > first
        };
        let struck = (0..).zip(self.addresses).filter(|&at| strikes(at));
        struck.fold(0, |causes, (number, _)| causes | 1_u64.wrapping_shl(number))
    }

    /// Gives the processor all of them.
    pub(crate) fn load(&self, platform: &impl Platform) {
        if self.control & ENABLES != 0 {
            for (number, address) in (0..).zip(self.addresses) {
                platform.set_breakpoint(number, address);
            }
        }
        platform.set_debug_control(self.control);
    }

    fn set_address(&mut self, register: u64, value: u64) -> Result<Written, Errno> {
        let is_guest =
            is_canonical(value) && !(HYPERVISOR_VIRT_START..HYPERVISOR_VIRT_END).contains(&value);
        let slot = usize::try_from(register).ok().and_then(|at| self.addresses.get_mut(at));
        match (slot, u8::try_from(register)) {
            (Some(slot), Ok(number)) if is_guest => {
                *slot = value;
                Ok(Written::Address { number, address: value })
            }
            _ => Err(Errno::EPERM),
        }
    }

    fn set_control(&mut self, value: u64, cr4: u64) -> Result<Written, Errno> {
        u32::try_from(value).map_err(|_| Errno::EINVAL)?;
        let value = value & !CONTROL_ZEROS | CONTROL_ONES;
        if value & GENERAL_DETECT != 0 {
            return Err(Errno::EPERM);
        }
        let of_port = |n: &u32| value.wrapping_shr(16_u32.wrapping_add(n << 2)) & 3 == KIND_PORT;
        let ports = (0..4_u32).filter(of_port).fold(0, |bits, n| bits | 3_u64.wrapping_shl(n << 1));
        if value & ENABLES != 0 && ports != 0 && cr4 & CR4_DE == 0 {
            return Err(Errno::EPERM);
        }
        self.on_ports = value & ports;
        self.control = value & !ports;
        Ok(Written::Control(self.control))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYPERVISOR: u64 = 0xffff_8200_0000_0000;

    #[test]
    fn breakpoints_stay_out_of_the_hypervisor() {
        let mut registers = DebugRegisters::default();
        for number in 0..4 {
            assert_eq!(registers.set(number, HYPERVISOR, 0), Err(Errno::EPERM));
            assert!(registers.set(number, u64::MAX, 0).is_ok());
            assert_eq!(registers.set(number, 0x8000_0000_0000, 0), Err(Errno::EPERM));
            assert!(registers.set(number, 0x1000, 0).is_ok());
            assert_eq!(registers.get(number, 0), Ok(0x1000));
        }
    }

    #[test]
    fn control_keeps_the_hypervisors_bits() {
        let mut registers = DebugRegisters::default();
        assert_eq!(registers.set(7, 1 << 13, 0), Err(Errno::EPERM));
        assert_eq!(registers.set(7, 1 << 32, 0), Err(Errno::EINVAL));
        assert_eq!(registers.set(7, 1 | 2 << 16, 0), Err(Errno::EPERM));
        assert_eq!(registers.set(7, 0xd801, 0), Ok(Written::Control(0x401)));
        assert_eq!(registers.get(7, 0), Ok(0x401));
    }

    #[test]
    fn status_collects_what_is_reported() {
        let mut registers = DebugRegisters::default();
        registers.report(0xffff_0ff1);
        registers.report(0xffff_4ff0);
        assert_eq!(registers.get(6, 0), Ok(0xffff_4ff1));
        assert!(registers.set(6, 0, 0).is_ok());
        assert_eq!(registers.get(6, 0), Ok(0xffff_0ff0));
    }

    #[test]
    fn ports_strike_by_emulation() {
        let mut registers = DebugRegisters::default();
        let number_1 = 0xc | 0x66 << 20;
        assert_eq!(registers.set(7, number_1, 0), Err(Errno::EPERM));
        assert_eq!(registers.set(7, number_1, CR4_DE), Ok(Written::Control(0x660_0400)));
        assert_eq!(registers.get(7, CR4_DE), Ok(number_1 | 0x400));
        assert!(registers.set(1, 0x81, CR4_DE).is_ok());
        for (port, width, causes) in
            [(0x7f, Width::B1, 0), (0x7f, Width::B2, 2), (0x81, Width::B1, 2), (0x82, Width::B4, 0)]
        {
            assert_eq!(registers.on_port(port, width), causes, "{port:#x}");
        }
        assert_eq!(registers.set(5, 0, CR4_DE), Err(Errno::ENODEV));
        assert_eq!(registers.get(4, CR4_DE), Err(Errno::ENODEV));
    }

    #[test]
    fn there_are_eight() {
        let mut registers = DebugRegisters::default();
        assert_eq!(registers.set(8, 0, 0), Err(Errno::ENODEV));
        assert_eq!(registers.get(8, 0), Err(Errno::ENODEV));
        assert_eq!(registers.get(1 << 32, 0), Err(Errno::ENODEV));
    }
}
