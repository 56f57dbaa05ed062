//! Faults of the path of disks: guests that lie, disks that fail, configurations that are wrong, and
//! domains that are destroyed at work. Whatever happens, others go on, and nothing is left behind.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::session::Session;
use super::{Bundle, image, machine};
use crate::boot::{self, End, Watch};
use crate::machine::{Machine, System};
use crate::options::TestOptions;
use crate::rule;
use crate::run::Builder;
use crate::steps::Steps;
use crate::workspace::Workspace;

/// The longest that one of the boots may take: machines are slow that have little of a processor.
const LIMIT: Duration = Duration::from_secs(1800);
/// How many domains are destroyed at work, and how many in the full test.
const CYCLES: u32 = 20;
const MANY_CYCLES: u32 = 1000;

/// The sectors of a disk that fail: for reads, for writes, for the first write.
const BAD: [u64; 3] = [1000, 2000, 3000];
/// How large that disk is. Unit: sectors of 512 bytes.
const SECTORS: u64 = 4096;

/// What all the steps share.
struct Bench<'a, 'b> {
    workspace: &'a Workspace,
    builder: &'a mut Builder<'b>,
    options: &'a TestOptions,
}

/// The steps.
pub(crate) fn test(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &TestOptions,
    steps: &mut Steps,
) {
    let mut bench = Bench { workspace, builder, options };
    for (system, cpus) in [(System::Paravane, 2), (System::Xen, 1)] {
        let name = system.name();
        steps.run(&format!("guests that lie to back ends on {name}"), || bench.lies(system, cpus));
    }
    steps.run("disks that fail on paravane", || bench.errors());
    steps.run("configurations of disks that are wrong on paravane", || bench.wrong());
    let cycles = if options.full { MANY_CYCLES } else { CYCLES };
    steps.run(&format!("{cycles} domains destroyed at work on paravane"), || bench.cycles(cycles));
}

/// A configuration: its file's name, and its text. A domain that crashes stays, with what it said.
fn config(name: &str, kernel: &str, disks: &str, extra: &str) -> (String, Vec<u8>) {
    let text = format!(
        "name = '{name}'\nkernel = '{kernel}'\nmemory = 24\non_crash = 'preserve'\ndisk = [{disks}]\nextra = '{extra}'\n"
    );
    (format!("{name}.cfg"), text.into_bytes())
}

impl Bench<'_, '_> {
    /// A machine whose dom0 does what an operator says, with the first disk a copy of that of `blk`.
    /// The second is the file `second`.
    fn machine(
        &mut self,
        system: System,
        cpus: u32,
        bundle: &Bundle,
        (second, scratch): (&str, &Path),
    ) -> Result<(Machine, image::Images)> {
        let images = image::provide(&self.workspace.scratch("disk-images")?)?;
        std::fs::copy(&images.disk, scratch.join("first.img"))?;
        let mut options = self.options.machine.clone();
        (options.smp, options.limit) = (cpus, options.limit.max(LIMIT));
        let mut machine = machine(self.builder, system, bundle, &options, scratch)?;
        machine.guest_args = "operator".into();
        // QEMU runs in that folder.
        machine.disks = ["first.img", second].map(PathBuf::from).into();
        Ok((machine, images))
    }

    /// The files of guests, by name.
    fn files(&mut self, examples: &[&str], hostile: &[&str]) -> Result<Vec<(String, Vec<u8>)>> {
        let mut files = Vec::new();
        for &name in examples {
            files.push((name.to_owned(), std::fs::read(self.builder.example(name)?)?));
        }
        for &name in hostile {
            files.push((name.to_owned(), std::fs::read(self.builder.hostile(name)?)?));
        }
        Ok(files)
    }

    /// Has guests lie to the back ends of their disks and to the store, and one take no answer of the
    /// store's, while another works on its disk again and again; twice, so that what is left of the
    /// first time shows.
    fn lies(&mut self, system: System, cpus: u32) -> Result<()> {
        let scratch = self.workspace.scratch(&format!("disk-lies-{}", system.name()))?;
        let disks = "'/dev/vdb,raw,xvda,w', 'ram:1,raw,xvdb,w', 'ram:1,raw,xvdc,r'";
        let mut bundle = self.files(&["blk"], &["liar"])?;
        bundle.push(config("work", "blk", "'/dev/vda1,raw,xvda,w'", ""));
        bundle.push(config("liar", "liar", disks, ""));
        bundle.push(config("talker", "liar", "", "store"));
        bundle.push(config("mute", "liar", "", "mute"));
        std::fs::File::create(scratch.join("second.img"))?.set_len(512 * SECTORS)?;
        let at = ("second.img", &*scratch);
        let (machine, images) = self.machine(system, cpus, &bundle, at)?;
        rule::drive(&machine, &scratch, |channel, deadline| {
            let mut session = Session::new(channel, deadline);
            let mut before = Value::Null;
            for round in 0..2 {
                session.order("create mute")?;
                session.hears("mute", "no answer is taken")?;
                session.order("create liar")?;
                session.order("create talker")?;
                session.order("create work")?;
                loop {
                    let lie = session.lives("liar")? | session.lives("talker")?;
                    if !session.lives("work")? {
                        if !lie {
                            break;
                        }
                        session.order("create work")?;
                    }
                }
                session.order("destroy mute")?;
                match round {
                    0 => before = session.audit()?,
                    // A CPU that is idle keeps the record of the domain it ran last, and Xen more.
                    _ => session.settle(&before, 16 * u64::from(cpus))?,
                }
            }
            Ok(())
        })?;
        images.check_disk(&scratch.join("first.img"), &scratch)
    }

