//! What is accepted as an image and what is refused, with which words.
//!
//! Whether Xen 4.17.7 boots each of these as its initial domain was tried; where it differs, the
//! test says so.
use domain_builder::image::{Compression, FileError, Image, ImageError, NoteError};
use domain_builder::plan::{Kind, Plan, PlanError, Request};
use hypercall_abi::version::Features;

use crate::elf_file::{
    ENTRY, ElfFile, GUEST_OS, HYPERCALL_PAGE, INIT_P2M, LOADER, PADDR_OFFSET, SUPPORTED_FEATURES,
    VIRT_BASE, XEN_VERSION,
};
use crate::mutations::check_sentence;

const BASE: u64 = 0xffff_ffff_8000_0000;
const FEATURES: u32 = 10;

fn elf() -> ElfFile {
    ElfFile::minimal(BASE, 0x10_0000, 0x4000)
}

fn accepted(elf: &ElfFile) -> Image {
    Image::parse(&elf.bytes()).unwrap()
}

/// The reason, whose sentence is checked to hold `words`.
fn refused(file: &[u8], words: &[&str]) -> ImageError {
    let error = Image::parse(file).unwrap_err();
    let text = error.to_string();
    check_sentence(&text);
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in: {text}");
    }
    error
}

fn request(nr_pages: u64) -> Request {
    Request { kind: Kind::Initial, nr_pages, ramdisk_len: 0 }
}

