//! A transaction: what a client has seen and changed, apart from the tree until it is kept.
//!
//! Each node is copied when it is first looked at, and from then on the transaction has its own.
//! It can be kept if each of them is still as it was seen; else somebody else has changed something
//! that the client relied on, and it has to start again.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::error::Error;
use crate::perms::Perms;
use crate::tree::{Node, Tree};
use crate::watch::Reach;

/// A node as a transaction has it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: String,
    /// The generation in the tree when it was first looked at; none: there was no such node.
    seen: Option<u64>,
    pub(crate) node: Option<Arc<Node>>,
    pub(crate) is_changed: bool,
    /// Which watches are to be told when the transaction is kept.
    pub(crate) event: Option<Reach>,
}

/// A transaction.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    /// In the order of first looks, in which events are told.
    entries: Vec<Entry>,
    places: BTreeMap<String, usize>,
    /// How many nodes more each domain owns by it.
    owned: BTreeMap<u16, i64>,
    /// Why it can never be kept, if so.
    pub(crate) doom: Option<Error>,
    /// What it holds. Unit: bytes.
    pub(crate) memory: usize,
}

impl Transaction {
    /// The transaction's own copy of a node, if it has looked at it already.
    pub(crate) fn get(&self, path: &str) -> Option<&Option<Arc<Node>>> {
        self.places.get(path).map(|&place| &self.entries[place].node)
    }

    /// How many nodes it has looked at.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// What a first look at a node costs. Unit: bytes.
    pub(crate) fn cost(path: &str, node: Option<&Arc<Node>>) -> usize {
        2 * path.len() + size_of::<Entry>() + node.map_or(0, |node| node.size())
    }

    /// Looks at a node for the first time.
    pub(crate) fn look(&mut self, path: &str, node: Option<Arc<Node>>) {
        self.memory += Self::cost(path, node.as_ref());
        self.places.insert(path.into(), self.entries.len());
        self.entries.push(Entry {
            path: path.into(),
            seen: node.as_ref().map(|node| node.generation),
            node,
            is_changed: false,
            event: None,
        });
    }

    /// Changes a node that it has looked at.
    pub(crate) fn change(&mut self, path: &str, node: Option<Node>) {
        let Some(&place) = self.places.get(path) else { return };
        let entry = &mut self.entries[place];
        let size = |node: Option<&Node>| node.map_or(0, Node::size);
        self.memory += size(node.as_ref());
        self.memory = self.memory.saturating_sub(size(entry.node.as_deref()));
        if let Some(old) = &entry.node {
            *self.owned.entry(old.perms.owner()).or_default() -= 1;
        }
        if let Some(new) = &node {
            *self.owned.entry(new.perms.owner()).or_default() += 1;
        }
        entry.node = node.map(Arc::new);
        entry.is_changed = true;
    }

    /// Has watches told of a node when it is kept.
    pub(crate) fn tell(&mut self, path: &str, reach: Reach) {
        if let Some(&place) = self.places.get(path) {
            self.entries[place].event = Some(reach);
        }
    }

    /// How many nodes more a domain owns by it.
    pub(crate) fn owned(&self, domid: u16) -> i64 {
        self.owned.get(&domid).copied().unwrap_or(0)
    }

    /// Whether everything it looked at is as it was.
    pub(crate) fn holds(&self, tree: &Tree) -> bool {
        let now = |entry: &Entry| tree.get(&entry.path).map(|node| node.generation);
        self.entries.iter().all(|entry| now(entry) == entry.seen)
    }

    /// Whether a domain has a part in any node of it.
    pub(crate) fn mentions(&self, domid: u16) -> bool {
        let has = |perms: &Perms| perms.mentions(domid);
        self.entries.iter().filter_map(|entry| entry.node.as_ref()).any(|node| has(&node.perms))
    }

    /// All that it has looked at, in that order.
    pub(crate) fn into_entries(self) -> Vec<Entry> {
        self.entries
    }
}
