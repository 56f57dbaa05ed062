//! I/O ports.

use core::arch::asm;

use crate::device::{DeviceError, Registers};
use crate::lock::Yielding;
use crate::raw::privileged::set_io_level;

/// How many ports there are.
const PORTS: usize = 1 << 16;

/// Which ports are somebody's, a bit for each.
static CLAIMED: Yielding<[u64; PORTS / 64]> = Yielding::new([0; PORTS / 64]);

/// A range of I/O ports, which is nobody else's. Dropping it gives it back.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{device::{DeviceError, Ports, Registers}};
/// # fn example() -> Result<(), DeviceError> {
/// // SAFETY: no port of the second serial line reaches memory.
/// let serial = unsafe { Ports::claim(0x2f8, 8) }?;
/// serial.write8(0, b'x');
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Ports {
    first: u16,
    count: u16,
}

impl Ports {
    /// Claims `count` ports from `first` on, for the virtual CPU that executes this: an access on
    /// another one faults.
    ///
    /// # Errors
    /// [`DeviceError::Range`] if there are not so many, [`DeviceError::Claimed`] if one is
    /// claimed, [`DeviceError::Refused`] if the hypervisor gives no ports.
    ///
    /// # Safety
    /// What is written to the ports must make no device read or write memory but memory for that:
    /// see the module [`crate::device`].
    pub unsafe fn claim(first: u16, count: u16) -> Result<Self, DeviceError> {
        let ports = usize::from(first)..usize::from(first) + usize::from(count);
        if ports.is_empty() || ports.end > PORTS {
            return Err(DeviceError::Range);
        }
        set_io_level(1)?;
        let mut claimed = CLAIMED.lock();
        if ports.clone().any(|port| claimed[port / 64] >> (port % 64) & 1 != 0) {
            return Err(DeviceError::Claimed);
        }
        ports.for_each(|port| claimed[port / 64] |= 1 << (port % 64));
        Ok(Self { first, count })
    }

    fn port(&self, offset: u64, width: u64) -> u16 {
        assert!(offset + width <= u64::from(self.count), "port {offset} of {}", self.count);
        #[expect(clippy::cast_possible_truncation, reason = "less than the count")]
        let offset = offset as u16;
        self.first + offset
    }
}

impl Drop for Ports {
    fn drop(&mut self) {
        let mut claimed = CLAIMED.lock();
        let ports = usize::from(self.first)..usize::from(self.first) + usize::from(self.count);
        ports.for_each(|port| claimed[port / 64] &= !(1 << (port % 64)));
    }
}

/// Reads or writes by one instruction.
macro_rules! access {
    ($read:ident $write:ident $type:ty, $in:literal, $out:literal, $register:tt) => {
        fn $read(&self, offset: u64) -> $type {
            let port = self.port(offset, size_of::<$type>() as u64);
            let value: $type;
            // SAFETY: one of this value's ports, whose claimer has promised that it is harmless.
            unsafe { asm!($in, in("dx") port, out($register) value, options(nostack)) };
            value
        }

        fn $write(&self, offset: u64, value: $type) {
            let port = self.port(offset, size_of::<$type>() as u64);
            // SAFETY: as above. Memory that was written before is written by then.
            unsafe { asm!($out, in("dx") port, in($register) value, options(nostack)) };
        }
    };
}

impl Registers for Ports {
    fn length(&self) -> u64 {
        self.count.into()
    }

    access!(read8 write8 u8, "in al, dx", "out dx, al", "al");
    access!(read16 write16 u16, "in ax, dx", "out dx, ax", "ax");
    access!(read32 write32 u32, "in eax, dx", "out dx, eax", "eax");

    /// One instruction, which the hypervisor carries out for a while each time it is asked.
    fn write8s(&self, offset: u64, bytes: &[u8]) {
        let port = self.port(offset, 1);
        // SAFETY: as above; what is read are the bytes, forwards, as the flag of direction is clear.
        unsafe {
            asm!(
                "rep outsb",
                in("dx") port,
                inout("rcx") bytes.len() => _,
                inout("rsi") bytes.as_ptr() => _,
                options(nostack, preserves_flags),
            );
        }
    }
}
