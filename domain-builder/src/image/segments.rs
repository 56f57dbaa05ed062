//! The loadable segments of an image, and whether they make sense together.
use core::ops::Range;

use elf::abi::{PF_R, PF_W, PF_X, PT_LOAD};
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader};
use elf::parse::ParseAt;
use elf::segment::ProgramHeader;

use super::{FileError, ImageError, SegmentError, Table, header};

/// Program headers an image may have: the check for overlaps takes the square of their number.
pub(super) const MAX_HEADERS: u16 = 128;

/// One segment to load.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Segment {
    /// Which bytes of the file.
    pub file: Range<usize>,
    /// Where the first of them goes: bytes from the base of the domain's address space, which is
    /// also the pseudo-physical address.
    pub offset: u64,
    /// Bytes in memory; those behind the file's are zero. At least `file.len()`.
    pub memory: u64,
}

/// Iterator over the segments of a file. See [`Image::segments`](super::Image::segments).
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    file: &'a [u8],
    table: Option<Table<'a>>,
    next: usize,
    paddr_offset: u64,
}

impl<'a> Segments<'a> {
    pub(super) fn new(file: &'a [u8], paddr_offset: u64) -> Self {
        let table = header(file).ok().and_then(|header| table(file, &header).ok());
        Self { file, table, next: 0, paddr_offset }
    }
}

impl Iterator for Segments<'_> {
    type Item = Segment;

    fn next(&mut self) -> Option<Segment> {
        loop {
            // An error here is the end of the table.
            let program = self.table.as_ref()?.get(self.next).ok()?;
            self.next = self.next.checked_add(1)?;
            if !is_loaded(&program) {
                continue;
            }
            let offset = program.p_paddr.checked_sub(self.paddr_offset)?;
            let (file, _) = file_range(self.file, &program)?;
            return Some(Segment { file, offset, memory: program.p_memsz });
        }
    }
}

/// Which physical addresses an image occupies.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    pub(super) low: u64,
    /// Exclusive.
    pub(super) high: u64,
}

/// The program headers of `file`.
pub(super) fn table<'a>(
    file: &'a [u8],
    header: &FileHeader<LittleEndian>,
) -> Result<Table<'a>, ImageError> {
    if header.e_phnum > MAX_HEADERS {
        return Err(SegmentError::TooMany { count: header.e_phnum, most: MAX_HEADERS }.into());
    }
    let size = ProgramHeader::validate_entsize(Class::ELF64, usize::from(header.e_phentsize))
        .map_err(|_| FileError::HeaderSize(header.e_phentsize))?;
    let len = size.saturating_mul(usize::from(header.e_phnum));
    let needed = header.e_phoff.saturating_add(widen(len));
    let bytes = usize::try_from(header.e_phoff)
        .ok()
        .and_then(|from| Some(from..from.checked_add(len)?))
        .and_then(|range| file.get(range))
        .ok_or(FileError::Truncated {
            what: "its program headers",
            needed,
            len: widen(file.len()),
        })?;
    Ok(Table::new(LittleEndian, Class::ELF64, bytes))
}

/// Checks every segment alone and against the others, and returns what they span.
pub(super) fn check(file: &[u8], table: &Table<'_>) -> Result<Extent, SegmentError> {
    let mut extent: Option<Extent> = None;
    for (number, program) in loaded(table) {
        let end = check_one(file, number, &program)?;
        for (other, earlier) in loaded(table).take_while(|&(other, _)| other < number) {
            // Cannot overflow: the earlier one was checked in an earlier turn.
            let earlier_end = earlier.p_paddr.saturating_add(earlier.p_memsz);
            if program.p_paddr < earlier_end && earlier.p_paddr < end {
                let at = program.p_paddr.max(earlier.p_paddr);
                return Err(SegmentError::Overlap { first: other, second: number, at });
            }
        }
        let (low, high) = extent.map_or((u64::MAX, 0), |extent| (extent.low, extent.high));
        extent = Some(Extent { low: low.min(program.p_paddr), high: high.max(end) });
    }
    extent.filter(|extent| extent.low < extent.high).ok_or(SegmentError::None)
}

/// Checks one segment; returns the end of its memory.
fn check_one(file: &[u8], number: usize, program: &ProgramHeader) -> Result<u64, SegmentError> {
    let ProgramHeader { p_paddr: paddr, p_filesz: in_file, p_memsz: in_memory, .. } = *program;
    if in_file > in_memory {
        return Err(SegmentError::Size { number, in_file, in_memory });
    }
    let end =
        paddr.checked_add(in_memory).ok_or(SegmentError::Wraps { number, paddr, in_memory })?;
    if file_range(file, program).is_none() {
        return Err(SegmentError::Truncated {
            number,
            needed: program.p_offset.saturating_add(in_file),
            len: widen(file.len()),
        });
    }
    Ok(end)
}

/// The loadable segments with their numbers in the table.
fn loaded(table: &Table<'_>) -> impl Iterator<Item = (usize, ProgramHeader)> {
    table.iter().enumerate().filter(|(_, program)| is_loaded(program))
}

/// A loadable segment without any permission is not loaded, as on Xen.
fn is_loaded(program: &ProgramHeader) -> bool {
    program.p_type == PT_LOAD && program.p_flags & (PF_R | PF_W | PF_X) != 0
}

/// The bytes of a segment (or anything else with an offset and a size) in the file.
pub(super) fn file_range<'a>(
    file: &'a [u8],
    program: &ProgramHeader,
) -> Option<(Range<usize>, &'a [u8])> {
    let start = usize::try_from(program.p_offset).ok()?;
    let end = start.checked_add(usize::try_from(program.p_filesz).ok()?)?;
    let bytes = file.get(start..end)?;
    Some((start..end, bytes))
}

/// A length as the number the error messages carry.
pub(super) fn widen(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
