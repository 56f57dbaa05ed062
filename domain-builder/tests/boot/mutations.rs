//! Damaged files are refused or understood, never the end of the kernel.
use domain_builder::image::Image;
use domain_builder::plan::{Kind, Plan, Request};
use proptest::prelude::*;

use crate::elf_file::{ElfFile, HYPERCALL_PAGE, INIT_P2M, SUPPORTED_FEATURES};
use crate::guest_section;

/// Three ways to say what a kernel wants: notes in a segment, notes in a section, a section's text.
const WAYS: [Option<bool>; 3] = [Some(false), Some(true), None];

fn file(notes_in_section: Option<bool>) -> Vec<u8> {
    let Some(notes_in_section) = notes_in_section else {
        let text =
            b"VIRT_BASE=0x0,HYPERCALL_PAGE=0x101,FEATURES=!dom0,XEN_VER=xen-3.0,LOADER=generic\0";
        return guest_section::file(0x10_0000, text);
    };
    let mut elf = ElfFile::minimal(0xffff_ffff_8000_0000, 0x10_0000, 0x2000)
        .load(0x10_4000, 0x123, 0x1000)
        .number(HYPERCALL_PAGE, 0xffff_ffff_8010_1000)
        .number(INIT_P2M, 0x80_0000_0000)
        .number(SUPPORTED_FEATURES, 0x8801)
        .text(10, "!writable_page_tables|pae_pgdir_above_4gb");
    elf.notes_in_section = notes_in_section;
    elf.bytes()
}

/// Does with a file what ring 0 does with it.
fn use_file(file: &[u8]) {
    let image = match Image::parse(file) {
        Ok(image) => image,
        Err(error) => return check_sentence(&error.to_string()),
    };
    for segment in image.segments(file) {
        assert!(file.get(segment.file.clone()).is_some(), "{segment:?} beyond the file");
        assert!(segment.memory >= segment.file.len() as u64);
        let end = image.base + segment.offset + segment.memory;
        assert!(end <= image.end, "{segment:?} beyond the image");
    }
    for kind in [Kind::Initial, Kind::Toolstack] {
        let request = Request { kind, nr_pages: 0x4000, ramdisk_len: 12345 };
        if let Err(error) = Plan::new(&image, &request) {
            check_sentence(&error.to_string());
        }
    }
}

/// One sentence on one line, without an end, to be set into another.
pub(crate) fn check_sentence(text: &str) {
    assert!(text.len() > 40 && text.len() < 300, "{text}");
    assert!(!text.contains('\n') && !text.contains("  ") && !text.ends_with('.'), "{text}");
}

#[test]
fn every_truncation() {
    for in_section in WAYS {
        let file = file(in_section);
        assert!(Image::parse(&file).is_ok());
        (0..file.len()).for_each(|len| use_file(&file[..len]));
    }
}

#[test]
fn every_byte_with_extreme_values() {
    for in_section in WAYS {
        let file = file(in_section);
        for at in 0..file.len() {
            for value in [0, 1, 2, 4, 0x7f, 0x80, 0xfe, 0xff] {
                let mut broken = file.clone();
                broken[at] = value;
                use_file(&broken);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn many_bytes(
        in_section: Option<bool>,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let mut file = file(in_section);
        for (at, value) in changes {
            let at = at.index(file.len());
            file[at] = value;
        }
        use_file(&file);
    }

    #[test]
    fn many_words(
        in_section: Option<bool>,
        changes in prop::collection::vec((0_usize..60, word()), 1..5),
    ) {
        let mut file = file(in_section);
        for (at, value) in changes {
            file[at * 8..][..8].copy_from_slice(&value.to_le_bytes());
        }
        use_file(&file);
    }

    #[test]
    fn any_bytes(file in prop::collection::vec(any::<u8>(), 0..600)) {
        use_file(&file);
        use_file(&[b"\x7fELF\x02\x01\x01", &file[..]].concat());
    }
}

/// Values around what matters in a file and in an address space.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0_u64..0x400,
        (0_u64..0x400).prop_map(|back| 0_u64.wrapping_sub(back)),
        (0_u32..64).prop_map(|bit| 1 << bit),
    ]
}
