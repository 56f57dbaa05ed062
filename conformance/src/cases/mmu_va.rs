//! `update_va_mapping` and `update_va_mapping_otherdomain`: addresses, values, flushes, domains.

use crate::call::{EBUSY, EFAULT, EINVAL, EPERM, hypercall};
use crate::case::{Case, Outcome, Test, case, equal, equal_at};
use crate::raw::memory::{arena_address, peek, poke};
use crate::raw::pages_calls::{
    ESRCH, IO, NOBODY, SELF, UPDATE_VA_MAPPING_OTHERDOMAIN, XEN, put_words, update, update_va,
};
use crate::raw::pages_scratch::{FREE_SLOTS, LOADED, Page, free_frame, with};
use crate::tables::{FRAME, M2P, frame_of, top};

const READ_ONLY: u64 = LOADED & !2;
const ENTRY: u64 = 0x67;
/// The lowest address of the first top-level slot that cases may fill.
const FREE: u64 = FREE_SLOTS.start << 39;
const HYPERVISOR: u64 = 0xffff_8300_0000_0000;
/// The flags' types of flush.
const FLUSH: u64 = 1;
const INVLPG: u64 = 2;
/// The text screen's memory, a device on every PC.
const DEVICE: u64 = 0xb8000;

pub(crate) const CASES: &[Case] = &[
    case("mmu_va/flags_none", "Flags 0: the entry is written.", |t| flags(t, 0, 0)),
    case("mmu_va/flags_flush", "Flags 1: a flush of this CPU.", |t| flags(t, FLUSH, 0)),
    case("mmu_va/flags_page", "Flags 2: a flush of the page here.", |t| flags(t, INVLPG, 0)),
    case("mmu_va/flags_3", "Flags 3 is no type of flush, and is taken.", |t| flags(t, 3, 0)),
    case("mmu_va/flags_all", "Flags 4: everywhere, but nothing is flushed.", |t| flags(t, 4, 0)),
    case("mmu_va/flags_flush_all", "Flags 5: a flush everywhere.", |t| flags(t, 4 | FLUSH, 0)),
    case("mmu_va/flags_page_all", "Flags 6: a flush of the page everywhere.", |t| {
        flags(t, 4 | INVLPG, 0)
    }),
    case("mmu_va/flags_7", "Flags 7: no type of flush, everywhere, is taken.", |t| flags(t, 7, 0)),
    case("mmu_va/mask_flush", "A set of vCPUs with a full flush.", |t| {
        flags(t, mask(1) | FLUSH, 0)
    }),
    case("mmu_va/mask_page", "A set of vCPUs with a flush of the page.", |t| {
        flags(t, mask(1) | INVLPG, 0)
    }),
    case("mmu_va/mask_empty", "A set without vCPUs is taken.", |t| flags(t, mask(0) | FLUSH, 0)),
    case("mmu_va/mask_more", "A set with vCPUs that there are not is taken.", |t| {
        flags(t, mask(u64::MAX) | INVLPG, 0)
    }),
    case("mmu_va/mask_not_used", "Without a flush the set's address is not looked at.", |t| {
        flags(t, 0x1000, 0)
    }),
    case("mmu_va/mask_unmapped", "An unmapped set of vCPUs: EFAULT; the entry is written.", |t| {
        flags(t, 0x1000 | FLUSH, EFAULT)
    }),
    case("mmu_va/mask_unmapped_page", "The same for a flush of the page.", |t| {
        flags(t, 0x1000 | INVLPG, EFAULT)
    }),
    case("mmu_va/mask_in_hypervisor", "A set in the hypervisor: EFAULT; entry written.", |t| {
        flags(t, HYPERVISOR | FLUSH, EFAULT)
    }),
    case("mmu_va/value_zero", "A value of 0 clears the entry.", |t| {
        with(t, |[_, w, ..]| {
            equal("answer", update_va(w.va, 0, INVLPG), 0)?;
            equal("entry", w.mapping(t), 0)?;
            equal("again", update_va(w.va, 0, INVLPG), 0)
        })
    }),
    case("mmu_va/value_absent", "A value that is not present is taken as it is.", |t| {
        with(t, |[_, w, ..]| {
            equal("answer", update_va(w.va, !1, INVLPG), 0)?;
            equal("entry", w.mapping(t), !1)
        })
    }),
    case("mmu_va/value_adjusted", "Values are adjusted as those of mmu_update.", |t| {
        with(t, |[a, w, ..]| {
            equal("answer", update_va(w.va, a.entry(5), INVLPG), 0)?;
            equal("user entry", w.mapping(t), a.entry(0x105))?;
            equal("answer", update_va(w.va, a.entry(1), INVLPG), 0)?;
            equal("kernel entry", w.mapping(t), a.entry(0x0010_0000_0000_0005))
        })
    }),
    case("mmu_va/offset_ignored", "The address within the page is ignored.", |t| {
        with(t, |[a, w, ..]| {
            equal("answer", update_va(w.va + 0xfff, a.entry(LOADED), INVLPG), 0)?;
            equal("entry", w.mapping(t), a.entry(LOADED))
        })
    }),
    case("mmu_va/refused_flush", "A refused value with a flush asked for changes nothing.", |t| {
        with(t, |[a, w, ..]| {
            a.pin(1)?;
            equal("answer", update_va(w.va, a.entry(LOADED), FLUSH), EBUSY)?;
            equal("entry", w.mapping(t), w.entry(LOADED))
        })
    }),
    case("mmu_va/refused_before_mask", "A refused value: the set is not looked at.", |t| {
        with(t, |[a, w, ..]| {
            a.pin(1)?;
            equal("answer", update_va(w.va, a.entry(LOADED), 0x1000 | FLUSH), EBUSY)
        })
    }),
    case("mmu_va/free_frame", "A frame no domain has: EBUSY.", |t| {
        value(t, free_frame() << 12 | READ_ONLY, EBUSY)
    }),
    case("mmu_va/beyond_memory", "A frame beyond memory: EPERM.", |t| {
        value(t, 1 << 45 | READ_ONLY, EPERM)
    }),
    case("mmu_va/device", "A device's frame is mapped for an initial domain.", |t| {
        with(t, |[_, w, ..]| {
            equal("answer", update_va(w.va, DEVICE | LOADED, INVLPG), 0)?;
            equal("frame", w.mapping(t) & FRAME, DEVICE)
        })
    }),
    case("mmu_va/no_l3", "An address whose top-level slot is empty: EINVAL.", |_| {
        equal("answer", update_va(FREE, 0, 0), EINVAL)
    }),
    case("mmu_va/no_l2", "An address without an L2: EINVAL.", |t| {
        with(t, |[l3, a, ..]| {
            l3.pin(3)?;
            hang(t, l3)?;
            equal("answer", update_va(FREE, a.entry(LOADED), 0), EINVAL)
        })
    }),
    case("mmu_va/no_l1", "An address without an L1: EINVAL.", |t| {
        with(t, |[l3, l2, a, ..]| {
            l2.pin(2)?;
            l3.set(0, l2.entry(ENTRY));
            l3.pin(3)?;
            hang(t, l3)?;
            equal("answer", update_va(FREE, a.entry(LOADED), 0), EINVAL)
        })
    }),
    case("mmu_va/own_tables", "An address in tables of the guest's own making is mapped.", |t| {
        with(t, |[l3, l2, l1, a, ..]| {
            tree(t, [l3, l2, l1])?;
            equal("answer", update_va(FREE + 0x5000, a.entry(LOADED), INVLPG), 0)?;
            poke(FREE + 0x5008, 77);
            equal("word", a.get(1), 77)
        })
    }),
    case("mmu_va/first_address", "Address 0 is the guest's: without tables EINVAL.", |_| {
        equal("answer", update_va(0, 0, 0), EINVAL)
    }),
    case("mmu_va/m2p", "An address in the table of machine frames: EINVAL.", |_| {
        equal("answer", update_va(M2P, 0, 0), EINVAL)
    }),
    case("mmu_va/hypervisor_zero", "An address of the hypervisor, value 0: EINVAL.", |_| {
        for slot in 256..272_u64 {
            let address = 0xffff_0000_0000_0000 | slot << 39;
            equal_at("answer for", address, update_va(address, 0, 0), EINVAL)?;
        }
        Ok(())
    }),
    case("mmu_va/non_canonical", "Addresses that are none: EINVAL.", |_| {
        for address in [1 << 47, 0x7fff_8000_0000_0000, 0xffff_7fff_ffff_f000] {
            equal_at("answer for", address, update_va(address, 0, 0), EINVAL)?;
        }
        Ok(())
    }),
    case("mmu_va/other_self", "In the name of SELF: as without a domain.", |t| {
        other(t, SELF, 0, LOADED, 0)
    }),
    case("mmu_va/other_own", "In the name of the caller's own number: ESRCH.", |t| {
        other(t, 0, 0, LOADED, ESRCH)
    }),
    case("mmu_va/other_unknown", "In the name of a domain that is not there: ESRCH.", |t| {
        other(t, NOBODY, 0, LOADED, ESRCH)
    }),
    case("mmu_va/other_unknown_zero", "An unknown domain is refused for a value of 0 too.", |_| {
        let args = [FREE, 0, 0, NOBODY];
        equal("answer", hypercall(UPDATE_VA_MAPPING_OTHERDOMAIN, &args), ESRCH)
    }),
    case("mmu_va/other_io", "In the name of DOMID_IO an own frame: EBUSY.", |t| {
        other(t, IO, 0, LOADED, EBUSY)
    }),
    case("mmu_va/other_io_device", "In the name of DOMID_IO a device's frame: mapped.", |t| {
        with(t, |[_, w, ..]| {
            let args = [w.va, DEVICE | LOADED, INVLPG, IO];
            equal("answer", hypercall(UPDATE_VA_MAPPING_OTHERDOMAIN, &args), 0)?;
            equal("frame", w.mapping(t) & FRAME, DEVICE)
        })
    }),
    case("mmu_va/other_xen", "In the name of DOMID_XEN an own frame: EBUSY.", |t| {
        other(t, XEN, 0, LOADED, EBUSY)
    }),
    case("mmu_va/other_truncates", "The domain's upper bits are ignored.", |t| {
        other(t, 1 << 16 | SELF, 0, LOADED, 0)
    }),
    case("mmu_va/other_flags", "Flags are as without a domain.", |t| {
        other(t, SELF, 0x1000 | FLUSH, LOADED, EFAULT)
    }),
];

