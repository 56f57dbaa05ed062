//! Changes that are made together.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::format::{CHANGE, KEY, VALUE};

/// A change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change<'a> {
    /// A key gets a value.
    Set(&'a [u8], &'a [u8]),
    /// A key is no more.
    Delete(&'a [u8]),
}

impl<'a> Change<'a> {
    /// What it is about.
    #[must_use]
    pub const fn key(&self) -> &'a [u8] {
        match self {
            Self::Set(key, _) | Self::Delete(key) => key,
        }
    }

    /// Appends it as a record has it.
    pub(crate) fn encode(&self, to: &mut Vec<u8>) {
        let (kind, key, value) = match *self {
            Self::Set(key, value) => (1, key, value),
            Self::Delete(key) => (2, key, &[][..]),
        };
        to.push(kind);
        to.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes());
        to.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
        to.extend_from_slice(key);
        to.extend_from_slice(value);
    }

    /// Takes the first change from a record; none if it has not the form of one.
    pub(crate) fn take(bytes: &mut &'a [u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(CHANGE)?;
        let &[kind, k0, k1, v0, v1, v2, v3] = head else { return None };
        let value = usize::try_from(u32::from_le_bytes([v0, v1, v2, v3])).ok()?;
        let (key, rest) = rest.split_at_checked(u16::from_le_bytes([k0, k1]).into())?;
        let (value, rest) = rest.split_at_checked(value)?;
        *bytes = rest;
        if key.is_empty() || key.len() > KEY || value.len() > VALUE {
            return None;
        }
        match kind {
            1 => Some(Self::Set(key, value)),
            2 if value.is_empty() => Some(Self::Delete(key)),
            _ => None,
        }
    }
}

/// Changes that are made together, in their order: see [`crate::Store::add`].
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The changes as a record has them.
    pub(crate) payload: Vec<u8>,
    /// For each key here what its value's length will be, or that it is no more.
    pub(crate) lengths: BTreeMap<Vec<u8>, Option<usize>>,
    /// How much all keys and values become longer, and how many more there will be.
    pub(crate) growth: Growth,
}

/// How much a table grows, or shrinks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Growth {
    /// Unit: bytes, as records have them.
    pub(crate) bytes: isize,
    pub(crate) keys: isize,
}

impl Batch {
    /// Whether there is nothing to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.payload.is_empty()
    }
}
