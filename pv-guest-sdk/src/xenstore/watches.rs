//! Which nodes are watched, and what has happened to them.

use heapless::String;

use super::error::{Cause, Fault};

/// How many nodes can be watched at a time.
pub(super) const PLACES: usize = 16;
/// The longest path that can be watched. Unit: bytes.
pub const WATCH_PATH: usize = 256;

/// A path that has changed.
pub type WatchedPath = String<WATCH_PATH>;

/// What has happened since it was last asked for.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Event {
    None,
    /// Something at one path, which is kept.
    One,
    /// More than is kept.
    Several,
}

struct Place {
    used: bool,
    /// Tells the present watch from earlier ones at this place.
    generation: u32,
    path: WatchedPath,
    event: Event,
    changed: WatchedPath,
}

/// A watch as its token names it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Key {
    place: usize,
    generation: u32,
}

/// All places. A server can send as many events as it likes: of each watch one path is kept, or that
/// there were several.
pub(super) struct Watches([Place; PLACES]);

impl Watches {
    pub(super) const fn new() -> Self {
        Self(
            [const {
                Place {
                    used: false,
                    generation: 0,
                    path: WatchedPath::new(),
                    event: Event::None,
                    changed: WatchedPath::new(),
                }
            }; PLACES],
        )
    }

    pub(super) fn add(&mut self, path: &str) -> Result<Key, Cause> {
        let path = WatchedPath::try_from(path).map_err(|_| Cause::TooLong)?;
        let mut places = self.0.iter_mut().enumerate();
        let (number, place) = places.find(|(_, place)| !place.used).ok_or(Cause::NoPlace)?;
        let generation = place.generation.wrapping_add(1);
        *place =
            Place { used: true, generation, path, event: Event::None, changed: WatchedPath::new() };
        Ok(Key { place: number, generation })
    }

    /// Ends a watch, and returns its path if it had not ended.
    pub(super) fn remove(&mut self, key: Key) -> Option<&str> {
        let place = self.at(key)?;
        place.used = false;
        Some(&place.path)
    }

    pub(super) fn forget(&mut self) {
        self.0.iter_mut().for_each(|place| place.used = false);
    }

    fn at(&mut self, key: Key) -> Option<&mut Place> {
        let place = self.0.get_mut(key.place)?;
        Some(place).filter(|place| place.used && place.generation == key.generation)
    }

    /// Takes note of an event. One of a watch that has ended may be late.
    pub(super) fn deliver(&mut self, body: &[u8]) -> Result<(), Fault> {
        let mut texts = body.split(|&byte| byte == 0).map(core::str::from_utf8);
        let (Some(Ok(path)), Some(Ok(token)), Some(_)) = (texts.next(), texts.next(), texts.next())
        else {
            return Err(Fault::Form);
        };
        if let Some(place) = Key::parse(token).and_then(|key| self.at(key)) {
            match WatchedPath::try_from(path) {
                Ok(path) if place.event == Event::None => {
                    (place.event, place.changed) = (Event::One, path);
                }
                Ok(path) if path == place.changed => {}
                _ => place.event = Event::Several,
            }
        }
        Ok(())
    }

    /// Takes what has happened since the last time.
    pub(super) fn take(&mut self, key: Key) -> Result<Option<WatchedPath>, Cause> {
        let place = self.at(key).ok_or(Cause::Reconnected)?;
        Ok(match core::mem::replace(&mut place.event, Event::None) {
            Event::None => None,
            Event::One => Some(place.changed.clone()),
            Event::Several => Some(place.path.clone()),
        })
    }
}

impl Key {
    pub(super) fn token(self) -> String<20> {
        let mut token = String::new();
        let _it_fits =
            core::fmt::write(&mut token, format_args!("{}.{}", self.place, self.generation));
        token
    }

    fn parse(token: &str) -> Option<Self> {
        let (place, generation) = token.split_once('.')?;
        Some(Self { place: place.parse().ok()?, generation: generation.parse().ok()? })
    }
}
