//! QEMU's monitor: asked for registers when a machine hangs, and told to quit.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// The name of the monitor's socket in the folder where QEMU runs.
pub(crate) const SOCKET: &str = "monitor";

/// How long QEMU may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to the monitor of a running QEMU.
pub(crate) struct Monitor {
    stream: BufReader<UnixStream>,
}

impl Monitor {
    /// Connects to the QEMU that runs in `folder`.
    ///
    /// # Errors
    ///
    /// When nobody listens there.
    pub(crate) fn connect(folder: &Path) -> Result<Self> {
        // A socket's path ends at 108 bytes, a folder's need not: go through the open folder.
        let open = std::fs::File::open(folder)?;
        let short = format!("/proc/self/fd/{}/{SOCKET}", open.as_raw_fd());
        let stream = UnixStream::connect(short).context("QEMU's monitor does not listen")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut monitor = Self { stream: BufReader::new(stream) };
        monitor.execute("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// What the human monitor prints for `command`.
    ///
    /// # Errors
    ///
    /// When QEMU does not answer or refuses.
    pub(crate) fn ask(&mut self, command: &str) -> Result<String> {
        let arguments = json!({ "command-line": command });
        let answer = self.execute("human-monitor-command", &arguments)?;
        let text = answer.as_str().unwrap_or_default();
        Ok(text.replace('\r', ""))
    }

    /// Ends QEMU in order: it puts the terminal back as it was.
    ///
    /// # Errors
    ///
    /// When QEMU does not answer.
    pub(crate) fn quit(&mut self) -> Result<()> {
        self.execute("quit", &json!({})).map(drop)
    }

    fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.stream.get_mut(), "{request}")?;
        // The greeting and events come in between.
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                bail!("QEMU closed its monitor");
            }
            let mut answer: Value = serde_json::from_str(&line)?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU's monitor refuses `{command}`: {error}");
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
    }
}
