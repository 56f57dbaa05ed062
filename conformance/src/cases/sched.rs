//! `sched_op` as a guest alone on its machine can try it.

use crate::call::{EFAULT, ENOSYS, SCHED_OP, hypercall, registers};
use crate::case::{Case, Outcome, Test, case, ends_guest, equal, equal_at};
use crate::raw::memory::{arena_address, put};
use crate::raw::snippets;
use crate::tables::{M2P, mapped_end};

const YIELD: u64 = 0;
const SHUTDOWN: u64 = 2;

pub(crate) const CASES: &[Case] = &[
    case("sched/yield", "Yield answers 0.", |_| equal("answer", hypercall(SCHED_OP, &[YIELD]), 0)),
    case("sched/yield_pointer", "Yield ignores its pointer.", |_| {
        for pointer in [0x1000, M2P, u64::MAX] {
            equal_at("answer for", pointer, hypercall(SCHED_OP, &[YIELD, pointer]), 0)?;
        }
        Ok(())
    }),
    case("sched/yield_often", "A thousand yields come back.", |_| {
        for turn in 0..1000 {
            equal_at("answer of turn", turn, hypercall(SCHED_OP, &[YIELD]), 0)?;
        }
        Ok(())
    }),
    case("sched/shutdown_null", "Shutdown without a reason answers -EFAULT.", |_| refused(0)),
    case("sched/shutdown_unmapped", "Shutdown with an unmapped reason is refused.", |_| {
        refused(0x1000)
    }),
    case("sched/shutdown_hypervisor", "A reason within the hypervisor is refused.", |_| {
        refused(M2P)
    }),
    case("sched/shutdown_straddling", "A reason half in unmapped memory is refused.", |t| {
        refused(mapped_end(t.boot) - 2)
    }),
    case("sched/shutdown_wrapping", "A reason that wraps around is refused.", |_| {
        refused(u64::MAX - 1)
    }),
    case("sched/shutdown_non_canonical", "A reason at no address is refused.", |_| {
        refused(0x8000_0000_0000)
    }),
    case("sched/unknown", "Unknown operations answer -ENOSYS.", |_| {
        for operation in [8, 9, 63, 255, 1 << 31, 0xffff_ffff] {
            let answer = hypercall(SCHED_OP, &[operation, arena_address()]);
            equal_at("answer of", operation, answer, ENOSYS)?;
        }
        Ok(())
    }),
    case("sched/unknown_first", "An unknown operation is refused before its pointer is.", |_| {
        equal("answer", hypercall(SCHED_OP, &[63, 0x1000]), ENOSYS)
    }),
    ends_guest("sched/poweroff", "Shutdown with reason 0 powers off.", |t| {
        shutdown(t, "poweroff", 0)
    }),
    ends_guest("sched/reboot", "Shutdown with reason 1 reboots.", |t| shutdown(t, "reboot", 1)),
    ends_guest("sched/crash", "Shutdown with reason 3 counts as a crash.", |t| {
        shutdown(t, "crash", 3)
    }),
    ends_guest("sched/reason_unaligned", "The reason needs no alignment.", |t| {
        put(1, &0_u32.to_le_bytes());
        let mut registers = registers(SCHED_OP, &[SHUTDOWN, arena_address() + 1]);
        t.end("poweroff", snippets::SYSCALL, &mut registers)
    }),
    ends_guest("sched/reason_extent", "Only four bytes of the reason are read.", |t| {
        put(0, &[0, 0, 0, 0, 1, 1, 1, 1]);
        let mut registers = registers(SCHED_OP, &[SHUTDOWN, arena_address()]);
        t.end("poweroff", snippets::SYSCALL, &mut registers)
    }),
];

fn refused(pointer: u64) -> Outcome {
    equal("answer", hypercall(SCHED_OP, &[SHUTDOWN, pointer]), EFAULT)
}

fn shutdown(t: &Test<'_>, how: &'static str, reason: u32) -> Outcome {
    put(0, &reason.to_le_bytes());
    let mut registers = registers(SCHED_OP, &[SHUTDOWN, arena_address()]);
    t.end(how, snippets::SYSCALL, &mut registers)
}
