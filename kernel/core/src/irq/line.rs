//! The wires: where each arrives, and how it is raised.

use core::sync::atomic::{AtomicUsize, Ordering};

use hypercall_abi::errno::Errno;

use crate::lock::Lock;
use crate::platform::Platform;

/// Lines looked after.
pub const MOST_LINES: usize = 256;
/// Lines of the old bus: raised by an edge, active high, if the firmware does not say otherwise.
const LEGACY: usize = 16;

/// What raises a line's interrupt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trigger {
    /// The change.
    Edge,
    /// The level, for as long as it lasts.
    Level,
}

/// Which level of a line counts as raised.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Polarity {
    /// High.
    High,
    /// Low.
    Low,
}

/// Who decides about a line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Setup {
    /// Nobody has yet: it is as the firmware says.
    Default,
    /// A guest has.
    Done,
    /// The kernel: guests don't get it.
    Kept,
}

/// A line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Line {
    /// The input it arrives at, counted over all I/O APICs; `None`: it does not.
    pub pin: Option<u32>,
    /// Its trigger.
    pub trigger: Trigger,
    /// Its polarity.
    pub polarity: Polarity,
    setup: Setup,
}

/// All lines, by number.
#[derive(Debug)]
pub struct Lines {
    lines: Lock<[Line; MOST_LINES]>,
    count: AtomicUsize,
}

impl Lines {
    /// None yet.
    pub(super) const fn new() -> Self {
        let (trigger, polarity) = (Trigger::Edge, Polarity::High);
        let line = Line { pin: None, trigger, polarity, setup: Setup::Default };
        Self { lines: Lock::new([line; MOST_LINES]), count: AtomicUsize::new(0) }
    }

    /// Boot: the I/O APICs have `pins` inputs, and lines are as they are without a word from the firmware.
    pub fn begin(&self, platform: &impl Platform, pins: usize) {
        for (number, line) in (0_u32..).zip(self.lines.lock(platform).iter_mut()) {
            line.pin = usize::try_from(number).is_ok_and(|number| number < pins).then_some(number);
            if usize::try_from(number).is_ok_and(|number| number >= LEGACY) {
                (line.trigger, line.polarity) = (Trigger::Level, Polarity::Low);
            }
        }
        self.count.store(pins.clamp(LEGACY, MOST_LINES), Ordering::Relaxed);
    }

    /// Boot: a line of the old bus arrives at input `pin`, and so. The line with that number, if it is
    /// another, does not arrive.
    pub fn overrule(
        &self,
        platform: &impl Platform,
        number: usize,
        pin: u32,
        (trigger, polarity): (Trigger, Polarity),
    ) {
        let mut lines = self.lines.lock(platform);
        let other = usize::try_from(pin).ok().filter(|other| *other != number && *other < LEGACY);
        if let Some(other) = other.and_then(|other| lines.get_mut(other)) {
            other.pin = None;
        }
        if let Some(line) = lines.get_mut(number) {
            *line = Line { pin: Some(pin), trigger, polarity, setup: Setup::Default };
        }
    }

    /// Boot: a line is the kernel's.
    pub fn keep(&self, platform: &impl Platform, number: usize) {
        if let Some(line) = self.lines.lock(platform).get_mut(number) {
            line.setup = Setup::Kept;
        }
    }

    /// How many lines there are. Beyond them begin the numbers of messages.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether a number is a line's.
    #[must_use]
    pub fn has(&self, irq: u32) -> bool {
        usize::try_from(irq).is_ok_and(|irq| irq < self.count())
    }

    /// A line. `None`: there is none with the number, or the kernel keeps it.
    pub fn get(&self, platform: &impl Platform, irq: u32) -> Option<Line> {
        let at = usize::try_from(irq).ok().filter(|at| *at < self.count())?;
        let line = self.lines.lock(platform).get(at).copied()?;
        (line.setup != Setup::Kept).then_some(line)
    }

    /// The line that arrives at an input.
    pub fn at_pin(&self, platform: &impl Platform, pin: u32) -> Option<u32> {
        let at = self.lines.lock(platform).iter().position(|line| line.pin == Some(pin))?;
        u32::try_from(at).ok()
    }

    /// Says how a line is raised; holds from its next binding on.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: there is no such line.
    /// - `EEXIST`: somebody has said so already, or the kernel keeps it.
    pub fn set_up(
        &self,
        platform: &impl Platform,
        irq: u32,
        (trigger, polarity): (Trigger, Polarity),
    ) -> Result<(), Errno> {
        let at = usize::try_from(irq).ok().filter(|at| *at < self.count()).ok_or(Errno::EINVAL)?;
        let mut lines = self.lines.lock(platform);
        let line = lines.get_mut(at).ok_or(Errno::EINVAL)?;
        match line.setup {
            Setup::Default => {
                *line = Line { pin: line.pin, trigger, polarity, setup: Setup::Done };
                Ok(())
            }
            Setup::Done | Setup::Kept => Err(Errno::EEXIST),
        }
    }
}
