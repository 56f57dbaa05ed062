//! Packets, made and checked without anything of the back end's.

use hypercall_abi::netif::{GSO_TCPV4, GSO_TCPV6};
use netback::Mac;

use crate::front::Frame;
use crate::world::Random;

/// What a packet is of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Kind {
    pub(crate) v6: bool,
    pub(crate) tcp: bool,
    pub(crate) vlan: bool,
    /// Bytes of options of TCP and of IP.
    pub(crate) options: (usize, usize),
}

impl Kind {
    pub(crate) const TCP4: Self = Self { v6: false, tcp: true, vlan: false, options: (0, 0) };

    pub(crate) fn random(random: &mut Random) -> Self {
        let options = (4 * random.below(11), 8 * random.below(5));
        Self { v6: random.flip(), tcp: random.flip(), vlan: random.below(4) == 0, options }
    }

    fn network(self) -> usize {
        14 + if self.vlan { 4 } else { 0 }
    }

    pub(crate) fn transport(self) -> usize {
        self.network() + if self.v6 { 40 } else { 20 } + self.options.1
    }

    pub(crate) fn headers(self) -> usize {
        self.transport() + if self.tcp { 20 + self.options.0 } else { 8 }
    }

    pub(crate) fn gso(self, size: u16) -> (u8, u16) {
        (if self.v6 { GSO_TCPV6 } else { GSO_TCPV4 }, size)
    }
}

/// The sum of words of two bytes, as the standard describes it.
pub(crate) fn sum(bytes: &[u8]) -> u32 {
    let mut sum = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

fn pseudo(kind: Kind, bytes: &[u8]) -> Vec<u8> {
    let network = kind.network();
    let length = (bytes.len() - kind.transport()) as u32;
    let addresses = if kind.v6 { 8..40 } else { 12..20 };
    let mut all = bytes[network..][addresses].to_vec();
    all.extend(length.to_be_bytes());
    all.extend([0, 0, 0, if kind.tcp { 6 } else { 17 }]);
    all
}

fn place(kind: Kind) -> usize {
    kind.transport() + if kind.tcp { 16 } else { 6 }
}

/// Whether the checksums of a packet are right: over pseudo-header, header and data, the checksum
/// included, all ones.
pub(crate) fn is_right(kind: Kind, bytes: &[u8]) -> bool {
    let mut all = pseudo(kind, bytes);
    all.extend(&bytes[kind.transport()..]);
    let network =
        if kind.v6 { true } else { sum(&bytes[kind.network()..kind.transport()]) == 0xffff };
    let stored = &bytes[place(kind)..place(kind) + 2];
    network && sum(&all) == 0xffff && (kind.tcp || stored != [0, 0])
}

/// Puts the checksum in, or the pseudo-header's sum.
pub(crate) fn set_checksum(kind: Kind, bytes: &mut [u8], blank: bool) {
    let place = place(kind);
    bytes[place..place + 2].fill(0);
    let mut all = pseudo(kind, bytes);
    if !blank {
        all.extend(&bytes[kind.transport()..]);
    }
    let value = sum(&all) as u16;
    let value = if blank { value } else { !value };
    let value = if value == 0 && !kind.tcp && !blank { 0xffff } else { value };
    bytes[place..place + 2].copy_from_slice(&value.to_be_bytes());
}

/// A packet of so many bytes of data.
pub(crate) fn packet(
    kind: Kind,
    (to, from): (Mac, Mac),
    length: usize,
    random: &mut Random,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(to.0);
    bytes.extend(from.0);
    if kind.vlan {
        bytes.extend([0x81, 0, 0x20, 5]);
    }
    let (network, transport) = (kind.network(), kind.transport());
    bytes.extend(if kind.v6 { [0x86, 0xdd] } else { [8, 0] });
    bytes.extend(random.bytes(kind.headers() + length - network));
    let end = bytes.len();
    let protocol = if kind.tcp { 6 } else { 17 };
    if kind.v6 {
        bytes[network] = 0x60;
        bytes[network + 4..network + 6]
            .copy_from_slice(&((end - network - 40) as u16).to_be_bytes());
        bytes[network + 6] = if kind.options.1 > 0 { 60 } else { protocol };
        if kind.options.1 > 0 {
            bytes[network + 40] = protocol;
            bytes[network + 41] = (kind.options.1 / 8 - 1) as u8;
        }
    } else {
        bytes[network] = 0x45 + (kind.options.1 / 4) as u8;
        bytes[network + 2..network + 4].copy_from_slice(&((end - network) as u16).to_be_bytes());
        bytes[network + 6..network + 8].copy_from_slice(&[0x40, 0]);
        bytes[network + 9] = protocol;
        bytes[network + 10..network + 12].fill(0);
        let value = !(sum(&bytes[network..transport]) as u16);
        bytes[network + 10..network + 12].copy_from_slice(&value.to_be_bytes());
    }
    if kind.tcp {
        bytes[transport + 12] = (5 + kind.options.0 / 4) as u8 * 16;
        bytes[transport + 13] = random.next() as u8;
    } else {
        let length = (end - transport) as u16;
        bytes[transport + 4..transport + 6].copy_from_slice(&length.to_be_bytes());
    }
    set_checksum(kind, &mut bytes, false);
    bytes
}

/// A packet whose checksum is blank.
pub(crate) fn blank(mut bytes: Vec<u8>, kind: Kind) -> Frame {
    set_checksum(kind, &mut bytes, true);
    Frame { bytes, blank: true, validated: true, gso: None }
}

/// A packet that is to be cut.
pub(crate) fn long(bytes: Vec<u8>, kind: Kind, size: u16) -> Frame {
    Frame { gso: Some(kind.gso(size)), ..blank(bytes, kind) }
}

/// Checks that segments are what a packet was to be cut into, and puts them together again.
pub(crate) fn assemble(kind: Kind, original: &[u8], size: usize, segments: &[Vec<u8>]) -> Vec<u8> {
    let (network, transport, headers) = (kind.network(), kind.transport(), kind.headers());
    let number = |bytes: &[u8], at: usize| {
        u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
    };
    let mut data = original[..headers].to_vec();
    for (index, segment) in segments.iter().enumerate() {
        let is_last = index + 1 == segments.len();
        let length = segment.len() - headers;
        assert!(length == size || is_last && length < size && length > 0);
        let done = (data.len() - headers) as u32;
        let sequence = number(original, transport + 4).wrapping_add(done);
        assert_eq!(number(segment, transport + 4), sequence);
        let mut mask = 0xff;
        mask &= if is_last { 0xff } else { !0x09 };
        mask &= if index == 0 { 0xff } else { !0x80 };
        assert_eq!(segment[transport + 13], original[transport + 13] & mask);
        let told =
            |bytes: &[u8], at: usize| usize::from(bytes[at]) << 8 | usize::from(bytes[at + 1]);
        if kind.v6 {
            assert_eq!(told(segment, network + 4), segment.len() - network - 40);
        } else {
            assert_eq!(told(segment, network + 2), segment.len() - network);
            let id = (told(original, network + 4) + index) & 0xffff;
            assert_eq!(told(segment, network + 4), id);
        }
        data.extend(&segment[headers..]);
    }
    data
}
