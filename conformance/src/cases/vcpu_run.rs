//! What several vCPUs on one CPU keep for themselves, and what one sees of another.

use crate::call::{SCHED_OP, SET_DEBUGREG, SET_SEGMENT_BASE, XEN_VERSION, hypercall};
use crate::case::{Case, Outcome, Test, Verdict, case, ends_guest, equal, equal_at, holds};
use crate::clock::{MS, clock};
use crate::raw::ap_snippets::{
    BASES, LIMIT, LOAD_SEGMENTS, NULL_SELECTORS, PUSH_YIELD, RDTSC, READ_DEBUG, SET_CR4, SPIN,
    STORE, SYSCALL, UD2, WATCH, X87, YIELD, first,
};
use crate::raw::memory::{arena_address, peek, peek_byte, poke};
use crate::raw::pages_calls::{
    FLUSH_ALL, FLUSH_MULTI, INVLPG_ALL, INVLPG_MULTI, NEW_BASEPTR, SET_GDT, SET_LDT,
    UPDATE_DESCRIPTOR, mmuext, update, update_va,
};
use crate::raw::pages_scratch::{LOADED, Page, duplicate, with};
use crate::raw::pages_segments::{NO_SEGMENT, limit};
use crate::raw::{FxArea, Registers, ap, run, snippets};
use crate::vcpus::{Ap, FAILSAFE, info_of, worker, yields};

const MMUEXT_OP: u64 = 26;
/// A flat data segment of ring 3, as a guest writes it.
const DATA: u64 = 0x00cf_f300_0000_ffff;
/// A slot of a top-level table that is not in use.
const ELSEWHERE: u64 = 300;
/// Where in vCPU 1's page arguments of its calls lie.
const ARGUMENTS: u64 = 1024;

