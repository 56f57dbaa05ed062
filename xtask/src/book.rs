//! The book at work: its command lines are run, and its guest, of whose file the pages show passages.
//!
//! What a page's blocks and command lines are is the crate `book`'s to say; here is what starts something.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use book::blocks::Page;
use book::commands::{self, How, Row};
use book::transcript;

use crate::block;
use crate::boot::{self, End, Watch};
use crate::ctl::Channel;
use crate::machine::System;
use crate::options::{self, MachineOptions, TestOptions};
use crate::ports::Forwards;
use crate::process;
use crate::run::Builder;
use crate::servers;
use crate::steps::Steps;
use crate::workspace::{Workspace, cargo};

/// Our toolstack's configuration of the guest.
const GUIDE: &str = "name = 'guide'\nkernel = 'guide'\nmemory = 24\n\
                     disk = ['/dev/vda,raw,xvda,w']\nvif = ['']\nextra = 'devices ip=10.0.2.80/24 gw=10.0.2.2'\n";
/// Unit: bytes.
const DISK: u64 = 4 << 20;
/// `cargo` of a page: this program for its commands.
const CARGO: &str = r#"cargo() {
    case "$1" in
    xtask) shift; "$XTASK" "$@" ;;
    *) "$CARGO" "$@" ;;
    esac
}"#;

/// Holds the table of commands to the pages and to the steps `names`; with `boots` runs what is there to
/// be run.
pub(crate) fn test(
    (workspace, builder): (&Workspace, &mut Builder<'_>),
    options: &TestOptions,
    names: Vec<String>,
    boots: bool,
    steps: &mut Steps,
) {
    steps.run("documentation: the book's command lines", || {
        let rows = commands::rows(&workspace.root, &names)?;
        rows.iter().try_for_each(understood)?;
        let never = rows.iter().filter(|row| matches!(row.how, How::Never(_))).count();
        println!("{} command lines, of which nobody runs {never}", rows.len());
        Ok(())
    });
    if !boots {
        return;
    }
    steps.run("the book's commands as they are", || {
        let rows = commands::rows(&workspace.root, &names)?;
        run(workspace, builder, rows.iter().filter(|row| row.how == How::Run))
    });
    for system in [System::Paravane, System::Xen] {
        let name = format!("the book's guest with devices on {}", system.name());
        steps.run(&name, || guide(workspace, builder, system, &options.machine));
    }
}

/// Whether a command line is one that `cargo xtask` takes; commands that read their own words may refuse them.
fn understood(row: &Row) -> Result<()> {
    let Some(words) = row.words() else { return Ok(()) };
    let parsed = options::parse(lexopt::Parser::from_args(words));
    parsed.map(drop).with_context(|| row.line.clone())
}

/// Runs command lines by a shell in a folder of their own, in which the book's paths mean what they say.
fn run<'a>(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    rows: impl Iterator<Item = &'a Row>,
) -> Result<()> {
    let scratch = workspace.scratch("book")?;
    std::fs::remove_dir_all(&scratch)?;
    let folder = scratch.join("paravane");
    std::fs::create_dir_all(&folder)?;
    let machine = folder.join("target/xtask/machine");
    std::fs::create_dir_all(&machine)?;
    let disk = servers::disk::fresh(builder, &workspace.scratch("machine")?)?;
    std::fs::copy(disk, machine.join("disk.img"))?;
    std::fs::write(folder.join("web.cfg"), GUIDE)?;
    for row in rows {
        println!("$ {}", row.line);
        let mut shell = Command::new("sh");
        shell.args(["-ec", &format!("{CARGO}\n{}", row.line)]).current_dir(&folder);
        shell.env("XTASK", std::env::current_exe()?).env("CARGO", cargo());
        process::succeed(shell.stdin(std::process::Stdio::null()))?;
    }
    Ok(())
}

/// Boots the guest of the pages below `dom0`, and talks to it.
fn guide(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    system: System,
    options: &MachineOptions,
) -> Result<()> {
    let scratch = workspace.scratch(&format!("guide-{}", system.name()))?;
    let image = std::fs::read(builder.example("guide")?)?;
    let bundle = [("guide.cfg".into(), GUIDE.into()), ("guide".into(), image)].to_vec();
    let mut machine = block::machine(builder, system, &bundle, options, &scratch)?;
    let disk = scratch.join("disk.img");
    let pattern: Vec<u8> = (0_u8..=250).cycle().take(DISK.try_into()?).collect();
    std::fs::write(&disk, &pattern)?;
    machine.disks = vec![disk.clone()];
    machine.guest_args = "operator guide".into();
    machine.others = 48;
    let mut forwards = Forwards::default();
    let port = forwards.add(0, "10.0.2.80", 7)?;
    machine.add_card(&forwards.words());
    let limit = Instant::now() + options.limit;
    let record = std::thread::scope(|scope| {
        let boot = scope.spawn(|| boot::boot(&machine, Watch::Nobody, &scratch));
        let said = talk(port, limit, &scratch);
        let record = boot.join().map_err(|_| anyhow::anyhow!("the boot has panicked"))??;
        said.with_context(|| record.console.transcript())?;
        Ok::<_, anyhow::Error>(record)
    })?;
    ensure!(record.end == End::Success, "{}\n{}", record.end, record.report);
    // The first MiB is behind itself now.
    let after = std::fs::read(&disk)?;
    let (mut wanted, half) = (pattern, 1 << 20);
    wanted.copy_within(..half, half);
    ensure!(after == wanted, "the disk is not as the guest should have left it");
    Ok(())
}

/// Says something to the guest when it serves, hears it again, and ends the machine.
fn talk(port: u16, limit: Instant, scratch: &Path) -> Result<()> {
    let mut channel = Channel::wait(scratch, limit)?;
    let heard = (|| {
        while !channel.says("guide", "serving at")? {
            ensure!(Instant::now() < limit, "it does not serve");
        }
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(limit.checked_duration_since(Instant::now()))?;
        stream.write_all(b"hello")?;
        let mut heard = [0; 5];
        stream.read_exact(&mut heard)?;
        ensure!(&heard == b"hello", "it should answer what it hears");
        Ok(())
    })();
    let _the_machine_may_be_gone = channel.ask("destroy", &["guide".to_owned()], true);
    let _likewise = channel.ask("poweroff", &[], true);
    heard
}

/// Holds the transcripts of a page to what a machine said.
///
/// # Errors
///
/// Names the line that was not said.
pub(crate) fn shown(page: &str, said: &str) -> Result<()> {
    let workspace = Workspace::find()?;
    let text = std::fs::read_to_string(workspace.root.join(page))?;
    let page = Page { path: page.into(), text };
    for block in page.blocks()?.iter().filter(|block| block.language == "console") {
        let missing = transcript::missing(&block.text, said);
        ensure!(missing.is_none(), "{}: not said: {missing:?}", block.place);
    }
    Ok(())
}
