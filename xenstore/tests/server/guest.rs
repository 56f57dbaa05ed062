//! A domain at the other end of a connection, for the tests.
use std::cell::Cell;

use hypercall_abi::xenstore::{self as wire, Header};
use xenstore::{Client, Connection, Fault, Quotas, Store};
use zerocopy::{FromBytes, IntoBytes};

/// A store with a task of the privileged domain.
pub(crate) fn store() -> (Store, Client) {
    store_with(Quotas::default())
}

/// The same with other limits.
pub(crate) fn store_with(quotas: Quotas) -> (Store, Client) {
    let mut store = Store::new(quotas);
    let me = store.local();
    (store, me)
}

/// What a toolstack makes for a domain, as far as the tests need it.
pub(crate) fn home(store: &mut Store, me: Client, domid: u16) {
    use xenstore::{Access, Perms};
    let home = xenstore::home(domid);
    let theirs = Perms::new(0, Access::NONE).with(domid, Access::READ);
    let own = Perms::new(domid, Access::NONE);
    store.mkdir(me, &home).unwrap();
    store.set_perms(me, &home, &theirs).unwrap();
    store.write(me, &format!("{home}/name"), b"guest").unwrap();
    store.mkdir(me, &format!("{home}/data")).unwrap();
    store.set_perms(me, &format!("{home}/data"), &own).unwrap();
    store.introduce(me, domid, 0x1000, 1).unwrap();
}

/// A message as it travels.
pub(crate) fn message(kind: u32, req_id: u32, tx_id: u32, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap();
    let mut bytes = Header { kind, req_id, tx_id, len }.as_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

/// The messages of a stream, which has to be whole.
pub(crate) fn messages(mut bytes: &[u8]) -> Vec<(Header, Vec<u8>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (header, rest) = Header::read_from_prefix(bytes).unwrap();
        let (body, rest) = rest.split_at(header.len as usize);
        found.push((header, body.to_vec()));
        bytes = rest;
    }
    found
}

/// A domain.
pub(crate) struct Guest {
    pub(crate) connection: Connection,
    next: Cell<u32>,
    /// Events that came before an answer.
    pub(crate) events: Vec<String>,
}

impl Guest {
    pub(crate) fn new(store: &mut Store, domid: u16) -> Self {
        Self { connection: Connection::new(store, domid), next: Cell::new(1), events: Vec::new() }
    }

    /// All that waits for it.
    pub(crate) fn output(&mut self, store: &mut Store) -> Vec<(Header, Vec<u8>)> {
        let mut bytes = Vec::new();
        loop {
            let piece = self.connection.output(store).to_vec();
            if piece.is_empty() {
                return messages(&bytes);
            }
            bytes.extend_from_slice(&piece);
            self.connection.sent(piece.len());
        }
    }

    /// Asks, and returns the answer's body, or the error's name. Zero bytes are shown as `|`.
    pub(crate) fn ask(&mut self, store: &mut Store, kind: u32, tx: u32, body: &str) -> String {
        let answer = self.ask_bytes(store, kind, tx, body.replace('|', "\0").as_bytes());
        String::from_utf8_lossy(&answer.unwrap()).replace('\0', "|")
    }

    pub(crate) fn ask_bytes(
        &mut self,
        store: &mut Store,
        kind: u32,
        tx: u32,
        body: &[u8],
    ) -> Result<Vec<u8>, Fault> {
        let id = self.next.replace(self.next.get() + 1);
        let bytes = message(kind, id, tx, body);
        assert_eq!(self.connection.receive(&bytes), bytes.len());
        assert!(self.connection.handle(store)?);
        let mut answer = None;
        for (header, body) in self.output(store) {
            if header.kind == wire::WATCH_EVENT {
                assert_eq!((header.req_id, header.tx_id), (0, 0));
                self.events.push(String::from_utf8_lossy(&body).replace('\0', "|"));
            } else {
                assert_eq!((header.req_id, header.tx_id), (id, tx));
                assert!(header.kind == kind || header.kind == wire::ERROR);
                assert!(answer.replace(body).is_none(), "one answer");
            }
        }
        Ok(answer.unwrap())
    }

    /// The events since the last call.
    pub(crate) fn events(&mut self, store: &mut Store) -> Vec<String> {
        for (header, body) in self.output(store) {
            assert_eq!(header.kind, wire::WATCH_EVENT);
            self.events.push(String::from_utf8_lossy(&body).replace('\0', "|"));
        }
        std::mem::take(&mut self.events)
    }
}
