//! `vcpu_op`: which vCPUs there are, contexts that are refused, up and down.

use super::control::cpus;
use crate::call::{EFAULT, EINVAL, ENOSYS, VCPU_OP};
use crate::case::{Case, Outcome, Test, Verdict, case, ends_guest, equal, equal_at};
use crate::raw::ap_snippets::{DOWN_ONCE, NOTHING};
use crate::raw::memory::{arena_address, peek, poke};
use crate::raw::pages_calls::{FLUSH_LOCAL, mmuext};
use crate::raw::pages_scratch::{duplicate, free_frame, hypervisor_frame, with};
use crate::raw::{Registers, ap, snippets};
use crate::tables::{M2P, mapped_end};
use crate::vcpus::{
    DOWN, EEXIST, ENOENT, INITIALISE, IS_UP, UP, VCPUS, at, initialise, power_off, vcpu_op, worker,
    yields,
};

/// The vCPU that no case starts, so that it can be refused a context again and again.
const NEVER: u64 = 3;
const SEND_NMI: u64 = 11;
const GET_PHYSID: u64 = 12;
/// The first address that is none.
const EDGE: u64 = 0x8000_0000_0000;

/// Rows: name, the offset and value of the word that is wrong, the answer, the clause.
macro_rules! rows {
    ($($name:literal, $offset:expr, $word:expr, $answer:expr, $clause:literal;)+) => {
        &[$(case(concat!("vcpu_start/", $name), $clause, |t| {
            refused(t, &[($offset, $word)], $answer)
        })),+]
    };
}

/// Contexts with one wrong word.
pub(crate) const CONTEXTS: &[Case] = rows! {
    "rip_edge", at::RIP, EDGE, EINVAL, "A context whose rip is no address: EINVAL.";
    "rsp_edge", at::RSP, EDGE, EINVAL, "A context whose rsp is no address: EINVAL.";
    "kernel_sp_edge", at::KERNEL_SP, EDGE, EINVAL, "A kernel stack at no address: EINVAL.";
    "fs_base_edge", at::FS_BASE, EDGE, EINVAL, "A base of fs at no address: EINVAL.";
    "gs_base_edge", at::GS_BASE, EDGE, EINVAL, "A base of gs at no address: EINVAL.";
    "user_gs_base_edge", at::USER_GS_BASE, EDGE, EINVAL,
        "A base of user mode's gs at no address: EINVAL.";
    "event_edge", at::EVENT, EDGE, EINVAL, "A callback for events at no address: EINVAL.";
    "failsafe_edge", at::FAILSAFE, EDGE, EINVAL, "A failsafe callback at no address: EINVAL.";
    "syscall_edge", at::SYSCALL, EDGE, EINVAL, "A callback for SYSCALL at no address: EINVAL.";
    "trap_edge", at::TRAPS + 255 * 16 + 8, EDGE, EINVAL,
        "A handler at no address, of the last vector too: EINVAL.";
    "ldt_base_unaligned", at::LDT_BASE, 8, EINVAL,
        "A local table that begins in the middle of a page: EINVAL, with no entries too.";
    "ldt_base_hypervisor", at::LDT_BASE, M2P, EINVAL,
        "A local table in the hypervisor's range: EINVAL, with no entries too.";
    "ldt_entries", at::LDT_ENTRIES, 8193, EINVAL, "A local table of 8193 entries: EINVAL.";
    "user_without_table", at::FLAGS, 0, EINVAL,
        "A start in user mode without user mode's page tables: EINVAL.";
    "gdt_entries", at::GDT_ENTRIES, 7169, EINVAL, "7169 descriptors: EINVAL.";
    "gdt_frame_0", at::GDT_ENTRIES, 1, EINVAL, "A descriptor in a frame of the machine's: EINVAL.";
    "root_0", at::CONTROL + 24, 0, EINVAL, "Page tables in a frame of the machine's: EINVAL.";
    "root_nowhere", at::CONTROL + 24, 1 << 45, EINVAL, "Page tables in no frame: EINVAL.";
};

