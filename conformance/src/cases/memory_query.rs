//! The sub-operations that tell of memory, and those that a PV guest has no use for.

use crate::call::{EFAULT, EINVAL, MEMORY_OP, hypercall};
use crate::case::{Case, case, equal, equal_at, holds};
use crate::raw::memory::{arena_address, fill_arena};
use crate::raw::pages_calls::{ESRCH, IO, NOBODY, SELF, XEN, memory_op, word_at};
use crate::raw::pages_reservation::CURRENT;
use crate::tables::{M2P, mapped_end};

const HYPERVISOR: u64 = 0xffff_8300_0000_0000;
const LAST_FRAME: u64 = 2;
const MAXIMUM: u64 = 4;
const M2P_LIST: u64 = 5;
const MACHINE_MAP: u64 = 10;
const M2P_PLACE: u64 = 12;
/// Where lists of results lie in the arena. Unit: bytes.
const LIST: usize = 1024;

pub(crate) const CASES: &[Case] = &[
    case(
        "memory_query/last_frame_argument",
        "Sub-operation 2 does not look at an argument.",
        |_| {
            let answer = hypercall(MEMORY_OP, &[LAST_FRAME, 0]);
            for argument in [0x1000, HYPERVISOR, u64::MAX] {
                equal_at(
                    "answer for",
                    argument,
                    hypercall(MEMORY_OP, &[LAST_FRAME, argument]),
                    answer,
                )?;
            }
            Ok(())
        },
    ),
    case(
        "memory_query/last_frame_mapping",
        "Sub-operation 12 tells the frame before the one that 2 tells.",
        |_| {
            let last = hypercall(MEMORY_OP, &[LAST_FRAME, 0]);
            equal("answer", memory_op(M2P_PLACE, &[0, 0, 0]), 0)?;
            equal("last frame", word_at(16) + 1, last.cast_unsigned())
        },
    ),
    case("memory_query/current_io", "Current reservation of DOMID_IO and DOMID_XEN.", |_| {
        equal("of devices", memory_op(CURRENT, &[IO]), ESRCH)?;
        equal("of the hypervisor", memory_op(CURRENT, &[XEN]), ESRCH)
    }),
    case(
        "memory_query/maximum_unknown",
        "The maximum of a domain that is not there: ESRCH.",
        |_| equal("answer", memory_op(MAXIMUM, &[NOBODY]), ESRCH),
    ),
    case(
        "memory_query/domain_width",
        "A domain's number has 16 bits, what follows is ignored.",
        |_| {
            let answer = memory_op(CURRENT, &[SELF]);
            equal("answer", memory_op(CURRENT, &[0xffff_ffff_ffff_0000 | SELF]), answer)
        },
    ),
    case("memory_query/m2p_list_none", "Sub-operation 5 with room for none: 0 of them.", |_| {
        equal("answer", list(0), 0)?;
        equal("number", word_at(16) & 0xffff_ffff, 0)
    }),
    case("memory_query/m2p_list_one", "With room for one: the first part of the table.", |_| {
        equal("answer", list(1), 0)?;
        equal("number", word_at(16) & 0xffff_ffff, 1)?;
        holds("frame", word_at(LIST), "a frame", (1..1 << 40).contains(&word_at(LIST)))?;
        equal("second word", word_at(LIST + 8), FILLED)
    }),
    case("memory_query/m2p_list_many", "With more room: one for 2 MiB of the table each.", |_| {
        let frames = hypercall(MEMORY_OP, &[LAST_FRAME, 0]).cast_unsigned() + 1;
        let parts = (frames * 8).div_ceil(2 << 20);
        equal("answer", list(64), 0)?;
        equal("number", word_at(16) & 0xffff_ffff, parts.min(64))
    }),
    case("memory_query/m2p_list_aligned", "The parts are frames at multiples of 2 MiB.", |_| {
        equal("answer", list(64), 0)?;
        equal("frame within 2 MiB", word_at(LIST) & 511, 0)
    }),
    case("memory_query/m2p_list_unmapped", "A list that is not mapped: EFAULT.", |_| {
        equal("answer", memory_op(M2P_LIST, &[1, 0x1000, 0]), EFAULT)
    }),
    case("memory_query/m2p_list_argument", "An argument that is not mapped: EFAULT.", |_| {
        equal("answer", hypercall(MEMORY_OP, &[M2P_LIST, 0x1000]), EFAULT)?;
        equal("hypervisor", hypercall(MEMORY_OP, &[M2P_LIST, HYPERVISOR]), EFAULT)
    }),
    case(
        "memory_query/m2p_place_hypervisor",
        "Sub-operation 12 to the hypervisor: EFAULT.",
        |_| equal("answer", hypercall(MEMORY_OP, &[M2P_PLACE, HYPERVISOR]), EFAULT),
    ),
    case(
        "memory_query/m2p_place_start",
        "The table of frames begins where it always does.",
        |_| {
            equal("answer", memory_op(M2P_PLACE, &[0, 0, 0]), 0)?;
            equal("start", word_at(0), M2P)
        },
    ),
    case(
        "memory_query/machine_map_types",
        "The machine's map has types 1 to 5 and 7 alone.",
        |_| {
            let words = [64, arena_address() + LIST as u64];
            equal("answer", memory_op(MACHINE_MAP, &words), 0)?;
            for entry in 0..word_at(0) & 0xffff_ffff {
                let at = LIST + usize::try_from(entry).unwrap_or(0) * 20 + 16;
                let kind = word_at(at) & 0xffff_ffff;
                holds("type", kind, "a known type", matches!(kind, 1..=5 | 7))?;
            }
            Ok(())
        },
    ),
    case("memory_query/machine_map_ram", "The machine's map has memory from 1 MiB on.", |_| {
        let words = [64, arena_address() + LIST as u64];
        equal("answer", memory_op(MACHINE_MAP, &words), 0)?;
        let found = (0..word_at(0) & 0xffff_ffff).any(|entry| {
            let at = LIST + usize::try_from(entry).unwrap_or(0) * 20;
            word_at(at) == 1 << 20 && word_at(at + 16) & 0xffff_ffff == 1
        });
        equal("found", found, true)
    }),
    case("memory_query/machine_map_list", "A map's list that is not mapped: EFAULT.", |_| {
        equal("answer", memory_op(MACHINE_MAP, &[64, 0x1000]), EFAULT)?;
        equal("hypervisor", memory_op(MACHINE_MAP, &[64, HYPERVISOR]), EFAULT)
    }),
    case("memory_query/machine_map_end", "Nothing is written behind the last entry.", |_| {
        fill_arena(0xa5);
        let words = [64, arena_address() + LIST as u64];
        equal("answer", memory_op(MACHINE_MAP, &words), 0)?;
        let end = usize::try_from(word_at(0) & 0xffff_ffff).unwrap_or(0) * 20;
        equal("word behind", word_at(LIST + end), FILLED)
    }),
    case("memory_query/machine_map_count", "Without a list the entries are counted alone.", |_| {
        let words = [64, arena_address() + LIST as u64];
        equal("answer", memory_op(MACHINE_MAP, &words), 0)?;
        let count = word_at(0) & 0xffff_ffff;
        for room in [0, 1, 64] {
            equal_at("answer for", room, memory_op(MACHINE_MAP, &[room, 0]), 0)?;
            equal("count", word_at(0) & 0xffff_ffff, count)?;
        }
        Ok(())
    }),
    case(
        "memory_query/machine_map_room",
        "It takes room for one line more than there are.",
        |_| {
            equal("answer", memory_op(MACHINE_MAP, &[0, 0]), 0)?;
            let (count, list) = (word_at(0) & 0xffff_ffff, arena_address() + LIST as u64);
            equal("too little", memory_op(MACHINE_MAP, &[count, list]), EINVAL)?;
            equal("enough", memory_op(MACHINE_MAP, &[count + 1, list]), 0)
        },
    ),
    case(
        "memory_query/machine_map_kept",
        "What the hypervisor keeps of the devices is reserved in the machine's map.",
        |_| {
            let words = [64, arena_address() + LIST as u64];
            equal("answer", memory_op(MACHINE_MAP, &words), 0)?;
            for (from, to) in [(0xfec0_0000, 0xfec0_1000), (0xfee0_0000, 0xfef0_0000)] {
                let found = (0..word_at(0) & 0xffff_ffff).any(|entry| {
                    let at = LIST + usize::try_from(entry).unwrap_or(0) * 20;
                    let end = word_at(at).wrapping_add(word_at(at + 8));
                    word_at(at) <= from && end >= to && word_at(at + 16) & 0xffff_ffff == 2
                });
                equal_at("reserved", from, found, true)?;
            }
            Ok(())
        },
    ),
    case("memory_query/physmap_end", "The argument is read as a whole first: EFAULT.", |t| {
        for (command, size) in [(7, 24), (15, 16), (26, 40)] {
            for at in [4, size - 1] {
                let answer = hypercall(MEMORY_OP, &[command, mapped_end(t.boot) - at]);
                equal_at("answer for", command, answer, EFAULT)?;
            }
        }
        Ok(())
    }),
    case(
        "memory_query/topology_padding",
        "A padding that is not 0: EINVAL, whoever it is.",
        |_| {
            for domain in [SELF, 0, 0x1234] {
                equal_at(
                    "answer for",
                    domain,
                    memory_op(26, &[domain | 1 << 16, 0, 0, 0, 0]),
                    EINVAL,
                )?;
            }
            equal("nobody", memory_op(26, &[0x1234, 0, 0, 0, 0]), ESRCH)
        },
    ),
    case("memory_query/add_to_physmap", "Sub-operation 7 is not for PV guests: EACCES.", |_| {
        equal("answer", memory_op(7, &[SELF, 0, 0, 0]), EACCES)
    }),
    case(
        "memory_query/remove_from_physmap",
        "Sub-operation 15 is not for PV guests: EACCES.",
        |_| equal("answer", memory_op(15, &[SELF, 0]), EACCES),
    ),
    case("memory_query/pod_target", "Sub-operations 16 and 17 refuse a PV guest.", |_| {
        equal("set", memory_op(16, &[0, 0, 0, 0, SELF]), EINVAL)?;
        equal("get", memory_op(17, &[0, 0, 0, 0, SELF]), EINVAL)
    }),
    case(
        "memory_query/sharing",
        "Sub-operations 18 and 19 count shared pages: there are none.",
        |_| {
            equal("freed", hypercall(MEMORY_OP, &[18, 0]), 0)?;
            equal("shared", hypercall(MEMORY_OP, &[19, 0]), 0)
        },
    ),
    case("memory_query/topology_unmapped", "Sub-operation 26 with no argument: EFAULT.", |_| {
        equal("answer", hypercall(MEMORY_OP, &[26, 0x1000]), EFAULT)
    }),
    case("memory_query/topology", "The guest has no topology of its own: EOPNOTSUPP.", |_| {
        equal("answer", memory_op(26, &[SELF, 0, 0, 0, 0]), -95)
    }),
    case("memory_query/resource_unmapped", "Sub-operation 28 with no argument: EFAULT.", |_| {
        equal("answer", hypercall(MEMORY_OP, &[28, 0x1000]), EFAULT)
    }),
];

const EACCES: i64 = -13;
const FILLED: u64 = 0xa5a5_a5a5_a5a5_a5a5;

/// Asks for the frames of the table of machine frames, with room for some.
fn list(room: u64) -> i64 {
    fill_arena(0xa5);
    memory_op(M2P_LIST, &[room, arena_address() + LIST as u64, 0])
}
