//! What Xen's own toolstack asks for when it makes a domain, beside what every toolstack must: pools
//! of CPUs, nodes, claims of memory, and what CPUID shows.

use super::control::{ESRCH, FREE, answer, array, domctl, sysctl, sysctl_of, with_domain};
use super::event_calls::NOBODY;
use crate::call::{EFAULT, EINVAL, ENODEV, EPERM};
use crate::case::{Case, Outcome, case, equal, equal_at, holds};
use crate::raw::memory::{arena_address, peek, poke};
use crate::raw::pages_calls::memory_op;

const E2BIG: i64 = -7;
const EEXIST: i64 = -17;
const ENOENT: i64 = -2;
const ENOMEM: i64 = -12;
const ENOBUFS: i64 = -105;
const ERANGE: i64 = -34;
const EOVERFLOW: i64 = -75;

const UNPAUSE: u64 = 4;
const MAX_MEM: u64 = 11;
const SET_NODES: u64 = 68;
const GET_NODES: u64 = 69;
const GET_POLICY: u64 = 82;
const SET_POLICY: u64 = 83;
const POPULATE: u64 = 6;
const CLAIM: u64 = 24;
const LOW: u64 = 0xffff_ffff;
/// Of a leaf that has no sub-leaves.
const NO_SUBLEAF: u64 = LOW << 32;

/// A word of the answer to a `sysctl`.
fn told(word: u64) -> u64 {
    peek(arena_address() + 8 + 8 * word)
}

/// A command for pools, with a set of 64 CPUs in the array: pool, domain, CPU.
fn pool(op: u64, [id, domain, cpu]: [u64; 3]) -> i64 {
    poke(array(), u64::MAX);
    sysctl_of(18, [op | id << 32, domain << 32, cpu, array(), 64])
}

fn scheduler(cmd: u64, limit: u64) -> i64 {
    sysctl_of(19, [6 << 32, cmd, limit])
}

fn nodes(cmd: u64, set: u64, expected: i64) -> Outcome {
    poke(array(), set);
    equal_at("answer for set", set, domctl(cmd, FREE, &[array(), 64]), expected)
}

fn nodes_are(expected: u64) -> Outcome {
    nodes(GET_NODES, 0, 0)?;
    equal("nodes", peek(array()), expected)
}

pub(crate) const POOLS: &[Case] = &[
    case("toolstack/pool", "The first pool has all CPUs and domains, and credit2.", |_| {
        with_domain(|| {
            equal("answer", pool(3, [0; 3]), 0)?;
            equal("pool", told(0) >> 32, 0)?;
            equal("scheduler", told(1) & LOW, 6)?;
            // Those that other cases have ended may count for a while.
            holds("domains", told(2) >> 32, "both, or more", told(2) >> 32 >= 2)?;
            holds("CPUs", peek(array()), "the first", peek(array()) & 1 != 0)?;
            equal("others", pool(3, [1, 0, 0]), ENOENT)
        })
    }),
    case("toolstack/pool_free", "No CPU is in no pool.", |_| {
        equal("answer", pool(7, [0; 3]), 0)?;
        equal("CPUs", peek(array()), 0)?;
        equal("any", pool(4, [0, 0, LOW]), ENODEV)?;
        equal("the first", pool(4, [0, 0, 0]), ENODEV)?;
        equal("none", pool(4, [0, 0, 9999]), EINVAL)?;
        equal("no pool", pool(4, [5, 0, 0]), ENOENT)
    }),
    case("toolstack/pool_leave", "The first CPU stays in its pool: EINVAL.", |_| {
        equal("the first", pool(5, [0, 0, 0]), EINVAL)?;
        equal("none", pool(5, [0, 0, 9999]), EINVAL)?;
        equal("no pool", pool(5, [5, 0, 0]), ENOENT)
    }),
    case("toolstack/pool_move", "A domain stays in its pool, and is in no other.", |_| {
        with_domain(|| {
            equal("its own", pool(6, [0, FREE, 0]), 0)?;
            equal("no pool", pool(6, [5, FREE, 0]), ENOENT)?;
            equal("itself", pool(6, [5, 0, 0]), EPERM)?;
            equal("no domain", pool(6, [0, NOBODY.into(), 0]), ESRCH)
        })
    }),
    case("toolstack/scheduler", "The rate limit is told, and set to what it can be.", |_| {
        equal("get", scheduler(1, 0), 0)?;
        let limit = told(2) & LOW;
        holds("limit", limit, "a tenth of a millisecond or more", limit >= 100)?;
        equal("the same", scheduler(0, limit), 0)?;
        equal("too short", scheduler(0, 99), EINVAL)?;
        equal("too long", scheduler(0, 500_001), EINVAL)?;
        equal("unknown", scheduler(2, 0), EINVAL)?;
        equal("still", scheduler(1, 0), 0)?;
        equal("limit", told(2) & LOW, limit)
    }),
    case("toolstack/nodes", "A domain's nodes are those that were set.", |_| {
        with_domain(|| {
            nodes_are(u64::MAX)?;
            equal("vCPU", domctl(15, FREE, &[1]), 0)?;
            nodes_are(1)?;
            nodes(SET_NODES, 3, 0)?;
            nodes_are(3)?;
            nodes(SET_NODES, 2, EINVAL)?;
            nodes_are(3)
        })
    }),
    case("toolstack/nodes_all", "To set all nodes is to set none.", |_| {
        with_domain(|| {
            equal("vCPU", domctl(15, FREE, &[1]), 0)?;
            nodes(SET_NODES, 5, 0)?;
            nodes(SET_NODES, u64::MAX, 0)?;
            nodes_are(1)?;
            equal("fault", domctl(SET_NODES, FREE, &[8, 64]), EFAULT)
        })
    }),
    case("toolstack/device_nodes", "A device that was not reported has no node.", |_| {
        poke(array(), 0xffff_ff99);
        equal("answer", sysctl(22, [1, array(), array() + 8]), 0)?;
        equal("node", peek(array() + 8) & LOW, LOW - 1)
    }),
];