pub(crate) const CASES: &[Case] = &[
    case("vcpu_run/call", "Another vCPU makes hypercalls as the first does.", |t| {
        let ap = worker(t)?;
        equal("answer", ap.call(XEN_VERSION, &[0])?, 0x4_0011)?;
        equal("answer", ap.call(XEN_VERSION, &[7])?, 4096)
    }),
    case("vcpu_run/yield", "yield lets another vCPU run that wants to.", |t| {
        let ap = worker(t)?.spin()?;
        // One that had the processor for long, while another program did, waits for its turn then: the best
        // of many counts.
        let mut best = 0;
        for _ in 0..50 {
            let before = peek(ap::page());
            yields(100);
            best = best.max(peek(ap::page()) - before);
        }
        ap.stop()?;
        holds("counted", best, "at least 10 in 100 yields", best >= 10)
    }),
    case("vcpu_run/slices", "vCPUs that never call the hypervisor take turns.", |t| {
        let (c, ap) = (clock(t)?, worker(t)?);
        poke(ap::page(), 0);
        poke(ap::page() + 8, 0);
        let mut registers = Registers::new();
        registers.rbx = ap::page();
        ap.start(SPIN, &registers)?;
        let limit = c.now() + 5000 * MS;
        let mut turns = 0;
        let mut last = 0;
        while turns < 3 && c.now() < limit {
            let counted = peek(ap::page());
            turns += u64::from(counted != last);
            last = counted;
        }
        ap.stop()?;
        equal("turns of the other", turns, 3)
    }),
    case("vcpu_run/general", "General registers and flags stay a vCPU's own.", |t| {
        let (other, first) = side_by_side(t)?;
        equal("other's rbp", other.rbp, 0x1111_0000_0000_0001)?;
        equal("first's rbp", first.rbp, 0x2222_0000_0000_0002)?;
        equal("other's r12 to r15", other.high[4..] == [0x1111_0000_0000_0001; 4], true)?;
        equal("first's r12 to r15", first.high[4..] == [0x2222_0000_0000_0002; 4], true)?;
        equal("other's direction", other.rflags & 0x400, 0x400)?;
        equal("first's direction", first.rflags & 0x400, 0)
    }),
    case("vcpu_run/fpu", "FPU and SSE registers and control words stay a vCPU's own.", |t| {
        let (other, first) = side_by_side(t)?;
        for (place, registers) in [(1, other), (2, first)] {
            let expected = pattern(place);
            let kept = (0..5).chain(24..28).chain(32..416);
            let changed = kept.into_iter().find(|&at| registers.fx.0[at] != expected.0[at]);
            equal_at("first changed byte of", place.into(), changed.unwrap_or(416), 416)?;
        }
        Ok(())
    }),
    case("vcpu_run/task_switched", "CR0.TS is a vCPU's own.", |t| {
        let ap = worker(t)?;
        // Behind the call the first FPU instruction is the one that saves the registers. Here it
        // would be a fault without a handler.
        equal("switch", ap.call(5, &[1])?, 0)?;
        run(snippets::NOTHING, &mut Registers::new());
        equal("vector", caught_vector(), 7)?;
        ap.run(X87, &Registers::new())?;
        equal("again", ap::caught().is_some(), false)
    }),
    case("vcpu_run/debug", "Debug registers are a vCPU's own, and are in force.", |t| {
        let ap = worker(t)?;
        equal("address", ap.call(SET_DEBUGREG, &[0, ap::page()])?, 0)?;
        equal("control", ap.call(SET_DEBUGREG, &[7, 0x000d_0401])?, 0)?;
        // The first vCPU's would trap here, without a handler.
        poke(ap::page(), 1);
        let mut registers = Registers::new();
        registers.rsi = ap::page();
        ap.run(STORE, &registers)?;
        let vector = caught_vector();
        let read = ap.run(READ_DEBUG, &Registers::new())?;
        equal("control", ap.call(SET_DEBUGREG, &[7, 0])?, 0)?;
        equal("status", ap.call(SET_DEBUGREG, &[6, 0])?, 0)?;
        equal("vector", vector, 1)?;
        equal("its address", read.rax, ap::page())?;
        equal("its control", read.rbx, 0x000d_0401)?;
        equal("first's control", hypercall(9, &[7]).cast_unsigned() & 0xff, 0)
    }),
    case("vcpu_run/bases", "Segment bases are a vCPU's own.", |t| {
        let ap = worker(t)?;
        let bases = [0x1111_0000, 0x3333_0000, 0x2222_0000];
        for (which, base) in (0..).zip(bases) {
            equal_at("set base", which, ap.call(SET_SEGMENT_BASE, &[which, base])?, 0)?;
            equal_at("own base", which, hypercall(SET_SEGMENT_BASE, &[which, 0]), 0)?;
        }
        yields(10);
        let read = ap.run(BASES, &Registers::new())?;
        for which in 0..3 {
            equal_at("clear base", which, ap.call(SET_SEGMENT_BASE, &[which, 0])?, 0)?;
        }
        equal("fs", read.rbx, bases[0])?;
        equal("gs", read.rdi, bases[2])?;
        equal("user mode's gs", read.rsi, bases[1])
    }),
    case("vcpu_run/cr4", "CR4 is a vCPU's own; TSD forbids the counter to user mode alone.", |t| {
        let ap = worker(t)?;
        let mut registers = Registers::new();
        run(snippets::READ_CR4, &mut registers);
        let before = registers.rax;
        registers.rbx = 4;
        let other = ap.run(SET_CR4, &registers)?.rax;
        yields(10);
        ap.run(RDTSC, &Registers::new())?;
        let vector = caught_vector();
        registers.rbx = 0;
        let later = ap.run(SET_CR4, &registers)?.rax;
        run(snippets::READ_CR4, &mut registers);
        equal("first's", registers.rax, before)?;
        equal("other's", other, before | 4)?;
        equal("other's later", later, before)?;
        equal("vector", vector, 999)
    }),
    case("vcpu_run/gdt", "Descriptor tables are a vCPU's own, segments stay loaded.", |t| {
        with_segments(t, |ap, _| {
            let mut registers = Registers::new();
            (registers.rax, registers.rbx) = (0x0b, 20);
            let read = ap.run(LOAD_SEGMENTS, &registers)?;
            equal("handlers", ap::caught().is_some(), false)?;
            equal("ds", read.rcx, 0x0b)?;
            equal("first's segment", limit(0x0b), NO_SEGMENT)?;
            registers.rcx = 0x0b;
            equal("other's segment", ap.run(LIMIT, &registers)?.rax, 0xffff_ffff)
        })
    }),
    case("vcpu_run/ldt", "Local descriptor tables are a vCPU's own.", |t| {
        let ap = worker(t)?;
        with(t, |[a, ..]| {
            a.set(1, DATA);
            a.protect()?;
            equal("set", ext(ap, SET_LDT, a.va, 2)?, 0)?;
            equal("first's segment", limit(0x0f), NO_SEGMENT)?;
            yields(10);
            let mut registers = Registers::new();
            registers.rcx = 0x0f;
            let there = ap.run(LIMIT, &registers)?.rax;
            equal("remove", ext(ap, SET_LDT, 0, 0)?, 0)?;
            equal("other's segment", there, 0xffff_ffff)
        })
    }),
    case("vcpu_run/tables", "The page tables in use are a vCPU's own.", |t| {
        let ap = worker(t)?;
        with(t, |[a, ..]| {
            let root = duplicate(t, a)?;
            equal("pin", crate::raw::pages_calls::pin(4, a.mfn), 0)?;
            equal("new", ext(ap, NEW_BASEPTR, a.mfn, 0)?, 0)?;
            yields(10);
            let read = ap.run(crate::raw::ap_snippets::READ_CR3, &Registers::new())?.rax;
            let mut registers = Registers::new();
            run(snippets::READ_CR3, &mut registers);
            equal("back", ext(ap, NEW_BASEPTR, root, 0)?, 0)?;
            equal("other's", read, a.ma())?;
            equal("first's", registers.rax, root << 12)
        })
    }),
    case("vcpu_run/own_mapping", "What a vCPU's tables alone map is there for it.", |t| {
        let ap = worker(t)?;
        with(t, |[a, ..]| {
            let root = duplicate(t, a)?;
            equal("writable", a.map(LOADED), 0)?;
            // A table of both is at another place of the second one's, too.
            a.set(ELSEWHERE, a.get(ap::page() >> 39 & 511));
            a.protect()?;
            equal("pin", crate::raw::pages_calls::pin(4, a.mfn), 0)?;
            equal("new", ext(ap, NEW_BASEPTR, a.mfn, 0)?, 0)?;
            yields(10);
            // The processor has the first one's now, whatever it had before.
            equal("first's anew", mmuext(NEW_BASEPTR, root, 0), 0)?;
            poke(ap::page(), 0);
            let mut registers = Registers::new();
            registers.rsi = 0xffff << 48 | ELSEWHERE << 39 | ap::page() & ((1 << 39) - 1);
            registers.rax = 0x77;
            ap.run(STORE, &registers)?;
            let vector = caught_vector();
            equal("back", ext(ap, NEW_BASEPTR, root, 0)?, 0)?;
            equal("vector", vector, 999)?;
            equal("stored", peek(ap::page()), 0x77)
        })
    }),
    case("vcpu_run/flush", "After a flush for a vCPU it sees a page that another mapped.", |t| {
        flushed(t, |window, _| {
            equal("flush", mmuext(FLUSH_MULTI, 0, mask(2)), 0)?;
            let _ = window;
            Ok(())
        })
    }),
    case("vcpu_run/flush_all", "After a flush for all it does.", |t| {
        flushed(t, |_, _| equal("flush", mmuext(FLUSH_ALL, 0, 0), 0))
    }),
    case("vcpu_run/invlpg", "After a flush of the page for a vCPU it does.", |t| {
        flushed(t, |window, _| equal("flush", mmuext(INVLPG_MULTI, window.va, mask(3)), 0))
    }),
    case("vcpu_run/invlpg_all", "After a flush of the page for all it does.", |t| {
        flushed(t, |window, _| equal("flush", mmuext(INVLPG_ALL, window.va, 0), 0))
    }),
    case("vcpu_run/va_all", "update_va_mapping flushes for all vCPUs, if asked.", |t| {
        flushed(t, |window, new| {
            equal("all", update_va(window.va, new, 2 | 4), 0)?;
            equal("by mask", update_va(window.va, new, 2 | mask(2)), 0)?;
            equal("everything", update_va(window.va, new, 1 | 4), 0)
        })
    }),
    case("vcpu_run/unmapped", "A page that one vCPU unmaps is gone for another.", |t| {
        let ap = worker(t)?;
        with(t, |[a, ..]| {
            let mut registers = Registers::new();
            registers.rsi = a.va;
            ap.start(WATCH, &registers)?;
            yields(10);
            equal("unmap", update_va(a.va, 0, 2 | 4), 0)?;
            ap.wait()?;
            equal("vector", caught_vector(), 14)?;
            equal("address", peek(info_of(t, 1)? + 16), a.va)?;
            equal("error code", ap::caught().map_or(0, |caught| caught.words[2]), 0)
        })
    }),
    case(
        "vcpu_run/failsafe",
        "A vCPU whose ds became bad goes on in its failsafe callback.",
        |t| {
            with_segments(t, |ap, table| {
                let registers = loading([0x0b, 0, 0, 0]);
                ap.start(YIELD, &registers)?;
                ap.turns()?;
                equal("update", hypercall(UPDATE_DESCRIPTOR, &[table.place(1), 0]), 0)?;
                ap.wait()?;
                failsafe_frame([0x0b, 0, 0, 0])?;
                equal("mask", peek_byte(info_of(t, 1)? + 1), 1)
            })
        },
    ),
    case(
        "vcpu_run/failsafe_all",
        "It is called once, with all four selectors as they were.",
        |t| {
            with_segments(t, |ap, table| {
                ap.start(YIELD, &loading([0x0b, 0x13, 0x1b, 0x23]))?;
                ap.turns()?;
                for index in 1..5 {
                    let answer = hypercall(UPDATE_DESCRIPTOR, &[table.place(index), 0]);
                    equal_at("update", index, answer, 0)?;
                }
                ap.wait()?;
                failsafe_frame([0x0b, 0x13, 0x1b, 0x23])?;
                equal("count", ap::caught().map_or(0, |caught| caught.count), 1)
            })
        },
    ),
    case(
        "vcpu_run/failsafe_null",
        "Behind it the bad selectors are null, the good ones stay.",
        |t| {
            with_segments(t, |ap, table| {
                ap.start(YIELD, &loading([0x0b, 0x13, 0x1b, 0x23]))?;
                ap.turns()?;
                equal("update", hypercall(UPDATE_DESCRIPTOR, &[table.place(2), 0]), 0)?;
                ap.wait()?;
                failsafe_frame([0x0b, 0x13, 0x1b, 0x23])?;
                let now = ap.run(crate::raw::ap_snippets::SELECTORS, &Registers::new())?;
                equal("ds", now.rax, 0x0b)?;
                equal("es", now.rbx, 0)?;
                equal("fs", now.rcx, 0x1b)?;
                equal("gs", now.rdx, 0x23)
            })
        },
    ),
    case("vcpu_run/failsafe_stack", "Its frame ends at a multiple of 16.", |t| {
        with_segments(t, |ap, table| {
            ap.start(PUSH_YIELD, &loading([0x0b, 0, 0, 0]))?;
            yields(20);
            equal("update", hypercall(UPDATE_DESCRIPTOR, &[table.place(1), 0]), 0)?;
            ap.wait()?;
            let Some(caught) = ap::caught() else {
                return equal("the vCPU", "goes on", "traps");
            };
            equal("handler", caught.vector, FAILSAFE)?;
            equal("rsp", caught.words[9], ap::stack_end() - 8)?;
            equal("frame", caught.at, ap::stack_end() - 16 - 88)
        })
    }),
    ends_guest("vcpu_run/shutdown", "Any vCPU's shutdown is the domain's.", |t| {
        let ap = worker(t)?;
        pv_guest_sdk::println!("ends {} poweroff", t.name);
        poke(ap::page() + ARGUMENTS, 0);
        let call = [2, ap::page() + ARGUMENTS];
        ap.start(SYSCALL, &crate::call::registers(SCHED_OP, &call))?;
        yields(100_000);
        equal("the guest", "goes on", "ends")
    }),
    ends_guest("vcpu_run/crash", "Any vCPU's crash is the domain's.", |t| {
        let ap = worker(t)?;
        equal("set_trap_table", ap.call(0, &[0])?, 0)?;
        pv_guest_sdk::println!("ends {} crash {:016x}", t.name, UD2.address());
        ap.start(UD2, &Registers::new())?;
        yields(100_000);
        equal("the guest", "goes on", "ends")
    }),
];

