//! Pinning and unpinning, level by level: what makes a table, what makes none, in which order.

use crate::call::{EBUSY, EINVAL, EPERM};
use crate::case::{Case, Outcome, Test, case, equal, equal_at};
use crate::raw::pages_calls::{
    IO, NOBODY, PIN_L1, SELF, UNPIN, XEN, mmuext_batch, mmuext_of, pin, unpin, update,
};
use crate::raw::pages_scratch::{LOADED, Page, free_frame, hypervisor_frame, with};
use crate::tables::FRAME;

const ENTRY: u64 = 0x67;
const READ_ONLY: u64 = LOADED & !2;

pub(crate) const CASES: &[Case] = &[
    case("pin_levels/l1_of_pages", "An L1 may map own pages, read-only and writable.", |t| {
        with(t, |[l1, a, b, ..]| {
            l1.set(0, a.entry(LOADED));
            l1.set(511, b.entry(READ_ONLY));
            l1.pin(1)?;
            a.is_held(0)?;
            equal("pin of a mapped page", pin(1, a.mfn), EINVAL)
        })
    }),
    case("pin_levels/adjusts_l1", "Pinning adds to L1 entries what writing them would add.", |t| {
        with(t, |[l1, a, ..]| {
            l1.set(0, a.entry(1));
            l1.set(1, a.entry(5));
            l1.pin(1)?;
            equal("kernel entry", l1.get(0), a.entry(0x0010_0000_0000_0005))?;
            equal("user entry", l1.get(1), a.entry(0x105))
        })
    }),
    case("pin_levels/adjusts_l2", "Pinning adds the user bit to L2 entries.", |t| adjusts(t, 2, 5)),
    case("pin_levels/adjusts_l3", "Pinning adds the user bit to L3 entries.", |t| adjusts(t, 3, 5)),
    case("pin_levels/adjusts_l4", "Pinning adds user and accessed to L4 entries.", |t| {
        adjusts(t, 4, 0x25)
    }),
    case("pin_levels/chain", "Pinning an L4 makes tables of all that it leads to.", |t| {
        with(t, |[l4, l3, l2, l1, a, ..]| {
            chain([l4, l3, l2, l1, a])?;
            equal("pin", pin(4, l4.mfn), 0)?;
            for page in [l4, l3, l2, l1] {
                page.is_held(EBUSY)?;
            }
            l4.unpin()?;
            for page in [l4, l3, l2, l1] {
                page.is_free()?;
            }
            Ok(())
        })
    }),
    case(
        "pin_levels/chain_broken",
        "One bad entry deep down refuses the pin of an L4 with its error.",
        |t| {
            with(t, |[l4, l3, l2, l1, a, b, ..]| {
                l1.set(1, b.entry(LOADED));
                l1.set(2, 1 << 45 | 1);
                chain([l4, l3, l2, l1, a])?;
                equal("pin", pin(4, l4.mfn), EPERM)?;
                for page in [l4, l3, l2, l1, a, b] {
                    page.is_free()?;
                }
                b.pin(1)
            })
        },
    ),
    case("pin_levels/broken_l1", "An L1 with an entry for no memory: EPERM.", |t| {
        with(t, |[l1, a, ..]| {
            l1.set(0, a.entry(LOADED));
            l1.set(511, 1 << 45 | 1);
            l1.protect()?;
            equal("pin", pin(1, l1.mfn), EPERM)?;
            l1.is_free()
        })
    }),
    case("pin_levels/broken_keeps_first", "What a refused pin has adjusted, it sets back.", |t| {
        with(t, |[l1, a, ..]| {
            l1.set(0, a.entry(1));
            l1.set(511, 1 << 45 | 1);
            l1.protect()?;
            equal("pin", pin(1, l1.mfn), EPERM)?;
            equal("entry", l1.get(0), a.entry(0x0010_0000_0000_0005))
        })
    }),
    case("pin_levels/l1_of_itself", "An L1 may map itself read-only.", |t| {
        with(t, |[l1, ..]| {
            l1.set(0, l1.entry(READ_ONLY));
            l1.pin(1)?;
            l1.is_held(EBUSY)
        })
    }),
    case("pin_levels/l1_of_itself_writable", "An L1 that maps itself writable: EBUSY.", |t| {
        with(t, |[l1, ..]| {
            l1.set(0, l1.entry(LOADED));
            l1.protect()?;
            equal("pin", pin(1, l1.mfn), EBUSY)?;
            l1.is_free()
        })
    }),
    case(
        "pin_levels/l1_of_table_writable",
        "An L1 that maps a pinned table writable: EBUSY.",
        |t| {
            for level in 1..=4 {
                with(t, |[l1, table, ..]| {
                    table.pin(level)?;
                    l1.set(3, table.entry(LOADED));
                    l1.protect()?;
                    equal_at("pin with table of level", level, pin(1, l1.mfn), EBUSY)
                })?;
            }
            Ok(())
        },
    ),
    case("pin_levels/l1_of_table", "An L1 may map tables of every level read-only.", |t| {
        for level in 1..=4 {
            with(t, |[l1, table, ..]| {
                table.pin(level)?;
                l1.set(3, table.entry(READ_ONLY));
                l1.pin(1)?;
                l1.is_held(EBUSY)
            })?;
        }
        Ok(())
    }),
    case("pin_levels/l2_of_writer", "An L2 whose L1 maps that L2 writable: refused.", |t| {
        with(t, |[l2, l1, ..]| {
            l2.set(0, l1.entry(ENTRY));
            l1.set(0, l2.entry(LOADED));
            l1.protect()?;
            l2.protect()?;
            equal("pin", pin(2, l2.mfn), EBUSY)?;
            l1.is_free()?;
            l2.is_free()
        })
    }),
    case(
        "pin_levels/l1_then_writer",
        "A pinned L1 that maps a page forbids that page's pin.",
        |t| {
            with(t, |[l1, l2, ..]| {
                l1.set(0, l2.entry(LOADED));
                l1.pin(1)?;
                l2.protect()?;
                equal("pin", pin(2, l2.mfn), EINVAL)?;
                equal("entry", update(l1.place(0), l2.entry(READ_ONLY)), 0)?;
                equal("pin behind it", pin(2, l2.mfn), 0)
            })
        },
    ),
    case("pin_levels/l2_of_itself", "An L2 that refers to itself read-only can be pinned.", |t| {
        itself(t, 2, 0x25, 0)
    }),
    case("pin_levels/l3_of_itself", "An L3 that refers to itself read-only can be pinned.", |t| {
        itself(t, 3, 0x25, 0)
    }),
    case("pin_levels/l4_of_itself", "An L4 that refers to itself read-only can be pinned.", |t| {
        itself(t, 4, 0x25, 0)
    }),
    case(
        "pin_levels/l2_of_itself_writable",
        "An L2 that refers to itself writable: EINVAL.",
        |t| itself(t, 2, ENTRY, EINVAL),
    ),
    case(
        "pin_levels/l3_of_itself_writable",
        "An L3 that refers to itself writable: EINVAL.",
        |t| itself(t, 3, ENTRY, EINVAL),
    ),
    case(
        "pin_levels/l4_of_itself_writable",
        "An L4 that refers to itself writable: EINVAL.",
        |t| itself(t, 4, ENTRY, EINVAL),
    ),
    case("pin_levels/l2_of_l2", "An L2 may refer to a pinned L2 read-only.", |t| linear(t, 2, 0)),
    case("pin_levels/l3_of_l3", "An L3 may refer to a pinned L3 read-only.", |t| linear(t, 3, 0)),
    case("pin_levels/l4_of_l4", "An L4 may refer to a pinned L4 read-only.", |t| linear(t, 4, 0)),
    case("pin_levels/linear_written", "A pinned table can be told to refer to itself.", |t| {
        for level in 2..=4 {
            with(t, |[table, ..]| {
                table.pin(level)?;
                let answer = update(table.place(7), table.entry(0x25));
                equal_at("answer at level", level, answer, 0)?;
                equal_at("entry at level", level, table.get(7) & FRAME, table.ma())
            })?;
        }
        Ok(())
    }),
    case("pin_levels/linear_chain", "No third table of a level may be in a linear chain.", |t| {
        for level in 2..=4 {
            with(t, |[first, second, third, ..]| {
                first.pin(level)?;
                second.pin(level)?;
                third.pin(level)?;
                equal("first", update(first.place(0), second.entry(0x25)), 0)?;
                let answer = update(second.place(0), third.entry(0x25));
                equal_at("second at level", level, answer, EINVAL)
            })?;
        }
        Ok(())
    }),
    case("pin_levels/wrong_child", "A table with a child of a wrong level: EINVAL.", |t| {
        for (level, child_level) in [(2, 3), (2, 4), (3, 1), (3, 4), (4, 1), (4, 2)] {
            with(t, |[table, child, ..]| {
                child.pin(child_level)?;
                table.set(0, child.entry(0x25));
                table.protect()?;
                equal_at("pin", level * 16 + child_level, pin(level, table.mfn), EINVAL)?;
                table.is_free()
            })?;
        }
        Ok(())
    }),
    case("pin_levels/two_parents", "A table may have two parents, and lives as the last.", |t| {
        with(t, |[first, second, child, ..]| {
            child.protect()?;
            first.set(0, child.entry(ENTRY));
            second.set(9, child.entry(ENTRY));
            first.pin(2)?;
            second.pin(2)?;
            first.unpin()?;
            child.is_held(EBUSY)?;
            second.unpin()?;
            child.is_free()
        })
    }),
    case(
        "pin_levels/unpin_child_first",
        "A pinned child of a pinned parent: unpin child first.",
        |t| {
            with(t, |[l2, l1, ..]| {
                l2.set(0, l1.entry(ENTRY));
                l1.pin(1)?;
                l2.pin(2)?;
                l1.unpin()?;
                l1.is_held(EBUSY)?;
                l2.unpin()?;
                l1.is_free()
            })
        },
    ),
    case(
        "pin_levels/unpin_parent_first",
        "A pinned child of a pinned parent: parent first.",
        |t| {
            with(t, |[l2, l1, ..]| {
                l2.set(0, l1.entry(ENTRY));
                l1.pin(1)?;
                l2.pin(2)?;
                l2.unpin()?;
                l1.is_held(EBUSY)?;
                l1.unpin()?;
                l1.is_free()
            })
        },
    ),
    case("pin_levels/pin_used", "A table in use by a parent can be pinned itself.", |t| {
        with(t, |[l2, l1, ..]| {
            l2.set(0, l1.entry(ENTRY));
            l1.protect()?;
            l2.pin(2)?;
            equal("pin", pin(1, l1.mfn), 0)?;
            l2.unpin()?;
            l1.is_held(EBUSY)
        })
    }),
    case("pin_levels/unpin_unpinned", "Unpinning a page that is not pinned: EINVAL.", |t| {
        with(t, |[a, ..]| equal("unpin", unpin(a.mfn), EINVAL))
    }),
    case("pin_levels/unpin_used", "Unpinning a table that is used, not pinned: EINVAL.", |t| {
        with(t, |[l2, l1, ..]| {
            l2.set(0, l1.entry(ENTRY));
            l1.protect()?;
            l2.pin(2)?;
            equal("unpin", unpin(l1.mfn), EINVAL)?;
            l1.is_held(EBUSY)
        })
    }),
    case("pin_levels/unpin_twice", "Unpinning twice: EINVAL.", |t| {
        with(t, |[a, ..]| {
            a.pin(1)?;
            a.unpin()?;
            equal("unpin", unpin(a.mfn), EINVAL)
        })
    }),
    case(
        "pin_levels/pin_again",
        "A table can be pinned again behind its unpinning, as any level.",
        |t| {
            with(t, |[a, ..]| {
                for level in [1, 3, 2, 4] {
                    a.pin(level)?;
                    a.is_held(EBUSY)?;
                    a.unpin()?;
                }
                a.is_free()
            })
        },
    ),
    case("pin_levels/content_stays", "A table's entries are still there when it is none.", |t| {
        with(t, |[l1, a, ..]| {
            l1.set(17, a.entry(LOADED));
            l1.pin(1)?;
            l1.is_held(EBUSY)?;
            l1.unpin()?;
            equal("entry", l1.get(17) & FRAME, a.ma())
        })
    }),
    case(
        "pin_levels/l4_hypervisor_slots",
        "What an L4 has in slots 256 to 271 is not looked at.",
        |t| {
            with(t, |[l4, ..]| {
                (256..272).for_each(|slot| l4.set(slot, 1 << 45 | 0xfff));
                l4.pin(4)?;
                for slot in 256..272 {
                    let differs = l4.get(slot) != 1 << 45 | 0xfff;
                    equal_at("slot was replaced", slot, differs, true)?;
                }
                Ok(())
            })
        },
    ),
    case("pin_levels/free_frame", "Pinning a frame that no domain has: EINVAL.", |_| {
        strangers(free_frame(), EINVAL)
    }),
    case("pin_levels/hypervisor_frame", "Pinning a frame of the hypervisor: EINVAL.", |t| {
        strangers(hypervisor_frame(t), EINVAL)
    }),
    case("pin_levels/beyond_memory", "Pinning a frame beyond memory: EINVAL.", |_| {
        strangers(1 << 33, EINVAL)
    }),
    case("pin_levels/beyond_any", "Pinning the last frame that a word can name: EINVAL.", |_| {
        strangers(u64::MAX, EINVAL)
    }),
    case("pin_levels/domain_io", "Pinning as a device's domain: EINVAL.", |t| {
        domain(t, IO, EINVAL)
    }),
    case("pin_levels/domain_xen", "Pinning as the hypervisor's domain: EINVAL.", |t| {
        domain(t, XEN, EINVAL)
    }),
    case("pin_levels/domain_unknown", "Pinning as a domain that does not exist: ESRCH.", |t| {
        domain(t, NOBODY, -3)
    }),
    case("pin_levels/domain_own", "Pinning as the own domain by its number: ESRCH.", |t| {
        domain(t, 0, -3)
    }),
    case("pin_levels/domain_self", "Pinning as SELF is the usual way.", |t| domain(t, SELF, 0)),
    case("pin_levels/batch", "Pins and unpins may come in one batch, in order.", |t| {
        with(t, |[a, ..]| {
            a.protect()?;
            let (answer, done) =
                mmuext_batch(&[(PIN_L1, a.mfn, 0), (UNPIN, a.mfn, 0), (PIN_L1, a.mfn, 0)]);
            equal("answer", answer, 0)?;
            equal("done", done, 3)?;
            a.is_held(EBUSY)
        })
    }),
];

