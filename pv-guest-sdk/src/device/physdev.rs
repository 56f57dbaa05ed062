//! The calls for devices and their interrupts. `Interrupt` is the owned form of them.

use core::fmt;

use hypercall_abi::call::Hypercall;
use hypercall_abi::errno::Errno;
use hypercall_abi::physdev as abi;
use hypercall_abi::types::DomId;

use super::DeviceError;
use crate::error::{HypercallError, Site, perform};
use crate::raw::gate::Gate;
use crate::raw::request::device;

const NOT_PRIVILEGED: (Errno, &str) = (Errno::EPERM, "only the domain with the devices may");

const fn site(operation: u32, causes: &'static [(Errno, &'static str)]) -> Site {
    Site::operation(Hypercall::PhysdevOp, abi::OPS, operation, causes)
}

static PCI_DEVICE_ADD: Site = site(abi::PCI_DEVICE_ADD, &[NOT_PRIVILEGED]);
static MAP_PIRQ: Site = site(
    abi::MAP_PIRQ,
    &[
        NOT_PRIVILEGED,
        (Errno::ENODEV, "the hypervisor does not know the device"),
        (Errno::ENXIO, "the device's registers are not switched on"),
        (Errno::EINVAL, "there is no such interrupt"),
        (Errno::ENOSPC, "no vector is free"),
    ],
);
static UNMAP_PIRQ: Site = site(abi::UNMAP_PIRQ, &[NOT_PRIVILEGED]);
static SETUP_GSI: Site = site(abi::SETUP_GSI, &[NOT_PRIVILEGED]);
static IRQ_STATUS_QUERY: Site =
    site(abi::IRQ_STATUS_QUERY, &[(Errno::EINVAL, "there is no such interrupt")]);
#[cfg(target_os = "none")]
pub(crate) static PIRQ_EOI_GMFN: Site =
    site(abi::PIRQ_EOI_GMFN_V2, &[(Errno::EBUSY, "there is one already")]);
static EOI: Site = site(abi::EOI, &[(Errno::EINVAL, "there is no such interrupt")]);

/// Where a PCI function is.
///
/// # Examples
///
/// ```ignore-none
/// # use pv_guest_sdk::{device::physdev::Function};
/// let disk = Function { segment: 0, bus: 0, devfn: 4 << 3 };
/// assert_eq!(disk.to_string(), "0000:00:04.0");
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Function {
    /// Segment.
    pub segment: u16,
    /// Bus.
    pub bus: u8,
    /// Device (times 8) and function.
    pub devfn: u8,
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (device, function) = (self.devfn >> 3, self.devfn & 7);
        write!(f, "{:04x}:{:02x}:{device:02x}.{function}", self.segment, self.bus)
    }
}

/// An interrupt of the machine, before it has a number.
///
/// # Examples
///
/// ```ignore-none
/// # use pv_guest_sdk::{device::physdev::Source};
/// // What firmware calls interrupt 11 of the legacy controllers.
/// let source = Source::Legacy(11);
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    /// A wired interrupt, by its global number.
    Wire(u32),
    /// The same, of the old bus: raised as the firmware says, mostly by an edge, and nobody else's.
    Legacy(u32),
    /// A message of a function with a table of messages (MSI-X).
    Message {
        /// Whose.
        function: Function,
        /// Which entry of its table.
        entry: u16,
        /// Machine address of the memory region that the table is in.
        region: u64,
    },
}

/// Tells the hypervisor of a PCI function.
///
/// # Errors
/// EPERM (1) if this domain does not have the devices.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, device::physdev::{self, Function}};
/// # fn example() -> Result<(), HypercallError> {
/// physdev::add(&Machine, Function { segment: 0, bus: 0, devfn: 4 << 3 })?;
/// # Ok(())
/// # }
/// ```
pub fn add(gate: &impl Gate, function: Function) -> Result<(), HypercallError> {
    let Function { segment: seg, bus, devfn } = function;
    let mut argument = abi::PciDeviceAdd { seg, bus, devfn, ..Default::default() };
    perform(gate, &PCI_DEVICE_ADD, &device(&mut argument)).map(drop)
}

/// Gives an interrupt a number, which ports are bound to. That of a wired interrupt is its own.
///
/// # Errors
/// [`DeviceError::Refused`]: EPERM (1) if this domain does not have the devices, ENODEV (19) if
/// the function is not known, ENXIO (6) if its memory regions are off, EINVAL (22) for another
/// entry than it has. [`DeviceError::Number`] if the answer is no number.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Machine, device::{DeviceError, physdev::{self, Source}}};
/// # fn example() -> Result<(), DeviceError> {
/// let pirq = physdev::map(&Machine, Source::Wire(11))?;
/// physdev::unmap(&Machine, pirq)?;
/// # Ok(())
/// # }
/// ```
pub fn map(gate: &impl Gate, source: Source) -> Result<u32, DeviceError> {
    let mut argument =
        abi::MapPirq { domid: DomId::SELF, index: -1, pirq: -1, ..Default::default() };
    match source {
        Source::Wire(gsi) | Source::Legacy(gsi) => {
            let gsi = i32::try_from(gsi).map_err(|_| DeviceError::Range)?;
            argument = abi::MapPirq { kind: abi::MAP_GSI, index: gsi, pirq: gsi, ..argument };
        }
        Source::Message { function, entry, region } => {
            argument.kind = abi::MAP_MSI_SEG;
            argument.bus =
                (u32::from(function.segment) << 16 | u32::from(function.bus)).cast_signed();
            argument.devfn = function.devfn.into();
            argument.entry_nr = entry.into();
            argument.table_base = region;
        }
    }
    perform(gate, &MAP_PIRQ, &device(&mut argument))?;
    u32::try_from(argument.pirq).map_err(|_| DeviceError::Number(argument.pirq))
}

