//! Debian's packages: installed by name where we may, else named to the user; or fetched and taken apart
//! without being installed, for which nobody needs to be root.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

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

/// The package of today that the package `name` stands for.
///
/// # Errors
///
/// When the lists of packages have none of that name, or it depends on nothing.
pub(crate) fn dependency(name: &str) -> Result<String> {
    let depends = process::output(Command::new("apt-cache").args(["depends", name]))?;
    let depends = String::from_utf8_lossy(&depends);
    let first = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    Ok(first.with_context(|| format!("{name} stands for no package"))?.to_owned())
}

/// Fetches the files of packages into `folder`.
///
/// # Errors
///
/// When one cannot be had.
pub(crate) fn fetch<'a>(folder: &Path, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut download = Command::new("apt-get");
    download.current_dir(folder).args(["-q", "download"]).args(names);
    process::output(&mut download).map(drop)
}

/// Unpacks what matches `chosen`, as `tar` matches names, of a package's file into the folder `tree`.
///
/// # Errors
///
/// When that is not a package.
pub(crate) fn unpack(package: &Path, tree: &Path, chosen: &[&str]) -> Result<()> {
    let mut files = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start dpkg-deb")?;
    let stream = files.stdout.take().context("dpkg-deb has no output")?;
    // What matches nothing is not an error: each package has some of the files.
    let status = Command::new("tar")
        .args(["-x", "--no-same-owner", "--wildcards", "-C"])
        .arg(tree)
        .args(chosen)
        .stdin(stream)
        .stderr(Stdio::null())
        .status()
        .context("cannot start tar")?;
    ensure!(files.wait()?.success(), "{} is not a package", package.display());
    ensure!(matches!(status.code(), Some(0 | 2)), "tar failed ({status})");
    Ok(())
}

/// Does `make`, which fetches packages; if that fails, once more with fresh lists of packages.
///
/// # Errors
///
/// Those of `make`, or of fetching the lists.
pub(crate) fn or_afresh(make: impl Fn() -> Result<()>) -> Result<()> {
    make().or_else(|error| {
        say(format!("{error:#}; trying again with fresh lists of packages"));
        let prefix = privilege();
        refresh(prefix.context("nobody may refresh the package lists: sudo apt-get update")?)?;
        make()
    })
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
