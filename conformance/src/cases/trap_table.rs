//! `set_trap_table`: which entries it takes, and what becomes of them.

use super::trap_stage::{END, SET_TRAP_TABLE, Stage, put_entry, stage};
use crate::call::{EFAULT, EINVAL, hypercall};
use crate::case::{Case, Outcome, Test, case, ends_guest, equal, equal_at, holds};
use crate::raw::memory::poke;
use crate::raw::trap_snippets::{DIVIDE, INT3, UD2, interrupt};
use crate::raw::trap_stage::{handler, page};
use crate::raw::{Code, Registers};
use crate::tables::{M2P, mapped_end};

const NON_CANONICAL: u64 = 0x0000_8000_0000_0000;

pub(crate) const CASES: &[Case] = &[
    case("trap_table/all", "A table of all 256 vectors is taken.", |t| stage(t, |_| Ok(()))),
    case("trap_table/order", "Entries may come in any order.", |t| {
        table(t, &[(255, 0), (6, 0), (3, 0), (0, 0)], |s| {
            came(s, UD2, 6)?;
            came(s, INT3, 3)?;
            came(s, DIVIDE, 0)
        })
    }),
    case("trap_table/twice", "Of two entries for a vector the later one counts.", |t| {
        stage(t, |s| {
            put_entry(page(0), 6, 0, handler(6));
            put_entry(page(0) + 16, 6, 0, handler(7));
            put_entry(page(0) + 32, 0, 0, 0);
            equal("answer", set(page(0)), 0)?;
            came(s, UD2, 7)
        })
    }),
    case("trap_table/adds", "A table leaves vectors alone that it does not name.", |t| {
        table(t, &[(6, 0)], |s| {
            put_entry(page(0), 3, 0, handler(3));
            put_entry(page(0) + 16, 0, 0, 0);
            equal("answer", set(page(0)), 0)?;
            came(s, UD2, 6)?;
            came(s, INT3, 3)
        })
    }),
    case("trap_table/end", "An entry with address 0 ends the table, whatever is behind it.", |t| {
        stage(t, |s| {
            put_entry(page(0), 6, 0, handler(9));
            put_entry(page(0) + 16, 3, 7, 0);
            put_entry(page(0) + 32, 3, 0, handler(9));
            equal("answer", set(page(0)), 0)?;
            came(s, UD2, 9)?;
            came(s, INT3, 3)
        })
    }),
    case("trap_table/end_no_removal", "The entry that ends the table removes no handler.", |t| {
        stage(t, |s| {
            put_entry(page(0), 6, 0, 0);
            equal("answer", set(page(0)), 0)?;
            came(s, UD2, 6)
        })
    }),
    case("trap_table/end_at_edge", "Nothing is read behind the end of the table.", |t| {
        stage(t, |s| {
            let end = mapped_end(t.boot);
            put_entry(end - 32, 6, 0, handler(9));
            put_entry(end - 16, 0, 0, 0);
            equal("answer", set(end - 32), 0)?;
            came(s, UD2, 9)
        })
    }),
    case("trap_table/no_end", "A table that runs into unmapped memory answers -EFAULT.", |t| {
        stage(t, |_| {
            let end = mapped_end(t.boot);
            put_entry(end - 32, 6, 0, handler(9));
            put_entry(end - 16, 3, 0, handler(9));
            equal("answer", set(end - 32), EFAULT)
        })
    }),
    case("trap_table/fault_keeps", "Entries in front of the unmapped one have been taken.", |t| {
        stage(t, |s| {
            let end = mapped_end(t.boot);
            put_entry(end - 32, 6, 0, handler(9));
            put_entry(end - 16, 3, 0, handler(9));
            set(end - 32);
            came(s, UD2, 9)?;
            came(s, INT3, 9)
        })
    }),
    case("trap_table/half_entry", "An entry that is mapped in half is not taken.", |t| {
        stage(t, |s| {
            let end = mapped_end(t.boot);
            poke(end - 8, 6 | 0xe033 << 16);
            equal("answer", set(end - 8), EFAULT)?;
            came(s, UD2, 6)
        })
    }),
    case("trap_table/no_address", "An address that is not canonical answers -EINVAL.", |t| {
        stage(t, |_| {
            for address in [NON_CANONICAL, 0xffff_7fff_ffff_ffff, 1 << 63, 1 << 47] {
                put_entry(page(0), 6, 0, address);
                put_entry(page(0) + 16, 0, 0, 0);
                equal_at("answer for", address, set(page(0)), EINVAL)?;
            }
            Ok(())
        })
    }),
    case("trap_table/invalid_keeps", "Entries in front of a refused one have been taken.", |t| {
        stage(t, |s| {
            put_entry(page(0), 6, 0, handler(9));
            put_entry(page(0) + 16, 3, 0, NON_CANONICAL);
            put_entry(page(0) + 32, 0, 0, handler(9));
            equal("answer", set(page(0)), EINVAL)?;
            came(s, UD2, 9)?;
            came(s, INT3, 3)?;
            came(s, DIVIDE, 0)
        })
    }),
    case("trap_table/any_canonical", "An address in the hypervisor or unmapped is taken.", |t| {
        stage(t, |_| {
            for address in [M2P, 0xffff_8300_0000_0000, 0x7fff_ffff_ffff, 1, u64::MAX] {
                put_entry(page(0), 6, 0, address);
                put_entry(page(0) + 16, 0, 0, 0);
                equal_at("answer for", address, set(page(0)), 0)?;
            }
            Ok(())
        })
    }),
    case("trap_table/any_selector", "A handler runs with cs e033, whatever its entry says.", |t| {
        stage(t, |s| {
            for selector in [0, 3, 0x10, 0xe008, 0xe023, 0xfffb, 0xffff] {
                put_entry(page(0), 6, 0, handler(6));
                poke(page(0), 6 | selector << 16);
                put_entry(page(0) + 16, 0, 0, 0);
                equal_at("answer for", selector, set(page(0)), 0)?;
                came(s, UD2, 6)?;
            }
            Ok(())
        })
    }),
    case("trap_table/unused_bytes", "Bytes 4 to 7 of an entry do not matter.", |t| {
        stage(t, |s| {
            put_entry(page(0), 6, 0, handler(9));
            poke(page(0), 6 | 0xe033 << 16 | 0xffff_ffff << 32);
            put_entry(page(0) + 16, 0, 0, 0);
            equal("answer", set(page(0)), 0)?;
            came(s, UD2, 9)
        })
    }),
    case("trap_table/other_flags", "Bits of an entry's flags from 3 on do not matter.", |t| {
        stage(t, |s| {
            s.set_mask(0);
            s.entry(6, 0xf8)?;
            came(s, UD2, 6)?;
            equal("mask", s.mask(), 0)
        })
    }),
    case("trap_table/unaligned", "The table needs no alignment.", |t| {
        stage(t, |s| {
            put_entry(page(0) + 3, 6, 0, handler(9));
            put_entry(page(0) + 19, 0, 0, 0);
            equal("answer", set(page(0) + 3), 0)?;
            came(s, UD2, 9)
        })
    }),
    case("trap_table/long", "A table of 1000 entries is taken to its end.", |t| {
        stage(t, |s| {
            for number in 0..1000 {
                put_entry(page(8) + 16 * number, 6, 0, handler(number % 256));
            }
            put_entry(page(8) + 16_000, 0, 0, 0);
            equal("answer", set(page(8)), 0)?;
            came(s, UD2, 999 % 256)
        })
    }),
    case("trap_table/null_removes", "A null table removes all handlers, of soft ones too.", |t| {
        stage(t, |s| {
            equal("answer", set(0), 0)?;
            s.entry(13, 0)?;
            let event = s.kernel(interrupt(0x80), Registers::new())?;
            equal("vector", event.vector, 13)
        })
    }),
    case("trap_table/non_canonical_pointer", "A table at no address answers -EFAULT.", |t| {
        stage(t, |_| {
            for table in [NON_CANONICAL, 1 << 63, 0xffff_8300_0000_0000] {
                equal_at("answer for", table, set(table), EFAULT)?;
            }
            Ok(())
        })
    }),
    case("trap_table/wraps", "A table that runs over the end of memory answers -EFAULT.", |_| {
        equal("answer", set(u64::MAX - 7), EFAULT)
    }),
    case("trap_table/mask", "Flag 4 masks events for this vector and no other.", |t| {
        stage(t, |s| {
            s.set_mask(0);
            s.entry(6, 4)?;
            came(s, INT3, 3)?;
            equal("mask behind INT3", s.mask(), 0)?;
            came(s, UD2, 6)?;
            equal("mask behind UD2", s.mask(), 1)
        })
    }),
    case("trap_table/mask_value", "Flag 4 sets the mask's bit 0, leaves the others.", |t| {
        stage(t, |s| {
            s.set_mask(0x80);
            s.entry(6, 4)?;
            let event = s.kernel(UD2, Registers::new())?;
            equal("mask", s.mask(), 0x81)?;
            equal("cs", event.plain().cs, 0x80_0000_e030)
        })
    }),
    ends_guest("trap_table/handler_null", "A vector that was removed ends the guest.", |t| {
        stage(t, |_| {
            equal("answer", set(0), 0)?;
            t.crash(UD2, &mut Registers::new())
        })
    }),
    ends_guest(
        "trap_table/handler_unmapped",
        "A handler in unmapped memory, page faults' too, ends the guest.",
        |t| bad_handler(t, 0x1000),
    ),
    ends_guest("trap_table/handler_hypervisor", "A handler in the hypervisor ends it too.", |t| {
        bad_handler(t, 0xffff_8300_0000_0000)
    }),
];

