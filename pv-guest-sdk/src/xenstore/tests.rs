//! The client against a server in the same process, which keeps to the protocol or does not.
#![expect(
    clippy::cast_possible_truncation,
    reason = "the numbers of tests are small, or may be any"
)]

use core::cell::RefCell;
use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use core::task::{Context, Poll, Waker};
use std::boxed::Box;
use std::collections::{BTreeMap, VecDeque};
use std::format;
use std::string::{String, ToString};
use std::sync::{Arc, Mutex};
use std::task::Wake;
use std::vec::Vec;

use hypercall_abi::errno::Errno;
use hypercall_abi::types::DomId;
use hypercall_abi::xenstore::{self as abi, Header};
use zerocopy::{FromBytes, IntoBytes};

use super::{Cause, Client, Fault, Permission, Rights, Store, StoreError};
use crate::console::ring::{Bytes, Words};
use crate::event::Signal;

/// A port of which both ends are here.
#[derive(Default)]
pub(crate) struct Line {
    pub(crate) notified: AtomicUsize,
    wakers: Mutex<Vec<Waker>>,
}

impl Signal for &'static Line {
    fn notify(&self) {
        self.notified.fetch_add(1, Ordering::SeqCst);
    }

    fn listen(&self, waker: &Waker) {
        self.wakers.lock().unwrap().push(waker.clone());
    }

    fn wake(&self) {
        let wakers = core::mem::take(&mut *self.wakers.lock().unwrap());
        wakers.into_iter().for_each(Waker::wake);
    }
}

pub(crate) fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Runs a future, and the world around it whenever it waits. None if it waits and nothing will ever
/// happen.
pub(crate) fn drive<F: Future>(future: F, mut world: impl FnMut() -> bool) -> Option<F::Output> {
    let flag = Arc::new(Flag(AtomicBool::new(true)));
    let (mut future, waker) = (pin!(future), Waker::from(flag.clone()));
    loop {
        if flag.0.swap(false, Ordering::SeqCst) {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Some(output);
            }
        } else if !world() {
            return None;
        }
    }
}

/// Completes when all do.
pub(crate) async fn join<T: Unpin>(futures: Vec<Pin<Box<dyn Future<Output = T> + '_>>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.into_iter().map(|future| (future, None)).collect();
    poll_fn(|context| {
        for (future, output) in &mut futures {
            if output.is_none()
                && let Poll::Ready(value) = future.as_mut().poll(context)
            {
                *output = Some(value);
            }
        }
        let done = futures.iter().all(|(_, output)| output.is_some());
        if !done {
            return Poll::Pending;
        }
        Poll::Ready(futures.iter_mut().filter_map(|(_, output)| output.take()).collect())
    })
    .await
}

type Tree = BTreeMap<String, Vec<u8>>;

/// A store's server, of one client.
pub(crate) struct Server {
    bytes: &'static Bytes,
    words: &'static Words,
    line: &'static Line,
    taken: u32,
    put: u32,
    input: Vec<u8>,
    output: VecDeque<u8>,
    pub(crate) tree: Tree,
    watches: Vec<(String, String)>,
    transactions: BTreeMap<u32, Tree>,
    /// How many commits to refuse.
    conflicts: usize,
    /// Answers the last request of a step first.
    reversed: bool,
    /// Kind and body of every request.
    log: Vec<(u32, String)>,
}

impl Server {
    /// A server, and a client whose ring begins at an index.
    pub(crate) fn new(index: u32) -> (Self, Store<'static>) {
        let bytes: &'static Bytes = leak([const { AtomicU8::new(0) }; 4096]);
        let words: &'static Words = leak([const { AtomicU32::new(0) }; 1024]);
        (512..516).for_each(|word| words[word].store(index, Ordering::SeqCst));
        let line: &'static Line = leak(Line::default());
        let client = leak(Client::new());
        let store = client.connect((bytes, words), leak(line));
        let server = Self {
            bytes,
            words,
            line,
            taken: index,
            put: index,
            input: Vec::new(),
            output: VecDeque::new(),
            tree: Tree::new(),
            watches: Vec::new(),
            transactions: BTreeMap::new(),
            conflicts: 0,
            reversed: false,
            log: Vec::new(),
        };
        (server, store)
    }

