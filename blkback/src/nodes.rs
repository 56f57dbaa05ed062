//! The device's nodes in xenstore: what the back end says of the disk, and what the front end says
//! of its ring.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use backend::{Nodes, quoted};
use hypercall_abi::blkif::{INFO_READONLY, MAX_RING_ORDER, PROTOCOL};
use hypercall_abi::types::{GrantRef, Port};

use crate::disk::Geometry;
use crate::queue::Limits;

/// How the front end wants to be served.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Parameters {
    /// The pages of the ring, in order: a power of two of them.
    pub ring: Vec<GrantRef>,
    /// The front end's end of the event channel.
    pub port: Port,
    /// Whether it keeps its grants.
    pub persistent: bool,
}

impl Parameters {
    /// Reads what the front end wrote.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence for who looks into xenstore.
    pub(crate) fn read(nodes: &impl Nodes) -> Result<Self, String> {
        match nodes.front("protocol") {
            Some(protocol) if protocol != PROTOCOL => {
                return Err(format!("protocol is {}, not {PROTOCOL}", quoted(&protocol)));
            }
            _ => {}
        }
        let ring = match pages(nodes)? {
            1 if nodes.front("ring-ref").is_some() => {
                Vec::from([GrantRef(nodes.required("ring-ref")?)])
            }
            count => {
                let names = (0..count).map(|index| format!("ring-ref{index}"));
                names.map(|name| nodes.required(&name).map(GrantRef)).collect::<Result<_, _>>()?
            }
        };
        let port = Port(nodes.required("event-channel")?);
        let persistent = nodes.flag("feature-persistent")?;
        Ok(Self { ring, port, persistent })
    }
}

/// How many pages the ring has. Two nodes tell it in two ways.
fn pages(nodes: &impl Nodes) -> Result<u32, String> {
    let order = nodes.number("ring-page-order")?;
    let count = nodes.number("num-ring-pages")?;
    let pages = match (order, count) {
        (Some(order), _) if order > MAX_RING_ORDER => {
            return Err(format!("ring-page-order is {order}, above {MAX_RING_ORDER}"));
        }
        (Some(order), _) => 1 << order,
        (None, Some(count)) => count,
        (None, None) => 1,
    };
    if count.is_some_and(|count| count != pages) {
        return Err("num-ring-pages is not what ring-page-order says".to_string());
    }
    if !pages.is_power_of_two() || pages > 1 << MAX_RING_ORDER {
        return Err(format!("num-ring-pages is {pages}: no power of two, or too large"));
    }
    Ok(pages)
}

/// What the back end's directory says before the front end may connect, in the order of writing.
pub(crate) fn features(
    disk: &Geometry,
    limits: &Limits,
    persistent: bool,
    discard: bool,
) -> Vec<(&'static str, String)> {
    let flag = |set: bool| u32::from(set).to_string();
    let mut all = Vec::from([
        ("sectors", disk.sectors.to_string()),
        ("info", if disk.read_only { INFO_READONLY } else { 0 }.to_string()),
        ("sector-size", disk.sector_size.to_string()),
        ("physical-sector-size", disk.physical_sector_size.to_string()),
        ("feature-flush-cache", flag(disk.flush)),
        ("feature-barrier", flag(disk.flush)),
        ("feature-persistent", flag(persistent)),
        ("max-ring-page-order", MAX_RING_ORDER.to_string()),
        ("feature-discard", flag(discard && disk.discard.is_some())),
    ]);
    if limits.indirect > 0 {
        all.push(("feature-max-indirect-segments", limits.indirect.to_string()));
    }
    if let Some(it) = disk.discard.filter(|_| discard) {
        all.push(("discard-granularity", it.granularity.to_string()));
        all.push(("discard-alignment", it.alignment.to_string()));
        all.push(("discard-secure", flag(false)));
    }
    all
}
