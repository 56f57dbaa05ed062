//! `xen_version`: every sub-operation, its values or their shape, and every kind of bad pointer.

use crate::call::{EFAULT, EINVAL, ENOSYS, XEN_VERSION, hypercall};
use crate::case::{Case, Outcome, Verdict, case, equal, equal_at, holds};
use crate::raw::memory::{arena_address, fill_arena, get, put};
use crate::raw::pages_calls::update;
use crate::raw::pages_scratch::{LOADED, with};
use crate::tables::{FRAME, M2P, VIRT_BASE, mapped_end, walk};

const VM_ASSIST: u64 = 21;

pub(crate) const CASES: &[Case] = &[
    case("version/version", "Sub-operation 0 answers major and minor version: 4.17.", |_| {
        equal("answer", hypercall(XEN_VERSION, &[0]), 0x4_0011)
    }),
    case("version/version_pointer", "Sub-operation 0 ignores its pointer.", |_| {
        equal("answer", hypercall(XEN_VERSION, &[0, 0x1000]), 0x4_0011)
    }),
    case("version/extraversion", "Sub-operation 1 writes 16 bytes of text and no more.", |_| {
        text(1, 16)
    }),
    case(
        "version/compile_info",
        "Sub-operation 2 writes 144 bytes: compiler, builder, domain, date, each ended by a zero.",
        |_| {
            written(2, 144)?;
            for (place, &end) in [63_u16, 79, 111, 143].iter().enumerate() {
                equal_at("end of text", place as u64, get::<1>(end.into())[0], 0)?;
            }
            Ok(())
        },
    ),
    case("version/capabilities", "Sub-operation 3 writes 1024 bytes of text.", |_| text(3, 1024)),
    case("version/capabilities_pv", "The first capability is xen-3.0-x86_64.", |_| {
        equal("answer", hypercall(XEN_VERSION, &[3, arena_address()]), 0)?;
        let seen = get::<14>(0);
        holds("first byte", seen[0], "xen-3.0-x86_64", &seen == b"xen-3.0-x86_64")
    }),
    case("version/changeset", "Sub-operation 4 writes 64 bytes of text.", |_| text(4, 64)),
    case("version/platform_parameters", "Sub-operation 5 writes 8 bytes.", |_| written(5, 8)),
    case(
        "version/hypervisor_start",
        "Sub-operation 5 gives the first address of the hypervisor: ffff800000000000.",
        |_| {
            equal("answer", hypercall(XEN_VERSION, &[5, arena_address()]), 0)?;
            equal("start", u64::from_le_bytes(get(0)), M2P)
        },
    ),
    case(
        "version/features",
        "Word 0 of the features has the bits of an initial domain: 228e0.",
        |_| {
            put(0, &[0; 16]);
            equal("answer", hypercall(XEN_VERSION, &[6, arena_address()]), 0)?;
            equal("bits", u32::from_le_bytes(get(4)), 0x228e0)
        },
    ),
    case("version/features_assist", "Bit 4 is there while assist 3 is on.", |_| {
        for (cmd, bits) in [(0, 0x228f0_u32), (1, 0x228e0)] {
            equal_at("vm_assist", cmd, hypercall(VM_ASSIST, &[cmd, 3]), 0)?;
            put(0, &[0; 16]);
            equal("answer", hypercall(XEN_VERSION, &[6, arena_address()]), 0)?;
            equal_at("bits", cmd, u32::from_le_bytes(get(4)), bits)?;
        }
        Ok(())
    }),
    case("version/features_index", "The index of a feature word is left as it is.", |_| {
        put(0, &[0; 4]);
        equal("answer", hypercall(XEN_VERSION, &[6, arena_address()]), 0)?;
        equal("index", u32::from_le_bytes(get(0)), 0)
    }),
    case("version/features_extent", "Sub-operation 6 writes at most 8 bytes.", |_| {
        fill_arena(0xaa);
        put(0, &[0; 4]);
        equal("answer", hypercall(XEN_VERSION, &[6, arena_address()]), 0)?;
        equal("byte 8", get::<1>(8)[0], 0xaa)
    }),
    case("version/features_unknown", "Feature words from 1 on are refused with -EINVAL.", |_| {
        for index in [1_u32, 2, 7, 1 << 31, u32::MAX] {
            put(0, &index.to_le_bytes());
            let answer = hypercall(XEN_VERSION, &[6, arena_address()]);
            equal_at("answer for", index.into(), answer, EINVAL)?;
        }
        Ok(())
    }),
    case("version/features_unknown_output", "A refused feature word writes nothing.", |_| {
        put(0, &[1, 0, 0, 0, 0xaa, 0xaa, 0xaa, 0xaa]);
        equal("answer", hypercall(XEN_VERSION, &[6, arena_address()]), EINVAL)?;
        equal("bits", u32::from_le_bytes(get(4)), 0xaaaa_aaaa)
    }),
    case("version/pagesize", "Sub-operation 7 answers 4096.", |_| {
        equal("answer", hypercall(XEN_VERSION, &[7]), 4096)
    }),
    case("version/pagesize_pointer", "Sub-operation 7 refuses every pointer but null.", |_| {
        equal("arena", hypercall(XEN_VERSION, &[7, arena_address()]), EINVAL)?;
        equal("unmapped", hypercall(XEN_VERSION, &[7, 0x1000]), EINVAL)
    }),
    case("version/guest_handle", "Sub-operation 8 writes 16 bytes.", |_| written(8, 16)),
    case("version/guest_handle_zero", "An initial domain's handle is zero.", |_| {
        equal("answer", hypercall(XEN_VERSION, &[8, arena_address()]), 0)?;
        equal("handle", u128::from_le_bytes(get(0)) == 0, true)
    }),
    case("version/commandline", "Sub-operation 9 writes 1024 bytes of text.", |_| text(9, 1024)),
    case(
        "version/commandline_text",
        "Sub-operation 9 gives the hypervisor's own command line, without its file's name.",
        |_| {
            equal("answer", hypercall(XEN_VERSION, &[9, arena_address()]), 0)?;
            let seen = get::<12>(0);
            holds("first byte", seen[0], "console=com1", &seen == b"console=com1")
        },
    ),
    case("version/build_id_length", "Sub-operation 10 with null answers the id's length.", |_| {
        let answer = hypercall(XEN_VERSION, &[10, 0]);
        holds("answer", answer, "1 to 64 bytes", (1..=64).contains(&answer))
    }),
    case("version/build_id", "Sub-operation 10 writes the id behind its length.", |_| {
        let length = hypercall(XEN_VERSION, &[10, 0]);
        fill_arena(0);
        put(0, &64_u32.to_le_bytes());
        equal("answer", hypercall(XEN_VERSION, &[10, arena_address()]), length)?;
        let used = get::<64>(4).iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        holds("bytes", used, "not more than its length", used as u64 <= length.cast_unsigned())
    }),
    case("version/build_id_room", "The room that was given stays in front of the id.", |_| {
        fill_arena(0xaa);
        put(0, &[64, 0, 0, 0]);
        let length = hypercall(XEN_VERSION, &[10, arena_address()]);
        equal("room", u32::from_le_bytes(get(0)), 64)?;
        let bytes = get::<80>(4);
        let behind = usize::try_from(length).unwrap_or(80).min(79);
        equal("byte behind the id", bytes[behind], 0xaa)
    }),
    case("version/build_id_short", "A buffer too short for the id is refused.", |_| {
        fill_arena(0);
        put(0, &4_u32.to_le_bytes());
        equal("answer", hypercall(XEN_VERSION, &[10, arena_address()]), -105)
    }),
    case("version/build_id_empty", "A buffer of no length at all is refused.", |_| {
        fill_arena(0);
        equal("answer", hypercall(XEN_VERSION, &[10, arena_address()]), EINVAL)
    }),
    case("version/unknown", "Unknown sub-operations answer -ENOSYS.", |_| {
        for operation in [11, 12, 63, 64, 255, 256, 1 << 31, 0xffff_ffff] {
            let answer = hypercall(XEN_VERSION, &[operation, arena_address()]);
            equal_at("answer of", operation, answer, ENOSYS)?;
        }
        Ok(())
    }),
    case(
        "version/null",
        "Null is refused with -EFAULT where a structure is to be written.",
        |_| refused(0),
    ),
    case("version/unmapped", "An unmapped pointer is refused with -EFAULT.", |_| refused(0x1000)),
    case("version/behind_end", "A pointer behind the mapped end is refused with -EFAULT.", |t| {
        refused(mapped_end(t.boot))
    }),
    case("version/hypervisor", "A pointer into the hypervisor is refused with -EFAULT.", |_| {
        refused(0xffff_8300_0000_0000)
    }),
    case("version/m2p", "The readable part of the hypervisor is refused all the same.", |_| {
        refused(M2P)
    }),
    case("version/below_hypervisor", "The last canonical addresses below are refused.", |_| {
        refused(0x0000_7fff_ffff_fff8)
    }),
    case("version/non_canonical", "A pointer that is no address is refused with -EFAULT.", |_| {
        refused(0x0000_8000_0000_0000)
    }),
    case("version/wrapping", "A structure that wraps around is refused with -EFAULT.", |_| {
        refused(u64::MAX - 3)
    }),
    case("version/end_of_memory", "One that ends where addresses do is written.", |t| {
        with(t, |[second, last, page, ..]| {
            last.set(511, page.entry(LOADED));
            second.set(511, last.entry(0x67));
            last.protect()?;
            second.protect()?;
            let Some(fourth) = walk(t.boot, 4, VIRT_BASE) else {
                return Err(Verdict::Skip("the image is elsewhere"));
            };
            // The image is in the last GiB but one.
            let slot = (fourth & FRAME) + 8 * 511;
            equal("entry", update(slot, second.entry(0x67)), 0)?;
            let answer = hypercall(XEN_VERSION, &[5, u64::MAX - 7]);
            equal("no entry", update(slot, 0), 0)?;
            equal("answer", answer, 0)?;
            equal("last word", page.get(511), 0xffff_8000_0000_0000)
        })
    }),
    case("version/read_only", "A page mapped read-only is refused with -EFAULT.", |t| {
        refused(t.boot.start_info().pt_base)
    }),
    case("version/straddling", "A structure half in unmapped memory is refused.", |t| {
        refused(mapped_end(t.boot) - 4)
    }),
    case("version/unaligned", "Pointers need no alignment.", |_| {
        equal("answer", hypercall(XEN_VERSION, &[5, arena_address() + 3]), 0)?;
        equal("start", u64::from_le_bytes(get(3)), M2P)
    }),
    case("version/across_pages", "A structure may lie across two pages.", |_| {
        fill_arena(0xaa);
        equal("answer", hypercall(XEN_VERSION, &[9, arena_address() + 4000]), 0)?;
        equal("first", get::<1>(4000)[0], b'c')?;
        equal("behind", get::<1>(5024)[0], 0xaa)
    }),
    case("version/other_arguments", "All arguments but the first two are ignored.", |_| {
        let answer = hypercall(XEN_VERSION, &[0, 0, u64::MAX, u64::MAX, u64::MAX, u64::MAX]);
        equal("answer", answer, 0x4_0011)
    }),
];