    /// Has a guest meet the errors of a disk, and another work on its own meanwhile.
    fn errors(&mut self) -> Result<()> {
        let scratch = self.workspace.scratch("disk-errors")?;
        let [read, write, once] = BAD;
        let words = format!("read={read} write={write} once={once}");
        let mut bundle = self.files(&["blk"], &["meets-errors"])?;
        bundle.push(config("work", "blk", "'/dev/vda1,raw,xvda,w'", ""));
        bundle.push(config("errors", "meets-errors", "'/dev/vdb,raw,xvda,w'", &words));
        let disk = scratch.join("numbers.img");
        let numbers = |sector: u64| sector.to_le_bytes().repeat(512 / 8);
        std::fs::write(&disk, (0..SECTORS).flat_map(numbers).collect::<Vec<u8>>())?;
        let mut rules = rule_of("flush", None, "on");
        rules += &rule_of("read", Some(read), "off");
        rules += &rule_of("write", Some(write), "off");
        rules += &rule_of("write", Some(once), "on");
        std::fs::write(scratch.join("rules"), rules)?;
        let at = ("blkdebug:rules:numbers.img", &*scratch);
        let (mut machine, images) = self.machine(System::Paravane, 1, &bundle, at)?;
        // Both at once, and the machine ends with them.
        machine.guest_args = String::new();
        let record = boot::boot(&machine, Watch::Nobody, &scratch)?;
        ensure!(record.end == End::Success, "{}\n{}", record.end, record.report);
        images.check_disk(&scratch.join("first.img"), &scratch)?;
        // What the guest has written is there, and nothing else.
        let after = std::fs::read(&disk)?;
        let written = |sector: u64| (sector ^ 0x5a5a_0000_0000_0000).to_le_bytes().repeat(512 / 8);
        let mut count = 0;
        for (sector, found) in (0..).zip(after.chunks(512)) {
            let is_written = found == written(sector);
            let may_be = (write - 300..write + 300).contains(&sector) && sector != write;
            ensure!(
                is_written && (may_be || sector == once) || found == numbers(sector),
                "sector {sector} has something else in it"
            );
            count += u32::from(is_written);
        }
        // 64 behind the bad one, one that was tried again, and many more before.
        ensure!(count > 300, "{count} sectors are written");
        Ok(())
    }

    /// Asks for domains that cannot be, of which nothing is to be left.
    fn wrong(&mut self) -> Result<()> {
        let scratch = self.workspace.scratch("disk-wrong")?;
        let mut bundle = self.files(&["echo"], &[])?;
        let echo = bundle.first().map(|(_, bytes)| bytes.clone()).context("no echo")?;
        bundle.push(("half".into(), echo.get(..echo.len() / 2).unwrap_or_default().into()));
        bundle.push(("text".into(), b"#!/bin/sh\n".into()));
        let one = "'/dev/vda1,raw,xvda,w'";
        bundle.push(config("one", "echo", one, ""));
        bundle.push(config("reader", "echo", "'/dev/vda1,raw,xvda,r'", ""));
        bundle.push(("syntax.cfg".into(), b"name = 'syntax'\nkernel = 'echo'\nmemory 16\n".into()));
        let key = b"name = 'key'\nkernel = 'echo'\nmemory = 16\ndisk = ['/dev/vda1,raw,hda9z,w']\n";
        bundle.push(("key.cfg".into(), key.into()));
        let numbers = vec![0x11; 512 * usize::try_from(SECTORS)?];
        std::fs::write(scratch.join("numbers.img"), numbers)?;
        std::fs::write(scratch.join("rules"), rule_of("read", Some(1), "off"))?;
        let at = ("blkdebug:rules:numbers.img", &*scratch);
        let (machine, _) = self.machine(System::Paravane, 1, &bundle, at)?;
        rule::drive(&machine, &scratch, |channel, deadline| {
            let mut session = Session::new(channel, deadline);
            shares(&mut session)?;
            let before = session.audit()?;
            for (words, error) in WRONG {
                session.refused(words, error)?;
            }
            shares(&mut session)?;
            session.settle(&before, 0)
        })?;
        Ok(())
    }

