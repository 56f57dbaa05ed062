//! What a vCPU finds at its first instruction, and what else its context has set.

use crate::call::EBUSY;
use crate::case::{Case, Outcome, Test, Verdict, case, ends_guest, equal, equal_at};
use crate::raw::ap_snippets::{IN_80, NOTHING, NULL_SELECTORS, UD2, USER_CALL, X87};
use crate::raw::memory::{arena_address, peek_byte, poke_byte};
use crate::raw::pages_calls::{SET_GDT, update_va};
use crate::raw::pages_scratch::{duplicate, with};
use crate::raw::{ApState, FxArea, Registers, ap, snippets};
use crate::tables::{frame_of, top, walk};
use crate::vcpus::{
    Ap, DOWN, FPU_VALID, IN_KERNEL, IS_UP, ONLINE, SYSTEM_CALL, UP, at, info_of, initialise,
    power_off, vcpu_op, worker, yields,
};

/// Flat segments as a guest writes them: code and data of ring 3.
const CODE: u64 = 0x00af_fb00_0000_ffff;
const DATA: u64 = 0x00cf_f300_0000_ffff;
/// Bases that tell each other apart.
const BASES: [u64; 3] = [0x1111_2000, 0x7777_0000_3000, 0x3333_4000];
/// A breakpoint on writes of eight bytes, the first one's.
const BREAKPOINT: u64 = 0x000d_0401;
/// Where the last page fault was, says the context.
const FAULT_ADDRESS: u64 = 0x1234_5678_9abc;
/// All arithmetic flags, DF, NT, AC, ID, and privilege for ports; IF is clear.
const FLAGS: u64 = 0x24_7cd5;
/// Where the general registers of an [`ApState`] lie in a context.
const ORDER: [usize; 16] = [10, 5, 11, 12, 13, 14, 4, 0, 9, 8, 7, 6, 3, 2, 1, 0];
const RSP: usize = 7;

