//! PCI devices, as far as they send messages: what is known of them, and how their messages are
//! programmed.
//!
//! The device's own driver, in the initial domain, switches messages on and off as a whole, in the
//! device's configuration space; where they go, and each one's mask, is the kernel's to say. The pages
//! of a table in the device's memory (MSI-X) can be mapped writable by nobody as long as one of its
//! entries is in use; what was mapped before stays, as on Xen.

use hypercall_abi::errno::Errno;
use hypercall_abi::types::Mfn;

use super::Message;
use super::config::{read, write};
use crate::emulate::width::Width;
use crate::frames::DeviceAccess;
use crate::mm::{DEVICE_LIMIT, DomainMemory};
use crate::platform::Platform;

/// Devices that are looked after.
const DEVICES: usize = 256;

const COMMAND: u8 = 4;
const STATUS: u8 = 6;
const BASE_ADDRESSES: u8 = 0x10;
const CAPABILITIES: u8 = 0x34;
const HEADER: u8 = 0x0e;
/// Command: the device's memory is switched on.
const HAS_MEMORY: u32 = 1 << 1;
/// Command: the device may access memory, and so send messages.
const IS_MASTER: u32 = 1 << 2;
/// Command: the device's line is off.
const NO_LINE: u32 = 1 << 10;
/// Header type: the device has more functions than the first.
const HAS_FUNCTIONS: u32 = 1 << 7;
/// Status: there is a list of capabilities.
const HAS_LIST: u32 = 1 << 4;
const MSI: u32 = 5;
const MSIX: u32 = 0x11;
/// Capabilities that fit the space they are in: a list that is longer is a circle.
const MOST_CAPABILITIES: usize = 48;

/// MSI: messages are switched on.
const MSI_ON: u32 = 1;
/// MSI: how many messages.
const MSI_COUNT: u32 = 7 << 4;
/// MSI: the address has 64 bits.
const MSI_WIDE: u32 = 1 << 7;
/// MSI: each message has a mask.
const MSI_MASKS: u32 = 1 << 8;
/// MSI-X: messages are switched on.
const TABLE_ON: u32 = 1 << 15;
/// MSI-X: all are masked.
const TABLE_MASKED: u32 = 1 << 14;
/// MSI-X: entries of the table, minus 1.
const TABLE_SIZE: u32 = 0x7ff;
/// Length of an entry. Unit: bytes.
const ENTRY: u64 = 16;

/// A device, as PCI names it: device and function in the lower byte, bus above, in a segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Function {
    /// The segment; configuration space is reached in segment 0 alone.
    pub segment: u16,
    /// Bus, device and function.
    pub bdf: u16,
}

/// An entry of a device's table of messages (MSI-X).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Table {
    /// Which.
    pub entry: u32,
    /// Machine address of the memory that the table is in, if the device does not say.
    pub base: u64,
}

/// Where an interrupt comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Source {
    /// A line.
    Line(u32),
    /// A message.
    Message(MessageSource),
}

/// A message of a device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct MessageSource {
    bdf: u16,
    /// Where its capability is.
    capability: u8,
    /// The machine address of its entry in the device's table; 0: it is in the capability.
    entry: u64,
}

/// What is known of a device.
#[derive(Clone, Copy, Debug)]
struct Device {
    function: Function,
    msi: Option<u8>,
    /// Length of that capability, if its messages have masks; else 0. Unit: bytes.
    masked_length: u8,
    table: Option<u8>,
    /// Messages of the capability that are in use.
    msi_uses: u16,
    /// Entries of the table that are in use, or 1: it is prepared.
    table_uses: u16,
    /// The table's frames, and those of its pending bits: first and last.
    frames: [(u64, u64); 2],
}

/// The devices that the initial domain reported.
#[derive(Debug)]
pub(super) struct Devices(heapless::Vec<Device, DEVICES>);

impl Devices {
    pub(super) const fn new() -> Self {
        Self(heapless::Vec::new())
    }

    pub(super) fn knows(&self, function: Function) -> bool {
        self.0.iter().any(|device| device.function == function)
    }

    fn find(&mut self, function: Function) -> Result<&mut Device, Errno> {
        self.0.iter_mut().find(|device| device.function == function).ok_or(Errno::ENODEV)
    }

    pub(super) fn add(
        &mut self,
        platform: &impl Platform,
        function: Function,
    ) -> Result<(), Errno> {
        if self.knows(function) {
            return Ok(());
        }
        let find =
            |wanted| (function.segment == 0).then(|| capability(platform, function.bdf, wanted));
        let msi = find(MSI).flatten();
        let device = Device {
            function,
            msi,
            masked_length: msi.map_or(0, |at| masked_length(platform, function.bdf, at)),
            table: find(MSIX).flatten(),
            msi_uses: 0,
            table_uses: 0,
            frames: [(0, 0); 2],
        };
        self.0.push(device).map_err(|_| Errno::ENOMEM)
    }

