//! What the host does with the machine when nobody sits at it: visits the servers, rules the domains,
//! ends the machine, looks at the disk.

use std::cell::RefCell;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{House, SERVERS, disk, http, keys};
use crate::book::shown;
use crate::boot::{self, End, Watch};
use crate::ctl::Channel;

/// How long a server may take for a part of an answer: long, for a host that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// One server that is visited.
pub(super) struct Visit<'a> {
    house: &'a House,
    name: &'a str,
    port: u16,
    /// What no visit before was marked with.
    pub(super) mark: &'a str,
}

impl Visit<'_> {
    /// Connects to the server.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub(super) fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.port));
        let stream = stream.with_context(|| format!("{} does not answer", self.name))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// Tells the user what was seen.
    pub(super) fn say(&self, what: impl AsRef<str>) {
        self.house.tell(format_args!("{}: {}", self.name, what.as_ref()));
    }
}

/// The SHA-256 of bytes, in hexadecimal digits.
pub(super) fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Boots the machine, does everything, and tells of it.
///
/// # Errors
///
/// What was not as it should be.
pub(super) fn drive(house: &House, disk: &Path, scratch: &Path) -> Result<()> {
    let machine = &house.machine;
    disk::prepare(disk, scratch)?;
    let mark = format!("{:?}", SystemTime::now().duration_since(UNIX_EPOCH)?);
    std::thread::scope(|scope| {
        let boot = scope.spawn(|| boot::boot(machine, Watch::Nobody, scratch));
        let done = rule(house, &mark, scratch);
        if done.is_err() {
            let ended = Channel::connect(scratch).and_then(|mut it| it.ask("poweroff", &[], true));
            let _the_machine_may_be_beyond_that = ended;
        }
        let record = boot.join().map_err(|_| anyhow::anyhow!("the boot has panicked"))??;
        let said = || record.console.transcript();
        let list =
            done.with_context(|| format!("{}the console said:\n{}", record.report, said()))?;
        ensure!(record.end == End::Success, "{}\n{}", record.end, record.report);
        let reach: String = house.reach().map(|line| format!("xtask: {line}\n")).collect();
        shown("README.md", &format!("{reach}{list}{}", said()))?;
        house.tell(format_args!("machine: {}", record.end));
        Ok(())
    })?;
    house.tell(format_args!("disk: {}", disk::check(disk, scratch)?));
    house.tell(format_args!("disk: {}", keys::check(disk, disk::KEYS, &mark)?));
    Ok(())
}

/// The words of a line. A hard blank is one within a word.
fn words(line: &str) -> impl Iterator<Item = String> {
    line.split(' ').map(|word| word.replace('\u{a0}', " "))
}

/// The operator at the host.
struct Operator<'a> {
    house: &'a House,
    channel: RefCell<Channel>,
    deadline: Instant,
}

