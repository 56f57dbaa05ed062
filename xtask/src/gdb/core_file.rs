//! Cores of domains: of one that has crashed and one that runs, by the control channel, and of one whose
//! core is kept on the disk; gdb is to find in them who called whom.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Error, Result, bail, ensure};

use crate::block::{self, session::Session};
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
    rule::drive(&machine, &scratch, |channel, deadline| {
        dumped(&mut Session::new(channel, deadline), [&fails, &echo], &scratch)
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
fn dumped(session: &mut Session<'_>, [fails, echo]: [&Path; 2], scratch: &Path) -> Result<()> {
    let [core, other] = ["crash", "runs"].map(|name| scratch.join(name));
    let _there_is_none = std::fs::remove_file(&core);
    let ended = session.dump("none", &core)?;
    ensure!(ended == Err("there is no domain `none`".into()) && !core.exists(), "{ended:?}");
    session.order("create crash")?;
    while session.order("list crash")?[0]["state"] != "---sc-" {}
    let no_room = "/dev/vda@0+2048 has 1 MiB, and the core ";
    session.refused("dump-core crash /dev/vda@0+2048", no_room)?;
    session.dump("crash", &core)?.map_err(Error::msg).context("crash")?;
    backtrace(fails, &core, &CHAIN)?;
    session.order("create runs")?;
    session.hears("runs", "echo listens")?;
    session.dump("runs", &other)?.map_err(Error::msg).context("runs")?;
    backtrace(echo, &other, &["pv_guest_sdk::", "__pv_guest_main", "_start"])?;
    session.order("input runs on\n")?;
    session.hears("runs", "you said: on")?;
    session.order("create kept")?;
    while session.ask("list kept")?.is_ok() {}
    session.order("destroy crash")?;
    session.order("destroy runs").map(drop)
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
