//! Watches: who wants to be told of what.

use alloc::string::String;
use alloc::vec::Vec;

use crate::path;

/// Which watches a change is told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Those on the node and on the nodes above it.
    Above,
    /// Those on the node alone: it went with the one above, of which the others hear.
    Exact,
}

/// That something has changed, as the client named what it watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What has changed: a node at or below the watched path, and relative if that one was.
    pub path: String,
    /// What the client gave with the watch.
    pub token: Vec<u8>,
}

/// A watch.
#[derive(Debug)]
pub(crate) struct Watch {
    /// A node, or an event's name with `@` in front.
    pub(crate) path: String,
    pub(crate) token: Vec<u8>,
    /// How much of a path the client does not want to see: its own place, if the watch is relative.
    pub(crate) hidden: usize,
    /// That there was no room for an event, so that one is to be made up for.
    pub(crate) has_missed: bool,
}

impl Watch {
    /// Whether it is to hear of a change.
    pub(crate) fn hears(&self, changed: &str, reach: Reach) -> bool {
        match reach {
            Reach::Above => path::within(changed, &self.path),
            Reach::Exact => changed == self.path,
        }
    }

    /// The event on a path at or below the watched one.
    pub(crate) fn event(&self, changed: &str) -> Event {
        Event { path: self.shown(changed).into(), token: self.token.clone() }
    }

    fn shown<'a>(&self, changed: &'a str) -> &'a str {
        let rest = changed.get(self.hidden..).unwrap_or("");
        if self.hidden > 0 { rest.strip_prefix('/').unwrap_or(rest) } else { rest }
    }

    /// What the memory quota counts. Unit: bytes.
    pub(crate) fn cost(&self) -> usize {
        size_of::<Self>() + self.path.len() + self.token.len()
    }
}
