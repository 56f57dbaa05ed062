//! A kernel's file, packed or not, for a builder that needs not hold all of it.
//!
//! Of a packed file a first pass keeps a [`Kernel::head`]: an ELF file of the same headers and
//! notes whose segments have no bytes. It is what a domain is planned from. A second pass hands the
//! segments' bytes on as they come. A kernel that says what it is in its sections alone, as old ones
//! do, is held unpacked; it must be small.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;
use core::ops::{ControlFlow, Range};

use domain_builder::image::{Image, ImageError, NoteError};

use crate::unpack::{UnpackError, is_packed, unpack};

/// ELF's header and program headers: lengths, and places of their fields. Unit: bytes.
const HEADER: usize = 64;
const TABLE_AT: usize = 32;
const SECTIONS_AT: usize = 40;
const ENTRY_LENGTH: usize = 54;
const ENTRIES: usize = 56;
const SECTIONS: usize = 60;
const ENTRY: usize = 56;
const FLAGS: usize = 4;
const OFFSET: usize = 8;
const FILE_SIZE: usize = 32;
const MEMORY_SIZE: usize = 40;
const PT_NULL: u32 = 0;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// Program headers that are looked at.
const MOST_ENTRIES: usize = 128;
/// Bytes of notes that are kept.
const MOST_NOTES: u64 = 64 << 10;
/// Bytes of a kernel that is held unpacked, for want of notes in segments.
const MOST_WHOLE: usize = 4 << 20;

/// Why a kernel can't be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KernelError {
    /// It can't be unpacked.
    Unpack(UnpackError),
    /// It is no kernel for a PV domain.
    Image(ImageError),
    /// What was packed is no ELF file of 64 bits, or ends before its headers and notes do.
    Contents,
    /// What was packed ends within a segment.
    Cut,
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unpack(error) => write!(f, "{error}"),
            Self::Image(error) => write!(f, "{error}"),
            Self::Contents => f.write_str("what is packed in it is no ELF kernel with Xen's notes"),
            Self::Cut => f.write_str("what is packed in it ends too early"),
        }
    }
}

impl core::error::Error for KernelError {}

impl From<UnpackError> for KernelError {
    fn from(error: UnpackError) -> Self {
        Self::Unpack(error)
    }
}

/// A kernel.
#[derive(Debug)]
pub struct Kernel<'a> {
    file: &'a [u8],
    head: Cow<'a, [u8]>,
    /// What it says of itself.
    pub image: Image,
    /// Of a packed one, where the segments' bytes are in what is unpacked.
    segments: Vec<Range<u64>>,
}

impl<'a> Kernel<'a> {
    /// Reads a kernel's headers and notes.
    ///
    /// # Errors
    ///
    /// [`KernelError`].
    pub async fn open(file: &'a [u8]) -> Result<Self, KernelError> {
        let (mut head, mut segments) = (Cow::Borrowed(file), Vec::new());
        if is_packed(file) {
            let (start, places) = Collector::default().collect(file).await?;
            (head, segments) = (Cow::Owned(start), places);
        }
        let mut image = Image::parse(&head);
        // Sections, which may say what notes do not, are behind all else.
        if is_packed(file)
            && image == Err(NoteError::None.into())
            && let Some(all) = whole(file).await?
        {
            (head, segments) = (Cow::Owned(all), Vec::new());
            image = Image::parse(&head);
        }
        Ok(Self { file, image: image.map_err(KernelError::Image)?, head, segments })
    }

