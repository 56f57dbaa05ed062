//! The command line of `cargo xtask`.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use lexopt::prelude::*;

use crate::boot::Watch;
use crate::gdb;
use crate::machine::{Machine, System};
use crate::toolchain::Route;

/// What the user asked for.
#[derive(Debug)]
pub(crate) enum Request {
    /// To read this text.
    Help(&'static str),
    /// `run`.
    Run(RunOptions),
    /// `check`.
    Check(TestOptions),
    /// `test`.
    Test(TestOptions),
    /// `ctl`, with words that are its own to read.
    Ctl(lexopt::Parser),
    /// `image`, with words that are its own to read.
    Image(lexopt::Parser),
    /// `new-guest`, with words that are its own to read.
    NewGuest(lexopt::Parser),
    /// `conformance`, with words that are its own to read.
    Conformance(lexopt::Parser),
    /// `mutate`, with words that are its own to read.
    Mutate(lexopt::Parser),
}

/// How machines are made and builds are done: common to all commands that boot something.
#[derive(Clone, Debug)]
pub(crate) struct MachineOptions {
    /// CPUs of the machine.
    pub(crate) smp: u32,
    /// The guest's memory. Unit: MiB.
    pub(crate) memory: u32,
    /// QEMU's name of the CPU model.
    pub(crate) cpu: String,
    /// Whether time counts instructions.
    pub(crate) icount: bool,
    /// The longest a boot may take that nobody watches.
    pub(crate) limit: Duration,
    /// Where the bare-metal compiler must come from.
    pub(crate) route: Option<Route>,
}

impl Default for MachineOptions {
    fn default() -> Self {
        Self {
            smp: 1,
            memory: 64,
            cpu: "Nehalem".into(),
            icount: false,
            limit: Duration::from_secs(120),
            route: None,
        }
    }
}

/// Options of `run`.
#[derive(Clone, Debug)]
pub(crate) struct RunOptions {
    /// A guest of the workspace, or the path of an ELF file; without one, the machine with servers.
    pub(crate) guest: Option<OsString>,
    /// What to boot it on.
    pub(crate) on: System,
    /// The machine.
    pub(crate) machine: MachineOptions,
    /// The guest's command line.
    pub(crate) args: String,
    /// More words for the hypervisor's command line.
    pub(crate) kernel_args: String,
    /// The guest's ramdisk.
    pub(crate) ramdisk: Option<PathBuf>,
    /// Files that are the guest's disks.
    pub(crate) disks: Vec<PathBuf>,
    /// Whether the guest has a network card.
    pub(crate) network: bool,
    /// A script that Linux runs beside the guest.
    pub(crate) client: Option<PathBuf>,
    /// Wait for gdb.
    pub(crate) gdb: bool,
    /// Where to write what guests did.
    pub(crate) trace: Option<PathBuf>,
    /// End with the guest even on a terminal.
    pub(crate) exit: bool,
    /// Show the hypervisor's lines too.
    pub(crate) verbose: bool,
}

impl RunOptions {
    /// Prepares a machine for who wants to see what happens in it.
    ///
    /// # Errors
    ///
    /// As of [`Machine::await_gdb`].
    pub(crate) fn look_inside(&self, machine: &mut Machine, scratch: &Path) -> Result<()> {
        if self.trace.is_some() {
            machine.keep_trace(scratch);
        }
        if self.gdb {
            gdb::tell(&machine.await_gdb(scratch)?);
        }
        Ok(())
    }

