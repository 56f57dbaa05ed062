//! What the file of a guest kernel says: segments, entry, and the notes for Xen.
//!
//! Accepted is what Xen 4.17 accepts for a 64-bit PV guest: an uncompressed little-endian x86-64
//! ELF file that carries Xen notes, in `PT_NOTE` segments or else in note sections, or else the
//! section `__xen_guest`, which says the same as text. A segment's place is its *physical* address:
//! virtual address = `p_paddr` - `PADDR_OFFSET` + `VIRT_BASE`.
//!
//! Stricter than Xen 4.17, which takes these: segments that overlap, relocatable files, an entry
//! point just behind the image, a frame list or hypercall page that does not begin at a page, an
//! address range that ends with the address space, and compressed files (ring 0 has no room for
//! decompressors). Ignored: `BSD_SYMTAB`, symbols are not loaded.
mod compression;
mod error;
mod features;
mod guest_section;
mod notes;
mod segments;

use elf::abi;
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader, parse_ident};
use elf::segment::SegmentTable;
use hypercall_abi::layout::{HYPERVISOR_VIRT_END, HYPERVISOR_VIRT_START};
use hypercall_abi::version::Features;

pub use self::compression::Compression;
pub use self::error::{FileError, ImageError, NoteError, Part, PlaceError, SegmentError};
use self::notes::Notes;
pub use self::segments::{Segment, Segments};

/// The facts about a guest's image that a plan needs. All addresses are guest-virtual.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Image {
    /// Where the first virtual CPU starts.
    pub entry: u64,
    /// Address at which frame 0 of the domain is mapped.
    pub base: u64,
    /// First byte of the lowest segment; at least [`Image::base`].
    pub start: u64,
    /// End (exclusive) of the highest segment.
    pub end: u64,
    /// The page to be filled with hypercall stubs, if the guest wants one.
    pub hypercall_page: Option<u64>,
    /// Where the guest wants its list of machine frames mapped; `None`: behind the image.
    pub p2m: Option<u64>,
    /// The guest takes its ramdisk unmapped, by frame number.
    pub ramdisk_by_frame: bool,
    /// The kernel can be the initial domain: it says so, or says nothing of what it supports.
    pub may_be_initial: bool,
    /// What is subtracted from `p_paddr` to get an offset from [`Image::base`].
    paddr_offset: u64,
}

impl Image {
    /// Reads the facts from a whole file.
    ///
    /// # Errors
    ///
    /// [`ImageError`] names what makes the file unfit to be a PV guest; its `Display` is one
    /// sentence for the person who supplied the file.
    pub fn parse(file: &[u8]) -> Result<Self, ImageError> {
        let header = header(file)?;
        let table = segments::table(file, &header)?;
        let notes = Notes::find(file, &header, &table)?;
        notes.check_loader()?;

        let base = match (notes.virt_base, notes.paddr_offset) {
            (None, Some(_)) => return Err(NoteError::BaseMissing.into()),
            (base, _) => base.unwrap_or(0),
        };
        let paddr_offset = notes.paddr_offset.unwrap_or(0);
        let extent = segments::check(file, &table)?;
        let place = |paddr| place(base, paddr_offset, paddr);
        let image = Self {
            entry: notes.entry.unwrap_or(header.e_entry),
            base,
            start: place(extent.low)?,
            end: place(extent.high)?,
            hypercall_page: notes.hypercall_page,
            p2m: notes.init_p2m,
            ramdisk_by_frame: notes.mod_start_pfn,
            may_be_initial: notes.supported.is_none_or(|set| set.contains(Features::DOM0)),
            paddr_offset,
        };
        image.check()?;
        Ok(image)
    }

    /// The segments to load, in the order of the file. `file` is the one this came from; of any
    /// other file, whatever looks like a segment is yielded.
    #[must_use]
    pub fn segments<'a>(&self, file: &'a [u8]) -> Segments<'a> {
        Segments::new(file, self.paddr_offset)
    }

    /// Checks the notes against each other and against the segments.
    fn check(&self) -> Result<(), PlaceError> {
        if self.base & PAGE_MASK != 0 {
            return Err(PlaceError::Misaligned { part: Part::Base, address: self.base });
        }
        if self.entry < self.start || self.entry >= self.end {
            return Err(PlaceError::EntryOutside {
                entry: self.entry,
                start: self.start,
                end: self.end,
            });
        }
        if self.base < HYPERVISOR_VIRT_END && self.end > HYPERVISOR_VIRT_START {
            return Err(PlaceError::HypervisorRange { start: self.base, end: self.end });
        }
        match self.hypercall_page {
            Some(address) if address & PAGE_MASK != 0 => {
                return Err(PlaceError::Misaligned { part: Part::HypercallPage, address });
            }
            _ => {}
        }
        match self.p2m {
            Some(address) if address & PAGE_MASK != 0 => {
                Err(PlaceError::Misaligned { part: Part::P2m, address })
            }
            Some(address) if address >= self.start && address < self.end => {
                Err(PlaceError::P2mInImage { address, start: self.start, end: self.end })
            }
            _ => Ok(()),
        }
    }
}

const PAGE_MASK: u64 = 0xfff;

/// Guest-virtual address of a segment's physical address.
fn place(base: u64, paddr_offset: u64, paddr: u64) -> Result<u64, PlaceError> {
    let offset =
        paddr.checked_sub(paddr_offset).ok_or(PlaceError::BelowOffset { paddr, paddr_offset })?;
    base.checked_add(offset).ok_or(PlaceError::Wraps { paddr, base, paddr_offset })
}

/// Checks what the file is at all, and returns its header.
fn header(file: &[u8]) -> Result<FileHeader<LittleEndian>, FileError> {
    if let Some(compression) = Compression::of(file) {
        return Err(FileError::Compressed(compression));
    }
    let (ident, rest) = file.split_at_checked(abi::EI_NIDENT).ok_or(not_elf(file))?;
    if !ident.starts_with(&abi::ELFMAGIC) {
        return Err(not_elf(file));
    }
    match ident.get(abi::EI_CLASS).copied() {
        Some(abi::ELFCLASS64) => {}
        Some(abi::ELFCLASS32) => return Err(FileError::ThirtyTwoBit),
        class => return Err(FileError::Class(class.unwrap_or_default())),
    }
    let ident = parse_ident::<LittleEndian>(ident).map_err(|_| FileError::Endianness)?;
    debug_assert!(ident.1 == Class::ELF64, "32-bit files were refused above");
    let header = FileHeader::parse_tail(ident, rest).map_err(|_| FileError::Truncated {
        what: "its ELF header",
        needed: ELF_HEADER_LEN,
        len: segments::widen(file.len()),
    })?;
    match (header.e_machine, header.e_type) {
        (abi::EM_X86_64, abi::ET_EXEC | abi::ET_DYN) => Ok(header),
        (abi::EM_X86_64, kind) => Err(FileError::Type(kind)),
        (machine, _) => Err(FileError::Machine(machine)),
    }
}

/// Bytes of an ELF64 file header.
const ELF_HEADER_LEN: u64 = 64;

fn not_elf(file: &[u8]) -> FileError {
    let mut start = [0; 4];
    for (to, from) in start.iter_mut().zip(file) {
        *to = *from;
    }
    FileError::NotElf { start, len: segments::widen(file.len()) }
}

/// The table of program headers of a file.
type Table<'a> = SegmentTable<'a, LittleEndian>;
