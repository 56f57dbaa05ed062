//! What a domain that controls nothing is refused.

use super::control::{CREATE, DESTROY, EOPNOTSUPP, INFO, domctl, sysctl};
use super::event_calls::{ESRCH, NOBODY};
use crate::call::{CONSOLE_IO, EINVAL, EPERM, SCHED_OP, XEN_VERSION, hypercall};
use crate::case::{Case, case, equal, equal_at};
use crate::raw::memory::{arena_address, fill_arena, get};
use crate::raw::pages_calls::{CLEAR_PAGE, memory_op, mmuext_of};

const POPULATE: u64 = 6;
const MEMORY_MAP_OF: u64 = 13;
const PAUSE: u64 = 3;
const UNPAUSE: u64 = 4;
const WRITE: u64 = 0;
const READ: u64 = 1;
const PIN_OVERRIDE: u64 = 7;

pub(crate) const CASES: &[Case] = &[
    case("pair_rights/domctl", "A domain that controls nothing can't control: -EPERM.", |t| {
        let p = t.peer()?;
        for cmd in [DESTROY, PAUSE, UNPAUSE, INFO, 11, 12] {
            equal_at("other", cmd, domctl(cmd, p.domain.into(), &[0; 8]), EPERM)?;
            equal_at("itself", cmd, domctl(cmd, p.own.into(), &[0; 8]), EPERM)?;
            equal_at("the initial one", cmd, domctl(cmd, 0, &[0; 8]), EPERM)?;
        }
        equal("create", domctl(CREATE, 77, &[0; 8]), EPERM)
    }),
    case("pair_rights/domctl_nobody", "That there is no such domain is said first: -ESRCH.", |t| {
        t.peer()?;
        for cmd in [DESTROY, PAUSE, INFO] {
            equal_at("answer for", cmd, domctl(cmd, NOBODY.into(), &[]), ESRCH)?;
        }
        Ok(())
    }),
    case(
        "pair_rights/info_reserved",
        "Of a reserved number there is no information: -EINVAL.",
        |t| {
            t.peer()?;
            equal("answer", domctl(INFO, 0x7ff0, &[]), EINVAL)
        },
    ),
    case("pair_rights/domctl_wrong", "Of some calls it is said first what is wrong.", |t| {
        let p = t.peer()?;
        let rows: [(u64, &[u64], i64); 12] = [
            (19, &[99_999], EINVAL),
            (20, &[5, 0, 0], EINVAL),
            (21, &[0], EINVAL),
            (21, &[0xffff | 2 << 32], EINVAL),
            (38, &[0], EINVAL),
            (39, &[0, 5, 0], EINVAL),
            (39, &[0, 1 << 50, 1], EINVAL),
            (40, &[0], EOPNOTSUPP),
            (46, &[u64::from(NOBODY)], ESRCH),
            (46, &[0], EOPNOTSUPP),
            (48, &[0], EINVAL),
            (50, &[0], EOPNOTSUPP),
        ];
        for (cmd, payload, expected) in rows {
            equal_at("answer for", cmd, domctl(cmd, p.domain.into(), payload), expected)?;
        }
        equal("itself", domctl(46, p.own.into(), &[p.own.into()]), EINVAL)
    }),
    case("pair_rights/domctl_right", "If nothing is, it may not give rights: -EPERM.", |t| {
        let p = t.peer()?;
        let rows: [(u64, &[u64]); 6] = [
            (19, &[5 | 1 << 32]),
            (20, &[0, 0, 0]),
            (20, &[0xfee00, 1, 1]),
            (21, &[0x80 | 1 << 32, 1]),
            (21, &[0x80 | 1 << 32]),
            (39, &[0, 0xfee00, 1, 1]),
        ];
        for (cmd, payload) in rows {
            equal_at("answer for", cmd, domctl(cmd, p.domain.into(), payload), EPERM)?;
        }
        Ok(())
    }),
    case("pair_rights/sysctl", "Nor ask the machine's state: -EPERM.", |t| {
        t.peer()?;
        for cmd in [3, 6, 16] {
            equal_at("answer for", cmd, sysctl(cmd, [0; 3]), EPERM)?;
        }
        Ok(())
    }),
    case("pair_rights/memory", "Nor change another's memory or the map of it.", |t| {
        let p = t.peer()?;
        let list = arena_address() + 64;
        let populate = [list, 1, 0, p.domain.into(), 0, 0, 0, 0, 0];
        equal("populated", memory_op(POPULATE, &populate), 0)?;
        let map = [u64::from(p.domain), 0, list];
        equal("map", memory_op(MEMORY_MAP_OF, &map), EPERM)?;
        let page = p.spare(3);
        let clear = mmuext_of(p.domain.into(), &[(CLEAR_PAGE, page.mfn, 0)]);
        equal("clear", clear.0, EPERM)
    }),
    case("pair_rights/console_read", "Nor read what is typed: -EPERM.", |t| {
        t.peer()?;
        equal("answer", hypercall(CONSOLE_IO, &[READ, 8, arena_address()]), EPERM)
    }),
    case("pair_rights/console_write", "Nor write to the machine's console: -EPERM.", |t| {
        t.peer()?;
        equal("answer", hypercall(CONSOLE_IO, &[WRITE, 0, arena_address()]), EPERM)
    }),
    case("pair_rights/console_unknown", "Unknown commands of the console answer -EPERM.", |t| {
        t.peer()?;
        equal("answer", hypercall(CONSOLE_IO, &[2, 0, 0x1000]), EPERM)
    }),
    case(
        "pair_rights/pin_override",
        "Nor keep a vCPU on a CPU, before the pointer is read.",
        |t| {
            t.peer()?;
            equal("answer", hypercall(SCHED_OP, &[PIN_OVERRIDE, 0x1000]), EPERM)
        },
    ),
    case("pair_rights/command_line", "The hypervisor's command line reads as <denied>.", |t| {
        t.peer()?;
        fill_arena(0xaa);
        equal("answer", hypercall(XEN_VERSION, &[9, arena_address()]), 0)?;
        equal("text and zero", get::<9>(0) == *b"<denied>\0", true)?;
        equal("byte behind", get::<1>(9)[0], 0xaa)
    }),
    case("pair_rights/build_id", "The build's id, and its length, are refused: -EPERM.", |t| {
        t.peer()?;
        for pointer in [0, 0x1000, arena_address()] {
            equal_at("answer", pointer, hypercall(XEN_VERSION, &[10, pointer]), EPERM)?;
        }
        Ok(())
    }),
];
