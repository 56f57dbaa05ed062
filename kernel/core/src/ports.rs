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
}

/// Registers of a serial port.
const SERIAL: u16 = 8;

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
        let console = self.console.map(|first| (first, first.saturating_add(SERIAL - 1)));
        let mut kept = ALWAYS.into_iter().chain(console);
        kept.any(|(from, to)| first <= to.into() && last >= from.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_ports_are_kept() {
        let ports = Ports { console: Some(0x3f8) };
        for port in [0x20, 0xa1, 0x40, 0x43, 0x61, 0x3f8, 0x3ff, 0xcfd] {
            assert!(!ports.may_pass(port, Width::B1), "{port:#x}");
        }
        for port in [0x1f, 0x22, 0x80, 0x2f8, 0x3f7, 0x400, 0x4d0, 0xcf8] {
            assert!(ports.may_pass(port, Width::B1), "{port:#x}");
        }
        // Wide accesses that reach into a kept range from below, and over the end of all ports.
        assert!(!ports.may_pass(0x1f, Width::B2));
        assert!(!ports.may_pass(0x3f5, Width::B4));
        assert!(!ports.may_pass(0xffff, Width::B2));
        assert!(ports.may_pass(0xffff, Width::B1));
    }
}
