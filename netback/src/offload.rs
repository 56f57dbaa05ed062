//! What cards do for kernels, done here where no card or kernel does it: filling checksums in, and
//! cutting long packets into segments.

use alloc::vec::Vec;

use crate::packet::{Buffer, Checksum, Family, Packet, Pool};

/// Lengths and places in headers. Unit: bytes.
const ETHERNET: usize = 14;
const VLAN: usize = 4;
const IPV6: usize = 40;
const TCP_LEAST: usize = 20;
/// Bytes of a packet that are looked at for headers.
const HEADERS: usize = 256;
/// What protocols are called in the headers before them.
const TYPE_VLAN: u16 = 0x8100;
const TYPE_IPV4: u16 = 0x0800;
const TYPE_IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// TCP's flags that only the last segment has (FIN, PSH), and only the first (CWR).
const LAST_FLAGS: u8 = 0x09;
const FIRST_FLAGS: u8 = 0x80;

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
    /// Where data begins.
    pub data: usize,
}

impl Headers {
    /// Finds them; `None` if the packet is nothing of the kind, a fragment, or too short.
    #[must_use]
    pub fn of<B: Buffer>(packet: &Packet<B>) -> Option<Self> {
        let bytes: [u8; HEADERS] = packet.start();
        let half = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let mut network = ETHERNET;
        let mut kind = half(12)?;
        if kind == TYPE_VLAN {
            (kind, network) = (half(16)?, ETHERNET + VLAN);
        }
        let first = *bytes.get(network)?;
        let (family, transport, protocol) = match (kind, first >> 4) {
            (TYPE_IPV4, 4) => {
                let length = usize::from(first & 0xf) * 4;
                let is_fragment = half(network + 6)? & 0x3fff != 0;
                if length < 20 || is_fragment {
                    return None;
                }
                (Family::V4, network + length, *bytes.get(network + 9)?)
            }
            (TYPE_IPV6, 6) => (Family::V6, network + IPV6, *bytes.get(network + 6)?),
            _ => return None,
        };
        let (is_tcp, data) = match protocol {
            TCP => {
                let length = usize::from(bytes.get(transport + 12)? >> 4) * 4;
                (length >= TCP_LEAST).then_some((true, transport + length))?
            }
            UDP => (false, transport + 8),
            _ => return None,
        };
        let fits = data <= packet.length.min(HEADERS);
        fits.then_some(Self { family, network, transport, is_tcp, data })
    }

    /// Where the checksum is.
    #[must_use]
    pub const fn checksum(&self) -> usize {
        self.transport + if self.is_tcp { 16 } else { 6 }
    }
}

/// The sum of words in the way of the Internet's checksums; the part begins at an even place.
fn sum<B: Buffer>(packet: &Packet<B>, from: usize, to: usize) -> u64 {
    let mut sum = 0;
    let mut piece = [0; 512];
    let mut at = from;
    while at < to {
        let length = piece.len().min(to - at);
        let read = packet.read(at, piece.get_mut(..length).unwrap_or_default());
        if read == 0 {
            break;
        }
        let (pairs, odd) = piece.get(..read).unwrap_or_default().as_chunks();
        sum += pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum::<u64>();
        sum += odd.first().map_or(0, |byte| u64::from(*byte) << 8);
        at += read;
    }
    sum
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or_default()
}

/// The sum over the pseudo-header.
fn pseudo<B: Buffer>(packet: &Packet<B>, headers: &Headers) -> u64 {
    let (addresses, length) = match headers.family {
        Family::V4 => (headers.network + 12, 8),
        Family::V6 => (headers.network + 8, 32),
    };
    let protocol = if headers.is_tcp { TCP } else { UDP };
    let rest = (packet.length - headers.transport) as u64;
    sum(packet, addresses, addresses + length) + u64::from(protocol) + rest
}

