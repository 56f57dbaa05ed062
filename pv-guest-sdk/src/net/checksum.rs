//! Checksums of TCP and UDP over IPv4, where one end leaves them to the other.

use core::ops::Range;

use super::card::ETHERNET;

/// Where TCP or UDP lie in an Ethernet packet that has all of them, and where their checksum does.
struct Place {
    addresses: Range<usize>,
    protocol: u8,
    payload: Range<usize>,
    checksum: usize,
}

const TCP: u8 = 6;
const UDP: u8 = 17;

fn find(packet: &[u8]) -> Option<Place> {
    let ip = packet.get(ETHERNET..).filter(|_| packet[12..ETHERNET] == [8, 0])?;
    let header = 4 * usize::from(ip.first().filter(|first| *first >> 4 == 4)? & 15);
    let length = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
    // A fragment has a part of what the sum is of.
    let fragment = [*ip.get(6)? & 0x3f, *ip.get(7)?] != [0, 0];
    let protocol = *ip.get(9)?;
    let (checksum, least) = match protocol {
        TCP => (16, 20),
        UDP => (6, 8),
        _ => return None,
    };
    if fragment || header < 20 || header + least > length || length > ip.len() {
        return None;
    }
    Some(Place {
        addresses: ETHERNET + 12..ETHERNET + 20,
        protocol,
        payload: ETHERNET + header..ETHERNET + length,
        checksum: ETHERNET + header + checksum,
    })
}

/// The sum of 16-bit words, two at a time, without the last carry.
fn sum(bytes: &[u8]) -> u64 {
    let (pairs, rest) = bytes.as_chunks();
    let pairs = pairs.iter().map(|pair| u64::from(u32::from_be_bytes(*pair)));
    let rest = rest
        .chunks(2)
        .map(|word| u64::from(word[0]) << 8 | word.get(1).map_or(0, |&low| u64::from(low)));
    pairs.sum::<u64>() + rest.sum::<u64>()
}

const fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [.., high, low] = sum.to_be_bytes();
    u16::from_be_bytes([high, low])
}

fn pseudo(packet: &[u8], place: &Place) -> u64 {
    sum(&packet[place.addresses.clone()]) + u64::from(place.protocol) + place.payload.len() as u64
}

/// Puts the sum of the pseudo header where the checksum is to be, and says whether there is such a
/// place.
pub(super) fn leave_blank(packet: &mut [u8]) -> bool {
    let Some(place) = find(packet) else { return false };
    let sum = fold(pseudo(packet, &place));
    packet[place.checksum..place.checksum + 2].copy_from_slice(&sum.to_be_bytes());
    true
}

/// Whether a packet's checksum is right, or it has none that can be looked at.
pub(super) fn is_right(packet: &[u8]) -> bool {
    let Some(place) = find(packet) else { return true };
    let absent = place.protocol == UDP && packet[place.checksum..place.checksum + 2] == [0, 0];
    absent || fold(pseudo(packet, &place) + sum(&packet[place.payload])) == 0xffff
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::{fold, is_right, leave_blank, sum};

    /// A packet of UDP from RFC 768's fields, with an odd length and options in the header of IP.
    fn packet() -> Vec<u8> {
        let mut packet = std::vec![0; 12];
        packet
            .extend([8, 0, 0x46, 0, 0, 35, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend([1, 1, 1, 0, 0x30, 0x39, 0, 80, 0, 11, 0, 0, b'a', b'b', b'c']);
        packet
    }

    #[test]
    fn a_blank_checksum_becomes_right_when_it_is_filled_in() {
        let mut packet = packet();
        assert!(is_right(&packet), "UDP may have none");
        assert!(leave_blank(&mut packet));
        // What the other end does: sum all, and put the complement.
        let filled = !fold(sum(&packet[38..]));
        packet[44..46].copy_from_slice(&filled.to_be_bytes());
        assert!(is_right(&packet));
        // By hand: a00+1 + a00+2 + 11 + b + 3039 + 50 + b + 6162 + 6300, complemented.
        let by_hand = !fold(0xa00 + 1 + 0xa00 + 2 + 17 + 11 + 0x3039 + 80 + 11 + 0x6162 + 0x6300);
        assert_eq!(filled, by_hand);
        packet[47] ^= 1;
        assert!(!is_right(&packet));
    }

    #[test]
    fn what_is_no_whole_packet_has_no_checksum() {
        for length in 0..packet().len() {
            assert!(!leave_blank(&mut packet()[..length]), "{length}");
        }
        let change = |at: usize, value: u8| {
            let mut packet = packet();
            packet[at] = value;
            leave_blank(&mut packet)
        };
        assert!(change(20, 0x40) && !change(20, 0x20) && !change(21, 1), "fragments");
        assert!(!change(14, 0x66) && !change(14, 0x44) && !change(14, 0x4f) && !change(23, 1));
        assert!(!change(16, 1) && !change(17, 31) && !change(13, 6));
    }
}
