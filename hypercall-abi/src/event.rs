//! `event_channel_op`: ports by which domains, vCPUs and interrupts signal each other.

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

abi_structs! {
    /// Argument of [`ALLOC_UNBOUND`].
    AllocUnbound = "struct evtchn_alloc_unbound", size 8, align 4 {
        /// In: where to make the port; `DomId::SELF` if not the control domain.
        0 dom: DomId,
        /// In: who may bind to it.
        2 remote_dom: DomId,
        /// Out: the new port.
        4 port: Port,
    }

    /// Argument of [`BIND_INTERDOMAIN`].
    BindInterdomain = "struct evtchn_bind_interdomain", size 12, align 4 {
        /// In: the other domain.
        0 remote_dom: DomId,
        /// No meaning.
        2 pad: u16 = "",
        /// In: its unbound port.
        4 remote_port: Port,
        /// Out: the new port.
        8 local_port: Port,
    }

    /// Argument of [`BIND_VIRQ`].
    BindVirq = "struct evtchn_bind_virq", size 12, align 4 {
        /// In: see [`crate::virq`].
        0 virq: u32,
        /// In: which vCPU's; must be 0 for one that is not per vCPU.
        4 vcpu: VcpuId,
        /// Out: the new port.
        8 port: Port,
    }

    /// Argument of [`BIND_PIRQ`].
    BindPirq = "struct evtchn_bind_pirq", size 12, align 4 {
        /// In: the interrupt, as `physdev_op` map gave it.
        0 pirq: u32,
        /// In: bit 0: others may share it.
        4 flags: u32,
        /// Out: the new port.
        8 port: Port,
    }

    /// Argument of [`BIND_IPI`].
    BindIpi = "struct evtchn_bind_ipi", size 8, align 4 {
        /// In: the vCPU that is notified.
        0 vcpu: VcpuId,
        /// Out: the new port.
        4 port: Port,
    }

    /// Argument of [`BIND_VCPU`].
    BindVcpu = "struct evtchn_bind_vcpu", size 8, align 4 {
        /// In: a port of the caller.
        0 port: Port,
        /// In: the vCPU to notify from now on.
        4 vcpu: VcpuId,
    }

    /// Argument of [`CLOSE`].
    Close = "struct evtchn_close", size 4, align 4 {
        /// In: a port of the caller.
        0 port: Port,
    }

    /// Argument of [`SEND`].
    Send = "struct evtchn_send", size 4, align 4 {
        /// In: a port of the caller.
        0 port: Port,
    }

    /// Argument of [`UNMASK`].
    Unmask = "struct evtchn_unmask", size 4, align 4 {
        /// In: a port of the caller.
        0 port: Port,
    }

    /// Argument of [`STATUS`].
    EventStatus = "struct evtchn_status", size 24, align 4 {
        /// In: whose port.
        0 dom: DomId,
        /// No meaning.
        2 pad0: u16 = "",
        /// In: which.
        4 port: Port,
        /// Out: one of [`STATUSES`].
        8 status: u32,
        /// Out: the vCPU that is notified.
        12 vcpu: VcpuId,
        /// Out: the remote domain (in the lower half), or the interrupt.
        16 detail: u32 = "u.pirq",
        /// Out: the remote port, if connected.
        20 remote_port: Port = "u.interdomain.port",
    }

    /// Argument of [`RESET`].
    Reset = "struct evtchn_reset", size 2, align 2 {
        /// In: whose ports to close.
        0 dom: DomId,
    }

    /// Argument of [`INIT_CONTROL`].
    InitControl = "struct evtchn_init_control", size 24, align 8 {
        /// In: the frame of the control block.
        0 control_gfn: u64,
        /// In: where in it. Unit: bytes.
        8 offset: u32,
        /// In: whose.
        12 vcpu: VcpuId,
        /// Out: bits of a link in an event word.
        16 link_bits: u8,
        /// No meaning.
        17 pad: [u8; 7] = "_pad",
    }

    /// Argument of [`EXPAND_ARRAY`].
    ExpandArray = "struct evtchn_expand_array", size 8, align 8 {
        /// In: the frame of the next event words.
        0 array_gfn: u64,
    }

    /// Argument of [`SET_PRIORITY`].
    SetPriority = "struct evtchn_set_priority", size 8, align 4 {
        /// In: a port of the caller.
        0 port: Port,
        /// In: 0 (first) to 15 (last).
        4 priority: u32,
    }
}
