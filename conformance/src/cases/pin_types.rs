//! A frame is one thing at a time: each kind of use against each other, in each order.

use crate::call::{EBUSY, EINVAL, hypercall};
use crate::case::{Case, Outcome, Test, case, equal};
use crate::raw::memory::arena_address;
use crate::raw::pages_calls::{SET_GDT, pin, put_words, unpin, update};
use crate::raw::pages_scratch::{LOADED, Page, with};

/// A use of a frame.
#[derive(Clone, Copy)]
enum Use {
    /// Mapped writable.
    Writable,
    /// Pinned as a table of a level.
    Table(u64),
    /// A page of the descriptor table.
    Descriptors,
    /// Mapped read-only.
    ReadOnly,
}

use Use::{Descriptors, ReadOnly, Table, Writable};

/// A row: the name, the first use, the second, what the second is answered, the clause.
macro_rules! pairs {
    ($($name:literal, $first:expr, $second:expr, $answer:expr, $clause:literal;)+) => {
        &[$(case(concat!("pin_types/", $name), $clause, |t| pair(t, $first, $second, $answer))),+]
    };
}

pub(crate) const CASES: &[Case] = pairs! {
    "writable_writable", Writable, Writable, 0, "A frame can be mapped writable twice.";
    "writable_l1", Writable, Table(1), EINVAL, "A frame mapped writable can't be pinned as L1.";
    "writable_l2", Writable, Table(2), EINVAL, "A frame mapped writable can't be pinned as L2.";
    "writable_l3", Writable, Table(3), EINVAL, "A frame mapped writable can't be pinned as L3.";
    "writable_l4", Writable, Table(4), EINVAL, "A frame mapped writable can't be pinned as L4.";
    "writable_descriptors", Writable, Descriptors, EINVAL,
        "A frame mapped writable can't hold descriptors.";
    "l1_writable", Table(1), Writable, EBUSY, "A pinned L1 can't be mapped writable.";
    "l1_l1", Table(1), Table(1), EINVAL, "A pinned L1 can't be pinned again.";
    "l1_l2", Table(1), Table(2), EINVAL, "A pinned L1 can't be pinned as L2.";
    "l1_l3", Table(1), Table(3), EINVAL, "A pinned L1 can't be pinned as L3.";
    "l1_l4", Table(1), Table(4), EINVAL, "A pinned L1 can't be pinned as L4.";
    "l1_descriptors", Table(1), Descriptors, EINVAL, "A pinned L1 can't hold descriptors.";
    "l2_writable", Table(2), Writable, EBUSY, "A pinned L2 can't be mapped writable.";
    "l2_l1", Table(2), Table(1), EINVAL, "A pinned L2 can't be pinned as L1.";
    "l2_l2", Table(2), Table(2), EINVAL, "A pinned L2 can't be pinned again.";
    "l2_l3", Table(2), Table(3), EINVAL, "A pinned L2 can't be pinned as L3.";
    "l2_l4", Table(2), Table(4), EINVAL, "A pinned L2 can't be pinned as L4.";
    "l2_descriptors", Table(2), Descriptors, EINVAL, "A pinned L2 can't hold descriptors.";
    "l3_writable", Table(3), Writable, EBUSY, "A pinned L3 can't be mapped writable.";
    "l3_l1", Table(3), Table(1), EINVAL, "A pinned L3 can't be pinned as L1.";
    "l3_l2", Table(3), Table(2), EINVAL, "A pinned L3 can't be pinned as L2.";
    "l3_l3", Table(3), Table(3), EINVAL, "A pinned L3 can't be pinned again.";
    "l3_l4", Table(3), Table(4), EINVAL, "A pinned L3 can't be pinned as L4.";
    "l3_descriptors", Table(3), Descriptors, EINVAL, "A pinned L3 can't hold descriptors.";
    "l4_writable", Table(4), Writable, EBUSY, "A pinned L4 can't be mapped writable.";
    "l4_l1", Table(4), Table(1), EINVAL, "A pinned L4 can't be pinned as L1.";
    "l4_l2", Table(4), Table(2), EINVAL, "A pinned L4 can't be pinned as L2.";
    "l4_l3", Table(4), Table(3), EINVAL, "A pinned L4 can't be pinned as L3.";
    "l4_l4", Table(4), Table(4), EINVAL, "A pinned L4 can't be pinned again.";
    "l4_descriptors", Table(4), Descriptors, EINVAL, "A pinned L4 can't hold descriptors.";
    "descriptors_writable", Descriptors, Writable, EBUSY,
        "A page of the descriptor table can't be mapped writable.";
    "descriptors_l1", Descriptors, Table(1), EINVAL,
        "A page of the descriptor table can't be pinned as L1.";
    "descriptors_l2", Descriptors, Table(2), EINVAL,
        "A page of the descriptor table can't be pinned as L2.";
    "descriptors_l3", Descriptors, Table(3), EINVAL,
        "A page of the descriptor table can't be pinned as L3.";
    "descriptors_l4", Descriptors, Table(4), EINVAL,
        "A page of the descriptor table can't be pinned as L4.";
    "descriptors_descriptors", Descriptors, Descriptors, 0,
        "A page of the descriptor table can be set again.";
    "l1_read_only", Table(1), ReadOnly, 0, "A pinned L1 can be mapped read-only.";
    "l2_read_only", Table(2), ReadOnly, 0, "A pinned L2 can be mapped read-only.";
    "l3_read_only", Table(3), ReadOnly, 0, "A pinned L3 can be mapped read-only.";
    "l4_read_only", Table(4), ReadOnly, 0, "A pinned L4 can be mapped read-only.";
    "descriptors_read_only", Descriptors, ReadOnly, 0,
        "A page of the descriptor table can be mapped read-only.";
    "read_only_l1", ReadOnly, Table(1), 0, "A frame mapped read-only can be pinned as L1.";
    "read_only_l4", ReadOnly, Table(4), 0, "A frame mapped read-only can be pinned as L4.";
    "read_only_descriptors", ReadOnly, Descriptors, 0,
        "A frame mapped read-only can hold descriptors.";
};

