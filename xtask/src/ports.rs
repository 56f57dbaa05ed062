//! Ports of the host.

use std::fmt::Display;
use std::net::TcpListener;

use anyhow::{Context, Result};

/// Takes a port: the one that is wanted if it is free, and else any, as for 0.
///
/// # Errors
///
/// When there is none.
pub(crate) fn take(wanted: u16) -> Result<TcpListener> {
    TcpListener::bind(("127.0.0.1", wanted))
        .or_else(|_| TcpListener::bind(("127.0.0.1", 0)))
        .context("the host has no free port")
}

/// Ports that lead to domains on QEMU's user network. All are taken until the last is chosen, so that
/// they differ.
#[derive(Default)]
pub(crate) struct Forwards {
    words: String,
    taken: Vec<TcpListener>,
}

impl Forwards {
    /// Adds one: which is wanted, and the address and port where it leads. The one that it is.
    ///
    /// # Errors
    ///
    /// As of [`take`].
    pub(crate) fn add(&mut self, wanted: u16, address: impl Display, port: u16) -> Result<u16> {
        let free = take(wanted)?;
        let here = free.local_addr()?.port();
        self.words += &format!(",hostfwd=tcp:127.0.0.1:{here}-{address}:{port}");
        self.taken.push(free);
        Ok(here)
    }

    /// What QEMU is told of them; they are free again.
    pub(crate) fn words(self) -> String {
        self.words
    }
}