/// The number of the handler that ran on vCPU 1, or 999.
fn caught_vector() -> u64 {
    ap::caught().map_or(999, |caught| caught.vector)
}

/// FPU registers that tell vCPUs apart.
fn pattern(seed: u8) -> FxArea {
    let mut area = FxArea::clean();
    area.0[..5].copy_from_slice(&[0x7f, 0x02 * seed, 0, 0, 0xff]);
    area.0[24..26].copy_from_slice(&[0x80, 0x1f + 0x20 * seed]);
    for (place, byte) in (0..).zip(&mut area.0[32..416]) {
        *byte = seed.wrapping_mul(place);
    }
    for register in area.0[32..160].chunks_exact_mut(16) {
        register[10..].fill(0);
    }
    area
}

/// Lets vCPU 1 and vCPU 0 yield to each other, with different registers; those of both behind it.
fn side_by_side(t: &Test<'_>) -> Result<(Registers, Registers), Verdict> {
    let ap = worker(t)?;
    let registers = |seed: u8| {
        let mut registers = Registers::new();
        let word = 0x1111_0000_0000_0001 * u64::from(seed);
        registers.rbx = 200;
        registers.rbp = word;
        registers.high = [word; 8];
        registers.fx = pattern(seed);
        registers
    };
    let mut other = registers(1);
    other.rflags = 0x602;
    ap.start(YIELD, &other)?;
    let mut first = registers(2);
    run(first::YIELD, &mut first);
    Ok((ap.finish()?, first))
}