/// Takes an interrupt's number back.
///
/// # Errors
/// EINVAL (22) if it has none.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, device::physdev};
/// # fn example(pirq: u32) -> Result<(), HypercallError> {
/// physdev::unmap(&Machine, pirq)?;
/// # Ok(())
/// # }
/// ```
pub fn unmap(gate: &impl Gate, pirq: u32) -> Result<(), HypercallError> {
    let pirq = pirq.cast_signed();
    let mut argument = abi::UnmapPirq { domid: DomId::SELF, pirq, ..Default::default() };
    perform(gate, &UNMAP_PIRQ, &device(&mut argument)).map(drop)
}

/// Makes a wired interrupt one that is on as long as its line is low, as PCI's are.
///
/// # Errors
/// EEXIST (17) if it is in use already, in whichever way.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, device::physdev};
/// # fn example() -> Result<(), HypercallError> {
/// // PCI's wires share a level.
/// physdev::set_level(&Machine, 11)?;
/// # Ok(())
/// # }
/// ```
pub fn set_level(gate: &impl Gate, gsi: u32) -> Result<(), HypercallError> {
    let gsi = gsi.cast_signed();
    let mut argument = abi::SetupGsi { gsi, triggering: 1, polarity: 1, ..Default::default() };
    perform(gate, &SETUP_GSI, &device(&mut argument)).map(drop)
}

/// Whether the end of an interrupt is to be reported ([`end`]).
///
/// # Errors
/// EINVAL (22) if there is none of that number.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, device::physdev};
/// # fn example(pirq: u32) -> Result<(), HypercallError> {
/// if physdev::reports_end(&Machine, pirq)? {
///     physdev::end(&Machine, pirq)?;
/// }
/// # Ok(())
/// # }
/// ```
pub fn reports_end(gate: &impl Gate, pirq: u32) -> Result<bool, HypercallError> {
    let mut argument = abi::IrqStatusQuery { irq: pirq, ..Default::default() };
    perform(gate, &IRQ_STATUS_QUERY, &device(&mut argument))?;
    Ok(argument.flags & abi::STATUS_NEEDS_EOI != 0)
}

/// Reports that an interrupt was handled: the next may come.
///
/// # Errors
/// EINVAL (22) if there is none of that number.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, device::physdev};
/// # fn example(pirq: u32) -> Result<(), HypercallError> {
/// physdev::end(&Machine, pirq)?;
/// # Ok(())
/// # }
/// ```
pub fn end(gate: &impl Gate, pirq: u32) -> Result<(), HypercallError> {
    perform(gate, &EOI, &device(&mut abi::Eoi { irq: pirq })).map(drop)
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;
    use std::string::ToString;

    use super::{DeviceError, Function, Source, add, end, map, reports_end, set_level, unmap};
    use crate::raw::gate::{CpuidAnswer, Gate, Request};

    /// Remembers the last call's number and sub-operation.
    struct Recorder(i64, Cell<(u64, u64)>);

    impl Gate for Recorder {
        fn call(&self, request: &Request<'_>) -> i64 {
            self.1.set((request.number(), request.args()[0]));
            self.0
        }

        fn cpuid(&self, _leaf: u32, _subleaf: u32) -> CpuidAnswer {
            [0; 4]
        }
    }

    #[test]
    fn every_call_has_its_operation() {
        let gate = Recorder(0, Cell::default());
        let function = Function { segment: 0, bus: 1, devfn: 0x1a };
        add(&gate, function).unwrap();
        assert_eq!(gate.1.take(), (33, 25));
        assert_eq!(map(&gate, Source::Wire(11)), Ok(11));
        assert_eq!(gate.1.take(), (33, 13));
        let message = Source::Message { function, entry: 1, region: 0xfeb0_0000 };
        assert_eq!(map(&gate, message), Err(DeviceError::Number(-1)), "nobody gave a number");
        set_level(&gate, 11).unwrap();
        assert_eq!(gate.1.take(), (33, 21));
        assert_eq!(reports_end(&gate, 11), Ok(false));
        assert_eq!(gate.1.take(), (33, 5));
        end(&gate, 11).unwrap();
        assert_eq!(gate.1.take(), (33, 12));
        unmap(&gate, 11).unwrap();
        assert_eq!(gate.1.take(), (33, 14));
        assert_eq!(function.to_string(), "0000:01:03.2");
        let error = map(&Recorder(-6, Cell::default()), message).unwrap_err();
        assert!(error.to_string().contains("ENXIO): the device's registers"), "{error}");
    }
}
