//! A visit to `kv`, by Redis' protocol; and what it has left on its partition, read here by the crate
//! `kv-store`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::pin::pin;
use std::task::{Context as Waiting, Poll, Waker};

use anyhow::{Context, Result, bail, ensure};
use kv_store::{Disk, Format, Options, Store};

use super::drive::{Visit, sum};

/// The longest value there may be. Unit: bytes.
const LARGE: usize = 16 << 10;
/// Keys that are set at once.
const MANY: usize = 50;

/// What one key is set to by a visit that is marked so.
fn large(mark: &str) -> Vec<u8> {
    mark.bytes().cycle().take(LARGE).collect()
}

/// Sets, gets and deletes keys.
pub(super) fn visit(visit: &Visit<'_>) -> Result<()> {
    let mut client = Client(BufReader::new(visit.connect()?));
    let before = client.ask(&[b"GET", b"visits"])?;
    let before = before.map_or(Ok(0), |text| String::from_utf8_lossy(&text).parse::<u64>())?;
    visit.say(format!("it was visited {before} times before"));
    client.set("visits", (before + 1).to_string().as_bytes())?;
    client.set("mark", visit.mark.as_bytes())?;
    client.set("large", &large(visit.mark))?;
    for number in 0..MANY {
        client.set(&format!("key {number}"), format!("{} {number}", visit.mark).as_bytes())?;
    }
    client.set("short-lived", b"gone soon")?;
    let gone = client.ask(&[b"DEL", b"short-lived"])?;
    ensure!(gone == Some(b"1".into()), "DEL is answered by {gone:?}");
    visit.say(format!("{} keys were set, and one deleted", MANY + 3));
    compare(visit, &mut client)
}

/// Looks whether all is there that it has acknowledged before its reboot.
pub(super) fn again(visit: &Visit<'_>) -> Result<()> {
    compare(visit, &mut Client(BufReader::new(visit.connect()?)))
}

/// Gets all keys, and compares them with what [`visit`] sets.
fn compare(visit: &Visit<'_>, client: &mut Client) -> Result<()> {
    let mut get = |key: &str| client.ask(&[b"GET", key.as_bytes()]);
    let value = get("large")?.context("`large` is not there")?;
    ensure!(value == large(visit.mark), "`large` is something else");
    ensure!(get("mark")? == Some(visit.mark.into()), "`mark` is something else");
    ensure!(get("short-lived")?.is_none(), "a key that was deleted is there");
    for number in 0..MANY {
        let (found, wanted) = (get(&format!("key {number}"))?, format!("{} {number}", visit.mark));
        ensure!(found == Some(wanted.into()), "`key {number}` is {found:?}");
    }
    visit.say(format!("{} keys are as they were set; `large` has {}", MANY + 2, sum(&value)));
    Ok(())
}

/// A connection to the server.
struct Client(BufReader<TcpStream>);

impl Client {
    /// What is answered to a request: a text, a number as a text, or nothing.
    fn ask(&mut self, words: &[&[u8]]) -> Result<Option<Vec<u8>>> {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            write!(request, "${}\r\n", word.len())?;
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
        self.0.get_mut().write_all(&request)?;
        let mut line = String::new();
        self.0.read_line(&mut line).context("no answer")?;
        let line = line.trim_end();
        match (line.get(..1), line.get(1..).unwrap_or_default()) {
            (Some("+" | ":"), text) => Ok(Some(text.into())),
            (Some("$"), "-1") => Ok(None),
            (Some("$"), length) => {
                let mut text = vec![0; length.parse::<usize>()? + 2];
                self.0.read_exact(&mut text)?;
                text.truncate(text.len() - 2);
                Ok(Some(text))
            }
            _ => bail!("the answer is `{line}`"),
        }
    }

    fn set(&mut self, key: &str, value: &[u8]) -> Result<()> {
        let answer = self.ask(&[b"SET", key.as_bytes(), value])?;
        ensure!(answer == Some(b"OK".into()), "SET {key} is answered by {answer:?}");
        Ok(())
    }
}

/// A part of a file as a disk that is only read.
struct Partition {
    file: File,
    first: u64,
    sectors: u64,
}

impl Disk for Partition {
    type Error = std::io::Error;

    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn sector_size(&self) -> u64 {
        512
    }

    async fn read(&self, sector: u64, data: &mut [u8]) -> std::io::Result<()> {
        self.file.read_exact_at(data, 512 * (self.first + sector))
    }

    async fn write(&self, _: u64, _: &[u8]) -> std::io::Result<()> {
        Err(std::io::ErrorKind::PermissionDenied.into())
    }

    async fn flush(&self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Checks that the partition of so many sectors has what a visit with this mark has set.
///
/// # Errors
///
/// What is wrong.
pub(super) fn check(disk: &Path, (first, sectors): (u64, u64), mark: &str) -> Result<String> {
    let partition = Partition { file: File::open(disk)?, first, sectors };
    let options = Options { format: Format::Never, salt: 0, memory: 64 << 20 };
    let opening = pin!(Store::open(partition, options));
    // A file does not keep its reader waiting.
    let Poll::Ready(opened) = opening.poll(&mut Waiting::from_waker(Waker::noop())) else {
        bail!("the store waits for a file");
    };
    let opened = opened.map_err(|error| anyhow::anyhow!("the partition of keys: {error}"));
    let (store, found) = opened?;
    ensure!(store.get(b"mark") == Some(mark.into()), "`mark` is not on the disk");
    ensure!(store.get(b"large") == Some(large(mark)), "`large` is not on the disk");
    for number in 0..MANY {
        let value = store.get(format!("key {number}").as_bytes());
        ensure!(value == Some(format!("{mark} {number}").into()), "`key {number}` is {value:?}");
    }
    Ok(format!("{} keys in {} records, all of this visit's among them", found.keys, found.records))
}
