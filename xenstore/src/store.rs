//! The store: what clients ask of it, as calls.
//!
//! Every call decides first and changes then: one that fails changes nothing, except that a
//! transaction which runs out of quota can no longer be kept.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::client::{Client, Item, Scope, State};
use crate::domains::{Domain, Notice};
use crate::error::Error;
use crate::path;
use crate::perms::{Access, PRIVILEGED, Perms};
use crate::quota::Quotas;
use crate::transaction::Transaction;
use crate::tree::{Node, Tree};
use crate::watch::{Event, Reach};

/// The tree with all who use it.
///
/// Paths begin at the root, or, without a slash in front, at the client's own place
/// ([`crate::home`]). What is not valid as a path is [`Error::Einval`] everywhere.
#[derive(Debug)]
pub struct Store {
    pub(crate) tree: Tree,
    pub(crate) clients: BTreeMap<Client, State>,
    last_client: u64,
    pub(crate) domains: BTreeMap<u16, Domain>,
    /// Who hears of domains that come and of domains that go.
    pub(crate) special: [Perms; 2],
    pub(crate) quotas: Quotas,
    pub(crate) notices: Vec<Notice>,
}

impl Store {
    /// A store with nothing in it but the root, which belongs to the privileged domain.
    #[must_use]
    pub fn new(quotas: Quotas) -> Self {
        let nobody = Perms::new(PRIVILEGED, Access::NONE);
        Self {
            tree: Tree::new(),
            clients: BTreeMap::new(),
            last_client: 0,
            domains: BTreeMap::from([(PRIVILEGED, Domain::default())]),
            special: [nobody.clone(), nobody],
            quotas,
            notices: Vec::new(),
        }
    }

    /// A new client of the privileged domain, within this program.
    pub fn local(&mut self) -> Client {
        self.connect(PRIVILEGED)
    }

    /// A new client of a domain.
    pub fn connect(&mut self, domid: u16) -> Client {
        self.last_client += 1;
        let client = Client(self.last_client);
        self.clients.insert(client, State::new(domid));
        client
    }

    /// Forgets a client with its watches and transactions.
    pub fn disconnect(&mut self, client: Client) {
        self.clients.remove(&client);
    }

    /// The value of a node.
    ///
    /// # Errors
    ///
    /// [`Error::Enoent`]: there is none; [`Error::Eacces`]: the client may not read it, or may not
    /// know whether there is one; [`Error::Enospc`], [`Error::Enomem`]: the transaction is too large.
    pub fn read(&mut self, by: impl Into<Scope>, path: &str) -> Result<Vec<u8>, Error> {
        Ok(self.readable(by.into(), path)?.value.clone())
    }

    /// The names of the nodes below a node, in the order in which they came.
    ///
    /// # Errors
    ///
    /// As for [`Store::read`].
    pub fn directory(&mut self, by: impl Into<Scope>, path: &str) -> Result<Vec<String>, Error> {
        let node = self.readable(by.into(), path)?;
        Ok(node.children.iter().map(|leaf| (**leaf).into()).collect())
    }

    /// The permissions of a node, or of `@introduceDomain` or `@releaseDomain`.
    ///
    /// # Errors
    ///
    /// As for [`Store::read`].
    pub fn perms(&mut self, by: impl Into<Scope>, path: &str) -> Result<Perms, Error> {
        let scope = by.into();
        if path.starts_with('@') {
            let who = self.identity(scope.client)?;
            let perms = self.special(path).ok_or(Error::Einval)?;
            return if perms.allow(who).read { Ok(perms.clone()) } else { Err(Error::Eacces) };
        }
        Ok(self.readable(scope, path)?.perms.clone())
    }

    pub(crate) fn readable(&mut self, scope: Scope, path: &str) -> Result<Arc<Node>, Error> {
        let path = self.path(scope, path)?;
        self.node(scope, &path, Access::READ)
    }

    /// Sets the value of a node, which it makes if there is none, with those above it. A new node has
    /// the permissions of the one above, but belongs to the client unless he is privileged.
    ///
    /// # Errors
    ///
    /// [`Error::Eacces`]: the client may not write the node, or the nearest node above it if it is
    /// new; [`Error::Enospc`]: too many nodes, or one is too large, or the transaction is;
    /// [`Error::Enomem`]: all that the client has is too large.
    pub fn write(&mut self, by: impl Into<Scope>, path: &str, value: &[u8]) -> Result<(), Error> {
        let scope = by.into();
        let path = self.path(scope, path)?;
        match self.node(scope, &path, Access::WRITE) {
            Ok(node) => {
                let new = Node { value: value.to_owned(), ..(*node).clone() };
                self.fits_for(scope, &node, &new)?;
                self.change(scope, &path, Some(new))?;
            }
            Err(Error::Enoent) => self.create(scope, &path, value)?,
            Err(error) => return Err(error),
        }
        self.tell(scope, &path, Reach::Above, None);
        Ok(())
    }