    /// Takes a piece of what was asked and puts a piece of what is to say; whether there was any.
    pub(crate) fn step(&mut self) -> bool {
        if self.words[517].load(Ordering::SeqCst) != 0 {
            // Asked to start again.
            for word in [512, 513, 514, 515, 517] {
                self.words[word].store(0, Ordering::SeqCst);
            }
            (self.taken, self.put) = (0, 0);
            self.input.clear();
            self.output.clear();
            self.watches.clear();
            self.line.wake();
            return true;
        }
        let asked = self.words[513].load(Ordering::SeqCst).wrapping_sub(self.taken).min(333);
        for _ in 0..asked {
            self.input.push(self.bytes[self.taken as usize % 1024].load(Ordering::SeqCst));
            self.taken = self.taken.wrapping_add(1);
        }
        self.words[512].store(self.taken, Ordering::SeqCst);
        if asked > 0 {
            self.line.wake();
        }
        let mut answers = Vec::new();
        while let Ok((header, rest)) = Header::read_from_prefix(&self.input)
            && rest.len() >= header.len as usize
        {
            let body = rest[..header.len as usize].to_vec();
            self.input.drain(..16 + body.len());
            self.log.push((header.kind, String::from_utf8_lossy(&body).replace('\0', "|")));
            answers.push((header, self.answer(header, &body)));
        }
        if self.reversed {
            answers.reverse();
        }
        for (header, answer) in answers {
            let (kind, body) =
                answer.unwrap_or_else(|error| (abi::ERROR, format!("{error}\0").into_bytes()));
            self.say(Header { kind, ..header }, &body);
            if header.kind == abi::WATCH && kind == abi::WATCH {
                let (path, token) = self.watches.last().cloned().unwrap();
                self.fire(&path, &path, &token);
            }
        }
        self.flush() || asked > 0
    }

    fn say(&mut self, header: Header, body: &[u8]) {
        let len = u32::try_from(body.len()).unwrap();
        self.output.extend(Header { len, ..header }.as_bytes());
        self.output.extend(body);
    }

    fn fire(&mut self, path: &str, watched: &str, token: &str) {
        if path.starts_with(watched) {
            let header = Header { kind: abi::WATCH_EVENT, ..Header::default() };
            self.say(header, format!("{path}\0{token}\0").as_bytes());
        }
    }

    /// Puts a piece of what is to say in the ring; whether there was any.
    fn flush(&mut self) -> bool {
        let waiting = self.put.wrapping_sub(self.words[514].load(Ordering::SeqCst));
        let piece = self.output.len().min(1024_usize.saturating_sub(waiting as usize)).min(333);
        for byte in self.output.drain(..piece) {
            self.bytes[1024 + self.put as usize % 1024].store(byte, Ordering::SeqCst);
            self.put = self.put.wrapping_add(1);
        }
        self.words[515].store(self.put, Ordering::SeqCst);
        if piece > 0 {
            self.line.wake();
        }
        piece > 0
    }

    /// Sets a node, and tells who watches.
    pub(crate) fn set(&mut self, path: &str, value: &str) {
        self.tree.insert(path.to_string(), value.as_bytes().to_vec());
        self.changed(path);
    }

    fn changed(&mut self, path: &str) {
        for (watched, token) in self.watches.clone() {
            self.fire(path, &watched, &token);
        }
    }