    pub(super) fn remove(
        &mut self,
        platform: &impl Platform,
        function: Function,
    ) -> Result<(), Errno> {
        let at = self.0.iter().position(|device| device.function == function);
        let device = self.0.swap_remove(at.ok_or(Errno::ENODEV)?);
        if let Some(at) = device.msi {
            clear(platform, function.bdf, at, MSI_ON);
        }
        if let Some(at) = device.table {
            clear(platform, function.bdf, at, TABLE_ON);
        }
        device.release(platform);
        Ok(())
    }

    /// Programs a message of a device, masked if it can be masked.
    pub(super) fn begin(
        &mut self,
        platform: &impl Platform,
        memory: &DomainMemory,
        function: Function,
        table: Option<Table>,
        message: Message,
    ) -> Result<MessageSource, Errno> {
        let device = self.find(function)?;
        let source = match table {
            None => device.begin_msi(platform)?,
            Some(table) => device.begin_entry(platform, memory, table)?,
        };
        if let Err(error) = source.restore(platform, message, false) {
            self.end(platform, source);
            return Err(error);
        }
        Ok(source)
    }

    /// A message of a device is no longer in use.
    pub(super) fn end(&mut self, platform: &impl Platform, source: MessageSource) {
        source.set_masked(platform);
        let function = Function { segment: 0, bdf: source.bdf };
        let Ok(device) = self.find(function) else { return };
        if source.entry == 0 {
            device.msi_uses = device.msi_uses.saturating_sub(1);
            clear(platform, source.bdf, source.capability, MSI_ON);
        } else {
            device.end_table(platform);
        }
    }

    /// Takes away the table of a device, or ends that.
    pub(super) fn prepare(
        &mut self,
        platform: &impl Platform,
        memory: &DomainMemory,
        function: Function,
        end: bool,
    ) -> Result<(), Errno> {
        let device = self.find(function)?;
        let at = device.table.ok_or(Errno::ENODEV)?;
        if device.table_uses != u16::from(end) {
            return Err(Errno::EBUSY);
        }
        if end {
            device.end_table(platform);
            return Ok(());
        }
        device.take_table(platform, memory, at, 0).map(|_| ())
    }

    /// Whether a guest's write to a device's configuration space is let through: switching messages on
    /// and off is, and whatever concerns no message that the kernel masks.
    pub(super) fn allow(&self, bdf: u16, register: u8, width: Width) -> bool {
        let function = Function { segment: 0, bdf };
        let Some(device) = self.0.iter().find(|device| device.function == function) else {
            return true;
        };
        let inside = |at: u8, length: u8| (at..at.saturating_add(length)).contains(&register);
        let control = |at: u8| register == at.saturating_add(2) && width == Width::B2;
        match (device.table, device.msi.filter(|_| device.msi_uses != 0)) {
            (Some(at), _) if inside(at, 12) => control(at),
            (_, Some(at)) if inside(at, device.masked_length) => control(at),
            _ => true,
        }
    }
}

impl Device {
    fn begin_msi(&mut self, platform: &impl Platform) -> Result<MessageSource, Errno> {
        let at = self.msi.ok_or(Errno::ENODEV)?;
        if self.table_uses != 0 {
            return Err(Errno::EBUSY);
        }
        clear(platform, self.function.bdf, at, MSI_ON | MSI_COUNT);
        self.msi_uses = self.msi_uses.saturating_add(1);
        Ok(MessageSource { bdf: self.function.bdf, capability: at, entry: 0 })
    }

    fn begin_entry(
        &mut self,
        platform: &impl Platform,
        memory: &DomainMemory,
        table: Table,
    ) -> Result<MessageSource, Errno> {
        let at = self.table.ok_or(Errno::ENODEV)?;
        if self.msi_uses != 0 {
            return Err(Errno::EBUSY);
        }
        let entries = (read(platform, self.function.bdf, at.saturating_add(2), Width::B2)
            & TABLE_SIZE)
            .saturating_add(1);
        if table.entry >= entries {
            return Err(Errno::EINVAL);
        }
        let start = self.take_table(platform, memory, at, table.base)?;
        let entry = start.saturating_add(u64::from(table.entry).saturating_mul(ENTRY));
        // A table that was moved begins in frames that were looked at, but may end behind them.
        let [(_, last), _] = self.frames;
        if entry.saturating_add(ENTRY - 1) >> 12 > last {
            self.end_table(platform);
            return Err(Errno::ENXIO);
        }
        Ok(MessageSource { bdf: self.function.bdf, capability: at, entry })
    }

