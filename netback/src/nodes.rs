//! The device's nodes in xenstore: what the back end offers, and what the front end says of its
//! rings and of itself.

use alloc::format;
use alloc::string::{String, ToString};

use backend::Nodes;
use hypercall_abi::types::{GrantRef, PAGE_SIZE, Port};

use crate::headers::{ETHERNET, VLAN};
use crate::switch::Takes;

/// The longest packet with nothing to be cut. Unit: bytes.
const LONGEST: usize = 65535;

/// The front end's ends of the event channels.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ports {
    /// One for both rings.
    One(Port),
    /// One for each.
    Two {
        /// For the ring of packets from the front end.
        tx: Port,
        /// For the ring of packets to it.
        rx: Port,
    },
}

/// How the front end wants to be served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Parameters {
    /// The ring of packets from it.
    pub tx: GrantRef,
    /// The ring of packets to it.
    pub rx: GrantRef,
    /// Its event channels.
    pub ports: Ports,
    /// Whether it tells of new places for packets to it, so that packets may wait for them.
    pub notifies: bool,
    /// Whether a packet to it may be in several pages.
    pub scatters: bool,
    /// What packets it takes.
    pub takes: Takes,
}

impl Parameters {
    /// Reads what the front end wrote.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence for who looks into xenstore.
    pub(crate) fn read(nodes: &impl Nodes) -> Result<Self, String> {
        if let Some(queues) = nodes.number("multi-queue-num-queues")?.filter(|&it| it != 1) {
            return Err(format!("multi-queue-num-queues is {queues}, not 1"));
        }
        if !nodes.flag("request-rx-copy")? {
            return Err("request-rx-copy is not 1: pages are not exchanged".to_string());
        }
        let (tx, rx) = (nodes.required("tx-ring-ref")?, nodes.required("rx-ring-ref")?);
        let split = (nodes.number("event-channel-tx")?, nodes.number("event-channel-rx")?);
        let ports = match split {
            (Some(tx), Some(rx)) => Ports::Two { tx: Port(tx), rx: Port(rx) },
            _ => Ports::One(Port(nodes.required("event-channel")?)),
        };
        let scatters = nodes.flag("feature-sg")?;
        let can = if scatters { LONGEST } else { PAGE_SIZE };
        let mtu = nodes.number("mtu")?.and_then(|mtu| usize::try_from(mtu).ok());
        let longest = mtu.map_or(can, |mtu| can.min(mtu.saturating_add(ETHERNET + VLAN)));
        let checksum_v4 = !nodes.flag("feature-no-csum-offload")?;
        let checksum_v6 = nodes.flag("feature-ipv6-csum-offload")?;
        let takes = Takes {
            checksum_v4,
            checksum_v6,
            // What is not cut yet has no checksum yet, and more pages than one.
            gso_v4: scatters && checksum_v4 && nodes.flag("feature-gso-tcpv4")?,
            gso_v6: scatters && checksum_v6 && nodes.flag("feature-gso-tcpv6")?,
            longest,
        };
        let (tx, rx) = (GrantRef(tx), GrantRef(rx));
        let notifies = nodes.flag("feature-rx-notify")?;
        Ok(Self { tx, rx, ports, notifies, scatters, takes })
    }
}

/// What the back end's directory says before the front end may connect, in the order of writing.
pub(crate) const FEATURES: [(&str, &str); 9] = [
    ("feature-sg", "1"),
    ("feature-gso-tcpv4", "1"),
    ("feature-gso-tcpv6", "1"),
    ("feature-ipv6-csum-offload", "1"),
    ("feature-rx-copy", "1"),
    ("feature-rx-flip", "0"),
    ("feature-split-event-channels", "1"),
    ("multi-queue-max-queues", "1"),
    // Linux and its tools wait for it: the packets have somewhere to go.
    ("hotplug-status", "connected"),
];
