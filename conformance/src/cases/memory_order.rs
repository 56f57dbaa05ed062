//! `memory_op`: what is looked at before what, and what continuing means to calls that are not
//! continued.

use super::control::{FREE, with_domain};
use crate::call::{EFAULT, EINVAL, ENOSYS, EPERM, MEMORY_OP, hypercall};
use crate::case::{Case, case, equal, equal_at};
use crate::raw::memory::arena_address;
use crate::raw::pages_calls::{ESRCH, NOBODY, SELF, memory_op, put_words, word_at};
use crate::raw::pages_reservation::{
    EXCHANGE, EXTENTS, INCREASE, POPULATE, extent, extents_address, owned, reserve_of, with_spare,
};

const ADD_TO_PHYSMAP: u64 = 7;
const REMOVE_FROM_PHYSMAP: u64 = 15;
const ADD_BATCH: u64 = 23;
const TOPOLOGY: u64 = 26;
const RESOURCE: u64 = 28;
/// The kind of resource that a grant table is.
const GRANTS: u64 = 1;
const EACCES: i64 = -13;
const EDOM: i64 = -33;
const EOPNOTSUPP: i64 = -95;
/// The first bit of a command that tells how far a call has got.
const BEGUN: u64 = 1 << 6;
const HYPERVISOR: u64 = 0xffff_8300_0000_0000;
/// Options of an extent, in the upper half of a word.
const ON_DEMAND: u64 = 1 << (32 + 16);
const EXACT_NODE: u64 = 1 << (32 + 17);
const VIRTUAL_NODE: u64 = 1 << (32 + 18);
/// A node that no machine has.
const NODE_200: u64 = 201 << (32 + 8);

