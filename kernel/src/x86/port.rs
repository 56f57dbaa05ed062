//! I/O ports of the machine, for the domain that has the devices.

use kernel_core::emulate::width::Width;
use x86_64::instructions::port::Port;

/// Reads a port. The core has decided that it may be read.
pub(super) fn read(port: u16, width: Width) -> u32 {
    match width {
        // SAFETY: not one of the kernel's own ports; what a device does with its memory access is
        // the privileged domain's responsibility.
        Width::B1 => u32::from(unsafe { Port::<u8>::new(port).read() }),
        // SAFETY: as above.
        Width::B2 => u32::from(unsafe { Port::<u16>::new(port).read() }),
        // SAFETY: as above.
        Width::B4 | Width::B8 => unsafe { Port::<u32>::new(port).read() },
    }
}

/// Writes a port. The core has decided that it may be written.
pub(super) fn write(port: u16, width: Width, value: u32) {
    let [a, b, ..] = value.to_le_bytes();
    match width {
        // SAFETY: as for reading.
        Width::B1 => unsafe { Port::new(port).write(a) },
        // SAFETY: as for reading.
        Width::B2 => unsafe { Port::new(port).write(u16::from_le_bytes([a, b])) },
        // SAFETY: as for reading.
        Width::B4 | Width::B8 => unsafe { Port::new(port).write(value) },
    }
}
