//! `set_gdt` and `update_descriptor`: frames, numbers, and which descriptors are taken.

use crate::call::{EBUSY, EFAULT, EINVAL, hypercall};
use crate::case::{Case, Outcome, Test, case, equal, equal_at};
use crate::raw::memory::arena_address;
use crate::raw::pages_calls::{SET_GDT, UPDATE_DESCRIPTOR, pin, put_words};
use crate::raw::pages_scratch::{LOADED, Page, free_frame, hypervisor_frame, with};
use crate::raw::pages_segments::{NO_SEGMENT, limit};
use crate::raw::{Registers, pages_snippets, run};
use crate::traps::trapped;

const HYPERVISOR: u64 = 0xffff_8300_0000_0000;
/// A flat 64-bit code segment and a flat data segment of ring 3.
const CODE: u64 = 0x00af_fb00_0000_ffff;
const DATA: u64 = 0x00cf_f300_0000_ffff;
/// The descriptor privilege level.
const RING_1: u64 = 1 << 45;
const RING_2: u64 = 2 << 45;
const RINGS: u64 = 3 << 45;
const ACCESSED: u64 = 1 << 40;
const PRESENT: u64 = 1 << 47;
const REFUSED: Option<u64> = None;

/// Rows: name, the descriptor, what it becomes (nothing: it is refused), the clause.
macro_rules! rows {
    ($($name:literal, $descriptor:expr, $becomes:expr, $clause:literal;)+) => {
        &[$(case(concat!("gdt/", $name), $clause, |t| descriptor(t, $descriptor, $becomes))),+]
    };
}

/// A system descriptor of a type, present, ring 3, that names code segment e033 if it is a gate.
const fn system(kind: u64) -> u64 {
    PRESENT | RINGS | kind << 40 | 0xe033 << 16
}

/// A call gate to a selector.
const fn gate(selector: u64) -> u64 {
    system(12) & !(0xffff << 16) | selector << 16
}

pub(crate) const DESCRIPTORS: &[Case] = rows! {
    "code", CODE, Some(CODE), "A 64-bit code segment of ring 3 is taken as it is.";
    "data", DATA, Some(DATA), "A data segment of ring 3 is taken as it is.";
    "code_ring_0", CODE & !RINGS, Some(CODE), "A code segment of ring 0 becomes one of ring 3.";
    "data_ring_0", DATA & !RINGS, Some(DATA), "A data segment of ring 0 becomes one of ring 3.";
    "code_ring_1", CODE & !RINGS | RING_1, Some(CODE), "Ring 1 becomes ring 3.";
    "data_ring_2", DATA & !RINGS | RING_2, Some(DATA), "Ring 2 becomes ring 3.";
    "not_accessed", DATA & !ACCESSED, Some(DATA & !ACCESSED), "The accessed bit is left alone.";
    "read_only", DATA & !(1 << 41), Some(DATA & !(1 << 41)), "Read-only data is taken.";
    "expand_down", DATA | 1 << 42, Some(DATA | 1 << 42), "Data that expands down is taken.";
    "conforming", CODE | 1 << 42, Some(CODE | 1 << 42), "Conforming code is taken.";
    "code_32", 0x00cf_fb00_0000_ffff, Some(0x00cf_fb00_0000_ffff), "32-bit code is taken.";
    "code_16", 0x008f_fb00_0000_ffff, Some(0x008f_fb00_0000_ffff), "16-bit code is taken.";
    "code_long_default", CODE | 1 << 54, Some(CODE | 1 << 54),
        "Code that is both 64-bit and 32-bit by its flags is taken.";
    "available", DATA | 1 << 52, Some(DATA | 1 << 52), "The available bit is kept.";
    "base", 0x12cf_f334_5678_1234, Some(0x12cf_f334_5678_1234), "Any base and limit is taken.";
    "base_in_hypervisor", 0xffcf_f3ff_ffff_ffff, Some(0xffcf_f3ff_ffff_ffff),
        "A base at the end of 4 GiB is taken.";
    "null", 0, Some(0), "A null descriptor is taken.";
    "absent_code", CODE & !PRESENT & !RINGS, Some(CODE & !PRESENT & !RINGS),
        "An absent code segment is taken as it is, of any ring.";
    "absent_system", system(0xf) & !PRESENT, Some(system(0xf) & !PRESENT),
        "An absent system descriptor is taken, whatever it is.";
    "type_0", system(0), Some(system(0)), "A present system descriptor of type 0 is taken.";
    "type_0_ring_0", system(0) & !RINGS, Some(system(0) & !RINGS),
        "A present system descriptor of type 0 and ring 0 is taken as it is.";
    "ldt", system(2), REFUSED, "A local descriptor table is refused.";
    "tss", system(9), REFUSED, "A free task state segment is refused.";
    "tss_busy", system(11), REFUSED, "A busy task state segment is refused.";
    "tss_16", system(1), REFUSED, "A 16-bit task state segment is refused.";
    "call_gate_16", system(4), REFUSED, "A 16-bit call gate is refused.";
    "task_gate", system(5), REFUSED, "A task gate is refused.";
    "interrupt_gate", system(14), REFUSED, "An interrupt gate is refused.";
    "trap_gate", system(15), REFUSED, "A trap gate is refused.";
    "reserved_8", system(8), REFUSED, "Reserved type 8 is refused.";
    "reserved_10", system(10), REFUSED, "Reserved type 10 is refused.";
    "reserved_13", system(13), REFUSED, "Reserved type 13 is refused.";
    "call_gate", system(12), Some(system(12) & !RINGS),
        "A call gate to the guest's code is taken, of ring 0.";
    "call_gate_to_hypervisor", gate(0xe008), REFUSED,
        "A call gate to the hypervisor's code is refused.";
    "call_gate_null", gate(0), Some(gate(3) & !RINGS),
        "A call gate to a null selector is taken, of ring 0, its selector of ring 3.";
    "call_gate_own", gate(8), Some(gate(0xb) & !RINGS),
        "A call gate to the guest's own segment is taken, its selector of ring 3.";
    "call_gate_local", gate(7), Some(gate(7) & !RINGS), "A call gate to a local selector is taken.";
    "call_gate_ring_1", gate(0xe031), REFUSED,
        "A call gate to the hypervisor's segment for guests with another ring is refused.";
    "call_gate_to_end", gate(0xfffb), REFUSED,
        "A call gate to a selector behind the guest's segments is refused.";
};

