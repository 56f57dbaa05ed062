//! `NEW_BASEPTR` and `NEW_USER_BASEPTR`: what can be loaded, and what becomes of the table before;
//! `CLEAR_PAGE` and `COPY_PAGE`.

use crate::call::{EBUSY, EINVAL, hypercall};
use crate::case::{Case, Outcome, Test, case, ends_guest, equal, equal_at};
use crate::raw::memory::{arena_address, peek};
use crate::raw::pages_calls::{
    CLEAR_PAGE, COPY_PAGE, IO, NEW_BASEPTR, NEW_USER_BASEPTR, SET_GDT, mmuext, mmuext_batch,
    mmuext_of, put_words, update,
};
use crate::raw::pages_scratch::{LOADED, Page, duplicate, free_frame, hypervisor_frame, with};
use crate::raw::snippets;
use crate::tables::{PRESENT, VIRT_BASE, entry, frame_of, top};

pub(crate) const CASES: &[Case] = &[
    case("ext_base/copy", "A copy of the top-level table can be loaded, pinned or not.", |t| {
        loaded(t, |copy| {
            copy.is_held(EBUSY)?;
            equal("word", peek(VIRT_BASE), peek(VIRT_BASE))
        })
    }),
    case("ext_base/copy_left", "A table that is not pinned is free behind the next load.", |t| {
        with(t, |[copy, ..]| {
            let first = duplicate(t, copy)?;
            equal("load", mmuext(NEW_BASEPTR, copy.mfn, 0), 0)?;
            let held = copy.is_held(EBUSY);
            equal("back", mmuext(NEW_BASEPTR, first, 0), 0)?;
            held?;
            copy.is_free()
        })
    }),
    case("ext_base/pinned_left", "A pinned table stays one behind the next load.", |t| {
        with(t, |[copy, ..]| {
            let first = duplicate(t, copy)?;
            copy.pin(4)?;
            equal("load", mmuext(NEW_BASEPTR, copy.mfn, 0), 0)?;
            equal("back", mmuext(NEW_BASEPTR, first, 0), 0)?;
            copy.is_held(EBUSY)
        })
    }),
    case("ext_base/unpin_loaded", "A loaded table can be unpinned and stays a table.", |t| {
        with(t, |[copy, ..]| {
            let first = duplicate(t, copy)?;
            copy.pin(4)?;
            equal("load", mmuext(NEW_BASEPTR, copy.mfn, 0), 0)?;
            let held = copy.unpin().and_then(|()| copy.is_held(EBUSY));
            equal("back", mmuext(NEW_BASEPTR, first, 0), 0)?;
            held?;
            copy.is_free()
        })
    }),
    case("ext_base/pin_loaded", "A loaded table can be pinned.", |t| {
        loaded(t, |copy| {
            equal("pin", mmuext(3, copy.mfn, 0), 0)?;
            equal("pin again", mmuext(3, copy.mfn, 0), EINVAL)
        })
    }),
    case("ext_base/slots", "A loaded table shows the hypervisor's entries.", |t| {
        loaded(t, |copy| {
            let shown = copy.get(256) & PRESENT;
            equal("first slot", shown, PRESENT)?;
            equal("as in the first table", copy.get(256), entry(top(t.boot), 256))
        })
    }),
    case("ext_base/new_entries", "A loaded table's new entries are used at once.", |t| {
        with(t, |[copy, l3, l2, l1, a, ..]| {
            let first = duplicate(t, copy)?;
            l1.set(0, a.entry(LOADED));
            l2.set(0, l1.entry(0x67));
            l3.set(0, l2.entry(0x67));
            for table in [l1, l2, l3] {
                table.protect()?;
            }
            a.set(3, 33);
            equal("load", mmuext(NEW_BASEPTR, copy.mfn, 0), 0)?;
            let written = update(copy.place(6), l3.entry(0x67));
            let seen = if written == 0 { peek((6 << 39) + 24) } else { 0 };
            equal("back", mmuext(NEW_BASEPTR, first, 0), 0)?;
            equal("entry", written, 0)?;
            equal("word", seen, 33)
        })
    }),
    case("ext_base/writable", "A page that is mapped writable can't be loaded.", |t| {
        with(t, |[a, ..]| equal("load", mmuext(NEW_BASEPTR, a.mfn, 0), EINVAL))
    }),
    case("ext_base/other_level", "A pinned table of levels 1 to 3 can't be loaded.", |t| {
        for level in 1..=3 {
            with(t, |[a, ..]| {
                a.pin(level)?;
                equal_at("load of level", level, mmuext(NEW_BASEPTR, a.mfn, 0), EINVAL)
            })?;
        }
        Ok(())
    }),
    case("ext_base/garbage", "A page with a bad entry can't be loaded, and stays free.", |t| {
        with(t, |[a, ..]| {
            a.set(0, 0xfff);
            a.protect()?;
            equal("load", mmuext(NEW_BASEPTR, a.mfn, 0), EINVAL)?;
            a.is_free()
        })
    }),
    case("ext_base/strangers", "Frames that are not the guest's can't be loaded.", |t| {
        for mfn in [free_frame(), hypervisor_frame(t), 1 << 33, u64::MAX, 0] {
            equal_at("load of", mfn, mmuext(NEW_BASEPTR, mfn, 0), EINVAL)?;
            if mfn != 0 {
                equal_at("user of", mfn, mmuext(NEW_USER_BASEPTR, mfn, 0), EINVAL)?;
            }
        }
        Ok(())
    }),
    case("ext_base/domain_io", "Loading in the name of DOMID_IO: EPERM.", |t| {
        let mfn = frame_of(t.boot, top(t.boot));
        equal("kernel's", mmuext_of(IO, &[(NEW_BASEPTR, mfn, 0)]).0, -1)?;
        equal("user's", mmuext_of(IO, &[(NEW_USER_BASEPTR, 0, 0)]).0, -1)
    }),
    case("ext_base/failed_stays", "Behind a refused load the table before is in use.", |t| {
        with(t, |[a, ..]| {
            equal("load", mmuext(NEW_BASEPTR, a.mfn, 0), EINVAL)?;
            a.set(0, 3);
            equal("word", peek(a.va), 3)?;
            a.is_free()
        })
    }),
    case("ext_base/batch", "Kernel's and user's table in one batch, and back.", |t| {
        with(t, |[copy, user, ..]| {
            let first = duplicate(t, copy)?;
            user.protect()?;
            let there = [(NEW_BASEPTR, copy.mfn, 0), (NEW_USER_BASEPTR, user.mfn, 0)];
            let (answer, done) = mmuext_batch(&there);
            let back = mmuext_batch(&[(NEW_BASEPTR, first, 0), (NEW_USER_BASEPTR, 0, 0)]);
            equal("answer", answer, 0)?;
            equal("done", done, 2)?;
            equal("back", back.0, 0)?;
            copy.is_free()?;
            user.is_free()
        })
    }),
    case("ext_base/user", "A user's table is a table until 0 is loaded.", |t| {
        with(t, |[user, ..]| {
            user.protect()?;
            equal("load", mmuext(NEW_USER_BASEPTR, user.mfn, 0), 0)?;
            let held = user.is_held(EBUSY);
            equal("none", mmuext(NEW_USER_BASEPTR, 0, 0), 0)?;
            held?;
            user.is_free()
        })
    }),
    case("ext_base/user_again", "The same user's table can be loaded again.", |t| {
        with(t, |[user, ..]| {
            user.protect()?;
            equal("load", mmuext(NEW_USER_BASEPTR, user.mfn, 0), 0)?;
            let again = mmuext(NEW_USER_BASEPTR, user.mfn, 0);
            let held = user.is_held(EBUSY);
            equal("none", mmuext(NEW_USER_BASEPTR, 0, 0), 0)?;
            held?;
            equal("again", again, 0)?;
            user.is_free()
        })
    }),
    case("ext_base/user_replaced", "Another user's table frees the one before.", |t| {
        with(t, |[user, other, ..]| {
            user.protect()?;
            other.protect()?;
            equal("load", mmuext(NEW_USER_BASEPTR, user.mfn, 0), 0)?;
            let next = mmuext(NEW_USER_BASEPTR, other.mfn, 0);
            let free = user.is_free().and_then(|()| other.is_held(EBUSY));
            equal("none", mmuext(NEW_USER_BASEPTR, 0, 0), 0)?;
            equal("other", next, 0)?;
            free
        })
    }),
    case("ext_base/user_is_kernel", "The kernel's table can be the user's too.", |t| {
        let mfn = frame_of(t.boot, top(t.boot));
        equal("load", mmuext(NEW_USER_BASEPTR, mfn, 0), 0)?;
        equal("none", mmuext(NEW_USER_BASEPTR, 0, 0), 0)
    }),
    case("ext_base/user_refused", "A refused user's table leaves the one before.", |t| {
        with(t, |[user, other, l3, ..]| {
            user.protect()?;
            l3.pin(3)?;
            equal("load", mmuext(NEW_USER_BASEPTR, user.mfn, 0), 0)?;
            let writable = mmuext(NEW_USER_BASEPTR, other.mfn, 0);
            let level = mmuext(NEW_USER_BASEPTR, l3.mfn, 0);
            let held = user.is_held(EBUSY);
            equal("none", mmuext(NEW_USER_BASEPTR, 0, 0), 0)?;
            equal("writable", writable, EINVAL)?;
            equal("other level", level, EINVAL)?;
            held
        })
    }),
    ends_guest(
        "ext_base/empty",
        "A guest that loads a table without its kernel crashes at its next instruction.",
        |t| {
            with(t, |[empty, ..]| {
                empty.protect()?;
                put_words(0, &[NEW_BASEPTR, empty.mfn, 0]);
                let mut registers = crate::call::registers(26, &[arena_address(), 1, 0, 0x7ff0]);
                t.crash_at(snippets::SYSCALL, &mut registers, snippets::SYSCALL.address() + 2)
            })
        },
    ),
];

