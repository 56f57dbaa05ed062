//! Stores to a last-level table: which instructions are carried out, and how.

use crate::call::{EBUSY, VM_ASSIST, hypercall};
use crate::case::{Case, Outcome, Test, case, equal, equal_at};
use crate::raw::memory::peek;
use crate::raw::pages_calls::update;
use crate::raw::pages_direct::{attempt, carried_out, entry_at, store};
use crate::raw::pages_scratch::{LOADED, with};
use crate::raw::pages_snippets as snippets;
use crate::raw::{Code, Registers};
use crate::traps::trapped;

const READ_ONLY: u64 = LOADED & !2;
/// The flags that arithmetic sets: carry, parity, auxiliary, zero, sign, overflow.
const CARRY: u64 = 1;
const PARITY: u64 = 4;
const ZERO: u64 = 0x40;
const SIGN: u64 = 0x80;
const OVERFLOW: u64 = 0x800;
/// An absent entry.
const WORD: u64 = 0x1122_3344_5566_7788;

/// Rows: name, instruction, the entry before, rax and rbx, what becomes of the entry (nothing: a
/// page fault), the clause. No entry is ever present.
macro_rules! rows {
    ($($name:literal, $code:ident, $before:expr, $rax:expr, $rbx:expr, $after:expr,
       $clause:literal;)+) => {
        &[$(case(concat!("ptwr/", $name), $clause, |t| {
            stores(t, snippets::$code, $before, ($rax, $rbx), $after)
        })),+]
    };
}