/// Runs into a page-fault handler that faults: the stack runs out in the end.
fn bad_handler(t: &Test<'_>, address: u64) -> Outcome {
    stage(t, |_| {
        put_entry(page(0), 6, 0, address);
        put_entry(page(0) + 16, 14, 0, address);
        put_entry(page(0) + 32, 0, 0, 0);
        equal("answer", set(page(0)), 0)?;
        // The pages below the stage's hold the image: nothing is lost when the guest ends.
        let mut registers = Registers::new();
        registers.rsp = page(SMALL_STACK);
        t.crash_at(UD2, &mut registers, address)
    })
}

/// The page whose end is the stack of a guest that is about to end.
const SMALL_STACK: u64 = 9;

/// Does something with handlers for these vectors alone, and user mode's.
fn table(t: &Test<'_>, entries: &[(u64, u8)], does: impl FnOnce(&Stage) -> Outcome) -> Outcome {
    stage(t, |s| {
        equal("answer to null", set(0), 0)?;
        let mut at = page(0);
        for &(vector, flags) in entries.iter().chain(&[(END, 0)]) {
            put_entry(at, vector, flags, handler(vector));
            at += 16;
        }
        put_entry(at, 0, 0, 0);
        equal("answer", set(page(0)), 0)?;
        does(s)
    })
}

fn set(table: u64) -> i64 {
    hypercall(SET_TRAP_TABLE, &[table])
}

/// Checks that `code` runs the handler of this number, in kernel mode with the flat selectors.
fn came(s: &Stage, code: Code, number: u64) -> Outcome {
    let event = s.kernel(code, Registers::new())?;
    holds("handler", event.at, "below the stack", event.at < event.plain().rsp)?;
    equal("handler", event.vector, number)
}
