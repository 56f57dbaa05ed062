//! Other programs: started with a word on what they do, and judged by their exit status.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Says on standard error what is being done now: the progress of long steps.
pub(crate) fn say(message: impl AsRef<str>) {
    eprintln!("xtask: {}", message.as_ref());
}

/// Runs `command` with this process's own input and output.
///
/// # Errors
///
/// When it cannot be started or ends with a status other than 0.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`", line(command)))?;
    if status.success() {
        return Ok(());
    }
    bail!("`{}` failed ({status})", line(command))
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
