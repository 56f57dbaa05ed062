//! `sched_op` watchdogs, shutdown codes, shutting down by number, and overriding affinity.

use super::event_calls::{ENOSPC, ESRCH, NO_DOMAINS, NOBODY, SELF, Words, ports, unbound};
use super::poll::{MS, poll};
use crate::call::{EBUSY, EFAULT, EINVAL, SCHED_OP, hypercall, registers};
use crate::case::{Case, Outcome, Test, case, ends_guest, equal, equal_at};
use crate::raw::memory::{arena_address, put};
use crate::raw::snippets;
use crate::tables::{M2P, mapped_end};

const SHUTDOWN: u64 = 2;
const REMOTE_SHUTDOWN: u64 = 4;
const SHUTDOWN_CODE: u64 = 5;
const WATCHDOG: u64 = 6;
const PIN_OVERRIDE: u64 = 7;
const SCHED_OP_COMPAT: u64 = 6;

pub(crate) const CASES: &[Case] = &[
    case(
        "watchdog/new",
        "There are two, 1 and 2; a third is refused: -ENOSPC, in 32 bits.",
        |_| {
            dogs(|| {
                equal("first", watchdog(0, 100), 1)?;
                equal("second", watchdog(0, 100), 2)?;
                third()
            })
        },
    ),
    case("watchdog/lowest", "The lowest free number is taken.", |_| {
        dogs(|| {
            equal("first", watchdog(0, 100), 1)?;
            equal("second", watchdog(0, 100), 2)?;
            equal("removed", watchdog(1, 0), 0)?;
            equal("again", watchdog(0, 100), 1)?;
            third()
        })
    }),
    case("watchdog/remove", "A watchdog is removed by timeout 0, once.", |_| {
        dogs(|| {
            for _ in 0..3 {
                equal("new", watchdog(0, 100), 1)?;
                equal("removed", watchdog(1, 0), 0)?;
                equal("removed again", watchdog(1, 0), EINVAL)?;
            }
            Ok(())
        })
    }),
    case("watchdog/kick", "A watchdog that is there can be set again.", |_| {
        dogs(|| {
            equal("new", watchdog(0, 100), 1)?;
            for timeout in [1, 50, 0x7fff_ffff, u32::MAX, 100] {
                equal_at("timeout", timeout.into(), watchdog(1, timeout), 0)?;
            }
            Ok(())
        })
    }),
    case("watchdog/not_there", "Others cannot be set or removed: -EINVAL.", |_| {
        dogs(|| {
            for id in [1, 2, 3, 4, 255, 0x8000_0000, u32::MAX] {
                for timeout in [0, 100] {
                    equal_at("id", id.into(), watchdog(id, timeout), EINVAL)?;
                }
            }
            equal("new", watchdog(0, 100), 1)?;
            equal("another", watchdog(2, 100), EINVAL)
        })
    }),
    case("watchdog/bad_pointer", "An argument that is not mapped answers -EFAULT.", |t| {
        bad_pointers(t, WATCHDOG, 8)
    }),
    case("watchdog/extent", "The argument has eight bytes.", |t| {
        let at = mapped_end(t.boot) - 8;
        (0..8).for_each(|byte| crate::raw::memory::poke_byte(at + byte, 0xff));
        equal("answer", hypercall(SCHED_OP, &[WATCHDOG, at]), EINVAL)
    }),
    case("watchdog/removed_in_time", "A watchdog that was removed does not bite.", |t| {
        ports(t, |words| {
            dogs(|| {
                equal("new", watchdog(0, 1), 1)?;
                equal("removed", watchdog(1, 0), 0)?;
                wait(words, 1200)
            })
        })
    }),
    case("watchdog/kicked_in_time", "Nor does one that was set again in time.", |t| {
        ports(t, |words| {
            dogs(|| {
                equal("new", watchdog(0, 1), 1)?;
                for timeout in [1, 1, 100] {
                    wait(words, 400)?;
                    equal("set again", watchdog(1, timeout), 0)?;
                }
                wait(words, 1200)
            })
        })
    }),
    case("pin_override/set", "The vCPU can be kept on a CPU, once, and let go.", |_| {
        for turn in 0..2 {
            equal_at("set", turn, pin_override(0), 0)?;
            equal_at("set again", turn, pin_override(0), EBUSY)?;
            equal_at("let go", turn, pin_override(-1), 0)?;
        }
        Ok(())
    }),
    case("pin_override/not_set", "What was not set cannot be let go: -EINVAL.", |_| {
        for cpu in [-1, -2, i32::MIN] {
            equal_at("CPU", cpu.unsigned_abs().into(), pin_override(cpu), EINVAL)?;
        }
        Ok(())
    }),
    case("pin_override/no_cpu", "A CPU that is not there is refused: -EINVAL.", |_| {
        for cpu in [255, 0x1234, i32::MAX] {
            equal_at("CPU", cpu.unsigned_abs().into(), pin_override(cpu), EINVAL)?;
        }
        Ok(())
    }),
    case("pin_override/bad_pointer", "An argument that is not mapped answers -EFAULT.", |t| {
        bad_pointers(t, PIN_OVERRIDE, 4)
    }),
    case("remote_shutdown/no_domain", "Who is none is not shut down: -ESRCH.", |_| {
        for domain in NO_DOMAINS {
            equal_at("domain", domain.into(), remote_shutdown(domain, 0), ESRCH)?;
        }
        Ok(())
    }),
    case("remote_shutdown/self", "The caller has no name of its own here: -ESRCH.", |_| {
        equal("answer", remote_shutdown(SELF, 0), ESRCH)
    }),
    case("remote_shutdown/bad_pointer", "An argument that is not mapped answers -EFAULT.", |t| {
        bad_pointers(t, REMOTE_SHUTDOWN, 8)
    }),
    case("shutdown_code/bad_pointer", "An argument that is not mapped answers -EFAULT.", |t| {
        bad_pointers(t, SHUTDOWN_CODE, 4)
    }),
];