    fn answer(&mut self, header: Header, body: &[u8]) -> Result<(u32, Vec<u8>), &'static str> {
        let mut parts = body.splitn(2, |&byte| byte == 0);
        let path = String::from_utf8(parts.next().unwrap().to_vec()).unwrap();
        let rest = parts.next().unwrap_or_default().to_vec();
        let answer = match header.kind {
            abi::WATCH | abi::UNWATCH | abi::RESET_WATCHES => {
                self.watching(header.kind, path, &rest);
                None
            }
            abi::TRANSACTION_START => {
                let id = u32::try_from(self.transactions.len()).unwrap() + 7;
                self.transactions.insert(id, self.tree.clone());
                Some(format!("{id}\0").into_bytes())
            }
            abi::TRANSACTION_END => {
                self.end(header.tx_id, body == b"T\0")?;
                None
            }
            _ => self.node(header, path, rest)?,
        };
        Ok((header.kind, answer.unwrap_or(b"OK\0".to_vec())))
    }

    fn watching(&mut self, kind: u32, path: String, token: &[u8]) {
        let token = String::from_utf8_lossy(token).trim_end_matches('\0').to_string();
        match kind {
            abi::WATCH => self.watches.push((path, token)),
            abi::UNWATCH => self.watches.retain(|watch| *watch != (path.clone(), token.clone())),
            _ => self.watches.clear(),
        }
    }

    fn end(&mut self, transaction: u32, keep: bool) -> Result<(), &'static str> {
        let done = self.transactions.remove(&transaction).ok_or("ENOENT")?;
        if keep && self.conflicts > 0 {
            self.conflicts -= 1;
            return Err("EAGAIN");
        }
        if keep {
            let before = core::mem::replace(&mut self.tree, done.clone());
            let new = done.iter().filter(|(node, value)| before.get(*node) != Some(*value));
            new.for_each(|(node, _)| self.changed(node));
        }
        Ok(())
    }

    /// Reads or changes a node. None is `OK`.
    fn node(
        &mut self,
        header: Header,
        path: String,
        rest: Vec<u8>,
    ) -> Result<Option<Vec<u8>>, &'static str> {
        let changes = matches!(header.kind, abi::WRITE | abi::RM | abi::MKDIR);
        if changes && path.contains("secret") {
            return Err("EACCES");
        }
        if changes && header.tx_id == 0 {
            self.changed(&path);
        }
        let tree = match header.tx_id {
            0 => &mut self.tree,
            id => self.transactions.get_mut(&id).ok_or("ENOENT")?,
        };
        let below = format!("{path}/");
        match header.kind {
            abi::READ => return Ok(Some(tree.get(&path).ok_or("ENOENT")?.clone())),
            abi::GET_PERMS => {
                return Ok(Some(tree.get(&format!("{path}#")).ok_or("ENOENT")?.clone()));
            }
            abi::DIRECTORY => {
                let names =
                    tree.keys().filter_map(|node| node.strip_prefix(&below)?.split('/').next());
                let mut names: Vec<_> = names.map(|name| format!("{name}\0")).collect();
                names.dedup();
                let found = (!names.is_empty()).then(|| names.concat().into_bytes());
                return found.map(Some).ok_or("ENOENT");
            }
            abi::WRITE => drop(tree.insert(path, rest)),
            abi::SET_PERMS => drop(tree.insert(format!("{path}#"), rest)),
            abi::MKDIR => drop(tree.entry(path).or_default()),
            abi::RM => tree.retain(|node, _| *node != path && !node.starts_with(&below)),
            _ => return Err("ENOSYS"),
        }
        Ok(None)
    }
}

/// What a store's user sees of a server that keeps to the protocol.
pub(crate) fn run<T>(server: &mut Server, future: impl Future<Output = T>) -> T {
    drive(future, || server.step()).expect("it waits for nothing")
}

