//! Ports of the host.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::iter;
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};

/// How often the host is asked for a port that was not taken before.
const TRIES: usize = 1000;

/// Takes a port: the one that is wanted if it is free, and else any, as for 0. None is taken twice: what
/// is free again may be about to be used.
///
/// # Errors
///
/// When there is none.
pub(crate) fn take(wanted: u16) -> Result<TcpListener> {
    static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut tried = Vec::new();
    for port in iter::once(wanted).chain(iter::repeat_n(0, TRIES)) {
        let Ok(free) = TcpListener::bind(("127.0.0.1", port)) else { continue };
        if taken.insert(free.local_addr()?.port()) {
            return Ok(free);
        }
        // Kept for now, so that the next is another one.
        tried.push(free);
    }
    bail!("the host has no free port")
}

/// Ports that lead to domains on QEMU's user network.
#[derive(Default)]
pub(crate) struct Forwards {
    words: String,
}

impl Forwards {
    /// Adds one: which is wanted, and the address and port where it leads. The one that it is.
    ///
    /// # Errors
    ///
    /// As of [`take`].
    pub(crate) fn add(&mut self, wanted: u16, address: impl Display, port: u16) -> Result<u16> {
        let here = take(wanted)?.local_addr()?.port();
        self.words += &format!(",hostfwd=tcp:127.0.0.1:{here}-{address}:{port}");
        Ok(here)
    }

    /// What QEMU is told of them.
    pub(crate) fn words(self) -> String {
        self.words
    }
}

#[cfg(test)]
mod tests {
    use super::take;

    #[test]
    fn a_port_that_is_free_again_is_not_taken_again() {
        let port = |wanted| take(wanted).unwrap().local_addr().unwrap().port();
        let first = port(0);
        assert_ne!(port(first), first);
    }
}