    /// Makes a node without a value, and those above it. If there is one, it stays as it is.
    ///
    /// # Errors
    ///
    /// As for [`Store::write`].
    pub fn mkdir(&mut self, by: impl Into<Scope>, path: &str) -> Result<(), Error> {
        let scope = by.into();
        let path = self.path(scope, path)?;
        match self.node(scope, &path, Access::WRITE) {
            Ok(_) => return Ok(()),
            Err(Error::Enoent) => self.create(scope, &path, &[])?,
            Err(error) => return Err(error),
        }
        self.tell(scope, &path, Reach::Above, None);
        Ok(())
    }

    /// Removes a node and all below it. It is no error if there is none below a node that is there.
    ///
    /// # Errors
    ///
    /// [`Error::Enoent`]: there is not even the node above; [`Error::Eacces`]: the client may not
    /// write the node, or the nearest node above; [`Error::Einval`]: the root; [`Error::Enospc`],
    /// [`Error::Enomem`]: the transaction is too large.
    pub fn rm(&mut self, by: impl Into<Scope>, path: &str) -> Result<(), Error> {
        let scope = by.into();
        let path = self.path(scope, path)?;
        match self.node(scope, &path, Access::WRITE) {
            Ok(_) if path == "/" => Err(Error::Einval),
            Ok(_) => self.remove(scope, &path),
            Err(Error::Enoent) => {
                self.look(scope, path::parent(&path))?.map(|_| ()).ok_or(Error::Enoent)
            }
            Err(error) => Err(error),
        }
    }

    /// Sets the permissions of a node, or of `@introduceDomain` or `@releaseDomain`.
    ///
    /// # Errors
    ///
    /// [`Error::Enoent`]: there is none; [`Error::Eacces`]: the client is not its owner;
    /// [`Error::Eperm`]: only the privileged may change the owner; [`Error::Enospc`]: too many rows,
    /// or the node is too large, or the transaction is; [`Error::Enomem`]: all that the client has is
    /// too large.
    pub fn set_perms(
        &mut self,
        by: impl Into<Scope>,
        path: &str,
        perms: &Perms,
    ) -> Result<(), Error> {
        let scope = by.into();
        let who = self.identity(scope.client)?;
        if !who.is_privileged() && perms.rows().len() > self.quotas.perms {
            return Err(Error::Enospc);
        }
        if path.starts_with('@') {
            let special = self.special(path).ok_or(Error::Einval)?;
            if !special.is_owner(who) {
                return Err(Error::Eacces);
            }
            self.special[usize::from(path != INTRODUCE)] = perms.clone();
            return Ok(());
        }
        let path = self.path(scope, path)?;
        let node = self.node(scope, &path, Access::WRITE)?;
        if !node.perms.is_owner(who) {
            return Err(Error::Eacces);
        }
        if !who.is_privileged() && perms.owner() != node.perms.owner() {
            return Err(Error::Eperm);
        }
        let new = Node { perms: perms.clone(), ..(*node).clone() };
        self.fits_for(scope, &node, &new)?;
        self.change(scope, &path, Some(new))?;
        self.tell(scope, &path, Reach::Above, Some(&node.perms));
        Ok(())
    }

    /// Starts a transaction: what the client then does within the scope happens when it is kept, all
    /// at once, or not at all.
    ///
    /// # Errors
    ///
    /// [`Error::Enospc`]: too many are open.
    pub fn start(&mut self, client: Client) -> Result<Scope, Error> {
        let is_limited = !self.identity(client)?.is_privileged();
        let limit = self.quotas.transactions;
        let state = self.state(client)?;
        if is_limited && state.transactions.len() > limit {
            return Err(Error::Enospc);
        }
        loop {
            state.last_transaction = state.last_transaction.wrapping_add(1);
            let number = state.last_transaction;
            if number != 0 && !state.transactions.contains_key(&number) {
                state.transactions.insert(number, Transaction::default());
                return Ok(client.within(number));
            }
        }
    }

    /// Does all of something or nothing, for a client within this program. Nobody comes between, so
    /// that it does not conflict.
    ///
    /// # Errors
    ///
    /// What the function fails with, and then nothing has happened; and as for [`Store::start`].
    pub fn transact<T>(
        &mut self,
        client: Client,
        change: impl FnOnce(&mut Self, Scope) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let scope = self.start(client)?;
        match change(self, scope) {
            Ok(value) => self.commit(scope).map(|()| value),
            Err(error) => {
                self.abort(scope)?;
                Err(error)
            }
        }
    }

