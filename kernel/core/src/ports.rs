//! Which I/O ports the privileged domain reaches, and which are the kernel's own.

use crate::emulate::width::Width;

/// Ranges of ports, first and last, that the kernel keeps on every PC: the interrupt controllers
/// and their trigger modes, and the timer chip with the port that gates it.
const ALWAYS: [(u16, u16); 5] =
    [(0x20, 0x21), (0xa0, 0xa1), (0x40, 0x43), (0x61, 0x61), (0x4d0, 0x4d1)];

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
        let bytes = u16::try_from(width.bytes()).unwrap_or(u16::MAX);
        let Some(last) = port.checked_add(bytes.saturating_sub(1)) else { return false };
        let console = self.console.map(|first| (first, first.saturating_add(SERIAL - 1)));
        !ALWAYS.into_iter().chain(console).any(|(from, to)| port <= to && last >= from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_ports_are_kept() {
        let ports = Ports { console: Some(0x3f8) };
        for port in [0x20, 0xa1, 0x40, 0x43, 0x61, 0x3f8, 0x3ff, 0x4d1] {
            assert!(!ports.may_pass(port, Width::B1), "{port:#x}");
        }
        for port in [0x1f, 0x22, 0x80, 0x2f8, 0x3f7, 0x400, 0xcf8] {
            assert!(ports.may_pass(port, Width::B1), "{port:#x}");
        }
        // Wide accesses that reach into a kept range from below, and over the end of all ports.
        assert!(!ports.may_pass(0x1f, Width::B2));
        assert!(!ports.may_pass(0x3f5, Width::B4));
        assert!(!ports.may_pass(0xffff, Width::B2));
        assert!(ports.may_pass(0xffff, Width::B1));
    }
}