fn claim(pages: u64) -> i64 {
    memory_op(CLAIM, &[0, pages, 0, FREE])
}

/// How many frames are claimed in the whole machine, and how many are free.
fn claimed() -> [u64; 2] {
    sysctl(3, [0; 3]);
    [told(8), told(6)]
}

/// Runs `body` with a domain that may have 100 pages.
fn with_room(body: fn() -> Outcome) -> Outcome {
    with_domain(|| {
        equal("room", domctl(MAX_MEM, FREE, &[400]), 0)?;
        body()
    })
}

pub(crate) const CLAIMS: &[Case] = &[
    case("toolstack/claim", "What a domain claims is kept, until it has it.", |_| {
        with_room(|| {
            equal("before", claimed()[0], 0)?;
            equal("claim", claim(60), 0)?;
            equal("kept", claimed()[0], 60)?;
            poke(array(), 0);
            let taken = memory_op(POPULATE, &[array(), 1, 4, FREE]);
            equal("taken", taken, 1)?;
            equal("left", claimed()[0], 44)?;
            equal("end", claim(0), 0)?;
            equal("after", claimed()[0], 0)
        })
    }),
    case("toolstack/claim_refused", "Claims beyond the limit, twice, or of too little.", |_| {
        with_room(|| {
            equal("beyond", claim(101), EINVAL)?;
            equal("claim", claim(100), 0)?;
            equal("again", claim(100), EINVAL)?;
            equal("end", claim(0), 0)?;
            poke(array(), 0);
            equal("taken", memory_op(POPULATE, &[array(), 1, 4, FREE]), 1)?;
            equal("of as many", claim(16), EINVAL)?;
            equal("of one more", claim(17), 0)?;
            equal("kept", claimed()[0], 1)
        })
    }),
    case("toolstack/claim_much", "More than there is can't be claimed: ENOMEM.", |_| {
        with_domain(|| {
            // Of domains that other cases have ended some may come back meanwhile.
            let (slack, [_, free]) = (0x1_0000, claimed());
            equal("room", domctl(MAX_MEM, FREE, &[(free + slack) * 4]), 0)?;
            equal("too much", claim(free + slack), ENOMEM)?;
            equal("nothing", claimed()[0], 0)?;
            equal("almost all", claim(free - 5), 0)?;
            let other = memory_op(POPULATE, &[array(), 1, 3, 0]);
            let [kept, free] = claimed();
            equal("end", claim(0), 0)?;
            holds("other's", other.cast_unsigned(), "none", other == 0 || free - kept >= 8)
        })
    }),
    case("toolstack/claim_ends", "A claim ends with its domain.", |_| {
        with_room(|| equal("claim", claim(50), 0))?;
        equal("after", claimed()[0], 0)
    }),
    case("toolstack/claim_nobody", "No domain has no claim: EINVAL.", |_| {
        equal("nobody", claim(1), EINVAL)?;
        equal("list", memory_op(CLAIM, &[8, 1, 0, 0]), EINVAL)
    }),
];

