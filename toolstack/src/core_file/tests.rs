use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll, Waker};

use elf::ElfBytes;
use elf::abi::{EM_X86_64, ET_CORE, PT_LOAD, PT_NOTE};
use elf::endian::LittleEndian;
use elf::note::Note;
use hypercall_abi::regs::{GuestContextFlags, VcpuGuestContext};
use hypercall_abi::types::{Mfn, PAGE_SIZE, VcpuId};

use super::head::Vcpu;
use super::mapped::{Bytes, Frames, Range, collect};
use super::{PIECE, Sink, Subject, Summary, write};

const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;

/// Frames in a machine; each one that was not written has its number everywhere.
#[derive(Default)]
struct Memory {
    tables: BTreeMap<u64, Box<Bytes>>,
    next: u64,
    /// A frame that is another domain's.
    foreign: Option<u64>,
    /// How many may be read before the domain is gone.
    lasts: Option<u64>,
}

impl Memory {
    fn new() -> Self {
        Self { next: 1000, ..Self::default() }
    }

    fn table(&mut self) -> u64 {
        self.next += 1;
        self.tables.insert(self.next, Box::new([0; PAGE_SIZE]));
        self.next
    }

    fn set(&mut self, table: u64, index: u64, entry: u64) {
        let at = usize::try_from(index).unwrap() * 8;
        self.tables.get_mut(&table).unwrap()[at..at + 8].copy_from_slice(&entry.to_le_bytes());
    }

    fn get(&self, table: u64, index: u64) -> u64 {
        let at = usize::try_from(index).unwrap() * 8;
        u64::from_le_bytes(self.tables[&table][at..at + 8].try_into().unwrap())
    }

    /// Maps an address to a frame.
    fn map(&mut self, root: u64, address: u64, frame: u64) {
        let mut table = root;
        for shift in [39, 30, 21] {
            let index = address >> shift & 511;
            if self.get(table, index) == 0 {
                let below = self.table();
                self.set(table, index, below << 12 | PRESENT);
            }
            table = self.get(table, index) >> 12;
        }
        self.set(table, address >> 12 & 511, frame << 12 | PRESENT | 1 << 63);
    }
}

impl Frames for Memory {
    async fn read(&mut self, frame: Mfn, into: &mut Bytes) -> Result<bool, String> {
        if let Some(lasts) = &mut self.lasts {
            *lasts = lasts.checked_sub(1).ok_or("it is gone")?;
        }
        if self.foreign == Some(frame.0) {
            return Ok(false);
        }
        match self.tables.get(&frame.0) {
            Some(table) => *into = **table,
            None => into.fill(u8::try_from(frame.0).unwrap()),
        }
        Ok(true)
    }
}

fn done<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("nothing here waits"),
    }
}

fn addresses(ranges: &[Range]) -> Vec<(u64, u64)> {
    ranges.iter().map(|range| (range.address(), range.pages)).collect()
}

#[test]
fn what_is_mapped_is_found_by_ranges() {
    let mut memory = Memory::new();
    let root = memory.table();
    let kernel = 0xffff_ffff_8000_0000;
    // The last two are in tables of their own.
    for (address, frame) in [
        (0x1000, 1),
        (kernel, 2),
        (kernel + 0x1000, 3),
        (kernel + 0x3000, 4),
        (kernel + 0x1f_f000, 5),
        (kernel + 0x20_0000, 6),
        (0xffff_8000_0000_0000, 7),
        (0xffff_87ff_ffff_f000, 8),
        (0xffff_8800_0000_0000, 9),
    ] {
        memory.map(root, address, frame);
    }
    let l3 = memory.get(root, 511) >> 12;
    memory.set(l3, 5, LARGE | PRESENT | 0x4000_0000);
    let mapped = done(collect(&mut memory, &[Mfn(root)], 16)).unwrap();
    let expected = [
        (0x1000, 1),
        (0xffff_8800_0000_0000, 1),
        (kernel, 2),
        (kernel + 0x3000, 1),
        (kernel + 0x1f_f000, 2),
    ];
    assert_eq!((&*addresses(&mapped.ranges), mapped.is_cut), (&expected[..], false));
}

#[test]
fn of_several_trees_the_first_counts() {
    let mut memory = Memory::new();
    let (one, two) = (memory.table(), memory.table());
    for page in 0..4 {
        memory.map(one, page << 12, 1);
    }
    // A table of both, and an address that only the second tree has.
    memory.map(one, 1 << 40, 2);
    memory.set(two, 2, memory.get(one, 2));
    for page in 2..7 {
        memory.map(two, page << 12, 3);
    }
    let mapped = done(collect(&mut memory, &[Mfn(one), Mfn(two)], 16)).unwrap();
    let range = |first, pages, root| Range { first, pages, root: Mfn(root) };
    let expected = [range(0, 4, one), range(4, 3, two), range(1 << 28, 1, one)];
    assert_eq!(mapped.ranges, expected);
}

/// An L1 table with this entry in all places, below tables that have each one table in all places.
#[test]
fn tables_that_are_used_again_and_again_end() {
    for full in [true, false] {
        let mut memory = Memory::new();
        let tables = [memory.table(), memory.table(), memory.table(), memory.table()];
        for (&table, below) in tables.iter().zip(tables.iter().skip(1).chain(&[5])) {
            for index in 0..512 {
                if full || *below != 5 {
                    memory.set(table, index, below << 12 | PRESENT);
                }
            }
        }
        let mapped = done(collect(&mut memory, &[Mfn(tables[0])], 1024)).unwrap();
        let pages: u64 = mapped.ranges.iter().map(|range| range.pages).sum();
        assert!(!mapped.is_cut && pages == if full { 4 * 512 } else { 0 }, "{pages}");
    }
}

