//! Where things are in a packet of TCP or UDP.

use crate::packet::{Buffer, Family, Packet};

/// Lengths in headers. Unit: bytes.
pub(crate) const ETHERNET: usize = 14;
pub(crate) const VLAN: usize = 4;
pub(crate) const IPV6: usize = 40;
const IPV4_LEAST: usize = 20;
const TCP_LEAST: usize = 20;
const UDP_LENGTH: usize = 8;
/// Bytes of a packet that are looked at for headers.
pub(crate) const HEADERS: usize = 256;
/// What protocols are called in the headers before them.
const TYPE_VLAN: u16 = 0x8100;
const TYPE_IPV4: u16 = 0x0800;
const TYPE_IPV6: u16 = 0x86dd;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
/// Headers of IPv6 between its own and the protocol's that any receiver steps over.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION: u8 = 60;

/// Where a packet's headers are. Unit: bytes from its start.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Headers {
    /// Which version of IP.
    pub family: Family,
    /// Where IP begins.
    pub network: usize,
    /// Where TCP or UDP begins.
    pub transport: usize,
    /// Whether it is TCP.
    pub is_tcp: bool,
    /// Where data begins: no more than 256.
    pub data: usize,
    /// Where data ends, by IP's length; no more than the packet's. What is behind is padding.
    pub end: usize,
}

impl Headers {
    /// Finds them; `None` if the packet is nothing of the kind, a fragment, or shorter than it
    /// says.
    #[must_use]
    pub fn of<B: Buffer>(packet: &Packet<B>) -> Option<Self> {
        let head = packet.head();
        let bytes = head.get(..HEADERS).unwrap_or(head);
        let mut network = ETHERNET;
        let mut kind = half(bytes, 12)?;
        if kind == TYPE_VLAN {
            (kind, network) = (half(bytes, 16)?, ETHERNET + VLAN);
        }
        let first = *bytes.get(network)?;
        let (family, transport, protocol, end) = match (kind, first >> 4) {
            (TYPE_IPV4, 4) => {
                let length = usize::from(first & 0xf) * 4;
                let is_fragment = half(bytes, network + 6)? & 0x3fff != 0;
                if length < IPV4_LEAST || is_fragment {
                    return None;
                }
                let end = network + usize::from(half(bytes, network + 2)?);
                (Family::V4, network + length, *bytes.get(network + 9)?, end)
            }
            (TYPE_IPV6, 6) => {
                let (transport, protocol) = behind_options(bytes, network)?;
                let end = network + IPV6 + usize::from(half(bytes, network + 4)?);
                (Family::V6, transport, protocol, end)
            }
            _ => return None,
        };
        let (is_tcp, data) = match protocol {
            TCP => {
                let length = usize::from(bytes.get(transport + 12)? >> 4) * 4;
                (length >= TCP_LEAST).then_some((true, transport + length))?
            }
            UDP => (false, transport + UDP_LENGTH),
            _ => return None,
        };
        let fits = data <= bytes.len() && data <= end && end <= packet.length();
        fits.then_some(Self { family, network, transport, is_tcp, data, end })
    }

    /// Where the checksum is.
    #[must_use]
    pub const fn checksum(&self) -> usize {
        self.transport + if self.is_tcp { 16 } else { 6 }
    }
}

/// Which version of IP a packet says that it is of.
pub(crate) fn family<B: Buffer>(packet: &Packet<B>) -> Option<Family> {
    let start: [u8; ETHERNET + VLAN] = packet.start();
    match half(&start, 12)? {
        TYPE_VLAN => family_of(half(&start, 16)?),
        kind => family_of(kind),
    }
}

const fn family_of(kind: u16) -> Option<Family> {
    match kind {
        TYPE_IPV4 => Some(Family::V4),
        TYPE_IPV6 => Some(Family::V6),
        _ => None,
    }
}

/// Steps over the options of IPv6: where the protocol begins, and which it is.
fn behind_options(bytes: &[u8], network: usize) -> Option<(usize, u8)> {
    let (mut at, mut protocol) = (network + IPV6, *bytes.get(network + 6)?);
    // Each is 8 bytes at least, so this ends at the end of `bytes`.
    while matches!(protocol, HOP_BY_HOP | ROUTING | DESTINATION) {
        let length = (usize::from(*bytes.get(at + 1)?) + 1) * 8;
        (protocol, at) = (*bytes.get(at)?, at + length);
    }
    Some((at, protocol))
}

/// A number of two bytes.
pub(crate) fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}
