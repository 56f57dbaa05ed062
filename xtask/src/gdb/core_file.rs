//! Cores of domains: of one that has crashed and one that runs, by the control channel, and of one whose
//! core is kept on the disk; gdb is to find in them who called whom.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::block;
use crate::ctl::Channel;
use crate::machine::System;
use crate::options::MachineOptions;
use crate::packages;
use crate::process;
use crate::rule;
use crate::run::Builder;
use crate::steps::Steps;
use crate::workspace::Workspace;

/// Where cores are kept on the disk. Unit: sectors of 512 bytes.
const PLACE: [u64; 2] = [2048, 65536];
/// The longest that a boot may take.
const LIMIT: Duration = Duration::from_secs(600);
/// What the guest `fails` does when it ends, from what it was at last back to its beginning.
const CHAIN: [&str; 5] = ["panic", "fails::deeper", "fails::deeper", "entry::run", "_start"];

/// Dumps domains, on both systems.
pub(super) fn test(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &MachineOptions,
    steps: &mut Steps,
) {
    for system in [System::Paravane, System::Xen] {
        steps.run(&format!("gdb opens cores of domains on {}", system.name()), || {
            on(system, workspace, builder, options)
        });
    }
}

fn on(
    system: System,
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &MachineOptions,
) -> Result<()> {
    packages::provide(&[packages::GDB])?;
    let scratch = workspace.scratch(&format!("cores-{}", system.name()))?;
    let [fails, echo] = [builder.example("fails")?, builder.example("echo")?];
    let config = |name: &str, kernel: &str, then: &str| {
        let text = format!(
            "name = '{name}'\nkernel = '{kernel}'\nmemory = 16\nextra = 'panic'\non_crash = '{then}'\n"
        );
        (format!("{name}.cfg"), text.into_bytes())
    };
    let bundle = vec![
        ("fails".to_owned(), std::fs::read(&fails)?),
        ("echo".to_owned(), std::fs::read(&echo)?),
        config("crash", "fails", "preserve"),
        config("kept", "fails", "coredump-destroy"),
        config("runs", "echo", "destroy"),
    ];
    let mut options = options.clone();
    options.limit = options.limit.max(LIMIT);
    let mut machine = block::machine(builder, system, &bundle, &options, &scratch)?;
    let [first, sectors] = PLACE;
    machine.guest_args = format!("operator cores=/dev/vda@{first}+{sectors}");
    let disk = scratch.join("disk.img");
    File::create(&disk)?.set_len(512 * (first + sectors))?;
    machine.disks = vec!["disk.img".into()];
    rule::drive(&machine, &scratch, |channel, _| {
        dumped(channel, [("crash", &fails), ("runs", &echo)], &scratch)
    })?;
    let mut kept = Vec::new();
    let mut disk = File::open(disk)?;
    disk.seek(SeekFrom::Start(512 * first))?;
    disk.read_to_end(&mut kept)?;
    let file = scratch.join("kept");
    std::fs::write(&file, kept)?;
    backtrace(&fails, &file, &CHAIN)
}

/// Has the three domains dumped.
fn dumped(channel: &mut Channel, [crash, runs]: [(&str, &Path); 2], scratch: &Path) -> Result<()> {
    let [core, other] = ["crash", "runs"].map(|name| scratch.join(name));
    let words = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let _there_is_none = std::fs::remove_file(&core);
    let ended = channel.dump("none", &core)?;
    ensure!(ended == Err("there is no domain `none`".into()) && !core.exists(), "{ended:?}");
    order(channel, "create", &words("crash"))?;
    while !order(channel, "list", &words("crash"))?.contains("---sc-") {}
    order(channel, "dump-core", &words("crash /dev/vda@0+2048")).map_or_else(
        |error| {
            let is = error.to_string().contains("/dev/vda@0+2048 has 1 MiB, and the core ");
            if is { Ok(()) } else { Err(error) }
        },
        |answer| bail!("there is no room for a core, and dom0 says: {answer}"),
    )?;
    if let Err(error) = channel.dump(crash.0, &core)? {
        bail!("crash: {error}");
    }
    backtrace(crash.1, &core, &CHAIN)?;
    order(channel, "create", &words("runs"))?;
    while !channel.says("runs", "echo listens")? {}
    if let Err(error) = channel.dump(runs.0, &other)? {
        bail!("runs: {error}");
    }
    backtrace(runs.1, &other, &["pv_guest_sdk::", "__pv_guest_main", "_start"])?;
    order(channel, "input", &["runs".into(), "on\n".into()])?;
    while !channel.says("runs", "you said: on")? {}
    order(channel, "create", &words("kept"))?;
    while channel.ask("list", &words("kept"), true)?.is_ok() {}
    order(channel, "destroy", &words("crash"))?;
    order(channel, "destroy", &words("runs"))?;
    Ok(())
}

/// Says a verb that is to be done.
fn order(channel: &mut Channel, verb: &str, words: &[String]) -> Result<String> {
    match channel.ask(verb, words, true)? {
        Ok(answer) => Ok(answer.as_str().unwrap_or_default().to_owned()),
        Err(error) => bail!("{verb}: {error}"),
    }
}

/// Has gdb say who called whom, which is to be so.
fn backtrace(guest: &Path, core: &Path, chain: &[&str]) -> Result<()> {
    let mut gdb = Command::new("gdb");
    gdb.args(["-batch", "-nx", "-ex", "bt"]).args([guest, core]);
    let said = String::from_utf8_lossy(&process::output(&mut gdb)?).into_owned();
    let mut rest = &*said;
    for name in chain {
        let Some((_, behind)) = rest.split_once(name) else {
            bail!("gdb should find {name}:\n{said}");
        };
        rest = behind;
    }
    Ok(())
}
