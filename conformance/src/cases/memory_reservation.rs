//! `increase_reservation`, `decrease_reservation`, `populate_physmap`: counts, orders, what may be
//! given back, what becomes of the table of machine frames.

use crate::call::{EFAULT, MEMORY_OP, hypercall};
use crate::case::{Case, Outcome, case, equal, equal_at, holds};
use crate::raw::memory::{arena_address, peek};
use crate::raw::pages_calls::{
    CLEAR_PAGE, IO, NOBODY, SELF, XEN, memory_op, mmuext, pin, unpin, update_va,
};
use crate::raw::pages_reservation::{
    CURRENT, DECREASE, EXTENTS, INCREASE, POPULATE, extent, extents_address, note, owned, reserve,
    reserve_of, with_spare,
};
use crate::raw::pages_scratch::{LOADED, free_frame, hypervisor_frame, with};
use crate::tables::{frame_of, page_of};

const HYPERVISOR: u64 = 0xffff_8300_0000_0000;
const NO_PAGE: u64 = u64::MAX;
/// In the upper half of the options: how many address bits the frames may have.
const fn address_bits(bits: u64) -> u64 {
    bits << 32
}

pub(crate) const CASES: &[Case] = &[
    case("memory_reservation/increase", "An increase gives a frame that is no page yet.", |t| {
        with_spare(t, |_| {
            let before = owned();
            equal("answer", reserve(INCREASE, &[0x5555]), 1)?;
            let frame = extent(0);
            let (page, more) = (page_of(frame), owned());
            equal("given back", reserve(DECREASE, &[frame]), 1)?;
            equal("pages", more, before + 1)?;
            equal("page of the frame", page, NO_PAGE)
        })
    }),
    case("memory_reservation/increase_usable", "The frame of an increase can be mapped.", |t| {
        with(t, |[w, ..]| {
            equal("answer", reserve(INCREASE, &[0]), 1)?;
            let frame = extent(0);
            let mapped = update_va(w.va, frame << 12 | LOADED, 2);
            let word = if mapped == 0 { peek(w.va) } else { 0 };
            equal("own again", w.map(LOADED), 0)?;
            equal("given back", reserve(DECREASE, &[frame]), 1)?;
            equal("mapped", mapped, 0)?;
            equal("word", word, 0)
        })
    }),
    case("memory_reservation/increase_order", "A frame of order 2 is four aligned frames.", |t| {
        with_spare(t, |_| {
            equal("answer", reserve_of(SELF, INCREASE, &[0], 2), 1)?;
            let frame = extent(0);
            equal("given back", reserve_of(SELF, DECREASE, &[frame], 2), 1)?;
            equal("alignment", frame & 3, 0)
        })
    }),
    case("memory_reservation/increase_several", "Several extents are several frames.", |t| {
        with_spare(t, |_| {
            equal("answer", reserve(INCREASE, &[0, 0, 0]), 3)?;
            let frames = [extent(0), extent(1), extent(2)];
            equal("given back", reserve(DECREASE, &frames), 3)?;
            let [a, b, c] = frames;
            holds("frames", a, "three", a != b && b != c && a != c)
        })
    }),
    case("memory_reservation/decrease", "A decrease takes the frame and its page's number.", |t| {
        with_spare(t, |[pfn, ..]| {
            let frame = frame_of(t.boot, pfn);
            let before = owned();
            equal("answer", reserve(DECREASE, &[frame]), 1)?;
            equal("pages", owned(), before - 1)?;
            equal("page of the frame", page_of(frame), NO_PAGE)
        })
    }),
    case("memory_reservation/decrease_twice", "A frame can't be given back twice.", |t| {
        with_spare(t, |[pfn, ..]| {
            let frame = frame_of(t.boot, pfn);
            equal("answer", reserve(DECREASE, &[frame, frame]), 1)?;
            equal("again", reserve(DECREASE, &[frame]), 0)
        })
    }),
    case("memory_reservation/decrease_error", "A decrease ends at the first frame refused.", |t| {
        with_spare(t, |[first, second, ..]| {
            let (a, b) = (frame_of(t.boot, first), frame_of(t.boot, second));
            equal("answer", reserve(DECREASE, &[a, 1 << 33, b]), 1)?;
            equal("page of the last", page_of(b), second)
        })
    }),
    case("memory_reservation/decrease_strangers", "Only the guest's own frames are taken.", |t| {
        for mfn in [free_frame(), hypervisor_frame(t), 1 << 33, NO_PAGE, 0, 0xb8] {
            equal_at("answer for", mfn, reserve(DECREASE, &[mfn]), 0)?;
        }
        Ok(())
    }),
    case("memory_reservation/decrease_order", "Frames given back together: 2 to the order.", |t| {
        with_spare(t, |pages| {
            let frames: [u64; 4] = core::array::from_fn(|index| frame_of(t.boot, pages[index]));
            equal("given back", reserve(DECREASE, &frames), 4)?;
            equal("taken", reserve_of(SELF, POPULATE, &[pages[0]], 2), 1)?;
            let (first, before) = (extent(0), owned());
            equal("answer", reserve_of(SELF, DECREASE, &[first], 2), 1)?;
            for mfn in first..first + 4 {
                equal_at("page of frame", mfn, page_of(mfn), NO_PAGE)?;
            }
            equal("pages", owned(), before - 4)
        })
    }),
    case(
        "memory_reservation/decrease_mapped",
        "A mapped frame can be given back; it is kept until unmapped.",
        |t| {
            with_spare(t, |[pfn, ..]| {
                with(t, |[w, ..]| {
                    let frame = frame_of(t.boot, pfn);
                    let before = owned();
                    equal("mapped", update_va(w.va, frame << 12 | LOADED, 2), 0)?;
                    w.set(0, 0x77);
                    let answer = reserve(DECREASE, &[frame]);
                    let (word, between) = (w.get(0), owned());
                    equal("unmapped", w.map(LOADED), 0)?;
                    equal("answer", answer, 1)?;
                    equal("word", word, 0x77)?;
                    equal("pages while mapped", between, before)?;
                    equal("pages when unmapped", owned(), before - 1)
                })
            })
        },
    ),
    case(
        "memory_reservation/decrease_pinned",
        "A pinned table can be given back; it is kept until it is unpinned.",
        |t| {
            with_spare(t, |[pfn, ..]| {
                let frame = frame_of(t.boot, pfn);
                let before = owned();
                equal("cleared", mmuext(CLEAR_PAGE, frame, 0), 0)?;
                equal("pin", pin(1, frame), 0)?;
                let answer = reserve(DECREASE, &[frame]);
                let between = owned();
                equal("unpin", unpin(frame), 0)?;
                note(t, pfn, 0);
                equal("answer", answer, 1)?;
                equal("pages while pinned", between, before)?;
                equal("pages when unpinned", owned(), before - 1)
            })
        },
    ),
    case(
        "memory_reservation/decrease_table",
        "A table in use can be given back; it is kept.",
        |t| {
            with_spare(t, |[pfn, ..]| {
                with(t, |[l2, ..]| {
                    let frame = frame_of(t.boot, pfn);
                    let before = owned();
                    equal("cleared", mmuext(CLEAR_PAGE, frame, 0), 0)?;
                    l2.set(0, frame << 12 | 0x67);
                    l2.pin(2)?;
                    equal("answer", reserve(DECREASE, &[frame]), 1)?;
                    let between = owned();
                    l2.unpin()?;
                    note(t, pfn, 0);
                    equal("pages while used", between, before)?;
                    equal("pages when unused", owned(), before - 1)
                })
            })
        },
    ),
    case(
        "memory_reservation/populate",
        "A populated page has a frame, and the frame its number.",
        |t| {
            with_spare(t, |[pfn, ..]| {
                equal("given back", reserve(DECREASE, &[frame_of(t.boot, pfn)]), 1)?;
                let before = owned();
                equal("answer", reserve(POPULATE, &[pfn]), 1)?;
                note(t, pfn, extent(0));
                equal("pages", owned(), before + 1)?;
                equal("page of the frame", page_of(extent(0)), pfn)
            })
        },
    ),
    case(
        "memory_reservation/populate_zero",
        "A populated frame that was another's is clear.",
        |t| {
            with_spare(t, |[pfn, ..]| {
                with(t, |[w, ..]| {
                    equal("given back", reserve(DECREASE, &[frame_of(t.boot, pfn)]), 1)?;
                    equal("answer", reserve(POPULATE, &[pfn]), 1)?;
                    note(t, pfn, extent(0));
                    equal("mapped", update_va(w.va, extent(0) << 12 | LOADED, 2), 0)?;
                    for word in 0..512 {
                        equal_at("word", word, w.get(word), 0)?;
                    }
                    Ok(())
                })
            })
        },
    ),
    case(
        "memory_reservation/populate_order",
        "Order 2: four aligned frames for four pages.",
        |t| {
            with_spare(t, |pages| {
                let frames: [u64; 4] = core::array::from_fn(|index| frame_of(t.boot, pages[index]));
                equal("given back", reserve(DECREASE, &frames), 4)?;
                equal("answer", reserve_of(SELF, POPULATE, &[pages[0]], 2), 1)?;
                let first = extent(0);
                for (&pfn, mfn) in pages.iter().zip(first..).take(4) {
                    note(t, pfn, mfn);
                }
                equal("alignment", first & 3, 0)?;
                for (&pfn, mfn) in pages.iter().zip(first..).take(4) {
                    equal_at("page of frame", mfn, page_of(mfn), pfn)?;
                }
                Ok(())
            })
        },
    ),
    case(
        "memory_reservation/populate_order_misaligned",
        "A page not at a multiple is taken.",
        |t| {
            with_spare(t, |pages| {
                let frames: [u64; 2] =
                    core::array::from_fn(|index| frame_of(t.boot, pages[index + 1]));
                equal("given back", reserve(DECREASE, &frames), 2)?;
                equal("answer", reserve_of(SELF, POPULATE, &[pages[1]], 1), 1)?;
                note(t, pages[1], extent(0));
                note(t, pages[2], extent(0) + 1);
                equal("page of first", page_of(extent(0)), pages[1])?;
                equal("page of second", page_of(extent(0) + 1), pages[2])
            })
        },
    ),
    case(
        "memory_reservation/populate_again",
        "A page that has a frame can be given another.",
        |t| {
            with_spare(t, |[pfn, ..]| {
                let old = frame_of(t.boot, pfn);
                equal("answer", reserve(POPULATE, &[pfn]), 1)?;
                let (fresh, before) = (extent(0), owned());
                equal("given back", reserve(DECREASE, &[fresh]), 1)?;
                equal("pages", owned(), before - 1)?;
                holds("frame", fresh, "another", fresh != old)?;
                equal("old frame's page", page_of(old), pfn)
            })
        },
    ),
    case("memory_reservation/populate_any_number", "A page's number may be any.", |t| {
        with_spare(t, |_| {
            equal("answer", reserve(POPULATE, &[0x12_3456_789a]), 1)?;
            let page = page_of(extent(0));
            equal("given back", reserve(DECREASE, &[extent(0)]), 1)?;
            equal("page", page, 0x12_3456_789a)
        })
    }),
    case("memory_reservation/populate_several", "Several pages get a frame each, in order.", |t| {
        with_spare(t, |pages| {
            let frames: [u64; 3] = core::array::from_fn(|index| frame_of(t.boot, pages[index]));
            equal("given back", reserve(DECREASE, &frames), 3)?;
            equal("answer", reserve(POPULATE, &pages[..3]), 3)?;
            let fresh = [extent(0), extent(1), extent(2)];
            for (&pfn, mfn) in pages.iter().zip(fresh) {
                note(t, pfn, mfn);
                equal_at("page of frame", mfn, page_of(mfn), pfn)?;
            }
            Ok(())
        })
    }),
    case("memory_reservation/address_bits", "Frames may be asked for below an address.", |t| {
        with_spare(t, |[pfn, ..]| {
            equal("given back", reserve(DECREASE, &[frame_of(t.boot, pfn)]), 1)?;
            equal("answer", reserve_of(SELF, POPULATE, &[pfn], address_bits(29)), 1)?;
            note(t, pfn, extent(0));
            holds("frame", extent(0), "below 512 MiB", extent(0) < 1 << 17)
        })
    }),
    case("memory_reservation/address_bits_few", "No frame has an address of 12 bits: 0.", |t| {
        with_spare(t, |_| {
            for bits in [1, 12, 13] {
                let answer = reserve_of(SELF, INCREASE, &[0x77], address_bits(bits));
                equal_at("answer for", bits, answer, 0)?;
                equal("extent", extent(0), 0x77)?;
            }
            Ok(())
        })
    }),
    case(
        "memory_reservation/node",
        "A node may be named, there or not; 65 and more have none.",
        |t| {
            let nodes = [(1, 1), (2, 1), (63, 1), (64, 1), (65, 0), (254, 0), (255, 0)];
            with_spare(t, |_| {
                nodes.into_iter().try_for_each(|(node, given)| from_node(node, 0, given))
            })
        },
    ),
    case("memory_reservation/node_alone", "From one node alone: none, if it is not there.", |t| {
        let nodes = [(0, 1), (1, 1), (2, 0), (64, 0), (65, 0), (255, 0)];
        let alone = 1 << 17;
        with_spare(t, |_| {
            nodes.into_iter().try_for_each(|(node, given)| from_node(node, alone, given))
        })
    }),
    case("memory_reservation/order_limit", "Orders that no caller may ask for are 0.", |t| {
        with_spare(t, |[pfn, ..]| {
            let mfn = frame_of(t.boot, pfn);
            for order in [19, 32, 63, 64, 0xffff_ffff] {
                equal_at("increase", order, reserve_of(SELF, INCREASE, &[0], order), 0)?;
                equal_at("decrease", order, reserve_of(SELF, DECREASE, &[mfn], order), 0)?;
                equal_at("populate", order, reserve_of(SELF, POPULATE, &[pfn], order), 0)?;
            }
            Ok(())
        })
    }),
    case("memory_reservation/none", "No extents: 0.", |_| {
        for command in [INCREASE, DECREASE, POPULATE] {
            equal_at("answer of", command, reserve(command, &[]), 0)?;
            equal_at("unmapped", command, memory_op(command, &[0x1000, 0, 0, SELF]), 0)?;
        }
        Ok(())
    }),
    case("memory_reservation/argument_unmapped", "An argument that is not mapped: 0.", |_| {
        for command in [INCREASE, DECREASE, POPULATE] {
            equal_at("answer of", command, hypercall(MEMORY_OP, &[command, 0x1000]), 0)?;
            equal_at("hypervisor", command, hypercall(MEMORY_OP, &[command, HYPERVISOR]), 0)?;
        }
        Ok(())
    }),
    case(
        "memory_reservation/extents_unmapped",
        "A list that is not mapped: 0 of it are done.",
        |_| {
            for command in [DECREASE, POPULATE] {
                let answer = memory_op(command, &[0x1000, 1, 0, SELF]);
                equal_at("answer of", command, answer, 0)?;
            }
            Ok(())
        },
    ),
    case("memory_reservation/extents_in_hypervisor", "A list in the hypervisor: 0 of it.", |_| {
        for command in [INCREASE, DECREASE, POPULATE] {
            let answer = memory_op(command, &[HYPERVISOR, 1, 0, SELF]);
            equal_at("answer of", command, answer, 0)?;
        }
        Ok(())
    }),
    case("memory_reservation/too_many", "More extents than a call can count: 0.", |_| {
        for count in [1 << 26, 1 << 32, 1 << 63] {
            for command in [DECREASE, POPULATE] {
                let answer = memory_op(command, &[extents_address(), count, 0, SELF]);
                equal_at("answer for", count, answer, 0)?;
            }
        }
        Ok(())
    }),
    case(
        "memory_reservation/continued",
        "The command's bits from 6 on tell where to begin.",
        |t| {
            with_spare(t, |[first, second, ..]| {
                let frames = [frame_of(t.boot, first), frame_of(t.boot, second)];
                equal("answer", reserve(DECREASE | 1 << 6, &frames), 2)?;
                equal("page of the first", page_of(frames[0]), first)?;
                equal("page of the second", page_of(frames[1]), NO_PAGE)
            })
        },
    ),
    case(
        "memory_reservation/continued_behind",
        "Beginning behind the end answers that place.",
        |t| {
            with_spare(t, |[pfn, ..]| {
                let mfn = frame_of(t.boot, pfn);
                equal("answer", reserve(DECREASE | 5 << 6, &[mfn]), 5)?;
                equal("page", page_of(mfn), pfn)
            })
        },
    ),
    case("memory_reservation/domain_own", "The caller's own number is taken.", |t| {
        with_spare(t, |[pfn, ..]| {
            equal("answer", reserve_of(0, DECREASE, &[frame_of(t.boot, pfn)], 0), 1)
        })
    }),
    case("memory_reservation/domain_unknown", "A domain that is not there: 0.", |t| {
        with_spare(t, |[pfn, ..]| {
            for command in [INCREASE, DECREASE, POPULATE] {
                let answer = reserve_of(NOBODY, command, &[frame_of(t.boot, pfn)], 0);
                equal_at("answer of", command, answer, 0)?;
            }
            Ok(())
        })
    }),
    case("memory_reservation/domain_io", "In the name of DOMID_IO or DOMID_XEN: 0.", |t| {
        with_spare(t, |[pfn, ..]| {
            for domid in [IO, XEN] {
                let answer = reserve_of(domid, DECREASE, &[frame_of(t.boot, pfn)], 0);
                equal_at("answer of", domid, answer, 0)?;
            }
            Ok(())
        })
    }),
    case("memory_reservation/argument_kept", "The argument itself is not written.", |t| {
        with_spare(t, |[pfn, ..]| {
            equal("answer", reserve(DECREASE, &[frame_of(t.boot, pfn)]), 1)?;
            let words: [u64; 4] =
                core::array::from_fn(|index| peek(arena_address() + index as u64 * 8));
            let [list, count, options, domid] = words;
            equal("list", list, arena_address() + EXTENTS as u64)?;
            equal("count", count, 1)?;
            equal("options", options, 0)?;
            equal("domain", domid, SELF)
        })
    }),
    case("memory_reservation/current_own", "The current reservation by the own number.", |_| {
        equal("answer", memory_op(CURRENT, &[0]), owned())
    }),
    case(
        "memory_reservation/current_in_hypervisor",
        "Its argument in the hypervisor: EFAULT.",
        |_| {
            equal("answer", hypercall(MEMORY_OP, &[CURRENT, HYPERVISOR]), EFAULT)?;
            equal("maximum", hypercall(MEMORY_OP, &[4, HYPERVISOR]), EFAULT)
        },
    ),
    case(
        "memory_reservation/maximum_own",
        "The maximum by the own number is that of SELF.",
        |_| equal("answer", memory_op(4, &[0]), memory_op(4, &[SELF])),
    ),
    case("memory_reservation/maximum_stays", "Giving frames back leaves the maximum.", |t| {
        with_spare(t, |[pfn, ..]| {
            let before = memory_op(4, &[SELF]);
            equal("answer", reserve(DECREASE, &[frame_of(t.boot, pfn)]), 1)?;
            equal("maximum", memory_op(4, &[SELF]), before)
        })
    }),
];

/// Asks for a frame of a node, which is or is not given, and gives it back.
fn from_node(node: u64, options: u64, given: i64) -> Outcome {
    let answer = reserve_of(SELF, INCREASE, &[0x77], address_bits(node << 8 | options));
    if answer == 1 {
        equal("given back", reserve(DECREASE, &[extent(0)]), 1)?;
    }
    equal_at("answer for", node, answer, given)
}
