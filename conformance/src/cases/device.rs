//! Frames that are no memory: the initial domain maps them, but for those the hypervisor drives.

use crate::call::hypercall;
use crate::case::{Case, Outcome, Test, case, equal, equal_at};
use crate::raw::pages_calls::{IO, UPDATE_VA_MAPPING_OTHERDOMAIN, update, update_va};
use crate::raw::pages_scratch::{LOADED, with};

/// The local APICs' registers, and the last frame of the range that stands for interrupt messages.
const LOCAL_APIC: u64 = 0xfee00;
const LAST_MESSAGE: u64 = 0xfeeff;
/// The I/O APIC's registers.
const IO_APIC: u64 = 0xfec00;
const EPERM: i64 = -1;
const WRITABLE: u64 = 2;

pub(crate) const CASES: &[Case] = &[
    case("device/local_apic", "The local APIC's registers may not be mapped: EPERM.", |t| {
        refused(t, LOCAL_APIC)
    }),
    case("device/messages", "Nor may the addresses of interrupt messages.", |t| {
        refused(t, LOCAL_APIC + 1)?;
        refused(t, LAST_MESSAGE)
    }),
    case("device/behind_messages", "What lies behind them may.", |t| {
        mapped(t, LAST_MESSAGE + 1, LOADED, LOADED)
    }),
    case("device/io_apic_read_only", "The I/O APIC's registers may be mapped read-only.", |t| {
        mapped(t, IO_APIC, LOADED & !WRITABLE, LOADED & !WRITABLE)
    }),
    case("device/io_apic_writable", "A writable mapping of them becomes read-only.", |t| {
        mapped(t, IO_APIC, LOADED, LOADED & !WRITABLE)
    }),
    case("device/io_apic_flags", "And stays so when it is made writable later.", |t| {
        with(t, |[page, ..]| {
            equal("read-only", update_va(page.va, device(IO_APIC, LOADED & !WRITABLE), 2), 0)?;
            equal("writable", update(page.slot, device(IO_APIC, LOADED)), 0)?;
            equal("entry", page.mapping(t) & WRITABLE, 0)
        })
    }),
    case("device/low_memory", "The first MiB is a device, memory or not.", |t| {
        for frame in [0, 0x10, 0x80, 0x9e, 0xa0, 0xff] {
            mapped(t, frame, LOADED, LOADED)?;
        }
        with(t, |[page, ..]| {
            equal("answer", update_va(page.va, device(0x80, LOADED), 2), 0)?;
            equal("caching", page.mapping(t) & 0x98, 0x18)
        })
    }),
    case(
        "device/caching",
        "A device's frame is mapped uncached, or as is asked where that is not cached either.",
        |t| {
            with(t, |[page, ..]| {
                for (asked, read) in [
                    (0, 0x18),
                    (8, 0x18),
                    (0x88, 0x18),
                    (0x10, 0x10),
                    (0x18, 0x18),
                    (0x80, 0x80),
                    (0x90, 0x90),
                    (0x98, 0x98),
                    (8, 0x18),
                ] {
                    let entry = device(LAST_MESSAGE + 1, LOADED | asked);
                    equal_at("by address", asked, update_va(page.va, entry, 2), 0)?;
                    equal_at("flags", asked, page.mapping(t) & 0x98, read)?;
                    equal_at("by entry", asked, update(page.slot, entry), 0)?;
                    equal_at("flags", asked, page.mapping(t) & 0x98, read)?;
                }
                Ok(())
            })
        },
    ),
];

const fn device(frame: u64, flags: u64) -> u64 {
    frame << 12 | flags
}

/// No call maps the frame, in no way.
fn refused(t: &Test<'_>, frame: u64) -> Outcome {
    with(t, |[page, ..]| {
        for flags in [LOADED, LOADED & !WRITABLE] {
            let entry = device(frame, flags);
            equal_at("by address", flags, update_va(page.va, entry, 2), EPERM)?;
            equal_at("by entry", flags, update(page.slot, entry), EPERM)?;
            let answer = hypercall(UPDATE_VA_MAPPING_OTHERDOMAIN, &[page.va, entry, 2, IO]);
            equal_at("as a device", flags, answer, EPERM)?;
        }
        Ok(())
    })
}

/// The frame is mapped with flags, which read back as others.
fn mapped(t: &Test<'_>, frame: u64, flags: u64, read: u64) -> Outcome {
    with(t, |[page, ..]| {
        equal("answer", update_va(page.va, device(frame, flags), 2), 0)?;
        equal("writable", page.mapping(t) & WRITABLE, read & WRITABLE)?;
        equal("frame", page.mapping(t) >> 12 & 0xf_ffff, frame)
    })
}