pub(crate) const ENDS: &[Case] = &[
    ends_guest("watchdog/bites", "A watchdog that runs out counts as a crash.", |t| {
        ports(t, |words| {
            equal("new", watchdog(0, 1), 1)?;
            bitten(t, words)
        })
    }),
    ends_guest("watchdog/zero", "A new one with timeout 0 runs out at once.", |t| {
        ports(t, |words| {
            pv_guest_sdk::println!("ends {} crash", t.name);
            // The guest may go on for a moment: until its CPU looks at its timers.
            let _ = watchdog(0, 0);
            wait(words, 10_000)?;
            equal("the guest", "goes on", "ends")
        })
    }),
    ends_guest("remote_shutdown/poweroff", "The initial domain powers off by its number.", |t| {
        remote_end(t, "poweroff", 0)
    }),
    ends_guest("remote_shutdown/reboot", "It reboots by its number.", |t| {
        remote_end(t, "reboot", 1)
    }),
    ends_guest("remote_shutdown/crash", "It crashes by its number.", |t| remote_end(t, "crash", 3)),
    ends_guest("shutdown_code/kept", "A code that was given before counts, not the reason.", |t| {
        equal("shutdown_code", argument(SHUTDOWN_CODE, &[1]), 0)?;
        put(0, &[0; 4]);
        let mut registers = registers(SCHED_OP, &[SHUTDOWN, arena_address()]);
        t.end("reboot", snippets::SYSCALL, &mut registers)
    }),
    ends_guest("shutdown_code/first", "The first code counts, not the last.", |t| {
        for code in [1, 3, 0] {
            equal("shutdown_code", argument(SHUTDOWN_CODE, &[code]), 0)?;
        }
        put(0, &[0; 4]);
        let mut registers = registers(SCHED_OP, &[SHUTDOWN, arena_address()]);
        t.end("reboot", snippets::SYSCALL, &mut registers)
    }),
    ends_guest("sched_compat/poweroff", "The old call's reason is its argument: 0.", |t| {
        let mut registers = registers(SCHED_OP_COMPAT, &[SHUTDOWN, 0]);
        t.end("poweroff", snippets::SYSCALL, &mut registers)
    }),
    ends_guest("sched_compat/reboot", "The old call's reason 1 reboots.", |t| {
        let mut registers = registers(SCHED_OP_COMPAT, &[SHUTDOWN, 1]);
        t.end("reboot", snippets::SYSCALL, &mut registers)
    }),
];

/// Makes a call with its argument at the arena's start; the answer.
fn argument(operation: u64, words: &[u32]) -> i64 {
    for (index, word) in words.iter().enumerate() {
        put(index * 4, &word.to_le_bytes());
    }
    hypercall(SCHED_OP, &[operation, arena_address()])
}

fn watchdog(id: u32, timeout: u32) -> i64 {
    argument(WATCHDOG, &[id, timeout])
}

fn pin_override(cpu: i32) -> i64 {
    argument(PIN_OVERRIDE, &[cpu.cast_unsigned()])
}

fn remote_shutdown(domain: u32, reason: u32) -> i64 {
    argument(REMOTE_SHUTDOWN, &[domain | 0xabcd_0000, reason])
}

fn remote_end(t: &Test<'_>, how: &'static str, reason: u32) -> Outcome {
    put(0, &[0; 4]);
    put(4, &reason.to_le_bytes());
    let mut registers = registers(SCHED_OP, &[REMOTE_SHUTDOWN, arena_address()]);
    t.end(how, snippets::SYSCALL, &mut registers)
}

/// Does something with watchdogs, and removes all behind it.
fn dogs(does: impl FnOnce() -> Outcome) -> Outcome {
    let outcome = does();
    for id in [1, 2] {
        // Most are not there, which is refused.
        let _ = watchdog(id, 0);
    }
    outcome
}

/// Asks for a watchdog too many. The answer is that of a call with 32 bits: the upper half is zero
/// on Xen, by a slip, and no guest looks at it.
fn third() -> Outcome {
    equal("third", watchdog(0, 100) & 0xffff_ffff, ENOSPC & 0xffff_ffff)
}

/// Unit: milliseconds.
fn wait(words: Words, time: u64) -> Outcome {
    let port = unbound(NOBODY)?;
    equal("poll", poll(&[port], words.now() + time * MS), 0)
}

fn bitten(t: &Test<'_>, words: Words) -> Outcome {
    pv_guest_sdk::println!("ends {} crash", t.name);
    wait(words, 10_000)?;
    equal("the guest", "goes on", "ends")
}

fn bad_pointers(t: &Test<'_>, operation: u64, size: u64) -> Outcome {
    let end = mapped_end(t.boot);
    for pointer in [0, 0x1000, M2P, 0x8000_0000_0000, end, end - size + 1, u64::MAX] {
        let answer = hypercall(SCHED_OP, &[operation, pointer]);
        equal_at("pointer", pointer, answer, EFAULT)?;
    }
    Ok(())
}
