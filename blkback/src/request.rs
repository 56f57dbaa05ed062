//! What a request asks for, and whether it may.

use hypercall_abi::blkif::{
    self as abi, DISCARD_SECURE, DiscardRequest, IndirectRequest, Request, STATUS_ERROR,
    STATUS_NOT_SUPPORTED, Segment,
};
use hypercall_abi::types::GrantRef;
use zerocopy::{FromBytes, IntoBytes};

use crate::disk::Geometry;
use crate::guest::Direction;

/// Sectors in a page.
const PAGE_SECTORS: u8 = 8;

/// The status of the response to a request that is refused.
pub(crate) type Status = i16;

/// What a request asks for; the disk's and the protocol's limits are kept, except that segments in
/// other pages are not known yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Work<'a> {
    Transfer { direction: Direction, sector: u64, barrier: bool, segments: Segments<'a> },
    Flush,
    Discard { sector: u64, count: u64 },
}

/// Where the segments of a transfer are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Segments<'a> {
    Direct(&'a [Segment]),
    /// In a page of the front end's: which one, and how many.
    Indirect(GrantRef, u16),
}

impl<'a> Work<'a> {
    /// How many segments it has.
    pub(crate) fn segments(&self) -> usize {
        match self {
            Self::Transfer { segments: Segments::Direct(list), .. } => list.len(),
            Self::Transfer { segments: Segments::Indirect(_, count), .. } => usize::from(*count),
            _ => 0,
        }
    }

    /// Reads a request. `most` is the highest number of segments of an indirect one.
    pub(crate) fn parse(request: &'a Request, disk: &Geometry, most: u16) -> Result<Self, Status> {
        match request.operation {
            abi::READ => Self::direct(request, Direction::ToGuest, disk),
            abi::WRITE => Self::direct(request, Direction::FromGuest, disk),
            // Data of a flush would be lost without a word.
            abi::FLUSH if disk.flush && request.nr_segments == 0 => Ok(Self::Flush),
            abi::FLUSH if disk.flush => Err(STATUS_ERROR),
            abi::WRITE_BARRIER if disk.flush => Self::barrier(request, disk),
            abi::DISCARD => Self::discard(request, disk),
            abi::INDIRECT => Self::indirect(request, disk, most),
            _ => Err(STATUS_NOT_SUPPORTED),
        }
    }

    fn direct(request: &'a Request, direction: Direction, disk: &Geometry) -> Result<Self, Status> {
        let list = request.seg.get(..usize::from(request.nr_segments)).ok_or(STATUS_ERROR)?;
        check_direction(direction, disk)?;
        check_segments(list, request.sector_number, disk)?;
        let (sector, segments) = (request.sector_number, Segments::Direct(list));
        Ok(Self::Transfer { direction, sector, barrier: false, segments })
    }

    /// A barrier without data is a flush that waits for what came before.
    fn barrier(request: &'a Request, disk: &Geometry) -> Result<Self, Status> {
        if request.nr_segments == 0 {
            check_direction(Direction::FromGuest, disk)?;
            let (direction, segments) = (Direction::FromGuest, Segments::Direct(&[]));
            return Ok(Self::Transfer { direction, sector: 0, barrier: true, segments });
        }
        let mut work = Self::direct(request, Direction::FromGuest, disk)?;
        if let Self::Transfer { barrier, .. } = &mut work {
            *barrier = true;
        }
        Ok(work)
    }

    fn indirect(request: &'a Request, disk: &Geometry, most: u16) -> Result<Self, Status> {
        let (request, _) =
            IndirectRequest::read_from_prefix(request.as_bytes()).map_err(|_| STATUS_ERROR)?;
        let direction = match request.indirect_op {
            abi::READ => Direction::ToGuest,
            abi::WRITE => Direction::FromGuest,
            _ => return Err(STATUS_ERROR),
        };
        let count = request.nr_segments;
        if count == 0 || count > most {
            return Err(STATUS_ERROR);
        }
        check_direction(direction, disk)?;
        // So few that one page holds them.
        let [page, ..] = request.indirect_grefs;
        let segments = Segments::Indirect(page, count);
        Ok(Self::Transfer { direction, sector: request.sector_number, barrier: false, segments })
    }

    fn discard(request: &'a Request, disk: &Geometry) -> Result<Self, Status> {
        let (request, _) =
            DiscardRequest::read_from_prefix(request.as_bytes()).map_err(|_| STATUS_ERROR)?;
        if disk.discard.is_none() || request.flag & DISCARD_SECURE != 0 {
            return Err(STATUS_NOT_SUPPORTED);
        }
        let (sector, count) = (request.sector_number, request.nr_sectors);
        check_direction(Direction::FromGuest, disk)?;
        check_range(sector, count, disk)?;
        Ok(Self::Discard { sector, count })
    }
}

/// The operation that the response names: front ends look for what an indirect request does.
pub(crate) const fn answered(request: &Request) -> u8 {
    match request.operation {
        // There an indirect request says what it does.
        abi::INDIRECT => request.nr_segments,
        operation => operation,
    }
}

const _: () = assert!(
    core::mem::offset_of!(Request, nr_segments)
        == core::mem::offset_of!(IndirectRequest, indirect_op)
);

/// Checks that the segments of a transfer lie within pages, and what they transfer on the disk.
pub(crate) fn check_segments(list: &[Segment], sector: u64, disk: &Geometry) -> Result<(), Status> {
    let unit = u8::try_from(disk.sector_size / abi::SECTOR_SIZE).unwrap_or(PAGE_SECTORS);
    let mut count = 0_u64;
    for segment in list {
        let (first, last) = (segment.first_sect, segment.last_sect);
        if first > last || last >= PAGE_SECTORS {
            return Err(STATUS_ERROR);
        }
        if unit > 1 && (first % unit != 0 || (last + 1) % unit != 0) {
            return Err(STATUS_ERROR);
        }
        count += u64::from(last - first) + 1;
    }
    check_range(sector, count, disk)
}

fn check_range(sector: u64, count: u64, disk: &Geometry) -> Result<(), Status> {
    let unit = u64::from(disk.sector_size / abi::SECTOR_SIZE).max(1);
    let end = sector.checked_add(count).ok_or(STATUS_ERROR)?;
    let whole = sector.is_multiple_of(unit) && count.is_multiple_of(unit);
    if count > 0 && end <= disk.sectors && whole { Ok(()) } else { Err(STATUS_ERROR) }
}

fn check_direction(direction: Direction, disk: &Geometry) -> Result<(), Status> {
    if disk.read_only && direction == Direction::FromGuest { Err(STATUS_ERROR) } else { Ok(()) }
}

/// Where in its page a segment begins, and how long it is. Unit: bytes.
pub(crate) fn extent(segment: &Segment) -> (u16, u16) {
    let sectors = segment.last_sect.saturating_sub(segment.first_sect).saturating_add(1);
    (u16::from(segment.first_sect) * 512, u16::from(sectors) * 512)
}
