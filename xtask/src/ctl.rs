//! `cargo xtask ctl`: the operator's verbs, said to a machine that runs, by its second serial port.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use lexopt::prelude::*;
use serde_json::{Value, json};

use crate::workspace::Workspace;

/// The name of the port's socket in the folder where QEMU runs.
pub(crate) const SOCKET: &str = "control";
/// How long an answer may take: shutting all domains down takes some time.
const PATIENCE: Duration = Duration::from_secs(120);
/// What leaves a console: ctrl-].
const LEAVE: u8 = 0x1d;

const HELP: &str = include_str!("help/ctl.txt");

/// Says one verb and shows the answer.
///
/// # Errors
///
/// When no machine listens, or the words are wrong.
pub(crate) fn command(mut words: lexopt::Parser) -> Result<ExitCode> {
    let (mut text, mut machine, mut said) = (true, None, Vec::new());
    while let Some(word) = words.next()? {
        match word {
            Short('h') | Long("help") => {
                print!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            Long("json") => text = false,
            Long("machine") => machine = Some(words.value()?),
            Value(word) => said.push(word.string()?),
            other => return Err(crate::options::unknown(&other, "ctl --help")),
        }
    }
    let (verb, args) = said.split_first().context("say a verb: `cargo xtask ctl help`")?;
    let mut channel = find(&Workspace::find()?, machine)?;
    if verb == "console" {
        return console(channel, args, text);
    }
    let answer = match (verb.as_str(), args) {
        ("dump-core", [name, file]) => channel.dump(name, Path::new(file))?.map(|answer| {
            if text { format!("{file}: {} bytes\n", answer["bytes"]).into() } else { answer }
        }),
        ("dump-core", _) => bail!("say which domain, and which file: dump-core NAME FILE"),
        _ => channel.ask(verb, args, text)?,
    };
    match answer {
        Ok(answer) => {
            print!("{}", answer.as_str().map_or_else(|| format!("{answer}\n"), str::to_owned));
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            eprintln!("xtask: {error}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The machine that runs, or the one of this name of several.
fn find(workspace: &Workspace, name: Option<OsString>) -> Result<Channel> {
    let all = workspace.scratch("")?;
    if let Some(name) = name {
        let channel = Channel::connect(&all.join(&name));
        return channel
            .with_context(|| format!("--machine {}: no such machine runs", name.display()));
    }
    let folders = std::fs::read_dir(&all)?.filter_map(|entry| Some(entry.ok()?.path()));
    let found: Vec<(PathBuf, Channel)> =
        folders.filter_map(|path| Some((path.clone(), Channel::connect(&path).ok()?))).collect();
    let names: Vec<_> = found.iter().filter_map(|(path, _)| path.file_name()?.to_str()).collect();
    ensure!(names.len() < 2, "several machines run: say --machine {}", names.join(" or "));
    let only = found.into_iter().next();
    Ok(only.context("no machine runs: start one by `cargo xtask run`")?.1)
}

/// A connection to the operator's service of a machine.
pub(crate) struct Channel {
    stream: BufReader<UnixStream>,
    /// Answers to others may still be on their way.
    last: u64,
}

impl Channel {
    /// Connects to the machine whose QEMU runs in `folder`.
    ///
    /// # Errors
    ///
    /// When none does.
    pub(crate) fn connect(folder: &Path) -> Result<Self> {
        // A socket's path ends at 108 bytes, a folder's need not: go through the open folder.
        let open = std::fs::File::open(folder)?;
        let short = format!("/proc/self/fd/{}/{SOCKET}", open.as_raw_fd());
        let stream = UnixStream::connect(short).context("no machine listens there")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let last = u64::from(std::process::id()) << 20;
        let mut channel = Self { stream: BufReader::new(stream), last };
        // Ends what somebody else left of a line. A service that starts only now forgets a few bytes.
        channel.stream.get_mut().write_all(&[b'\n'; 64])?;
        Ok(channel)
    }

    /// As [`Channel::connect`], to a machine that is about to start.
    ///
    /// # Errors
    ///
    /// When it has not started by then.
    pub(crate) fn wait(folder: &Path, deadline: Instant) -> Result<Self> {
        loop {
            match Self::connect(folder) {
                Err(_) if Instant::now() < deadline => std::thread::yield_now(),
                result => return result,
            }
        }
    }

    /// Whether a domain has said something of late.
    ///
    /// # Errors
    ///
    /// As of [`Channel::ask`].
    pub(crate) fn says(&mut self, domain: &str, what: &str) -> Result<bool> {
        let answer = self.ask("log", &[domain.to_owned()], false)?;
        let said = answer.as_ref().ok().and_then(|it| it["text"].as_str());
        Ok(said.is_some_and(|said| said.contains(what)))
    }

    /// Says a verb; the answer, or what the machine says is wrong.
    ///
    /// # Errors
    ///
    /// When the machine does not answer.
    pub(crate) fn ask(
        &mut self,
        verb: &str,
        args: &[String],
        text: bool,
    ) -> Result<Result<Value, String>> {
        let id = self.say(verb, args, text)?;
        loop {
            let answer = self.hear()?;
            if answer["id"] == id && answer.get("ok").is_some() {
                return Ok(judge(&answer));
            }
        }
    }

    /// Reads along what a domain says, from its beginning, until that is as wanted; not so if the domain
    /// is gone first.
    ///
    /// # Errors
    ///
    /// When nothing comes for long.
    pub(crate) fn listen(&mut self, name: &str, is: impl Fn(&str) -> bool) -> Result<bool> {
        let id = self.say("console", &[name.to_owned()], false)?;
        let mut said = String::new();
        loop {
            let answer = self.hear()?;
            if answer["id"] == id && answer.get("ok").is_some() {
                return Ok(false);
            }
            said += answer["text"].as_str().filter(|_| answer["id"] == id).unwrap_or_default();
            if is(&said) {
                // The next request ends the listening.
                return Ok(true);
            }
        }
    }

    /// Has a domain's core written to a file, which is there when it is whole; until then another is, with
    /// `.part` behind its name.
    ///
    /// # Errors
    ///
    /// When the machine does not answer, a piece is lost, or the file cannot be written.
    pub(crate) fn dump(&mut self, name: &str, file: &Path) -> Result<Result<Value, String>> {
        let mut part = file.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let to = File::create(&part).with_context(|| format!("cannot make {}", part.display()))?;
        let answer = self.receive(name, &to).and_then(|answer| {
            if answer.is_ok() {
                std::fs::rename(&part, file)
                    .with_context(|| format!("cannot make {}", file.display()))?;
            }
            Ok(answer)
        });
        if !matches!(answer, Ok(Ok(_))) {
            std::fs::remove_file(&part)?;
        }
        answer
    }

    /// Receives a core.
    fn receive(&mut self, name: &str, to: &File) -> Result<Result<Value, String>> {
        let id = self.say("dump-core", &[name.to_owned()], false)?;
        let mut sum = 0;
        loop {
            let answer = self.hear()?;
            if answer["id"] != id {
                continue;
            }
            if let Some(packed) = answer["lz4"].as_str() {
                let packed = BASE64_STANDARD.decode(packed).context("a piece is damaged")?;
                let piece = lz4_flex::decompress_size_prepended(&packed)?;
                to.write_all_at(&piece, answer["at"].as_u64().context("a piece of nowhere")?)?;
                sum += 1;
            }
            if answer.get("ok").is_none() {
                continue;
            }
            let answer = judge(&answer);
            if let Ok(told) = &answer {
                ensure!(told["sent"] == sum, "of {} pieces, {sum} have come", told["sent"]);
                // What did not come is zeros.
                to.set_len(told["bytes"].as_u64().context("a core without an end")?)?;
                to.sync_all()?;
            }
            return Ok(answer);
        }
    }

    /// Says a verb, and does not wait. The number of the answer.
    fn say(&mut self, verb: &str, args: &[String], text: bool) -> Result<u64> {
        self.last += 1;
        let request = json!({ "id": self.last, "verb": verb, "args": args, "text": text });
        writeln!(self.stream.get_mut(), "{request}")?;
        Ok(self.last)
    }

    /// The next line, whoever it is for.
    fn hear(&mut self) -> Result<Value> {
        let mut line = String::new();
        let length = self.stream.read_line(&mut line).context("the machine does not answer")?;
        ensure!(length > 0, "the machine has ended");
        // A line of which the first half went to somebody else is nobody's.
        Ok(serde_json::from_str(&line).unwrap_or_default())
    }
}

/// What a final answer says.
fn judge(answer: &Value) -> Result<Value, String> {
    if answer["ok"] == true {
        return Ok(answer["result"].clone());
    }
    Err(answer["error"].as_str().unwrap_or("an answer that says nothing").to_owned())
}

/// Shows a domain's console, and types there what is typed here.
fn console(mut channel: Channel, args: &[String], text: bool) -> Result<ExitCode> {
    let id = channel.say("console", args, text)?;
    channel.stream.get_ref().set_read_timeout(None)?;
    let keys = Channel {
        stream: BufReader::new(channel.stream.get_ref().try_clone()?),
        last: channel.last,
    };
    let name = args.first().cloned().unwrap_or_default();
    let raw = std::io::stdin().is_terminal().then(|| Raw::set("-icanon -echo -isig -icrnl"));
    if raw.is_some() {
        eprintln!("ctrl-] leaves the console");
    }
    std::thread::spawn(move || type_there(keys, &name));
    loop {
        let answer = channel.hear()?;
        if answer["id"] != id {
            continue;
        }
        if let Some(said) = answer["text"].as_str() {
            let mut out = std::io::stdout().lock();
            out.write_all(if text { said.to_owned() } else { format!("{answer}\n") }.as_bytes())?;
            out.flush()?;
        } else if let Err(error) = judge(&answer) {
            bail!("{error}");
        } else {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// Types at a console what comes by standard input, until that ends or ctrl-] comes.
fn type_there(mut channel: Channel, name: &str) {
    let mut bytes = [0; 256];
    while let Ok(count @ 1..) = std::io::stdin().read(&mut bytes) {
        let typed = bytes.get(..count).unwrap_or_default();
        let end = typed.iter().position(|&byte| byte == LEAVE);
        let typed = String::from_utf8_lossy(typed.get(..end.unwrap_or(count)).unwrap_or_default());
        let said = channel.say("input", &[name.to_owned(), typed.into_owned()], false);
        if said.is_err() {
            return;
        }
        if end.is_some() {
            // Any other verb ends a console.
            let _is_gone = channel.say("help", &[], false);
            return;
        }
    }
}

/// A terminal that hands on each key as it is; when this is dropped it is as before.
struct Raw;

impl Raw {
    fn set(words: &str) -> Self {
        let _no_terminal = Command::new("stty").args(words.split(' ')).status();
        Self
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _no_terminal = Command::new("stty").arg("sane").status();
    }
}
