//! What is behind a port and takes packets in the turn of who sends them, as long as none waits.

use alloc::vec::Vec;

use hypercall_abi::types::DomId;

use super::Counters;
use crate::guest::Piece;
use crate::packet::Packet;

/// The part of a packet that is still in its sender's pages.
#[derive(Clone, Copy)]
pub(crate) struct Rest<'a> {
    /// Whose pages they are.
    pub(crate) domain: DomId,
    /// Its pieces, in order: all of the packet but the [`HEADERS`](crate::headers::HEADERS) bytes
    /// that its page has.
    pub(crate) pieces: &'a [Piece],
    /// What the sender knows the packet by.
    pub(crate) tag: u16,
}

/// What became of a packet.
pub(crate) enum Placed<B> {
    /// It has its places.
    Done,
    /// There are not enough places now.
    Full(Packet<B>),
    /// The ring is broken, and the packet lost. The port's own task has to know.
    Broken,
}

/// Where packets leave the switch at once.
pub(crate) trait Exit<B> {
    /// Gives a packet its places. Nothing is copied yet.
    fn place(&mut self, packet: Packet<B>, rest: Option<Rest<'_>>) -> Placed<B>;

    /// Copies what has places, and tells the front end. Tags of packets that were not copied as a
    /// whole, of those that have one, are added to `failed`.
    fn finish(&mut self, counters: &mut Counters, failed: &mut Vec<u16>);
}
