//! Registers of devices in memory.

/// Registers that are mapped for good, uncached, in [`super::layout::DEVICES_BASE`]'s slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registers {
    base: u64,
    length: u64,
}

impl Registers {
    /// The registers at physical `start`, `length` bytes.
    ///
    /// `None` when memory for page tables is exhausted.
    pub(crate) fn map(memory: &mut super::memory::Memory, start: u64, length: u64) -> Option<Self> {
        let base = super::paging::map_device(memory, start, length)?;
        Some(Self { base, length })
    }

    /// Reads the 32-bit register at `offset` bytes.
    pub(crate) fn read(&self, offset: u64) -> u32 {
        let pointer = self.at(offset, 4) as *const u32;
        // SAFETY: mapped for good; the drivers here read no register whose reading does harm.
        unsafe { pointer.read_volatile() }
    }

    /// Writes the 32-bit register at `offset` bytes.
    pub(crate) fn write(&self, offset: u64, value: u32) {
        let pointer = self.at(offset, 4) as *mut u32;
        // SAFETY: mapped for good; an interrupt controller's registers do not touch memory.
        unsafe { pointer.write_volatile(value) };
    }

    /// Writes the byte at `offset`.
    pub(crate) fn write_byte(&self, offset: u64, value: u8) {
        let pointer = self.at(offset, 1) as *mut u8;
        // SAFETY: mapped for good; the reset register ends everything else.
        unsafe { pointer.write_volatile(value) };
    }

    fn at(&self, offset: u64, size: u64) -> u64 {
        assert!(offset + size <= self.length, "register beyond the device");
        self.base + offset
    }
}
