//! A plan carried out against memory that can be looked at.
use std::convert::Infallible;

use domain_builder::build::{Contents, Target, build};
use domain_builder::image::Image;
use domain_builder::plan::{Connections, Kind, Plan, Request};
use hypercall_abi::start::{VGA_TEXT_MODE_3, VgaConsoleText};
use hypercall_abi::types::{Mfn, Pfn};
use zerocopy::FromZeros;

use crate::elf_file::{ElfFile, HYPERCALL_PAGE, INIT_P2M, MOD_START_PFN};

/// Frames in a scattered order, each tracked by its machine number.
struct Memory {
    frames: Vec<[u8; 4096]>,
}

impl Memory {
    fn new(pages: u64) -> Self {
        Self { frames: vec![[0; 4096]; usize::try_from(pages).unwrap()] }
    }

    fn machine(&self, pfn: u64) -> u64 {
        0x1000 + (self.frames.len() as u64 - 1 - pfn) * 2
    }

    /// The frame with a machine number.
    fn of_machine(&self, mfn: u64) -> &[u8; 4096] {
        let pfn = self.frames.len() - 1 - usize::try_from((mfn - 0x1000) / 2).unwrap();
        &self.frames[pfn]
    }

    fn word(frame: &[u8; 4096], index: u64) -> u64 {
        let at = usize::try_from(index).unwrap() * 8;
        u64::from_le_bytes(frame[at..at + 8].try_into().unwrap())
    }

    /// Reads through the page tables, as the guest would.
    fn read(&self, root: Pfn, va: u64, len: usize) -> Vec<u8> {
        let byte = |va: u64| {
            let mut table = self.machine(root.0);
            for shift in [39, 30, 21, 12] {
                let entry = Self::word(self.of_machine(table), va >> shift & 511);
                assert_eq!(entry & 1, 1, "{va:#x} is not mapped");
                table = (entry & 0x000f_ffff_ffff_f000) >> 12;
            }
            self.of_machine(table)[usize::try_from(va & 0xfff).unwrap()]
        };
        (va..).take(len).map(byte).collect()
    }
}

impl Target for Memory {
    type Error = Infallible;

    fn machine_frame(&self, pfn: Pfn) -> Mfn {
        Mfn(self.machine(pfn.0))
    }