#[test]
fn nodes_are_written_read_listed_and_removed() {
    let (mut server, store) = Server::new(0);
    let mut buffer = [0; 64];
    run(&mut server, store.write("data/a", b"one")).unwrap();
    run(&mut server, store.write_number("data/b/c", 42)).unwrap();
    run(&mut server, store.mkdir("data/d")).unwrap();
    assert_eq!(run(&mut server, store.read("data/a", &mut buffer)).unwrap(), b"one");
    assert_eq!(run(&mut server, store.read_number("data/b/c")).unwrap(), 42);
    let names = run(&mut server, store.directory("data", &mut buffer)).unwrap();
    assert_eq!(names.collect::<Vec<_>>(), ["a", "b", "d"]);
    run(&mut server, store.rm("data/b")).unwrap();
    let error = run(&mut server, store.read_number("data/b/c")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "xenstore read data/b/c: ENOENT: The thing named does not exist."
    );
    assert_eq!((error.errno(), error.path()), (Some(Errno::ENOENT), "data/b/c"));
    let error = run(&mut server, store.write("secret/x", b"")).unwrap_err();
    assert_eq!((error.operation(), error.errno()), ("write", Some(Errno::EACCES)));
    let error = run(&mut server, store.read("data/a", &mut buffer[..2])).unwrap_err();
    assert_eq!(error.cause(), Cause::NoRoom(3));
    let cause = run(&mut server, store.read_number("data/a")).unwrap_err().cause();
    assert_eq!(cause, Cause::Form);
    let asked = server.log.len();
    let cause = |result: Result<(), StoreError>| result.unwrap_err().cause();
    assert_eq!(cause(run(&mut server, store.write("a\0b", b""))), Cause::Path);
    assert_eq!(cause(run(&mut server, store.write("a", &[0; 4095]))), Cause::TooLong);
    assert_eq!(server.log.len(), asked);
    let cause = run(&mut server, store.domain_path(DomId(1), &mut buffer)).unwrap_err().cause();
    assert_eq!(cause, Cause::Refused(Errno::ENOSYS));
}

#[test]
fn permissions_are_a_list() {
    let (mut server, store) = Server::new(0);
    let list = [(0, Rights::None), (1, Rights::Read), (2, Rights::Write), (3, Rights::Both)]
        .map(|(domain, rights)| Permission { domain: DomId(domain), rights });
    run(&mut server, store.set_permissions("data", &list)).unwrap();
    assert_eq!(server.log.last().unwrap().1, "data|n0|r1|w2|b3|");
    let mut buffer = [0; 64];
    let got = run(&mut server, store.permissions("data", &mut buffer)).unwrap();
    assert_eq!(got.collect::<Vec<_>>(), list);
    server.tree.insert("data#".into(), b"n0\0x1\0".to_vec());
    let error = run(&mut server, store.permissions("data", &mut buffer)).err().unwrap();
    assert_eq!(error.cause(), Cause::Form);
}

#[test]
fn a_long_message_goes_through_a_short_ring_also_where_the_indices_wrap() {
    for index in [0, u32::MAX - 1500] {
        let (mut server, store) = Server::new(index);
        let value: Vec<u8> = (0..4000_u32).map(|index| (index % 251) as u8).collect();
        let mut buffer = std::vec![0; 4096];
        run(&mut server, store.write("long", &value)).unwrap();
        assert_eq!(run(&mut server, store.read("long", &mut buffer)).unwrap(), value);
    }
}

#[test]
fn many_requests_are_under_way_and_each_gets_its_answer() {
    let (mut server, store) = Server::new(0);
    (0..30).for_each(|number| server.set(&format!("{number}"), &format!("{}", 100 + number)));
    server.reversed = true;
    let read = |number: u64| -> Pin<Box<dyn Future<Output = u64>>> {
        Box::pin(async move { store.read_number(&format!("{number}")).await.unwrap() })
    };
    let values = run(&mut server, join((0..30).map(read).collect()));
    assert_eq!(values, (100..130).collect::<Vec<_>>());
}

#[test]
fn a_request_that_nobody_waits_for_takes_nothing_with_it() {
    let (mut server, store) = Server::new(0);
    server.set("a", "1");
    for _ in 0..20 {
        let mut request = Box::pin(store.read_number("a"));
        assert!(drive(request.as_mut(), || false).is_none());
        drop(request);
        assert_eq!(run(&mut server, store.read_number("a")).unwrap(), 1);
    }
}

#[test]
fn who_waits_for_a_place_gets_that_of_a_request_that_is_dropped() {
    let (mut server, store) = Server::new(0);
    server.set("a", "1");
    let mut others: Vec<_> =
        (0..super::state::SLOTS).map(|_| Box::pin(store.read_number("a"))).collect();
    others.iter_mut().for_each(|other| assert!(drive(other.as_mut(), || false).is_none()));
    while server.step() {}
    let mut waits = Box::pin(store.read_number("a"));
    assert!(drive(waits.as_mut(), || false).is_none());
    let value = drive(waits, || {
        let dropped = !others.is_empty();
        others.clear();
        dropped || server.step()
    });
    assert_eq!(value.unwrap(), Ok(1));
}

