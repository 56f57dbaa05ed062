//! What is behind a port for a domain: the machine, or what the kernel stands in for.
//!
//! An access that is the domain's as a whole reaches the machine as it is. Any other is taken apart,
//! and each piece has its own answer: measured on Xen 4.17. The kernel stands in for PCI configuration
//! space, for the selector of the clock, which every domain has, and for the channel of the timer chip
//! that makes sounds, which is the initial domain's.

use crate::dispatch::low_u32;
use crate::domain::Domain;
use crate::emulate::width::Width;
use crate::platform::Platform;
use crate::system::System;

/// The clock's selector, and behind it what that selects.
const CLOCK: u16 = 0x70;
const CLOCK_DATA: u16 = 0x71;
/// The timer chip's channel that makes sounds, its command register, and what switches sounds on.
const CHANNEL: u16 = 0x42;
const COMMAND: u16 = 0x43;
const GATE: u16 = 0x61;
/// Bits of [`GATE`] that a guest may change.
const GATE_BITS: u32 = 3;

impl<P: Platform> System<P> {
    /// A domain reads a port; ones where there is nothing for it.
    pub(crate) fn port_in(&self, domain: &Domain<P>, port: u16, width: Width) -> u32 {
        if self.has_ports(domain, port, width) {
            return self.platform.port_in(port, width);
        }
        let mut value = 0;
        self.in_pieces(domain, port, width, |at, piece, shift| {
            let read = at.map_or(u32::MAX, |at| self.piece_in(domain, at, piece));
            value |= (read & low_u32(piece.mask())).wrapping_shl(shift);
        });
        value
    }

    /// A domain writes a port; nothing happens where there is nothing for it.
    pub(crate) fn port_out(&self, domain: &Domain<P>, port: u16, width: Width, value: u32) {
        if self.has_ports(domain, port, width) {
            return self.platform.port_out(port, width, value);
        }
        self.in_pieces(domain, port, width, |at, piece, shift| {
            if let Some(at) = at {
                let value = value.wrapping_shr(shift) & low_u32(piece.mask());
                self.piece_out(domain, at, piece, value);
            }
        });
    }

    /// Takes an access apart: `each` gets a port, unless that is behind the last one, the width of the
    /// piece, and how far up its bits are.
    fn in_pieces(
        &self,
        domain: &Domain<P>,
        port: u16,
        width: Width,
        mut each: impl FnMut(Option<u16>, Width, u32),
    ) {
        let mut done: u16 = 0;
        while usize::from(done) < width.bytes() {
            let at = port.checked_add(done);
            let left = width.bytes().saturating_sub(done.into());
            let piece = at.map_or(Width::B1, |at| self.piece(domain, at, left));
            each(at, piece, u32::from(done).wrapping_mul(8));
            done = done.saturating_add(u16::try_from(piece.bytes()).unwrap_or(1));
        }
    }

    /// The width of the first piece of an access.
    fn piece(&self, domain: &Domain<P>, port: u16, left: usize) -> Width {
        let in_register = usize::from(4_u16.saturating_sub(port & 3));
        match port {
            CLOCK | CLOCK_DATA => Width::B1,
            0xcf8 if left == 4 => Width::B4,
            0xcfc..=0xcff => match left.min(in_register) {
                4 => Width::B4,
                2 | 3 => Width::B2,
                _ => Width::B1,
            },
            _ if left > 1 && port & 1 == 0 && self.has_ports(domain, port, Width::B2) => Width::B2,
            _ => Width::B1,
        }
    }

    fn piece_in(&self, domain: &Domain<P>, port: u16, width: Width) -> u32 {
        let platform = &self.platform;
        match port {
            CLOCK => u32::from(*domain.clock_selector.lock(platform)),
            CLOCK_DATA => self.with_clock(domain, || platform.port_in(port, width)),
            CHANNEL | COMMAND | GATE if !domain.is_privileged() => u32::MAX,
            COMMAND => 0,
            CHANNEL | GATE => platform.port_in(port, width),
            _ => self.config_in(domain, port, width).unwrap_or_else(|| {
                let has = self.has_ports(domain, port, width);
                if has { platform.port_in(port, width) } else { u32::MAX }
            }),
        }
    }

    fn piece_out(&self, domain: &Domain<P>, port: u16, width: Width, value: u32) {
        let platform = &self.platform;
        match port {
            CLOCK => {
                let [selector, ..] = value.to_le_bytes();
                *domain.clock_selector.lock(platform) = selector;
            }
            CLOCK_DATA => {
                self.with_clock(domain, || {
                    platform.port_out(port, width, value);
                    0
                });
            }
            CHANNEL | COMMAND | GATE if !domain.is_privileged() => {}
            CHANNEL => platform.port_out(port, width, value),
            COMMAND => self.command_timer(value),
            GATE => {
                let kept = platform.port_in(port, width) & !GATE_BITS;
                platform.port_out(port, width, kept | value & GATE_BITS);
            }
            _ if self.config_out(domain, port, width, value).is_some() => {}
            _ if self.has_ports(domain, port, width) => platform.port_out(port, width, value),
            _ => {}
        }
    }

    /// Does something with the register of the clock that a domain selected, if it has the clock.
    fn with_clock(&self, domain: &Domain<P>, access: impl FnOnce() -> u32) -> u32 {
        let platform = &self.platform;
        if !domain.io_ports.lock(platform).contains(CLOCK.into(), CLOCK_DATA.into()) {
            return u32::MAX;
        }
        // Held until both ports have been used.
        let selector = domain.clock_selector.lock(platform);
        platform.port_out(CLOCK, Width::B1, u32::from(*selector & 0x7f));
        access()
    }

    /// The initial domain commands the timer chip: what is not about its channel has no effect.
    fn command_timer(&self, command: u32) {
        /// Reads back channels, of which bit 3 chooses ours and bits 1 and 2 others.
        const READ_BACK: u32 = 3;
        const OURS: u32 = 2;
        match command >> 6 & 3 {
            OURS => self.platform.port_out(COMMAND, Width::B1, command),
            READ_BACK if command & 8 != 0 => {
                self.platform.port_out(COMMAND, Width::B1, command & 0xf8);
            }
            _ => {}
        }
    }

    /// Whether an access reaches the machine as it is: the domain has all its ports, and the kernel
    /// stands in for none.
    pub(crate) fn has_ports(&self, domain: &Domain<P>, port: u16, width: Width) -> bool {
        let first = u64::from(port);
        let last = first.saturating_add(width.bytes() as u64).saturating_sub(1);
        let clock = first <= CLOCK_DATA.into() && last >= CLOCK.into();
        let selects = port == 0xcf8 && width == Width::B4;
        !clock
            && !selects
            && domain.io_ports.lock(&self.platform).contains(first, last)
            && self.ports.may_pass(port, width)
    }
}