/// Maps the tables at the first free slot.
fn hang(t: &Test<'_>, l3: Page) -> Outcome {
    let slot = (frame_of(t.boot, top(t.boot)) << 12) + FREE_SLOTS.start * 8;
    equal("top-level entry", update(slot, l3.entry(ENTRY)), 0)
}

/// Makes a way down to an empty L1 at the first free slot.
fn tree(t: &Test<'_>, [l3, l2, l1]: [Page; 3]) -> Outcome {
    l1.protect()?;
    l2.set(0, l1.entry(ENTRY));
    l2.protect()?;
    l3.set(0, l2.entry(ENTRY));
    l3.protect()?;
    hang(t, l3)
}

/// The address of a set of vCPUs.
fn mask(vcpus: u64) -> u64 {
    put_words(0, &[vcpus]);
    arena_address()
}

/// Writes an entry with flags. It is written whatever the answer, and if a flush was asked for and
/// the answer is 0, the page is the new one.
fn flags(t: &Test<'_>, flags: u64, answer: i64) -> Outcome {
    with(t, |[a, w, ..]| {
        a.set(0, 1);
        equal("word before", peek(w.va), 0)?;
        equal("answer", update_va(w.va, a.entry(LOADED), flags), answer)?;
        equal("entry", w.mapping(t) & FRAME, a.ma())?;
        if answer == 0 && matches!(flags & 3, 1 | 2) && flags & !7 == 0 {
            equal("word behind", peek(w.va), 1)?;
        }
        Ok(())
    })
}

/// A refused value leaves the entry.
fn value(t: &Test<'_>, value: u64, answer: i64) -> Outcome {
    with(t, |[_, w, ..]| {
        equal("answer", update_va(w.va, value, INVLPG), answer)?;
        equal("entry", w.mapping(t), w.entry(LOADED))
    })
}

/// Maps an own frame in the name of a domain.
fn other(t: &Test<'_>, domid: u64, flags: u64, bits: u64, answer: i64) -> Outcome {
    with(t, |[a, w, ..]| {
        let args = [w.va, a.entry(bits), flags, domid];
        equal("answer", hypercall(UPDATE_VA_MAPPING_OTHERDOMAIN, &args), answer)?;
        let written = answer == 0 || answer == EFAULT;
        let entry = if written { a.entry(bits) } else { w.entry(LOADED) };
        equal("entry", w.mapping(t), entry)
    })
}