/// Puts a frame to one use, then to another; behind it the frame is free for everything.
fn pair(t: &Test<'_>, first: Use, second: Use, answer: i64) -> Outcome {
    with(t, |[a, v, w, ..]| {
        a.protect()?;
        equal("first use", take(first, a, v), 0)?;
        let seen = take(second, a, w);
        let taken = seen == 0;
        if taken {
            let only_mapped = |what| matches!(what, Writable | ReadOnly);
            let free = only_mapped(first) && only_mapped(second);
            a.is_held(if free { 0 } else { EBUSY })?;
            a.protect()?;
            give(second, a, w)?;
        }
        equal("second use", seen, answer)?;
        if !(taken && matches!((first, second), (Descriptors, Descriptors))) {
            give(first, a, v)?;
        }
        if !taken {
            // An L4 keeps the hypervisor's entries behind its unpinning.
            a.is_free()?;
            (0..512).for_each(|word| a.set(word, 0));
            a.protect()?;
            equal("second use alone", take(second, a, w), 0)?;
            give(second, a, w)?;
        }
        a.is_free()
    })
}

/// Puts a frame to a use; mappings go to `window`'s address.
fn take(what: Use, a: Page, window: Page) -> i64 {
    match what {
        Writable => update(window.slot, a.entry(LOADED)),
        ReadOnly => update(window.slot, a.entry(LOADED & !2)),
        Table(level) => pin(level, a.mfn),
        Descriptors => {
            put_words(0, &[a.mfn]);
            hypercall(SET_GDT, &[arena_address(), 1])
        }
    }
}

/// Ends a use.
fn give(what: Use, a: Page, window: Page) -> Outcome {
    let answer = match what {
        Writable | ReadOnly => update(window.slot, window.entry(LOADED)),
        Table(_) => unpin(a.mfn),
        Descriptors => hypercall(SET_GDT, &[0, 0]),
    };
    equal("end of use", answer, 0)
}
