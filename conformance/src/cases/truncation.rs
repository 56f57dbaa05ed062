//! Arguments arrive in 64-bit registers and are cut to their C types; call numbers are not.

use crate::call::{
    CALLBACK_OP, CONSOLE_IO, EFAULT, ENOSYS, GET_DEBUGREG, MMU_UPDATE, MMUEXT_OP, MULTICALL,
    SCHED_OP, SET_DEBUGREG, SET_SEGMENT_BASE, VM_ASSIST, XEN_VERSION, hypercall, registers,
};
use crate::case::{Case, Outcome, Test, case, ends_guest, equal, equal_at};
use crate::raw::memory::{arena_address, fill_arena, get, put};
use crate::raw::snippets;

/// Upper halves that no 32-bit argument may see.
const UPPER: [u64; 4] = [1 << 32, 1 << 63, 0x7fff_ffff_0000_0000, 0xffff_ffff_0000_0000];

pub(crate) const CASES: &[Case] = &[
    case("truncation/version", "The sub-operation of xen_version has 32 bits.", |_| {
        each(|upper| hypercall(XEN_VERSION, &[upper]), 0x4_0011)
    }),
    case("truncation/version_pagesize", "All lower bits of the sub-operation count.", |_| {
        each(|upper| hypercall(XEN_VERSION, &[upper | 7]), 4096)
    }),
    case("truncation/version_unknown", "An unknown sub-operation stays unknown.", |_| {
        each(|upper| hypercall(XEN_VERSION, &[upper | 99]), ENOSYS)
    }),
    case("truncation/version_number", "The call's number has 64 bits.", |_| {
        each(|upper| hypercall(XEN_VERSION | upper, &[0]), ENOSYS)
    }),
    case("truncation/version_pointer", "A pointer has 64 bits.", |_| {
        let answer = hypercall(XEN_VERSION, &[5, arena_address() & 0xffff_ffff]);
        equal("answer", answer, EFAULT)
    }),
    case("truncation/console_command", "The command of console_io has 32 bits.", |_| {
        each(|upper| hypercall(CONSOLE_IO, &[upper, 0, 0]), 0)
    }),
    case("truncation/console_unknown", "An unknown command stays unknown.", |_| {
        each(|upper| hypercall(CONSOLE_IO, &[upper | 2, 0, 0]), ENOSYS)
    }),
    case("truncation/console_count", "The count of console_io has 32 bits.", |_| {
        put(0, b"# cut\nnot this\n");
        each(|upper| hypercall(CONSOLE_IO, &[0, upper | 6, arena_address()]), 0)
    }),
    case("truncation/console_count_zero", "A count of 4 GiB is none.", |_| {
        each(|upper| hypercall(CONSOLE_IO, &[0, upper, 0x1000]), 0)
    }),
    case("truncation/console_read", "A read's count has 32 bits too.", |_| {
        fill_arena(0);
        each(|upper| hypercall(CONSOLE_IO, &[1, upper | 16, arena_address()]), 0)?;
        equal("first byte", get::<1>(0)[0], 0)
    }),
    case("truncation/sched", "The operation of sched_op has 32 bits.", |_| {
        each(|upper| hypercall(SCHED_OP, &[upper]), 0)
    }),
    case("truncation/sched_unknown", "An unknown operation stays unknown.", |_| {
        each(|upper| hypercall(SCHED_OP, &[upper | 63]), ENOSYS)
    }),
    case("truncation/sched_pointer", "The pointer of sched_op has 64 bits.", |_| {
        put(0, &[0; 4]);
        let answer = hypercall(SCHED_OP, &[2, arena_address() & 0xffff_ffff]);
        equal("answer", answer, EFAULT)
    }),
    case("truncation/set_debugreg", "The register of set_debugreg has 32 bits.", |_| {
        each(|upper| hypercall(SET_DEBUGREG, &[upper, 0]), 0)
    }),
    case("truncation/get_debugreg", "The register of get_debugreg has 32 bits.", |_| {
        each(|upper| hypercall(GET_DEBUGREG, &[upper | 7]), 0x400)
    }),
    case("truncation/fpu_taskswitch", "The argument of fpu_taskswitch has 32 bits.", |_| {
        each(|upper| hypercall(5, &[upper]), 0)
    }),
    case("truncation/vm_assist", "Both arguments of vm_assist have 32 bits.", |_| {
        each(|upper| hypercall(VM_ASSIST, &[upper, upper]), 0)
    }),
    case("truncation/segment_base", "Which base set_segment_base sets has 32 bits.", |_| {
        each(|upper| hypercall(SET_SEGMENT_BASE, &[upper, 0]), 0)
    }),
    case("truncation/callback", "The command of callback_op has 32 bits.", |_| {
        each(|upper| hypercall(CALLBACK_OP, &[upper, 0x1000]), EFAULT)
    }),
    case("truncation/multicall", "The count of multicall has 32 bits.", |_| {
        each(|upper| hypercall(MULTICALL, &[0x1000, upper]), 0)
    }),
    case("truncation/mmu_update", "The count of mmu_update has 32 bits.", |_| {
        each(|upper| hypercall(MMU_UPDATE, &[0x1000, upper, 0, 0x7ff0]), 0)
    }),
    case("truncation/mmuext", "The count of mmuext_op has 32 bits.", |_| {
        each(|upper| hypercall(MMUEXT_OP, &[0x1000, upper, 0, 0x7ff0]), 0)
    }),
    case("truncation/mmuext_domain", "The domain of mmuext_op has 32 bits.", |_| {
        each(|upper| hypercall(MMUEXT_OP, &[0x1000, 0, 0, upper | 0x7ff0]), 0)
    }),
    case("truncation/mmu_update_domain", "The domain of mmu_update has 32 bits.", |_| {
        each(|upper| hypercall(MMU_UPDATE, &[0x1000, 0, 0, upper | 0x7ff0]), 0)
    }),
    ends_guest("truncation/sched_shutdown", "Shutdown is found under its lower 32 bits.", end),
];

/// Checks the answer to a call made with each upper half.
fn each(call: fn(u64) -> i64, expected: i64) -> Outcome {
    for upper in UPPER {
        equal_at("answer with", upper, call(upper), expected)?;
    }
    Ok(())
}

fn end(t: &Test<'_>) -> Outcome {
    put(0, &[0; 4]);
    let mut registers = registers(SCHED_OP, &[1 << 32 | 2, arena_address()]);
    t.end("poweroff", snippets::SYSCALL, &mut registers)
}
