//! `cargo xtask run blk`: our control domain with a disk of the machine's, and a domain that uses it;
//! and the tests of that path.

pub(crate) mod faults;
pub(crate) mod image;
mod lives;
mod same;
pub(crate) mod session;

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::boot::{self, End, Record, Watch};
use crate::cpio::Archive;
use crate::machine::{Machine, System};
use crate::options::{MachineOptions, RunOptions, TestOptions};
use crate::process::say;
use crate::run::{Builder, GuestChoice};
use crate::steps::Steps;
use crate::workspace::Workspace;
use crate::xen_linux::{self, Domain};

/// What is in a boot bundle: names and bytes.
pub(crate) type Bundle = [(String, Vec<u8>)];

/// A machine with our control domain and its bundle.
///
/// # Errors
///
/// When a part of it cannot be provided.
pub(crate) fn machine(
    builder: &mut Builder<'_>,
    system: System,
    bundle: &Bundle,
    options: &MachineOptions,
    scratch: &Path,
) -> Result<Machine> {
    let guest = GuestChoice::Built { package: "dom0".into(), name: "dom0".into() };
    let mut machine = builder.machine(system, &guest, options)?;
    let mut archive = Archive::default();
    for (name, bytes) in bundle {
        archive.file(name, bytes);
    }
    let path = scratch.join("bundle.cpio");
    std::fs::write(&path, archive.finish())?;
    machine.ramdisk = Some(path);
    Ok(machine)
}

/// The guest `blk` at its work, on one of the systems.
pub(crate) struct Work<'a> {
    /// The system.
    pub(crate) system: System,
    /// The machine.
    pub(crate) machine: MachineOptions,
    /// The guest's command line.
    pub(crate) args: &'a str,
    /// More words for the hypervisor.
    pub(crate) kernel_args: &'a str,
    /// Who watches.
    pub(crate) watch: Watch,
}

/// Has the guest `blk` work on a fresh copy of a disk, and checks then what it has left there.
///
/// # Errors
///
/// When the machine cannot be made, or the disk is not as it should be after a boot that ended well.
pub(crate) fn work(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    work: &Work<'_>,
    scratch: &Path,
) -> Result<Record> {
    let images = image::provide(&workspace.scratch("disk-images")?)?;
    let below_linux = work.system.is_below_linux();
    let disk = scratch.join("disk.img");
    // Linux would give the domain the whole disk.
    std::fs::copy(if below_linux { &images.fat } else { &images.disk }, &disk)?;
    let blk = builder.example("blk")?;
    let mut machine = if below_linux {
        let mut domain = Domain::new("blk", blk, work.args);
        domain.disks.push(disk.clone());
        let job = (&[domain][..], None);
        xen_linux::machine(workspace, builder, work.system, job, &work.machine, scratch)?
    } else {
        let config = format!(
            "name = 'blk'\nkernel = 'blk'\nmemory = 16\ndisk = ['/dev/vda1,raw,xvda,w']\nextra = '{}'\n",
            work.args
        );
        let bytes = std::fs::read(&blk)?;
        let bundle = [("blk.cfg".into(), config.into_bytes()), ("blk".into(), bytes)];
        let mut machine = machine(builder, work.system, &bundle, &work.machine, scratch)?;
        machine.domains.push(("blk".into(), blk));
        machine.disks.push(disk.clone());
        machine
    };
    work.kernel_args.clone_into(&mut machine.kernel_args);
    if work.watch != Watch::Nobody {
        eprintln!("{}", machine.by_hand(scratch)?);
    }
    let mut record = boot::boot(&machine, work.watch, scratch)?;
    if below_linux {
        record.end = xen_linux::end(&record, "blk");
    }
    if record.end == End::Success {
        match below_linux {
            true => images.check_fat(&disk, scratch)?,
            false => images.check_disk(&disk, scratch)?,
        }
    }
    Ok(record)
}

