//! The neighbour: what it says on its slate.

use core::fmt;

use pv_guest_sdk::control::Plain;
use pv_guest_sdk::event::Channel;
use pv_guest_sdk::time::{Duration, Instant};
use pv_guest_sdk::{Machine, wait};
use toolstack::archive::File;

use crate::Outcome;
use crate::guest::Guest;

/// Words of the slate, as the guests have them.
mod word {
    pub(super) const HOLD: usize = 1;
    pub(super) const HELD: usize = 2;
    pub(super) const END: usize = 3;
    pub(super) const BEATS: usize = 4;
    pub(super) const MISSED: usize = 5;
    pub(super) const LATEST: usize = 6;
    pub(super) const PASSES: usize = 7;
    pub(super) const DAMAGED: usize = 8;
}

/// What it has seen so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    pub(crate) beats: u32,
    pub(crate) missed: u32,
    /// Unit: microseconds.
    pub(crate) latest: u32,
    passes: u32,
    pub(crate) damaged: u32,
}

impl Report {
    /// What has changed.
    pub(crate) const fn since(self, before: Self) -> Self {
        let beats = self.beats.wrapping_sub(before.beats);
        Self { beats, missed: self.missed.wrapping_sub(before.missed), ..self }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { beats, missed, latest, passes, damaged } = self;
        write!(f, "{missed} of {beats} beats missed, latest {latest} us, ")?;
        write!(f, "{passes} passes over its memory, {damaged} words damaged")
    }
}

/// See the module.
pub(crate) struct Neighbour {
    guest: Guest,
}

/// Waits a moment.
fn moment(ended: &Channel) -> Outcome<()> {
    Ok(wait::poll(&Machine, &[ended.port()], Some(Instant::now() + Duration::from_millis(5)))?)
}

impl Neighbour {
    /// Starts it, and waits until its heart beats.
    pub(crate) fn start(file: File<'_>, ended: &Channel) -> Outcome<Self> {
        let mut guest = Guest::start(file, "", 8, u32::MAX)?;
        guest.domain.control(Plain::Unpause)?;
        while guest.word(word::BEATS) < 3 {
            guest.look()?;
            if guest.end.is_some() {
                return Err("the neighbour has ended".into());
            }
            moment(ended)?;
        }
        Ok(Self { guest })
    }

    pub(crate) fn id(&self) -> u16 {
        self.guest.id()
    }

    /// What it has seen so far.
    pub(crate) fn report(&self) -> Report {
        Report {
            beats: self.guest.word(word::BEATS),
            missed: self.guest.word(word::MISSED),
            latest: self.guest.word(word::LATEST),
            passes: self.guest.word(word::PASSES),
            damaged: self.guest.word(word::DAMAGED),
        }
    }

    /// Lets no beat count from now on, or again; returns when that is so.
    pub(crate) fn hold(&mut self, hold: bool, ended: &Channel) -> Outcome<()> {
        self.guest.set(word::HOLD, u32::from(hold));
        while self.guest.word(word::HELD) != u32::from(hold) {
            self.guest.look()?;
            if self.guest.end.is_some() {
                return Err("the neighbour has ended".into());
            }
            moment(ended)?;
        }
        Ok(())
    }

    /// Ends it; what it has seen.
    pub(crate) fn end(&mut self, ended: &Channel) -> Outcome<Report> {
        self.guest.set(word::END, 1);
        while self.guest.end.is_none() {
            moment(ended)?;
            self.guest.look()?;
        }
        let report = self.report();
        match self.guest.end {
            Some(end) if end.is_success() => self.guest.bury()?,
            _ => return Err("the neighbour ended badly".into()),
        }
        Ok(report)
    }
}
