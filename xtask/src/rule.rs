//! A test that rules domains from the host: what an operator says, and what the machine answers.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use crate::boot::{self, End, Record, Watch};
use crate::ctl::{Channel, SOCKET};
use crate::machine::Machine;

/// A request and what is answered.
type Exchange = (&'static str, &'static [&'static str], Result<Value, &'static str>);

/// The files of the machine's bundle, beside the guest `echo`.
pub(crate) const CONFIGURATIONS: [(&str, &str); 3] = [
    ("echo.cfg", "name = 'echo'\nkernel = 'echo'\nmemory = 16\n"),
    ("bad.cfg", "name = 'bad'\nkernel = 'none'\n"),
    ("wrong.cfg", "name = 'wrong'\nkernel = 'echo'\nmemory = 0\n"),
];

/// What is said and answered; the first domain that is made gets the number `first`.
fn script(first: u16) -> Vec<Exchange> {
    let echo = || json!({ "id": first, "name": "echo" });
    let two = || json!({ "id": first + 1, "name": "two" });
    vec![
        ("destroy", &["echo"], Err("there is no domain `echo`")),
        ("create", &["none"], Err("no configuration is called `none`")),
        ("create", &["bad"], Err("bad: no file `none` in the bundle")),
        (
            "create",
            &["wrong.cfg"],
            Err("wrong.cfg:3: `memory`: a number from 1 to 1048576 is expected"),
        ),
        ("create", &["echo", "memory=100000"], Err("echo: 100000 MiB of memory are wanted, and ")),
        ("create", &["echo"], Ok(echo())),
        ("create", &["echo"], Err("there is a domain `echo` already")),
        ("input", &["echo", "hello\n"], Ok(json!({ "taken": 6 }))),
        ("log", &["echo"], Ok(json!({ "next": 29, "text": "echo listens\nyou said: hello\n" }))),
        ("create", &["echo.cfg", "name=two", "memory=20"], Ok(two())),
        ("pause", &["two"], Ok(two())),
        ("unpause", &["two"], Ok(two())),
        (
            "sched",
            &["two", "weight=512", "cap=50"],
            Ok(json!([
                { "name": "two", "id": first + 1, "weight": 512, "cap": 50 }
            ])),
        ),
        ("input", &["two", "end\n"], Ok(json!({ "taken": 4 }))),
        ("destroy", &["echo"], Ok(echo())),
        ("lisp", &[], Err("there is no verb `lisp`: `help` lists them")),
    ]
}

/// Boots `machine`, whose guest is dom0 with an operator, has its domains ruled until a time is over,
/// and powers it off.
///
/// # Errors
///
/// When `rule` says so, or the machine does not end well.
pub(crate) fn drive(
    machine: &Machine,
    scratch: &Path,
    rule: impl FnOnce(&mut Channel, Instant) -> Result<()>,
) -> Result<Record> {
    let _stale = std::fs::remove_file(scratch.join(SOCKET));
    std::thread::scope(|scope| {
        let boot = scope.spawn(|| boot::boot(machine, Watch::Nobody, scratch));
        let ruled = connect(machine, scratch, rule);
        if ruled.is_err() {
            let ended = Channel::connect(scratch).and_then(|mut it| it.ask("poweroff", &[], true));
            let _the_machine_may_be_beyond_that = ended;
        }
        let record = boot.join().map_err(|_| anyhow::anyhow!("the boot has panicked"))??;
        ruled.map_err(|error| error.context(record.report.clone()))?;
        ensure!(record.end == End::Success, "{}\n{}", record.end, record.report);
        Ok(record)
    })
}

fn connect(
    machine: &Machine,
    scratch: &Path,
    rule: impl FnOnce(&mut Channel, Instant) -> Result<()>,
) -> Result<()> {
    // Before the boot is given up.
    let deadline = Instant::now() + machine.options.limit / 2;
    let mut channel = Channel::wait(scratch, deadline)?;
    rule(&mut channel, deadline)?;
    match channel.ask("poweroff", &[], true)? {
        Ok(answer) if answer == "all domains have ended\n" => Ok(()),
        other => bail!("poweroff: {other:?}"),
    }
}

/// Says everything there is to say, and compares the answers and what is left of domains.
///
/// # Errors
///
/// When an answer is another, or something is left of a domain.
pub(crate) fn rule(channel: &mut Channel, deadline: Instant) -> Result<()> {
    // What a hypervisor keeps of the first domains, such as larger tables, is no loss.
    exchange(channel, &script(1), deadline)?;
    let before = left(channel)?;
    exchange(channel, &script(3), deadline)?;
    // Xen gives some of a domain's memory back when its CPUs have all been idle.
    loop {
        let after = left(channel)?;
        if after.is_all_of(&before) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "before there was {before:?}, afterwards {after:?}");
    }
}

/// Says a script, compares the answers, and waits until all domains have ended.
fn exchange(channel: &mut Channel, script: &[Exchange], deadline: Instant) -> Result<()> {
    for (verb, words, expected) in script {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        loop {
            let mut answer = channel.ask(verb, &words, false)?;
            if let Ok(Value::Object(fields)) = &mut answer {
                // A time.
                fields.remove("took");
            }
            let is_right = match (&answer, expected) {
                (Ok(answer), Ok(expected)) => answer == expected,
                (Err(answer), Err(expected)) => answer.starts_with(expected),
                _ => false,
            };
            if is_right {
                break;
            }
            // What a domain says comes when it runs.
            let waits = *verb == "log" && Instant::now() < deadline;
            ensure!(waits, "{verb} {words:?}: the answer is {answer:?}, not {expected:?}");
        }
    }
    while channel.ask("list", &["two".to_owned()], false)?.is_ok() {
        ensure!(Instant::now() < deadline, "a domain does not end");
    }
    Ok(())
}

/// What domains could leave behind: less free memory, and nodes of the store.
#[derive(Debug)]
pub(crate) struct Left {
    free_pages: Option<u64>,
    store: Value,
}

impl Left {
    /// Whether it is all that there was before; what was still being given back then may be free now.
    pub(crate) fn is_all_of(&self, before: &Self) -> bool {
        self.free_pages >= before.free_pages && self.store == before.store
    }
}

/// What there is now.
///
/// # Errors
///
/// When the machine does not say.
pub(crate) fn left(channel: &mut Channel) -> Result<Left> {
    let mut ask = |verb: &str| channel.ask(verb, &[], false)?.map_err(anyhow::Error::msg);
    Ok(Left { free_pages: ask("info")?["free_pages"].as_u64(), store: ask("store")? })
}
