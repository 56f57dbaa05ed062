//! What the boot loader left: command line, modules, memory map. Multiboot 1 and 2.

use core::fmt;

use heapless::Vec;

use super::memory::Range;
use super::phys::{self, Fields};

const MAGIC_1: u32 = 0x2bad_b002;
const MAGIC_2: u32 = 0x36d7_6289;
/// Longest text looked at; a longer one is cut here.
const TEXT_LIMIT: u64 = 4096;

/// Most modules taken over.
pub(crate) const MODULES: usize = 8;
/// Most lines of the memory map taken over.
pub(crate) const MAP_ENTRIES: usize = 128;

/// A file the boot loader put into memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Module {
    /// Where it lies, in physical bytes.
    pub bytes: Range,
    /// Its command line, without the file's name.
    pub command_line: &'static [u8],
}

/// A line of the firmware's memory map.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MapEntry {
    /// First physical byte.
    pub base: u64,
    /// Length in bytes.
    pub length: u64,
    /// Kind as in e820: 1 is usable memory, 3 and 4 belong to ACPI, all others are not memory.
    pub kind: u32,
}

/// Everything the boot loader handed over.
#[derive(Debug, Default)]
pub(crate) struct Handover {
    /// The kernel's command line, without the file's name.
    pub command_line: &'static [u8],
    /// The modules, in the loader's order.
    pub modules: Vec<Module, MODULES>,
    /// The memory map as the firmware gave it.
    pub map: Vec<MapEntry, MAP_ENTRIES>,
    /// The ACPI root pointer structure, if the loader passed a copy.
    pub rsdp: Option<&'static [u8]>,
    /// Memory that holds the texts above, beside the modules.
    pub occupied: Vec<Range, 32>,
    /// Whether texts begin with the name of their file.
    named: bool,
}

/// Why a handover cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unusable {
    /// The magic number is no multiboot loader's.
    Magic,
    /// Something announced is not where it should be, or not complete.
    Truncated,
    /// There is no memory map.
    NoMap,
    /// More modules than [`MODULES`].
    TooManyModules,
}

impl fmt::Display for Unusable {
    /// One sentence for the operator.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => f.write_str(
                "not started by a multiboot loader: use QEMU's -kernel, or GRUB's multiboot2",
            ),
            Self::Truncated => f.write_str(
                "what the boot loader says is incomplete or not in the first 4 GiB: use another loader",
            ),
            Self::NoMap => f.write_str(
                "the boot loader gave no memory map: use QEMU's -kernel, or GRUB's multiboot2",
            ),
            Self::TooManyModules => {
                write!(f, "the boot loader loaded more than {MODULES} modules: drop some")
            }
        }
    }
}

/// Takes over what the loader left at physical address `information`.
///
/// # Errors
/// See [`Unusable`].
pub(crate) fn handover(magic: u32, information: u32) -> Result<Handover, Unusable> {
    let mut found = Handover { named: true, ..Handover::default() };
    match magic {
        MAGIC_1 => found.read_1(u64::from(information)),
        MAGIC_2 => found.read_2(u64::from(information)),
        _ => return Err(Unusable::Magic),
    }?;
    if found.map.is_empty() {
        return Err(Unusable::NoMap);
    }
    if found.named {
        found.command_line = without_first_word(found.command_line);
        for module in &mut found.modules {
            module.command_line = without_first_word(module.command_line);
        }
    }
    Ok(found)
}

impl Handover {
    fn read_1(&mut self, at: u64) -> Result<(), Unusable> {
        let info = self.bytes(at, 120)?;
        let field = |offset| info.u32(offset).map(u64::from).ok_or(Unusable::Truncated);
        let flags = field(0)?;
        if flags & 1 << 9 != 0 {
            let name = self.text(field(64)?)?;
            self.named = !names_are_dropped_by(name);
        }
        if flags & 1 << 2 != 0 {
            self.command_line = self.text(field(16)?)?;
        }
        if flags & 1 << 3 != 0 {
            for number in 0..field(20)? {
                let entry = self.bytes(field(24)? + number * 16, 16)?;
                let word = |offset| entry.u32(offset).map(u64::from).ok_or(Unusable::Truncated);
                let text = match word(8)? {
                    0 => &[],
                    address => self.text(address)?,
                };
                self.add_module(word(0)?, word(4)?, text)?;
            }
        }
        if flags & 1 << 6 != 0 {
            let mut rest = self.bytes(field(48)?, field(44)?)?;
            while let (Some(size), Some(base), Some(length), Some(kind)) =
                (rest.u32(0), rest.u64(4), rest.u64(12), rest.u32(20))
            {
                self.add_map_entry(MapEntry { base, length, kind });
                let next = usize::try_from(size).ok().and_then(|size| rest.get(size + 4..));
                rest = next.unwrap_or_default();
            }
        }
        Ok(())
    }

