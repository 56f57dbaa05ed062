//! What a case is, and what it can end with.

use core::fmt;

use pv_guest_sdk::BootInfo;

use crate::puppet::Peer;
use crate::raw::{Code, EntryState, Registers, run};

/// One thing the hypervisor must do, and the code that finds out whether it does.
pub(crate) struct Case {
    /// `area/what`, unique.
    pub(crate) name: &'static str,
    /// What the hypervisor must do, in one sentence.
    pub(crate) clause: &'static str,
    /// Whether the guest is gone afterwards, so that the case needs a boot of its own.
    pub(crate) life: Life,
    /// The check.
    pub(crate) body: fn(&Test<'_>) -> Outcome,
}

/// Whether the guest lives on after a case.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Life {
    /// It does.
    Continues,
    /// It does not: the host judges how it ended.
    Ends,
}

/// A case after which the next one can run.
pub(crate) const fn case(
    name: &'static str,
    clause: &'static str,
    body: fn(&Test<'_>) -> Outcome,
) -> Case {
    Case { name, clause, life: Life::Continues, body }
}

/// A case that ends the guest. Its body announces the end by one of the functions of [`Test`].
pub(crate) const fn ends_guest(
    name: &'static str,
    clause: &'static str,
    body: fn(&Test<'_>) -> Outcome,
) -> Case {
    Case { name, clause, life: Life::Ends, body }
}

/// What a case is given.
pub(crate) struct Test<'a> {
    /// Its own name.
    pub(crate) name: &'static str,
    /// What the loader left in memory.
    pub(crate) boot: &'a BootInfo<'static>,
    /// What the loader left in the processor.
    pub(crate) entry: &'a EntryState,
    /// The other domain, if there is one.
    pub(crate) peer: Option<&'a Peer>,
}

impl Test<'_> {
    /// Runs `code`, at which the guest must crash with the instruction pointer at `rip`.
    pub(crate) fn crash_at(&self, code: Code, registers: &mut Registers, rip: u64) -> Outcome {
        pv_guest_sdk::println!("ends {} crash {rip:016x}", self.name);
        run(code, registers);
        equal("the guest", "goes on", "crashes")
    }

    /// Runs `code`, at whose first instruction the guest must crash.
    pub(crate) fn crash(&self, code: Code, registers: &mut Registers) -> Outcome {
        self.crash_at(code, registers, code.address())
    }

    /// Runs `code`, which must end the domain in the way the host calls `how`.
    pub(crate) fn end(&self, how: &'static str, code: Code, registers: &mut Registers) -> Outcome {
        pv_guest_sdk::println!("ends {} {how}", self.name);
        run(code, registers);
        equal("the guest", "goes on", "ends")
    }
}

/// How a case ended that the guest survived.
pub(crate) type Outcome = Result<(), Verdict>;

/// Why a case did not pass.
pub(crate) enum Verdict {
    /// The hypervisor did something else.
    Fail(Difference),
    /// The case does not apply, and why.
    Skip(&'static str),
}

/// What was expected and what was seen.
pub(crate) struct Difference {
    what: &'static str,
    place: Option<u64>,
    expected: Value,
    seen: Value,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)?;
        if let Some(place) = self.place {
            write!(f, " {place:#x}")?;
        }
        write!(f, ": expected {} seen {}", self.expected, self.seen)
    }
}

/// A value as failures show it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Value {
    /// Shown in hexadecimal.
    Bits(u64),
    /// Shown in decimal.
    Number(i64),
    /// Shown as it is.
    Word(&'static str),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bits(bits) => write!(f, "{bits:#x}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Word(word) => f.write_str(word),
        }
    }
}

macro_rules! bits {
    ($($type:ty),+) => { $(
        impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self::Bits(value.into())
            }
        }
    )+ };
}

bits!(u8, u16, u32, u64);

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Bits(value as u64)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Word(if value { "yes" } else { "no" })
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Number(value)
    }
}

impl From<&'static str> for Value {
    fn from(value: &'static str) -> Self {
        Self::Word(value)
    }
}

/// Checks that `what` is as expected.
pub(crate) fn equal<T: Into<Value>>(what: &'static str, seen: T, expected: T) -> Outcome {
    compare(what, None, seen.into(), expected.into())
}

/// Checks that `what` number `place` is as expected.
pub(crate) fn equal_at<T: Into<Value>>(
    what: &'static str,
    place: u64,
    seen: T,
    expected: T,
) -> Outcome {
    compare(what, Some(place), seen.into(), expected.into())
}

/// Checks that `seen` fulfils what `expected` says in words.
pub(crate) fn holds<T: Into<Value>>(
    what: &'static str,
    seen: T,
    expected: &'static str,
    fulfilled: bool,
) -> Outcome {
    if fulfilled {
        return Ok(());
    }
    Err(Verdict::Fail(Difference {
        what,
        place: None,
        expected: Value::Word(expected),
        seen: seen.into(),
    }))
}

fn compare(what: &'static str, place: Option<u64>, seen: Value, expected: Value) -> Outcome {
    if seen == expected {
        return Ok(());
    }
    Err(Verdict::Fail(Difference { what, place, expected, seen }))
}
