//! What the back end asks of the machine: access to one front end's pages, and its event channels.

use core::task::Context;

use hypercall_abi::types::{DomId, GrantRef};
use shared_ring::Words;

use crate::packet::{Buffer, Packet};

/// Which way copies go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// From the front end's pages.
    FromGuest,
    /// To the front end's pages.
    ToGuest,
}

/// A part of a page that a front end has granted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Piece {
    /// Its page; whether it granted it is not known.
    pub gref: GrantRef,
    /// Where in that page. Unit: bytes.
    pub offset: u16,
    /// Not 0; does not leave the page. Unit: bytes.
    pub length: u16,
}

/// A copy between a granted page and a page of a packet, or from a page that another front end has
/// granted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Copy {
    /// The front end's page; whether it granted it is not known.
    pub gref: GrantRef,
    /// Where in that page. Unit: bytes.
    pub offset: u16,
    /// Not 0; leaves neither page. Unit: bytes.
    pub length: u16,
    /// Which packet, by its place among those of the batch.
    pub packet: u16,
    /// Which of the packet's pages.
    pub page: u16,
    /// Where in the packet's page. Unit: bytes.
    pub at: u16,
    /// If it is not of the packet's pages, but of another front end's: whose, which page, and where
    /// in it. So are copies to the front end alone. Unit: bytes.
    pub source: Option<(DomId, GrantRef, u16)>,
    /// Set by [`Guest::copy`]: whether it was made as a whole.
    pub done: bool,
}

/// One of the two rings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// The one for packets from the front end.
    Tx,
    /// The one for packets to the front end.
    Rx,
}

/// One front end: its pages and its event channels. Dropping it closes the channels.
pub trait Guest: 'static {
    /// A mapped page of a ring. Dropping it unmaps it.
    type Page: Words;
    /// A page of a packet.
    type Buffer: Buffer;

    /// The domain that it is in.
    fn domain(&self) -> DomId;

    /// Makes copies between the front end's pages and the packets', in their order, and notes in
    /// each whether it was made. One that is refused stops no other.
    fn copy(
        &mut self,
        direction: Direction,
        copies: &mut [Copy],
        packets: &mut [Packet<Self::Buffer>],
    );

    /// The time since some moment; it never goes back. Unit: nanoseconds.
    fn now(&self) -> u64;

    /// Tells the front end that there are responses on a ring. [`Side::Tx`] stands for both if
    /// there is one event channel.
    fn notify(&mut self, side: Side);

    /// From now on the caller's task is woken by the next event of the front end's, on whichever
    /// channel. Events that came before are forgotten: the caller looks at the rings next.
    fn listen(&mut self, cx: &mut Context<'_>);
}