#[test]
fn a_transaction_is_done_again_until_nobody_interferes() {
    let (mut server, store) = Server::new(0);
    server.set("count", "5");
    server.conflicts = 2;
    let tries = RefCell::new(0);
    let add = async |store: Store<'static>| {
        *tries.borrow_mut() += 1;
        let count = store.read_number("count").await?;
        store.write_number("count", count + 1).await?;
        Ok::<_, StoreError>(count)
    };
    assert_eq!(run(&mut server, store.transact(add)).unwrap(), 5);
    assert_eq!((*tries.borrow(), &*server.tree["count"]), (3, &b"6"[..]));
    server.conflicts = usize::MAX;
    let error = run(&mut server, store.transact(add)).unwrap_err();
    assert_eq!((error.errno(), *tries.borrow()), (Some(Errno::EAGAIN), 35));
    let fail = async |store: Store<'static>| {
        store.write("count", b"7").await?;
        store.read_number("none").await
    };
    let error = run(&mut server, store.transact(fail)).unwrap_err();
    assert_eq!(error.path(), "none");
    server.step();
    assert_eq!(server.log.last().unwrap(), &(abi::TRANSACTION_END, "F|".to_string()));
    assert!(server.transactions.is_empty() && server.tree["count"] == b"6");
}

#[test]
fn a_watch_tells_at_once_and_of_each_change_and_ends() {
    let (mut server, store) = Server::new(0);
    let watch = run(&mut server, store.watch("device/a")).unwrap();
    let other = run(&mut server, store.watch("device/b")).unwrap();
    assert_eq!(run(&mut server, watch.next()).unwrap(), "device/a");
    assert!(drive(watch.next(), || server.step()).is_none());
    server.set("device/a/state", "1");
    assert_eq!(run(&mut server, watch.next()).unwrap(), "device/a/state");
    server.set("device/a/state", "2");
    server.set("device/a/state", "3");
    server.set("elsewhere", "3");
    assert_eq!(run(&mut server, watch.next()).unwrap(), "device/a/state");
    server.set("device/a/state", "4");
    server.set("device/a/other", "4");
    run(&mut server, store.read_number("device/a/state")).unwrap();
    assert_eq!(run(&mut server, watch.next()).unwrap(), "device/a", "several");
    assert_eq!(run(&mut server, other.next()).unwrap(), "device/b");
    server.set("device/a/state", "5");
    drop(watch);
    while server.step() {}
    assert_eq!(server.watches, [("device/b".to_string(), "1.1".to_string())]);
    let again = run(&mut server, store.watch("device/a")).unwrap();
    assert_eq!(run(&mut server, again.next()).unwrap(), "device/a");
    assert!(drive(again.next(), || server.step()).is_none(), "the old watch's event is nobody's");
    let all: Vec<_> = (2..17).map(|_| run(&mut server, store.watch("x"))).collect();
    assert_eq!(all[14].as_ref().err().unwrap().cause(), Cause::NoPlace);
    let long = "x".repeat(257);
    assert_eq!(run(&mut server, store.watch(&long)).err().unwrap().cause(), Cause::TooLong);
}

type Lie = dyn FnOnce(&mut Server);

/// A server that answers the request `read a` with these bytes.
fn lies(say: impl FnOnce(&mut Server)) -> (Server, Store<'static>, StoreError) {
    let (mut server, store) = Server::new(0);
    let mut say = Some(say);
    let error = drive(store.read_number("a"), || {
        let said = say.take().map(|say| {
            say(&mut server);
            server.flush();
            server.line.wake();
        });
        said.is_some()
    });
    (server, store, error.expect("it waits").unwrap_err())
}