/// All cases.
pub(crate) const CASES: &[Case] = &[
    case("vcpu_entry/zeros", "General registers start with the context's zeros.", |t| {
        let state = plain(t)?;
        for (place, value) in (0..).zip(state.general) {
            let expected = if place == RSP as u64 { ap::stack_end() } else { 0 };
            equal_at("register", place, value, expected)?;
        }
        Ok(())
    }),
    case("vcpu_entry/flags", "Flags of 0 become 202: interrupts are on.", |t| {
        equal("rflags", plain(t)?.rflags, 0x202)
    }),
    case("vcpu_entry/selectors", "Selectors start as in the context, null too.", |t| {
        for (place, (seen, expected)) in
            (0..).zip(plain(t)?.selectors.into_iter().zip([0xe033, 0xe02b, 0, 0, 0, 0]))
        {
            equal_at("selector", place, seen, expected)?;
        }
        Ok(())
    }),
    case("vcpu_entry/bases", "Segment bases of 0 start as 0.", |t| {
        for (place, base) in (0..).zip(plain(t)?.bases) {
            equal_at("base", place, base, 0)?;
        }
        Ok(())
    }),
    case(
        "vcpu_entry/fpu_reset",
        "Without FPU state in the context, FPU and SSE are as a reset leaves them.",
        |t| fpu(&plain(t)?, &FxArea::clean()),
    ),
    case("vcpu_entry/debug_reset", "Debug registers of 0 start as a reset leaves them.", |t| {
        for (place, (seen, expected)) in
            (0..).zip(plain(t)?.debug.into_iter().zip([0, 0, 0, 0, 0xffff_0ff0, 0x400]))
        {
            equal_at("debug register", place, seen, expected)?;
        }
        Ok(())
    }),
    case("vcpu_entry/control", "CR0 and CR4 are as the first vCPU's, CR3 is the context's.", |t| {
        let [cr0, cr2, cr3, cr4] = plain(t)?.control;
        equal("cr0", cr0, control(snippets::READ_CR0))?;
        equal("cr2", cr2, 0)?;
        equal("cr3", cr3, frame_of(t.boot, top(t.boot)) << 12)?;
        equal("cr4", cr4, control(snippets::READ_CR4))
    }),
    case("vcpu_entry/mask", "The event mask stays as it was: set, since the domain began.", |t| {
        worker(t)?;
        for vcpu in 0..32 {
            equal_at("mask of vCPU", vcpu, peek_byte(info_of(t, vcpu)? + 1).into(), 1_u64)?;
        }
        Ok(())
    }),
    case("vcpu_entry/general", "General registers start as in the context.", |t| {
        let state = full(t)?;
        for (place, (seen, index)) in (0..).zip(state.general.into_iter().zip(ORDER)) {
            let expected = if place == RSP as u64 { ap::stack_end() - 24 } else { general(index) };
            equal_at("register", place, seen, expected)?;
        }
        Ok(())
    }),
    case("vcpu_entry/all_flags", "Flags start as in the context, with IF set, IOPL 0.", |t| {
        equal("rflags", full(t)?.rflags, FLAGS & !0x3000 | 0x202)
    }),
    case("vcpu_entry/own_segments", "cs and ss get privilege 3, the others keep theirs.", |t| {
        for (place, (seen, expected)) in
            (0..).zip(full(t)?.selectors.into_iter().zip([0x0b, 0x13, 0x13, 0x10, 0x12, 0x11]))
        {
            equal_at("selector", place, seen, expected)?;
        }
        Ok(())
    }),
    case("vcpu_entry/all_bases", "Bases start as in the context, selectors or not.", |t| {
        for (place, (seen, expected)) in (0..).zip(full(t)?.bases.into_iter().zip(BASES)) {
            equal_at("base", place, seen, expected)?;
        }
        Ok(())
    }),
    case("vcpu_entry/fpu", "With FPU state in the context, it starts like that.", |t| {
        fpu(&full(t)?, &pattern())
    }),
    case(
        "vcpu_entry/debug",
        "Debug registers start as in the context, but for addresses that are not the guest's.",
        |t| {
            let expected = [arena_address(), 0x1000, 0, 0, 0xffff_0ff1, BREAKPOINT];
            for (place, (seen, expected)) in (0..).zip(full(t)?.debug.into_iter().zip(expected)) {
                equal_at("debug register", place, seen, expected)?;
            }
            Ok(())
        },
    ),
    case("vcpu_entry/cr4", "CR4 starts with what of the context a guest may set.", |t| {
        equal("cr4", full(t)?.control[3], control(snippets::READ_CR4) | 8)
    }),
    case("vcpu_entry/cr2", "CR2 starts as in the context.", |t| {
        equal("cr2", full(t)?.control[1], FAULT_ADDRESS)
    }),
    case("vcpu_entry/cr0", "CR0 starts without what of the context no guest may change.", |t| {
        equal("cr0", full(t)?.control[0], control(snippets::READ_CR0))
    }),
    case(
        "vcpu_entry/gdtr",
        "SGDT shows a table of each vCPU's own, as long as the first's.",
        |t| {
            let (one, two) = (plain(t)?.gdtr, full(t)?.gdtr);
            equal("limit", one[0] & 0xffff, 0xefff)?;
            equal("limit", two[0] & 0xffff, 0xefff)?;
            equal("same", one == two, false)
        },
    ),
    case(
        "vcpu_entry/traps",
        "Handlers are at the place of their vector, whatever number the entry has.",
        |t| {
            full(t)?;
            let ap = Ap::with_context(t, 2, &[])?;
            ap.run(UD2, &Registers::new())?;
            let caught = ap::caught().map_or(999, |caught| caught.vector);
            equal("vector", caught, 6)
        },
    ),
    case("vcpu_entry/trap_masks", "A handler whose entry masks events does.", |t| {
        full(t)?;
        let ap = Ap::with_context(t, 2, &[])?;
        let mask = info_of(t, 2)? + 1;
        poke_byte(mask, 0);
        ap.run(UD2, &Registers::new())?;
        let now = peek_byte(mask);
        poke_byte(mask, 1);
        equal("mask", now, 1)
    }),
    case("vcpu_entry/ports_refused", "A context with IOPL 0 has no right to ports: #GP.", |t| {
        worker(t)?.run(IN_80, &Registers::new())?;
        equal("vector", ap::caught().map_or(999, |caught| caught.vector), 13)
    }),
    case("vcpu_entry/ports", "A context with IOPL from 1 on has it.", |t| {
        full(t)?;
        Ap::with_context(t, 2, &[])?.run(IN_80, &Registers::new())?;
        equal("vector", ap::caught().map_or(999, |caught| caught.vector), 999)
    }),
    ends_guest(
        "vcpu_entry/online",
        "A context may say that its vCPU is up: no up starts it then, but a down and an up.",
        |t| {
            equal("answer", initialise(t, 1, &[(at::FLAGS, IN_KERNEL | ONLINE)]), 0)?;
            ap::prepare(1);
            equal("is up", vcpu_op(IS_UP, 1, 0), 1)?;
            yields(1000);
            equal("up", vcpu_op(UP, 1, 0), 0)?;
            yields(1000);
            equal("ran", ap::state(1).rflags != 0, false)?;
            equal("down", vcpu_op(DOWN, 1, 0), 0)?;
            equal("up", vcpu_op(UP, 1, 0), 0)?;
            yields(1000);
            equal("ran at last", ap::state(1).rflags != 0, true)?;
            power_off(t)
        },
    ),
    ends_guest(
        "vcpu_entry/user",
        "A context without the kernel's flag starts in user mode, on its page tables.",
        |t| {
            let root = frame_of(t.boot, top(t.boot)) << 12;
            let changes = [
                (at::FLAGS, 0),
                (at::CONTROL + 8, root),
                (at::RIP, USER_CALL.address()),
                (at::RSP, ap::page() + 4096),
                (at::GS_BASE, BASES[1]),
                (at::USER_GS_BASE, BASES[2]),
            ];
            let ap = Ap::with_context(t, 1, &changes)?;
            let caught = ap::caught().map_or((999, 0, [0; 14]), |c| (c.vector, c.at, c.words));
            equal("vector", caught.0, SYSTEM_CALL)?;
            equal("frame", caught.1, ap::stack_end() - 56)?;
            equal("rip", caught.2[2], USER_CALL.address() + 2)?;
            equal("cs", caught.2[3], 0x1_0000_e033)?;
            equal("rsp", caught.2[5], ap::page() + 4096)?;
            ap.run(NOTHING, &Registers::new())?;
            power_off(t)
        },
    ),
    ends_guest("vcpu_entry/switched", "A context with CR0.TS starts with it: #NM.", |t| {
        let ap = Ap::with_context(t, 1, &[(at::CONTROL, 8), (at::RIP, X87.address())])?;
        equal("vector", ap::caught().map_or(999, |caught| caught.vector), 7)?;
        ap.run(X87, &Registers::new())?;
        equal("again", ap::caught().is_some(), false)?;
        power_off(t)
    }),
    ends_guest(
        "vcpu_entry/unpinned",
        "Page tables that are not pinned are checked then, and are held.",
        |t| {
            with(t, |[a, ..]| {
                duplicate(t, a)?;
                let ap = Ap::with_context(t, 1, &[(at::CONTROL + 24, a.ma())])?;
                equal("cr3", ap::state(1).control[2], a.ma())?;
                a.is_held(EBUSY)?;
                ap.run(NOTHING, &Registers::new())?;
                power_off(t)
            })
        },
    ),
    ends_guest("vcpu_entry/ldt", "A context's local table is there at once.", |t| {
        with(t, |[a, ..]| {
            a.set(1, DATA);
            a.protect()?;
            let changes = [(at::LDT_BASE, a.va), (at::LDT_ENTRIES, 2), (at::DS, 0x0f)];
            Ap::with_context(t, 1, &changes)?;
            equal("ds", ap::state(1).selectors[2], 0x0f)?;
            power_off(t)
        })
    }),
];

