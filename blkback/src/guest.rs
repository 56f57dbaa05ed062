//! What the back end asks of the machine: access to one front end's pages, and its event channel.

use alloc::vec::Vec;
use core::task::Context;

use hypercall_abi::types::GrantRef;
use shared_ring::Words;

/// Which way a [`PageCopy`] goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// From the front end's page.
    FromGuest,
    /// To the front end's page.
    ToGuest,
}

/// A copy between a granted page and memory of this domain.
#[derive(Clone, Debug)]
pub struct PageCopy<P> {
    /// The front end's page; whether it granted it is not known.
    pub gref: GrantRef,
    /// Where in that page. Unit: bytes.
    pub offset: u16,
    /// This domain's memory.
    pub own: P,
    /// That of `own`; does not leave the page; not 0. Unit: bytes.
    pub length: u16,
    /// Which way.
    pub direction: Direction,
    /// Set by [`Guest::copy`]: whether it was made as a whole.
    pub done: bool,
}

/// One front end: its pages and its event channel. Dropping it closes the channel.
pub trait Guest {
    /// A mapped page of the ring. Dropping it unmaps it.
    type Page: Words;
    /// A page of this domain's own. Dropping it and its pieces gives it back.
    type Buffer;
    /// A mapped page of the front end's. Dropping it and its pieces unmaps it.
    type Mapping;
    /// A part of a page, as a disk takes it: where it is, and what keeps it there while a device
    /// may use it.
    type Piece;

    /// Makes copies in their order and notes in each whether it was made. One that is refused stops
    /// no other.
    fn copy(&mut self, copies: &mut [PageCopy<Self::Piece>]);

    /// A page of this domain's own, if there is one left.
    fn buffer(&mut self) -> Option<Self::Buffer>;

    /// A part of a page; it is within. Unit: bytes.
    fn part_of_buffer(&self, buffer: &Self::Buffer, offset: u16, length: u16) -> Self::Piece;

    /// Reads the first bytes of a page.
    fn read(&self, buffer: &Self::Buffer, bytes: &mut [u8]);

    /// Maps pages for writing and appends one result for each, in order.
    fn map(&mut self, pages: &[GrantRef], mappings: &mut Vec<Option<Self::Mapping>>);

    /// A part of a mapped page; it is within. Unit: bytes.
    fn part_of_mapping(&self, mapping: &Self::Mapping, offset: u16, length: u16) -> Self::Piece;

    /// Unmaps pages, together.
    fn unmap(&mut self, mappings: Vec<Self::Mapping>) {
        drop(mappings);
    }

    /// Tells the front end that there are responses.
    fn notify(&mut self);

    /// From now on the caller's task is woken by the next event of the front end's. Events that
    /// came before are forgotten: the caller looks at the ring next.
    fn listen(&mut self, cx: &mut Context<'_>);
}