    /// Forgets a transaction.
    ///
    /// # Errors
    ///
    /// [`Error::Enoent`]: there is none.
    pub fn abort(&mut self, scope: Scope) -> Result<(), Error> {
        self.end(scope).map(|_| ())
    }

    fn end(&mut self, scope: Scope) -> Result<Transaction, Error> {
        self.state(scope.client)?.transactions.remove(&scope.transaction).ok_or(Error::Enoent)
    }

    /// Keeps a transaction: everything in it happens now. Also after an error it is over.
    ///
    /// # Errors
    ///
    /// [`Error::Eagain`]: something that it looked at has been changed meanwhile: start again;
    /// [`Error::Enoent`]: there is none; [`Error::Enospc`], [`Error::Enomem`]: it was too large.
    pub fn commit(&mut self, scope: Scope) -> Result<(), Error> {
        let who = self.identity(scope.client)?;
        let transaction = self.end(scope)?;
        if let Some(doom) = transaction.doom {
            return Err(doom);
        }
        let more = transaction.owned(who.domid);
        let nodes = i64::from(self.tree.owned(who.domid).nodes) + more;
        if !who.is_privileged() && more > 0 && nodes > i64::from(self.quotas.nodes) {
            return Err(Error::Enospc);
        }
        if !transaction.holds(&self.tree) {
            return Err(Error::Eagain);
        }
        // Who could read a node before, or can now, may hear that it has changed.
        let mut told = Vec::new();
        let entries = transaction.into_entries();
        for entry in &entries {
            if let Some(reach) = entry.event {
                told.push((entry.path.clone(), reach, self.readers(&entry.path)));
            }
        }
        for entry in entries.into_iter().filter(|entry| entry.is_changed) {
            match entry.node {
                Some(node) => self.tree.put(&entry.path, Arc::unwrap_or_clone(node)),
                None => self.tree.take(&entry.path),
            }
        }
        for (path, reach, mut readers) in told {
            readers.extend(self.readers(&path));
            self.fire(&path, reach, &readers);
        }
        Ok(())
    }

    /// Has the client told of each change of a node and of what is below it, or with
    /// `@introduceDomain` or `@releaseDomain` of domains. It is told once straight away.
    ///
    /// # Errors
    ///
    /// [`Error::Eexist`]: there is such a watch; [`Error::E2big`]: too many watches;
    /// [`Error::Enomem`]: they hold too much.
    pub fn watch(&mut self, client: Client, path: &str, token: &[u8]) -> Result<(), Error> {
        let place = self.add_watch(client, path, token)?;
        self.tell_watch(client, place);
        Ok(())
    }

    /// Ends a watch. Events that wait already stay.
    ///
    /// # Errors
    ///
    /// [`Error::Enoent`]: there is none.
    pub fn unwatch(&mut self, client: Client, path: &str, token: &[u8]) -> Result<(), Error> {
        let state = self.state(client)?;
        let path = path::absolute(state.domid, path);
        let mut watches = state.watches.iter();
        let place = watches.position(|watch| watch.path == path && watch.token == token);
        state.watches.remove(place.ok_or(Error::Enoent)?);
        Ok(())
    }

    /// Ends all watches and transactions of a client.
    pub fn reset(&mut self, client: Client) {
        if let Some(state) = self.clients.get_mut(&client) {
            state.reset();
        }
    }

    /// Takes the events that wait for a client within this program. One event stands for all
    /// changes of its node since it was queued; each domain that comes or goes has one of its own.
    pub fn take_events(&mut self, client: Client) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(item) = self.pop(client) {
            if let Item::Event(event) = item {
                events.push(event);
            }
        }
        events
    }

    /// Whether something waits for a client.
    #[must_use]
    pub fn has_output(&self, client: Client) -> bool {
        self.clients.get(&client).is_some_and(State::has_output)
    }
}

/// How much of everything there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Nodes, with the root.
    pub nodes: usize,
    /// Clients: connections of domains, and those within this program.
    pub clients: usize,
    /// Watches of all of them.
    pub watches: usize,
    /// Their open transactions.
    pub transactions: usize,
    /// Domains that were introduced, with the privileged one.
    pub domains: usize,
}

impl Store {
    /// Counts what there is.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let states = || self.clients.values();
        Counts {
            nodes: self.tree.count(),
            clients: self.clients.len(),
            watches: states().map(|state| state.watches.len()).sum(),
            transactions: states().map(|state| state.transactions.len()).sum(),
            domains: self.domains.len(),
        }
    }
}

/// The events that are no node's.
pub(crate) const INTRODUCE: &str = "@introduceDomain";
pub(crate) const RELEASE: &str = "@releaseDomain";
