//! `domctl` and `sysctl` as the initial domain sees them.

use crate::call::{EFAULT, EINVAL, ENOSYS, EPERM, hypercall};
use crate::case::{Case, Outcome, Verdict, case, equal, equal_at, holds};
use crate::raw::memory::{arena_address, peek, poke};
use crate::tables::M2P;

const SYSCTL: u64 = 35;
pub(super) const DOMCTL: u64 = 36;
const VERSION: u64 = 0x15;
pub(super) const CREATE: u64 = 1;
pub(super) const DESTROY: u64 = 2;
pub(super) const INFO: u64 = 5;
/// A number that no domain has.
pub(super) const FREE: u64 = 77;
pub(super) const ESRCH: i64 = -3;
const E2BIG: i64 = -7;
const EACCES: i64 = -13;
const EEXIST: i64 = -17;
const ENODATA: i64 = -61;
const EOVERFLOW: i64 = -75;
pub(super) const EOPNOTSUPP: i64 = -95;

/// A flag of a domain that is paused.
const PAUSED: u64 = 1 << 3;

pub(super) fn array() -> u64 {
    arena_address() + 0x1000
}

fn envelope(words: [u64; 2], payload: &[u64]) {
    for (at, word) in
        (arena_address()..).step_by(8).zip(words.iter().chain(payload).chain(&[0; 16]))
    {
        poke(at, *word);
    }
}

pub(super) fn domctl(cmd: u64, domain: u64, payload: &[u64]) -> i64 {
    envelope([cmd | VERSION << 32, domain], payload);
    hypercall(DOMCTL, &[arena_address()])
}

pub(super) fn sysctl(cmd: u64, payload: [u64; 3]) -> i64 {
    sysctl_of(cmd, payload)
}

/// A `sysctl` with a payload of any length.
pub(super) fn sysctl_of<const WORDS: usize>(cmd: u64, payload: [u64; WORDS]) -> i64 {
    envelope(
        [cmd | VERSION << 32, *payload.first().unwrap_or(&0)],
        payload.get(1..).unwrap_or(&[]),
    );
    hypercall(SYSCTL, &[arena_address()])
}

/// A word of the answer to a `domctl`; of one to a `sysctl`, the one before.
pub(super) fn answer(word: u64) -> u64 {
    peek(arena_address() + 16 + 8 * word)
}

/// Creates a domain: flags, vCPUs, frames of grants, frames of handles, version of grants.
fn create([flags, vcpus, grants, handles, version]: [u64; 5]) -> i64 {
    let words = [0, 0, flags << 32, vcpus << 32, 1023 | grants << 32, handles | version << 32];
    domctl(CREATE, FREE, &words)
}

/// Runs `body` while there is another domain with one vCPU to be made.
pub(super) fn with_domain(body: impl FnOnce() -> Outcome) -> Outcome {
    equal("create", create([0, 1, 4, 4, 1]), 0)?;
    let outcome = body();
    equal("destroy", domctl(DESTROY, FREE, &[]), 0)?;
    outcome?;
    equal("destroyed", domctl(INFO, FREE, &[]), ESRCH)
}

/// The memory that is free between two widths of addresses, the lower half of `widths` and the upper. Unit: bytes.
fn heap(widths: u64) -> Result<u64, Verdict> {
    equal("availheap", sysctl(9, [widths, 0xffff_ffff, 0]), 0)?;
    Ok(answer(1))
}

/// How many CPUs the machine has.
pub(super) fn cpus() -> Result<u64, Verdict> {
    equal("physinfo", sysctl(3, [0; 3]), 0)?;
    Ok(answer(0) & 0xffff_ffff)
}

pub(super) fn answers(domain: u64, rows: &[(u64, &[u64], i64)]) -> Outcome {
    for (cmd, payload, expected) in rows {
        equal_at("answer for sub-op", *cmd, domctl(*cmd, domain, payload), *expected)?;
    }
    Ok(())
}

