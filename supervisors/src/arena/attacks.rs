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
    /// Never: they are paused in the middle, and destroyed so.
    Paused,
    /// Never: they are destroyed before they run.
    Unborn,
}

impl Expected {
    /// Whether it ended like that.
    pub(crate) fn is(self, end: Option<End>) -> bool {
        match self {
            Self::PowerOff => end.is_some_and(End::is_success),
            Self::Crash => end.is_some_and(|end| !end.is_success()),
            Self::Any => end.is_some(),
            Self::Endless | Self::Paused | Self::Unborn => end.is_none(),
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

const fn fuzz(name: &'static str, guests: &'static [&'static str]) -> Attack {
    Attack { name, file: "fuzz", guests, expected: Expected::PowerOff }
}

/// In the order in which they are made.
pub(crate) const ATTACKS: &[Attack] = &[
    // As many at once as ever are: what is made for a vCPU is kept for the next.
    fuzz("warm-up", &["calls=1000", "calls=1000 seed=2", "calls=1000 seed=3"]),
    one("tables", &["tables"], Expected::PowerOff),
    one("jumps", &["jumps"], Expected::PowerOff),
    one("instructions", &["instructions"], Expected::PowerOff),
    one("segments", &["segments"], Expected::PowerOff),
    one("debug", &["debug"], Expected::PowerOff),
    one("exhaust", &["exhaust"], Expected::PowerOff),
    one("log", &["log"], Expected::PowerOff),
    one("privileged", &["privileged"], Expected::PowerOff),
    one("answers", &["answers"], Expected::PowerOff),
    one("spin", &["spin", "spin", "spin"], Expected::Endless),
    one("die-fault", &["die-fault"], Expected::Crash),
    one("die-multicall", &["die-multicall"], Expected::Crash),
    one("die-vcpus", &["die-vcpus"], Expected::Crash),
    one("die-running", &["die-running"], Expected::Crash),
    one("die-pinning", &["die-pinning"], Expected::Crash),
    one("die-poll", &["die-poll"], Expected::Endless),
    one("die-blocked", &["die-blocked"], Expected::Endless),
    Attack {
        name: "die-paused",
        file: "fuzz",
        guests: &["calls=4000000000"],
        expected: Expected::Paused,
    },
    one("die-unborn", &["spin", "die-fault"], Expected::Unborn),
    one("die-suspended", &["die-suspended"], Expected::Any),
    one("die-callback", &["die-callback"], Expected::Crash),
    one("die-stack", &["die-stack"], Expected::Crash),
    one("die-narrow", &["die-narrow"], Expected::Crash),
    one("die-handler", &["die-handler"], Expected::Crash),
    one("die-triple", &["die-triple"], Expected::Crash),
    one("die-user", &["die-user"], Expected::Crash),
    one("die-sysenter", &["die-sysenter"], Expected::Crash),
    one("die-iret", &["die-iret"], Expected::Crash),
    one("die-timers", &["die-timers"], Expected::Crash),
    one("die-segments", &["die-segments"], Expected::Crash),
    one("die-debug", &["die-debug"], Expected::Crash),
    one("die-granted", &["die-granted"], Expected::Crash),
    one("die-ports", &["die-ports"], Expected::Crash),
    one("grants-of-the-dying", &["grant", "map"], Expected::Any),
    fuzz("fuzz-of-two", &["calls=50000 seed=11", "calls=50000 seed=12"]),
    fuzz("fuzz", &[""]),
];