    fn write(&mut self, pfn: Pfn, offset: usize, bytes: &[u8]) -> Result<(), Infallible> {
        let frame = &mut self.frames[usize::try_from(pfn.0).unwrap()];
        frame[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn set_entry(&mut self, table: Pfn, slot: u16, entry: u64) -> Result<(), Infallible> {
        self.write(table, usize::from(slot) * 8, &entry.to_le_bytes())
    }
}

const BASE: u64 = 0xffff_ffff_8000_0000;
const PAGES: u64 = 4096;

/// The screen that Xen 4.17.7 describes under QEMU.
fn video() -> VgaConsoleText {
    let mut text = VgaConsoleText::new_zeroed();
    text.video_type = VGA_TEXT_MODE_3;
    (text.font_height, text.rows, text.columns) = (16, 25, 80);
    text
}

struct Built {
    plan: Plan,
    memory: Memory,
    ramdisk: Vec<u8>,
}

fn built(elf: &ElfFile, kind: Kind) -> Built {
    let file = elf.bytes();
    let ramdisk: Vec<u8> = (0..70_001_u32).map(|i| (i % 251).try_into().unwrap()).collect();
    let image = Image::parse(&file).unwrap();
    let request = Request { kind, nr_pages: PAGES, ramdisk_len: ramdisk.len() as u64 };
    let plan = Plan::new(&image, &request).unwrap();
    let mut memory = Memory::new(PAGES);
    let contents = Contents {
        image: &file,
        ramdisk: &ramdisk,
        command_line: b"hello args",
        shared_info: Mfn(0x33),
        connections: Connections { video: Some(video()), ..Connections::default() },
    };
    let Ok(()) = build(&plan, &image, &contents, &mut memory);
    Built { plan, memory, ramdisk }
}

/// Two segments, the second not at a page's start and across a page's end.
fn elf() -> ElfFile {
    ElfFile::minimal(BASE, 0x10_0000, 0x1800).load(0x10_2345, 0x2000, 0x4000)
}

#[test]
fn segments_arrive_where_their_addresses_say() {
    let Built { plan, memory, .. } = built(&elf(), Kind::Initial);
    let read = |va, len| memory.read(plan.root(), va, len);
    assert_eq!(read(BASE + 0x10_0000, 17), [vec![0x90; 16], vec![0]].concat());
    let second = [vec![0], vec![0xa5; 0x2000], vec![0; 0x2000]].concat();
    assert_eq!(read(BASE + 0x10_2344, second.len()), second);
}

#[test]
fn ramdisk_arrives_mapped_or_by_frame() {
    let Built { plan, memory, ramdisk } = built(&elf(), Kind::Initial);
    let va = plan.ramdisk.unwrap().va.unwrap();
    assert_eq!(memory.read(plan.root(), va, ramdisk.len()), ramdisk);

    let by_frame = elf().number(MOD_START_PFN, 1);
    let Built { plan, memory, ramdisk } = built(&by_frame, Kind::Toolstack);
    let first = usize::try_from(plan.ramdisk.unwrap().pfn.0).unwrap();
    assert_eq!(memory.frames[first..].concat()[..ramdisk.len()], ramdisk);
}

#[test]
fn list_names_every_frame() {
    for elf in [elf(), elf().number(INIT_P2M, 0x80_0000_0000)] {
        for kind in [Kind::Initial, Kind::Toolstack] {
            let Built { plan, memory, .. } = built(&elf, kind);
            let list = memory.read(plan.root(), plan.p2m.va.unwrap(), 8 * 4096);
            for (pfn, entry) in (0..).zip(list.chunks(8)) {
                assert_eq!(entry, memory.machine(pfn).to_le_bytes());
            }
        }
    }
}

#[test]
fn start_info_is_mapped_and_says_where_the_rest_is() {
    let Built { plan, memory, ramdisk } = built(&elf(), Kind::Initial);
    let page = memory.read(plan.root(), plan.start_info.va.unwrap(), 4096);
    let word = |at: usize| u64::from_le_bytes(page[at..at + 8].try_into().unwrap());
    assert_eq!(&page[..15], b"xen-3.0-x86_64\0");
    assert_eq!(word(32), PAGES);
    assert_eq!(word(40), 0x33000);
    assert_eq!(page[48..52], [3, 3, 0, 0]);
    assert_eq!(page[56..72], [0; 16]);
    assert_eq!(page[72..88], [0x90, 4, 0, 0, 40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(word(88), plan.tables.va.unwrap());
    assert_eq!(word(96), plan.tables.pages);
    assert_eq!(word(104), plan.p2m.va.unwrap());
    assert_eq!(word(112), plan.ramdisk.unwrap().va.unwrap());
    assert_eq!(word(120), ramdisk.len() as u64);
    assert_eq!(&page[128..139], b"hello args\0");
    assert_eq!(page[1168..1182], [3, 0, 0, 0, 16, 0, 0, 0, 0, 0, 25, 0, 80, 0]);
    assert_eq!(page[1182..], [0; 4096 - 1182]);
}

#[test]
fn a_screen_is_the_initial_domains_alone() {
    let Built { plan, memory, .. } = built(&elf(), Kind::Toolstack);
    let page = memory.read(plan.root(), plan.start_info.va.unwrap(), 4096);
    assert_eq!(page[72..80], memory.machine(plan.console.unwrap().pfn.0).to_le_bytes());
    assert_eq!(page[1168..], [0; 4096 - 1168]);
}

#[test]
fn command_line_is_cut_as_on_xen() {
    let Built { plan, .. } = built(&elf(), Kind::Initial);
    let line = |len| {
        let line = vec![b'a'; len];
        plan.start_info(Mfn(0), &Connections::default(), &line, |_| Mfn(0)).cmd_line
    };
    for len in [1022, 1023, 1024, 2000] {
        let found = line(len).iter().position(|&byte| byte == 0);
        assert_eq!(found, Some(len.min(1023)));
    }
}

#[test]
fn hypercall_page_is_xens() {
    // First bytes of entries 0, 1 and 23, read by a guest on Xen 4.17.7; 0xcc up to the next.
    let call = |number| {
        [
            &[0x51, 0x41, 0x53, 0xb8, number, 0, 0, 0, 0x0f, 0x05, 0x41, 0x5b, 0x59, 0xc3],
            &[0xcc; 18][..],
        ]
        .concat()
    };
    let iret =
        [&[0x51, 0x41, 0x53, 0x50, 0xb8, 0x17, 0, 0, 0, 0x0f, 0x05][..], &[0xcc; 21]].concat();
    let page = BASE + 0x10_1000;
    let Built { plan, memory, .. } = built(&elf().number(HYPERCALL_PAGE, page), Kind::Initial);
    let entry = |number: u64| memory.read(plan.root(), page + number * 32, 32);
    assert_eq!(entry(0), call(0));
    assert_eq!(entry(1), call(1));
    assert_eq!(entry(23), iret);
    assert_eq!(entry(127), call(127));
}