pub(crate) const INSTRUCTIONS: &[Case] = rows! {
    "mov_8", MOV_8, WORD, 0xf0, 0, Some(0x1122_3344_5566_77f0), "MOV of a byte.";
    "mov_16", MOV_16, WORD, 0xf1f0, 0, Some(0x1122_3344_5566_f1f0), "MOV of two bytes.";
    "mov_32", MOV_32, WORD, 0xf3f2_f1f0, 0, Some(0x1122_3344_f3f2_f1f0), "MOV of four bytes.";
    "mov_64", MOV_64, WORD, !1, 0, Some(!1), "MOV of eight bytes.";
    "mov_high_byte", MOV_HIGH_BYTE, WORD, 0xf000, 0, Some(0x1122_3344_5566_77f0),
        "MOV of a high byte register.";
    "mov_immediate_8", MOV_IMMEDIATE_8, WORD, 0, 0, Some(0x1122_3344_5566_7740),
        "MOV of a byte given in the instruction.";
    "mov_immediate_16", MOV_IMMEDIATE_16, WORD, 0, 0, Some(0x1122_3344_5566_4240),
        "MOV of two bytes given in the instruction.";
    "mov_immediate_32", MOV_IMMEDIATE_32, WORD, 0, 0, Some(0x1122_3344_4644_4240),
        "MOV of four bytes given in the instruction.";
    "mov_immediate_64", MOV_IMMEDIATE_64, WORD, 0, 0, Some(!1),
        "MOV of a sign-extended word given in the instruction.";
    "movnti", MOVNTI, WORD, 0x40, 0, Some(0x40), "MOVNTI is carried out.";
    "xchg_8", XCHG_8, WORD, 0xf0, 0, Some(0x1122_3344_5566_77f0), "XCHG of a byte.";
    "xchg_16", XCHG_16, WORD, 0xf1f0, 0, Some(0x1122_3344_5566_f1f0), "XCHG of two bytes.";
    "xchg_32", XCHG_32, WORD, 0xf3f2_f1f0, 0, Some(0x1122_3344_f3f2_f1f0), "XCHG of four bytes.";
    "xchg_64", XCHG_64, WORD, !1, 0, Some(!1), "XCHG of eight bytes.";
    "lock_and", LOCK_AND, WORD, 0xff00, 0, Some(0x7700), "Locked AND with a register.";
    "lock_and_32", LOCK_AND_32, WORD, 0xff00, 0, Some(0x1122_3344_0000_7700),
        "Locked AND of four bytes.";
    "lock_and_immediate", LOCK_AND_IMMEDIATE, 0xff02, 0, 0, Some(0xff00),
        "Locked AND with a byte given in the instruction.";
    "lock_or", LOCK_OR, WORD, 0xf, 0, None, "Locked OR that makes a bad entry is a fault.";
    "lock_or_absent", LOCK_OR, WORD, 0x70, 0, Some(WORD | 0x70), "Locked OR with a register.";
    "lock_xor", LOCK_XOR, WORD, 0xf8, 0, Some(WORD ^ 0xf8), "Locked XOR.";
    "lock_add", LOCK_ADD, WORD, 0x10, 0, Some(WORD + 0x10), "Locked ADD.";
    "lock_sub", LOCK_SUB, WORD, 0x10, 0, Some(WORD - 0x10), "Locked SUB.";
    "lock_inc", LOCK_INC, !0 << 1, 0, 0, None, "Locked INC that makes a bad entry is a fault.";
    "lock_not", LOCK_NOT, WORD, 0, 0, None, "Locked NOT, which flips bit 0, is judged too.";
    "lock_neg", LOCK_NEG, 2, 0, 0, Some(2_u64.wrapping_neg()), "Locked NEG.";
    "lock_xadd", LOCK_XADD, WORD, 0x10, 0, Some(WORD + 0x10), "Locked XADD.";
    "lock_bts", LOCK_BTS, 0, 0, 0, Some(0x40), "Locked BTS with a number.";
    "lock_btr", LOCK_BTR, 0xc0, 0, 0, Some(0x80), "Locked BTR with a number.";
    "lock_btc", LOCK_BTC, 0xc0, 0, 0, Some(0x80), "Locked BTC with a number.";
    "lock_bts_register", LOCK_BTS_REGISTER, 0, 33, 0, Some(1 << 33), "Locked BTS with a register.";
    "lock_btr_register", LOCK_BTR_REGISTER, !1, 33, 0, Some(!1 & !(1 << 33)),
        "Locked BTR with a register.";
    "cmpxchg_hit", CMPXCHG, WORD, WORD, 0x40, Some(0x40), "CMPXCHG that finds what it expects.";
    "cmpxchg_miss", CMPXCHG, WORD, 0x50, 0x40, Some(WORD), "CMPXCHG that finds something else.";
    "cmpxchg_32_hit", CMPXCHG_32, WORD, 0x5566_7788, 0x40, Some(0x1122_3344_0000_0040),
        "CMPXCHG of four bytes.";
    "and", AND, WORD, 0xff00, 0, Some(0x7700), "AND without a lock is carried out.";
    "or", OR, WORD, 0x70, 0, Some(WORD | 0x70), "OR without a lock is carried out.";
    "add", ADD, WORD, 0x10, 0, Some(WORD + 0x10), "ADD without a lock is carried out.";
    "bts", BTS, 0, 0, 0, Some(0x40), "BTS without a lock is carried out.";
    "shl", SHL, 0x20, 0, 0, Some(0x40), "SHL is carried out.";
    "setz", SETZ, 0x40, 0, 0, Some(0), "SETcc is carried out.";
    "stosq", STOSQ, WORD, 0x40, 0, Some(0x40), "STOS is carried out.";
    "pop", POP, WORD, 0x40, 0, Some(0x40), "POP to memory is carried out.";
    "movq_xmm", MOVQ_XMM, WORD, 0x40, 0, None, "MOVQ from an SSE register is a fault.";
    "movups", MOVUPS, WORD, 0, 0, None, "A store of 16 bytes is a fault.";
    "sgdt", SGDT, WORD, 0, 0, None, "SGDT is a fault.";
};

