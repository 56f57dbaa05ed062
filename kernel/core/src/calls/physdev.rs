//! `physdev_op` (hypercall 33): interrupts and devices of the machine, and ports. All but the ports of
//! a guest's own and its reports about interrupts is the initial domain's.

use core::sync::atomic::Ordering;

use hypercall_abi::errno::Errno;
use hypercall_abi::physdev::{
    self, Apic, Eoi, GetFreePirq, Irq, IrqStatusQuery, ManagePci, ManagePciExt, MapPirq, PciDevice,
    PciDeviceAdd, PciMmcfgReserved, PirqEoiGmfn, SetIobitmap, SetIopl, SetupGsi, UnmapPirq,
};
use hypercall_abi::types::{DomId, Mfn};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::dispatch::{Answer, DONE, low_u32};
use crate::guest_memory;
use crate::irq::{Function, Kind, PIRQS, Polarity, Table, Trigger};
use crate::life::Visit;
use crate::platform::Platform;
use crate::system::Context;

/// Ports there are.
const PORTS: u32 = 65536;
/// Most messages that one device may be asked for.
const MOST_MESSAGES: i32 = 32;
/// Words of an input of an I/O APIC begin behind this register.
const INPUTS: u32 = 0x10;
const ACTIVE_LOW: u32 = 1 << 13;
const BY_LEVEL: u32 = 1 << 15;
/// Size of the argument of `dbgp_op`.
const DBGP_BYTES: usize = 6;
/// The index that asks for a new message.
const NEW: i32 = -1;

/// `physdev_op(cmd, argument)`.
///
/// # Errors
///
/// - `EFAULT`: the argument can't be read, or the result can't be written.
/// - `EPERM`: the caller is not the initial domain.
/// - `EINVAL`: a number that nothing has; an I/O privilege level above 3; more ports than there are;
///   a map of ports in the hypervisor's addresses.
/// - `ENOSYS`: unknown command.
/// - As the operation: [`System`](crate::system::System).
pub fn physdev_op<P: Platform>(cx: &mut Context<'_, P>, [cmd, argument, ..]: [u64; 6]) -> Answer {
    let mut call = Call { cx, argument };
    match low_u32(cmd) {
        physdev::EOI => {
            let eoi: Eoi = call.read()?;
            call.cx.system.end_of_pirq(call.cx.domain, eoi.irq)?;
        }
        physdev::IRQ_UNMASK_NOTIFY => call.cx.system.end_of_unmasked(call.cx.domain),
        physdev::IRQ_STATUS_QUERY => {
            let query: IrqStatusQuery = call.read()?;
            if query.irq >= PIRQS {
                return Err(Errno::EINVAL);
            }
            // Whoever wants to know more has the map. No interrupt is shared.
            call.write(&IrqStatusQuery { flags: physdev::STATUS_NEEDS_EOI, ..query })?;
        }
        physdev::PIRQ_EOI_GMFN_V1 => call.set_map(true)?,
        physdev::PIRQ_EOI_GMFN_V2 => call.set_map(false)?,
        physdev::MAP_PIRQ => call.map()?,
        physdev::UNMAP_PIRQ => {
            let unmap: UnmapPirq = call.read()?;
            let other = call.named(unmap.domid)?;
            let domain = other.as_ref().map_or(call.cx.domain, |other| &**other);
            call.cx.system.unmap_pirq(domain, unmap.pirq)?;
        }
        physdev::GET_FREE_PIRQ => {
            let wanted: GetFreePirq = call.read()?;
            let kind = if wanted.kind == physdev::MAP_GSI { Kind::Line } else { Kind::Message };
            let pirq = call.cx.system.reserve_pirq(call.cx.domain, kind)?;
            call.write(&GetFreePirq { pirq, ..wanted })?;
        }
        physdev::SET_IOPL | physdev::SET_IOBITMAP => call.ports(low_u32(cmd))?,
        physdev::APIC_READ
        | physdev::APIC_WRITE
        | physdev::ALLOC_IRQ_VECTOR
        | physdev::SETUP_GSI => call.lines(low_u32(cmd))?,
        other => call.devices(other)?,
    }
    DONE
}