    /// Destroys domains that have 32 requests in flight, so many, one after the other.
    fn cycles(&mut self, count: u32) -> Result<()> {
        let scratch = self.workspace.scratch("disk-cycles")?;
        let mut bundle = self.files(&["blk"], &["liar"])?;
        bundle.push(config("copied", "blk", "'/dev/vda2,raw,xvda,w'", "load"));
        bundle.push(config("kept", "liar", "'/dev/vdb,raw,xvda,w'", "load"));
        bundle.push(config("memory", "blk", "'ram:4,raw,xvda,w'", "load"));
        std::fs::File::create(scratch.join("second.img"))?.set_len(512 * SECTORS)?;
        let at = ("second.img", &*scratch);
        let (mut machine, _) = self.machine(System::Paravane, 1, &bundle, at)?;
        machine.options.limit = machine.options.limit.max(Duration::from_secs(5) * count);
        rule::drive(&machine, &scratch, |channel, deadline| {
            let mut session = Session::new(channel, deadline);
            let mut before = Value::Null;
            // The first of each kind are not counted: tables grow with them.
            for round in 0..count + 3 {
                if round == 3 {
                    before = session.audit()?;
                }
                let names = ["copied", "kept", "memory"];
                let name = names[round as usize % names.len()];
                session.order(&format!("create {name}"))?;
                session.hears(name, "at work")?;
                session.order(&format!("destroy {name}"))?;
            }
            session.settle(&before, 0)
        })?;
        Ok(())
    }
}

/// A rule of QEMU's `blkdebug`: of which requests, those of a sector or all, and whether the first alone
/// fails.
fn rule_of(kind: &str, sector: Option<u64>, once: &str) -> String {
    let sector = sector.map_or(String::new(), |sector| format!("sector = \"{sector}\"\n"));
    format!(
        "[inject-error]\nevent = \"none\"\niotype = \"{kind}\"\n{sector}once = \"{once}\"\nerrno = \"5\"\n"
    )
}

/// A disk is one domain's, or that of some who read.
fn shares(session: &mut Session<'_>) -> Result<()> {
    session.order("create one")?;
    session.refused("create one", "there is a domain `one` already")?;
    for words in ["create one name=other", "create reader"] {
        session.refused(
            words,
            &format!("{}: /dev/vda1: it is written by another domain", last(words)),
        )?;
    }
    session.order("destroy one")?;
    session.order("create reader")?;
    session.order("create reader name=other")?;
    session.refused("create one", "one: /dev/vda1: it is read by another domain")?;
    let whole = "create one disk=['/dev/vda,raw,xvda,w']";
    session.refused(whole, "one: /dev/vda: it is read by another domain")?;
    session.order("destroy reader")?;
    session.order("destroy other").map(drop)
}

/// The name of the domain that words ask for.
fn last(words: &str) -> &str {
    words.rsplit([' ', '=']).next().unwrap_or_default()
}

/// What is asked for, and how the error begins.
const WRONG: [(&str, &str); 20] = [
    ("create none", "no configuration is called `none`"),
    ("create syntax", "syntax.cfg:3: "),
    ("create key", "key.cfg:4: `disk`: "),
    ("create one kernel=none", "one: no file `none` in the bundle"),
    ("create one kernel=half", "one: it can't be built: "),
    ("create one kernel=text", "one: it can't be built: "),
    ("create one kernel=one.cfg", "one: it can't be built: "),
    ("create one ramdisk=none", "one: no file `none` in the bundle"),
    ("create one memory=100000", "one: 100000 MiB of memory are wanted, and "),
    ("create one memory=1", "one: it can't be built: "),
    ("create one memory=0", "memory=0:1: `memory`: "),
    ("create one nonsense", "nonsense:1: "),
    ("create one disk=['/dev/vdz,raw,xvda,w']", "one: /dev/vdz: there is no such disk (vda, vdb)"),
    ("create one disk=['/dev/vda9,raw,xvda,w']", "one: /dev/vda9: there is no such partition"),
    ("create one disk=['/dev/vdb1,raw,xvda,w']", "one: /dev/vdb1: "),
    (
        "create one disk=['/dev/vda@1+99999999,raw,xvda,w']",
        "one: /dev/vda@1+99999999: not within the disk",
    ),
    (
        "create one disk=['/dev/vda@18446744073709551615+2,raw,xvda,w']",
        "one: /dev/vda@18446744073709551615+2: not within the disk",
    ),
    ("create one disk=['ram:0,raw,xvda,w']", "one: ram:0: "),
    ("create one disk=['ram:1000,raw,xvda,w']", "one: ram:1000: "),
    ("create one disk=['file:none,raw,xvda,r']", "one: file:none: not in the bundle"),
];
