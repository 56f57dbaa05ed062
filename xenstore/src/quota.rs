//! How much of the store one domain may have.

use crate::perms::Identity;

/// Limits for each domain but the privileged one. The defaults are xenstored's where it has the same
/// limit.
///
/// The privileged domain has the limit on answers too, as it only delays, and sixteen times the one
/// on events: else a domain could fill the memory of a task that is slow to take them.
#[derive(Clone, Copy, Debug)]
pub struct Quotas {
    /// Nodes that a domain owns. More: `ENOSPC`.
    pub nodes: u32,
    /// A node with its value, permissions and names of children must be smaller. Else: `ENOSPC`.
    /// Unit: bytes.
    pub node_size: usize,
    /// Rows of a node's permissions. More: `ENOSPC`.
    pub perms: usize,
    /// Length of a path, below the domain's own place. Longer: `EINVAL`. Unit: bytes.
    pub path: usize,
    /// Parts of a path. More: `EINVAL`.
    pub depth: usize,
    /// Watches; with one more than this many, the next is refused. More: `E2BIG`.
    pub watches: usize,
    /// Open transactions; with one more than this many, the next is refused. More: `ENOSPC`.
    pub transactions: usize,
    /// Nodes that one transaction looks at. More: `ENOSPC`, and the transaction cannot be kept.
    pub accessed: usize,
    /// What a client's nodes, watches and transactions hold. More: `ENOMEM`. Unit: bytes.
    pub memory: usize,
    /// Answers not yet taken. With so many, no further request is read.
    pub answers: usize,
    /// Events not yet taken. What does not fit is remembered by its watch alone, and told as an
    /// event on the watch's own path once there is room. Unit: bytes.
    pub events: usize,
}

impl Quotas {
    pub(crate) const fn event_limit(&self, who: Identity) -> usize {
        if who.is_privileged() { self.events.saturating_mul(16) } else { self.events }
    }
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            nodes: 1000,
            node_size: 2048,
            perms: 5,
            path: 2048,
            depth: 256,
            watches: 128,
            transactions: 10,
            accessed: 1024,
            memory: 5 << 19,
            answers: 20,
            events: 256 << 10,
        }
    }
}