pub(crate) const PAGES: &[Case] = &[
    case("ext_pages/clear", "CLEAR_PAGE clears all of a page, and no other.", |t| {
        with(t, |[a, b, ..]| {
            (0..512).for_each(|word| a.set(word, u64::MAX));
            b.set(0, 7);
            equal("answer", mmuext(CLEAR_PAGE, a.mfn, 0), 0)?;
            for word in 0..512 {
                equal_at("word", word, a.get(word), 0)?;
            }
            equal("next page", b.get(0), 7)
        })
    }),
    case("ext_pages/clear_read_only", "CLEAR_PAGE takes a page that is mapped read-only.", |t| {
        with(t, |[a, ..]| {
            a.set(1, 7);
            a.protect()?;
            equal("answer", mmuext(CLEAR_PAGE, a.mfn, 0), 0)?;
            equal("word", a.get(1), 0)
        })
    }),
    case("ext_pages/clear_table", "CLEAR_PAGE refuses tables of every level.", |t| {
        for level in 1..=4 {
            with(t, |[a, ..]| {
                a.set(7, 6);
                a.pin(level)?;
                equal_at("answer for level", level, mmuext(CLEAR_PAGE, a.mfn, 0), EINVAL)?;
                equal("word", a.get(7), 6)
            })?;
        }
        Ok(())
    }),
    case("ext_pages/clear_descriptors", "CLEAR_PAGE refuses a page of descriptors.", |t| {
        with(t, |[a, ..]| {
            a.protect()?;
            put_words(0, &[a.mfn]);
            equal("set_gdt", hypercall(SET_GDT, &[arena_address(), 1]), 0)?;
            equal("answer", mmuext(CLEAR_PAGE, a.mfn, 0), EINVAL)
        })
    }),
    case("ext_pages/clear_strangers", "CLEAR_PAGE refuses frames that are not the guest's.", |t| {
        for mfn in [free_frame(), hypervisor_frame(t), 1 << 33, u64::MAX, 0xb8] {
            equal_at("answer for", mfn, mmuext(CLEAR_PAGE, mfn, 0), EINVAL)?;
        }
        Ok(())
    }),
    case("ext_pages/clear_unmapped", "CLEAR_PAGE takes a page that is not mapped.", |t| {
        with(t, |[a, ..]| {
            a.set(0, 9);
            a.unmap()?;
            equal("answer", mmuext(CLEAR_PAGE, a.mfn, 0), 0)?;
            a.is_free()?;
            equal("word", a.get(0), 0)
        })
    }),
    case("ext_pages/copy", "COPY_PAGE copies all of a page.", |t| {
        with(t, |[a, b, ..]| {
            (0..512).for_each(|word| a.set(word, word * 3 + 1));
            equal("answer", mmuext(COPY_PAGE, b.mfn, a.mfn), 0)?;
            for word in 0..512 {
                equal_at("word", word, b.get(word), word * 3 + 1)?;
            }
            Ok(())
        })
    }),
    case("ext_pages/copy_of_table", "COPY_PAGE reads from tables.", |t| {
        with(t, |[a, b, ..]| {
            a.set(5, 0x50);
            a.pin(1)?;
            equal("answer", mmuext(COPY_PAGE, b.mfn, a.mfn), 0)?;
            equal("word", b.get(5), 0x50)
        })
    }),
    case("ext_pages/copy_to_table", "COPY_PAGE refuses to write to tables.", |t| {
        for level in 1..=4 {
            with(t, |[a, b, ..]| {
                a.pin(level)?;
                b.set(0, 0x1230);
                equal_at("answer for level", level, mmuext(COPY_PAGE, a.mfn, b.mfn), EINVAL)?;
                equal("word", a.get(0), 0)
            })?;
        }
        Ok(())
    }),
    case("ext_pages/copy_to_itself", "COPY_PAGE from a page to itself changes nothing.", |t| {
        with(t, |[a, ..]| {
            a.set(2, 4);
            equal("answer", mmuext(COPY_PAGE, a.mfn, a.mfn), 0)?;
            equal("word", a.get(2), 4)
        })
    }),
    case("ext_pages/copy_strangers", "COPY_PAGE refuses frames that are not the guest's.", |t| {
        with(t, |[a, ..]| {
            for mfn in [free_frame(), hypervisor_frame(t), 1 << 33, u64::MAX, 0xb8] {
                equal_at("answer to", mfn, mmuext(COPY_PAGE, mfn, a.mfn), EINVAL)?;
                equal_at("answer from", mfn, mmuext(COPY_PAGE, a.mfn, mfn), EINVAL)?;
            }
            Ok(())
        })
    }),
    case("ext_pages/domain_io", "Clearing and copying in the name of DOMID_IO is refused.", |t| {
        with(t, |[a, b, ..]| {
            a.set(0, 5);
            equal("clear", mmuext_of(IO, &[(CLEAR_PAGE, a.mfn, 0)]).0, EINVAL)?;
            equal("copy", mmuext_of(IO, &[(COPY_PAGE, a.mfn, b.mfn)]).0, EINVAL)?;
            equal("word", a.get(0), 5)
        })
    }),
];

/// Loads a copy of the top-level table, calls `body`, and loads the first table again.
fn loaded(t: &Test<'_>, body: impl FnOnce(Page) -> Outcome) -> Outcome {
    with(t, |[copy, ..]| {
        let first = duplicate(t, copy)?;
        equal("load", mmuext(NEW_BASEPTR, copy.mfn, 0), 0)?;
        let outcome = body(copy);
        equal("back", mmuext(NEW_BASEPTR, first, 0), 0)?;
        outcome
    })
}
