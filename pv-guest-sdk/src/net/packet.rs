//! Packets as the rings have them: pieces, and what is said of a packet beside its bytes.

use core::num::NonZeroU16;

use heapless::Vec;
use hypercall_abi::netif::{self as abi, ExtraInfo, RxResponse};
use hypercall_abi::types::PAGE_SIZE;

use super::error::Breach;

/// The most pieces of a packet that is received.
const PIECES: usize = 20;
/// The most extra infos of one.
const EXTRAS: u8 = 4;

/// What is known of the checksum of a packet's TCP or UDP.
///
/// # Examples
///
/// ```ignore-none
/// # use pv_guest_sdk::{net::{Checksum, Note}};
/// // The back end is to fill the checksum in.
/// let note = Note { checksum: Checksum::Blank, segment: None };
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Checksum {
    /// It is filled in; whether it is right is not known.
    #[default]
    Complete,
    /// It is filled in, and somebody has found it right.
    Validated,
    /// In its place is that of the pseudo header. The packet came no way on which it could break.
    Blank,
}

/// What is said of a packet beside its bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Note {
    /// Of its checksum.
    pub checksum: Checksum,
    /// For a packet of TCP over IPv4 that stands for several: how much each of them carries.
    /// Unit: bytes.
    pub segment: Option<NonZeroU16>,
}

/// A piece in the page of its number. Unit: bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) page: usize,
    pub(super) offset: usize,
    pub(super) length: usize,
}

/// A packet as it comes in, answer by answer.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    pieces: Vec<Piece, PIECES>,
    note: Note,
    extras: u8,
    /// The next answer is an extra info.
    wants_extra: bool,
    /// A piece is missing.
    faulty: bool,
    /// All of it is there.
    complete: bool,
    /// What the last piece's flags were.
    more: bool,
}

impl Assembly {
    /// Takes an answer, which is for the page of a number.
    pub(super) fn take(&mut self, bytes: [u8; 8], page: usize) -> Result<(), Breach> {
        if self.wants_extra {
            self.extra(zerocopy::transmute!(bytes))?;
        } else {
            self.piece(zerocopy::transmute!(bytes), page)?;
        }
        self.complete = !self.wants_extra && !self.more;
        Ok(())
    }

    fn piece(&mut self, answer: RxResponse, page: usize) -> Result<(), Breach> {
        let RxResponse { id, offset, flags, status } = answer;
        if usize::from(id) != page {
            return Err(Breach::Answer(id));
        }
        let first = self.pieces.is_empty();
        match u16::try_from(status) {
            Ok(length) if usize::from(offset) + usize::from(length) <= PAGE_SIZE => {
                let piece = Piece { page, offset: offset.into(), length: length.into() };
                self.pieces.push(piece).map_err(|_| Breach::Endless)?;
            }
            Ok(length) => return Err(Breach::Piece(offset, length)),
            Err(_) => {
                self.faulty = true;
                let nothing = Piece { page, offset: 0, length: 0 };
                self.pieces.push(nothing).map_err(|_| Breach::Endless)?;
            }
        }
        if first {
            self.note.checksum = match flags {
                _ if flags & abi::RX_CSUM_BLANK != 0 => Checksum::Blank,
                _ if flags & abi::RX_DATA_VALIDATED != 0 => Checksum::Validated,
                _ => Checksum::Complete,
            };
        }
        self.more = flags & abi::RX_MORE_DATA != 0;
        self.wants_extra = flags & abi::RX_EXTRA_INFO != 0;
        Ok(())
    }

    fn extra(&mut self, extra: ExtraInfo) -> Result<(), Breach> {
        let size = NonZeroU16::new(extra.gso_size);
        self.extras += 1;
        match (extra.kind, extra.gso_kind, size) {
            _ if self.extras > EXTRAS => return Err(Breach::Endless),
            (abi::EXTRA_GSO, abi::GSO_TCPV4, Some(_)) => self.note.segment = size,
            (kind, ..) => return Err(Breach::Extra(kind)),
        }
        self.wants_extra = extra.flags & abi::EXTRA_MORE != 0;
        Ok(())
    }

    pub(super) const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether a piece is missing.
    pub(super) const fn is_faulty(&self) -> bool {
        self.faulty
    }

    pub(super) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    pub(super) const fn note(&self) -> Note {
        self.note
    }

    /// Unit: bytes.
    pub(super) fn length(&self) -> usize {
        self.pieces.iter().map(|piece| piece.length).sum()
    }
}
