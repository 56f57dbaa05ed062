//! The device's nodes in xenstore: what the back end says of the disk, and what the front end says
//! of its ring.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use hypercall_abi::blkif::{INFO_READONLY, MAX_RING_ORDER, PROTOCOL};
use hypercall_abi::types::{GrantRef, Port};

use crate::disk::Geometry;
use crate::queue::Limits;

/// What the front end's and the back end's directories hold, as the device sees them.
pub trait Nodes {
    /// The value of a node of the front end's directory, if there is such a node.
    fn front(&self, name: &str) -> Option<String>;

    /// The value of a node of the back end's directory, if there is such a node.
    fn back(&self, name: &str) -> Option<String>;
}

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
            1 if nodes.front("ring-ref").is_some() => Vec::from([reference(nodes, "ring-ref")?]),
            count => {
                let names = (0..count).map(|index| format!("ring-ref{index}"));
                names.map(|name| reference(nodes, &name)).collect::<Result<_, _>>()?
            }
        };
        let port = Port(required(nodes, "event-channel")?);
        let persistent = optional(nodes, "feature-persistent")?.is_some_and(|value| value != 0);
        Ok(Self { ring, port, persistent })
    }
}

/// How many pages the ring has. Two nodes tell it in two ways.
fn pages(nodes: &impl Nodes) -> Result<u32, String> {
    let order = optional(nodes, "ring-page-order")?;
    let count = optional(nodes, "num-ring-pages")?;
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

fn reference(nodes: &impl Nodes, name: &str) -> Result<GrantRef, String> {
    required(nodes, name).map(GrantRef)
}

fn required(nodes: &impl Nodes, name: &str) -> Result<u32, String> {
    optional(nodes, name)?.ok_or_else(|| format!("there is no {name}"))
}

/// A decimal number of 32 bits, if there is such a node.
fn optional(nodes: &impl Nodes, name: &str) -> Result<Option<u32>, String> {
    let Some(text) = nodes.front(name) else { return Ok(None) };
    let number = decimal(&text).ok_or_else(|| format!("{name} is no number: {}", quoted(&text)))?;
    Ok(Some(number))
}

/// The beginning of a text of the front end's, without what would garble a log.
fn quoted(text: &str) -> String {
    text.escape_default().take(32).collect()
}

/// Digits and nothing else.
pub(crate) fn decimal(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
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
