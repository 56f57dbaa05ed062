//! One boot in QEMU, from start to end: the console followed, the end judged, a hang reported.

use std::fmt;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::console::{Console, Line, Source};
use crate::ctl::SOCKET as CONTROL;
use crate::machine::{Log, Machine, System};
use crate::monitor::{Monitor, SOCKET};
use crate::process;
use crate::symbols::Symbols;

/// How a boot ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// The guest shut down in order.
    Success,
    /// The guest asked for a reset, which ends QEMU.
    Reboot,
    /// The guest crashed, or ended with a reason that says it failed.
    GuestFailed,
    /// The hypervisor would not start with what it was given.
    Refused,
    /// The hypervisor itself failed.
    HypervisorFailed,
    /// The time was over before anything ended.
    Hang,
    /// The user ended QEMU.
    Quit,
    /// QEMU ended in a way that says nothing about the guest, such as for a wrong option.
    Qemu(ExitStatus),
}

impl End {
    /// Whether the guest did what it was to do.
    pub(crate) fn is_success(&self) -> bool {
        matches!(self, Self::Success | Self::Reboot)
    }
}

impl fmt::Display for End {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Success => to.write_str("the guest shut down in order"),
            Self::Reboot => to.write_str("the guest asked for a reboot"),
            Self::GuestFailed => to.write_str("the guest crashed or shut down as failed"),
            Self::Refused => to.write_str("the hypervisor refused what it was given"),
            Self::HypervisorFailed => to.write_str("the hypervisor failed"),
            Self::Hang => to.write_str("the time was over before the guest ended"),
            Self::Quit => to.write_str("QEMU was ended before the guest"),
            Self::Qemu(status) => write!(to, "QEMU ended by itself ({status})"),
        }
    }
}

/// Who watches a boot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Watch {
    /// A user with a keyboard: no time limit.
    Terminal,
    /// A user who reads; standard input goes to the guest unless it is a terminal.
    Output,
    /// Nobody: the console is only recorded.
    Nobody,
}

/// What is left of a boot.
pub(crate) struct Record {
    /// How it ended.
    pub(crate) end: End,
    /// What was said on the console.
    pub(crate) console: Console,
    /// For an end that was not a success: what helps to understand it.
    pub(crate) report: String,
    /// From the start of QEMU to its end.
    pub(crate) duration: Duration,
}

/// Boots `machine` in a folder of its own (`scratch`), and waits for the end.
///
/// # Errors
///
/// When QEMU does not start or its files cannot be made. A guest that fails is not an error.
pub(crate) fn boot(machine: &Machine, watch: Watch, scratch: &Path) -> Result<Record> {
    let started = Instant::now();
    let mut session = Session::start(machine, watch, scratch)?;
    let verdict = session.follow(started + machine.options.limit)?;
    let hang_report = match verdict {
        Some(End::Hang) => session.registers(),
        _ => String::new(),
    };
    let status = session.stop(verdict.is_some())?;
    session.console.finish();
    let end = verdict.unwrap_or_else(|| session.judge(status));
    let mut report = String::new();
    if !end.is_success() && end != End::Quit {
        report = session.report(&end, &hang_report)?;
    }
    Ok(Record { end, console: session.console, report, duration: started.elapsed() })
}

/// A QEMU that runs.
struct Session<'a> {
    machine: &'a Machine,
    watch: Watch,
    symbols: Symbols,
    qemu: Child,
    output: Receiver<Vec<u8>>,
    console: Console,
    scratch: PathBuf,
}

/// QEMU's own log of CPU resets, in its folder.
const RESET_LOG: &str = "resets";

impl<'a> Session<'a> {
    fn start(machine: &'a Machine, watch: Watch, scratch: &Path) -> Result<Self> {
        let line = machine.qemu(watch == Watch::Terminal, scratch)?;
        for stale in [SOCKET, CONTROL, RESET_LOG] {
            let _absent = std::fs::remove_file(scratch.join(stale));
        }
        let mut qemu = tied_to_us(&line);
        qemu.current_dir(scratch)
            .args(["-chardev", &format!("socket,id=control,path={CONTROL},server=on,wait=off")])
            .args(["-serial", "chardev:control"])
            .args(["-qmp", &format!("unix:{SOCKET},server=on,wait=off")])
            .args(["-d", "cpu_reset", "-D", RESET_LOG])
            .stdin(match watch {
                Watch::Nobody => Stdio::null(),
                Watch::Output if std::io::IsTerminal::is_terminal(&std::io::stdin()) => {
                    Stdio::null()
                }
                Watch::Terminal | Watch::Output => Stdio::inherit(),
            })
            .stdout(Stdio::piped());
        let mut qemu = qemu.spawn().context("cannot start QEMU")?;
        let output = qemu.stdout.take().context("QEMU has no output")?;
        Ok(Self {
            machine,
            watch,
            symbols: Symbols::of(machine),
            qemu,
            output: pump(output),
            console: Console::new(machine.system, machine.log == Log::All),
            scratch: scratch.to_path_buf(),
        })
    }

    /// Shows and records the console until QEMU ends (`None`), the console tells the end, or the
    /// time is over.
    fn follow(&mut self, deadline: Instant) -> Result<Option<End>> {
        loop {
            let bytes = if self.watch == Watch::Terminal {
                self.output.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                let left = deadline.saturating_duration_since(Instant::now());
                self.output.recv_timeout(left)
            };
            let bytes = match bytes {
                Ok(bytes) => bytes,
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => return Ok(Some(End::Hang)),
            };
            let before = self.console.lines().len();
            let show = self.console.feed(&bytes, |line| self.symbols.note(line));
            if self.watch != Watch::Nobody {
                let mut out = std::io::stdout().lock();
                out.write_all(&show).and_then(|()| out.flush())?;
            }
            if matches!(self.machine.system, System::Xen | System::Other) {
                let fresh = self.console.lines().get(before..).unwrap_or_default();
                if let Some(end) = fresh.iter().find_map(|line| xen_end(line, self.console.lines()))
                {
                    return Ok(Some(end));
                }
            }
        }
    }

