//! Nodes as a client sees them, within a transaction or without one: the steps of which the store's
//! calls are made.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::client::{Client, Item, Scope, State};
use crate::error::Error;
use crate::path;
use crate::perms::{Access, Identity, Perms};
use crate::store::{INTRODUCE, RELEASE, Store};
use crate::transaction::Transaction;
use crate::tree::{Node, cost};
use crate::watch::{Reach, Watch};
use hypercall_abi::xenstore::RELATIVE_PATH_MAX;

impl Store {
    pub(crate) fn state(&mut self, client: Client) -> Result<&mut State, Error> {
        self.clients.get_mut(&client).ok_or(Error::Einval)
    }

    /// Who a client is.
    pub(crate) fn identity(&self, client: Client) -> Result<Identity, Error> {
        let domid = self.clients.get(&client).ok_or(Error::Einval)?.domid;
        Ok(self.identity_of(domid))
    }

    fn identity_of(&self, domid: u16) -> Identity {
        let target = self.domains.get(&domid).and_then(|domain| domain.target);
        Identity { domid, target }
    }

    pub(crate) fn special(&self, name: &str) -> Option<&Perms> {
        match name {
            INTRODUCE => Some(&self.special[0]),
            RELEASE => Some(&self.special[1]),
            _ => None,
        }
    }

    /// The path from the root, if it is one.
    pub(crate) fn path(&self, scope: Scope, path: &str) -> Result<String, Error> {
        let who = self.identity(scope.client)?;
        let path = path::absolute(who.domid, path);
        let counted = path::counted(&path);
        let is_small =
            counted.len() <= self.quotas.path && path.matches('/').count() <= self.quotas.depth;
        let fits = who.is_privileged() || is_small;
        if path::valid(&path) && fits { Ok(path) } else { Err(Error::Einval) }
    }

    /// A node, or nothing, and without a question of permissions.
    pub(crate) fn look(&mut self, scope: Scope, path: &str) -> Result<Option<Arc<Node>>, Error> {
        let now = self.tree.get(path);
        if scope.transaction == 0 {
            return Ok(now.cloned());
        }
        let is_limited = !self.identity(scope.client)?.is_privileged();
        let is_full = self.is_full(scope.client, Transaction::cost(path, now));
        let state = self.clients.get_mut(&scope.client).ok_or(Error::Einval)?;
        let transaction = state.transactions.get_mut(&scope.transaction).ok_or(Error::Enoent)?;
        if let Some(own) = transaction.get(path) {
            return Ok(own.clone());
        }
        let doom = if !is_limited {
            None
        } else if transaction.len() >= self.quotas.accessed {
            Some(Error::Enospc)
        } else {
            is_full.then_some(Error::Enomem)
        };
        if let Some(error) = doom {
            transaction.doom = Some(error);
            return Err(error);
        }
        transaction.look(path, now.cloned());
        Ok(now.cloned())
    }

    /// A node with which the client may do what it needs. If he may not, and also if there is none,
    /// he hears only what he may know: whether there is a node is told to him who may do the same
    /// with the nearest node above.
    pub(crate) fn node(
        &mut self,
        scope: Scope,
        path: &str,
        need: Access,
    ) -> Result<Arc<Node>, Error> {
        let who = self.identity(scope.client)?;
        let error = match self.look(scope, path)? {
            Some(node) if node.perms.allow(who).covers(need) => return Ok(node),
            Some(_) => return Err(Error::Eacces),
            None => Error::Enoent,
        };
        let above = self.nearest(scope, path)?.1;
        Err(if above.perms.allow(who).covers(need) { error } else { Error::Eacces })
    }

