//! All attacks.

use toolstack::end::End;

/// How an attack's guests end if all is well.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Expected {
    /// By themselves, in order.
    PowerOff,
    /// As crashed.
    Crash,
    /// One way or the other.
    Any,
    /// Never: they are destroyed.
    Endless,
}

impl Expected {
    /// Whether it ended like that.
    pub(crate) fn is(self, end: Option<End>) -> bool {
        match self {
            Self::PowerOff => end.is_some_and(End::is_success),
            Self::Crash => end.is_some_and(|end| !end.is_success()),
            Self::Any => end.is_some(),
            Self::Endless => end.is_none(),
        }
    }
}

/// One attack.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    /// The file of its guests.
    pub(crate) file: &'static str,
    /// The command lines of its guests.
    pub(crate) guests: &'static [&'static str],
    pub(crate) expected: Expected,
}

const fn one(name: &'static str, guests: &'static [&'static str], expected: Expected) -> Attack {
    Attack { name, file: "attack", guests, expected }
}

/// In the order in which they are made.
pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "warm-up", file: "fuzz", guests: &["calls=1000"], expected: Expected::PowerOff },
    Attack { name: "fuzz", file: "fuzz", guests: &[""], expected: Expected::PowerOff },
];