    /// One more use of the table: its machine address. With the first, guests can no longer map it
    /// writable.
    fn take_table(
        &mut self,
        platform: &impl Platform,
        memory: &DomainMemory,
        at: u8,
        base: u64,
    ) -> Result<u64, Errno> {
        let bdf = self.function.bdf;
        let size = u64::from(read(platform, bdf, at.saturating_add(2), Width::B2) & TABLE_SIZE);
        if read(platform, bdf, COMMAND, Width::B2) & HAS_MEMORY == 0 {
            return Err(Errno::ENXIO);
        }
        let place = |register: u8, base: u64| {
            let word = read(platform, bdf, register, Width::B4);
            let bar = match memory_bar(platform, bdf, word & 7) {
                0 => base,
                bar => bar,
            };
            let start = bar.checked_add(u64::from(word & !7)).filter(|_| bar != 0);
            start.ok_or(Errno::ENXIO)
        };
        let start = place(at.saturating_add(4), base)?;
        if self.table_uses == 0 {
            let frames = |start: u64, length: u64| {
                (start >> 12, start.saturating_add(length.saturating_sub(1)) >> 12)
            };
            let table = frames(start, size.saturating_add(1).saturating_mul(ENTRY));
            let pending = place(at.saturating_add(8), 0).map_or(table, |start| {
                frames(start, (size >> 6).saturating_add(1).saturating_mul(8))
            });
            let ours = |(first, last): (u64, u64)| {
                last < DEVICE_LIMIT
                    && memory.may_map_devices(platform, first, last)
                    && (first..=last).all(|frame| {
                        platform.frames().is_device(Mfn(frame))
                            && platform.frames().device_access(Mfn(frame)) != DeviceAccess::None
                    })
            };
            if !ours(table) || !ours(pending) {
                return Err(Errno::ENXIO);
            }
            self.frames = [table, pending];
            for (first, last) in self.frames {
                if !platform.frames().lock_device(first, last) {
                    self.release(platform);
                    return Err(Errno::ENOMEM);
                }
            }
        } else if !(self.frames[0].0..=self.frames[0].1).contains(&(start >> 12)) {
            // The device was moved meanwhile.
            return Err(Errno::ENXIO);
        }
        self.table_uses = self.table_uses.saturating_add(1);
        Ok(start)
    }

    fn end_table(&mut self, platform: &impl Platform) {
        self.table_uses = self.table_uses.saturating_sub(1);
        if self.table_uses == 0 {
            self.release(platform);
        }
    }

    /// The table's frames are a device's like others.
    fn release(&self, platform: &impl Platform) {
        for (first, last) in self.frames {
            platform.frames().unlock_device(first, last);
        }
    }
}

impl MessageSource {
    pub(super) fn is_of(self, function: Function) -> bool {
        function == Function { segment: 0, bdf: self.bdf }
    }

    /// Opens it towards a place.
    pub(super) fn open(self, platform: &impl Platform, message: Message) {
        // It was programmed before: the memory was on then. If it is off now nothing comes.
        let _ = self.restore(platform, message, true);
    }

    /// Masks it, if it can be masked.
    pub(super) fn set_masked(self, platform: &impl Platform) {
        if self.entry == 0 {
            self.mask_in_capability(platform, 1);
        } else if self.has_memory(platform) {
            self.in_table(platform, |entry| platform.device_write(entry.saturating_add(12), 1));
        }
    }

    /// Writes it into the device.
    pub(super) fn restore(
        self,
        platform: &impl Platform,
        message: Message,
        is_open: bool,
    ) -> Result<(), Errno> {
        let (low, high) = halves(message.address);
        let masked = u32::from(!is_open);
        if self.entry != 0 {
            if !self.has_memory(platform) {
                return Err(Errno::ENXIO);
            }
            self.in_table(platform, |entry| {
                // Masked while it changes: a device must not see half of it.
                platform.device_write(entry.saturating_add(12), 1);
                platform.device_write(entry, low);
                platform.device_write(entry.saturating_add(4), high);
                platform.device_write(entry.saturating_add(8), message.data);
                platform.device_write(entry.saturating_add(12), masked);
            });
            return Ok(());
        }
        let at = |offset: u8| self.capability.saturating_add(offset);
        let is_wide = read(platform, self.bdf, at(2), Width::B2) & MSI_WIDE != 0;
        self.mask_in_capability(platform, 1);
        write(platform, self.bdf, at(4), Width::B4, low);
        if is_wide {
            write(platform, self.bdf, at(8), Width::B4, high);
        }
        write(platform, self.bdf, at(if is_wide { 12 } else { 8 }), Width::B2, message.data);
        self.mask_in_capability(platform, masked);
        Ok(())
    }

