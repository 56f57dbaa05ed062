//! `physdev_op`, hypercall 33: devices and their interrupts.

use hypercall_abi::call::Hypercall;
use hypercall_abi::physdev::{
    EOI, Eoi, IRQ_STATUS_QUERY, IrqStatusQuery, MAP_PIRQ, MapPirq, PCI_DEVICE_ADD, PciDeviceAdd,
    SETUP_GSI, SetupGsi, UNMAP_PIRQ, UnmapPirq,
};

#[cfg(target_os = "none")]
use hypercall_abi::physdev::{PIRQ_EOI_GMFN_V2, PirqEoiGmfn};

use super::{Request, writable};

/// The argument of an operation on devices, which says which operation it is of.
pub(crate) trait DeviceArgument {
    /// The operation's number.
    const OPERATION: u32;
}

macro_rules! arguments {
    ($($argument:ident $operation:ident,)*) => {
        $(impl DeviceArgument for $argument {
            const OPERATION: u32 = $operation;
        })*
    };
}

arguments! {
    Eoi EOI,
    IrqStatusQuery IRQ_STATUS_QUERY,
    MapPirq MAP_PIRQ,
    PciDeviceAdd PCI_DEVICE_ADD,
    SetupGsi SETUP_GSI,
    UnmapPirq UNMAP_PIRQ,
}

/// Does with the machine's devices what the argument's type says.
pub(crate) fn device<T: DeviceArgument>(argument: &mut T) -> Request<'_> {
    let args = [T::OPERATION.into(), writable(argument), 0, 0, 0, 0];
    // SAFETY: the hypervisor reads and writes the operation's own structure, which consists of
    // integers and is borrowed. Interrupts come to this program as events alone.
    unsafe { Request::new(Hypercall::PhysdevOp, args) }
}

/// Gives the hypervisor a frame in which it keeps a bit for each interrupt whose end it waits for.
///
/// # Safety
/// The frame must be of a page that is atomics to Rust, for ever.
#[cfg(target_os = "none")]
#[must_use]
pub(in crate::raw) unsafe fn note_ends(argument: &mut PirqEoiGmfn) -> Request<'_> {
    let args = [PIRQ_EOI_GMFN_V2.into(), writable(argument), 0, 0, 0, 0];
    // SAFETY: by this function's contract.
    unsafe { Request::new(Hypercall::PhysdevOp, args) }
}