/// `physdev_op_compat(argument)` (hypercall 19): the older form, with the command in front of the
/// argument.
///
/// # Errors
///
/// - `EFAULT`: the argument, as long as the longest of the old ones, can't be read.
/// - As [`physdev_op`].
pub fn physdev_op_compat<P: Platform>(cx: &mut Context<'_, P>, [argument, ..]: [u64; 6]) -> Answer {
    let [cmd, _, _]: [u64; 3] = guest_memory::read(&cx.system.platform, argument)?;
    let behind = argument.wrapping_add(size_of::<u64>() as u64);
    physdev_op(cx, [u64::from(low_u32(cmd)), behind, 0, 0, 0, 0])
}

/// A call with its argument.
struct Call<'a, 'b, P: Platform> {
    cx: &'a mut Context<'b, P>,
    argument: u64,
}

impl<P: Platform> Call<'_, '_, P> {
    fn read<T: FromBytes + IntoBytes>(&self) -> Result<T, Errno> {
        Ok(guest_memory::read(&self.cx.system.platform, self.argument)?)
    }

    fn write<T: IntoBytes + Immutable>(&self, value: &T) -> Result<(), Errno> {
        Ok(guest_memory::write(&self.cx.system.platform, self.argument, value)?)
    }

    fn privileged(&self) -> Result<(), Errno> {
        if self.cx.domain.is_privileged() { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// The domain that the caller named, if it may give it interrupts, and it is another: one that is
    /// being ended gets none, as nobody would take them from it.
    fn named(&self, id: DomId) -> Result<Option<Visit<P>>, Errno> {
        if id == DomId::SELF || id == self.cx.domain.id {
            return self.privileged().map(|()| None);
        }
        self.cx.visit(id).map(Some)
    }

    /// The guest gives a frame for its map of interrupts that need their end reported.
    fn set_map(&self, unmasks: bool) -> Result<(), Errno> {
        let PirqEoiGmfn { gmfn } = self.read()?;
        let pirqs = &self.cx.domain.pirqs;
        let mm = self.cx.mm();
        let held = mm.frames.take_writable(Mfn(gmfn), self.cx.domain.memory.as_owner());
        let held = held.map_err(|_| Errno::EINVAL)?;
        let order = Ordering::AcqRel;
        if pirqs.eoi_map.compare_exchange(0, gmfn, order, Ordering::Relaxed).is_err() {
            let _ = mm.frames.put_type(held);
            return Err(Errno::EBUSY);
        }
        // From here on it is the domain's: its end gives it back.
        let _frame = held.into_entry();
        if unmasks {
            pirqs.unmasks.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn map(&self) -> Result<(), Errno> {
        let mut map: MapPirq = self.read()?;
        let segment = match map.kind {
            physdev::MAP_MULTI_MSI if map.table_base != 0 => return Err(Errno::EINVAL),
            physdev::MAP_MSI_SEG | physdev::MAP_MULTI_MSI => high_u16(map.bus),
            _ => 0,
        };
        if map.kind == physdev::MAP_MSI_SEG {
            map.kind = physdev::MAP_MSI;
        }
        let function = function(segment, low_u8(map.bus), low_u8(map.devfn));
        let mapped = self.map_to(&map, function);
        if let Ok(pirq) = mapped {
            map.pirq = i32::try_from(pirq).unwrap_or(0);
        }
        self.write(&map)?;
        mapped.map(|_| ())
    }

    fn map_to(&self, map: &MapPirq, function: Function) -> Result<u32, Errno> {
        let system = self.cx.system;
        let other = self.named(map.domid)?;
        let to = other.as_ref().map_or(self.cx.domain, |other| &**other);
        match map.kind {
            physdev::MAP_GSI => system.map_line(self.cx.domain, to, map.index, map.pirq),
            physdev::MAP_MSI if map.index == NEW => {
                let entry = map.entry_nr.cast_unsigned();
                let table = Table { entry, base: map.table_base };
                let table = (map.table_base != 0).then_some(table);
                system.map_message(to, function, table, map.pirq)
            }
            // A message that is there already: it is one of the kernel's making, which nobody named.
            physdev::MAP_MSI
                if u32::try_from(map.index).is_ok_and(|irq| !system.lines().has(irq)) =>
            {
                Err(Errno::EPERM)
            }
            physdev::MAP_MULTI_MSI if !(1..=MOST_MESSAGES).contains(&map.entry_nr) => {
                Err(Errno::EDOM)
            }
            // Without a remapping of interrupts each message has its own address.
            physdev::MAP_MULTI_MSI if map.entry_nr != 1 => Err(Errno::EOPNOTSUPP),
            physdev::MAP_MULTI_MSI => system.map_message(to, function, None, map.pirq),
            _ => Err(Errno::EINVAL),
        }
    }

    fn ports(&mut self, cmd: u32) -> Result<(), Errno> {
        let platform = &self.cx.system.platform;
        if cmd == physdev::SET_IOPL {
            let wanted: SetIopl = self.read()?;
            if wanted.iopl > 3 {
                return Err(Errno::EINVAL);
            }
            self.cx.vcpu.state.lock(platform).iopl = u64::from(wanted.iopl).wrapping_shl(12);
        } else {
            let wanted: SetIobitmap = self.read()?;
            if wanted.nr_ports > PORTS || !guest_memory::may_begin_at(wanted.bitmap) {
                return Err(Errno::EINVAL);
            }
            self.cx.vcpu.state.lock(platform).port_map = (wanted.bitmap, wanted.nr_ports);
        }
        Ok(())
    }

    fn lines(&self, cmd: u32) -> Result<(), Errno> {
        let system = self.cx.system;
        match cmd {
            physdev::SETUP_GSI => {
                let setup: SetupGsi = self.read()?;
                let gsi = u32::try_from(setup.gsi).map_err(|_| Errno::EINVAL)?;
                if !system.lines().has(gsi) {
                    return Err(Errno::EINVAL);
                }
                self.privileged()?;
                let how = how(setup.triggering != 0, setup.polarity != 0);
                system.lines().set_up(&system.platform, gsi, how)
            }
            physdev::ALLOC_IRQ_VECTOR => {
                let irq: Irq = self.read()?;
                self.privileged()?;
                self.write(&Irq { vector: irq.irq, ..irq })
            }
            _ => {
                let apic: Apic = self.read()?;
                self.privileged()?;
                let [register, ..] = apic.reg.to_le_bytes();
                if cmd == physdev::APIC_WRITE {
                    return self.write_apic(&apic);
                }
                let read = system.platform.io_apic(apic.apic_physbase, register);
                self.write(&Apic { value: read.map_or(apic.value, |(value, _)| value), ..apic })?;
                read.map(|_| ()).ok_or(Errno::EINVAL)
            }
        }
    }

    /// An old guest programs an input of an I/O APIC: a number for the line, and how it is raised.
    fn write_apic(&self, apic: &Apic) -> Result<(), Errno> {
        let system = self.cx.system;
        let platform = &system.platform;
        let (_, first) = platform.io_apic(apic.apic_physbase, 0).ok_or(Errno::EINVAL)?;
        let Some(place) = apic.reg.checked_sub(INPUTS).filter(|place| place & 1 == 0) else {
            return Ok(());
        };
        let pin = first.saturating_add(place / 2);
        let irq = system.lines().at_pin(platform, pin).ok_or(Errno::EINVAL)?;
        let (index, pirq) = (i32::try_from(irq), apic.value & 0xff);
        let (index, pirq) = (index.map_err(|_| Errno::EINVAL)?, i32::try_from(pirq).unwrap_or(0));
        system.map_line(self.cx.domain, self.cx.domain, index, pirq)?;
        let how = how(apic.value & BY_LEVEL != 0, apic.value & ACTIVE_LOW != 0);
        // If it is set up already it stays so.
        let _ = system.lines().set_up(platform, irq, how);
        Ok(())
    }

    fn devices(&self, cmd: u32) -> Result<(), Errno> {
        let system = self.cx.system;
        match cmd {
            physdev::PCI_DEVICE_ADD => {
                let add: PciDeviceAdd = self.read()?;
                if add.flags & physdev::PCI_PXM != 0 {
                    let behind = self.argument.wrapping_add(size_of::<PciDeviceAdd>() as u64);
                    let _: u32 = guest_memory::read(&system.platform, behind)?;
                }
                let physical = function(add.seg, add.physfn_bus, add.physfn_devfn);
                let is_virtual = add.flags & physdev::PCI_VIRTFN != 0;
                self.add(function(add.seg, add.bus, add.devfn), is_virtual.then_some(physical))
            }
            physdev::MANAGE_PCI_ADD_EXT => {
                let add: ManagePciExt = self.read()?;
                if add.is_extfn > 1 || add.is_virtfn > 1 {
                    return Err(Errno::EINVAL);
                }
                let physical = function(0, add.physfn_bus, add.physfn_devfn);
                self.add(function(0, add.bus, add.devfn), (add.is_virtfn != 0).then_some(physical))
            }
            physdev::PCI_DEVICE_REMOVE => self.remove(of(self.read()?)),
            physdev::MANAGE_PCI_ADD => self.add(of_old(self.read()?), None),
            physdev::MANAGE_PCI_REMOVE => self.remove(of_old(self.read()?)),
            physdev::RESTORE_MSI => self.restore(of_old(self.read()?)),
            physdev::RESTORE_MSI_EXT => self.restore(of(self.read()?)),
            physdev::PREPARE_MSIX | physdev::RELEASE_MSIX => {
                let device = of(self.read()?);
                self.privileged()?;
                let end = cmd == physdev::RELEASE_MSIX;
                system.prepare_table(self.cx.domain, device, end)
            }
            // Configuration space is reached by ports alone.
            physdev::PCI_MMCFG_RESERVED => {
                self.privileged()?;
                let place: PciMmcfgReserved = self.read()?;
                let known = place.flags & !physdev::MMCFG_RESERVED == 0;
                Err(if known { Errno::ENODEV } else { Errno::EINVAL })
            }
            // The kernel uses no debug port.
            physdev::DBGP_OP => {
                self.privileged()?;
                self.read::<[u8; DBGP_BYTES]>().map(drop)
            }
            _ => Err(Errno::ENOSYS),
        }
    }

    fn add(&self, device: Function, physical: Option<Function>) -> Result<(), Errno> {
        self.privileged()?;
        if let Some(physical) = physical {
            self.cx.system.add_device(physical)?;
        }
        self.cx.system.add_device(device)
    }

    fn remove(&self, device: Function) -> Result<(), Errno> {
        self.privileged()?;
        self.cx.system.remove_device(device)
    }

    fn restore(&self, device: Function) -> Result<(), Errno> {
        if !self.cx.system.knows_device(device) {
            return Err(Errno::ENODEV);
        }
        self.privileged()?;
        self.cx.system.restore_device(device)
    }
}

/// How a line is raised, of the bits that say so.
const fn how(by_level: bool, active_low: bool) -> (Trigger, Polarity) {
    let trigger = if by_level { Trigger::Level } else { Trigger::Edge };
    (trigger, if active_low { Polarity::Low } else { Polarity::High })
}

const fn function(segment: u16, bus: u8, devfn: u8) -> Function {
    Function { segment, bdf: u16::from_le_bytes([devfn, bus]) }
}

const fn of(device: PciDevice) -> Function {
    function(device.seg, device.bus, device.devfn)
}

const fn of_old(device: ManagePci) -> Function {
    function(0, device.bus, device.devfn)
}

const fn low_u8(value: i32) -> u8 {
    value.to_le_bytes()[0]
}

const fn high_u16(value: i32) -> u16 {
    let [_, _, low, high] = value.to_le_bytes();
    u16::from_le_bytes([low, high])
}