/// Fills tables so that each has one entry for the next, and makes their mappings read-only.
fn chain([l4, l3, l2, l1, page]: [Page; 5]) -> Outcome {
    l4.set(0, l3.entry(ENTRY));
    l3.set(0, l2.entry(ENTRY));
    l2.set(0, l1.entry(ENTRY));
    l1.set(0, page.entry(LOADED));
    for table in [l4, l3, l2, l1] {
        table.protect()?;
    }
    Ok(())
}

/// What pinning makes of an entry that is present alone.
fn adjusts(t: &Test<'_>, level: u64, flags: u64) -> Outcome {
    with(t, |[table, child, ..]| {
        child.protect()?;
        table.set(0, child.entry(1));
        table.pin(level)?;
        equal("entry", table.get(0), child.entry(flags))
    })
}

/// Pins a table that refers to itself.
fn itself(t: &Test<'_>, level: u64, flags: u64, answer: i64) -> Outcome {
    with(t, |[table, ..]| {
        table.set(0, table.entry(flags));
        table.protect()?;
        equal("pin", pin(level, table.mfn), answer)?;
        if answer == 0 {
            table.is_held(EBUSY)?;
            table.unpin()?;
        }
        table.is_free()
    })
}

/// Pins a table that refers to a pinned table of its own level.
fn linear(t: &Test<'_>, level: u64, answer: i64) -> Outcome {
    with(t, |[table, other, ..]| {
        other.pin(level)?;
        table.set(0, other.entry(0x25));
        table.protect()?;
        equal("pin", pin(level, table.mfn), answer)?;
        table.is_held(EBUSY)
    })
}

/// Pins and unpins a frame that is not the guest's.
fn strangers(mfn: u64, answer: i64) -> Outcome {
    for level in 1..=4 {
        equal_at("pin at level", level, pin(level, mfn), answer)?;
    }
    equal("unpin", unpin(mfn), answer)
}

/// Pins an own frame in the name of a domain.
fn domain(t: &Test<'_>, domid: u64, answer: i64) -> Outcome {
    with(t, |[a, ..]| {
        a.protect()?;
        let (seen, done) = mmuext_of(domid, &[(PIN_L1, a.mfn, 0)]);
        equal("answer", seen, answer)?;
        if answer == 0 {
            equal("done", done, 1)?;
        }
        a.is_held(if answer == 0 { EBUSY } else { 0 })
    })
}