#[test]
fn what_no_server_may_say_ends_the_connection() {
    let header = |kind, req_id, len| Header { kind, req_id, tx_id: 0, len };
    let raw = |header: Header, body: &'static [u8]| {
        move |server: &mut Server| {
            server.output.extend(header.as_bytes());
            server.output.extend(body);
        }
    };
    let cases: [(Box<Lie>, Fault); 9] = [
        (Box::new(raw(header(abi::READ, 1, 4097), b"")), Fault::Length(4097)),
        (Box::new(raw(header(abi::READ, 1, u32::MAX), b"")), Fault::Length(u32::MAX)),
        (Box::new(raw(header(abi::READ, 2, 0), b"")), Fault::Answer(2)),
        (Box::new(raw(header(abi::READ, 0, 1), b"1")), Fault::Answer(0)),
        (Box::new(raw(header(abi::WRITE, 1, 1), b"1")), Fault::Kind(abi::WRITE)),
        (Box::new(raw(header(abi::WATCH_EVENT, 0, 3), b"abc")), Fault::Form),
        (Box::new(raw(header(abi::WATCH_EVENT, 0, 4), b"\xff\0a\0")), Fault::Form),
        (
            Box::new(|server| {
                server.put = server.words[514].load(Ordering::SeqCst).wrapping_add(1025)
            }),
            Fault::Indices,
        ),
        (Box::new(|server| server.words[512].store(9999, Ordering::SeqCst)), Fault::Indices),
    ];
    for (say, fault) in cases {
        let (_, store, error) = lies(say);
        assert_eq!(error.cause(), Cause::Broken(fault));
        let error = drive(store.read_number("a"), || false).unwrap().unwrap_err();
        assert_eq!(error.cause(), Cause::Broken(fault), "and stays so");
    }
    let (_, store, error) = lies(raw(header(abi::ERROR, 1, 6), b"EODD\0\0"));
    assert_eq!(error.cause(), Cause::Unnamed);
    assert!(drive(store.read_number("a"), || false).is_none(), "the next one waits");
    let (_, _, error) = lies(raw(header(abi::READ, 1, 2), b"\xff1"));
    assert_eq!(error.cause(), Cause::Form);
}

#[test]
fn a_connection_is_made_anew() {
    for features in [0, 1] {
        let (mut server, store, _) = lies(|server| {
            server.say(Header { kind: abi::READ, req_id: 77, ..Header::default() }, b"");
        });
        server.words[516].store(features, Ordering::SeqCst);
        server.set("a", "5");
        run(&mut server, store.reconnect()).unwrap();
        assert_eq!(run(&mut server, store.read_number("a")).unwrap(), 5);
        let watch = run(&mut server, store.watch("a")).unwrap();
        assert_eq!(run(&mut server, watch.next()).unwrap(), "a");
        let waits = async {
            join(std::vec![
                Box::pin(async { watch.next().await.map(|_| ()) })
                    as Pin<Box<dyn Future<Output = Result<(), StoreError>>>>,
                Box::pin(store.reconnect()),
            ])
            .await
        };
        let results = run(&mut server, waits);
        assert!(matches!(
            results[0].as_ref().unwrap_err().cause(),
            Cause::Reconnected | Cause::Broken(_)
        ));
        assert_eq!(results[1], Ok(()));
        assert!(server.watches.is_empty());
        assert_eq!(run(&mut server, store.read_number("a")).unwrap(), 5);
    }
}

#[test]
fn a_server_that_writes_anything_neither_stops_nor_breaks_the_client() {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for _ in 0..300 {
        let (mut server, store) = Server::new(next() as u32);
        let mut turns = 0;
        let work = async {
            let watch = store.watch("a").await?;
            store.write("a", b"1").await?;
            watch.next().await?;
            store.transact(async |store: Store<'static>| store.read_number("a").await).await
        };
        let mischief = next();
        let _any_result = drive(work, || {
            turns += 1;
            let honest = server.step();
            if next() % 4 == 0 {
                let word = 512 + (next() % 6) as usize;
                match mischief % 3 {
                    0 => server.words[word].store(next() as u32, Ordering::SeqCst),
                    1 => server.output.extend((0..next() % 40).map(|_| next() as u8)),
                    _ => server.bytes[1024 + (next() % 1024) as usize]
                        .store(next() as u8, Ordering::SeqCst),
                }
                server.line.wake();
            }
            let _any = honest;
            turns < 200
        });
    }
}