    fn mask_in_capability(self, platform: &impl Platform, masked: u32) {
        let at = |offset: u8| self.capability.saturating_add(offset);
        let control = read(platform, self.bdf, at(2), Width::B2);
        if control & MSI_MASKS != 0 {
            let masks = at(if control & MSI_WIDE != 0 { 16 } else { 12 });
            let others = read(platform, self.bdf, masks, Width::B4) & !1;
            write(platform, self.bdf, masks, Width::B4, others | masked);
        }
    }

    fn has_memory(self, platform: &impl Platform) -> bool {
        read(platform, self.bdf, COMMAND, Width::B2) & HAS_MEMORY != 0
    }

    /// Does something with its entry of the table. Some devices have none while messages are switched
    /// off, so they are switched on meanwhile, all masked.
    fn in_table(self, platform: &impl Platform, does: impl FnOnce(u64)) {
        let control = self.capability.saturating_add(2);
        let was = read(platform, self.bdf, control, Width::B2);
        if was & TABLE_ON == 0 {
            write(platform, self.bdf, control, Width::B2, was | TABLE_ON | TABLE_MASKED);
        }
        does(self.entry);
        if was & TABLE_ON == 0 {
            write(platform, self.bdf, control, Width::B2, was);
        }
    }
}

/// Stops every device that is no bridge, whether it was reported or not: none accesses memory or
/// interrupts from here on. Its other settings stay.
pub(super) fn stop_all(platform: &impl Platform) {
    for slot in 0..=u16::MAX >> 3 {
        let first = slot << 3;
        let functions = match read(platform, first, HEADER, Width::B1) {
            header if header & HAS_FUNCTIONS != 0 => 8,
            _ => 1,
        };
        for bdf in (0..functions).map(|function| first | function) {
            let is_there = read(platform, bdf, 0, Width::B2) != 0xffff;
            if is_there && read(platform, bdf, HEADER, Width::B1) & !HAS_FUNCTIONS == 0 {
                let was = read(platform, bdf, COMMAND, Width::B2);
                write(platform, bdf, COMMAND, Width::B2, was & !IS_MASTER | NO_LINE);
            }
        }
    }
}

/// Clears bits of a capability's control word.
fn clear(platform: &impl Platform, bdf: u16, capability: u8, bits: u32) {
    let control = capability.saturating_add(2);
    let was = read(platform, bdf, control, Width::B2);
    write(platform, bdf, control, Width::B2, was & !bits);
}

/// Length of a capability of messages that have masks, or 0. Unit: bytes.
fn masked_length(platform: &impl Platform, bdf: u16, capability: u8) -> u8 {
    let control = read(platform, bdf, capability.saturating_add(2), Width::B2);
    match (control & MSI_MASKS != 0, control & MSI_WIDE != 0) {
        (false, _) => 0,
        (true, false) => 20,
        (true, true) => 24,
    }
}

/// Where a device has a capability.
fn capability(platform: &impl Platform, bdf: u16, wanted: u32) -> Option<u8> {
    if read(platform, bdf, STATUS, Width::B2) & HAS_LIST == 0 {
        return None;
    }
    let mut pointer = CAPABILITIES;
    for _ in 0..MOST_CAPABILITIES {
        let at = u8::try_from(read(platform, bdf, pointer, Width::B1)).ok()? & !3;
        if at < 0x40 {
            return None;
        }
        match read(platform, bdf, at, Width::B1) {
            0xff => return None,
            found if found == wanted => return Some(at),
            _ => pointer = at.saturating_add(1),
        }
    }
    None
}

/// The machine address in one of a device's base address registers, if it is one of memory; else 0.
fn memory_bar(platform: &impl Platform, bdf: u16, number: u32) -> u64 {
    const IS_PORT: u32 = 1;
    const IS_WIDE: u32 = 4;
    let bars = match read(platform, bdf, HEADER, Width::B1) & 0x7f {
        0 => 6,
        1 => 2,
        _ => 0,
    };
    let register =
        u8::try_from(number.saturating_mul(4)).unwrap_or(0).saturating_add(BASE_ADDRESSES);
    if number >= bars {
        return 0;
    }
    let low = read(platform, bdf, register, Width::B4);
    if low & IS_PORT != 0 {
        return 0;
    }
    let high = if low & IS_WIDE != 0 && number.saturating_add(1) < bars {
        read(platform, bdf, register.saturating_add(4), Width::B4)
    } else {
        0
    };
    u64::from(high) << 32 | u64::from(low & !15)
}

fn halves(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
}
