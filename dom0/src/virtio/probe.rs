//! From a PCI function to the registers and the interrupt of a virtio device.

use alloc::boxed::Box;
use alloc::rc::Rc;

use pv_guest_sdk::device::physdev::Source;
use pv_guest_sdk::device::{DeviceMemory, Registers};

use super::{Legacy, Modern, Transport, TransportError};
use crate::hw;
use crate::lines::{Line, Lines};
use crate::pci::{Capability, Configuration, Device, Held, Region};

/// Who makes virtio devices.
const VENDOR: u16 = 0x1af4;
/// The number of a device of version 1, less its kind.
const MODERN: u16 = 0x1040;
/// The kind of block devices.
pub const BLOCK: u16 = 2;
/// The kind of network cards.
pub const NET: u16 = 1;
/// The capability that says where registers are.
const VENDOR_SPECIFIC: u8 = 9;

/// The kinds of registers that capabilities lead to.
const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
const REASON: u8 = 3;
const OWN: u8 = 4;

/// A virtio device that can be driven.
pub struct Found {
    /// Its registers.
    pub transport: Box<dyn Transport>,
    /// Its interrupt, which does not come before the driver was added to it.
    pub line: Rc<Line>,
}

/// What kind of virtio device a function is, if it is one.
pub fn kind<C: Configuration>(device: Device<'_, C>) -> Option<u16> {
    let (vendor, id) = device.id();
    match id {
        _ if vendor != VENDOR => None,
        // The kind of an old one is its subsystem.
        0x1000..=0x103f => u16::try_from(device.read(0x2c) >> 16).ok(),
        0x1041..=0x107f => Some(id - MODERN),
        _ => None,
    }
}

/// Switches a virtio device on.
///
/// # Errors
/// [`TransportError`] if it has no registers or no interrupt.
pub fn device<C: Configuration>(
    device: Device<'_, C>,
    lines: &mut Lines,
) -> Result<Found, TransportError> {
    device.enable();
    let (line, messages) = interrupt(device, lines)?;
    let transport: Box<dyn Transport> = match modern(device, messages)? {
        Some(modern) => Box::new(modern),
        None => Box::new(legacy(device, messages)?),
    };
    Ok(Found { transport, line })
}

/// The first of the device's messages, or its wired interrupt if it has none that come; and whether
/// it is a message.
fn interrupt<C: Configuration>(
    device: Device<'_, C>,
    lines: &mut Lines,
) -> Result<(Rc<Line>, bool), TransportError> {
    let mut refused = TransportError::Interrupt;
    if let Some(messages) = device.messages() {
        // The hypervisor writes the table, and wants to find messages switched on.
        device.enable_messages(messages, Held::Back);
        let (function, region) = (device.function(), messages.region);
        match lines.line(Source::Message { function, entry: 0, region }) {
            Ok(line) => {
                device.enable_messages(messages, Held::Not);
                return Ok((line, true));
            }
            Err(error) => refused = error.into(),
        }
        device.disable_messages(messages);
    }
    let wire = device.wire().ok_or(refused)?;
    Ok((lines.line(Source::Wire(wire.into()))?, false))
}

/// Registers in ports.
fn legacy<C: Configuration>(
    device: Device<'_, C>,
    messages: bool,
) -> Result<Legacy, TransportError> {
    let Some(Region::Ports(first, count)) = device.region(0) else {
        return Err(TransportError::Registers);
    };
    Legacy::new(Box::new(hw::ports(first, count)?), messages)
}

/// Registers in memory, if the device has all kinds of them.
fn modern<C: Configuration>(
    device: Device<'_, C>,
    messages: bool,
) -> Result<Option<Modern>, TransportError> {
    let all = device.capabilities();
    let find = |kind| all.iter().find(|it| is(device, **it, kind)).copied();
    let (Some(common), Some(notify), Some(reason)) = (find(COMMON), find(NOTIFY), find(REASON))
    else {
        return Ok(None);
    };
    let apart = notify.offset.checked_add(16).map_or(0, |offset| device.read(offset));
    let common = registers(device, common)?;
    let notify = (registers(device, notify)?, apart);
    let reason = registers(device, reason)?;
    let own = find(OWN).map(|own| registers(device, own)).transpose()?;
    Modern::new(common, notify, reason, own, messages).map(Some)
}

/// Whether a capability leads to registers of a kind.
fn is<C: Configuration>(device: Device<'_, C>, it: Capability, kind: u8) -> bool {
    // Its length comes first, then the kind.
    it.id == VENDOR_SPECIFIC
        && it.first.to_le_bytes()[1] == kind
        && it.offset.checked_add(12).is_some()
        && matches!(device.region(bar(device, it)), Some(Region::Memory(..)))
}

/// The region that a capability leads to.
fn bar<C: Configuration>(device: Device<'_, C>, it: Capability) -> u8 {
    device.read(it.offset.saturating_add(4)).to_le_bytes()[0]
}

/// Maps the registers that a capability leads to.
fn registers<C: Configuration>(
    device: Device<'_, C>,
    it: Capability,
) -> Result<Box<dyn Registers>, TransportError> {
    let Some(Region::Memory(start, size)) = device.region(bar(device, it)) else {
        return Err(TransportError::Registers);
    };
    let word = |offset: u8| it.offset.checked_add(offset).map_or(0, |at| device.read(at));
    let (offset, length) = (u64::from(word(8)), u64::from(word(12)));
    if offset % 4 != 0 || offset + length > size {
        return Err(TransportError::Registers);
    }
    let memory: DeviceMemory = hw::memory(start + offset, length)?;
    Ok(Box::new(memory))
}