/// What vCPU 1 found.
fn plain(t: &Test<'_>) -> Result<ApState, Verdict> {
    worker(t)?;
    Ok(ap::state(1))
}

/// What vCPU 2 found, whose context has everything. Its descriptors are gone again.
fn full(t: &Test<'_>) -> Result<ApState, Verdict> {
    if ap::state(2).rflags == 0 {
        start_full(t)?;
    }
    Ok(ap::state(2))
}

fn start_full(t: &Test<'_>) -> Outcome {
    let va = ap::page() + 4096;
    let entry = walk(t.boot, 1, va).unwrap_or(0);
    crate::raw::memory::poke(va + 8, CODE);
    crate::raw::memory::poke(va + 16, DATA);
    equal("descriptors read-only", update_va(va, entry & !2, 2), 0)?;
    let mut changes = [(at::FLAGS, IN_KERNEL | FPU_VALID); 15 + 64 + 25];
    let mut rest = changes.iter_mut();
    let mut put = |offset, word| {
        if let Some(place) = rest.next() {
            *place = (offset, word);
        }
    };
    (0..15).for_each(|index| put(at::GENERAL + 8 * index, general(index)));
    for (place, word) in pattern().0.chunks_exact(8).enumerate() {
        put(at::FPU + 8 * place, word.iter().rev().fold(0, |w, &b| w << 8 | u64::from(b)));
    }
    let others = [
        (at::CS, 0x08),
        (at::SS, 0x10),
        (at::DS, 0x13),
        (at::ES, 0x10),
        (at::FS, 0x12),
        (at::GS, 0x11),
        (at::RSP, ap::stack_end() - 24),
        (at::RFLAGS, FLAGS),
        (at::GDT_FRAMES, (entry >> 12) & 0xff_ffff_ffff),
        (at::GDT_ENTRIES, 512),
        (at::CONTROL, 0x7000_0000),
        (at::CONTROL + 16, FAULT_ADDRESS),
        (at::CONTROL + 32, 8),
        (at::DEBUG, arena_address()),
        (at::DEBUG + 8, 0x1000),
        (at::DEBUG + 16, crate::tables::M2P),
        (at::DEBUG + 48, 1),
        (at::DEBUG + 56, BREAKPOINT),
        (at::FS_BASE, BASES[0]),
        (at::GS_BASE, BASES[1]),
        (at::USER_GS_BASE, BASES[2]),
        (at::TRAPS + 6 * 16, 99 | 4 << 8 | 0x08 << 16),
    ];
    others.into_iter().for_each(|(offset, word)| put(offset, word));
    let ap = Ap::with_context(t, 2, &changes)?;
    ap.run(NULL_SELECTORS, &Registers::new())?;
    equal("removing descriptors", ap.call(SET_GDT, &[0, 0])?, 0)?;
    equal("removing the breakpoint", ap.call(8, &[7, 0])?, 0)?;
    equal("descriptors writable", update_va(va, entry, 2), 0)
}

