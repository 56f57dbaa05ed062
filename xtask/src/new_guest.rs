//! `cargo xtask new-guest`: a crate outside this workspace to begin a guest with.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use lexopt::prelude::*;

use crate::boot::{self, End, Watch};
use crate::ctl::Channel;
use crate::folder::{Folder, Made};
use crate::machine::System;
use crate::options::MachineOptions;
use crate::process::{self, say};
use crate::run::Builder;
use crate::steps::Steps;
use crate::workspace::{Workspace, cargo};

/// What `--help` says.
const HELP: &str = include_str!("help/new_guest.txt");

/// The files: where they go, and what they are made from.
const FILES: [(&str, &str); 6] = [
    ("Cargo.toml", include_str!("template/manifest.txt")),
    (".cargo/config.toml", include_str!("template/config.txt")),
    ("build.rs", include_str!("template/build.txt")),
    ("src/main.rs", include_str!("template/main.txt")),
    ("README.md", include_str!("template/readme.txt")),
    (".gitignore", "/target\n/disk.img\n"),
];

/// What a guest is to have.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct With {
    /// A disk.
    pub(crate) blk: bool,
    /// A network card.
    pub(crate) net: bool,
}

/// Reads the command's own words, and makes the crate.
///
/// # Errors
///
/// When a word is unknown, or the folder cannot be made.
pub(crate) fn command(mut words: lexopt::Parser) -> Result<ExitCode> {
    let (mut path, mut with) = (None::<OsString>, With::default());
    while let Some(word) = words.next()? {
        match word {
            Short('h') | Long("help") => {
                print!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            Long("with") => with = With::named(&words.value()?.string()?)?,
            Value(word) if path.is_none() => path = Some(word),
            other => return Err(other.unexpected().into()),
        }
    }
    let path = path.context("where to? `cargo xtask new-guest PATH`")?;
    let workspace = Workspace::find()?;
    make(&workspace, Path::new(&path), with)?;
    say(format!("{} is there: its README.md says what to change first", path.display()));
    say(format!("to boot it: cargo xtask run {}", path.display()));
    Ok(ExitCode::SUCCESS)
}

impl With {
    fn named(words: &str) -> Result<Self> {
        let mut with = Self::default();
        for word in words.split(',') {
            match word {
                "blk" => with.blk = true,
                "net" => with.net = true,
                _ => bail!("--with {words}: it is `blk`, `net` or `blk,net`"),
            }
        }
        Ok(with)
    }

    /// Whether a line of a template is meant: `condition` is a part, `a|b`, `a+b`, `a-b`, or `plain`.
    fn meets(self, condition: &str) -> Option<bool> {
        Some(match condition {
            "plain" => !self.blk && !self.net,
            "blk" => self.blk,
            "net" => self.net,
            "blk|net" => self.blk || self.net,
            "blk+net" => self.blk && self.net,
            "blk-net" => self.blk && !self.net,
            "net-blk" => self.net && !self.blk,
            "plain|blk-net" => !self.net,
            _ => return None,
        })
    }

    /// The lines of a template that are meant.
    fn choose(self, template: &str) -> String {
        let mut text = String::new();
        for line in template.lines() {
            let tagged = line.strip_prefix('[').and_then(|rest| rest.split_once(']'));
            let chosen = tagged.and_then(|(tag, rest)| Some((self.meets(tag)?, rest)));
            match chosen {
                Some((false, _)) => continue,
                Some((true, rest)) => text += rest,
                None => text += line,
            }
            text.push('\n');
        }
        text
    }
}

/// Makes the crate in a folder that is not there yet, or is empty.
///
/// # Errors
///
/// When there is something in it, its name is no crate's, or a file cannot be written.
pub(crate) fn make(workspace: &Workspace, path: &Path, with: With) -> Result<()> {
    let path = std::path::absolute(path)?;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
    ensure!(
        name.starts_with(|letter: char| letter.is_ascii_alphabetic()) && name.chars().all(fits),
        "{}: the folder's name is the crate's: letters, digits, `-` and `_`",
        path.display()
    );
    if let Ok(mut entries) = path.read_dir() {
        ensure!(entries.next().is_none(), "{} is not empty: choose another", path.display());
    }
    let sdk = workspace.root.join("pv-guest-sdk");
    let words = [
        ("@NAME@", name),
        ("@SDK@", &sdk.display().to_string()),
        ("@ROOT@", &workspace.root.display().to_string()),
        ("@PATH@", &path.display().to_string()),
    ];
    for (file, template) in FILES {
        let text = words
            .iter()
            .fold(with.choose(template), |text, (word, value)| text.replace(word, value));
        let file = path.join(file);
        let folder = file.parent().unwrap_or(&path);
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&file, text))
            .with_context(|| format!("cannot make {}", file.display()))?;
    }
    // The versions that are known to work, and that are here already.
    std::fs::copy(workspace.root.join("Cargo.lock"), path.join("Cargo.lock"))?;
    Ok(())
}

