//! More of `domctl`, and what the control domain may map of others and of the hypervisor.

use super::control::{EOPNOTSUPP, FREE, INFO, answer, answers, array, domctl, with_domain};
use crate::call::{EBUSY, EFAULT, EINVAL, EPERM};
use crate::case::{Case, Outcome, case, equal, equal_at};
use crate::raw::memory::{arena_address, peek, poke};
use crate::raw::pages_calls::{ESRCH, NOBODY, XEN, memory_op, mmu_update_of};
use crate::raw::pages_scratch::{LOADED, with};

/// A page that is mapped read-only.
const READ_ONLY: u64 = LOADED & !2;
const ACQUIRE: u64 = 28;
const MACHPHYS: u64 = 5;
const GRANTS: u64 = 1;

/// `acquire_resource` of a domain: kind and part, frames, the first, and the list.
fn acquire(domain: u64, [kind, id, count, first, list]: [u64; 5]) -> i64 {
    memory_op(ACQUIRE, &[domain | kind << 16 | id << 32, count, first, list])
}

/// Frames, as the last `acquire` says.
fn count() -> u64 {
    peek(arena_address() + 8) & 0xffff_ffff
}

fn own(rows: &[[u64; 5]], expected: i64) -> Outcome {
    for row in rows {
        equal_at("answer for kind", row[0], acquire(FREE, *row), expected)?;
    }
    Ok(())
}

pub(crate) const CASES: &[Case] = &[
    case("domctl/next", "getdomaininfo tells of the next domain, if there is none.", |_| {
        with_domain(|| {
            equal("answer", domctl(INFO, 5, &[]), 0)?;
            equal("domain", answer(0) & 0xffff, FREE)?;
            equal("in the envelope", peek(arena_address() + 8) & 0xffff, FREE)?;
            equal("behind the last", domctl(INFO, FREE + 1, &[]), ESRCH)?;
            for reserved in [0x7ff0, 0x7ff2, 0x7ff4, 0xffff] {
                equal_at("answer for", reserved, domctl(INFO, reserved, &[]), EINVAL)?;
            }
            Ok(())
        })
    }),
    case(
        "domctl/resume",
        "What has not shut down goes on; the caller itself can't: EINVAL.",
        |_| {
            answers(0, &[(27, &[], EINVAL)])?;
            with_domain(|| answers(FREE, &[(27, &[], 0), (15, &[1], 0), (27, &[], 0)]))
        },
    ),
    case("domctl/tsc", "How a domain sees the counter is kept.", |_| {
        answers(0, &[(59, &[], EINVAL), (60, &[0, 0, 0], EINVAL)])?;
        with_domain(|| {
            answers(FREE, &[(60, &[9, 0, 0], EINVAL), (59, &[], 0)])?;
            equal("mode", answer(0) & 0xffff_ffff, 0)?;
            equal("incarnation", answer(1) & 0xffff_ffff, 1)?;
            answers(FREE, &[(60, &[2, 6, 0], 0), (59, &[], 0)])?;
            equal("mode, no rate", answer(0), 2)?;
            equal("incarnation", answer(1) & 0xffff_ffff, 7)?;
            equal("time", answer(2), 0)?;
            answers(FREE, &[(60, &[0, 0, 0], 0), (59, &[], 0)])?;
            equal("mode", answer(0) & 0xffff_ffff, 0)
        })
    }),
    case("domctl/resource", "The frames of another domain's grant table.", |_| {
        let list = array();
        equal("own", acquire(0, [GRANTS, 0, 1, 0, list]), EPERM)?;
        equal("of itself by name", acquire(0x7ff0, [GRANTS, 0, 1, 0, list]), ESRCH)?;
        equal("of nobody", acquire(NOBODY, [GRANTS, 0, 1, 0, list]), ESRCH)?;
        with_domain(|| {
            own(&[[GRANTS, 0, 0, 0, 0]], 0)?;
            equal("most", count(), 4)?;
            own(&[[GRANTS, 0, 1, 0, 0], [GRANTS, 0, 0, 0, list], [GRANTS, 2, 1, 0, list]], EINVAL)?;
            own(&[[2, 0, 1, 0, list], [0, 0, 1, 0, list]], EINVAL)?;
            own(&[[9, 0, 1, 0, list]], EOPNOTSUPP)?;
            own(&[[GRANTS, 0, 1 | 1 << 32, 0, list], [GRANTS, 0, 1, 1 << 32, list]], EINVAL)?;
            own(&[[GRANTS, 0, 5, 0, list], [GRANTS, 0, 1, 4, list]], EINVAL)?;
            own(&[[GRANTS, 0, 1, 0, 0x1000]], EFAULT)?;
            poke(list, 0);
            poke(list + 8, 0);
            own(&[[GRANTS, 0, 2, 1, list]], 0)?;
            let (second, third) = (peek(list), peek(list + 8));
            equal("frames", second != 0 && third != 0 && second != third, true)?;
            own(&[[GRANTS, 0, 1, 2, list]], 0)?;
            equal("the same", peek(list), third)
        })
    }),
    case("domctl/map_resource", "Such a frame is mapped in the domain's name.", |t| {
        with_domain(|| {
            own(&[[GRANTS, 0, 1, 0, array()]], 0)?;
            let frame = peek(array());
            with(t, |[a, ..]| {
                a.pin(1)?;
                let map = |value| mmu_update_of(FREE, &[(a.place(1), value)]).0;
                equal("map", map(frame << 12 | LOADED), 0)?;
                equal("unmap", map(0), 0)
            })
        })
    }),
    case(
        "domctl/map_hypervisor",
        "The frames of the table of frames are mapped, read-only.",
        |t| {
            equal("list", memory_op(MACHPHYS, &[1, array()]), 0)?;
            let frame = peek(array());
            with(t, |[a, ..]| {
                a.pin(1)?;
                for (next, flags, expected) in
                    [(0, READ_ONLY, 0), (511, READ_ONLY, 0), (0, LOADED, EBUSY)]
                {
                    let entry = (frame + next) << 12 | flags;
                    equal_at(
                        "answer for",
                        flags,
                        mmu_update_of(XEN, &[(a.place(1), entry)]).0,
                        expected,
                    )?;
                }
                equal("gone", mmu_update_of(0x7ff0, &[(a.place(1), 0)]).0, 0)
            })
        },
    ),
];
