//! Debian's packages: installed by name where we may, else named to the user.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{self, say};

/// Installs `packages` for `purpose` (a phrase such as "to boot real Xen").
///
/// As root or through a `sudo` that asks nothing; elsewhere the error is the line to run.
///
/// # Errors
///
/// When nobody may install packages here, or `apt-get` fails.
pub(crate) fn install(packages: &[&str], purpose: &str) -> Result<()> {
    let names = packages.join(" ");
    if process::program("apt-get").is_none() {
        bail!(
            "missing, {purpose}, what Debian 12 has in the packages {names}, and there is no \
             apt-get here: install them your system's way, then run the same command again"
        );
    }
    let Some(prefix) = privilege() else {
        bail!(
            "missing packages {purpose}: run\n\n    sudo apt-get update && sudo apt-get install \
             -y --no-install-recommends {names}\n\nthen the same command again"
        );
    };
    say(format!("installing Debian packages {purpose}: {names}"));
    refresh(prefix)?;
    process::succeed(
        privileged(prefix)
            // Another apt may be at work, such as the system's own updates.
            .args(["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"])
            .args(["install", "-y", "--no-install-recommends"])
            .args(packages),
    )
    .with_context(|| format!("cannot install {names}"))
}

/// Fetches the lists of packages anew.
///
/// # Errors
///
/// When nobody may do that here, or it fails.
pub(crate) fn update() -> Result<()> {
    refresh(privilege().context("nobody may refresh the package lists: sudo apt-get update")?)
}

fn refresh(prefix: &[&str]) -> Result<()> {
    process::succeed(privileged(prefix).args(["apt-get", "-q", "update"]))
        .context("cannot refresh Debian's package lists")
}

/// What comes before a command that needs to be root, or nothing when we cannot be.
fn privilege() -> Option<&'static [&'static str]> {
    let id = process::output(Command::new("id").arg("-u")).ok()?;
    if id.trim_ascii() == b"0" {
        return Some(&[]);
    }
    process::output(Command::new("sudo").args(["-n", "true"])).ok()?;
    Some(&["sudo", "-n"])
}

fn privileged(prefix: &[&str]) -> Command {
    // `env` also spares the case of an empty prefix.
    let mut words = prefix.iter().copied().chain(["env"]);
    let mut command = Command::new(words.next().unwrap_or("env"));
    command.args(words).arg("DEBIAN_FRONTEND=noninteractive");
    command
}
