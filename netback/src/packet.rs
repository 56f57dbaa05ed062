//! A packet on its way: pages of this domain's own, and what is known of its checksum.

use hypercall_abi::netif::{GSO_TCPV4, GSO_TCPV6};
use hypercall_abi::types::PAGE_SIZE;
use smallvec::SmallVec;

/// A page of this domain's own, which nobody else has. Dropping it gives it back.
pub trait Buffer {
    /// What is in it.
    fn bytes(&self) -> &[u8; PAGE_SIZE];

    /// What is in it, to be changed.
    fn bytes_mut(&mut self) -> &mut [u8; PAGE_SIZE];
}

/// Where pages come from.
pub trait Pool {
    /// A page.
    type Buffer: Buffer;

    /// A page, if one is left; what is in it is not defined, but none of it is secret.
    fn buffer(&mut self) -> Option<Self::Buffer>;

    /// How many pages are left.
    fn left(&self) -> usize;
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

/// Which version of IP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The number on the rings of cutting TCP over it.
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

/// How a packet of TCP is to be cut into segments that a wire takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Segmentation {
    /// What it is.
    pub family: Family,
    /// How much data each segment carries, but the last; not 0. Unit: bytes.
    pub size: u16,
}

/// A packet, from the Ethernet header on. Every page but the last is full. One that a front end
/// sends to another one may have its beginning here alone, until it is known to go elsewhere.
#[derive(Debug)]
pub struct Packet<B> {
    /// As many as the length needs.
    pages: SmallVec<[B; 2]>,
    length: usize,
    /// What is known of its checksum.
    pub checksum: Checksum,
    /// How it is to be cut, if it is longer than a wire allows. Its checksum is blank then.
    pub segmentation: Option<Segmentation>,
}

impl<B: Buffer> Packet<B> {
    /// A packet of so many bytes, whatever they are. `None` without pages.
    pub fn new(length: usize, pool: &mut impl Pool<Buffer = B>) -> Option<Self> {
        let count = length.div_ceil(PAGE_SIZE);
        // At once: one that grows is copied again and again.
        let mut pages = SmallVec::with_capacity(count);
        for _ in 0..count {
            pages.push(pool.buffer()?);
        }
        Some(Self { pages, length, checksum: Checksum::Unknown, segmentation: None })
    }

    /// A packet of so many bytes, of which a page has the beginning. `None` without a page.
    pub(crate) fn beginning(length: usize, pool: &mut impl Pool<Buffer = B>) -> Option<Self> {
        Some(Self { length, ..Self::new(1, pool)? })
    }

    /// Adds the pages that are missing. Returns whether there were as many.
    pub(crate) fn complete(&mut self, pool: &mut impl Pool<Buffer = B>) -> bool {
        let count = self.length.div_ceil(PAGE_SIZE);
        let missing = (self.pages.len()..count).map_while(|_| pool.buffer());
        self.pages.extend(missing);
        self.pages.len() == count
    }

    /// A packet that is in these pages. `None` if they are more or fewer than its length needs.
    pub fn from_pages(pages: impl IntoIterator<Item = B>, length: usize) -> Option<Self> {
        let pages: SmallVec<_> = pages.into_iter().collect();
        let fits = pages.len() == length.div_ceil(PAGE_SIZE);
        fits.then_some(Self { pages, length, checksum: Checksum::Unknown, segmentation: None })
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
        for (to, from) in copy.pages.iter_mut().zip(self.parts()) {
            if let Some(to) = to.bytes_mut().get_mut(..from.len()) {
                to.copy_from_slice(from);
            }
        }
        (copy.checksum, copy.segmentation) = (self.checksum, self.segmentation);
        Some(copy)
    }

    /// Unit: bytes.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.length
    }

    /// Its pages, in order.
    #[must_use]
    pub fn pages(&self) -> &[B] {
        &self.pages
    }

    /// Its pages, in order, to be written to.
    pub fn pages_mut(&mut self) -> &mut [B] {
        &mut self.pages
    }

    /// Its parts in order, each in one page.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.slices(0, self.length)
    }

    /// What is from `from` to before `to`, as far as it is there, page by page.
    pub(crate) fn slices(&self, from: usize, to: usize) -> impl Iterator<Item = &[u8]> {
        let to = to.min(self.length);
        let pages = self.pages.iter().zip((0..to).step_by(PAGE_SIZE));
        pages.skip(from / PAGE_SIZE).map(move |(page, start)| {
            let range = from.saturating_sub(start)..PAGE_SIZE.min(to - start);
            page.bytes().get(range).unwrap_or_default()
        })
    }

    /// What is in its first page.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        let first = self.pages.first().map_or(&[][..], |page| page.bytes());
        first.get(..self.length).unwrap_or(first)
    }

    /// The first bytes, zeros behind its end.
    #[must_use]
    pub fn start<const N: usize>(&self) -> [u8; N] {
        let head = self.head();
        head.first_chunk().copied().unwrap_or_else(|| {
            let mut bytes = [0; N];
            bytes.iter_mut().zip(head).for_each(|(to, from)| *to = *from);
            bytes
        })
    }

    /// Puts bytes at `at`; what would be behind its end is not written.
    pub fn write(&mut self, at: usize, bytes: &[u8]) {
        let (mut at, mut bytes) = (at, bytes);
        while !bytes.is_empty() && at < self.length {
            let start = at % PAGE_SIZE;
            let length = bytes.len().min(PAGE_SIZE - start).min(self.length - at);
            let (now, later) = bytes.split_at(length);
            let page = self.pages.get_mut(at / PAGE_SIZE).map(Buffer::bytes_mut);
            if let Some(to) = page.and_then(|page| page.get_mut(start..start + length)) {
                to.copy_from_slice(now);
            }
            (at, bytes) = (at + length, later);
        }
    }
}