pub(crate) const CASES: &[Case] = &[
    case("gdt/none", "No entries at address 0 are taken: an empty table.", |_| {
        equal("answer", hypercall(SET_GDT, &[0, 0]), 0)
    }),
    case("gdt/none_unmapped", "With no entries the address is not read.", |_| {
        equal("answer", hypercall(SET_GDT, &[0x1000, 0]), 0)
    }),
    case("gdt/null_with_entries", "One entry at address 0: EFAULT.", |_| {
        equal("answer", hypercall(SET_GDT, &[0, 1]), EFAULT)
    }),
    case("gdt/unmapped", "An unmapped list of frames: EFAULT.", |_| {
        equal("answer", hypercall(SET_GDT, &[0x1000, 1]), EFAULT)
    }),
    case("gdt/in_hypervisor", "A list of frames in the hypervisor: EFAULT.", |_| {
        equal("answer", hypercall(SET_GDT, &[HYPERVISOR, 1]), EFAULT)
    }),
    case("gdt/most", "7168 entries in 14 frames are taken, the same frame 14 times too.", |t| {
        with(t, |[a, ..]| {
            a.protect()?;
            equal("answer", set(&[a.mfn; 14], 7168), 0)?;
            a.is_held(EBUSY)?;
            equal("answer", hypercall(SET_GDT, &[0, 0]), 0)?;
            a.is_free()
        })
    }),
    case("gdt/too_many", "7169 entries: EINVAL.", |t| {
        with(t, |[a, ..]| {
            a.protect()?;
            equal("answer", set(&[a.mfn; 15], 7169), EINVAL)?;
            a.is_free()
        })
    }),
    case("gdt/far_too_many", "Numbers of entries up to 2^32 - 1: EINVAL.", |t| {
        with(t, |[a, ..]| {
            a.protect()?;
            for entries in [8192, 65536, 0x8000_0000, 0xffff_ffff] {
                equal_at("answer for", entries, set(&[a.mfn; 16], entries), EINVAL)?;
            }
            Ok(())
        })
    }),
    case("gdt/entries_truncate", "The upper half of the number of entries is ignored.", |t| {
        with(t, |[a, ..]| {
            a.protect()?;
            equal("answer", set(&[a.mfn], 1 << 32 | 1), 0)?;
            a.is_held(EBUSY)
        })
    }),
    case("gdt/frames_by_entries", "512 entries need one frame, 513 need two.", |t| {
        with(t, |[a, ..]| {
            a.protect()?;
            equal("512", set(&[a.mfn, 1 << 33], 512), 0)?;
            equal("513", set(&[a.mfn, 1 << 33], 513), EINVAL)
        })
    }),
    case("gdt/refused_keeps", "Behind a refused call the table before is still there.", |t| {
        with(t, |[a, b, ..]| {
            a.set(1, DATA);
            a.protect()?;
            b.protect()?;
            equal("first", set(&[a.mfn], 512), 0)?;
            equal("second", set(&[b.mfn, 1 << 33], 1024), EINVAL)?;
            b.is_free()?;
            a.is_held(EBUSY)?;
            equal("there", limit(0x08), 0xffff_ffff)
        })
    }),
    case("gdt/replaced", "Another table frees the frames of the one before.", |t| {
        with(t, |[a, b, ..]| {
            a.protect()?;
            b.protect()?;
            equal("first", set(&[a.mfn], 512), 0)?;
            equal("second", set(&[b.mfn], 512), 0)?;
            a.is_free()?;
            b.is_held(EBUSY)
        })
    }),
    case("gdt/strangers", "Frames that are not the guest's: EINVAL.", |t| {
        for mfn in [free_frame(), hypervisor_frame(t), 1 << 33, u64::MAX, 0, 0xb8] {
            equal_at("answer for", mfn, set(&[mfn], 1), EINVAL)?;
        }
        Ok(())
    }),
    case("gdt/whole_frame", "All of a frame is checked, however few the entries.", |t| {
        with(t, |[a, ..]| {
            a.set(511, system(9));
            a.protect()?;
            equal("answer", set(&[a.mfn], 1), EINVAL)?;
            a.is_free()
        })
    }),
    case("gdt/load", "A segment of the table can be loaded.", |t| {
        with(t, |[a, ..]| {
            a.set(1, DATA);
            a.protect()?;
            equal("answer", set(&[a.mfn], 512), 0)?;
            equal("selector", load(0x0b), 0x0b)
        })
    }),
    case("gdt/load_second_page", "A segment of the table's second page can be loaded.", |t| {
        with(t, |[a, b, ..]| {
            b.set(3, DATA);
            a.protect()?;
            b.protect()?;
            equal("answer", set(&[a.mfn, b.mfn], 1024), 0)?;
            equal("selector", load((512 + 3) * 8 + 3), (512 + 3) * 8 + 3)
        })
    }),
    case(
        "gdt/limit_of_entries",
        "Entries of the last frame behind the number are there too.",
        |t| {
            with(t, |[a, ..]| {
                a.set(100, DATA);
                a.protect()?;
                equal("answer", set(&[a.mfn], 1), 0)?;
                equal("there", limit(800), 0xffff_ffff)
            })
        },
    ),
    case("gdt/empty_faults", "Without a table a guest's selector faults with its number.", |_| {
        equal("set", hypercall(SET_GDT, &[0, 0]), 0)?;
        let mut registers = Registers::new();
        registers.rax = 0x0b;
        let frame = trapped(13, pages_snippets::LOAD_SELECTOR, &mut registers)?;
        equal("error code", frame.error, 8)
    }),
    case("gdt/accessed_not_set", "A load sets the accessed bit in the guest's page.", |t| {
        with(t, |[a, ..]| {
            a.set(1, DATA & !ACCESSED);
            a.protect()?;
            equal("answer", set(&[a.mfn], 512), 0)?;
            equal("selector", load(0x0b), 0x0b)?;
            equal("descriptor", a.get(1), DATA)
        })
    }),
    case("gdt/flat_segments", "The hypervisor's segments for guests are always there.", |t| {
        let there = || {
            for selector in [0xe023, 0xe02b, 0xe033] {
                equal_at("segment", selector, limit(selector), 0xffff_ffff)?;
            }
            Ok(())
        };
        there()?;
        with(t, |[a, ..]| {
            a.protect()?;
            equal("answer", set(&[a.mfn; 14], 7168), 0)?;
            there()
        })
    }),
    case("gdt/update_plain", "update_descriptor writes to a page that is mapped writable.", |t| {
        with(t, |[a, ..]| {
            equal("answer", write(a, 5, DATA & !RINGS), 0)?;
            equal("descriptor", a.get(5), DATA)
        })
    }),
    case("gdt/update_read_only", "update_descriptor writes to a page that is nothing yet.", |t| {
        with(t, |[a, ..]| {
            a.protect()?;
            equal("answer", write(a, 5, DATA), 0)?;
            equal("descriptor", a.get(5), DATA)
        })
    }),
    case("gdt/update_table", "update_descriptor refuses page tables.", |t| {
        for level in 1..=4 {
            with(t, |[a, ..]| {
                a.pin(level)?;
                equal_at("answer for level", level, write(a, 5, 0), EINVAL)
            })?;
        }
        Ok(())
    }),
    case(
        "gdt/update_misaligned",
        "update_descriptor refuses addresses that are no entry's.",
        |t| {
            with(t, |[a, ..]| {
                for offset in 1..8 {
                    let answer = hypercall(UPDATE_DESCRIPTOR, &[a.ma() + offset, DATA]);
                    equal_at("answer for offset", offset, answer, EINVAL)?;
                }
                equal("descriptor", a.get(0), 0)
            })
        },
    ),
    case(
        "gdt/update_strangers",
        "update_descriptor refuses frames that are not the guest's.",
        |t| {
            for mfn in [free_frame(), hypervisor_frame(t), 1 << 33, 0xb8] {
                let answer = hypercall(UPDATE_DESCRIPTOR, &[mfn << 12, DATA]);
                equal_at("answer for", mfn, answer, EINVAL)?;
            }
            Ok(())
        },
    ),
    case("gdt/update_in_use", "update_descriptor changes the table that is in use.", |t| {
        with(t, |[a, ..]| {
            a.protect()?;
            equal("answer", set(&[a.mfn], 512), 0)?;
            equal("not there", limit(0x08), NO_SEGMENT)?;
            equal("answer", write(a, 1, 0x0040_f300_0000_0123), 0)?;
            equal("limit", limit(0x08), 0x123)
        })
    }),
    case(
        "gdt/map_writable",
        "A page of the table can't be mapped writable, until it is none.",
        |t| {
            with(t, |[a, ..]| {
                a.protect()?;
                equal("answer", set(&[a.mfn], 1), 0)?;
                a.is_held(EBUSY)?;
                equal("pin", pin(1, a.mfn), EINVAL)?;
                equal("answer", hypercall(SET_GDT, &[0, 0]), 0)?;
                equal("writable", a.map(LOADED), 0)
            })
        },
    ),
];