/// Makes a guest of each kind, and boots it as a user would: on our kernel and on Xen.
pub(crate) fn test(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &MachineOptions,
    steps: &mut Steps,
) {
    let kinds = [("plain", With::default()), ("disk", With { blk: true, net: false })];
    let net = [("net", With { blk: false, net: true }), ("both", With { blk: true, net: true })];
    for (name, with) in kinds.into_iter().chain(net) {
        steps.run(&format!("a new guest of one's own: {name}"), || {
            let scratch = workspace.scratch("new-guest")?;
            let path = scratch.join(name);
            let _an_earlier_one = std::fs::remove_dir_all(&path);
            make(workspace, &path, with)?;
            // The SDK is compiled once for all of them.
            let target = scratch.join("target");
            std::fs::create_dir_all(&target)?;
            std::os::unix::fs::symlink(target, path.join("target"))?;
            let mut format = Command::new(cargo());
            process::succeed(format.args(["fmt", "--check"]).current_dir(&path))?;
            let folder = Folder::find(&path)?;
            for (start, system) in [(1, System::Paravane), (2, System::Xen)] {
                let made = folder.machine(builder, (system, ""), options, &scratch)?;
                try_out(&made, with, start, &scratch).with_context(|| system.name())?;
            }
            Ok(())
        });
    }
}

/// Boots a guest as it was made, for the `start`th time with its disk.
fn try_out(made: &Made, with: With, start: u32, scratch: &Path) -> Result<()> {
    let wanted = match with {
        With { net: true, blk: true } => format!("This is page 1 of start {start} with this disk."),
        With { net: true, .. } => "This is page number 1.".into(),
        With { blk: true, .. } => format!("start number {start} with this disk"),
        _ => "beat 3".into(),
    };
    let limit = Instant::now() + made.machine.options.limit;
    let (record, page) = std::thread::scope(|scope| {
        let boot = scope.spawn(|| boot::boot(&made.machine, Watch::Nobody, scratch));
        let page = made.ports.first().map(|(port, _)| visit(&made.name, *port, limit, scratch));
        let record = boot.join().map_err(|_| anyhow::anyhow!("the boot has panicked"))??;
        Ok::<_, anyhow::Error>((record, page))
    })?;
    let said = match page {
        Some(page) => page.with_context(|| record.report.clone())?,
        None => record.console.transcript(),
    };
    ensure!(record.end == End::Success, "{}\n{}", record.end, record.report);
    ensure!(said.contains(&wanted), "it should say `{wanted}`:\n{said}");
    Ok(())
}

/// Fetches a page from the guest when it serves, and ends the machine.
fn visit(name: &str, port: u16, limit: Instant, scratch: &Path) -> Result<String> {
    let mut channel = Channel::wait(scratch, limit)?;
    let page = (|| {
        while !channel.says(name, "serving at")? {
            ensure!(Instant::now() < limit, "it does not serve");
        }
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(limit.checked_duration_since(Instant::now()))?;
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        Ok(page)
    })();
    let _the_machine_may_be_gone = channel.ask("poweroff", &[], true);
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_a_template_is_for_somebody() {
        let tags = |text: &'static str| {
            text.lines().filter_map(|line| Some(line.strip_prefix('[')?.split_once(']')?.0))
        };
        for (file, template) in FILES {
            for tag in tags(template) {
                let known = With::default().meets(tag).is_some();
                // A table of the manifest looks alike.
                assert!(known || file.ends_with(".toml"), "{file}: [{tag}]");
            }
        }
        assert!(With::named("blk,net,x").is_err());
        let both = With::named("net,blk").expect("both");
        assert_eq!(both.choose("a\n[plain]b\n[blk+net]c\n[package]\n"), "a\nc\n[package]\n");
    }
}