pub(crate) const CASES: &[Case] = &[
    case("domctl/envelope", "EFAULT comes first, then EACCES for another version.", |_| {
        for call in [DOMCTL, SYSCTL] {
            for pointer in [0, 0x1000, M2P, 1 << 47] {
                equal_at("answer for", pointer, hypercall(call, &[pointer]), EFAULT)?;
            }
            for version in [0, VERSION - 1, VERSION + 1] {
                envelope([INFO | version << 32, 99], &[]);
                equal_at("answer for", version, hypercall(call, &[arena_address()]), EACCES)?;
            }
        }
        Ok(())
    }),
    case("domctl/no_domain", "No such domain: ESRCH, before anything of the sub-op.", |_| {
        for cmd in [2, 3, 4, INFO, 11, 12, 15, 16, 21, 999] {
            equal_at("answer for", cmd, domctl(cmd, 99, &[]), ESRCH)?;
        }
        Ok(())
    }),
    case("domctl/unknown", "An unknown sub-op: ENOSYS; what others are for: EINVAL.", |_| {
        answers(0, &[(999, &[], ENOSYS), (6, &[], ENOSYS), (33, &[], EINVAL), (34, &[], EINVAL)])
    }),
    case("domctl/own", "What a domain can't do to itself: EINVAL.", |_| {
        answers(
            0,
            &[
                (2, &[], EINVAL),
                (3, &[], EINVAL),
                (4, &[], EINVAL),
                (15, &[1], EINVAL),
                (12, &[0, 0], EINVAL),
                (13, &[0, 0], EINVAL),
                (13, &[1, 0], ENODATA),
                (13, &[99, 0], EINVAL),
            ],
        )
    }),
    case("domctl/own_info", "The caller is not paused, runs, and has vCPU 0 up.", |_| {
        equal("answer", domctl(INFO, 0, &[]), 0)?;
        equal("domain, flags and no reason", answer(0), 0xffff_0020_0000_0000)?;
        equal("vCPUs up", answer(8) & 0xffff_ffff, 1)?;
        equal("emulated: the timer's ports", answer(13), 0x100)?;
        holds("cpu_time", answer(7), "more than 0", answer(7) > 0)
    }),
    case("domctl/address_size", "64; 32 is refused, all else means nothing.", |_| {
        answers(0, &[(35, &[32], EOPNOTSUPP), (35, &[1], EINVAL), (35, &[64], 0), (36, &[], 0)])?;
        equal("size", answer(0), 64)
    }),
    case("domctl/share", "A weight of 256, no cap; kept when set; other commands: EINVAL.", |_| {
        answers(
            0,
            &[
                (16, &[6 | 2 << 32], EINVAL),
                (16, &[6 | 3 << 32], EINVAL),
                (16, &[5 | 1 << 32], EINVAL),
                (16, &[6 | 9 << 32], EINVAL),
                (16, &[6 | 1 << 32], 0),
            ],
        )?;
        equal("weight and cap", answer(1), 256)?;
        with_domain(|| {
            answers(
                FREE,
                &[
                    (16, &[6, 0x10_0200], EINVAL),
                    (15, &[1], 0),
                    (16, &[6, 0x65_0200], EINVAL),
                    (16, &[6, 0x10_0200], 0),
                    (16, &[6 | 1 << 32], 0),
                ],
            )?;
            equal("weight and cap", answer(1), 0x10_0200)
        })
    }),
    case("domctl/ports", "Ports a caller has not got: EPERM; none, or too many: EINVAL.", |_| {
        let row = |port: u64, count: u64| domctl(21, 0, &[port | count << 32, 1]);
        equal("none", row(0, 0), EINVAL)?;
        equal("the last", row(0xffff, 1), 0)?;
        equal("beyond", row(0xffff, 2), EINVAL)?;
        for port in [0x20, 0x3f8, 0x40, 0x61] {
            equal_at("answer for", port, row(port, 1), EPERM)?;
        }
        Ok(())
    }),
    case(
        "domctl/device_memory",
        "Device memory and interrupts are given by those who have them.",
        |_| {
            answers(
                0,
                &[
                    (20, &[0xb8, 1, 1], 0),
                    (20, &[0xb8, 0, 1], EINVAL),
                    (20, &[0xfee00, 1, 1], EPERM),
                    (20, &[1 << 40, 1, 0], EPERM),
                    (19, &[5 | 1 << 32], EPERM),
                    (19, &[0xffff | 1 << 32], EINVAL),
                ],
            )
        },
    ),
    case("domctl/affinity", "Sets of CPUs are cut to the CPUs there are.", |_| {
        let map = array();
        let both = [3 << 32, map, 64, map + 8, 128];
        answers(0, &[(25, &[0], EINVAL), (25, &[1 << 32], EINVAL), (25, &[99 | 1 << 32], EINVAL)])?;
        for at in 0..3 {
            poke(map + 8 * at, !0);
        }
        equal("answer", domctl(25, 0, &both), 0)?;
        equal("hard", peek(map) & 1, 1)?;
        equal("soft", peek(map + 8) & 1, 1)?;
        equal("rest", peek(map + 16), 0)?;
        equal("nowhere", domctl(9, 0, &[1 << 32, 0x1000, 64]), EFAULT)?;
        for bits in [u64::from(u32::MAX), 0xffff_fff9, 0] {
            equal_at("none of", bits, domctl(9, 0, &[1 << 32, 0x1000, bits]), EINVAL)?;
            equal_at("no best of", bits, domctl(9, 0, &[2 << 32, 0, 0, 0x1000, bits]), 0)?;
            equal_at("asked of", bits, domctl(25, 0, &[1 << 32, 0x1000, bits]), 0)?;
        }
        poke(map, 1 << 63);
        equal("none is best", domctl(9, 0, &[2 << 32, 0, 0, map, 64]), 0)?;
        poke(map, !0);
        equal("all are best", domctl(9, 0, &[2 << 32, 0, 0, map, 64]), 0)?;
        poke(map, 1 << 63);
        equal("no CPU", domctl(9, 0, &[1 << 32, map, 64]), EINVAL)?;
        poke(map, !0);
        equal("all", domctl(9, 0, &[1 << 32, map, 64]), 0)
    }),
    case(
        "domctl/frames",
        "1024 frames at most; what is no frame of the domain's is named so.",
        |_| {
            answers(
                0,
                &[
                    (61, &[1025, 0], E2BIG),
                    (61, &[1 << 32, 0], E2BIG),
                    (61, &[0, 0], 0),
                    (61, &[1, 0], EFAULT),
                ],
            )?;
            poke(array(), 1 << 33);
            equal("answer", domctl(61, 0, &[1, array()]), 0)?;
            equal("kind", peek(array()), 0xf000_0000)
        },
    ),
    case(
        "domctl/create_refused",
        "Other kinds of domain, and tables that can't be: EINVAL.",
        |_| {
            for row in [
                [0x100, 1, 4, 4, 1],
                [1, 1, 4, 4, 1],
                [2, 1, 4, 4, 1],
                [4, 1, 4, 4, 1],
                [32, 1, 4, 4, 1],
                [64, 1, 4, 4, 1],
                [128, 1, 4, 4, 1],
                [0, 0, 4, 4, 1],
                [0, 9000, 4, 4, 1],
                [0, 1, 0, 4, 1],
                [0, 1, 65, 4, 1],
                [0, 1, 4, 1025, 1],
                [0, 1, 4, 4, 0],
                [0, 1, 4, 4, 3],
                [0, 1, 4, 4, 16],
            ] {
                equal_at("answer for flags", row[0], create(row), EINVAL)?;
            }
            Ok(())
        },
    ),
    case("domctl/create", "A new domain is paused and has nothing; its number is taken.", |_| {
        with_domain(|| {
            equal("again", create([0, 1, 4, 4, 1]), EEXIST)?;
            equal("answer", domctl(INFO, FREE, &[]), 0)?;
            equal("domain and flags", answer(0), (0xffff_0000 | PAUSED) << 32 | FREE)?;
            equal("pages", answer(1), 0)?;
            equal("most pages", answer(2), 0)?;
            equal("cpu_time", answer(7), 0)?;
            equal("vCPUs", answer(8), 0xffff_ffff_0000_0000)
        })
    }),
    case(
        "domctl/vcpus",
        "vCPUs are made once, and have no state until they are given one.",
        |_| {
            with_domain(|| {
                answers(
                    FREE,
                    &[
                        (14, &[0], ESRCH),
                        (13, &[0, 0], EINVAL),
                        (12, &[0, 0], EINVAL),
                        (25, &[1 << 32], ESRCH),
                        (15, &[2], EINVAL),
                        (15, &[1], 0),
                        (15, &[1], 0),
                        (12, &[0, 0], 0),
                        (12, &[0, 0x1000], EFAULT),
                        (13, &[0, 0], ENODATA),
                        (14, &[0], 0),
                    ],
                )?;
                equal("nothing", answer(0), 0)
            })
        },
    ),
    case("domctl/settings", "What is set is told.", |_| {
        with_domain(|| {
            answers(
                FREE,
                &[
                    (11, &[4096], 0),
                    (17, &[0x1122_3344_5566_7788, 0], 0),
                    (24, &[5], 0),
                    (24, &[1 << 63], 0),
                    (22, &[0xb8], EINVAL),
                    (21, &[0x80 | 1 << 32, 1], 0),
                    (INFO, &[], 0),
                ],
            )?;
            equal("most pages", answer(2), 1024)?;
            equal("handle", answer(9) >> 32, 0x5566_7788)?;
            equal("answer", domctl(11, FREE, &[!0]), 0)?;
            equal("answer", domctl(INFO, FREE, &[]), 0)?;
            equal("most pages", answer(2), 0xffff_ffff)
        })
    }),
    case("domctl/pauses", "Pauses count up to 255.", |_| {
        with_domain(|| {
            answers(FREE, &[(4, &[], 0), (4, &[], EINVAL)])?;
            for _ in 0..255 {
                equal("pause", domctl(3, FREE, &[]), 0)?;
            }
            equal("one too many", domctl(3, FREE, &[]), EOVERFLOW)
        })
    }),
    case("sysctl/unknown", "An unknown sub-op: ENOSYS.", |_| {
        for cmd in [5, 13, 99] {
            equal_at("answer for", cmd, sysctl(cmd, [2, 0, 0]), ENOSYS)?;
        }
        Ok(())
    }),
    case(
        "sysctl/machine",
        "At least a CPU, one node, free memory, the second credit scheduler.",
        |_| {
            equal("answer", sysctl(3, [0; 3]), 0)?;
            let cpus = answer(0);
            holds("CPUs up", cpus & 0xffff_ffff, "at least one", cpus & 0xffff_ffff > 0)?;
            equal("highest CPU", cpus >> 32, (cpus & 0xffff_ffff) - 1)?;
            equal("nodes", answer(1), 0x3f_0000_0001)?;
            let (total, free) = (answer(4), answer(5));
            holds("free pages", free, "some and not all", free > 0 && free < total)?;
            equal("answer", sysctl(4, [0; 3]), 0)?;
            equal("scheduler", peek(arena_address() + 8), 6)?;
            // A domain that another case ended may give back its last memory between two calls.
            let most = u64::from(u32::MAX);
            for (words, counts) in
                [(0, true), (most, true), (1 << 63, true), (most << 32, false), (1 << 31, false)]
            {
                let (before, seen, after) = (heap(0)?, heap(words)?, heap(0)?);
                let (least, most) = if counts { (before, after) } else { (0, 0) };
                let what = "what is free, if the widths count";
                holds("free in widths", seen, what, (least..=most).contains(&seen))?;
            }
            let (above, all) = (heap(24)?, heap(0)?);
            holds("above 16 MiB", above, "some and not more than all", above > 0 && above <= all)
        },
    ),
    case("sysctl/domains", "Domains from a number on, as many as there is room for.", |_| {
        equal("no room", sysctl(6, [0, array(), 0]), 0)?;
        equal("count", answer(1), 0)?;
        equal("room", sysctl(6, [10 << 32, array(), 0]), 0)?;
        equal("count", answer(1), 1)?;
        equal("domain and flags", peek(array()), 0xffff_0020_0000_0000)?;
        equal("from 1", sysctl(6, [1 | 10 << 32, array(), 0]), 0)?;
        equal("count", answer(1), 0)?;
        equal("nowhere", sysctl(6, [10 << 32, 0x1000, 0]), EFAULT)
    }),
    case("sysctl/topology", "CPUs and nodes, as many as there is room for.", |_| {
        let cpus = cpus()?;
        for (cmd, row, count) in [
            (16, [255, array(), 0], cpus),
            (16, [1, array(), 0], 1),
            (16, [0; 3], cpus),
            (17, [0; 3], 1),
            (17, [4, array(), array() + 64], 1),
        ] {
            equal_at("answer for", cmd, sysctl(cmd, row), 0)?;
            equal_at("count of", cmd, peek(arena_address() + 8), count)?;
        }
        equal("distance", peek(array() + 64) & 0xffff_ffff, 10)?;
        for cmd in [16, 17] {
            equal_at("no room", cmd, sysctl(cmd, [0, array(), 0]), 0)?;
            equal_at("count of", cmd, peek(arena_address() + 8), 0)?;
            equal_at("nowhere", cmd, sysctl(cmd, [4, 0x1000, 0]), EFAULT)?;
        }
        equal("idle time", sysctl(8, [4, array(), 0]), 0)?;
        equal("idle time, nowhere", sysctl(8, [4, 0x1000, 0]), EFAULT)
    }),
    case("sysctl/log", "The log is read from its beginning, or from a place on.", |_| {
        equal("answer", sysctl(1, [0, array(), 16]), 0)?;
        equal("where it ended", peek(arena_address() + 8) >> 32 != 0, true)?;
        let second = peek(array() + 8);
        equal("bytes", answer(1), 16)?;
        let index = peek(arena_address() + 8) >> 32;
        equal("answer", sysctl(1, [1 << 8 | (index - 8) << 32, array(), 8]), 0)?;
        equal("the same bytes", peek(array()), second)?;
        equal("nowhere", sysctl(1, [0, 0x1000, 16]), EFAULT)?;
        equal("no bytes", sysctl(1, [0, 0x1000, 0]), 0)
    }),
];