/// The calls' own errors and effects.
pub(crate) const CASES: &[Case] = &[
    case("vcpu_start/is_up", "vCPU 0 is up; those that never started are not.", |_| {
        equal("vCPU 0", vcpu_op(IS_UP, 0, 0), 1)?;
        equal("vCPU 3", vcpu_op(IS_UP, NEVER, 0), 0)
    }),
    case("vcpu_start/is_up_beyond", "vCPUs beyond the number there may be: ENOENT.", |_| {
        for vcpu in [VCPUS, 5, 31, 32, 63, 64, 127, 128, 8191, 8192, 1 << 31, 0xffff_ffff] {
            equal_at("answer for", vcpu, vcpu_op(IS_UP, vcpu, 0), ENOENT)?;
        }
        Ok(())
    }),
    case("vcpu_start/is_up_pointer", "Whether a vCPU is up needs no pointer.", |_| {
        equal("answer", vcpu_op(IS_UP, 0, M2P), 1)
    }),
    case("vcpu_start/truncation", "The upper halves of command and vCPU are ignored.", |_| {
        equal("vCPU", vcpu_op(IS_UP, 1 << 32, 0), 1)?;
        equal("command", vcpu_op(1 << 32 | IS_UP, NEVER, 0), 0)
    }),
    case("vcpu_start/beyond_first", "ENOENT comes before any other error, of any command.", |_| {
        for command in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xffff_ffff] {
            equal_at("answer of", command, vcpu_op(command, VCPUS, 0x1000), ENOENT)?;
        }
        Ok(())
    }),
    case("vcpu_start/unknown", "Unknown commands for a vCPU there is: ENOSYS.", |_| {
        for command in [14, 15, 64, 255, 1 << 31, 0xffff_ffff] {
            equal_at("answer of", command, vcpu_op(command, 0, 0x1000), ENOSYS)?;
        }
        Ok(())
    }),
    case("vcpu_start/context_pointer", "A context that cannot be read: EFAULT.", |t| {
        for pointer in [0, 0x1000, M2P, EDGE, mapped_end(t.boot) - 5160, u64::MAX - 5000] {
            equal_at("answer for", pointer, vcpu_op(INITIALISE, NEVER, pointer), EFAULT)?;
        }
        Ok(())
    }),
    case("vcpu_start/pointer_first", "EFAULT comes before EEXIST.", |_| {
        equal("answer", vcpu_op(INITIALISE, 0, 0x1000), EFAULT)
    }),
    case("vcpu_start/self", "A context for the vCPU that runs: EEXIST.", |t| {
        equal("answer", initialise(t, 0, &[]), EEXIST)
    }),
    case("vcpu_start/exists_first", "EEXIST comes before the context's errors.", |t| {
        equal("answer", initialise(t, 0, &[(at::RIP, EDGE), (at::CONTROL + 24, 0)]), EEXIST)
    }),
    case("vcpu_start/twice", "A second context for a vCPU, up or down: EEXIST.", |t| {
        let ap = worker(t)?;
        equal("down", initialise(t, ap.number(), &[]), EEXIST)?;
        ap.spin()?;
        let answer = initialise(t, ap.number(), &[]);
        ap.stop()?;
        equal("up", answer, EEXIST)
    }),
    case(
        "vcpu_start/root_foreign",
        "Page tables in frames that are not the guest's: EINVAL.",
        |t| {
            for mfn in [free_frame(), hypervisor_frame(t), 0xb8] {
                refused(t, &[(at::CONTROL + 24, mfn << 12)], EINVAL)?;
            }
            Ok(())
        },
    ),
    case("vcpu_start/root_writable", "Page tables in a page that is writable: EINVAL.", |t| {
        with(t, |[a, ..]| {
            refused(t, &[(at::CONTROL + 24, a.ma())], EINVAL)?;
            a.is_free()
        })
    }),
    case("vcpu_start/root_level", "A table of a lower level as page tables: EINVAL.", |t| {
        for level in 1..4 {
            with(t, |[a, ..]| {
                a.pin(level)?;
                refused(t, &[(at::CONTROL + 24, a.ma())], EINVAL)
            })?;
        }
        Ok(())
    }),
    case("vcpu_start/root_bad_entry", "Page tables with a bad entry: EINVAL.", |t| {
        with(t, |[a, ..]| {
            a.set(7, 0x7f_ffff_f067);
            a.protect()?;
            refused(t, &[(at::CONTROL + 24, a.ma())], EINVAL)?;
            // What was begun may be undone as late as by the next call on page tables.
            equal("flush", mmuext(FLUSH_LOCAL, 0, 0), 0)?;
            a.is_free()
        })
    }),
    case("vcpu_start/gdt_writable", "Descriptors in a page that is writable: EINVAL.", |t| {
        with(t, |[a, ..]| refused(t, &[(at::GDT_FRAMES, a.mfn), (at::GDT_ENTRIES, 1)], EINVAL))
    }),
    case("vcpu_start/gdt_released", "Behind bad page tables the descriptors are free.", |t| {
        with(t, |[a, b, ..]| {
            a.protect()?;
            let mut changes =
                [(at::GDT_FRAMES, a.mfn), (at::GDT_ENTRIES, 1), (at::CONTROL + 24, b.ma())];
            refused(t, &changes, EINVAL)?;
            a.is_free()?;
            changes[2].1 = 0;
            a.protect()?;
            refused(t, &changes, EINVAL)?;
            a.is_free()
        })
    }),
    case("vcpu_start/up_without_context", "Up of a vCPU without a context: EINVAL.", |_| {
        equal("answer", vcpu_op(UP, NEVER, 0), EINVAL)?;
        equal("is up", vcpu_op(IS_UP, NEVER, 0), 0)
    }),
    case("vcpu_start/down_without_context", "Down of a vCPU without a context: 0.", |_| {
        equal("answer", vcpu_op(DOWN, NEVER, 0), 0)?;
        equal("is up", vcpu_op(IS_UP, NEVER, 0), 0)
    }),
    case("vcpu_start/up_twice", "Up of a vCPU that is up: 0, of itself too.", |t| {
        equal("itself", vcpu_op(UP, 0, M2P), 0)?;
        let ap = worker(t)?;
        ap.spin()?;
        let answer = vcpu_op(UP, ap.number(), 0);
        let is_up = vcpu_op(IS_UP, ap.number(), 0);
        ap.stop()?;
        equal("answer", answer, 0)?;
        equal("is up", is_up, 1)
    }),
    case(
        "vcpu_start/down_other",
        "A vCPU taken down by another stops, and goes on when up.",
        |t| {
            let ap = worker(t)?;
            ap.spin()?;
            ap.counts_to(10)?;
            equal("down", vcpu_op(DOWN, ap.number(), M2P), 0)?;
            let is_up = vcpu_op(IS_UP, ap.number(), 0);
            // On another CPU it may run for a moment more.
            yields(100);
            let before = peek(ap::page());
            yields(100);
            let after = peek(ap::page());
            equal("up", vcpu_op(UP, ap.number(), 0), 0)?;
            ap.counts_to(after + 10)?;
            ap.stop()?;
            equal("is up", is_up, 0)?;
            equal("counted", after, before)
        },
    ),
    case("vcpu_start/down_twice", "Down of a vCPU that is down: 0.", |t| {
        let ap = worker(t)?;
        equal("answer", vcpu_op(DOWN, ap.number(), 0), 0)?;
        ap.run(NOTHING, &Registers::new())?;
        equal("is up", vcpu_op(IS_UP, ap.number(), 0), 0)
    }),
    case(
        "vcpu_start/down_answer",
        "A vCPU that took itself down sees 0 when it is up again.",
        |t| {
            worker(t)?.run(NOTHING, &Registers::new())?;
            equal("answer", ap::down_answer(), 0)
        },
    ),
    case("vcpu_start/up_for_one_down", "One up ends one down, however many came before.", |t| {
        let ap = worker(t)?;
        let mut registers = Registers::new();
        (registers.rbx, registers.rsi) = (ap::page(), ap.number());
        ap.start(DOWN_ONCE, &registers)?;
        ap.wait()?;
        let first = peek(ap::page());
        equal("up", vcpu_op(UP, ap.number(), 0), 0)?;
        ap.finish()?;
        equal("first", first, 1)?;
        equal("second", peek(ap::page()), 2)
    }),
    case("vcpu_start/physid_bound", "The CPU's numbers of vCPU 0, bound to a CPU, are 0.", |_| {
        poke(arena_address(), 0x5555);
        equal("answer", vcpu_op(GET_PHYSID, 0, arena_address()), 0)?;
        equal("numbers", peek(arena_address()), 0)
    }),
    case(
        "vcpu_start/physid_beyond",
        "vCPUs bound to a CPU, but beyond the machine's CPUs, have all ones there.",
        |_| {
            for vcpu in cpus()?..VCPUS {
                equal_at("answer for vCPU", vcpu, vcpu_op(GET_PHYSID, vcpu, arena_address()), 0)?;
                equal_at("numbers of vCPU", vcpu, peek(arena_address()), u64::MAX)?;
            }
            Ok(())
        },
    ),
    case(
        "vcpu_start/physid_pointer",
        "Numbers of a vCPU that is bound, which cannot be written: EFAULT.",
        |_| {
            for pointer in [0, 0x1000, M2P] {
                equal_at("answer for", pointer, vcpu_op(GET_PHYSID, 0, pointer), EFAULT)?;
            }
            Ok(())
        },
    ),
    case("vcpu_start/physid_free", "A vCPU that may run on several CPUs: EINVAL.", |_| {
        if cpus()? == 1 {
            return Err(Verdict::Skip("the machine has one CPU"));
        }
        for pointer in [0, arena_address()] {
            equal_at("answer for", pointer, vcpu_op(GET_PHYSID, 0, pointer), EINVAL)?;
        }
        Ok(())
    }),
    case("vcpu_start/nmi_pointer", "An NMI with a pointer: EINVAL.", |_| {
        equal("answer", vcpu_op(SEND_NMI, NEVER, arena_address()), EINVAL)
    }),
    ends_guest(
        "vcpu_start/user_root",
        "Bad page tables of user mode: EINVAL, and the descriptors are free.",
        |t| {
            with(t, |[a, b, c, ..]| {
                duplicate(t, a)?;
                b.protect()?;
                for root in [c.ma(), free_frame() << 12] {
                    let changes = [
                        (at::CONTROL + 24, a.ma()),
                        (at::CONTROL + 8, root),
                        (at::GDT_FRAMES, b.mfn),
                        (at::GDT_ENTRIES, 512),
                    ];
                    refused(t, &changes, EINVAL)?;
                }
                b.is_free()?;
                power_off(t)
            })
        },
    ),
    ends_guest(
        "vcpu_start/last_down",
        "When the last vCPU takes itself down, power is off.",
        |t| t.end("poweroff", snippets::SYSCALL, &mut crate::call::registers(VCPU_OP, &[DOWN, 0])),
    ),
];

/// Refuses vCPU 3 a context that differs by some words; it is as before then.
fn refused(t: &Test<'_>, changes: &[(usize, u64)], answer: i64) -> Outcome {
    equal("answer", initialise(t, NEVER, changes), answer)?;
    equal("up", vcpu_op(UP, NEVER, 0), EINVAL)
}
