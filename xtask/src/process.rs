//! Other programs: started with a word on what they do, and judged by their exit status.

use std::ffi::OsStr;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

/// Says on standard error what is being done now: the progress of long steps.
pub(crate) fn say(message: impl AsRef<str>) {
    eprintln!("xtask: {}", message.as_ref());
}

/// How much of what a program said is told of its failure. Unit: bytes.
const KEPT: usize = 4000;

/// Runs `command` with this process's own input and output.
///
/// # Errors
///
/// When it cannot be started or ends with a status other than 0; where nobody sits at a terminal, the
/// error carries what it wrote last.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let ended = if std::io::stderr().is_terminal() {
        command.status().map(|status| (status, String::new()))
    } else {
        overheard(command)
    };
    let (status, said) = ended.with_context(|| format!("cannot start `{}`", line(command)))?;
    if status.success() {
        return Ok(());
    }
    bail!("`{}` failed ({status})\n{said}", line(command))
}

/// Runs `command`, hands on what it writes, and keeps the end of that.
fn overheard(command: &mut Command) -> std::io::Result<(ExitStatus, String)> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let kept = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| hand_on(out, std::io::stdout(), &kept));
        hand_on(err, std::io::stderr(), &kept);
    });
    let kept = kept.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok((child.wait()?, String::from_utf8_lossy(&kept).into_owned()))
}

/// Hands on what comes, until the end, and keeps the last of it.
fn hand_on(from: Option<impl Read>, mut to: impl Write, kept: &Mutex<Vec<u8>>) {
    let Some(mut from) = from else { return };
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        let came = &bytes[..count];
        let _nobody_may_read_it = to.write_all(came).and_then(|()| to.flush());
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(came);
        let too_much = kept.len().saturating_sub(KEPT);
        kept.drain(..too_much);
    }
}

/// Runs `command` silently and returns what it wrote to standard output.
///
/// # Errors
///
/// When it cannot be started or ends with a status other than 0; the error carries what it wrote
/// to standard error.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", line(command)))?;
    if done.status.success() {
        return Ok(done.stdout);
    }
    bail!(
        "`{}` failed ({}): {}",
        line(command),
        done.status,
        String::from_utf8_lossy(&done.stderr).trim()
    )
}

/// The file that `name` would start, looked for as a shell does.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        // Where Debian keeps its tools may be missing in the PATH of a service.
        .chain([PathBuf::from("/usr/bin"), PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join(name))
        .find(|file| is_file(file))
}

/// Whether a plain file (or a link to one) is at `path`.
pub(crate) fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file())
}

/// The command as one line for a shell.
pub(crate) fn line(command: &Command) -> String {
    let mut words = vec![quoted(command.get_program())];
    words.extend(command.get_args().map(quoted));
    words.join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=,:+@%".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_command_can_be_pasted_into_a_shell() {
        let mut command = Command::new("echo");
        command.args(["plain", "two words", "it's", ""]);
        assert_eq!(line(&command), r"echo plain 'two words' 'it'\''s' ''");
    }
}
