//! Domains that come and go.

use alloc::vec::Vec;

use crate::client::{Client, Scope};
use crate::error::Error;
use crate::perms::PRIVILEGED;
use crate::store::{INTRODUCE, RELEASE, Store};
use crate::tree::Node;
use crate::watch::Reach;

/// What the store knows of a domain that has been introduced.
#[derive(Debug, Default)]
pub(crate) struct Domain {
    /// The domain for which it acts.
    pub(crate) target: Option<u16>,
    /// That it is known to have shut down, and its end has been told.
    is_down: bool,
}

/// What a client has asked for that only the program around the store can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Serve a domain's ring. If it is served already, its event channel is a new one, and the
    /// ring starts again ([`crate::ring::Server::restart`]).
    Introduced {
        /// The domain.
        domid: u16,
        /// The frame of the ring, as the client gave it.
        frame: u64,
        /// The domain's end of the event channel.
        port: u32,
    },
    /// Serve it no longer.
    Released(u16),
}

impl Store {
    /// What clients have asked for since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        core::mem::take(&mut self.notices)
    }

    /// Makes a domain known, and tells those who watch `@introduceDomain`. One that is known starts
    /// again, without watches and transactions.
    ///
    /// # Errors
    ///
    /// [`Error::Eacces`]: the client is not privileged; [`Error::Einval`]: no port.
    pub fn introduce(
        &mut self,
        by: Client,
        domid: u16,
        frame: u64,
        port: u32,
    ) -> Result<(), Error> {
        self.require_privilege(by)?;
        if port == 0 {
            return Err(Error::Einval);
        }
        let is_new = !self.domains.contains_key(&domid);
        self.domains.entry(domid).or_default();
        if is_new {
            let readers = [self.special[0].clone()];
            self.fire(INTRODUCE, Reach::Above, &readers);
        } else if domid != PRIVILEGED {
            for state in self.clients.values_mut().filter(|state| state.domid == domid) {
                state.reset();
                state.forget_output();
            }
        }
        self.notices.push(Notice::Introduced { domid, frame, port });
        Ok(())
    }

    /// Makes a domain unknown, as if it were gone.
    ///
    /// # Errors
    ///
    /// [`Error::Eacces`]: the client is not privileged; [`Error::Einval`]: the privileged domain;
    /// [`Error::Enoent`]: it is not known.
    pub fn release(&mut self, by: Client, domid: u16) -> Result<(), Error> {
        self.require_privilege(by)?;
        self.known(domid)?;
        self.notices.push(Notice::Released(domid));
        self.gone(domid);
        Ok(())
    }

    /// Forgets a domain that is no more: its clients, watches, transactions and permissions. What it
    /// owned is removed with all below. Those who watch `@releaseDomain` are told if it was known.
    pub fn gone(&mut self, domid: u16) {
        if domid == PRIVILEGED {
            return;
        }
        self.clients.retain(|_, state| state.domid != domid);
        for domain in self.domains.values_mut().filter(|domain| domain.target == Some(domid)) {
            domain.target = None;
        }
        // A node within a transaction may give something to the domain. Were it kept, a later domain
        // of the same number would have that.
        for state in self.clients.values_mut() {
            for transaction in state.transactions.values_mut() {
                if transaction.mentions(domid) {
                    transaction.doom = Some(Error::Eagain);
                }
            }
        }
        self.remove_owned(domid);
        self.special = self.special.each_ref().map(|perms| perms.without(domid));
        if self.domains.remove(&domid).is_some() {
            self.tell_release();
        }
    }

    /// The privileged client of no number does this: nothing is refused to it.
    fn remove_owned(&mut self, domid: u16) {
        let janitor = self.local();
        let mentions = |node: &Node| node.perms.mentions(domid);
        let paths: Vec<_> = self
            .tree
            .iter()
            .filter(|(_, node)| mentions(node))
            .map(|(path, _)| path.clone())
            .collect();
        for path in paths {
            // What was below one that has been removed is not there any more.
            let Some(node) = self.tree.get(&path).cloned() else { continue };
            if path == "/" || node.perms.owner() != domid {
                let mut perms = node.perms.without(domid);
                if perms.owner() == domid {
                    perms.own(PRIVILEGED);
                }
                self.tree.put(&path, Node { perms, ..(*node).clone() });
            } else {
                // Without a transaction, what a privileged client removes is removed.
                let _ = self.remove(Scope::from(janitor), &path);
            }
        }
        self.disconnect(janitor);
    }

    /// Says that a domain has shut down, crashed or is going: those who watch `@releaseDomain` are
    /// told, once.
    pub fn shut_down(&mut self, domid: u16) {
        if let Some(domain) = self.domains.get_mut(&domid)
            && !core::mem::replace(&mut domain.is_down, true)
        {
            self.tell_release();
        }
    }

    fn tell_release(&mut self) {
        let readers = [self.special[1].clone()];
        self.fire(RELEASE, Reach::Above, &readers);
    }

    /// Says that a domain goes on after it had shut down: its next end is told again.
    ///
    /// # Errors
    ///
    /// As for [`Store::release`].
    pub fn resume(&mut self, by: Client, domid: u16) -> Result<(), Error> {
        self.require_privilege(by)?;
        self.known(domid)?.is_down = false;
        Ok(())
    }

    /// Lets a domain act for another.
    ///
    /// # Errors
    ///
    /// [`Error::Eacces`]: the client is not privileged; [`Error::Enoent`]: one is not known.
    pub fn set_target(&mut self, by: Client, domid: u16, target: u16) -> Result<(), Error> {
        self.require_privilege(by)?;
        if !self.domains.contains_key(&target) {
            return Err(Error::Enoent);
        }
        self.domains.get_mut(&domid).ok_or(Error::Enoent)?.target = Some(target);
        Ok(())
    }

    /// Whether a domain has been introduced and not been released.
    #[must_use]
    pub fn is_introduced(&self, domid: u16) -> bool {
        self.domains.contains_key(&domid)
    }

    fn known(&mut self, domid: u16) -> Result<&mut Domain, Error> {
        if domid == PRIVILEGED {
            return Err(Error::Einval);
        }
        self.domains.get_mut(&domid).ok_or(Error::Enoent)
    }

    pub(crate) fn require_privilege(&self, by: Client) -> Result<(), Error> {
        if self.identity(by)?.is_privileged() { Ok(()) } else { Err(Error::Eacces) }
    }
}