/// Makes `mmuext_op` of one operation on vCPU 1; the answer.
fn ext(ap: Ap, command: u64, first: u64, second: u64) -> Result<i64, Verdict> {
    let at = ap::page() + ARGUMENTS;
    for (place, word) in (0..).zip([command, first, second]) {
        poke(at + 8 * place, word);
    }
    ap.call(MMUEXT_OP, &[at, 1, 0, 0x7ff0])
}

/// A mask of vCPUs, in the arena behind the arguments.
fn mask(vcpus: u64) -> u64 {
    poke(arena_address() + 512, vcpus);
    arena_address() + 512
}

/// Maps another page where vCPU 1 reads again and again, and flushes by `flush`, which gets the
/// window and its new entry. vCPU 1 must then see the other page.
fn flushed(t: &Test<'_>, flush: impl FnOnce(Page, u64) -> Outcome) -> Outcome {
    let ap = worker(t)?;
    with(t, |[a, b, ..]| {
        a.set(0, 0);
        b.set(0, 0x77);
        let mut registers = Registers::new();
        (registers.rsi, registers.rdx) = (a.va, 1_000_000);
        ap.start(WATCH, &registers)?;
        yields(10);
        equal("map", update(a.slot, b.entry(LOADED)), 0)?;
        flush(a, b.entry(LOADED))?;
        equal("seen", ap.finish()?.rax, 0x77)
    })
}

