//! A machine of which nothing is known but its first serial line: somebody sits there, reads and types.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::boot;
use crate::options::MachineOptions;

/// What is read, and typed then. Of prompts the first alone tells something: each line that a domain says
/// brings a new one.
const DIALOGUE: [(&str, &str); 4] = [
    ("dom0> ", "list\r"),
    ("Domain-0 ", "create hello\r"),
    ("hello| ", "create httpd\r"),
    ("httpd| serving at address~10.0.2.", "poweroff\r"),
];
/// What is read last.
const FAREWELL: &str = "all domains have ended";
/// The least time that all of it gets, firmware included.
const LIMIT: Duration = Duration::from_secs(600);

/// Boots a machine from a drive, by this firmware or QEMU's own, holds [`DIALOGUE`], and waits for the
/// machine to power itself off: by ACPI alone, for it has none of QEMU's devices that end it.
///
/// # Errors
///
/// When something else is read, or the machine does not end.
pub(super) fn rule(
    drive: &[String],
    firmware: Option<&Path>,
    options: &MachineOptions,
) -> Result<()> {
    let mut line = Command::new("qemu-system-x86_64");
    line.args(["-cpu", &options.cpu, "-m", "512", "-display", "none", "-monitor", "none"]);
    // A reset begins anew, and is not taken for the end so.
    line.args(["-serial", "stdio", "-nic", "user,model=virtio-net-pci"]);
    line.args(drive);
    if let Some(firmware) = firmware {
        line.arg("-bios").arg(firmware);
    }
    let mut qemu = boot::tied_to_us(&line);
    let mut qemu = qemu.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut person = Person {
        output: boot::pump(qemu.stdout.take().context("QEMU has no output")?),
        read: Vec::new(),
        seen: 0,
        deadline: Instant::now() + options.limit.max(LIMIT),
    };
    let mut keys = qemu.stdin.take().context("QEMU has no input")?;
    let done = person.talk(&mut keys);
    if done.is_err() {
        qemu.kill()?;
    }
    let status = qemu.wait()?;
    done.with_context(|| format!("the machine said:\n{}", person.said()))?;
    ensure!(status.success(), "QEMU ended by itself ({status})");
    Ok(())
}

/// Somebody at a serial line.
struct Person {
    output: Receiver<Vec<u8>>,
    /// All that came.
    read: Vec<u8>,
    /// How much of it was understood.
    seen: usize,
    deadline: Instant,
}

impl Person {
    fn talk(&mut self, keys: &mut impl Write) -> Result<()> {
        for (due, reply) in DIALOGUE {
            self.wait(due)?;
            keys.write_all(reply.as_bytes())?;
        }
        self.wait(FAREWELL)?;
        while self.hear()? {}
        Ok(())
    }

    /// Reads until `due` has come.
    fn wait(&mut self, due: &str) -> Result<()> {
        loop {
            let rest = self.read.get(self.seen..).unwrap_or_default();
            if let Some(at) = rest.windows(due.len()).position(|part| part == due.as_bytes()) {
                self.seen += at + due.len();
                return Ok(());
            }
            ensure!(self.hear()?, "the machine has ended without {due:?}");
        }
    }

    /// Reads something, unless the machine has ended.
    fn hear(&mut self) -> Result<bool> {
        match self.output.recv_timeout(self.deadline.saturating_duration_since(Instant::now())) {
            Ok(bytes) => self.read.extend(bytes),
            Err(RecvTimeoutError::Disconnected) => return Ok(false),
            Err(RecvTimeoutError::Timeout) => bail!("nothing more comes in time"),
        }
        Ok(true)
    }

    /// All that came, without control characters.
    fn said(&self) -> String {
        let text = String::from_utf8_lossy(&self.read);
        text.chars().filter(|it| !it.is_control() || *it == '\n').collect()
    }
}
