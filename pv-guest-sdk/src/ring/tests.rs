//! What a front end shares with a back end in the same process.

use core::sync::atomic::{AtomicU32, Ordering};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::vec::Vec;

use hypercall_abi::types::{DomId, GrantRef, Port};

use super::{Page, Sharing};
use crate::console::ring::Words;
use crate::error::HypercallError;
use crate::grant::GrantError;
use crate::paging::Access;
use crate::xenstore::tests::{Line, leak};

/// What a front end shares.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) pages: Mutex<BTreeMap<u32, &'static Words>>,
    /// How many there have been, of pages and of ports.
    count: AtomicU32,
    ports: AtomicU32,
    /// Of ports with even numbers, and of others.
    pub(crate) lines: [Line; 2],
}

pub(crate) struct Granted(GrantRef, &'static Words, &'static Shared);

impl Page for Granted {
    fn reference(&self) -> GrantRef {
        self.0
    }

    fn words(&self) -> &Words {
        self.1
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        self.2.pages.lock().unwrap().remove(&self.0.0);
    }
}

impl Shared {
    /// That of a port.
    pub(crate) fn line(&self, port: u32) -> &Line {
        &self.lines[port as usize % 2]
    }
}

impl Sharing for &'static Shared {
    type Page = Granted;
    type Strip = Vec<Granted>;
    type Signal = &'static Line;

    fn page(&self, to: DomId) -> Result<Granted, GrantError> {
        assert_eq!(to, DomId(3));
        let reference = 8 + self.count.fetch_add(1, Ordering::SeqCst);
        let words: &'static Words = leak([const { AtomicU32::new(0) }; 1024]);
        self.pages.lock().unwrap().insert(reference, words);
        Ok(Granted(GrantRef(reference), words, self))
    }

    fn strip(&self, to: DomId, pages: usize, _: Access) -> Result<Vec<Granted>, GrantError> {
        (0..pages).map(|_| self.page(to)).collect()
    }

    fn signal(&self, _to: DomId) -> Result<(Port, &'static Line), HypercallError> {
        let port = 4 + self.ports.fetch_add(1, Ordering::SeqCst);
        Ok((Port(port), self.line(port)))
    }
}