impl Operator<'_> {
    /// What is answered to a verb.
    fn ask(&self, line: &str) -> Result<Result<Value, String>> {
        let mut words = words(line);
        let verb = words.next().unwrap_or_default();
        self.channel.borrow_mut().ask(&verb, &words.collect::<Vec<_>>(), false)
    }

    /// Does what a line says, and shows the answer as a person reads it.
    fn show(&self, line: &str) -> Result<String> {
        let mut words = words(line);
        let verb = words.next().unwrap_or_default();
        let answer = self.channel.borrow_mut().ask(&verb, &words.collect::<Vec<_>>(), true)?;
        let answer = answer.map_err(anyhow::Error::msg).with_context(|| line.to_owned())?;
        let text = answer.as_str().unwrap_or_default().to_owned();
        self.house.tell(format_args!("operator: {}", line.trim_end()));
        text.lines().for_each(|line| self.house.tell(format_args!("    {line}")));
        Ok(text)
    }

    /// Asks until an answer is as it should be; each takes a moment of the machine's.
    fn until(&self, line: &str, is: impl Fn(&Result<Value, String>) -> bool) -> Result<()> {
        loop {
            let answer = self.ask(line)?;
            if is(&answer) {
                return Ok(());
            }
            ensure!(Instant::now() < self.deadline, "`{line}` goes on to answer {answer:?}");
        }
    }

    /// Waits until a domain says that it serves.
    fn serves(&self, name: &str) -> Result<()> {
        // The prompt is there while the first domains are still being made.
        self.until(&format!("list {name}"), Result::is_ok)?;
        let serves = |said: &str| said.contains("serving at");
        let serves = self.channel.borrow_mut().listen(name, serves)?;
        ensure!(serves, "{name} has ended");
        Ok(())
    }

    /// A domain's number.
    fn number(&self, name: &str) -> Result<Value> {
        let answer = self.ask(&format!("list {name}"))?.map_err(anyhow::Error::msg)?;
        Ok(answer[0]["id"].clone())
    }

    /// Has a domain begin anew, and waits until it serves.
    fn reboot(&self, name: &str) -> Result<()> {
        let old = self.number(name)?;
        let answer = self.show(&format!("reboot {name}"))?;
        ensure!(!answer.contains("not"), "{name} has not heard of it");
        self.until(&format!("list {name}"), |answer| {
            answer.as_ref().is_ok_and(|list| list[0]["id"] != old)
        })?;
        self.serves(name)
    }
}

/// All that is done while the machine runs.
fn rule(house: &House, mark: &str, scratch: &Path) -> Result<String> {
    // Before the boot is given up.
    let deadline = Instant::now() + house.machine.options.limit / 2;
    let channel = RefCell::new(Channel::wait(scratch, deadline)?);
    let operator = Operator { house, channel, deadline };
    let visits: Vec<_> = SERVERS
        .iter()
        .zip(&house.ports)
        .map(|(server, &port)| (server, Visit { house, name: server.name, port, mark }))
        .collect();
    for (server, visit) in &visits {
        operator.serves(server.name)?;
        (server.visit)(visit).context(server.name)?;
    }
    let list = operator.show("list")?;
    operator.show("info")?;
    operator.show("network-list httpd")?;
    let counted = operator.ask("network-list httpd")?.map_err(anyhow::Error::msg)?;
    let sent = counted[0]["tx_bytes"].as_u64();
    ensure!(sent > Some(http::LARGE as u64), "httpd is said to have sent {sent:?} bytes");
    operator.show("block-list kv")?;
    operator.show("top")?;
    for (server, visit) in &visits {
        operator.reboot(server.name)?;
        (server.again)(visit).with_context(|| format!("{} after its reboot", server.name))?;
    }
    operator.show("create hello")?;
    operator.channel.borrow_mut().listen("hello", |_| false)?;
    operator.show("create /dev/vda1:/more\u{a0}files/added.cfg")?;
    operator.show("input added hello\n")?;
    let heard = |said: &str| said.contains("you said: hello\n");
    ensure!(operator.channel.borrow_mut().listen("added", heard)?, "`added` has ended");
    operator.show("destroy added")?;
    // One that has the partition until it is told to end.
    operator.show("create echo disk=['/dev/vda1,raw,xvda,w']")?;
    let answer = operator.ask("create hello")?;
    let taken = "/dev/vda1: it is written by another domain";
    ensure!(answer == Err(taken.to_owned()), "a partition that is in use can be read: {answer:?}");
    house.tell(format_args!("operator: create hello\n    {taken}"));
    operator.show("destroy echo")?;
    operator.show("create blk")?;
    operator.channel.borrow_mut().listen("blk", |_| false)?;
    operator.until("list blk", Result::is_err)?;
    operator.show("list")?;
    let answer = operator.show("poweroff")?;
    ensure!(answer == "all domains have ended\n", "some had to be destroyed");
    Ok(list)
}