    /// Who watches the boot.
    pub(crate) fn watch(&self) -> Watch {
        let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        if terminal && !self.exit { Watch::Terminal } else { Watch::Output }
    }
}

/// Options of `check` and `test`.
#[derive(Clone, Debug)]
pub(crate) struct TestOptions {
    /// What the names of the steps to run contain.
    pub(crate) filter: String,
    /// Whether what takes long is run too.
    pub(crate) full: bool,
    /// The machines.
    pub(crate) machine: MachineOptions,
}

const HELP: &str = include_str!("help/all.txt");
const RUN_HELP: &str = include_str!("help/run.txt");
const TEST_HELP: &str = include_str!("help/test.txt");

/// Reads the command line.
///
/// # Errors
///
/// When a word on it is unknown or a value does not fit.
pub(crate) fn parse(mut parser: lexopt::Parser) -> Result<Request> {
    let Some(word) = parser.next()? else {
        return Ok(Request::Help(HELP));
    };
    match word {
        Short('h') | Long("help") => Ok(Request::Help(HELP)),
        Value(name) => match name.to_string_lossy().as_ref() {
            "help" => Ok(Request::Help(HELP)),
            "run" => run(parser),
            "check" => test(parser, Request::Check),
            "test" => test(parser, Request::Test),
            "ctl" => Ok(Request::Ctl(parser)),
            "image" => Ok(Request::Image(parser)),
            "new-guest" => Ok(Request::NewGuest(parser)),
            "conformance" => Ok(Request::Conformance(parser)),
            "mutate" => Ok(Request::Mutate(parser)),
            other => bail!("no command `{other}`: `cargo xtask --help` lists the commands"),
        },
        other => Err(unknown(&other, "--help")),
    }
}

fn run(mut parser: lexopt::Parser) -> Result<Request> {
    let mut options = RunOptions {
        guest: None,
        on: System::Paravane,
        machine: MachineOptions::default(),
        args: String::new(),
        kernel_args: String::new(),
        ramdisk: None,
        disks: Vec::new(),
        network: false,
        client: None,
        gdb: false,
        trace: None,
        exit: false,
        verbose: false,
    };
    let mut sized = false;
    while let Some(word) = parser.next()? {
        match word {
            Short('h') | Long("help") => return Ok(Request::Help(RUN_HELP)),
            Long("on") => options.on = System::named(&parser.value()?.string()?)?,
            Long("args") => options.args = parser.value()?.string()?,
            Long("kernel-args") => options.kernel_args = parser.value()?.string()?,
            Long("ramdisk") => options.ramdisk = Some(parser.value()?.into()),
            Long("disk") => options.disks.push(parser.value()?.into()),
            Long("vif") => options.network = true,
            Long("client") => options.client = Some(parser.value()?.into()),
            Long("gdb") => options.gdb = true,
            Long("trace") => options.trace = Some(parser.value()?.into()),
            Long("exit") => options.exit = true,
            Short('v') | Long("verbose") => options.verbose = true,
            Value(guest) if options.guest.is_none() => options.guest = Some(guest),
            Long(name) => {
                let name = name.to_owned();
                sized |= name == "smp";
                if !machine(&mut options.machine, &name, &mut parser)? {
                    return Err(unknown(&Long(&name), "run --help"));
                }
            }
            other => return Err(unknown(&other, "run --help")),
        }
    }
    if !sized && options.guest.as_ref().is_none_or(|guest| guest == "nursery") {
        // Their domains run side by side.
        options.machine.smp = 2;
    }
    Ok(Request::Run(options))
}

fn test(mut parser: lexopt::Parser, request: fn(TestOptions) -> Request) -> Result<Request> {
    let mut options =
        TestOptions { filter: String::new(), full: false, machine: MachineOptions::default() };
    while let Some(word) = parser.next()? {
        match word {
            Short('h') | Long("help") => return Ok(Request::Help(TEST_HELP)),
            Long("full") => options.full = true,
            Value(filter) if options.filter.is_empty() => options.filter = filter.string()?,
            Long(name) => {
                let name = name.to_owned();
                if !machine(&mut options.machine, &name, &mut parser)? {
                    return Err(unknown(&Long(&name), "test --help"));
                }
            }
            other => return Err(unknown(&other, "test --help")),
        }
    }
    Ok(request(options))
}

/// Takes the option `name` if it is one of the machine's; says whether it was.
///
/// # Errors
///
/// When its value is missing or does not fit.
pub(crate) fn machine(
    options: &mut MachineOptions,
    name: &str,
    parser: &mut lexopt::Parser,
) -> Result<bool> {
    match name {
        "smp" => options.smp = number(name, parser, 1, 255)?,
        "memory" => options.memory = number(name, parser, 1, 1 << 20)?,
        "cpu" => options.cpu = parser.value()?.string()?,
        "icount" => options.icount = true,
        "limit" => options.limit = Duration::from_secs(number(name, parser, 1, 1 << 20)?.into()),
        "toolchain" => options.route = Some(Route::named(&parser.value()?.string()?)?),
        _ => return Ok(false),
    }
    Ok(true)
}

fn number(name: &str, parser: &mut lexopt::Parser, least: u32, most: u32) -> Result<u32> {
    let text = parser.value()?.string()?;
    match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => bail!("--{name} `{text}`: give a whole number from {least} to {most}"),
    }
}

/// The error for a word that no command knows; `help` is what to ask for the known ones.
pub(crate) fn unknown(word: &lexopt::Arg<'_>, help: &str) -> anyhow::Error {
    let word = match word {
        Short(letter) => format!("option `-{letter}`"),
        Long(name) => format!("option `--{name}`"),
        Value(value) => format!("argument `{}`", value.to_string_lossy()),
    };
    anyhow::anyhow!("unknown {word}: `cargo xtask {help}` lists what there is")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Request> {
        parse(lexopt::Parser::from_args(words))
    }

    fn refusal(words: &[&str]) -> String {
        format!("{:#}", parsed(words).expect_err("refused"))
    }

    #[test]
    fn run_takes_its_options_in_any_order() {
        let words = ["run", "--on=xen", "--smp", "2", "dom0", "--args", "a b", "--exit"];
        let Ok(Request::Run(options)) = parsed(&words) else {
            panic!("not a run");
        };
        assert_eq!((options.guest, options.on), (Some("dom0".into()), System::Xen));
        assert_eq!((options.machine.smp, options.args.as_str()), (2, "a b"));
        assert!(options.exit && !options.verbose);
        let Ok(Request::Run(options)) = parsed(&["run"]) else {
            panic!("not a run");
        };
        assert_eq!((options.guest, options.machine.smp), (None, 2));
    }

    #[test]
    fn what_is_unknown_is_named_with_the_way_to_help() {
        assert!(refusal(&["walk"]).contains("no command `walk`"));
        assert!(refusal(&["run", "--speed"]).contains("unknown option `--speed`"));
        assert!(refusal(&["run", "a", "b"]).contains("unknown argument `b`"));
        assert!(refusal(&["run", "--on", "kvm"]).contains("`kvm`"));
        assert!(refusal(&["run", "--smp", "0"]).contains("from 1 to 255"));
    }
}