/// Checks that a sub-operation writes `size` bytes and no more.
fn written(operation: u64, size: u16) -> Outcome {
    let size = usize::from(size);
    for filler in [0xaa, 0x55] {
        fill_arena(filler);
        equal("answer", hypercall(XEN_VERSION, &[operation, arena_address()]), 0)?;
        let behind = get::<64>(size).iter().position(|&byte| byte != filler);
        equal("first byte written behind", behind.unwrap_or(64), 64)?;
        equal("last byte is the filler", get::<1>(size - 1)[0] == filler, false)?;
    }
    Ok(())
}

/// Checks that a sub-operation writes text that ends within `size` bytes, and nothing behind them.
fn text(operation: u64, size: u16) -> Outcome {
    fill_arena(0xaa);
    let answer = hypercall(XEN_VERSION, &[operation, arena_address()]);
    holds("answer", answer, "0 or the text's length", (0..=i64::from(size)).contains(&answer))?;
    let bytes = get::<1088>(0);
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    holds("end of text", end, "within the structure", end < size.into())?;
    let behind = bytes[size.into()..].iter().position(|&byte| byte != 0xaa);
    equal("first byte written behind", behind.unwrap_or(64), 64)
}

/// Checks that a pointer is refused by every sub-operation that writes through one.
fn refused(pointer: u64) -> Outcome {
    for operation in [1, 2, 3, 4, 5, 6, 8, 9] {
        let answer = hypercall(XEN_VERSION, &[operation, pointer]);
        equal_at("answer of", operation, answer, EFAULT)?;
    }
    Ok(())
}
