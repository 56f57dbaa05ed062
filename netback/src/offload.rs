//! What cards do for kernels, done here where no card or kernel does it: filling checksums in, and
//! cutting long packets into segments.

use core::ops::ControlFlow;

use crate::headers::{HEADERS, Headers, IPV6, TCP, UDP, half};
use crate::packet::{Buffer, Checksum, Family, Packet, Pool};

/// TCP's flags that only the last segment has (FIN, PSH), and only the first (CWR).
const LAST_FLAGS: u8 = 0x09;
const FIRST_FLAGS: u8 = 0x80;

/// The one's complement's sum of two.
const fn add(one: u64, other: u64) -> u64 {
    let (sum, carry) = one.overflowing_add(other);
    sum + carry as u64
}

/// The sum of words of two bytes, in this machine's order: it is the same in any, but for the order
/// of the bytes of the result.
fn sum_of(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks();
    let mut last = [0; 8];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    words.iter().fold(u64::from_le_bytes(last), |sum, word| add(sum, u64::from_le_bytes(*word)))
}

/// The sum of a part of a packet, which begins at an even place.
fn sum<B: Buffer>(packet: &Packet<B>, from: usize, to: usize) -> u64 {
    packet.slices(from, to).map(sum_of).fold(0, add)
}

/// Makes a sum a number of two bytes.
fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::from_be(u16::try_from(sum).unwrap_or_default())
}

/// The sum over the pseudo-header.
fn pseudo<B: Buffer>(packet: &Packet<B>, headers: &Headers) -> u64 {
    let (addresses, length) = match headers.family {
        Family::V4 => (headers.network + 12, 8),
        Family::V6 => (headers.network + 8, 32),
    };
    let protocol = if headers.is_tcp { TCP } else { UDP };
    // A packet's length is less than 2^32.
    let rest = u32::try_from(headers.end - headers.transport).unwrap_or_default();
    let mut numbers = [0; 8];
    numbers[7] = protocol;
    let numbers = add(sum_of(&numbers), sum_of(&rest.to_be_bytes()));
    add(sum(packet, addresses, addresses + length), numbers)
}

/// Fills a blank checksum in. Returns whether that could be done: it is right then.
pub fn fill<B: Buffer>(packet: &mut Packet<B>) -> bool {
    let Some(headers) = Headers::of(packet) else { return false };
    fill_at(packet, &headers);
    true
}

fn fill_at<B: Buffer>(packet: &mut Packet<B>, headers: &Headers) {
    packet.write(headers.checksum(), &[0, 0]);
    let total = add(pseudo(packet, headers), sum(packet, headers.transport, headers.end));
    let value = match !fold(total) {
        // Of UDP 0 says that there is none.
        0 if !headers.is_tcp => 0xffff,
        value => value,
    };
    packet.write(headers.checksum(), &value.to_be_bytes());
    packet.checksum = Checksum::Right;
}

/// Makes a checksum blank.
pub(crate) fn blank<B: Buffer>(packet: &mut Packet<B>, headers: &Headers) {
    let value = fold(pseudo(packet, headers));
    packet.write(headers.checksum(), &value.to_be_bytes());
    packet.checksum = Checksum::Blank;
}

/// Into how many segments a packet is cut; 1 if it need not be.
#[must_use]
pub fn count<B: Buffer>(packet: &Packet<B>, headers: &Headers) -> usize {
    let size = packet.segmentation.map_or(usize::MAX, |it| it.size.max(1).into());
    (headers.end - headers.data).div_ceil(size).max(1)
}

/// Cuts a packet into segments and gives one after the other to `emit`, until that has enough.
/// Their checksums are filled in if `filled`, else blank. `None` if it is not what it says, or there
/// are no pages.
pub fn segments<B: Buffer>(
    packet: &Packet<B>,
    filled: bool,
    pool: &mut impl Pool<Buffer = B>,
    mut emit: impl FnMut(Packet<B>) -> ControlFlow<()>,
) -> Option<()> {
    let plan = packet.segmentation?;
    let headers = Headers::of(packet)
        .filter(|headers| headers.is_tcp && headers.family == plan.family && plan.size > 0)?;
    let start: [u8; HEADERS] = packet.start();
    let head = start.get(..headers.data)?;
    let sequence = u32::from_be_bytes(*head.get(headers.transport + 4..)?.first_chunk()?);
    let identity = half(head, headers.network + 4)?;
    let flags = *head.get(headers.transport + 13)?;
    let total = headers.end - headers.data;
    let size = usize::from(plan.size);
    let mut number = 0_u16;
    for at in (0..total.max(1)).step_by(size) {
        let length = size.min(total - at);
        let mut segment = Packet::new(headers.data + length, pool)?;
        segment.write(0, head);
        let mut to = headers.data;
        for part in packet.slices(headers.data + at, headers.data + at + length) {
            segment.write(to, part);
            to += part.len();
        }
        let at32 = u32::try_from(at).ok()?;
        segment.write(headers.transport + 4, &sequence.wrapping_add(at32).to_be_bytes());
        let is_last = at + length >= total;
        let not = if is_last { 0 } else { LAST_FLAGS } | if number == 0 { 0 } else { FIRST_FLAGS };
        segment.write(headers.transport + 13, &[flags & !not]);
        let headers = Headers { end: headers.data + length, ..headers };
        set_lengths(&mut segment, &headers, identity.wrapping_add(number));
        if filled {
            fill_at(&mut segment, &headers)
        } else {
            blank(&mut segment, &headers)
        }
        if emit(segment).is_break() {
            break;
        }
        number = number.wrapping_add(1);
    }
    Some(())
}

/// Sets the lengths in IP's header, and of IPv4 number and checksum.
fn set_lengths<B: Buffer>(packet: &mut Packet<B>, headers: &Headers, number: u16) {
    let network = headers.network;
    // A segment is shorter than the packet, whose length the same place could hold.
    let half = |length: usize| u16::try_from(length).unwrap_or_default().to_be_bytes();
    match headers.family {
        Family::V4 => {
            packet.write(network + 2, &half(headers.end - network));
            packet.write(network + 4, &number.to_be_bytes());
            packet.write(network + 10, &[0, 0]);
            let value = !fold(sum(packet, network, headers.transport));
            packet.write(network + 10, &value.to_be_bytes());
        }
        Family::V6 => packet.write(network + 4, &half(headers.end - network - IPV6)),
    }
}
