//! Clients of the guest `kv`: what they ask for, and what of it was acknowledged when.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::log::Log;

/// How many keys each client has.
const KEYS: u64 = 10;
/// The longest value. Unit: bytes.
const LONGEST: u64 = 3000;

/// Keys and values.
pub(crate) type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// Random numbers, the same for the same seed (xorshift64).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % limit
    }
}

/// Something that a client asked for.
pub(super) struct Change {
    /// What was asked: a key, and its value or that it is to be deleted.
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    /// How many operations the disk's log had before it was sent, and when it was acknowledged.
    pub(super) sent: usize,
    pub(super) acknowledged: usize,
}

impl Change {
    /// Makes it.
    pub(super) fn apply(&self, model: &mut Model) {
        match &self.value {
            Some(value) => model.insert(self.key.clone(), value.clone()),
            None => model.remove(&self.key),
        };
    }
}

/// A connection to the guest.
pub(super) struct Connection {
    reader: BufReader<TcpStream>,
}

impl Connection {
    /// Connects to the guest behind a port of this host, which may not be there yet.
    ///
    /// # Errors
    ///
    /// When it does not answer before the deadline.
    pub(super) fn open(port: u16, deadline: Instant) -> Result<Self> {
        loop {
            match Self::try_open(port) {
                Ok(connection) => return Ok(connection),
                Err(error) if Instant::now() > deadline => return Err(error),
                // QEMU takes the connection, and ends it while nobody is there behind it.
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    fn try_open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut connection = Self { reader: BufReader::new(stream) };
        ensure!(connection.ask(b"PING\r\n")? == "+PONG", "this is not kv");
        connection.reader.get_ref().set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(connection)
    }

    /// Sends a request, and returns the line that is answered.
    ///
    /// # Errors
    ///
    /// When the connection ends.
    pub(super) fn ask(&mut self, request: &[u8]) -> Result<String> {
        self.reader.get_mut().write_all(request)?;
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        Ok(line.strip_suffix("\r\n").context("kv has ended the connection")?.to_owned())
    }
}

/// Has a client of its own keys ask for so many changes, one after the other.
///
/// # Errors
///
/// When the connection ends, or an answer is not the one of that request.
pub(super) fn client(
    number: u64,
    changes: usize,
    port: u16,
    deadline: Instant,
    log: &Mutex<Log>,
) -> Result<Vec<Change>> {
    let count = || log.lock().map_err(|_| anyhow::anyhow!("a client has panicked"))?.count();
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ number << 32);
    let mut connection = Connection::open(port, deadline)?;
    let mut history = Vec::new();
    let mut model = Model::new();
    for turn in 0..changes {
        let key = format!("{number}:{}", random.below(KEYS)).into_bytes();
        let value = (random.below(6) != 0).then(|| {
            // No two values are the same.
            let mut value = format!("{number} {turn} ").into_bytes();
            let fill = u8::try_from(random.below(256)).unwrap_or(0);
            value.resize(value.len() + usize::try_from(random.below(LONGEST)).unwrap_or(0), fill);
            value
        });
        let words: Vec<&[u8]> = match &value {
            Some(value) => vec![b"SET", &key, value],
            None => vec![b"DEL", &key],
        };
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend(format!("${}\r\n", word.len()).as_bytes());
            request.extend_from_slice(word);
            request.extend(b"\r\n");
        }
        let expected = match (&value, model.contains_key(&key)) {
            (Some(_), _) => "+OK",
            (None, true) => ":1",
            (None, false) => ":0",
        };
        let sent = count()?;
        let answer = connection.ask(&request)?;
        if answer != expected {
            bail!("client {number}, change {turn}: the answer is {answer}, not {expected}");
        }
        let change = Change { key, value, sent, acknowledged: count()? };
        change.apply(&mut model);
        history.push(change);
    }
    Ok(history)
}
