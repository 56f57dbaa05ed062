//! `platform_op` as the initial domain sees it, as far as a wrong word leaves the machine alone.
//! What sets the clock or lets the machine sleep is not tried at all.

use super::control::cpus;
use crate::call::{EFAULT, EINVAL, ENOSYS, hypercall};
use crate::case::{Case, Outcome, case, equal, equal_at, holds};
use crate::raw::memory::{arena_address, fill_arena, peek, poke};
use crate::tables::M2P;

const PLATFORM_OP: u64 = 7;
const VERSION: u64 = 0x0300_0001;
const EACCES: i64 = -13;
const ERANGE: i64 = -34;
/// A number that no CPU has.
const NO_CPU: u64 = 9999;

/// Makes the call with an envelope of the version and words of a sub-op.
fn platform(cmd: u64, payload: &[u64]) -> i64 {
    fill_arena(0);
    poke(arena_address(), cmd | VERSION << 32);
    for (at, word) in (arena_address() + 8..).step_by(8).zip(payload) {
        poke(at, *word);
    }
    hypercall(PLATFORM_OP, &[arena_address()])
}

/// A word of the answer.
fn answer(word: u64) -> u64 {
    peek(arena_address() + 8 + 8 * word)
}

macro_rules! rows {
    ($($name:literal, $cmd:literal, $payload:expr, $answer:expr, $clause:literal;)+) => {
        &[$(case(concat!("platform/", $name), $clause, |_| {
            equal("answer", platform($cmd, &$payload), $answer)
        })),+]
    };
}

pub(crate) const SUB_OPS: &[Case] = rows! {
    "add_memtype", 31, [0, 1, 99], EINVAL, "A memory type that does not exist: EINVAL.";
    "del_memtype", 32, [0xffff], EINVAL, "Removing a memory type that was never set: EINVAL.";
    "read_memtype", 33, [200], EINVAL, "A range register that the CPU has not got: EINVAL.";
    "microcode", 35, [0x1000, 16], EFAULT, "Microcode that can't be read: EFAULT.";
    "quirk", 39, [99], EINVAL, "A fault of the machine that nobody knows: EINVAL.";
    "efi", 49, [99], ENOSYS, "Firmware that is no EFI has no calls: ENOSYS.";
    "firmware", 50, [99], EINVAL, "A kind of firmware information that does not exist: EINVAL.";
    "frequency", 52, [NO_CPU << 32], ENOSYS, "Who does not rule frequencies can't report one: ENOSYS.";
    "idle_time", 53, [0, 0, 0, 0], ENOSYS, "Nor ask how long CPUs were idle: ENOSYS.";
    "power_states", 54, [99, 99], EINVAL, "Power states of an unknown kind: EINVAL.";
    "online", 56, [NO_CPU], EINVAL, "A CPU that does not exist is not started: EINVAL.";
    "offline", 57, [NO_CPU], EINVAL, "A CPU that does not exist is not stopped: EINVAL.";
    "add_cpu", 58, [u64::MAX, u64::MAX], EINVAL, "A CPU at no number is not added: EINVAL.";
    "add_memory", 59, [5, 5], EINVAL, "Memory that ends where it begins is not added: EINVAL.";
    "parking", 60, [99], EINVAL, "Keeping CPUs idle in an unknown way: EINVAL.";
    "resources", 61, [999], EINVAL, "More registers at a time than there is room for: EINVAL.";
    "resources_none", 61, [0], 0, "No registers at all are read and written at once.";
    "settime", 62, [0, 1 << 32], EINVAL, "The clock is not set if a word that must be 0 is not: EINVAL.";
};

pub(crate) const CASES: &[Case] = &[
    case("platform/pointer", "An envelope that can't be read comes first: EFAULT.", |_| {
        for pointer in [0, 0x1000, M2P, 1 << 47] {
            equal_at("pointer", pointer, hypercall(PLATFORM_OP, &[pointer]), EFAULT)?;
        }
        Ok(())
    }),
    case("platform/version", "Another version of the interface: EACCES.", |_| {
        for version in [0, VERSION - 1, VERSION + 1, 0xffff_ffff] {
            fill_arena(0);
            poke(arena_address(), 48 | version << 32);
            equal_at("version", version, hypercall(PLATFORM_OP, &[arena_address()]), EACCES)?;
        }
        Ok(())
    }),
    case("platform/unknown", "Sub-ops that there are not: ENOSYS.", |_| {
        for cmd in [0, 18, 30, 34, 64, 99, 0xffff_ffff] {
            equal_at("sub-op", cmd, platform(cmd, &[]), ENOSYS)?;
        }
        Ok(())
    }),
    case("platform/cpu_version", "The vendor of CPU 0 is told, and the highest CPU.", |_| {
        let cpus = cpus()?;
        equal("answer", platform(48, &[]), 0)?;
        equal("vendor", answer(1), u64::from_le_bytes(*b"GenuineI"))?;
        equal("vendor", answer(2) & 0xffff_ffff, u64::from(u32::from_le_bytes(*b"ntel")))?;
        equal("highest", answer(0) >> 32, cpus - 1)
    }),
    case("platform/cpu_info", "CPU 0 is told with its numbers, and is online.", |_| {
        equal("answer", platform(55, &[]), 0)?;
        holds("flags", answer(1) & 0xffff_ffff, "online", answer(1) & 1 == 1)
    }),
    case("platform/cpu_info_none", "A CPU that does not exist is told to be invalid.", |_| {
        equal("answer", platform(55, &[NO_CPU]), 0)?;
        holds("flags", answer(1) & 0xffff_ffff, "not present", answer(1) & 2 == 2)
    }),
    case("platform/symbol", "Symbols have numbers; behind the last: ERANGE.", |_| {
        equal("first", platform(63, &[0]), 0)?;
        symbols_end()
    }),
];

fn symbols_end() -> Outcome {
    equal("behind", platform(63, &[0xffff_ffff << 32]), ERANGE)
}