/// Runs `body` while vCPU 1 has a table of four data segments; its selectors are null behind it.
fn with_segments(t: &Test<'_>, body: impl FnOnce(Ap, Page) -> Outcome) -> Outcome {
    let ap = worker(t)?;
    with(t, |[a, ..]| {
        (1..5).for_each(|index| a.set(index, DATA));
        a.protect()?;
        poke(ap::page() + ARGUMENTS, a.mfn);
        equal("set_gdt", ap.call(SET_GDT, &[ap::page() + ARGUMENTS, 512])?, 0)?;
        let outcome = body(ap, a);
        ap.run(NULL_SELECTORS, &Registers::new())?;
        equal("removing descriptors", ap.call(SET_GDT, &[0, 0])?, 0)?;
        outcome
    })
}

/// Registers with which a snippet loads ds, es, fs and gs, and yields as long as it can.
fn loading(selectors: [u64; 4]) -> Registers {
    let mut registers = Registers::new();
    registers.rbx = 1_000_000;
    registers.high[4..].copy_from_slice(&selectors);
    registers
}

/// Checks the frame that the failsafe callback of vCPU 1 got within [`YIELD`].
fn failsafe_frame(selectors: [u64; 4]) -> Outcome {
    let Some(caught) = ap::caught() else {
        return equal("the vCPU", "goes on", "traps");
    };
    equal("handler", caught.vector, FAILSAFE)?;
    let [rcx, r11, ds, es, fs, gs, rip, cs, rflags, rsp, ss, ..] = caught.words;
    for (place, (seen, expected)) in (0..).zip([ds, es, fs, gs].into_iter().zip(selectors)) {
        equal_at("selector", place, seen, expected)?;
    }
    equal("rip", rip, YIELD.address() + crate::raw::ap_snippets::YIELD_CALL)?;
    equal("rcx", rcx, rip)?;
    equal("cs, mask", cs, 0x1_0000_e030)?;
    equal("rflags, interrupts", rflags & 0x200, 0)?;
    equal("r11, interrupts", r11 & 0x200, 0x200)?;
    equal("rsp", rsp, ap::stack_end())?;
    equal("ss", ss, 0xe02b)?;
    equal("frame", caught.at, ap::stack_end() - 88)
}
