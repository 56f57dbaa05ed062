//! What it costs to make a domain and to end it.

use anyhow::{Context, Result, ensure};

use super::machine;
use super::session::Session;
use crate::machine::System;
use crate::options::MachineOptions;
use crate::process::say;
use crate::rule;
use crate::run::Builder;
use crate::workspace::Workspace;

/// The domain's memory. Unit: MiB.
const MEMORY: u64 = 32;
/// What it costs to fill that with zeros, once: a store for each word of 8 bytes.
const ZEROING: u64 = (MEMORY << 20) / 8;
/// The most that it may cost to make a domain and to end it, beside filling its memory with zeros.
/// Unit: instructions of the whole machine.
const MOST: [(&str, &str, u64); 2] =
    [("making a domain", "create", 3_300_000), ("ending it", "destroy", 2_450_000)];

/// Has domains made and ended where time counts instructions, so that figures repeat.
///
/// # Errors
///
/// When a domain can't be made, or costs more than it may.
pub(super) fn costs(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &MachineOptions,
) -> Result<()> {
    let scratch = workspace.scratch("life-costs")?;
    let echo = std::fs::read(builder.example("echo")?)?;
    let config = format!("name = 'echo'\nkernel = 'echo'\nmemory = {MEMORY}\n");
    let bundle = [("echo.cfg".into(), config.into()), ("echo".into(), echo)];
    let options = MachineOptions { smp: 1, icount: true, ..options.clone() };
    let mut machine = machine(builder, System::Paravane, &bundle, &options, &scratch)?;
    machine.guest_args = "operator".into();
    let mut took = [0; MOST.len()];
    rule::drive(&machine, &scratch, |channel, deadline| {
        let mut session = Session::new(channel, deadline);
        // Of three the last: tables grow with the first.
        for _ in 0..3 {
            for ((_, verb, _), took) in MOST.iter().zip(&mut took) {
                let answer = session.order(&format!("{verb} echo"))?;
                *took = answer["took"].as_u64().context("no time")?;
                if *verb == "create" {
                    *took = took.saturating_sub(ZEROING);
                    session.hears("echo", "echo listens")?;
                }
            }
        }
        Ok(())
    })?;
    let mut dear = Vec::new();
    for ((name, _, most), cost) in MOST.iter().zip(took) {
        say(format!("    {name}: {cost} instructions, of at most {most}"));
        dear.extend((cost > *most).then_some(*name));
    }
    ensure!(dear.is_empty(), "dearer than it may be: {}", dear.join(", "));
    Ok(())
}

/// The ramdisk of a domain that is made again and again. Unit: bytes.
const RAMDISK: usize = 16 << 20;
/// The most that a read may cost meanwhile: what is done at once of ending one such domain.
/// Unit: instructions of the whole machine.
const LONGEST: u64 = 6_000_000;

/// Has a large domain made again and again while another reads, and asks what its dearest read cost.
///
/// # Errors
///
/// When it cost more than it may.
pub(super) fn waits(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &MachineOptions,
) -> Result<()> {
    let scratch = workspace.scratch("life-waits")?;
    let mut bundle = Vec::new();
    for name in ["blk", "hello"] {
        bundle.push((name.to_owned(), std::fs::read(builder.example(name)?)?));
    }
    bundle.push(("ramdisk".into(), vec![0x5a; RAMDISK]));
    let large = "name = 'large'\nkernel = 'hello'\nramdisk = 'ramdisk'\nmemory = 64\n\
                 on_poweroff = 'restart'\n";
    let reader = "name = 'reader'\nkernel = 'blk'\nmemory = 16\non_poweroff = 'preserve'\n\
                  disk = ['ram:1,raw,xvda,w']\nextra = 'longest'\n";
    bundle.push(("large.cfg".into(), large.into()));
    bundle.push(("reader.cfg".into(), reader.into()));
    let options = MachineOptions { smp: 1, icount: true, ..options.clone() };
    let mut machine = machine(builder, System::Paravane, &bundle, &options, &scratch)?;
    machine.guest_args = "operator large".into();
    let mut cost = 0;
    rule::drive(&machine, &scratch, |channel, deadline| {
        let mut session = Session::new(channel, deadline);
        session.order("create reader")?;
        session.hears("reader", "dearest of ")?;
        let log = session.order("log reader")?;
        let said = log["text"].as_str().unwrap_or_default();
        let found = said.lines().find_map(|line| line.split_once("cost~"));
        cost = found.with_context(|| format!("no cost in:\n{said}"))?.1.parse()?;
        session.order("destroy reader").map(drop)
    })?;
    say(format!("    the dearest read: {cost} instructions, of at most {LONGEST}"));
    ensure!(cost <= LONGEST, "a read waits for what is done of another domain");
    Ok(())
}