/// The file with some bytes replaced.
fn patched(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = elf().bytes();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

#[test]
fn facts_of_a_plain_image() {
    let image = accepted(&elf());
    assert_eq!((image.base, image.start, image.end), (BASE, BASE + 0x10_0000, BASE + 0x10_4000));
    assert_eq!(image.entry, BASE + 0x10_0000);
    assert_eq!((image.p2m, image.hypercall_page), (None, None));
    assert!(image.may_be_initial && !image.ramdisk_by_frame);
}

#[test]
fn notes_may_be_in_sections() {
    let mut elf = elf();
    elf.notes_in_section = true;
    assert_eq!(accepted(&elf).base, BASE);
}

#[test]
fn defaults_and_overrides() {
    assert_eq!(accepted(&ElfFile::minimal(0, 0x1000, 0x1000).without(VIRT_BASE)).base, 0);
    assert_eq!(accepted(&elf().number(ENTRY, BASE + 0x10_0010)).entry, BASE + 0x10_0010);
    // The last of two counts.
    assert_eq!(accepted(&elf().number(VIRT_BASE, 0).number(VIRT_BASE, BASE)).base, BASE);
    let mut short = elf().without(VIRT_BASE);
    short.notes.push((VIRT_BASE, 0x10_0000_u32.to_le_bytes().to_vec()));
    short.entry = 0x20_0000;
    assert_eq!(accepted(&short).start, 0x20_0000);
    let offset = ElfFile::minimal(BASE, 0x1000_0000, 0x4000)
        .number(PADDR_OFFSET, 0x1000_0000)
        .number(ENTRY, BASE);
    let image = accepted(&offset);
    assert_eq!(image.start, BASE);
    assert_eq!(image.segments(&offset.bytes()).next().unwrap().offset, 0);
}

#[test]
fn loader_and_version() {
    accepted(&elf().without(LOADER).text(GUEST_OS, "linux"));
    accepted(&elf().without(LOADER).text(LOADER, "other").text(GUEST_OS, "linux"));
    accepted(&elf().without(XEN_VERSION).text(XEN_VERSION, "xen-3.0-x86_64"));
    let file = |elf: ElfFile| elf.bytes();
    refused(&file(elf().without(LOADER)), &["LOADER", "missing", "generic"]);
    refused(&file(elf().without(LOADER).text(LOADER, "other")), &["LOADER", "generic"]);
    refused(&file(elf().without(XEN_VERSION)), &["XEN_VERSION", "missing", "xen-3.0"]);
    refused(&file(elf().text(XEN_VERSION, "xen-3.1")), &["XEN_VERSION", "xen-3.0"]);
}

#[test]
fn features() {
    accepted(&elf().text(FEATURES, "!writable_page_tables|pae_pgdir_above_4gb"));
    accepted(&elf().text(FEATURES, "unheard_of||!dom0|"));
    let unknown = elf().text(FEATURES, "dom0|!unheard_of").bytes();
    assert_eq!(refused(&unknown, &["FEATURES"]), NoteError::FeatureUnknown.into());
    let ring0 = elf().text(FEATURES, "!supervisor_mode_kernel").bytes();
    assert_eq!(refused(&ring0, &["supervisor_mode_kernel"]), NoteError::FeatureRing0.into());
}

#[test]
fn an_image_that_says_what_it_supports_must_support_being_initial() {
    let dom0 = u64::from(Features::DOM0.bits());
    let with = |bits| accepted(&elf().number(SUPPORTED_FEATURES, bits));
    Plan::new(&with(dom0), &request(0x4000)).unwrap();
    let error = Plan::new(&with(!dom0), &request(0x4000)).unwrap_err();
    assert_eq!(error, PlanError::NotInitial);
    check_sentence(&error.to_string());
    let toolstack = Request { kind: Kind::Toolstack, ..request(0x4000) };
    Plan::new(&with(0), &toolstack).unwrap();
}

#[test]
fn not_an_elf_file_for_this_machine() {
    refused(b"", &["not an ELF file", "0 bytes"]);
    refused(b"#!/bin/sh\n", &["not an ELF file", "23 21 2f 62"]);
    assert_eq!(refused(&patched(4, &[1]), &["32-bit"]), FileError::ThirtyTwoBit.into());
    refused(&patched(4, &[9]), &["class", "offset 4"]);
    refused(&patched(5, &[2]), &["little-endian"]);
    refused(&patched(18, &[183]), &["183", "x86-64"]);
    // Xen loads relocatable files as they are.
    refused(&patched(16, &[1]), &["type 1", "link"]);
    refused(&patched(54, &[64]), &["64 bytes", "instead of 56"]);
    refused(&patched(56, &[255]), &["255 program headers"]);
}

#[test]
fn compressed() {
    // Xen unpacks these itself.
    for (start, format) in [
        (&[0x1f, 0x8b, 8, 0][..], Compression::Gzip),
        (b"\xfd7zXZ\0", Compression::Xz),
        (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
        (&[0x04, 0x22, 0x4d, 0x18], Compression::Lz4),
        (&[0x02, 0x21, 0x4c, 0x18], Compression::Lz4),
        (b"BZh91AY", Compression::Bzip2),
        (&[0x5d, 0, 0, 0x80, 0], Compression::Lzma),
        (b"\x89LZO\0", Compression::Lzop),
    ] {
        let error = refused(start, &["compressed", format.name(), "unpack"]);
        assert_eq!(error, FileError::Compressed(format).into());
    }
    let mut linux = vec![0; 0x300];
    linux[0x202..0x206].copy_from_slice(b"HdrS");
    refused(&linux, &["bzImage", "extract-vmlinux"]);
}

#[test]
fn truncated() {
    let file = elf().bytes();
    refused(&file[..40], &["truncated", "ELF header", "0x28"]);
    refused(&file[..100], &["truncated", "program headers", "0x64"]);
    refused(&file[..file.len() - 1], &["truncated", "segment 0"]);
    // The notes' segment, header 1, has its length at byte 32.
    refused(&patched(64 + 56 + 32, &[0xff; 8]), &["truncated", "segment 1"]);
}

#[test]
fn segments_that_make_no_sense() {
    let file = |elf: ElfFile| elf.bytes();
    // Xen loads one over the other.
    refused(&file(elf().load(0x10_3000, 4, 0x1000)), &["segments 0 and 1 overlap", "0x103000"]);
    refused(&file(elf().load(0xf_f000, 4, 0x1001)), &["segments 0 and 1 overlap", "0x100000"]);
    accepted(&elf().load(0xf_f000, 4, 0x1000).load(0x10_4000, 4, 0x1000));
    refused(&file(elf().load(0x20_0000, 5, 4)), &["segment 1", "0x5", "0x4"]);
    refused(&file(elf().load(u64::MAX - 0xfff, 1, 0x2000)), &["segment 1", "end of the address"]);
    refused(&file(elf().load(1 << 63, 1, 0x2000)), &["address space", "VIRT_BASE"]);
    let mut none = elf();
    none.loads.clear();
    refused(&none.bytes(), &["no segment"]);
    let mut no_rights = elf().load(0x100_0000, 4, 0x1000);
    no_rights.loads[1].flags = 0;
    assert_eq!(accepted(&no_rights).end, BASE + 0x10_4000);
    assert_eq!(accepted(&no_rights).segments(&no_rights.bytes()).count(), 1);
}

#[test]
fn contradictory_notes() {
    let file = |elf: ElfFile| elf.bytes();
    let mut none = elf();
    none.notes.clear();
    refused(&none.bytes(), &["no Xen notes"]);
    refused(
        &file(elf().without(VIRT_BASE).number(PADDR_OFFSET, 0)),
        &["PADDR_OFFSET", "VIRT_BASE"],
    );
    refused(
        &file(elf().number(PADDR_OFFSET, 0x20_0000)),
        &["0x100000", "PADDR_OFFSET", "0x200000"],
    );
    let mut odd = elf();
    odd.notes.push((VIRT_BASE, vec![0; 2]));
    refused(&odd.bytes(), &["VIRT_BASE", "2 bytes"]);
    refused(&file(elf().number(ENTRY, BASE + 0xf_ffff)), &["entry", "0xffffffff800fffff"]);
    // Xen accepts this one; its first instruction is a page fault.
    refused(&file(elf().number(ENTRY, BASE + 0x10_4000)), &["entry", "0xffffffff80104000"]);
    // Xen dies of this one.
    refused(&file(ElfFile::minimal(BASE + 0x800, 0x10_0000, 0x1000)), &["VIRT_BASE", "4096"]);
    refused(
        &file(ElfFile::minimal(0xffff_8100_0000_0000, 0x10_0000, 0x1000)),
        &["VIRT_BASE", "hypervisor"],
    );
}

#[test]
fn frame_list_and_hypercall_page() {
    let plan = |note, value| Plan::new(&accepted(&elf().number(note, value)), &request(0x4000));
    refused(&elf().number(INIT_P2M, BASE + 0x10_2000).bytes(), &["INIT_P2M", "inside"]);
    // Xen gives the list a misaligned address.
    refused(&elf().number(INIT_P2M, 0x80_0000_0800).bytes(), &["INIT_P2M", "4096"]);
    // Xen writes the stubs there.
    refused(&elf().number(HYPERCALL_PAGE, BASE + 0x10_2010).bytes(), &["HYPERCALL_PAGE", "4096"]);
    plan(INIT_P2M, 0).unwrap();
    for (note, value, words) in [
        (INIT_P2M, BASE + 0x20_0000, "overlap"),
        // Xen dies of these two.
        (INIT_P2M, 0xffff_8000_0000_0000, "hypervisor"),
        (INIT_P2M, 0x9000_0000_0000, "canonical"),
        (HYPERCALL_PAGE, BASE + 0x40_0000, "HYPERCALL_PAGE"),
    ] {
        let text = plan(note, value).unwrap_err().to_string();
        check_sentence(&text);
        assert!(text.contains(words), "{text}");
    }
    for offset in [0x1000, 0x10_1000, 0x3f_f000] {
        plan(HYPERCALL_PAGE, BASE + offset).unwrap();
    }
}

#[test]
fn too_little_memory_says_how_much_is_needed() {
    // Measured: Xen refuses 3 MiB for this kernel, and takes 4.
    let image = accepted(&ElfFile::minimal(BASE, 0x10_0000, 0x1_10a0));
    Plan::new(&image, &request(0x400)).unwrap();
    let error = Plan::new(&image, &request(0x3ff)).unwrap_err();
    assert_eq!(error, PlanError::TooLittleMemory { needed: 0x400, pages: 0x3ff, ramdisk_len: 0 });
    assert!(error.to_string().contains("at least 4 MiB"), "{error}");
    check_sentence(&error.to_string());
    let with_ramdisk = Request { ramdisk_len: 5_000_000, ..request(0x800) };
    let error = Plan::new(&image, &with_ramdisk).unwrap_err();
    assert!(error.to_string().contains("4883 KiB"), "{error}");
}
