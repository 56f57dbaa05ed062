//! `event_channel_op`: ports by which domains, vCPUs and interrupts signal each other.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::types::{DomId, Port, VcpuId};

pub use crate::ops::event::*;

/// Ports a domain can have with the two-level form of pending bits.
pub const TWO_LEVEL_PORTS: u32 = 4096;

numbers! {
    /// What a port can be, with its C name ([`EventStatus::status`]).
    STATUSES: u32 {
        STATUS_CLOSED = 0, "EVTCHNSTAT_closed", "Not in use.";
        STATUS_UNBOUND = 1, "EVTCHNSTAT_unbound", "Waits for another domain to bind to it.";
        STATUS_INTERDOMAIN = 2, "EVTCHNSTAT_interdomain", "Connected to a port of a domain.";
        STATUS_PIRQ = 3, "EVTCHNSTAT_pirq", "Bound to a physical interrupt.";
        STATUS_VIRQ = 4, "EVTCHNSTAT_virq", "Bound to a virtual interrupt.";
        STATUS_IPI = 5, "EVTCHNSTAT_ipi", "Between vCPUs of the domain.";
    }
}

/// Argument of [`ALLOC_UNBOUND`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct AllocUnbound {
    /// In: where to make the port; `DomId::SELF` if not the control domain.
    pub dom: DomId,
    /// In: who may bind to it.
    pub remote_dom: DomId,
    /// Out: the new port.
    pub port: Port,
}

abi_layout! { AllocUnbound = "struct evtchn_alloc_unbound", size 8, align 4 {
    dom @ 0, remote_dom @ 2, port @ 4,
}}

/// Argument of [`BIND_INTERDOMAIN`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct BindInterdomain {
    /// In: the other domain.
    pub remote_dom: DomId,
    /// No meaning.
    pub pad: u16,
    /// In: its unbound port.
    pub remote_port: Port,
    /// Out: the new port.
    pub local_port: Port,
}

abi_layout! { BindInterdomain = "struct evtchn_bind_interdomain", size 12, align 4 {
    remote_dom @ 0, pad = "" @ 2, remote_port @ 4, local_port @ 8,
}}

/// Argument of [`BIND_VIRQ`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct BindVirq {
    /// In: see [`crate::virq`].
    pub virq: u32,
    /// In: which vCPU's; must be 0 for one that is not per vCPU.
    pub vcpu: VcpuId,
    /// Out: the new port.
    pub port: Port,
}

abi_layout! { BindVirq = "struct evtchn_bind_virq", size 12, align 4 {
    virq @ 0, vcpu @ 4, port @ 8,
}}

/// Argument of [`BIND_PIRQ`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct BindPirq {
    /// In: the interrupt, as `physdev_op` map gave it.
    pub pirq: u32,
    /// In: bit 0: others may share it.
    pub flags: u32,
    /// Out: the new port.
    pub port: Port,
}

abi_layout! { BindPirq = "struct evtchn_bind_pirq", size 12, align 4 {
    pirq @ 0, flags @ 4, port @ 8,
}}

/// Argument of [`BIND_IPI`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct BindIpi {
    /// In: the vCPU that is notified.
    pub vcpu: VcpuId,
    /// Out: the new port.
    pub port: Port,
}

abi_layout! { BindIpi = "struct evtchn_bind_ipi", size 8, align 4 { vcpu @ 0, port @ 4 } }

/// Argument of [`BIND_VCPU`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct BindVcpu {
    /// In: a port of the caller.
    pub port: Port,
    /// In: the vCPU to notify from now on.
    pub vcpu: VcpuId,
}

abi_layout! { BindVcpu = "struct evtchn_bind_vcpu", size 8, align 4 { port @ 0, vcpu @ 4 } }

/// Argument of [`CLOSE`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct Close {
    /// In: a port of the caller.
    pub port: Port,
}

abi_layout! { Close = "struct evtchn_close", size 4, align 4 { port @ 0 } }

/// Argument of [`SEND`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct Send {
    /// In: a port of the caller.
    pub port: Port,
}

abi_layout! { Send = "struct evtchn_send", size 4, align 4 { port @ 0 } }

/// Argument of [`UNMASK`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct Unmask {
    /// In: a port of the caller.
    pub port: Port,
}

abi_layout! { Unmask = "struct evtchn_unmask", size 4, align 4 { port @ 0 } }

/// Argument of [`STATUS`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct EventStatus {
    /// In: whose port.
    pub dom: DomId,
    /// No meaning.
    pub pad0: u16,
    /// In: which.
    pub port: Port,
    /// Out: one of [`STATUSES`].
    pub status: u32,
    /// Out: the vCPU that is notified.
    pub vcpu: VcpuId,
    /// Out: the remote domain (in the lower half), or the interrupt.
    pub detail: u32,
    /// Out: the remote port, if connected.
    pub remote_port: Port,
}

abi_layout! { EventStatus = "struct evtchn_status", size 24, align 4 {
    dom @ 0, pad0 = "" @ 2, port @ 4, status @ 8, vcpu @ 12, detail = "u.pirq" @ 16, remote_port =
    "u.interdomain.port" @ 20,
}}

/// Argument of [`RESET`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct Reset {
    /// In: whose ports to close.
    pub dom: DomId,
}

abi_layout! { Reset = "struct evtchn_reset", size 2, align 2 { dom @ 0 } }

/// Argument of [`INIT_CONTROL`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct InitControl {
    /// In: the frame of the control block.
    pub control_gfn: u64,
    /// In: where in it. Unit: bytes.
    pub offset: u32,
    /// In: whose.
    pub vcpu: VcpuId,
    /// Out: bits of a link in an event word.
    pub link_bits: u8,
    /// No meaning.
    pub pad: [u8; 7],
}

abi_layout! { InitControl = "struct evtchn_init_control", size 24, align 8 {
    control_gfn @ 0, offset @ 8, vcpu @ 12, link_bits @ 16, pad = "_pad" @ 17,
}}

/// Argument of [`EXPAND_ARRAY`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct ExpandArray {
    /// In: the frame of the next event words.
    pub array_gfn: u64,
}

abi_layout! { ExpandArray = "struct evtchn_expand_array", size 8, align 8 { array_gfn @ 0 } }

/// Argument of [`SET_PRIORITY`].
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct SetPriority {
    /// In: a port of the caller.
    pub port: Port,
    /// In: 0 (first) to 15 (last).
    pub priority: u32,
}

abi_layout! { SetPriority = "struct evtchn_set_priority", size 8, align 4 {
    port @ 0, priority @ 4,
}}
