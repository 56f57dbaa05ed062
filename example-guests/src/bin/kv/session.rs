//! One connection after the other: requests are read, and answered in their order.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::vec::Vec;

use embassy_futures::select::select;
use kv_store::request::{self, Request};
use pv_guest_sdk::net::ConnectionError;
use pv_guest_sdk::time::{Duration, sleep};

use crate::Server;
use crate::group::{Answer, Wanted};
use crate::network::{Connection, socket};

/// The port that Redis has.
const PORT: u16 = 6379;
/// How long who asked for the end may keep the connection open.
const FAREWELL: Duration = Duration::from_secs(10);
/// Answers that are kept until they are sent. Unit: bytes.
const ANSWERS: usize = 16 << 10;

/// Serves one connection after the other.
pub(crate) async fn serve(server: &Server<'_>) {
    let connection = server.stack.connection(socket(16 << 10, 16 << 10));
    connection.keep_alive(Duration::from_secs(10), Duration::from_secs(30));
    while connection.accept(PORT).await.is_ok() {
        server.connections.set(server.connections.get() + 1);
        match exchange(server, &connection).await {
            Ok(Then::EndsAll) => {
                // Who asked is to have the answer, and has it when both ends are closed.
                select(connection.close(), sleep(FAREWELL)).await;
                server.tell();
            }
            Ok(_) => connection.close().await,
            Err(ConnectionError::Reset | ConnectionError::Invalid) => connection.abort(),
        }
    }
}

/// What a connection's changes that wait are to be answered with.
enum Kind {
    /// `OK`.
    Done,
    /// How many of so many keys were there.
    Count(usize),
}

/// A connection's changes that wait, and its answers.
struct Session<'s> {
    server: &'s Server<'s>,
    wanted: Vec<Wanted>,
    kinds: Vec<Kind>,
    answers: Vec<u8>,
}

/// Whether a connection goes on.
#[derive(Eq, PartialEq)]
enum Then {
    Stays,
    Ends,
    /// And the domain with it.
    EndsAll,
}

/// Answers the requests of a connection. Changes that come together are made together.
async fn exchange(
    server: &Server<'_>,
    connection: &Connection<'_>,
) -> Result<Then, ConnectionError> {
    let mut session =
        Session { server, wanted: Vec::new(), kinds: Vec::new(), answers: Vec::new() };
    let mut bytes = Vec::new();
    loop {
        let mut used = 0;
        let mut then = Then::Stays;
        while then == Then::Stays {
            let (words, length) = match request::parse(&bytes[used..]) {
                Ok(Some(request)) => request,
                Ok(None) => break,
                Err(malformed) => {
                    session.settle().await;
                    session.error(&format!("{malformed}"));
                    then = Then::Ends;
                    break;
                }
            };
            used += length;
            if !words.is_empty() {
                then = session.answer(&words).await;
            }
            if session.answers.len() >= ANSWERS {
                connection.write(&session.answers).await?;
                session.answers.clear();
            }
        }
        bytes.drain(..used);
        session.settle().await;
        connection.write(&session.answers).await?;
        session.answers.clear();
        if then != Then::Stays {
            return Ok(then);
        }
        let mut more = [0; 2048];
        let count = connection.read(&mut more).await?;
        if count == 0 {
            return Ok(Then::Ends);
        }
        // `parse` refuses what is not complete and too long, so that there are never many.
        bytes.extend_from_slice(&more[..count]);
    }
}

impl Session<'_> {
    async fn answer(&mut self, words: &[&[u8]]) -> Then {
        self.server.requests.set(self.server.requests.get() + 1);
        let store = self.server.group.store();
        let request = Request::of(words);
        // Who changes something and then reads it is to see it.
        if !matches!(request, Ok(Request::Set(..) | Request::Delete(..))) {
            self.settle().await;
        }
        match request {
            Err(unknown) => self.error(&format!("{unknown}")),
            Ok(Request::Ping) => self.line(b"+PONG"),
            Ok(Request::Commands) => self.line(b"*0"),
            Ok(Request::Get(key)) => match store.get(key) {
                Some(value) => self.string(&value),
                None => self.line(b"$-1"),
            },
            Ok(Request::Set(key, value)) => {
                self.wanted.push(Wanted::Set(key.to_owned(), value.to_owned()));
                self.kinds.push(Kind::Done);
            }
            Ok(Request::Delete(keys)) => {
                self.kinds.push(Kind::Count(keys.len()));
                self.wanted.extend(keys.into_iter().map(|key| Wanted::Delete(key.to_owned())));
            }
            Ok(Request::Exists(keys)) => {
                self.number(keys.into_iter().filter(|key| store.has(key)).count());
            }
            Ok(Request::Count) => self.number(store.counts().keys),
            Ok(Request::Statistics) => self.string(self.server.statistics().as_bytes()),
            // All that was answered is on the disk.
            Ok(Request::Sync) => self.line(b"+OK"),
            Ok(Request::Compact) => {
                self.wanted.push(Wanted::Compaction);
                self.kinds.push(Kind::Done);
            }
            Ok(Request::Quit) => {
                self.line(b"+OK");
                return Then::Ends;
            }
            Ok(Request::Shutdown) => {
                self.line(b"+OK");
                return Then::EndsAll;
            }
        }
        Then::Stays
    }

    /// Waits for the changes that were asked for, and answers.
    async fn settle(&mut self) {
        if self.wanted.is_empty() {
            return;
        }
        let wanted = core::mem::take(&mut self.wanted);
        let mut answers = self.server.group.submit(wanted).await.into_iter();
        for kind in core::mem::take(&mut self.kinds) {
            let keys = match kind {
                Kind::Done => 1,
                Kind::Count(keys) => keys,
            };
            let mine: Result<Vec<bool>, _> =
                answers.by_ref().take(keys).collect::<Vec<Answer>>().into_iter().collect();
            match (kind, mine) {
                (_, Err(error)) => self.error(&error),
                (Kind::Done, Ok(_)) => self.line(b"+OK"),
                (Kind::Count(_), Ok(there)) => {
                    self.number(there.into_iter().filter(|&there| there).count());
                }
            }
        }
    }

    fn line(&mut self, text: &[u8]) {
        self.answers.extend_from_slice(text);
        self.answers.extend_from_slice(b"\r\n");
    }

    fn error(&mut self, text: &str) {
        self.line(format!("-ERR {text}").as_bytes());
    }

    fn number(&mut self, number: usize) {
        self.line(format!(":{number}").as_bytes());
    }

    fn string(&mut self, text: &[u8]) {
        self.line(format!("${}", text.len()).as_bytes());
        self.line(text);
    }
}