    /// Registers of every CPU, from QEMU's monitor.
    fn registers(&self) -> String {
        Monitor::connect(&self.scratch)
            .and_then(|mut monitor| monitor.ask("info registers -a"))
            .map(|text| without_float(&text))
            .unwrap_or_else(|error| format!("(no registers: {error:#})\n"))
    }

    /// Ends QEMU, unless it ends by itself, and waits until it is gone.
    fn stop(&mut self, by_force: bool) -> Result<ExitStatus> {
        // Only QEMU itself can put a terminal back as it was. It may be slow to hear us while a
        // machine keeps it busy, so nobody else waits for that.
        let asked = by_force
            && self.watch == Watch::Terminal
            && Monitor::connect(&self.scratch).and_then(|mut qemu| qemu.quit()).is_ok();
        if by_force && !asked {
            let _gone = self.qemu.kill();
        }
        Ok(self.qemu.wait()?)
    }

    /// How the boot ended, when QEMU ended by itself.
    fn judge(&self, status: ExitStatus) -> End {
        // `isa-debug-exit` ends QEMU with twice the value written, plus one.
        let says = matches!(self.machine.system, System::Paravane | System::Other);
        match (says, status.code()) {
            (true, Some(33)) => End::Success,
            (true, Some(35)) => End::GuestFailed,
            (true, Some(37)) => End::Refused,
            (true, Some(39)) => End::HypervisorFailed,
            // A triple fault resets the machine as an orderly reboot does.
            (true, Some(0)) if self.triple_fault() => End::HypervisorFailed,
            (true, Some(0)) if !self.console.lines().is_empty() => End::Reboot,
            (_, Some(0)) if self.watch == Watch::Terminal => End::Quit,
            _ => End::Qemu(status),
        }
    }

    /// Whether the machine was reset because a CPU could not even report a fault.
    fn triple_fault(&self) -> bool {
        let log = std::fs::read_to_string(self.scratch.join(RESET_LOG));
        log.is_ok_and(|log| log.contains("Triple fault"))
    }

    fn report(&mut self, end: &End, hang: &str) -> Result<String> {
        let mut text = String::new();
        if *end == End::Hang {
            text += &format!(
                "no end after {} s: it hangs, or what it does has no end, as a server's work \
                 (without a terminal --limit SECONDS says how long to wait)\n",
                self.machine.options.limit.as_secs()
            );
        }
        let lines = self.console.lines();
        if lines.is_empty() {
            text += "the console said nothing at all\n";
        } else {
            let last = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default();
            text += "the console's last lines:\n";
            for line in last {
                let mark = match line.source {
                    Source::Guest => "",
                    Source::Hypervisor => self.machine.system.mark(),
                };
                let note = self.symbols.note(&line.text);
                let note = note.map_or(String::new(), |note| format!(" {note}"));
                text += &format!("    {mark}{}{note}\n", line.text);
            }
        }
        if self.triple_fault() {
            text += "triple fault: `-d int -D FILE` behind the line below logs what led to it\n";
        }
        text += hang;
        text += "to see it again, by hand:\n    ";
        text += &self.machine.by_hand(&self.scratch)?;
        text.push('\n');
        Ok(text)
    }
}

/// What one of Xen's lines says about the end, if anything.
///
/// QEMU's exit status tells nothing on Xen: a power-off halts the CPUs for ever, and a reboot, a
/// crashed initial domain (after five seconds) and a failed Xen all reset the machine. These lines
/// are printed at Xen's level `warning` and above. When Xen gives up before it starts the guest, it
/// has refused the guest, or the machine.
fn xen_end(line: &Line, all: &[Line]) -> Option<End> {
    if line.source != Source::Hypervisor {
        return None;
    }
    let text = line.text.as_str();
    if text.starts_with("Hardware Dom0 halted") {
        Some(End::Success)
    } else if text.starts_with("Hardware Dom0 shutdown: rebooting") {
        Some(End::Reboot)
    } else if text.starts_with("Hardware Dom0 ") {
        Some(End::GuestFailed)
    } else if text.starts_with("Reboot in five seconds") {
        let started = all.iter().any(|line| line.text.ends_with(" init memory"));
        Some(if started { End::HypervisorFailed } else { End::Refused })
    } else {
        None
    }
}

/// The same command, but ended by the system when this process is gone, however it went.
pub(crate) fn tied_to_us(line: &Command) -> Command {
    if process::program("setpriv").is_none() {
        let mut command = Command::new(line.get_program());
        command.args(line.get_args());
        return command;
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(line.get_program()).args(line.get_args());
    command
}

/// QEMU's list of registers without those of floating point, which fill a screen for each CPU.
fn without_float(registers: &str) -> String {
    let float = |line: &str| ["FCW", "FPR", "XMM", "YMM"].iter().any(|name| line.starts_with(name));
    let kept = registers.lines().filter(|line| !float(line));
    kept.fold(String::new(), |text, line| text + line + "\n")
}

/// Reads `output` on a thread of its own, so that waiting for it can end at a deadline.
pub(crate) fn pump(mut output: ChildStdout) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = output.read(&mut buffer) {
            let bytes = buffer.get(..count).unwrap_or_default().to_vec();
            if sender.send(bytes).is_err() {
                break;
            }
        }
    });
    receiver
}
