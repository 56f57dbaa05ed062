//! `cargo xtask run` without a guest: a machine with a disk and a network card, our control domain, and
//! servers as domains of it, reached from the host. With a terminal an operator rules it; without
//! one it is driven from here ([`drive`]), and looked at from outside afterwards.

pub(crate) mod disk;
mod drive;
mod http;
mod keys;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use crate::block;
use crate::machine::{Log, Machine, System};
use crate::options::{MachineOptions, RunOptions, TestOptions};
use crate::ports::Forwards;
use crate::process::say;
use crate::run::{Builder, boot_and_tell};
use crate::steps::Steps;
use crate::workspace::Workspace;

use drive::Visit;

/// A guest of this workspace that serves something over the network, as a domain of the same name.
struct Server {
    /// The guest.
    name: &'static str,
    /// The last number of its address, in 10.0.2.0/24. Its MAC is made up, and stays over its reboot.
    number: u8,
    /// Where it listens.
    port: u16,
    /// The port of the host that leads there, if that is free.
    wanted: u16,
    /// More lines of its configuration.
    lines: &'static str,
    /// How a user reaches it; `PORT` is the host's port.
    how: &'static str,
    /// Visits it when it is fresh.
    visit: fn(&Visit<'_>) -> Result<()>,
    /// Visits it when it has been rebooted.
    again: fn(&Visit<'_>) -> Result<()>,
}

/// All servers.
const SERVERS: [Server; 2] = [HTTPD, KV];

const HTTPD: Server = Server {
    name: "httpd",
    number: 80,
    port: 80,
    wanted: 8080,
    lines: "",
    how: "curl http://localhost:PORT/",
    visit: http::visit,
    again: http::again,
};

const KV: Server = Server {
    name: "kv",
    number: 63,
    port: 6379,
    wanted: 6379,
    lines: "disk = ['/dev/vda2,raw,xvda,w']\n",
    how: "redis-cli -p PORT set key value, or lines by nc localhost PORT",
    visit: keys::visit,
    again: keys::again,
};

impl Server {
    /// Its configuration, for our toolstack and xl alike.
    fn config(&self) -> String {
        let Self { name, number, lines, .. } = self;
        format!(
            "name = '{name}'\nkernel = '{name}'\nmemory = 16\n\
             vif = ['']\n\
             extra = 'ip=10.0.2.{number}/24 gw=10.0.2.2'\n{lines}"
        )
    }
}

/// A machine with all servers, and the host's ports that lead to them.
struct House {
    machine: Machine,
    ports: Vec<u16>,
    /// Whether a user is told of what is done with it.
    is_told: bool,
}

/// A domain that is not begun with: it says what it hears on its console.
const ECHO: &str = "name = 'echo'\nkernel = 'echo'\nmemory = 16\n";
/// Another: it checks and reports what is on the partition of files.
const BLK: &str = "name = 'blk'\nkernel = 'blk'\nmemory = 16\ndisk = ['/dev/vda1,raw,xvda,w']\n";

/// The least time that the machine gets when nobody sits at it.
const LIMIT: Duration = Duration::from_secs(400);
/// What the machine has for other domains than the servers. Unit: MiB.
const SPARE: u32 = 256;

/// The machine with the disk `disk`.
fn house(
    builder: &mut Builder<'_>,
    system: System,
    options: &MachineOptions,
    disk: &Path,
    scratch: &Path,
) -> Result<House> {
    let mut bundle = Vec::new();
    let mut domains = Vec::new();
    for server in &SERVERS {
        domains.push((server.name.to_owned(), builder.example(server.name)?));
        bundle.push((format!("{}.cfg", server.name), server.config().into_bytes()));
        bundle.push((server.name.to_owned(), std::fs::read(builder.example(server.name)?)?));
    }
    bundle.push(("blk.cfg".into(), BLK.into()));
    bundle.push(("echo.cfg".into(), ECHO.into()));
    for name in ["blk", "echo"] {
        bundle.push((name.into(), std::fs::read(builder.example(name)?)?));
    }
    let mut machine = block::machine(builder, system, &bundle, options, scratch)?;
    let names = SERVERS.each_ref().map(|server| server.name).join(" ");
    machine.guest_args = format!("operator from=/dev/vda1 {names}");
    machine.disks = vec![disk.to_owned()];
    machine.domains = domains;
    machine.others = SPARE;
    machine.options.limit = machine.options.limit.max(LIMIT);
    let (mut forwards, mut ports) = (Forwards::default(), Vec::new());
    for server in &SERVERS {
        let address = format_args!("10.0.2.{}", server.number);
        ports.push(forwards.add(server.wanted, address, server.port)?);
    }
    machine.add_card(&forwards.words());
    Ok(House { machine, ports, is_told: false })
}

impl House {
    /// Tells the user what is done or seen.
    fn tell(&self, what: impl std::fmt::Display) {
        if self.is_told {
            println!("{what}");
        }
    }

    /// How each server is reached, a line each.
    fn reach(&self) -> impl Iterator<Item = String> {
        SERVERS.iter().zip(&self.ports).map(|(server, port)| {
            format!("{}: {}", server.name, server.how.replace("PORT", &port.to_string()))
        })
    }
}

/// Does what `run` does without a guest: with a `keyboard` for a user, and else by itself.
///
/// # Errors
///
/// When the machine cannot be made, or does not do what it should.
pub(crate) fn run(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &RunOptions,
    disks: Vec<PathBuf>,
    keyboard: bool,
) -> Result<ExitCode> {
    let scratch = workspace.scratch(&format!("run-{}", std::process::id()))?;
    let folder = workspace.scratch("machine")?;
    let _held = disk::hold(&folder)?;
    let disk = disk::provide(builder, &folder)?;
    let mut house = house(builder, options.on, &options.machine, &disk, &scratch)?;
    house.is_told = true;
    let machine = &mut house.machine;
    machine.kernel_args.clone_from(&options.kernel_args);
    machine.guest_args = format!("{} {}", machine.guest_args, options.args).trim_end().to_owned();
    machine.disks.extend(disks);
    if options.verbose {
        machine.log = Log::All;
    }
    options.look_inside(&mut house.machine, &scratch)?;
    eprintln!("{}", house.machine.by_hand(&scratch)?);
    say(format!("its disk: {}", disk.display()));
    house.reach().for_each(say);
    if keyboard {
        say("`help` at the prompt lists what the operator can say, `poweroff` ends the machine");
        say("from another terminal: cargo xtask ctl list");
        return boot_and_tell(&house.machine, options, &scratch);
    }
    match drive::drive(&house, &disk, &scratch) {
        Ok(()) => {
            std::fs::remove_dir_all(&scratch)?;
            println!("all is right");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            println!("not all is right: {error:#}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Drives the machine on our kernel and on Xen, each with a fresh disk.
pub(crate) fn test(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &TestOptions,
    steps: &mut Steps,
) {
    for system in [System::Paravane, System::Xen] {
        let name = system.name();
        steps.run(&format!("servers driven from the host on {name}"), || {
            let scratch = workspace.scratch(&format!("servers-{name}"))?;
            let disk = scratch.join("disk.img");
            std::fs::copy(disk::fresh(builder, &workspace.scratch("machine")?)?, &disk)?;
            let mut machine = options.machine.clone();
            machine.smp = if system == System::Paravane { 2 } else { 1 };
            let house = house(builder, system, &machine, &disk, &scratch)?;
            drive::drive(&house, &disk, &scratch)
        });
    }
}
