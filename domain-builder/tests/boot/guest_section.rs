//! Kernels that describe themselves by the section `__xen_guest`. Whether Xen 4.17.7 boots such a
//! kernel as its initial domain, and where, was tried with these texts, but for the oversized number.
use domain_builder::image::{Image, ImageError, NoteError};

use crate::elf_file::{ElfFile, HYPERCALL_PAGE};
use crate::mutations::check_sentence;

const BASE: u64 = 0xffff_ffff_8000_0000;
const PADDR: u64 = 0x10_0000;
/// Names of sections: the first has none.
const NAMES: &[u8] = b"\0.shstrtab\0__xen_guest\0";

/// A kernel without notes, at physical address `paddr`, and that section of it.
pub(crate) fn file(paddr: u64, section: &[u8]) -> Vec<u8> {
    let mut elf = ElfFile::minimal(0, paddr, 0x4000);
    elf.notes.clear();
    add_section(elf.bytes(), section)
}

fn add_section(mut file: Vec<u8>, section: &[u8]) -> Vec<u8> {
    let names_at = file.len();
    file.extend(NAMES);
    let section_at = file.len();
    file.extend(section);
    let table_at = file.len() as u64;
    file.extend([0; 64]);
    for (name, kind, at, len) in
        [(1_u32, 3_u32, names_at, NAMES.len()), (11, 1, section_at, section.len())]
    {
        file.extend([name.to_le_bytes(), kind.to_le_bytes()].concat());
        for word in [0, 0, at as u64, len as u64, 0, 1, 0] {
            file.extend(word.to_le_bytes());
        }
    }
    file[40..48].copy_from_slice(&table_at.to_le_bytes());
    file[60..64].copy_from_slice(&[3, 0, 1, 0]);
    file
}

fn parse(paddr: u64, text: &str) -> Result<Image, ImageError> {
    Image::parse(&file(paddr, &[text.as_bytes(), b"\0,LOADER=other"].concat()))
}

#[test]
fn its_text_says_what_notes_say() {
    let text = "HYPERCALL_PAGE=0x101,GUEST_OS=x,XEN_VER=xen-3.0,VIRT_BASE=0xffffffff80000000,\
                LOADER=generic,VIRT_ENTRY=0xFFFFFFFF80100004";
    let image = parse(BASE + PADDR, text).unwrap();
    assert_eq!((image.base, image.start, image.end), (BASE, BASE + PADDR, BASE + PADDR + 0x4000));
    assert_eq!((image.entry, image.hypercall_page), (BASE + PADDR + 4, Some(BASE + 0x10_1000)));
    assert!(image.may_be_initial);
    // What Mini-OS says.
    let mini_os = "GUEST_OS=Mini-OS,XEN_VER=xen-3.0,VIRT_BASE=0x0,ELF_PADDR_OFFSET=0x0,\
                   HYPERCALL_PAGE=0x2,LOADER=generic";
    let image = parse(0, mini_os).unwrap();
    assert_eq!((image.base, image.start, image.entry), (0, 0, 0));
    assert_eq!(image.hypercall_page, Some(0x2000));
    let offset = "VIRT_BASE=0xffffffff80000000,ELF_PADDR_OFFSET=0,XEN_VER=xen-3.0,LOADER=generic,\
                  VIRT_ENTRY=0xffffffff80100000";
    assert_eq!(parse(PADDR, offset).unwrap().start, BASE + PADDR);
}

#[test]
fn numbers_are_written_as_in_c_and_end_where_digits_do() {
    for (number, page) in [("257", 0x101), ("0401", 0x101), ("0X101", 0x101), ("257zz", 0x101)] {
        let text = format!("GUEST_OS=linux,XEN_VER=xen-3.0,HYPERCALL_PAGE={number},VIRT_BASE=,,X");
        assert_eq!(parse(PADDR, &text).unwrap().hypercall_page, Some(page << 12), "{number}");
    }
    // Too large for a number, and then for a plan.
    let nines = "9".repeat(99);
    parse(PADDR, &format!("LOADER=genericX,XEN_VER=xen-3.0,HYPERCALL_PAGE={nines}")).unwrap();
}

#[test]
fn a_feature_that_cannot_be_had_ends_the_text() {
    let known = "XEN_VER=xen-3.0,FEATURES=dom0|nonsense,LOADER=generic";
    parse(PADDR, known).unwrap();
    let before = "XEN_VER=xen-3.0,FEATURES=!nonsense,LOADER=generic";
    assert_eq!(parse(PADDR, before), Err(NoteError::LoaderMissing.into()));
    parse(PADDR, "XEN_VER=xen-3.0,LOADER=generic,FEATURES=!nonsense,LOADER=other").unwrap();
}

#[test]
fn what_is_missing_is_refused() {
    let offset = "GUEST_OS=x,XEN_VER=xen-3.0,ELF_PADDR_OFFSET=0,LOADER=generic";
    assert_eq!(parse(PADDR, offset), Err(NoteError::BaseMissing.into()));
    assert_eq!(parse(PADDR, "LOADER=generic"), Err(NoteError::VersionMissing.into()));
    assert_eq!(parse(PADDR, ""), Err(NoteError::LoaderMissing.into()));
    let mut other = file(PADDR, b"XEN_VER=xen-3.0,LOADER=generic\0");
    assert!(Image::parse(&other).is_ok());
    let name = other.windows(5).position(|it| it == b"guest").unwrap();
    other[name] = b'G';
    let error = Image::parse(&other).unwrap_err();
    assert_eq!(error, NoteError::None.into());
    assert!(error.to_string().contains("__xen_guest"), "{error}");
    check_sentence(&error.to_string());
}

#[test]
fn notes_come_first() {
    let elf = ElfFile::minimal(BASE, PADDR, 0x4000).number(HYPERCALL_PAGE, BASE + PADDR);
    let text = b"VIRT_BASE=0,HYPERCALL_PAGE=7,LOADER=other,XEN_VER=xen-2.0\0";
    let image = Image::parse(&add_section(elf.bytes(), text)).unwrap();
    assert_eq!((image.base, image.hypercall_page), (BASE, Some(BASE + PADDR)));
}
