//! The start_info page, field by field.

use crate::case::{Case, Outcome, Test, case, equal, equal_at, holds};
use crate::raw::memory::{peek, peek_byte};
use crate::tables::{VIRT_BASE, frame_of, mapped_end, mapping};

/// Bytes of the structure; what follows in its page is the video console's description.
const SIZE: u64 = 1168;

pub(crate) const CASES: &[Case] = &[
    case("info/address", "start_info begins at a page's boundary.", |t| {
        equal("offset in page", t.entry.general[4] & 0xfff, 0)
    }),
    case(
        "info/magic",
        "The magic is \"xen-3.0-x86_64\", and the rest of its 32 bytes is zero.",
        |t| {
            let mut magic = [0; 32];
            magic[..14].copy_from_slice(b"xen-3.0-x86_64");
            for (place, (&seen, &expected)) in
                (0..).zip(t.boot.start_info().magic.iter().zip(&magic))
            {
                equal_at("byte", place, seen, expected)?;
            }
            Ok(())
        },
    ),
    case("info/nr_pages", "nr_pages is the memory asked for by dom0_mem, in pages.", |t| {
        equal("nr_pages", t.boot.pages(), 0x4000)
    }),
    case("info/shared_info", "shared_info is the machine address of a page.", |t| {
        let address = t.boot.start_info().shared_info;
        let page = address & 0xfff == 0 && address != 0 && address >> 40 == 0;
        holds("shared_info", address, "a page's address", page)
    }),
    case(
        "info/shared_info_is_no_page",
        "The shared page is none of the pages in the list of frames.",
        |t| {
            let mfn = t.boot.start_info().shared_info >> 12;
            let page = (0..t.boot.pages()).find(|&pfn| frame_of(t.boot, pfn) == mfn);
            equal("its page", page.unwrap_or(u64::MAX), u64::MAX)
        },
    ),
    case(
        "info/flags",
        "flags are privileged, initial domain, and the power-management bits 8 and 9.",
        |t| equal("flags", t.boot.start_info().flags, 0x303),
    ),
    case("info/store", "An initial domain has no xenstore ring: frame and port are 0.", |t| {
        equal("store_mfn", word(t, 56), 0)?;
        equal("store_evtchn", word(t, 64), 0)
    }),
    case(
        "info/console_offset",
        "The video console's description lies right behind the structure.",
        |t| equal("offset", word(t, 72) & 0xffff_ffff, SIZE),
    ),
    case("info/console_size", "The video console's description has 40 bytes.", |t| {
        equal("size", word(t, 72) >> 32, 0x28)
    }),
    case("info/console_port", "The place of the console's port is 0 in an initial domain.", |t| {
        equal("console_evtchn", word(t, 80), 0)
    }),
    case("info/pt_base", "pt_base is the page behind start_info.", |t| {
        equal("pt_base", t.boot.start_info().pt_base, t.entry.general[4] + 4096)
    }),
    case(
        "info/nr_pt_frames",
        "There are as many page-table frames as four levels over the mapped range need.",
        |t| {
            // The range is shorter than the gigabyte that one table of each upper level maps.
            let last_level = (mapped_end(t.boot) - VIRT_BASE).div_ceil(512 * 4096);
            equal("nr_pt_frames", t.boot.start_info().nr_pt_frames, last_level + 3)
        },
    ),
    case("info/mfn_list", "The list of frames ends where start_info begins.", |t| {
        let info = t.boot.start_info();
        let end = info.mfn_list + info.nr_pages * 8;
        equal("end", end, t.entry.general[4])
    }),
    case(
        "info/mod_start",
        "mod_start is the address of the ramdisk: the page behind the kernel's end.",
        |t| equal("mod_start", t.boot.start_info().mod_start, crate::raw::image_end()),
    ),
    case("info/mod_len", "mod_len is the ramdisk's size in bytes, not in pages.", |t| {
        equal("mod_len", t.boot.start_info().mod_len, RAMDISK)
    }),
    case("info/ramdisk", "The ramdisk holds the bytes of the file.", |t| {
        for (place, &byte) in (0..).zip(t.boot.ramdisk()) {
            equal_at("byte", place, u64::from(byte), place * 7 % 251)?;
        }
        Ok(())
    }),
    case("info/ramdisk_writable", "The pages of the ramdisk are mapped writable.", |t| {
        let entry = mapping(t.boot, t.boot.start_info().mod_start);
        equal("flags", entry.unwrap_or(0) & 3, 3)
    }),
    case("info/ramdisk_tail", "What follows the ramdisk in its last page is zero.", |t| {
        let info = t.boot.start_info();
        let end = info.mod_start + info.mod_len;
        for address in end..end.next_multiple_of(4096) {
            equal_at("byte", address & 0xfff, peek_byte(address), 0)?;
        }
        Ok(())
    }),
    case(
        "info/list_behind_ramdisk",
        "The list of frames begins at the page behind the ramdisk.",
        |t| {
            let info = t.boot.start_info();
            let end = (info.mod_start + info.mod_len).next_multiple_of(4096);
            equal("mfn_list", info.mfn_list, end)
        },
    ),
    case(
        "info/command_line",
        "The command line begins behind the file's name, with the first word for the guest.",
        |t| {
            equal(
                "first bytes",
                word(t, 128) & 0xffff_ffff,
                u64::from(u32::from_le_bytes(*b"run ")),
            )
        },
    ),
    case("info/command_line_end", "Behind the command line's end its 1024 bytes are zero.", |t| {
        let line = &t.boot.start_info().cmd_line;
        let end = t.boot.command_line().len();
        let used = line.iter().skip(end).position(|&byte| byte != 0);
        equal("first used byte", used.unwrap_or(1024), 1024)
    }),
    case(
        "info/first_p2m_pfn",
        "Without a note that asks for a place of the list of frames, first_p2m_pfn is the number \
         of pages that the mapped range and the ramdisk's file took.",
        |t| {
            let mapped = (mapped_end(t.boot) - VIRT_BASE) >> 12;
            let pages = mapped + RAMDISK.div_ceil(4096);
            equal("first_p2m_pfn", word(t, 1152), pages)
        },
    ),
    case(
        "info/nr_p2m_frames",
        "Without a note that asks for a place of the list of frames, nr_p2m_frames is 0.",
        |t| equal("nr_p2m_frames", word(t, 1160), 0),
    ),
    case("info/padding", "The padding words of the structure are zero.", |t| {
        equal("at 52", word(t, 48) >> 32, 0)?;
        equal("at 68", word(t, 64) >> 32, 0)?;
        equal("at 84", word(t, 80) >> 32, 0)
    }),
    case(
        "info/rest_of_page",
        "The page is zero behind the structure and the video console's description.",
        rest_of_page,
    ),
    case("info/writable", "The start_info page is mapped writable.", |t| {
        equal("flags", mapping(t.boot, t.entry.general[4]).unwrap_or(0) & 3, 3)
    }),
    case(
        "info/in_window",
        "start_info, list of frames and page tables lie behind the kernel, in that window.",
        |t| {
            let info = t.boot.start_info();
            for address in [info.pt_base, info.mfn_list, info.mod_start] {
                holds("address", address, "in the window", address > VIRT_BASE)?;
            }
            Ok(())
        },
    ),
];

/// Size of the ramdisk that the host gives this guest.
const RAMDISK: u64 = 5000;

fn word(t: &Test<'_>, offset: u64) -> u64 {
    peek(t.entry.general[4] + offset)
}

fn rest_of_page(t: &Test<'_>) -> Outcome {
    let described = word(t, 72) >> 32;
    for offset in (SIZE + described).next_multiple_of(8)..4096 {
        let byte = peek_byte(t.entry.general[4] + offset);
        equal_at("byte", offset, byte, 0)?;
    }
    Ok(())
}