/// One frame at more addresses than a domain of so little memory has any use for.
#[test]
fn what_is_mapped_has_a_bound() {
    let mut memory = Memory::new();
    let root = memory.table();
    for table in 0..20_u64 {
        (0..512).for_each(|page| memory.map(root, table << 30 | page << 12, 5));
    }
    let mapped = done(collect(&mut memory, &[Mfn(root)], 16)).unwrap();
    let pages: u64 = mapped.ranges.iter().map(|range| range.pages).sum();
    assert!(mapped.is_cut && pages == 4096 + 8 * 16, "{pages}");
}

/// Keeps everything.
#[derive(Default)]
struct Kept {
    length: Option<u64>,
    bytes: Vec<u8>,
    room: Option<u64>,
}

impl Sink for Kept {
    async fn begin(&mut self, length: u64) -> Result<(), String> {
        self.length = Some(length);
        if self.room.is_some_and(|room| room < length) { Err("no room".into()) } else { Ok(()) }
    }

    async fn put(&mut self, piece: &[u8]) -> Result<(), String> {
        assert!(self.bytes.len().is_multiple_of(PIECE) && piece.len() <= PIECE);
        self.bytes.extend_from_slice(piece);
        Ok(())
    }
}

/// A domain with two virtual CPUs and a memory that is mapped: so many pages from `FIRST` on.
const FIRST: u64 = 0xffff_ffff_8010_0000;

fn domain(pages: u64) -> (Memory, Vec<Vcpu>) {
    let mut memory = Memory::new();
    let root = memory.table();
    (0..pages).for_each(|page| memory.map(root, FIRST + (page << 12), page));
    let vcpus = (0..2_u32).map(|id| {
        let mut context = Box::new(VcpuGuestContext::default());
        context.ctrlreg[3] = root << 12;
        context.flags = GuestContextFlags::IN_KERNEL.bits();
        context.user_regs.rip = FIRST + u64::from(id);
        context.user_regs.gs = 0x2b;
        context.gs_base_kernel = 77;
        context.fpu_ctxt[24] = 0x80;
        Vcpu { id: VcpuId(id), context }
    });
    (memory, vcpus.collect())
}

fn dump(memory: &mut Memory, vcpus: &[Vcpu], sink: &mut Kept) -> Result<Summary, String> {
    let subject = Subject { name: "a-name-that-is-too-long", is_crashed: true, pages: 64, vcpus };
    done(write(&subject, memory, sink))
}

#[test]
fn a_core_has_memory_and_registers() {
    let (mut memory, vcpus) = domain(40);
    memory.foreign = Some(7);
    let mut sink = Kept::default();
    let summary = dump(&mut memory, &vcpus, &mut sink).unwrap();
    let length = sink.bytes.len() as u64;
    let expected = Summary { length, pages: 40, segments: 1, foreign: 1, is_cut: false };
    assert_eq!((summary, sink.length), (expected, Some(length)));
    let file = ElfBytes::<LittleEndian>::minimal_parse(&sink.bytes).unwrap();
    assert_eq!((file.ehdr.e_type, file.ehdr.e_machine), (ET_CORE, EM_X86_64));
    let segments: Vec<_> = file.segments().unwrap().iter().collect();
    let load = segments.iter().find(|it| it.p_type == PT_LOAD).unwrap();
    assert_eq!((load.p_vaddr, load.p_filesz, load.p_memsz), (FIRST, 40 << 12, 40 << 12));
    let bytes = file.segment_data(load).unwrap();
    for (page, bytes) in (0_u8..).zip(bytes.chunks(PAGE_SIZE)) {
        let value = if page == 7 { 0 } else { page };
        assert!(bytes.iter().all(|byte| *byte == value), "page {page}");
    }
    let notes = segments.iter().find(|it| it.p_type == PT_NOTE).unwrap();
    let notes = file.segment_data_as_notes(notes).unwrap().map(|note| match note {
        Note::Unknown(note) => (note.n_type, note.name.to_vec(), note.desc.to_vec()),
        other => panic!("{other:?}"),
    });
    let notes: Vec<_> = notes.collect();
    let kinds: Vec<_> = notes.iter().map(|(kind, name, _)| (*kind, &**name)).collect();
    let expected = [3, 1, 2, 1, 2].map(|kind| (kind, &b"CORE\0"[..]));
    assert_eq!(kinds, expected);
    assert_eq!(&notes[0].2[40..57], b"a-name-that-is-\0a");
    for (id, status) in [(0, &notes[1].2), (1, &notes[3].2)] {
        let word = |at: usize| u64::from_le_bytes(status[at..at + 8].try_into().unwrap());
        // SIGABRT; the thread; RIP, the base of GS, and GS, the last of 27 registers.
        assert_eq!((status.len(), status[12], word(32)), (336, 6, id + 1));
        assert_eq!((word(112 + 8 * 16), word(112 + 8 * 22)), (FIRST + id, 77));
        assert_eq!((word(112 + 8 * 26), word(328)), (0x2b, 1));
    }
    assert_eq!((notes[2].2.len(), notes[2].2[24]), (512, 0x80));
}

#[test]
fn what_goes_wrong_ends_it() {
    let (mut memory, vcpus) = domain(40);
    let mut sink = Kept { room: Some(40 << 12), ..Kept::default() };
    assert_eq!(dump(&mut memory, &vcpus, &mut sink).unwrap_err(), "no room");
    assert!(sink.bytes.is_empty());
    for lasts in [0, 3, 30] {
        memory.lasts = Some(lasts);
        let error = dump(&mut memory, &vcpus, &mut Kept::default()).unwrap_err();
        assert_eq!(error, "it is gone".to_string());
    }
}