pub(crate) const CASES: &[Case] = &[
    case("ptwr/registers", "Behind a store only the instruction pointer has moved.", |t| {
        with(t, |[_, w, ..]| {
            let mut registers = Registers::new();
            (registers.rax, registers.rbx, registers.rcx) = (0x40, 0x1111, 0x2222);
            (registers.rdx, registers.rdi, registers.rbp) = (0x3333, 0x4444, 0x5555);
            registers.high = [1, 2, 3, 4, 5, 6, 7, 8];
            registers.rsi = entry_at(w);
            registers.rflags = 0x2 | CARRY | ZERO | SIGN | 0x200;
            let before = registers;
            equal("fault", attempt(snippets::MOV_64, &mut registers)?.is_some(), false)?;
            equal("flags", registers.rflags & FLAGS, before.rflags & FLAGS)?;
            (registers.rflags, registers.fx) = (before.rflags, before.fx);
            equal("all registers stay", registers == before, true)?;
            equal("entry", w.mapping(t), 0x40)
        })
    }),
    case("ptwr/xchg_result", "XCHG loads what was there, accessed and dirty bits too.", |t| {
        with(t, |[a, w, ..]| {
            equal("update", update(w.slot, a.entry(LOADED)), 0)?;
            let registers = carried_out(snippets::XCHG_64, w, 0, 0)?;
            equal("rax", registers.rax, a.entry(LOADED))?;
            equal("entry", w.mapping(t), 0)
        })
    }),
    case("ptwr/xchg_32_result", "XCHG of four bytes clears rax's upper half.", |t| {
        with(t, |[_, w, ..]| {
            equal("update", update(w.slot, WORD), 0)?;
            let registers = carried_out(snippets::XCHG_32, w, 0xffff_ffff_0000_0040, 0)?;
            equal("rax", registers.rax, WORD & 0xffff_ffff)
        })
    }),
    case("ptwr/xchg_16_result", "XCHG of two bytes keeps the rest of rax.", |t| {
        with(t, |[_, w, ..]| {
            equal("update", update(w.slot, WORD), 0)?;
            let registers = carried_out(snippets::XCHG_16, w, 0xffff_ffff_ffff_0040, 0)?;
            equal("rax", registers.rax, 0xffff_ffff_ffff_7788)
        })
    }),
    case("ptwr/xadd_result", "XADD loads what was there.", |t| {
        with(t, |[_, w, ..]| {
            equal("update", update(w.slot, 0x40), 0)?;
            let registers = carried_out(snippets::LOCK_XADD, w, 0x40, 0)?;
            equal("rax", registers.rax, 0x40)?;
            equal("entry", w.mapping(t), 0x80)
        })
    }),
    case("ptwr/cmpxchg_hit_flags", "CMPXCHG that finds it sets the zero flag.", |t| {
        with(t, |[_, w, ..]| {
            equal("update", update(w.slot, WORD), 0)?;
            let registers = carried_out(snippets::CMPXCHG, w, WORD, 0x40)?;
            equal("flags", registers.rflags & FLAGS, ZERO | PARITY)?;
            equal("rax", registers.rax, WORD)
        })
    }),
    case("ptwr/cmpxchg_miss_flags", "CMPXCHG that does not find it loads what is there.", |t| {
        with(t, |[_, w, ..]| {
            equal("update", update(w.slot, WORD), 0)?;
            let registers = carried_out(snippets::CMPXCHG, w, 0x50, 0x40)?;
            equal("zero flag", registers.rflags & ZERO, 0)?;
            equal("rax", registers.rax, WORD)
        })
    }),
    case("ptwr/cmpxchg_8b_hit", "CMPXCHG8B that finds it stores eight bytes.", |t| {
        with(t, |[_, w, ..]| {
            equal("update", update(w.slot, WORD), 0)?;
            let mut registers = Registers::new();
            (registers.rax, registers.rdx) = (WORD & 0xffff_ffff, WORD >> 32);
            (registers.rbx, registers.rcx) = (0x40, 0x41);
            registers.rsi = entry_at(w);
            equal("fault", attempt(snippets::CMPXCHG_8B, &mut registers)?.is_some(), false)?;
            equal("zero flag", registers.rflags & ZERO, ZERO)?;
            equal("entry", w.mapping(t), 0x41_0000_0040)
        })
    }),
    case("ptwr/cmpxchg_8b_miss", "CMPXCHG8B that does not find it loads eight bytes.", |t| {
        with(t, |[_, w, ..]| {
            equal("update", update(w.slot, WORD), 0)?;
            let mut registers = Registers::new();
            registers.rsi = entry_at(w);
            equal("fault", attempt(snippets::CMPXCHG_8B, &mut registers)?.is_some(), false)?;
            equal("zero flag", registers.rflags & ZERO, 0)?;
            equal("rax", registers.rax, WORD & 0xffff_ffff)?;
            equal("rdx", registers.rdx, WORD >> 32)?;
            equal("entry", w.mapping(t), WORD)
        })
    }),
    case("ptwr/cmpxchg_16b_hit", "CMPXCHG16B that finds what it expects is a fault.", |t| {
        wide(t, 0, 3)
    }),
    case("ptwr/cmpxchg_16b_miss", "CMPXCHG16B that finds something else is no store.", |t| {
        wide(t, WORD, 0)
    }),
    case("ptwr/and_flags", "AND sets the flags of its result: sign, parity; no carry.", |t| {
        flags(t, snippets::LOCK_AND, !0 << 1, !0 << 63, SIGN | PARITY)
    }),
    case("ptwr/and_flags_zero", "AND whose result is 0 sets zero and parity.", |t| {
        flags(t, snippets::LOCK_AND, 0xf0, 0xf00, ZERO | PARITY)
    }),
    case("ptwr/add_flags", "ADD sets carry, zero, parity.", |t| {
        flags(t, snippets::LOCK_ADD, !1, 2, CARRY | ZERO | PARITY)
    }),
    case("ptwr/add_overflow", "ADD sets sign, overflow and parity.", |t| {
        flags(t, snippets::LOCK_ADD, 1 << 62, 1 << 62, SIGN | OVERFLOW | PARITY)
    }),
    case("ptwr/bts_carry", "BTS puts the old bit into the carry flag.", |t| {
        bit_flag(t, snippets::LOCK_BTS, 0x40, CARRY)?;
        bit_flag(t, snippets::LOCK_BTS, 0, 0)
    }),
    case("ptwr/btr_carry", "BTR puts the old bit into the carry flag.", |t| {
        bit_flag(t, snippets::LOCK_BTR, 0x40, CARRY)?;
        bit_flag(t, snippets::LOCK_BTR, 0, 0)
    }),
    case("ptwr/btc_carry", "BTC puts the old bit into the carry flag.", |t| {
        bit_flag(t, snippets::LOCK_BTC, 0x40, CARRY)?;
        bit_flag(t, snippets::LOCK_BTC, 0, 0)
    }),
    case("ptwr/bts_beyond", "BTS with a bit behind the entry is about the entry there.", |t| {
        with(t, |[_, w, x, ..]| {
            equal("update", update(w.slot, 0), 0)?;
            equal("update", update(x.slot, 0), 0)?;
            carried_out(snippets::LOCK_BTS_REGISTER, w, 64 + 7, 0)?;
            equal("entry", w.mapping(t), 0)?;
            equal("next entry", x.mapping(t), 0x80)
        })
    }),
    case("ptwr/indexed", "Base, index and displacement make the address.", |t| {
        with(t, |[v, _, _, _, y, ..]| {
            carried_out(snippets::MOV_INDEXED, v, 0x40, 4)?;
            equal("entry", y.mapping(t), 0x40)
        })
    }),
    case("ptwr/rep_stos", "REP STOS is carried out for each entry.", |t| {
        with(t, |[_, w, x, ..]| {
            let registers = carried_out(snippets::REP_STOSQ, w, 0x40, 0)?;
            equal("rcx", registers.rcx, 0)?;
            equal("rdi", registers.rdi, entry_at(w) + 16)?;
            equal("entry", w.mapping(t), 0x40)?;
            equal("next entry", x.mapping(t), 0x40)
        })
    }),
    case("ptwr/movs", "MOVS from memory is carried out.", |t| {
        with(t, |[a, w, ..]| {
            a.set(0, 0x40);
            let registers = carried_out(snippets::MOVSQ, w, 0, a.va)?;
            equal("rsi", registers.rsi, a.va + 8)?;
            equal("rdi", registers.rdi, entry_at(w) + 8)?;
            equal("entry", w.mapping(t), 0x40)
        })
    }),
    case("ptwr/byte_offsets", "A byte store reaches each byte of an entry.", |t| {
        with(t, |[_, w, ..]| {
            for byte in 0..8 {
                equal("update", update(w.slot, 0), 0)?;
                let mut registers = Registers::new();
                (registers.rax, registers.rsi) = (0x40, entry_at(w) + byte);
                let fault = attempt(snippets::MOV_8, &mut registers)?;
                equal_at("fault at byte", byte, fault.is_some(), false)?;
                equal_at("entry", byte, w.mapping(t), 0x40 << (byte * 8))?;
            }
            Ok(())
        })
    }),
    case("ptwr/upper_half", "A store of four bytes reaches the upper half.", |t| {
        with(t, |[_, w, ..]| {
            equal("update", update(w.slot, WORD), 0)?;
            equal("fault", store(snippets::MOV_32, entry_at(w) + 4, 0x40)?.is_some(), false)?;
            equal("entry", w.mapping(t), 0x40_5566_7788)
        })
    }),
    case("ptwr/misaligned", "A store that is not aligned to its size is a fault.", |t| {
        with(t, |[_, w, ..]| {
            for (code, offset) in [
                (snippets::MOV_64, 4),
                (snippets::MOV_64, 1),
                (snippets::MOV_32, 2),
                (snippets::MOV_16, 1),
            ] {
                let fault = store(code, entry_at(w) + offset, 0)?;
                equal_at("error code at", offset, fault.unwrap_or(0), 3)?;
            }
            equal("entry", w.mapping(t), w.entry(LOADED))
        })
    }),
    case("ptwr/adjusted", "A stored entry is adjusted as by mmu_update.", |t| {
        with(t, |[a, w, ..]| {
            carried_out(snippets::MOV_64, w, a.entry(1), 0)?;
            equal("kernel's", w.mapping(t), a.entry(0x0010_0000_0000_0005))?;
            carried_out(snippets::MOV_64, w, a.entry(5), 0)?;
            equal("user's", w.mapping(t), a.entry(0x105))
        })
    }),
    case("ptwr/counted", "A stored entry counts: the page can't become a table.", |t| {
        with(t, |[a, w, ..]| {
            a.unmap()?;
            carried_out(snippets::MOV_64, w, a.entry(LOADED), 0)?;
            equal("pin", crate::raw::pages_calls::pin(1, a.mfn), -22)?;
            carried_out(snippets::MOV_64, w, 0, 0)?;
            a.pin(1)
        })
    }),
    case("ptwr/protect", "Locked AND makes a page read-only.", |t| {
        with(t, |[a, w, ..]| {
            equal("update", update(w.slot, a.entry(LOADED)), 0)?;
            carried_out(snippets::LOCK_AND_IMMEDIATE, w, 0, 0)?;
            equal("entry", w.mapping(t), a.entry(READ_ONLY))
        })
    }),
    case(
        "ptwr/refused",
        "A store of a refused entry is a fault with code 3; nothing changes.",
        |t| {
            with(t, |[a, w, ..]| {
                a.pin(1)?;
                let mut registers = Registers::new();
                (registers.rax, registers.rsi) = (a.entry(LOADED), entry_at(w));
                let frame = trapped(14, snippets::MOV_64, &mut registers)?;
                equal("error code", frame.error, 3)?;
                equal("rip", frame.rip, snippets::MOV_64.address())?;
                equal("rax", registers.rax, a.entry(LOADED))?;
                equal("entry", w.mapping(t), w.entry(LOADED))
            })
        },
    ),
    case("ptwr/refused_xchg", "A refused XCHG is a fault and leaves the register.", |t| {
        with(t, |[a, w, ..]| {
            a.pin(1)?;
            let mut registers = Registers::new();
            (registers.rax, registers.rsi) = (a.entry(LOADED), entry_at(w));
            equal("error", trapped(14, snippets::XCHG_64, &mut registers)?.error, 3)?;
            equal("rax", registers.rax, a.entry(LOADED))?;
            equal("entry", w.mapping(t), w.entry(LOADED))
        })
    }),
    case("ptwr/half_way", "Half an entry is judged as the whole that it makes.", |t| {
        with(t, |[_, w, ..]| {
            equal("update", update(w.slot, 0x0008_0000_0000_0000), 0)?;
            equal("error", store(snippets::MOV_32, entry_at(w), 0x1063)?.unwrap_or(0), 3)?;
            equal("entry", w.mapping(t), 0x0008_0000_0000_0000)
        })
    }),
    case("ptwr/other_table", "A pinned L1 that is not in use can be written too.", |t| {
        with(t, |[l1, a, ..]| {
            l1.pin(1)?;
            equal("fault", store(snippets::MOV_64, l1.va + 24, a.entry(1))?.is_some(), false)?;
            equal("entry", l1.get(3), a.entry(0x0010_0000_0000_0005))?;
            l1.is_held(EBUSY)
        })
    }),
    case("ptwr/upper_tables", "A store to a pinned table of levels 2 to 4 is a fault.", |t| {
        for level in 2..=4 {
            with(t, |[table, ..]| {
                table.pin(level)?;
                let fault = store(snippets::MOV_64, table.va, 0)?;
                equal_at("error code at level", level, fault.unwrap_or(0), 3)
            })?;
        }
        Ok(())
    }),
    case("ptwr/no_table", "A store to a read-only page that is no table is a fault.", |t| {
        with(t, |[a, ..]| {
            a.protect()?;
            equal("error code", store(snippets::MOV_64, a.va, 5)?.unwrap_or(0), 3)?;
            equal("word", peek(a.va), 0)
        })
    }),
    case("ptwr/unpinned", "A table that is none any more can't be written.", |t| {
        with(t, |[l1, ..]| {
            l1.pin(1)?;
            equal("fault", store(snippets::MOV_64, l1.va, 4)?.is_some(), false)?;
            l1.unpin()?;
            equal("error code", store(snippets::MOV_64, l1.va, 4)?.unwrap_or(0), 3)
        })
    }),
    case("ptwr/assist", "With the assist for writable page tables it is the same.", |t| {
        equal("enable", hypercall(VM_ASSIST, &[0, 2]), 0)?;
        let outcome = with(t, |[_, w, ..]| {
            carried_out(snippets::MOV_64, w, 0x40, 0)?;
            equal("entry", w.mapping(t), 0x40)?;
            carried_out(snippets::XCHG_64, w, 0x80, 0).map(drop)
        });
        equal("disable", hypercall(VM_ASSIST, &[1, 2]), 0)?;
        outcome
    }),
];

