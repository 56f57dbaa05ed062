//! All keys and values, in memory.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Bound;

use crate::batch::{Change, Growth};
use crate::format::{CHANGE, HEAD, PAYLOAD};

/// What a key takes in memory beside itself and its value, by a wide estimate. Unit: bytes.
const OVERHEAD: usize = 160;

#[derive(Debug, Default)]
pub(crate) struct Table {
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What they take in records. Unit: bytes.
    bytes: usize,
}

/// How much there may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// In an area. Unit: bytes.
    pub(crate) area: u64,
    /// Of the disk. Unit: bytes.
    pub(crate) sector: u64,
    /// In memory. Unit: bytes.
    pub(crate) memory: usize,
}

impl Room {
    /// Whether so much has room: beside all keys, a quarter of the area is left for what comes then,
    /// so that it is not written anew all the time, and a key can always be deleted.
    fn holds(&self, bytes: usize, keys: usize) -> bool {
        // Each record but the last has at least PAYLOAD bytes.
        let records = (bytes / PAYLOAD + 1) as u64;
        let written = bytes as u64 + records * (HEAD as u64 + self.sector);
        written <= self.area / 4 * 3 && bytes + keys * OVERHEAD <= self.memory
    }
}

impl Table {
    pub(crate) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.entries.get(key).map(Vec::as_slice)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Does the changes of a record, and says whether it had their form. Up to where it had not they
    /// are done.
    pub(crate) fn apply(&mut self, mut payload: &[u8]) -> bool {
        while !payload.is_empty() {
            let Some(change) = Change::take(&mut payload) else { return false };
            let old = match change {
                Change::Set(key, value) => {
                    self.bytes += CHANGE + key.len() + value.len();
                    self.entries.insert(key.into(), value.into())
                }
                Change::Delete(key) => self.entries.remove(key),
            };
            self.bytes -= old.map_or(0, |old| CHANGE + change.key().len() + old.len());
        }
        true
    }

    /// Whether there is room for all that is here and as much more.
    pub(crate) fn fits(&self, room: &Room, growth: Growth) -> bool {
        let bytes = self.bytes.saturating_add_signed(growth.bytes);
        room.holds(bytes, self.entries.len().saturating_add_signed(growth.keys))
    }

    /// As many entries behind a key as a record has room for, and the last of their keys.
    pub(crate) fn piece(&self, after: Option<&[u8]>) -> Option<(Vec<u8>, Vec<u8>)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut payload = Vec::new();
        let mut last = None;
        for (key, value) in self.entries.range::<[u8], _>((from, Bound::Unbounded)) {
            Change::Set(key, value).encode(&mut payload);
            last = Some(key);
            if payload.len() >= PAYLOAD {
                break;
            }
        }
        Some((payload, last?.clone()))
    }

    /// Calls for each key and its value, in the order of keys.
    pub(crate) fn each(&self, mut with: impl FnMut(&[u8], &[u8])) {
        self.entries.iter().for_each(|(key, value)| with(key, value));
    }
}
