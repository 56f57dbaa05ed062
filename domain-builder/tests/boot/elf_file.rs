//! Makes ELF files of PV guests, right ones and wrong ones.

/// One loadable segment.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) paddr: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) memory: u64,
    pub(crate) flags: u32,
}

/// An image to be written as a file.
#[derive(Clone, Debug)]
pub(crate) struct ElfFile {
    pub(crate) entry: u64,
    pub(crate) loads: Vec<Load>,
    pub(crate) notes: Vec<(u32, Vec<u8>)>,
    /// The notes are in a section instead of a segment.
    pub(crate) notes_in_section: bool,
}

pub(crate) const ENTRY: u32 = 1;
pub(crate) const HYPERCALL_PAGE: u32 = 2;
pub(crate) const VIRT_BASE: u32 = 3;
pub(crate) const PADDR_OFFSET: u32 = 4;
pub(crate) const XEN_VERSION: u32 = 5;
pub(crate) const GUEST_OS: u32 = 6;
pub(crate) const LOADER: u32 = 8;
pub(crate) const INIT_P2M: u32 = 15;
pub(crate) const MOD_START_PFN: u32 = 16;
pub(crate) const SUPPORTED_FEATURES: u32 = 17;

const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;

impl ElfFile {
    /// The smallest acceptable guest: one segment of `memory` bytes at `paddr`.
    pub(crate) fn minimal(base: u64, paddr: u64, memory: u64) -> Self {
        let load = Load { paddr, bytes: vec![0x90; 16], memory, flags: 7 };
        let entry = base.wrapping_add(paddr);
        Self { entry, loads: vec![load], notes: vec![], notes_in_section: false }
            .text(XEN_VERSION, "xen-3.0")
            .text(LOADER, "generic")
            .number(VIRT_BASE, base)
    }

    /// With a note that holds 8 bytes.
    pub(crate) fn number(mut self, note: u32, value: u64) -> Self {
        self.notes.push((note, value.to_le_bytes().to_vec()));
        self
    }

    /// With a note that holds text and its zero.
    pub(crate) fn text(mut self, note: u32, value: &str) -> Self {
        self.notes.push((note, [value.as_bytes(), b"\0"].concat()));
        self
    }

    /// Without a note.
    pub(crate) fn without(mut self, note: u32) -> Self {
        self.notes.retain(|&(kind, _)| kind != note);
        self
    }

    /// With one more segment.
    pub(crate) fn load(mut self, paddr: u64, len: usize, memory: u64) -> Self {
        self.loads.push(Load { paddr, bytes: vec![0xa5; len], memory, flags: 6 });
        self
    }

    /// The file. Program headers follow the ELF header, then notes, then the segments' bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let notes = self.note_bytes();
        let in_segment = usize::from(!self.notes_in_section);
        let headers = self.loads.len() + in_segment;
        let notes_at = HEADER + headers * PROGRAM_HEADER;
        let mut at = notes_at + notes.len();
        let mut programs = vec![];
        for load in &self.loads {
            programs.push(program(1, load.flags, at, load.paddr, load.bytes.len(), load.memory));
            at += load.bytes.len();
        }
        if in_segment == 1 {
            programs.push(program(4, 4, notes_at, 0, notes.len(), notes.len() as u64));
        }
        let sections_at = if self.notes_in_section { at } else { 0 };
        let mut file = header(self.entry, headers, sections_at);
        file.extend(programs.concat());
        file.extend(&notes);
        file.extend(self.loads.iter().flat_map(|load| load.bytes.clone()));
        if self.notes_in_section {
            file.extend([0; 64]);
            file.extend(note_section(notes_at, notes.len()));
        }
        file
    }

    fn note_bytes(&self) -> Vec<u8> {
        let mut out = vec![];
        for (kind, value) in &self.notes {
            for word in [4, u32::try_from(value.len()).unwrap(), *kind] {
                out.extend(word.to_le_bytes());
            }
            out.extend(b"Xen\0");
            out.extend(value);
            out.resize(out.len().next_multiple_of(4), 0);
        }
        out
    }
}

fn header(entry: u64, programs: usize, sections_at: usize) -> Vec<u8> {
    let sections = if sections_at == 0 { 0 } else { 2 };
    let mut out = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    out.extend(2_u16.to_le_bytes());
    out.extend(62_u16.to_le_bytes());
    out.extend(1_u32.to_le_bytes());
    out.extend(entry.to_le_bytes());
    out.extend((HEADER as u64).to_le_bytes());
    out.extend((sections_at as u64).to_le_bytes());
    out.extend(0_u32.to_le_bytes());
    for half in [HEADER, PROGRAM_HEADER, programs, 64, sections, 0] {
        out.extend(u16::try_from(half).unwrap().to_le_bytes());
    }
    out
}

fn program(kind: u32, flags: u32, at: usize, paddr: u64, len: usize, memory: u64) -> Vec<u8> {
    let mut out = [kind.to_le_bytes(), flags.to_le_bytes()].concat();
    for word in [at as u64, paddr, paddr, len as u64, memory, 4096] {
        out.extend(word.to_le_bytes());
    }
    out
}

fn note_section(at: usize, len: usize) -> Vec<u8> {
    let mut out = [1_u32.to_le_bytes(), 7_u32.to_le_bytes()].concat();
    for word in [2, 0, at as u64, len as u64, 0, 4, 0] {
        out.extend(word.to_le_bytes());
    }
    out
}