/// Fills a blank checksum in. Whether there was one to fill in.
pub fn fill<B: Buffer>(packet: &mut Packet<B>) -> bool {
    let Some(headers) = Headers::of(packet).filter(|_| packet.checksum == Checksum::Blank) else {
        return false;
    };
    packet.write(headers.checksum(), &[0, 0]);
    let total = pseudo(packet, &headers) + sum(packet, headers.transport, packet.length);
    let value = match !fold(total) {
        // Of UDP 0 says that there is none.
        0 if !headers.is_tcp => 0xffff,
        value => value,
    };
    packet.write(headers.checksum(), &value.to_be_bytes());
    packet.checksum = Checksum::Right;
    true
}

/// Cuts a packet into segments with right checksums; `None` if it is not what it says, or there is no
/// memory.
pub fn segments<B: Buffer>(
    packet: &Packet<B>,
    pool: &mut impl Pool<Buffer = B>,
) -> Option<Vec<Packet<B>>> {
    let plan = packet.segmentation?;
    let headers = Headers::of(packet)
        .filter(|headers| headers.is_tcp && headers.family == plan.family && plan.size > 0)?;
    let start: [u8; HEADERS] = packet.start();
    let head = start.get(..headers.data)?;
    let word = |at: usize| Some(u32::from_be_bytes(head.get(at..at + 4)?.try_into().ok()?));
    let sequence = word(headers.transport + 4)?;
    let identity = u16::from_be_bytes(head.get(headers.network + 4..headers.network + 6)?.try_into().ok()?);
    let flags = *head.get(headers.transport + 13)?;
    let total = packet.length - headers.data;
    let size = usize::from(plan.size);
    let mut out = Vec::new();
    for (number, at) in (0..total.max(1)).step_by(size).enumerate() {
        let length = size.min(total - at.min(total));
        let mut segment = Packet::new(headers.data + length, pool)?;
        segment.write(0, head);
        copy(packet, headers.data + at, &mut segment, headers.data, length);
        let at32 = u32::try_from(at).ok()?;
        segment.write(headers.transport + 4, &sequence.wrapping_add(at32).to_be_bytes());
        let is_last = at + length >= total;
        let drop = if is_last { 0 } else { LAST_FLAGS } | if number == 0 { 0 } else { FIRST_FLAGS };
        segment.write(headers.transport + 13, &[flags & !drop]);
        set_lengths(&mut segment, &headers, identity.wrapping_add(u16::try_from(number).ok()?))?;
        segment.checksum = Checksum::Blank;
        fill(&mut segment);
        out.push(segment);
    }
    Some(out)
}

/// Copies data from one packet to another.
fn copy<B: Buffer>(
    from: &Packet<B>,
    mut source: usize,
    to: &mut Packet<B>,
    mut destination: usize,
    mut length: usize,
) {
    let mut piece = [0; 512];
    while length > 0 {
        let part = piece.len().min(length);
        let read = from.read(source, piece.get_mut(..part).unwrap_or_default());
        if read == 0 {
            return;
        }
        to.write(destination, piece.get(..read).unwrap_or_default());
        (source, destination, length) = (source + read, destination + read, length - read);
    }
}

/// Sets the lengths in IP's header, and of IPv4 number and checksum.
fn set_lengths<B: Buffer>(packet: &mut Packet<B>, headers: &Headers, number: u16) -> Option<()> {
    let network = headers.network;
    match headers.family {
        Family::V4 => {
            let length = u16::try_from(packet.length - network).ok()?;
            packet.write(network + 2, &length.to_be_bytes());
            packet.write(network + 4, &number.to_be_bytes());
            packet.write(network + 10, &[0, 0]);
            let value = !fold(sum(packet, network, headers.transport));
            packet.write(network + 10, &value.to_be_bytes());
        }
        Family::V6 => {
            let length = u16::try_from(packet.length - network - IPV6).ok()?;
            packet.write(network + 4, &length.to_be_bytes());
        }
    }
    Some(())
}