    /// The nearest node above a path.
    fn nearest<'a>(&mut self, scope: Scope, path: &'a str) -> Result<(&'a str, Arc<Node>), Error> {
        let mut above = path;
        loop {
            above = path::parent(above);
            if let Some(node) = self.look(scope, above)? {
                return Ok((above, node));
            }
            // The root is there always; without this the loop would rest on it.
            if above == "/" {
                return Err(Error::Enoent);
            }
        }
    }

    /// Changes a node that has been looked at. Fails only within a transaction.
    pub(crate) fn change(
        &mut self,
        scope: Scope,
        path: &str,
        node: Option<Node>,
    ) -> Result<(), Error> {
        if scope.transaction == 0 {
            match node {
                Some(node) => self.tree.put(path, node),
                None => self.tree.take(path),
            }
            return Ok(());
        }
        let is_limited = !self.identity(scope.client)?.is_privileged();
        let is_full = is_limited && self.is_full(scope.client, node.as_ref().map_or(0, Node::size));
        let state = self.state(scope.client)?;
        let transaction = state.transactions.get_mut(&scope.transaction).ok_or(Error::Enoent)?;
        if is_full {
            transaction.doom = Some(Error::Enomem);
            return Err(Error::Enomem);
        }
        transaction.change(path, node);
        Ok(())
    }

    /// Whether so many bytes are more than are left of a client's share of memory.
    fn is_full(&self, client: Client, more: usize) -> bool {
        let state = self.clients.get(&client);
        let held = state.map_or(0, |state| state.memory() + self.tree.owned(state.domid).memory);
        held + more > self.quotas.memory
    }

    /// Whether a node is small enough for the client to write it.
    pub(crate) fn fits(&self, client: Client, node: &Node) -> Result<(), Error> {
        let is_limited = !self.identity(client)?.is_privileged();
        if is_limited && node.size() >= self.quotas.node_size {
            return Err(Error::Enospc);
        }
        Ok(())
    }

    /// The same of one that takes another's place.
    pub(crate) fn fits_for(&self, scope: Scope, old: &Node, new: &Node) -> Result<(), Error> {
        self.fits(scope.client, new)?;
        self.may_hold(scope, new.size().saturating_sub(old.size()))
    }

    /// Whether the client may have so many bytes more in the tree; what a transaction has is counted
    /// there.
    fn may_hold(&self, scope: Scope, more: usize) -> Result<(), Error> {
        let is_limited = !self.identity(scope.client)?.is_privileged();
        if is_limited && more > 0 && scope.transaction == 0 && self.is_full(scope.client, more) {
            return Err(Error::Enomem);
        }
        Ok(())
    }

    /// Makes a node that is not there, and those above it that are not.
    pub(crate) fn create(&mut self, scope: Scope, path: &str, value: &[u8]) -> Result<(), Error> {
        let who = self.identity(scope.client)?;
        let (top, above) = self.nearest(scope, path)?;
        let mut perms = above.perms.clone();
        if !who.is_privileged() {
            perms.own(who.domid);
        }
        let mut changes = Vec::new();
        let mut new = Node { value: value.to_owned(), ..Node::empty(perms.clone()) };
        let mut at = path;
        while path::parent(at) != top {
            self.fits(scope.client, &new)?;
            changes.push((at, new));
            new = Node { children: leaves(at), ..Node::empty(perms.clone()) };
            at = path::parent(at);
        }
        self.fits(scope.client, &new)?;
        changes.push((at, new));
        let costs = changes.iter().map(|(path, node)| cost(path, node)).sum();
        self.may_hold(scope, costs)?;
        let mut root = (*above).clone();
        root.children.extend(leaves(at));
        self.fits(scope.client, &root)?;
        self.may_own(scope, who, changes.len())?;
        changes.push((top, root));
        for (path, node) in changes.into_iter().rev() {
            self.change(scope, path, Some(node))?;
        }
        Ok(())
    }

    /// Whether the client may own so many nodes more.
    fn may_own(&mut self, scope: Scope, who: Identity, more: usize) -> Result<(), Error> {
        let owned = i64::from(self.tree.owned(who.domid).nodes);
        let limit = i64::from(self.quotas.nodes);
        let transaction = self.state(scope.client)?.transactions.get(&scope.transaction);
        let nodes = owned + transaction.map_or(0, |one| one.owned(who.domid));
        let more = i64::try_from(more).unwrap_or(i64::MAX);
        if !who.is_privileged() && nodes.saturating_add(more) > limit {
            return Err(Error::Enospc);
        }
        Ok(())
    }

    /// Removes a node that is there, and all below it. What is below is told of first, and only to
    /// watches on itself.
    ///
    /// A transaction may have a node of which the one above was gone when it looked there: that is
    /// [`Error::Einval`], and such a transaction cannot be kept anyway.
    pub(crate) fn remove(&mut self, scope: Scope, path: &str) -> Result<(), Error> {
        let top = path::parent(path);
        let mut above = (*self.look(scope, top)?.ok_or(Error::Einval)?).clone();
        above.children.retain(|leaf| **leaf != *path::leaf(path));
        let mut gone = Vec::new();
        let mut waiting = alloc::vec![(path.to_string(), false)];
        while let Some((next, is_below_done)) = waiting.pop() {
            if is_below_done {
                gone.push(next);
            } else if let Some(node) = self.look(scope, &next)? {
                let below = node.children.iter().rev().map(|leaf| path::join(&next, leaf));
                let below: Vec<_> = below.map(|path| (path, false)).collect();
                waiting.push((next, true));
                waiting.extend(below);
            }
        }
        for next in &gone {
            let reach = if next == path { Reach::Above } else { Reach::Exact };
            self.tell(scope, next, reach, None);
        }
        for next in &gone {
            self.change(scope, next, None)?;
        }
        self.change(scope, top, Some(above))
    }

    /// Tells of a change, now or when the transaction is kept.
    pub(crate) fn tell(&mut self, scope: Scope, path: &str, reach: Reach, old: Option<&Perms>) {
        if scope.transaction == 0 {
            let mut readers = self.readers(path);
            readers.extend(old.cloned());
            self.fire(path, reach, &readers);
        } else if let Ok(state) = self.state(scope.client)
            && let Some(transaction) = state.transactions.get_mut(&scope.transaction)
        {
            transaction.tell(path, reach);
        }
    }

    /// The permissions that decide who may hear of a node: its own, and those of the one above.
    pub(crate) fn readers(&self, path: &str) -> Vec<Perms> {
        let nodes = [path, path::parent(path)].map(|path| self.tree.get(path));
        nodes.into_iter().flatten().map(|node| node.perms.clone()).collect()
    }

    /// Tells all watches of a change that may hear of it.
    pub(crate) fn fire(&mut self, path: &str, reach: Reach, readers: &[Perms]) {
        for state in self.clients.values_mut() {
            let target = self.domains.get(&state.domid).and_then(|domain| domain.target);
            let who = Identity { domid: state.domid, target };
            if readers.iter().any(|perms| perms.allow(who).read) {
                let limit = self.quotas.event_limit(who);
                state.tell(path, reach, limit);
            }
        }
    }

    /// Adds a watch, which has yet to be told for the first time, and says where it is.
    pub(crate) fn add_watch(
        &mut self,
        client: Client,
        path: &str,
        token: &[u8],
    ) -> Result<usize, Error> {
        let who = self.identity(client)?;
        let is_special = path.starts_with('@');
        let absolute = if !is_special {
            self.path(client.into(), path)?
        } else if path.len() <= RELATIVE_PATH_MAX as usize {
            path.to_string()
        } else {
            return Err(Error::Einval);
        };
        let is_relative = !is_special && !path.starts_with('/');
        let hidden = if is_relative { path::home(who.domid).len() } else { 0 };
        let quotas = self.quotas;
        let state = self.state(client)?;
        let is_same = |one: &Watch| one.path == absolute && one.token == token;
        if state.watches.iter().any(is_same) {
            return Err(Error::Eexist);
        }
        let watch = Watch { path: absolute, token: token.to_owned(), hidden, has_missed: false };
        if !who.is_privileged() {
            if state.watches.len() > quotas.watches {
                return Err(Error::E2big);
            }
            if self.is_full(client, watch.cost()) {
                return Err(Error::Enomem);
            }
        }
        let state = self.state(client)?;
        state.watches.push(watch);
        Ok(state.watches.len() - 1)
    }

    fn event_limit(&self, client: Client) -> usize {
        self.identity(client).map_or(0, |who| self.quotas.event_limit(who))
    }

    pub(crate) fn tell_watch(&mut self, client: Client, place: usize) {
        let limit = self.event_limit(client);
        if let Ok(state) = self.state(client) {
            state.tell_watch(place, limit);
        }
    }

    /// Takes the next message for a client.
    pub(crate) fn pop(&mut self, client: Client) -> Option<Item> {
        let limit = self.event_limit(client);
        self.clients.get_mut(&client)?.pop(limit)
    }
}

/// A list of children with the one that a path names.
fn leaves(path: &str) -> Vec<Arc<str>> {
    alloc::vec![path::leaf(path).into()]
}