/// What a general register of the full context holds.
const fn general(index: usize) -> u64 {
    0x0101_0101_0000_0000 * (index as u64 + 1) + index as u64
}

/// FPU and SSE registers, each byte different from its neighbours.
fn pattern() -> FxArea {
    let mut area = FxArea::clean();
    area.0[..5].copy_from_slice(&[0x7f, 0x06, 0, 0, 0xff]);
    area.0[24..26].copy_from_slice(&[0x80, 0x3f]);
    for (place, byte) in (0..).zip(&mut area.0[32..416]) {
        *byte = place;
    }
    for register in area.0[32..160].chunks_exact_mut(16) {
        register[10..].fill(0);
    }
    area
}

/// Compares control words and registers.
fn fpu(state: &ApState, expected: &FxArea) -> Outcome {
    let bytes = state.fx.iter().flat_map(|word| word.to_le_bytes());
    for (place, (seen, &expected)) in bytes.zip(&expected.0).enumerate() {
        if matches!(place, 0..5 | 24..28 | 32..416) {
            equal_at("byte", place as u64, seen, expected)?;
        }
    }
    Ok(())
}

/// What a snippet leaves in rax on vCPU 0.
fn control(code: crate::raw::Code) -> u64 {
    let mut registers = Registers::new();
    crate::raw::run(code, &mut registers);
    registers.rax
}