pub(crate) const CASES: &[Case] = &[
    case(
        "memory_order/begun",
        "What is not continued does not begin in the middle: EINVAL.",
        |_| {
            for command in [EXCHANGE, REMOVE_FROM_PHYSMAP, TOPOLOGY] {
                for begun in [BEGUN, 1 << 32, 1 << 63] {
                    equal_at("answer", command, memory_op(command | begun, &[0; 12]), EINVAL)?;
                    let unmapped = hypercall(MEMORY_OP, &[command | begun, 0x1000]);
                    equal_at("unmapped", command, unmapped, EINVAL)?;
                }
            }
            Ok(())
        },
    ),
    case("memory_order/begun_unknown", "Nor is what tells of the machine: ENOSYS.", |_| {
        for command in [5, 9, 10, 12, 13, 16, 17, 18, 19] {
            for begun in [BEGUN, 1 << 32, 1 << 63] {
                equal_at("answer", command, memory_op(command | begun, &[0; 12]), ENOSYS)?;
            }
        }
        Ok(())
    }),
    case(
        "memory_order/physmap_foreign",
        "Another domain's page is not added by sub-op 7: ENOSYS, whoever it is.",
        |_| {
            for domain in [SELF, NOBODY] {
                let words = [domain | 4 << 32, 0, 0];
                equal_at("answer", domain, memory_op(ADD_TO_PHYSMAP, &words), ENOSYS)?;
            }
            equal("nobody", memory_op(ADD_TO_PHYSMAP, &[NOBODY, 0, 0]), ESRCH)
        },
    ),
    case("memory_order/physmap_begun", "It goes on behind 65535 pages at most: EDOM.", |_| {
        for (begun, answer) in [(1, EACCES), (0xffff, EACCES), (1 << 16, EDOM), (1 << 40, EDOM)] {
            let command = ADD_TO_PHYSMAP | begun << 6;
            equal_at("answer", begun, memory_op(command, &[SELF, 0, 0]), answer)?;
        }
        equal("unmapped", hypercall(MEMORY_OP, &[ADD_TO_PHYSMAP | 1 << 22, 0x1000]), EDOM)
    }),
    case("memory_order/batch", "In a batch: EOPNOTSUPP for ranges, whoever it is.", |_| {
        let batch =
            |domain: u64, space: u64| memory_op(ADD_BATCH, &[domain | space << 16, 0, 0, 0, 0]);
        for (domain, space, answer) in [
            (SELF, 3, EOPNOTSUPP),
            (NOBODY, 3, EOPNOTSUPP),
            (NOBODY, 0, ESRCH),
            (SELF, 0, EACCES),
            (0, 4, EACCES),
        ] {
            equal_at("answer", domain | space << 16, batch(domain, space), answer)?;
        }
        equal("unmapped", hypercall(MEMORY_OP, &[ADD_BATCH, 0x1000]), EFAULT)?;
        equal("begun", memory_op(ADD_BATCH | 1 << 22, &[SELF, 0, 0, 0, 0]), EDOM)
    }),
    case("memory_order/on_demand", "A domain gives itself no memory on demand: 0.", |t| {
        with_spare(t, |[pfn, ..]| {
            let before = owned();
            equal("answer", reserve_of(SELF, POPULATE, &[pfn], ON_DEMAND), 0)?;
            equal("pages", owned(), before)?;
            equal("extent", extent(0), pfn)
        })
    }),
    case("memory_order/on_demand_increase", "An increase ignores that option.", |_| {
        let before = owned();
        equal("answer", reserve_of(SELF, INCREASE, &[0], ON_DEMAND), 1)?;
        equal("pages", owned(), before + 1)?;
        equal("back", reserve_of(SELF, 1, &[extent(0)], 0), 1)
    }),
    case("memory_order/virtual_node", "A virtual node is any, where there are none.", |_| {
        for node in [NODE_200, NODE_200 | EXACT_NODE, EXACT_NODE] {
            let asked = reserve_of(SELF, INCREASE, &[0], VIRTUAL_NODE | node);
            equal_at("answer", node, asked, 1)?;
            equal_at("back", node, reserve_of(SELF, 1, &[extent(0)], 0), 1)?;
        }
        equal("a real one", reserve_of(SELF, INCREASE, &[0], NODE_200), 0)?;
        equal("no node, alone", reserve_of(SELF, INCREASE, &[0], EXACT_NODE), 1)?;
        equal("back", reserve_of(SELF, 1, &[extent(0)], 0), 1)
    }),
    case(
        "memory_order/increase_to_hypervisor",
        "Where the list begins in the hypervisor no memory is added; unmapped, it is.",
        |_| {
            let before = owned();
            let increase = |list| memory_op(INCREASE, &[list, 1, 0, SELF]);
            equal("answer", increase(HYPERVISOR), 0)?;
            equal("pages", owned(), before)
        },
    ),
    case("memory_order/exchange_nothing", "Nothing left to exchange: 0, whoever it is.", |_| {
        let list = extents_address();
        let exchange = |done: u64, domain: u64| {
            put_words(0, &[list, 1, 0, domain, list, 1, 0, domain, done, 0]);
            hypercall(MEMORY_OP, &[EXCHANGE, arena_address()])
        };
        equal("done", exchange(1, NOBODY), 0)?;
        equal("not done", exchange(0, NOBODY), ESRCH)?;
        equal("too much", exchange(2, NOBODY), EINVAL)
    }),
    case("memory_order/exchange_node", "The node of the new frames is looked at: EINVAL.", |_| {
        let (list, node) = (extents_address(), NODE_200);
        let exchange = |given: u64, taken: u64| {
            put_words(0, &[list, 1, given, NOBODY, list, 1, taken, NOBODY, 0, 0]);
            hypercall(MEMORY_OP, &[EXCHANGE, arena_address()])
        };
        equal("of the old", exchange(node, 0), ESRCH)?;
        equal("of the new", exchange(0, node), EINVAL)?;
        equal("virtual", exchange(0, node | VIRTUAL_NODE), EINVAL)
    }),
    case(
        "memory_order/exchange_lists",
        "The lists' beginnings come before the domain: EFAULT.",
        |_| {
            let exchange = |given: u64, taken: u64| {
                put_words(0, &[given, 1, 0, NOBODY, taken, 1, 0, NOBODY, 0, 0]);
                hypercall(MEMORY_OP, &[EXCHANGE, arena_address()])
            };
            equal("given", exchange(HYPERVISOR, 0x1000), EFAULT)?;
            equal("taken", exchange(0x1000, HYPERVISOR), EFAULT)?;
            equal("unmapped", exchange(0x1000, 0x1000), ESRCH)
        },
    ),
    case("memory_order/resource", "What is wrong with a request for a resource, in order.", |_| {
        let ask = |domain: u64, kind: u64, frames: u64, first: u64| {
            memory_op(RESOURCE, &[domain | kind << 16, frames, first, 0])
        };
        equal("nobody", ask(NOBODY, 9, 0, 0), ESRCH)?;
        equal("SELF", ask(SELF, 1, 0, 0), ESRCH)?;
        equal("own number", ask(0, 9, 0, 0), EPERM)?;
        equal("padded", ask(NOBODY, 1, 1 << 32, 0), EINVAL)?;
        equal("wide", ask(NOBODY, 1, 1, 0xffff_ffff), EINVAL)?;
        equal("wider", ask(NOBODY, 1, 0, 1 << 32), EINVAL)
    }),
    case("memory_order/resource_length", "How long one is, and where it is gone on with.", |_| {
        with_domain(|| {
            let list = extents_address();
            let ask = |kind: u64, begun: u64, frames: u64, list: u64| {
                memory_op(RESOURCE | begun << 6, &[FREE | kind << 16, frames, 0, list])
            };
            equal("of an unknown one", ask(9, 0, 0, 0), 0)?;
            equal("length", word_at(8) & 0xffff_ffff, 0xffff_ffa1)?;
            equal("no list", ask(9, 0, 1, 0), EINVAL)?;
            equal("no frames", ask(9, 0, 0, list), EINVAL)?;
            equal("many", ask(9, 0, 1 << 26, list), EINVAL)?;
            equal("unknown", ask(9, 0, 1, list), EOPNOTSUPP)?;
            equal("length from the middle", ask(GRANTS, 1, 0, 0), EINVAL)?;
            put_words(EXTENTS, &[7, 8, 9]);
            equal("from the second on", ask(GRANTS, 1, 2, list), 0)?;
            equal("first", extent(0), 7)?;
            equal("second", extent(1) > 9, true)?;
            equal("beyond", ask(GRANTS, 2, 2, list), EINVAL)
        })
    }),
];