const FLAGS: u64 = CARRY | PARITY | ZERO | SIGN | OVERFLOW;

/// Runs a snippet on an entry: it becomes `after`, or there is a page fault.
fn stores(
    t: &Test<'_>,
    code: Code,
    before: u64,
    (rax, rbx): (u64, u64),
    after: Option<u64>,
) -> Outcome {
    with(t, |[_, w, ..]| {
        equal("update", update(w.slot, before), 0)?;
        let mut registers = Registers::new();
        (registers.rax, registers.rbx, registers.rsi) = (rax, rbx, entry_at(w));
        let fault = attempt(code, &mut registers)?;
        equal("error code", fault.unwrap_or(0), if after.is_some() { 0 } else { 3 })?;
        equal("entry", w.mapping(t), after.unwrap_or(before))
    })
}

/// CMPXCHG16B on two entries that are 0, expecting `expected` and 0.
fn wide(t: &Test<'_>, expected: u64, error: u64) -> Outcome {
    with(t, |[v, w, x, ..]| {
        let first = if entry_at(v).is_multiple_of(16) { [v, w] } else { [w, x] };
        for page in first {
            equal("update", update(page.slot, 0), 0)?;
        }
        let fault = store(snippets::CMPXCHG_16B, entry_at(first[0]), expected)?;
        equal("error code", fault.unwrap_or(0), error)?;
        equal("entry", first[0].mapping(t), 0)
    })
}

/// The flags behind an instruction on an entry.
fn flags(t: &Test<'_>, code: Code, before: u64, rax: u64, expected: u64) -> Outcome {
    with(t, |[_, w, ..]| {
        equal("update", update(w.slot, before), 0)?;
        let registers = carried_out(code, w, rax, 0)?;
        equal("flags", registers.rflags & FLAGS, expected)
    })
}

/// The carry flag behind an instruction on bit 6 of an entry.
fn bit_flag(t: &Test<'_>, code: Code, before: u64, expected: u64) -> Outcome {
    with(t, |[_, w, ..]| {
        equal("update", update(w.slot, before), 0)?;
        let registers = carried_out(code, w, 0, 0)?;
        equal("carry", registers.rflags & CARRY, expected)
    })
}