    /// The file that `image` was read from: itself, or if it is packed, one without segments' bytes.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Hands on the bytes of a packed kernel's segments, in the order of the file: bytes from the
    /// base of the domain's address space, and what is there. Of a kernel that is not packed there
    /// are none: they are in its [`Kernel::head`].
    ///
    /// # Errors
    ///
    /// The sink's, or [`KernelError`].
    pub async fn unpack<E: From<KernelError>>(
        &self,
        mut sink: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.segments.is_empty() {
            return Ok(());
        }
        let end = self.segments.iter().map(|range| range.end).max().unwrap_or_default();
        let (mut at, mut result) = (0, Ok(()));
        unpack(self.file, &mut |piece| {
            for (range, segment) in self.segments.iter().zip(self.image.segments(&self.head)) {
                if let Some((from, bytes)) = overlap(at, piece, range) {
                    result = sink(segment.offset + (from - range.start), bytes);
                    if result.is_err() {
                        return ControlFlow::Break(());
                    }
                }
            }
            at += piece.len() as u64;
            if at < end { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .await
        .map_err(KernelError::Unpack)?;
        result?;
        if at < end { Err(KernelError::Cut.into()) } else { Ok(()) }
    }
}

/// A packed file, unpacked, if it is small enough for that.
async fn whole(file: &[u8]) -> Result<Option<Vec<u8>>, UnpackError> {
    let (mut all, mut fits) = (Vec::new(), true);
    unpack(file, &mut |piece| {
        fits = all.len() + piece.len() <= MOST_WHOLE;
        if !fits {
            return ControlFlow::Break(());
        }
        all.extend_from_slice(piece);
        ControlFlow::Continue(())
    })
    .await?;
    Ok(fits.then_some(all))
}

/// The part of a piece, which begins at `at`, that is in the range; and where that begins.
fn overlap<'p>(at: u64, piece: &'p [u8], range: &Range<u64>) -> Option<(u64, &'p [u8])> {
    let from = range.start.max(at);
    let to = range.end.min(at + piece.len() as u64);
    let place = |position: u64| usize::try_from(position.checked_sub(at)?).ok();
    if from >= to {
        return None;
    }
    Some((from, piece.get(place(from)?..place(to)?)?))
}

/// Collects headers and notes from a stream.
#[derive(Default)]
struct Collector {
    /// The file's beginning, until the program headers are complete.
    start: Vec<u8>,
    /// The notes' places in the stream, and their bytes.
    notes: Vec<(usize, Range<u64>, Vec<u8>)>,
    ready: bool,
}

impl Collector {
    async fn collect(mut self, file: &[u8]) -> Result<(Vec<u8>, Vec<Range<u64>>), KernelError> {
        let (mut at, mut wrong) = (0, false);
        unpack(file, &mut |piece| {
            let Some(more) = self.take(at, piece) else {
                wrong = true;
                return ControlFlow::Break(());
            };
            at += piece.len() as u64;
            if more { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .await?;
        if wrong { None } else { self.finish() }.ok_or(KernelError::Contents)
    }

    /// Takes a piece; whether more is needed, or `None` if it is no kernel.
    fn take(&mut self, at: u64, piece: &[u8]) -> Option<bool> {
        if self.ready {
            return Some(self.keep(at, piece));
        }
        self.start.extend_from_slice(piece);
        if self.start.len() < HEADER {
            return Some(true);
        }
        if !self.start.starts_with(b"\x7fELF\x02\x01") {
            return None;
        }
        let needed = self.needed()?;
        if self.start.len() < needed {
            return Some(true);
        }
        self.find_notes()?;
        self.ready = true;
        let mut start = core::mem::take(&mut self.start);
        let more = self.keep(0, &start);
        start.truncate(needed);
        self.start = start;
        Some(more)
    }

    /// Keeps the bytes of notes; whether some are missing.
    fn keep(&mut self, at: u64, piece: &[u8]) -> bool {
        let mut more = false;
        for (_, range, bytes) in &mut self.notes {
            if let Some((_, part)) = overlap(at, piece, range) {
                bytes.extend_from_slice(part);
            }
            more |= (bytes.len() as u64) < range.end - range.start;
        }
        more
    }

    /// How much of the beginning is needed for the program headers. Unit: bytes.
    fn needed(&self) -> Option<usize> {
        let count = usize::from(half(&self.start, ENTRIES)?);
        let start = usize::try_from(word(&self.start, TABLE_AT)?).ok()?;
        let fits = start == HEADER
            && count <= MOST_ENTRIES
            && usize::from(half(&self.start, ENTRY_LENGTH)?) == ENTRY;
        fits.then_some(HEADER + count * ENTRY)
    }

    fn entries(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let count = usize::from(half(&self.start, ENTRIES).unwrap_or_default());
        (0..count).filter_map(|number| {
            let at = HEADER + number * ENTRY;
            Some((at, self.start.get(at..at + ENTRY)?))
        })
    }

    fn find_notes(&mut self) -> Option<()> {
        let mut notes = Vec::new();
        for (at, entry) in self.entries().filter(|(_, entry)| kind(entry) == Some(PT_NOTE)) {
            let (start, length) = (word(entry, OFFSET)?, word(entry, FILE_SIZE)?);
            if length > MOST_NOTES {
                return None;
            }
            notes.push((at, start..start.checked_add(length)?, Vec::new()));
        }
        self.notes = notes;
        Some(())
    }

    /// The file without segments' bytes, and where these are.
    fn finish(self) -> Option<(Vec<u8>, Vec<Range<u64>>)> {
        let mut head = self.start.get(..self.needed()?)?.to_vec();
        let mut segments = Vec::new();
        for (at, entry) in self.entries() {
            let (offset, length) = (word(entry, OFFSET)?, word(entry, FILE_SIZE)?);
            match kind(entry)? {
                PT_LOAD => {
                    // One without permissions is not loaded, and the image does not count it.
                    if entry.get(FLAGS)? & 7 != 0 {
                        segments.push(offset..offset.checked_add(length)?);
                    }
                    if length > word(entry, MEMORY_SIZE)? {
                        return None;
                    }
                    set(&mut head, at + OFFSET, 0)?;
                    set(&mut head, at + FILE_SIZE, 0)?;
                }
                PT_NOTE => {}
                _ => head.get_mut(at..at + 4)?.copy_from_slice(&PT_NULL.to_le_bytes()),
            }
        }
        for (at, range, bytes) in self.notes {
            if bytes.len() as u64 != range.end - range.start {
                return None;
            }
            let offset = head.len() as u64;
            set(&mut head, at + OFFSET, offset)?;
            head.extend(bytes);
        }
        set(&mut head, SECTIONS_AT, 0)?;
        head.get_mut(SECTIONS..SECTIONS + 4)?.fill(0);
        Some((head, segments))
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn kind(entry: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(entry.get(..4)?.try_into().ok()?))
}

fn set(bytes: &mut [u8], at: usize, value: u64) -> Option<()> {
    bytes.get_mut(at..at + 8)?.copy_from_slice(&value.to_le_bytes());
    Some(())
}

#[cfg(test)]
mod tests;
