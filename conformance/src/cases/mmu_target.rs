//! What `mmu_update` may write to, and which frames its entries may map.

use crate::call::{EBUSY, EINVAL, EPERM, hypercall};
use crate::case::{Case, Outcome, Test, case, equal, equal_at};
use crate::raw::memory::arena_address;
use crate::raw::pages_calls::{IO, SET_GDT, XEN, mmu_update_of, mmuext, put_words, unpin, update};
use crate::raw::pages_scratch::{LOADED, Page, duplicate, free_frame, hypervisor_frame, with};
use crate::raw::{Registers, snippets};
use crate::tables::{FRAME, entry, frame_of, page_of, top};
use crate::traps::trapped;

const READ_ONLY: u64 = LOADED & !2;
const DEVICE: u64 = 0xb8;
/// A frame behind the machine's memory that an address can name.
const BEHIND: u64 = 1 << 26;
/// The first frame that no address of 40 bits names.
const NO_ADDRESS: u64 = 1 << 28;

pub(crate) const CASES: &[Case] = &[
    case(
        "mmu_target/plain",
        "A word of a page that is mapped writable is written as it is.",
        |t| {
            with(t, |[a, ..]| {
                equal("update", update(a.place(3), u64::MAX), 0)?;
                equal("word", a.get(3), u64::MAX)
            })
        },
    ),
    case("mmu_target/plain_read_only", "A page that is nothing yet is written too.", |t| {
        with(t, |[a, ..]| {
            a.protect()?;
            equal("update", update(a.place(3), 1 << 51 | 1), 0)?;
            equal("word", a.get(3), 1 << 51 | 1)
        })
    }),
    case(
        "mmu_target/plain_preserve",
        "Command 2 on a plain page writes the value as it is.",
        |t| {
            with(t, |[a, ..]| {
                a.set(3, 0x60);
                equal("update", update(a.place(3) | 2, 0x1001), 0)?;
                equal("word", a.get(3), 0x1001)
            })
        },
    ),
    case("mmu_target/plain_stays_plain", "A page written to can become a table behind it.", |t| {
        with(t, |[a, b, ..]| {
            a.protect()?;
            equal("update", update(a.place(0), b.entry(READ_ONLY)), 0)?;
            a.pin(1)?;
            a.is_held(EBUSY)
        })
    }),
    case("mmu_target/unpinned", "A table that is none any more is written as it is.", |t| {
        with(t, |[a, ..]| {
            a.pin(2)?;
            a.unpin()?;
            equal("update", update(a.place(0), 1 << 51 | 0x1ff), 0)?;
            equal("word", a.get(0), 1 << 51 | 0x1ff)
        })
    }),
    case("mmu_target/descriptors", "A page of descriptors can't be written: EINVAL.", |t| {
        with(t, |[a, ..]| {
            a.protect()?;
            put_words(0, &[a.mfn]);
            equal("set_gdt", hypercall(SET_GDT, &[arena_address(), 512]), 0)?;
            equal("update", update(a.place(1), 0), EINVAL)
        })
    }),
    case("mmu_target/free_frame", "A frame that no domain has can't be written: EINVAL.", |_| {
        target(free_frame())
    }),
    case("mmu_target/hypervisor_frame", "A frame of the hypervisor can't be written.", |t| {
        target(hypervisor_frame(t))
    }),
    case("mmu_target/device", "A device's frame can't be written.", |_| target(DEVICE)),
    case("mmu_target/beyond", "Frames beyond memory can't be written.", |_| {
        target(BEHIND)?;
        target(NO_ADDRESS)?;
        target((1 << 52) - 1)
    }),
    case("mmu_target/loaded_table", "The table in use can be written.", |t| {
        let place = (frame_of(t.boot, top(t.boot)) << 12) + 7 * 8;
        equal("update", update(place, 0xffe), 0)?;
        let seen = entry(top(t.boot), 7);
        equal("back", update(place, 0), 0)?;
        equal("entry", seen, 0xffe)
    }),
    case("mmu_target/loaded_copy", "A table in use that is not pinned can be written.", |t| {
        with(t, |[copy, ..]| {
            let first = duplicate(t, copy)?;
            equal("load", mmuext(5, copy.mfn, 0), 0)?;
            let written = update(copy.place(7), 0xffe);
            let seen = copy.get(7);
            equal("back", mmuext(5, first, 0), 0)?;
            equal("update", written, 0)?;
            equal("entry", seen, 0xffe)
        })
    }),
    case("mmu_target/value_free", "A frame that no domain has can't be mapped: EBUSY.", |t| {
        value(t, free_frame(), EBUSY)
    }),
    case("mmu_target/value_hypervisor", "A frame of the hypervisor can't be mapped: EBUSY.", |t| {
        value(t, hypervisor_frame(t), EBUSY)
    }),
    case("mmu_target/value_behind", "A frame behind the machine's memory is a device's.", |t| {
        with(t, |[_, w, ..]| {
            equal("update", update(w.slot, BEHIND << 12 | READ_ONLY), 0)?;
            equal("frame", (w.mapping(t) & FRAME) >> 12, BEHIND)
        })
    }),
    case("mmu_target/value_no_address", "A frame that no address names can't be mapped.", |t| {
        value(t, NO_ADDRESS, EPERM)
    }),
    case("mmu_target/value_last", "The last frame that an entry names can't be mapped.", |t| {
        value(t, (1 << 40) - 1, EINVAL)
    }),
    case("mmu_target/value_zero", "Frame 0 can be mapped by an initial domain.", |t| {
        with(t, |[_, w, ..]| {
            equal("update", update(w.slot, READ_ONLY), 0)?;
            equal("frame", w.mapping(t) & FRAME, 0)
        })
    }),
    case(
        "mmu_target/value_apic",
        "The interrupt controller's frame can't be mapped writable.",
        |t| {
            with(t, |[_, w, ..]| {
                equal("update", update(w.slot, 0xfee0_0000 | LOADED), EPERM)?;
                equal("entry", w.mapping(t), w.entry(LOADED))
            })
        },
    ),
    case("mmu_target/value_device_io", "A device's frame as DOMID_IO's can be mapped.", |t| {
        with(t, |[_, w, ..]| {
            let request = (w.slot, DEVICE << 12 | LOADED);
            equal("answer", mmu_update_of(IO, &[request]).0, 0)?;
            equal("frame", (w.mapping(t) & FRAME) >> 12, DEVICE)
        })
    }),
    case("mmu_target/value_hypervisor_xen", "A hypervisor's frame as DOMID_XEN's: EBUSY.", |t| {
        with(t, |[_, w, ..]| {
            let request = (w.slot, hypervisor_frame(t) << 12 | LOADED);
            equal("answer", mmu_update_of(XEN, &[request]).0, EBUSY)?;
            equal("entry", w.mapping(t), w.entry(LOADED))
        })
    }),
    case("mmu_target/own_as_writable_twice", "Mappings of a page are counted one by one.", |t| {
        with(t, |[a, w, x, ..]| {
            a.unmap()?;
            equal("first", update(w.slot, a.entry(LOADED)), 0)?;
            equal("second", update(x.slot, a.entry(LOADED)), 0)?;
            equal("pin", mmuext(0, a.mfn, 0), EINVAL)?;
            equal("first gone", update(w.slot, 0), 0)?;
            equal("pin", mmuext(0, a.mfn, 0), EINVAL)?;
            equal("second gone", update(x.slot, 0), 0)?;
            equal("pin", mmuext(0, a.mfn, 0), 0)?;
            equal("unpin", unpin(a.mfn), 0)
        })
    }),
    case("mmu_target/table_in_use_protects", "A page that a table in use maps counts too.", |t| {
        with(t, |[l1, a, ..]| {
            a.unmap()?;
            l1.set(0, a.entry(LOADED));
            l1.pin(1)?;
            equal("pin", mmuext(0, a.mfn, 0), EINVAL)?;
            l1.unpin()?;
            equal("pin behind it", mmuext(0, a.mfn, 0), 0)
        })
    }),
    case(
        "mmu_target/to_read_only_frees",
        "Making the last writable mapping read-only frees.",
        |t| {
            with(t, |[a, ..]| {
                equal("pin", mmuext(0, a.mfn, 0), EINVAL)?;
                equal("update", update(a.slot, a.entry(READ_ONLY)), 0)?;
                equal("pin behind it", mmuext(0, a.mfn, 0), 0)
            })
        },
    ),
    case("mmu_target/read_only_is_enforced", "A read-only entry is: a write faults.", |t| {
        with(t, |[a, ..]| {
            a.protect()?;
            let mut registers = Registers::new();
            registers.rsi = a.va;
            let frame = trapped(14, snippets::STORE, &mut registers)?;
            equal("error code", frame.error, 3)?;
            equal("word", a.get(0), 0)
        })
    }),
    case("mmu_target/page_number_kept", "Becoming a table and none again keeps the number.", |t| {
        with(t, |[a, ..]| {
            for level in 1..=3 {
                a.pin(level)?;
                equal_at("page at level", level, page_of(a.mfn), a.pfn)?;
                a.unpin()?;
            }
            equal("page", page_of(a.mfn), a.pfn)
        })
    }),
];

/// No frame of another can be written.
fn target(mfn: u64) -> Outcome {
    equal_at("update of frame", mfn, update(mfn << 12, 0), EINVAL)
}

/// An entry for a frame is refused, read-only and writable.
fn value(t: &Test<'_>, mfn: u64, answer: i64) -> Outcome {
    with(t, |[_, w, ..]: [Page; 16]| {
        for flags in [READ_ONLY, LOADED] {
            equal_at("update with", flags, update(w.slot, mfn << 12 | flags), answer)?;
        }
        equal("entry", w.mapping(t), w.entry(LOADED))
    })
}
