//! Which I/O ports are the kernel's own; the others a domain may be given.

use crate::emulate::width::Width;

/// Ranges of ports, first and last, that the kernel keeps on every PC: the interrupt controllers, the
/// timer chip with the port that gates it, and the registers of PCI configuration space.
const ALWAYS: [(u16, u16); 5] =
    [(0x20, 0x21), (0xa0, 0xa1), (0x40, 0x43), (0x61, 0x61), (0xcfc, 0xcff)];

/// Ports of devices that the kernel drives itself.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Ports {
    /// The console's serial port: its first register.
    pub console: Option<u16>,
    /// ACPI's timer.
    pub timer: Option<u16>,
}

/// The last register of a serial port, from its first.
const SERIAL: u16 = 7;
/// The last byte of ACPI's timer, from its first.
const TIMER: u16 = 3;

impl Ports {
    /// Whether an access may reach the machine: none of its ports is the kernel's.
    #[must_use]
    pub fn may_pass(&self, port: u16, width: Width) -> bool {
        let bytes = u32::try_from(width.bytes()).unwrap_or(u32::MAX);
        let last = u32::from(port).saturating_add(bytes.saturating_sub(1));
        last <= u32::from(u16::MAX) && !self.keeps(port.into(), last)
    }

    /// Whether one of the ports from `first` to `last` is the kernel's.
    #[must_use]
    pub fn keeps(&self, first: u32, last: u32) -> bool {
        let device = |first: Option<u16>, more| first.map(|it| (it, it.saturating_add(more)));
        let own = [device(self.console, SERIAL), device(self.timer, TIMER)];
        let mut kept = ALWAYS.into_iter().chain(own.into_iter().flatten());
        kept.any(|(from, to)| first <= to.into() && last >= from.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_ports_are_kept() {
        let ports = Ports { console: Some(0x3f8), timer: Some(0x608) };
        for port in [0x20, 0xa1, 0x40, 0x43, 0x61, 0x3f8, 0x3ff, 0x608, 0x60b, 0xcfd] {
            assert!(!ports.may_pass(port, Width::B1), "{port:#x}");
        }
        for port in [0x1f, 0x22, 0x80, 0x2f8, 0x3f7, 0x400, 0x4d0, 0x607, 0x60c, 0xcf8] {
            assert!(ports.may_pass(port, Width::B1), "{port:#x}");
        }
        // Wide accesses that reach into a kept range from below, and over the end of all ports.
        assert!(!ports.may_pass(0x1f, Width::B2));
        assert!(!ports.may_pass(0x3f5, Width::B4));
        assert!(!ports.may_pass(0xffff, Width::B2));
        assert!(ports.may_pass(0xffff, Width::B1));
    }
}
