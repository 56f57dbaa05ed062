//! `map_grant_ref`: which flags of an entry allow which mappings, and the bits of use.

use crate::case::{Case, Outcome, Test, case, equal};
use crate::raw::pages_grants::{
    BAD_REF, DEVICE, GENERAL, HOST, OKAY, ONLY_READ, OWN, PERMIT, READ_ONLY, READING, REF, UNSET,
    WRITING, Wish, map, unmap, with_table,
};

/// A row: the name, an entry's flags, a mapping's, the status, the entry's flags while it is mapped
/// (or after it was refused) and behind that, the clause.
macro_rules! entries {
    ($($name:literal, $flags:expr, $how:expr, $status:expr, $during:expr, $after:expr,
        $clause:literal;)+) => {
        &[$(case(concat!("grant_map/", $name), $clause, |t| {
            entry(t, $flags, $how, $status, ($during, $after))
        })),+]
    };
}

pub(crate) const CASES: &[Case] = entries! {
    "empty", 0, HOST, GENERAL, 0, 0, "An empty entry can't be mapped: status -1.";
    "empty_read_only", 0, HOST | ONLY_READ, GENERAL, 0, 0,
        "An empty entry can't be mapped read-only.";
    "for_transfer", 2, HOST, GENERAL, 2, 2, "An entry that accepts a page can't be mapped.";
    "transitive", 3, HOST | ONLY_READ, GENERAL, 3, 3, "A grant of a grant can't be mapped.";
    "part", 0x101, HOST | ONLY_READ, GENERAL, 0x101, 0x101,
        "A grant of part of a page can't be mapped.";
    "writable", PERMIT, HOST, OKAY, 0x19, 1, "A page is mapped writable: reading and writing.";
    "writable_read_only", PERMIT, HOST | ONLY_READ, OKAY, 9, 1,
        "A page is mapped read-only: reading alone.";
    "read_only", PERMIT | READ_ONLY, HOST, GENERAL, 5, 5,
        "An entry for reading can't be mapped writable: status -1.";
    "read_only_read_only", PERMIT | READ_ONLY, HOST | ONLY_READ, OKAY, 0xd, 5,
        "An entry for reading can be mapped read-only.";
    "device", PERMIT, DEVICE, OKAY, 0x19, 1, "A page is mapped for devices without an address.";
    "device_read_only", PERMIT, DEVICE | ONLY_READ, OKAY, 9, 1,
        "A page is mapped for devices to read.";
    "device_refused", PERMIT | READ_ONLY, DEVICE, GENERAL, 5, 5,
        "An entry for reading can't be mapped for devices to write.";
    "both", PERMIT, DEVICE | HOST, OKAY, 0x19, 1, "A page is mapped for devices and processor.";
    "both_read_only", PERMIT | READ_ONLY, DEVICE | HOST | ONLY_READ, OKAY, 0xd, 5,
        "A page is mapped for devices and processor to read.";
    "neither", PERMIT, 0, BAD_REF, 1, 1, "Mapped for nobody: status -3.";
    "neither_other_flags", PERMIT, !3, BAD_REF, 1, 1, "All flags but for whom: status -3.";
    "memory_type", 0xe1, HOST, OKAY, 0xf9, 0xe1, "Bits of a memory type don't matter.";
    "other_bits", 0xfe01, HOST, OKAY, 0xfe19, 0xfe01, "Bits without a meaning stay.";
    "reading_before", PERMIT | READING, HOST | ONLY_READ, OKAY, 9, 1,
        "The reading bit set by the guest is cleared when the mapping goes.";
    "writing_before", PERMIT | WRITING, HOST | ONLY_READ, OKAY, 0x19, 0x11,
        "The writing bit set by the guest stays when a read-only mapping goes.";
    "writing_before_refused", PERMIT | READ_ONLY | WRITING, HOST, GENERAL, 0x15, 0x15,
        "A refused mapping leaves the bits that the guest set.";
    "unknown_flags", PERMIT, HOST | 0xffe0, OKAY, 0x19, 1, "Flags without a meaning are taken.";
};

fn entry(t: &Test<'_>, flags: u16, how: u32, status: i64, states: (u16, u16)) -> Outcome {
    with_table(t, |table, [a, w, ..]| {
        table.set(REF, flags, OWN, a.mfn);
        let before = w.mapping(t);
        let seen = map(Wish::new(w.va, how))?;
        let during = table.flags(REF);
        let (host, device) = (how & HOST != 0, how & DEVICE != 0);
        if seen.status == OKAY {
            let address = if host { w.va } else { 0 };
            let bus = if device { a.ma() } else { 0 };
            equal("status of unmap", unmap(address, bus, seen.handle)?, OKAY)?;
        }
        let after = table.flags(REF);
        table.set(REF, 0, 0, 0);
        equal("status", seen.status, status)?;
        equal("entry", during, states.0.into())?;
        equal("entry behind it", after, states.1.into())?;
        if status == OKAY {
            equal("bus address", seen.bus, a.ma())?;
            return equal("page-table entry", w.mapping(t), if host { 0 } else { before });
        }
        equal("bus address", seen.bus, UNSET)?;
        equal("handle", seen.handle, UNSET >> 32)?;
        equal("page-table entry", w.mapping(t), before)
    })
}
