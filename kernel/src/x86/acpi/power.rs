//! Power-off and reset, as the FADT and the DSDT's `\_S5_` package describe them.

use crate::x86::phys::Fields;

/// How to power off and reset the machine.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Power {
    /// I/O ports of the power control registers (0: none) and the sleep type each gets for
    /// "off", three bits.
    pub control_ports: [(u16, u8); 2],
    /// The reset register.
    pub reset: Option<Reset>,
}

/// The reset register.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reset {
    /// An I/O port.
    Port {
        /// The port.
        port: u16,
        /// What to write there.
        value: u8,
    },
    /// A byte in memory.
    Memory {
        /// Its physical address.
        address: u64,
        /// What to write there.
        value: u8,
    },
}

/// FADT flag: there is a reset register.
const HAS_RESET: u32 = 1 << 10;
const SPACE_MEMORY: u8 = 0;
const SPACE_PORT: u8 = 1;

/// Reads the FADT and the DSDT it points to.
pub(super) fn read(fadt: &'static [u8]) -> Power {
    let port = |at: usize, wide: usize| {
        let narrow = fadt.u32(at).filter(|port| *port != 0).map(u64::from);
        let found = narrow.or_else(|| fadt.u64(wide + 4).filter(|_| fadt.u8(wide) == Some(1)));
        found.and_then(|port| u16::try_from(port).ok()).unwrap_or(0)
    };
    let wide = fadt.u64(140).filter(|address| *address != 0);
    let dsdt = wide.or_else(|| fadt.u32(40).map(u64::from)).and_then(super::table);
    // QEMU's machines sleep by type 0 (PC with PIIX4) or say so in their DSDT.
    let (first, second) = dsdt.and_then(sleep_types).unwrap_or((0, 0));
    Power { control_ports: [(port(64, 172), first), (port(68, 184), second)], reset: reset(fadt) }
}

fn reset(fadt: &[u8]) -> Option<Reset> {
    let value = fadt.u8(128)?;
    let address = fadt.u64(120)?;
    match fadt.u8(116).filter(|_| fadt.u32(112).unwrap_or(0) & HAS_RESET != 0)? {
        SPACE_PORT => u16::try_from(address).ok().map(|port| Reset::Port { port, value }),
        SPACE_MEMORY => Some(Reset::Memory { address, value }),
        _ => None,
    }
}

/// The two sleep types of `Name (_S5_, Package () { a, b, ... })`.
///
/// Found by its bytes, without an interpreter: the name, the package opcode (0x12), a length of one
/// to four bytes, the number of elements, then integers as bytes (0x0a n), Zero or One.
fn sleep_types(dsdt: &'static [u8]) -> Option<(u8, u8)> {
    let name = dsdt.windows(5).position(|bytes| bytes == b"_S5_\x12")?;
    let package = dsdt.get(name + 5..)?;
    let length_bytes = usize::from(package.u8(0)? >> 6) + 1;
    let mut elements = package.get(length_bytes + 1..)?;
    let mut next = || {
        let (value, used) = match elements.u8(0)? {
            0x0a => (elements.u8(1)?, 2),
            small @ 0..=1 => (small, 1),
            _ => return None,
        };
        elements = elements.get(used..)?;
        Some(value)
    };
    let first = next()?;
    Some((first, next().unwrap_or(0)))
}
