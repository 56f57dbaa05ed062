//! The nodes.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::path;
use crate::perms::{Access, PRIVILEGED, Perms};

/// A node. What is shared between the tree and a transaction that looked at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) value: Vec<u8>,
    /// Names of the nodes below, in the order in which they came. A node is copied to be changed: they
    /// are not.
    pub(crate) children: Vec<Arc<str>>,
    pub(crate) perms: Perms,
    /// Differs from that of every other state of every node.
    pub(crate) generation: u64,
}

impl Node {
    pub(crate) const fn empty(perms: Perms) -> Self {
        Self { value: Vec::new(), children: Vec::new(), perms, generation: 0 }
    }

    /// What the size quota counts, as xenstored does: a record with its header. Unit: bytes.
    pub(crate) fn size(&self) -> usize {
        const HEADER: usize = 24;
        const PERMISSION: usize = 8;
        let names: usize = self.children.iter().map(|name| name.len() + 1).sum();
        HEADER + self.perms.rows().len() * PERMISSION + self.value.len() + names
    }
}

/// What a domain owns.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Owned {
    pub(crate) nodes: u32,
    /// As [`cost`] counts it. Unit: bytes.
    pub(crate) memory: usize,
}

/// What the memory quota counts for a node. Unit: bytes.
pub(crate) fn cost(path: &str, node: &Node) -> usize {
    path.len() + node.size()
}

/// All nodes by their paths, and how many each domain owns.
///
/// Always true: the root is there; a node's parent is there and names it exactly once.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: BTreeMap<String, Arc<Node>>,
    owned: BTreeMap<u16, Owned>,
    generation: u64,
}

impl Tree {
    pub(crate) fn new() -> Self {
        let mut tree = Self { nodes: BTreeMap::new(), owned: BTreeMap::new(), generation: 0 };
        tree.put("/", Node::empty(Perms::new(PRIVILEGED, Access::NONE)));
        tree
    }

    pub(crate) fn get(&self, path: &str) -> Option<&Arc<Node>> {
        self.nodes.get(path)
    }

    /// A number that no node has had yet.
    pub(crate) const fn generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    /// Puts a node as it is; its parent's list of children is the caller's to keep.
    pub(crate) fn put(&mut self, path: &str, mut node: Node) {
        node.generation = self.generation();
        let owned = self.owned.entry(node.perms.owner()).or_default();
        (owned.nodes, owned.memory) = (owned.nodes + 1, owned.memory + cost(path, &node));
        let node = Arc::new(node);
        match self.nodes.get_mut(path) {
            Some(place) => {
                let old = core::mem::replace(place, node);
                self.disown(path, &old);
            }
            None => {
                self.nodes.insert(path.into(), node);
            }
        }
    }

    /// Removes a node; its parent's list of children and the nodes below are the caller's to keep.
    pub(crate) fn take(&mut self, path: &str) {
        if let Some(old) = self.nodes.remove(path) {
            self.disown(path, &old);
        }
    }

    fn disown(&mut self, path: &str, node: &Node) {
        let owner = node.perms.owner();
        if let Some(owned) = self.owned.get_mut(&owner) {
            (owned.nodes, owned.memory) = (owned.nodes - 1, owned.memory - cost(path, node));
            if owned.nodes == 0 {
                self.owned.remove(&owner);
            }
        }
    }

    /// What a domain owns.
    pub(crate) fn owned(&self, domid: u16) -> Owned {
        self.owned.get(&domid).copied().unwrap_or_default()
    }

    /// How many nodes there are, with the root.
    pub(crate) fn count(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Arc<Node>)> {
        self.nodes.iter()
    }

    /// Every node after the nodes above it, and children in their order.
    pub(crate) fn downwards(&self) -> Vec<(String, Arc<Node>)> {
        let mut waiting = alloc::vec![String::from("/")];
        let mut found = Vec::new();
        while let Some(path) = waiting.pop() {
            if let Some(node) = self.nodes.get(&path) {
                waiting.extend(node.children.iter().rev().map(|leaf| path::join(&path, leaf)));
                found.push((path, node.clone()));
            }
        }
        found
    }

    /// Whether what is always true is true.
    pub(crate) fn is_sound(&self) -> bool {
        let reached = self.downwards().len() == self.nodes.len();
        let named = self.nodes.keys().all(|path| {
            let above = self.nodes.get(path::parent(path));
            let times = |node: &Arc<Node>| {
                node.children.iter().filter(|leaf| ***leaf == *path::leaf(path)).count()
            };
            path == "/" || above.map(times) == Some(1)
        });
        let nodes: u32 = self.owned.values().map(|owned| owned.nodes).sum();
        let memory: usize = self.owned.values().map(|owned| owned.memory).sum();
        let costs: usize = self.nodes.iter().map(|(path, node)| cost(path, node)).sum();
        reached && named && nodes as usize == self.nodes.len() && memory == costs
    }
}