/// Does what `run blk` does.
///
/// # Errors
///
/// As [`work`].
pub(crate) fn run(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &RunOptions,
) -> Result<End> {
    let scratch = workspace.scratch(&format!("run-{}", std::process::id()))?;
    let mut machine = options.machine.clone();
    if options.on.is_below_linux() {
        machine.limit = machine.limit.max(xen_linux::LIMIT);
    }
    let blk = Work {
        system: options.on,
        machine,
        args: &options.args,
        kernel_args: &options.kernel_args,
        watch: Watch::Output,
    };
    let record = work(workspace, builder, &blk, &scratch)?;
    if record.end.is_success() {
        say("REPORT.TXT is right, DATA.BIN as it was, the file system clean");
        std::fs::remove_dir_all(&scratch)?;
    } else {
        eprint!("{}", record.report);
    }
    say(format!("{} ({:.1} s)", record.end, record.duration.as_secs_f32()));
    Ok(record.end)
}

/// Has the guest `blk` work on all systems, each with a disk of its own.
pub(crate) fn test(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &TestOptions,
    steps: &mut Steps,
) {
    for (system, cpus) in
        [(System::Paravane, 1), (System::Paravane, 2), (System::Xen, 1), (System::XenLinux, 1)]
    {
        let name = system.name();
        steps.run(&format!("a disk for a domain, with {cpus} CPUs on {name}"), || {
            let scratch = workspace.scratch(&format!("disk-{name}"))?;
            let mut machine = options.machine.clone();
            machine.smp = cpus;
            if system == System::XenLinux {
                machine.limit = machine.limit.max(xen_linux::LIMIT);
            }
            let blk = Work { system, machine, args: "", kernel_args: "", watch: Watch::Nobody };
            let record = work(workspace, builder, &blk, &scratch)?;
            ensure!(record.end == End::Success, "{}\n{}", record.end, record.report);
            Ok(())
        });
    }
    steps.run("one configuration file on paravane and below Linux on xen", || {
        same::test(workspace, builder, &options.machine)
    });
    steps.run("what a domain's reads cost, counted, on paravane", || {
        costs(workspace, builder, &options.machine)
    });
    steps.run("what making and ending a domain costs, counted, on paravane", || {
        lives::costs(workspace, builder, &options.machine)
    });
    steps.run("what a read waits while domains are made, counted, on paravane", || {
        lives::waits(workspace, builder, &options.machine)
    });
}

/// The most that reads from a disk in memory may cost: what the guest `blk` calls them, and
/// instructions of the whole machine.
const COSTS: [(&str, u64); 3] = [
    ("4096 bytes at depth 1", 13_000),
    ("4096 bytes at depth 32", 5_150),
    ("131072 bytes at depth 1", 62_000),
];

/// Has the guest `blk` measure its reads where time counts instructions, so that figures repeat.
fn costs(workspace: &Workspace, builder: &mut Builder<'_>, options: &MachineOptions) -> Result<()> {
    const CONFIG: &str = "name = 'blk'\nkernel = 'blk'\nmemory = 16\n\
                          disk = ['ram:16,raw,xvda,w']\nextra = 'measure'\n";
    let scratch = workspace.scratch("disk-costs")?;
    let blk = std::fs::read(builder.example("blk")?)?;
    let bundle = [("blk.cfg".into(), CONFIG.into()), ("blk".into(), blk)];
    let options = MachineOptions { smp: 1, icount: true, ..options.clone() };
    let machine = machine(builder, System::Paravane, &bundle, &options, &scratch)?;
    let record = boot::boot(&machine, Watch::Nobody, &scratch)?;
    ensure!(record.end == End::Success, "{}\n{}", record.end, record.report);
    let said = record.console.transcript();
    let mut dear = Vec::new();
    for (name, most) in COSTS {
        let cost = said.lines().find_map(|line| line.split_once(&format!("{name}: cost~")));
        let cost: u64 = cost.with_context(|| format!("no `{name}` in:\n{said}"))?.1.parse()?;
        say(format!("    {name}: {cost} instructions, of at most {most}"));
        dear.extend((cost > most).then_some(name));
    }
    ensure!(dear.is_empty(), "dearer than they may be: {}", dear.join(", "));
    Ok(())
}