/// Sets the table.
fn set(frames: &[u64], entries: u64) -> i64 {
    put_words(0, frames);
    hypercall(SET_GDT, &[arena_address(), entries])
}

/// Writes one descriptor of a page.
fn write(page: Page, index: u64, descriptor: u64) -> i64 {
    hypercall(UPDATE_DESCRIPTOR, &[page.place(index), descriptor])
}

/// Loads a selector and reads it back.
fn load(selector: u64) -> u64 {
    let mut registers = Registers::new();
    registers.rax = selector;
    run(pages_snippets::LOAD_SELECTOR, &mut registers);
    registers.rax
}

/// A descriptor in a table that is set, and in a table that is in use.
fn descriptor(t: &Test<'_>, descriptor: u64, becomes: Option<u64>) -> Outcome {
    let answer = if becomes.is_some() { 0 } else { EINVAL };
    with(t, |[a, b, ..]| {
        a.set(2, descriptor);
        a.protect()?;
        equal("set_gdt", set(&[a.mfn], 512), answer)?;
        equal("descriptor", a.get(2), becomes.unwrap_or(descriptor))?;
        b.protect()?;
        equal("set_gdt of zeros", set(&[b.mfn], 512), 0)?;
        equal("update_descriptor", write(b, 2, descriptor), answer)?;
        equal("updated descriptor", b.get(2), becomes.unwrap_or(0))
    })
}
