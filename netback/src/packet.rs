//! A packet on its way: pages of this domain's own, and what is known of its checksum.

use alloc::vec::Vec;

use hypercall_abi::netif::{GSO_TCPV4, GSO_TCPV6};
use hypercall_abi::types::PAGE_SIZE;

/// A page of this domain's own. Dropping it gives it back.
pub trait Buffer {
    /// The machine address of its first byte.
    fn machine(&self) -> u64;

    /// What is in it.
    fn bytes(&self) -> &[u8; PAGE_SIZE];

    /// What is in it, to be changed.
    fn bytes_mut(&mut self) -> &mut [u8; PAGE_SIZE];
}

/// Where pages come from.
pub trait Pool {
    /// A page.
    type Buffer: Buffer;

    /// A page, if one is left; what is in it is not defined.
    fn buffer(&mut self) -> Option<Self::Buffer>;
}

/// What is known of the checksum of TCP or UDP.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Checksum {
    /// It is there; whether it is right is not known.
    #[default]
    Unknown,
    /// It is right.
    Right,
    /// Its place holds the sum over the pseudo-header alone: what carries the packet on a wire must
    /// fill it in. The data is right.
    Blank,
}

/// How a packet that is longer than the wire allows is to be cut.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    /// TCP over IPv4.
    V4,
    /// TCP over IPv6.
    V6,
}

impl Family {
    /// Its number on the rings.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::V4 => GSO_TCPV4,
            Self::V6 => GSO_TCPV6,
        }
    }

    pub(crate) const fn of(number: u8) -> Option<Self> {
        match number {
            GSO_TCPV4 => Some(Self::V4),
            GSO_TCPV6 => Some(Self::V6),
            _ => None,
        }
    }
}

/// How a packet is to be cut into segments.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Segmentation {
    /// What it is.
    pub family: Family,
    /// How much data each segment carries; not 0. Unit: bytes.
    pub size: u16,
}

/// A packet, from the Ethernet header on. Every page but the last is full.
#[derive(Debug)]
pub struct Packet<B> {
    /// Its pages.
    pub pages: Vec<B>,
    /// Unit: bytes.
    pub length: usize,
    /// What is known of its checksum.
    pub checksum: Checksum,
    /// How it is to be cut, if it is longer than the wire allows.
    pub segmentation: Option<Segmentation>,
}

impl<B: Buffer> Packet<B> {
    /// A packet of so many bytes, whatever they are.
    pub fn new(length: usize, pool: &mut impl Pool<Buffer = B>) -> Option<Self> {
        let pages = (0..length.div_ceil(PAGE_SIZE)).map(|_| pool.buffer()).collect::<Option<_>>()?;
        Some(Self { pages, length, checksum: Checksum::Unknown, segmentation: None })
    }

    /// A packet of these bytes.
    pub fn of(bytes: &[u8], pool: &mut impl Pool<Buffer = B>) -> Option<Self> {
        let mut packet = Self::new(bytes.len(), pool)?;
        packet.write(0, bytes);
        Some(packet)
    }

    /// A copy.
    pub fn duplicate(&self, pool: &mut impl Pool<Buffer = B>) -> Option<Self> {
        let mut copy = Self::new(self.length, pool)?;
        for (to, from) in copy.pages.iter_mut().zip(&self.pages) {
            to.bytes_mut().copy_from_slice(from.bytes());
        }
        (copy.checksum, copy.segmentation) = (self.checksum, self.segmentation);
        Some(copy)
    }

    /// Its parts in order, each in one page: machine address and bytes.
    pub fn parts(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.pages.iter().zip((0..self.length).step_by(PAGE_SIZE)).map(|(page, at)| {
            let length = PAGE_SIZE.min(self.length - at);
            (page.machine(), page.bytes().get(..length).unwrap_or_default())
        })
    }

    /// Bytes from `at` on, as far as there are some.
    pub fn read(&self, at: usize, to: &mut [u8]) -> usize {
        let mut done = 0;
        while let Some(to) = to.get_mut(done..).filter(|to| !to.is_empty()) {
            let place = at + done;
            let rest = self.length.saturating_sub(place).min(PAGE_SIZE - place % PAGE_SIZE);
            let page = self.pages.get(place / PAGE_SIZE).map(|page| page.bytes().as_slice());
            let from = page.and_then(|page| page.get(place % PAGE_SIZE..)).unwrap_or_default();
            let length = rest.min(to.len()).min(from.len());
            if length == 0 {
                break;
            }
            if let (Some(to), Some(from)) = (to.get_mut(..length), from.get(..length)) {
                to.copy_from_slice(from);
            }
            done += length;
        }
        done
    }

    /// The first bytes, zeros behind its end.
    #[must_use]
    pub fn start<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.read(0, &mut bytes);
        bytes
    }

    /// Puts bytes at `at`; what would be behind its end is not written.
    pub fn write(&mut self, at: usize, bytes: &[u8]) {
        let mut done = 0;
        while let Some(from) = bytes.get(done..).filter(|from| !from.is_empty()) {
            let place = at + done;
            let rest = self.length.saturating_sub(place).min(PAGE_SIZE - place % PAGE_SIZE);
            let length = rest.min(from.len());
            let page = self.pages.get_mut(place / PAGE_SIZE).filter(|_| length > 0);
            let Some(page) = page else { return };
            let start = place % PAGE_SIZE;
            if let (Some(to), Some(from)) =
                (page.bytes_mut().get_mut(start..start + length), from.get(..length))
            {
                to.copy_from_slice(from);
            }
            done += length;
        }
    }
}
