//! The old forms of `event_channel_op` and `sched_op`.

use super::event_calls::{
    ALLOC_UNBOUND, BIND_INTERDOMAIN, BIND_IPI, BIND_PIRQ, BIND_VCPU, BIND_VIRQ, CLOSE, CLOSED,
    INTERDOMAIN, PER_VCPU, RESET, SELF, SEND, STATUS, UNBOUND, UNMASK, is, ports, unbound,
};
use crate::call::{EFAULT, EINVAL, ENOSYS, hypercall};
use crate::case::{Case, case, equal, equal_at};
use crate::raw::memory::{arena_address, get, put};
use crate::tables::{M2P, mapped_end};

const SCHED_OP_COMPAT: u64 = 6;
const EVENT_CHANNEL_OP_COMPAT: u64 = 16;
/// Size of the argument: the command and the longest of the arguments. Unit: bytes.
const SIZE: u64 = 28;

pub(crate) const CASES: &[Case] = &[
    case("event_compat/unbound", "The command stands in front of its argument.", |t| {
        ports(t, |_| {
            equal("alloc_unbound", old(ALLOC_UNBOUND, &[SELF]), 0)?;
            equal("port", word(2), 1)?;
            is(1, UNBOUND)
        })
    }),
    case("event_compat/all", "The commands up to unmask are there but reset.", |t| {
        ports(t, |_| {
            let port = unbound(SELF)?;
            equal("bind_interdomain", old(BIND_INTERDOMAIN, &[SELF, port]), 0)?;
            equal("its port", word(3), port + 1)?;
            is(port, INTERDOMAIN)?;
            equal("bind_virq", old(BIND_VIRQ, &[PER_VCPU, 0]), 0)?;
            equal("its port", word(3), port + 2)?;
            equal("bind_ipi", old(BIND_IPI, &[0]), 0)?;
            equal("its port", word(2), port + 3)?;
            equal("status", old(STATUS, &[SELF, port]), 0)?;
            equal("kind", word(3), INTERDOMAIN)?;
            equal("send", old(SEND, &[port]), 0)?;
            equal("bind_vcpu", old(BIND_VCPU, &[port, 0]), 0)?;
            equal("unmask", old(UNMASK, &[port]), 0)?;
            equal("bind_pirq", old(BIND_PIRQ, &[0x7fff_ffff, 0]), EINVAL)?;
            equal("reset", old(RESET, &[SELF]), ENOSYS)?;
            equal("close", old(CLOSE, &[port]), 0)?;
            is(port, CLOSED)
        })
    }),
    case("event_compat/unknown", "Other commands answer -ENOSYS.", |_| {
        for command in [11, 12, 13, 14, 15, 63, 0xffff_ffff] {
            equal_at("command", command, old(command, &[0; 6]), ENOSYS)?;
        }
        Ok(())
    }),
    case("event_compat/bad_pointer", "An argument that is not mapped answers -EFAULT.", |t| {
        let end = mapped_end(t.boot);
        for pointer in [0, 0x1000, M2P, 0x8000_0000_0000, end - SIZE + 1, u64::MAX] {
            let answer = hypercall(EVENT_CHANNEL_OP_COMPAT, &[pointer]);
            equal_at("pointer", pointer, answer, EFAULT)?;
        }
        (0..SIZE).for_each(|byte| crate::raw::memory::poke_byte(end - SIZE + byte, 0xff));
        equal("unknown", hypercall(EVENT_CHANNEL_OP_COMPAT, &[end - SIZE]), ENOSYS)
    }),
    case("event_compat/refused", "Refusals are those of the new form.", |t| {
        ports(t, |_| {
            for command in [CLOSE, SEND, UNMASK] {
                equal_at("command", command, old(command, &[4096]), EINVAL)?;
            }
            Ok(())
        })
    }),
    case("sched_compat/yield", "The old call's operation 0 yields.", |_| {
        for argument in [0, 1, 0x1000, u64::MAX] {
            equal_at("argument", argument, sched(0, argument), 0)?;
        }
        Ok(())
    }),
    case("sched_compat/unknown", "Operations from 3 on answer -ENOSYS.", |_| {
        for operation in [3, 4, 5, 6, 7, 8, 63, 0x8000_0000, 0xffff_ffff] {
            equal_at("operation", operation, sched(operation, 0), ENOSYS)?;
        }
        Ok(())
    }),
    case("sched_compat/cut", "The operation has 32 bits.", |_| {
        for upper in [1 << 32, 1 << 63, 0xffff_ffff_0000_0000] {
            equal_at("yield with", upper, sched(upper, 0), 0)?;
            equal_at("unknown with", upper, sched(upper | 3, 0), ENOSYS)?;
        }
        Ok(())
    }),
];

fn sched(operation: u64, argument: u64) -> i64 {
    hypercall(SCHED_OP_COMPAT, &[operation, argument])
}

/// Makes the old call; the answer.
fn old(command: u64, words: &[u32]) -> i64 {
    put(0, &command.to_le_bytes());
    for (index, word) in words.iter().enumerate() {
        put(4 + index * 4, &word.to_le_bytes());
    }
    hypercall(EVENT_CHANNEL_OP_COMPAT, &[arena_address()])
}

/// The word at `index`, counted with the command.
fn word(index: usize) -> u32 {
    u32::from_le_bytes(get(index * 4))
}
