//! Runs the guests in its ramdisk as domains of their own, all at once, shows what they say, and
//! tells how each ended. It ends well if all of them did.
//!
//! Command line: names of the files to run, all of them if there are none. `NAME=WORD,WORD` gives a
//! guest the command line `WORD WORD`. Of those words `weight:N` and `cap:N` are not for the guest:
//! they are the domain's weight (256) and the percent of one CPU it may use at most (0: no limit).
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::{boxed::Box, format, vec::Vec};
use core::error::Error;

use pv_guest_sdk::abi::domctl::{Credit2, SCHEDULER_CREDIT2, SCHEDULER_PUT, SchedulerOp};
use pv_guest_sdk::abi::types::{PAGE_SIZE, Port};
use pv_guest_sdk::abi::virq;
use pv_guest_sdk::control::{ControlError, Domain, Foreign, Plain};
use pv_guest_sdk::event::Channel;
use pv_guest_sdk::paging::{Memory, Page};
use pv_guest_sdk::time::Duration;
use pv_guest_sdk::{BootInfo, Machine, entry, println, vary, vcpu::Vcpu, wait};
use toolstack::archive::{File, files};
use toolstack::build::{self, Settings};
use toolstack::end::End;
use toolstack::lines::Lines;

entry!(main);
pv_guest_sdk::heap!();

/// Where frames of domains are mapped: one while it is built, one console each.
const WINDOW: u64 = 0xffff_a000_0000_0000;
/// Each domain's memory: 16 MiB. Unit: pages.
const PAGES: u64 = 4096;
/// Each domain's virtual CPUs, as many as the initial domain has.
const VCPUS: u32 = 4;

/// A domain that runs, or did.
struct Child<'a> {
    name: &'a str,
    domain: Domain,
    /// Its console's ring, until it has ended.
    console: Option<Foreign>,
    channel: Channel,
    lines: Lines,
    end: Option<End>,
}

fn main(boot: &BootInfo<'static>) -> Result<(), Box<dyn Error>> {
    let vcpu = Vcpu::start(boot)?;
    Memory::start(boot)?;
    let ended = Channel::virq(virq::DOM_EXC, vcpu.id())?;
    ended.mask();
    let mut children = Vec::new();
    for file in files(boot.ramdisk()) {
        let file = file?;
        let all = boot.arguments().next().is_none();
        let chosen = boot.arguments().map(parts).find(|(name, _)| *name == file.name);
        if let Some((_, words)) = chosen.or(all.then_some((file.name, ""))) {
            children.push(
                start(file, words, children.len() + 1)
                    .map_err(|error| format!("{}: {error}", file.name))?,
            );
        }
    }
    if let Some(word) =
        boot.arguments().find(|word| children.iter().all(|it| it.name != parts(word).0))
    {
        return Err(format!("no file {word} in the ramdisk").into());
    }
    children.iter().try_for_each(|child| child.domain.control(Plain::Unpause))?;
    watch(&mut children, &ended)?;
    let well = children.iter().filter(|child| child.end.is_some_and(End::is_success)).count();
    println!("{well} of {} domains ended well", children.len());
    if well == children.len() { Ok(()) } else { Err("not all domains ended well".into()) }
}

/// A word of the command line: a file's name, and words for the guest.
fn parts(word: &str) -> (&str, &str) {
    word.split_once('=').unwrap_or((word, ""))
}

/// The page of a window, by its number.
fn window(number: usize) -> Result<Page, ControlError> {
    let address = WINDOW + (number * PAGE_SIZE) as u64;
    Page::at(address).ok_or(ControlError::Gone)
}

fn start<'a>(file: File<'a>, words: &str, number: usize) -> Result<Child<'a>, Box<dyn Error>> {
    let (ours, theirs): (Vec<&str>, Vec<&str>) =
        words.split(',').partition(|word| word.contains(':'));
    let command_line = &theirs.join(" ");
    let settings =
        Settings { image: file.bytes, ramdisk: &[], command_line, pages: PAGES, vcpus: VCPUS };
    let built = build::domain(&settings, window(0)?)?;
    share(&built.domain, &ours)?;
    let console = Some(built.domain.map(window(number)?, built.console)?);
    let channel = Channel::connect(built.domain.id(), built.console_port)?;
    channel.mask();
    let (name, domain) = (file.name, built.domain);
    Ok(Child { name, domain, console, channel, lines: Lines::default(), end: None })
}

/// Sets what share of the CPUs a domain has, by words such as `weight:512` and `cap:30`.
fn share(domain: &Domain, words: &[&str]) -> Result<(), Box<dyn Error>> {
    let mut credit2 = Credit2 { weight: 256, cap: 0 };
    for word in words {
        let (name, value) = word.split_once(':').unwrap_or((word, ""));
        let field = match name {
            "weight" => &mut credit2.weight,
            "cap" => &mut credit2.cap,
            _ => return Err(format!("`{name}` is nothing that a domain can have").into()),
        };
        *field = value.parse().map_err(|_| format!("`{value}` is no {name}"))?;
    }
    let (sched_id, cmd) = (SCHEDULER_CREDIT2, SCHEDULER_PUT);
    domain.apply(&mut SchedulerOp { sched_id, cmd, credit2, ..SchedulerOp::default() })?;
    Ok(())
}

/// Shows what domains say, until all of them have ended.
fn watch(children: &mut [Child<'_>], ended: &Channel) -> Result<(), Box<dyn Error>> {
    let mut ports: Vec<Port> = children.iter().map(|child| child.channel.port()).collect();
    ports.push(ended.port());
    while children.iter().any(|child| child.end.is_none()) {
        // What comes after this is pending when the poll begins, and ends it at once.
        ended.take_pending();
        for child in children.iter_mut().filter(|child| child.end.is_none()) {
            child.channel.take_pending();
            child.look()?;
        }
        if children.iter().any(|child| child.end.is_none()) {
            wait::poll(&Machine, &ports, None)?;
        }
    }
    Ok(())
}

impl Child<'_> {
    /// Shows what the domain has said, and buries it if it has ended.
    fn look(&mut self) -> Result<(), Box<dyn Error>> {
        let end = End::of(&self.domain.info()?);
        let mut text = [0; 512];
        loop {
            let taken = self.console.as_ref().map_or(0, |it| it.console().take(&mut text));
            if taken == 0 {
                break;
            }
            let name = self.name;
            let text = text.get(..taken).unwrap_or_default();
            self.lines.feed(text, |line| println!("{name}| {line}"));
            // One that waits for room goes on.
            let _is_gone = self.channel.send();
        }
        if let Some(end) = end {
            self.lines.end(|line| println!("{}| {line}", self.name));
            let ran = Duration::from_nanos(self.domain.info()?.cpu_time);
            println!("{}: {end} after {}", self.name, vary!("ran", "{:?}", ran));
            // A frame that is mapped would keep what is left of the domain.
            self.console = None;
            self.domain.control(Plain::Destroy)?;
            self.end = Some(end);
        }
        Ok(())
    }
}
