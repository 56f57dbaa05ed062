//! The notes by which a kernel tells Xen what it is and wants.
use elf::abi::{PT_NOTE, SHN_XINDEX, SHT_NOTE};
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader};
use elf::note::{Note, NoteIterator};
use elf::parse::ParseAt;
use elf::section::{SectionHeader, SectionHeaderTable};
use hypercall_abi::elfnote;
use hypercall_abi::version::Features;

use super::guest_section::NAME;
use super::{ImageError, NoteError, SegmentError, Table, features, segments};

/// Names and values are padded to this, whatever the segment's alignment says.
const ALIGN: usize = 4;

/// What the notes of one image say; of a note given twice the last counts.
#[derive(Clone, Copy, Default)]
pub(super) struct Notes<'a> {
    pub(super) entry: Option<u64>,
    pub(super) hypercall_page: Option<u64>,
    pub(super) virt_base: Option<u64>,
    pub(super) paddr_offset: Option<u64>,
    pub(super) init_p2m: Option<u64>,
    pub(super) mod_start_pfn: bool,
    /// Feature bits the kernel says it can live with, or has.
    pub(super) supported: Option<Features>,
    pub(super) xen_version: Option<&'a [u8]>,
    pub(super) guest_os: Option<&'a [u8]>,
    pub(super) loader: Option<&'a [u8]>,
    /// How many notes of Xen's there were.
    count: usize,
}

impl<'a> Notes<'a> {
    /// Reads the notes in `PT_NOTE` segments, or where those hold none of Xen's, in sections, or
    /// where there are none either, the section that was there before notes.
    pub(super) fn find(
        file: &'a [u8],
        header: &FileHeader<LittleEndian>,
        table: &Table<'a>,
    ) -> Result<Self, ImageError> {
        let mut notes = Self::default();
        for (number, program) in table.iter().enumerate() {
            if program.p_type == PT_NOTE {
                let (_, bytes) =
                    segments::file_range(file, &program).ok_or(SegmentError::Truncated {
                        number,
                        needed: program.p_offset.saturating_add(program.p_filesz),
                        len: segments::widen(file.len()),
                    })?;
                notes.read(bytes)?;
            }
        }
        if notes.count == 0 {
            for section in sections(file, header).into_iter().flat_map(|table| table.iter()) {
                if section.sh_type == SHT_NOTE
                    && let Some(bytes) = section_bytes(file, &section)
                {
                    notes.read(bytes)?;
                }
            }
        }
        if notes.count == 0 {
            notes.read_text(named(file, header, NAME).ok_or(NoteError::None)?);
        }
        Ok(notes)
    }

    /// Is this image for Xen 3.0's interface, and for a builder like this one?
    pub(super) fn check_loader(&self) -> Result<(), NoteError> {
        let generic = self.loader.is_some_and(|loader| loader.starts_with(b"generic"));
        let linux = self.guest_os.is_some_and(|os| os.starts_with(b"linux"));
        if !generic && !linux {
            return Err(if self.loader.is_some() {
                NoteError::LoaderUnknown
            } else {
                NoteError::LoaderMissing
            });
        }
        match self.xen_version {
            None => Err(NoteError::VersionMissing),
            Some(version) if version.starts_with(b"xen-3.0") => Ok(()),
            Some(_) => Err(NoteError::VersionUnknown),
        }
    }

    /// Takes the notes of one segment or section.
    fn read(&mut self, bytes: &'a [u8]) -> Result<(), NoteError> {
        for note in NoteIterator::new(LittleEndian, Class::ELF64, ALIGN, bytes) {
            if let Note::Unknown(note) = note
                && note.name.strip_suffix(b"\0").unwrap_or(note.name) == elfnote::OWNER.as_bytes()
                && let Ok(kind) = u32::try_from(note.n_type)
            {
                self.count = self.count.saturating_add(1);
                self.take(kind, note.desc)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, kind: u32, value: &'a [u8]) -> Result<(), NoteError> {
        let name = match kind {
            elfnote::ENTRY => ("ENTRY", &mut self.entry),
            elfnote::HYPERCALL_PAGE => ("HYPERCALL_PAGE", &mut self.hypercall_page),
            elfnote::VIRT_BASE => ("VIRT_BASE", &mut self.virt_base),
            elfnote::PADDR_OFFSET => ("PADDR_OFFSET", &mut self.paddr_offset),
            elfnote::INIT_P2M => ("INIT_P2M", &mut self.init_p2m),
            elfnote::XEN_VERSION => return Self::text(&mut self.xen_version, value),
            elfnote::GUEST_OS => return Self::text(&mut self.guest_os, value),
            elfnote::LOADER => return Self::text(&mut self.loader, value),
            elfnote::FEATURES => return features::check_required(value),
            elfnote::SUPPORTED_FEATURES => {
                // Bits above 31 belong to words of features that do not exist.
                let [a, b, c, d, ..] = number_of("SUPPORTED_FEATURES", value)?.to_le_bytes();
                let bits = u32::from_le_bytes([a, b, c, d]);
                self.supported = Some(Features::from_bits_retain(bits));
                return Ok(());
            }
            elfnote::MOD_START_PFN => {
                self.mod_start_pfn = number_of("MOD_START_PFN", value)? != 0;
                return Ok(());
            }
            _ => return Ok(()),
        };
        *name.1 = Some(number_of(name.0, value)?);
        Ok(())
    }

    #[expect(clippy::unnecessary_wraps, reason = "one arm among those of `take`")]
    fn text(field: &mut Option<&'a [u8]>, value: &'a [u8]) -> Result<(), NoteError> {
        *field = Some(value);
        Ok(())
    }
}

/// The value of a note that holds a number, in 4 or 8 bytes.
fn number_of(note: &'static str, value: &[u8]) -> Result<u64, NoteError> {
    if let Ok(bytes) = value.try_into() {
        return Ok(u64::from_le_bytes(bytes));
    }
    match value.try_into() {
        Ok(bytes) => Ok(u64::from(u32::from_le_bytes(bytes))),
        Err(_) => Err(NoteError::Size { note, len: segments::widen(value.len()) }),
    }
}

/// The section headers, if the file has any that can be read.
fn sections<'a>(
    file: &'a [u8],
    header: &FileHeader<LittleEndian>,
) -> Option<SectionHeaderTable<'a, LittleEndian>> {
    if header.e_shnum == SHN_XINDEX {
        return None;
    }
    let size = SectionHeader::validate_entsize(Class::ELF64, header.e_shentsize.into()).ok()?;
    let start = usize::try_from(header.e_shoff).ok()?;
    let end = start.checked_add(size.checked_mul(header.e_shnum.into())?)?;
    Some(SectionHeaderTable::new(LittleEndian, Class::ELF64, file.get(start..end)?))
}

/// The bytes of the first section of that name; a zero ends the name.
fn named<'a>(file: &'a [u8], header: &FileHeader<LittleEndian>, name: &[u8]) -> Option<&'a [u8]> {
    let table = sections(file, header)?;
    let names = section_bytes(file, &table.get(header.e_shstrndx.into()).ok()?)?;
    let section = table.iter().find(|section| {
        let at = usize::try_from(section.sh_name).ok();
        at.and_then(|at| names.get(at..)).is_some_and(|rest| rest.starts_with(name))
    })?;
    section_bytes(file, &section)
}

fn section_bytes<'a>(file: &'a [u8], section: &SectionHeader) -> Option<&'a [u8]> {
    let start = usize::try_from(section.sh_offset).ok()?;
    file.get(start..start.checked_add(usize::try_from(section.sh_size).ok()?)?)
}