/// Gets the policy of the domain with all leaves from the array's start on; returns how many.
fn policy() -> Result<u64, crate::case::Verdict> {
    equal("get", domctl(GET_POLICY, FREE, &[120 | 2 << 32, array(), array() + 0x1000]), 0)?;
    Ok(answer(0) & LOW)
}

/// The place of a leaf in the array.
fn leaf(count: u64, number: u64) -> Option<u64> {
    (0..count).map(|at| array() + 24 * at).find(|&at| peek(at) & LOW == number)
}

/// Sets one leaf, of registers A and B, C and D.
fn set(place: u64, registers: [u64; 2]) -> i64 {
    let at = array() + 0x1800;
    let [ab, cd] = registers;
    [(at, place), (at + 8, ab), (at + 16, cd)].into_iter().for_each(|(at, word)| poke(at, word));
    domctl(SET_POLICY, FREE, &[1, at, 0])
}

fn set_msr(words: [u64; 2]) -> i64 {
    let at = array() + 0x1800;
    [(at, words[0]), (at + 8, words[1])].into_iter().for_each(|(at, word)| poke(at, word));
    domctl(SET_POLICY, FREE, &[1 << 32, 0, at])
}

pub(crate) const POLICIES: &[Case] = &[
    case("toolstack/policy", "A policy begins with leaf 0, and has the hypervisor's.", |_| {
        with_domain(|| {
            equal("count", domctl(GET_POLICY, FREE, &[]), 0)?;
            equal("most", answer(0), 120 | 2 << 32)?;
            let count = policy()?;
            holds("leaves", count, "more than ten", count > 10)?;
            equal("first", peek(array()), NO_SUBLEAF)?;
            let found = leaf(count, 0x4000_0000).map(|at| peek(at + 8));
            equal("own", found.unwrap_or(1), 0)?;
            equal("register", peek(array() + 0x1000), 0xce)?;
            equal("other", peek(array() + 0x1010), 0x10a)
        })
    }),
    case("toolstack/policy_room", "Without room for all leaves or registers: ENOBUFS.", |_| {
        with_domain(|| {
            equal("leaves", domctl(GET_POLICY, FREE, &[3, array(), 0]), ENOBUFS)?;
            equal("registers", domctl(GET_POLICY, FREE, &[1 << 32, 0, array()]), ENOBUFS)?;
            equal("fault", domctl(GET_POLICY, FREE, &[120, 8, 0]), EFAULT)
        })
    }),
    case("toolstack/policy_same", "What a domain has can be set.", |_| {
        with_domain(|| {
            let count = policy()?;
            let payload = [count | 2 << 32, array(), array() + 0x1000];
            equal("set", domctl(SET_POLICY, FREE, &payload), 0)
        })
    }),
    case("toolstack/policy_less", "A feature that is taken away is gone, and comes back.", |_| {
        with_domain(|| {
            let count = policy()?;
            let at = leaf(count, 1).unwrap_or(0);
            let [place, ab, cd] = [peek(at), peek(at + 8), peek(at + 16)];
            // SSE4.2 and POPCNT.
            let less = cd & !(1 << 20 | 1 << 23);
            equal("set", set(place, [ab, less]), 0)?;
            policy()?;
            equal("features", peek(at + 16), less)?;
            equal("set", set(place, [ab, cd | 1 << 23]), 0)?;
            policy()?;
            equal("features", peek(at + 16), cd & !(1 << 20) | 1 << 23 & cd | cd & 1 << 20)
        })
    }),
    case("toolstack/policy_more", "A feature that is not there is passed over.", |_| {
        with_domain(|| {
            let count = policy()?;
            let at = leaf(count, 1).unwrap_or(0);
            let [place, ab, cd] = [peek(at), peek(at + 8), peek(at + 16)];
            // VMX, which is for no PV guest.
            equal("set", set(place, [ab, cd | 1 << 5]), 0)?;
            policy()?;
            equal("features", peek(at + 16), cd)
        })
    }),
    case("toolstack/policy_leaves", "Leaves beyond the highest are refused, and named.", |_| {
        with_domain(|| {
            let count = policy()?;
            let words = [peek(array() + 8), peek(array() + 16)];
            let highest = words[0] & LOW;
            equal("more", set(NO_SUBLEAF, [words[0] & !LOW | 0xff, words[1]]), EINVAL)?;
            equal("leaf", answer(3), NO_SUBLEAF)?;
            equal("register", answer(4) & LOW, LOW)?;
            equal("less", set(NO_SUBLEAF, [words[0] & !LOW | 5, words[1]]), 0)?;
            let fewer = policy()?;
            equal("highest", peek(array() + 8) & LOW, 5)?;
            holds("leaves", fewer, "less", highest <= 5 || fewer < count)
        })
    }),
    case("toolstack/policy_unknown", "A leaf that is in no policy: ERANGE, and named.", |_| {
        with_domain(|| {
            for place in [0x14 | NO_SUBLEAF, 0x8000_0022 | NO_SUBLEAF, 7 | 3 << 32, 1] {
                equal_at("answer for leaf", place, set(place, [0; 2]), ERANGE)?;
                equal_at("named", place, answer(3), place)?;
            }
            equal("many", domctl(SET_POLICY, FREE, &[121, array(), 0]), E2BIG)?;
            equal("fault", domctl(SET_POLICY, FREE, &[1, 8, 0]), EFAULT)
        })
    }),
    case("toolstack/policy_msrs", "Of registers two can be set, and not to all values.", |_| {
        with_domain(|| {
            equal("flags", set_msr([0x10a | 1 << 32, 0]), EINVAL)?;
            equal("named", answer(4) & LOW, 0x10a)?;
            equal("unknown", set_msr([0x10b, 0]), ERANGE)?;
            equal("long", set_msr([0xce, 1 << 32]), EOVERFLOW)?;
            equal("more", set_msr([0xce, 1]), EINVAL)?;
            equal("named", answer(4) & LOW, 0xce)?;
            equal("capabilities", set_msr([0x10a, 1]), 0)?;
            equal("many", domctl(SET_POLICY, FREE, &[3 << 32, 0, array()]), E2BIG)
        })
    }),
    case("toolstack/policy_late", "A domain that has run keeps its policy: EEXIST.", |_| {
        with_domain(|| {
            equal("unpause", domctl(UNPAUSE, FREE, &[]), 0)?;
            equal("set", domctl(SET_POLICY, FREE, &[0; 3]), EEXIST)?;
            equal("own", domctl(SET_POLICY, 0, &[0; 3]), EINVAL)
        })
    }),
    case("toolstack/system_policy", "Policies of the machine are told in full.", |_| {
        for index in [0, 1, 2, 4] {
            let at = array();
            equal_at(
                "answer for",
                index,
                sysctl_of(29, [index | 120 << 32, 2, at, at + 0x1000]),
                0,
            )?;
            equal("first", peek(at), NO_SUBLEAF)?;
            equal("registers", told(1), 2)?;
        }
        equal("room", sysctl_of(29, [1 | 1 << 32, 2, array(), 0]), ENOBUFS)?;
        equal("reserved", sysctl_of(29, [1, 1 << 32, 0, 0]), EINVAL)?;
        equal("unknown", sysctl_of(29, [6, 0, 0, 0]), EINVAL)
    }),
    case("toolstack/features", "A set of features is told as far as there is room.", |_| {
        equal("none", sysctl(26, [6 | 20 << 32, array(), 0]), EINVAL)?;
        poke(array() + 8, 77);
        equal("few", sysctl(26, [1 | 2 << 32, array(), 0]), ENOBUFS)?;
        equal("told", told(0) >> 32, 2)?;
        holds("FPU", peek(array()), "there", peek(array()) & 1 != 0)?;
        equal("behind", peek(array() + 8), 77)?;
        equal("all", sysctl(26, [2 | 99 << 32, array(), 0]), 0)?;
        equal("fault", sysctl(26, [2 | 99 << 32, 8, 0]), EFAULT)
    }),
];
