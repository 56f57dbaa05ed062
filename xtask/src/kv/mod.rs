//! The guest `kv`, which keeps what it has acknowledged: a machine that logs each write to its disk,
//! clients on this host, and then power failures at every time of that log.

mod check;
mod client;
mod log;

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::block;
use crate::boot::{self, End, Watch};
use crate::machine::{Machine, System};
use crate::options::{MachineOptions, TestOptions};
use crate::ports;
use crate::process::say;
use crate::run::Builder;
use crate::steps::Steps;
use crate::workspace::Workspace;
pub(crate) use check::contents;
pub(crate) use client::Model;
use client::{Change, Connection, client};
use log::{Log, Operation};

/// The disk, small enough that its log is begun anew several times. Unit: bytes.
pub(crate) const DISK: usize = 600 << 10;
/// The most that is written to it, with what the log says of it. Unit: bytes.
const LOG: u64 = 1 << 30;
/// Clients at the same time, and changes of each.
const CLIENTS: u64 = 4;
const CHANGES: usize = 150;
/// Power failures after each operation.
const TIMES: u64 = 3;
/// The least time that all of it gets.
const LIMIT: Duration = Duration::from_secs(300);
/// The guest's address behind QEMU's network, and its port.
const ADDRESS: &str = "10.0.2.50";

/// A machine with the guest `kv` on a fresh disk, behind a port of this host.
fn machine(
    builder: &mut Builder<'_>,
    (words, port): (&str, u16),
    options: &MachineOptions,
    scratch: &Path,
) -> Result<(Machine, Log)> {
    let config = format!(
        "name = 'kv'\nkernel = 'kv'\nmemory = 16\ndisk = ['/dev/vda,raw,xvda,w']\n\
         vif = ['mac=00:16:3e:00:00:05']\nextra = 'ip={ADDRESS}/24 gw=10.0.2.2 {words}'\n"
    );
    let kv = std::fs::read(builder.example("kv")?)?;
    let bundle = [("kv.cfg".into(), config.into_bytes()), ("kv".into(), kv)];
    let mut machine = block::machine(builder, System::Paravane, &bundle, options, scratch)?;
    std::fs::File::create(scratch.join("disk.img"))?.set_len(DISK as u64)?;
    let log = Log::create(&scratch.join("writes.log"), LOG)?;
    // QEMU runs in that folder.
    let words = [
        "-blockdev driver=file,node-name=disk,filename=disk.img",
        "-blockdev driver=file,node-name=log,filename=writes.log",
        "-blockdev driver=blklogwrites,node-name=logged,file=disk,log=log",
        "-device virtio-blk-pci,drive=logged",
        &format!("-netdev user,id=net,hostfwd=tcp:127.0.0.1:{port}-{ADDRESS}:6379"),
        "-device virtio-net-pci,netdev=net",
    ];
    machine.devices = words.iter().flat_map(|it| it.split(' ')).map(str::to_owned).collect();
    Ok((machine, log))
}

/// What clients asked of the guest, and what it did to its disk.
fn record(
    builder: &mut Builder<'_>,
    words: &str,
    options: &MachineOptions,
    scratch: &Path,
) -> Result<(Vec<Vec<Change>>, Vec<Operation>)> {
    let port = ports::take(0)?.local_addr()?.port();
    let mut options = options.clone();
    options.limit = options.limit.max(LIMIT);
    let (machine, log) = machine(builder, (words, port), &options, scratch)?;
    let log = Mutex::new(log);
    let deadline = Instant::now() + machine.options.limit / 2;
    let (asked, record) = std::thread::scope(|scope| {
        let boot = scope.spawn(|| boot::boot(&machine, Watch::Nobody, scratch));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                scope.spawn({
                    let log = &log;
                    move || client(number, CHANGES, port, deadline, log)
                })
            })
            .collect();
        let joined = clients
            .into_iter()
            .map(|it| it.join().map_err(|_| anyhow::anyhow!("a client has panicked"))?);
        let asked: Result<Vec<_>> = joined.collect();
        let told = Connection::open(port, deadline.max(Instant::now() + Duration::from_secs(5)));
        let told = told.and_then(|mut it| it.ask(b"SHUTDOWN\r\n"));
        let record = boot.join().map_err(|_| anyhow::anyhow!("the boot has panicked"))??;
        let asked = asked.and_then(|asked| told.map(|_| asked));
        anyhow::Ok((asked, record))
    })?;
    let asked = asked.with_context(|| record.report.clone())?;
    ensure!(record.end == End::Success, "{}\n{}", record.end, record.report);
    let log = log.into_inner().map_err(|_| anyhow::anyhow!("a client has panicked"))?;
    Ok((asked, log.operations()?))
}

/// Has clients use the guest, and then looks at what power failures leave: nothing that was
/// acknowledged is lost, unless it does not flush, which must be found.
pub(crate) fn test(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &TestOptions,
    steps: &mut Steps,
) {
    steps.run("kv keeps what it acknowledged, on paravane", || {
        let scratch = workspace.scratch("kv")?;
        let (clients, log) = record(builder, "", &options.machine, &scratch)?;
        let flushes = log.iter().filter(|&it| *it == Operation::Flush).count();
        let changes = clients.iter().map(Vec::len).sum::<usize>();
        say(format!("{changes} changes, {} operations on the disk, {flushes} flushes", log.len()));
        // A client waits for each change before the next, so there are as many flushes as one has
        // changes, but for deletions of what is not there.
        ensure!(flushes >= CHANGES / 2, "flushes do not reach the disk");
        let begun = log.iter().filter(|it| it.is_header()).count();
        ensure!(begun >= 3, "the log was begun anew {begun} times");
        let wrong = check::check(&log, DISK, &clients, TIMES)?;
        ensure!(wrong.is_none(), "{}", wrong.unwrap_or_default());
        Ok(())
    });
    steps.run("kv without flushes is found out, on paravane", || {
        let scratch = workspace.scratch("kv-noflush")?;
        let (clients, log) = record(builder, "noflush", &options.machine, &scratch)?;
        let wrong = check::check(&log, DISK, &clients, TIMES)?;
        say(wrong.context("nothing was lost without any flush: this test is of no use")?);
        Ok(())
    });
}