    fn read_2(&mut self, at: u64) -> Result<(), Unusable> {
        let total = self.bytes(at, 8)?.u32(0).ok_or(Unusable::Truncated)?;
        let info = self.bytes(at, u64::from(total))?;
        let mut offset = 8;
        while let (Some(kind), Some(size)) = (info.u32(offset), info.u32(offset + 4)) {
            let size = usize::try_from(size).map_err(|_| Unusable::Truncated)?;
            let tag = info.get(offset..offset + size.max(8)).ok_or(Unusable::Truncated)?;
            if kind == 0 {
                break;
            }
            self.read_tag(kind, tag)?;
            offset += tag.len().next_multiple_of(8);
        }
        Ok(())
    }

    fn read_tag(&mut self, kind: u32, tag: &'static [u8]) -> Result<(), Unusable> {
        let payload = tag.get(8..).unwrap_or_default();
        let word = |offset| payload.u32(offset).map(u64::from).ok_or(Unusable::Truncated);
        match kind {
            1 => self.command_line = until_nul(payload),
            2 => self.named = !names_are_dropped_by(until_nul(payload)),
            3 => {
                let text = until_nul(payload.get(8..).unwrap_or_default());
                self.add_module(word(0)?, word(4)?, text)?;
            }
            6 => {
                let step = usize::try_from(word(0)?).map_err(|_| Unusable::Truncated)?;
                for entry in payload.get(8..).unwrap_or_default().chunks_exact(step.max(20)) {
                    if let (Some(base), Some(length), Some(kind)) =
                        (entry.u64(0), entry.u64(8), entry.u32(16))
                    {
                        self.add_map_entry(MapEntry { base, length, kind });
                    }
                }
            }
            14 if self.rsdp.is_none() => self.rsdp = Some(payload),
            15 => self.rsdp = Some(payload),
            _ => {}
        }
        Ok(())
    }

    fn add_module(&mut self, start: u64, end: u64, text: &'static [u8]) -> Result<(), Unusable> {
        if end < start {
            return Err(Unusable::Truncated);
        }
        let module = Module { bytes: Range { start, end }, command_line: text };
        self.modules.push(module).map_err(|_| Unusable::TooManyModules)
    }

    /// Lines beyond [`MAP_ENTRIES`] are lost: memory that is not used, never memory used wrongly,
    /// because a line that takes memory away can only concern memory that another line gives.
    fn add_map_entry(&mut self, entry: MapEntry) {
        let _ = self.map.push(entry);
    }

    fn bytes(&mut self, start: u64, length: u64) -> Result<&'static [u8], Unusable> {
        let bytes = phys::left_behind(start, length).ok_or(Unusable::Truncated)?;
        // A full list means a loader that scatters its data; the rest of it lies beside the first.
        let _ = self.occupied.push(Range { start, end: start + length });
        Ok(bytes)
    }

    fn text(&mut self, start: u64) -> Result<&'static [u8], Unusable> {
        let length = TEXT_LIMIT.min(phys::BOOT_MAPPED.saturating_sub(start));
        let text = until_nul(phys::left_behind(start, length).ok_or(Unusable::Truncated)?);
        let length = u64::try_from(text.len()).map_err(|_| Unusable::Truncated)?;
        self.bytes(start, length + 1)?;
        Ok(text)
    }
}

/// GRUB 2 hands over command lines without the file's name, all others with it. Its own name reads
/// "GRUB 2.xx" (or "GRUB 1.9x" before its release), the old one's "GRUB 0.9x".
fn names_are_dropped_by(loader: &[u8]) -> bool {
    loader.strip_prefix(b"GRUB ").is_some_and(|version| version.first() != Some(&b'0'))
}

fn without_first_word(text: &'static [u8]) -> &'static [u8] {
    let text = text.trim_ascii_start();
    let end = text.iter().position(|byte| *byte == b' ').unwrap_or(text.len());
    text.get(end..).unwrap_or_default().trim_ascii_start()
}

fn until_nul(bytes: &'static [u8]) -> &'static [u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}
