//! The disk of the machine: a partition of files, and one for the key-value server.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::block::image::{DATA, make_disk, make_fat, random, sum};
use crate::packages;
use crate::process::{self, say};
use crate::run::Builder;

/// Where the partitions begin, how long each is, and the disk. Unit: sectors of 512 bytes.
const FILES: (u64, u64) = (2048, 65536);
pub(super) const KEYS: (u64, u64) = (67584, 32768);
const ALL: u64 = 102_400;

/// A domain whose kernel lies there too.
const HELLO: &str = "name = 'hello'\nkernel = 'hello'\nmemory = 16\n";
/// One that is put there when the disk is made already, with a kernel of the boot bundle.
const ADDED: &str = "name = 'added'\nkernel = 'echo'\nmemory = 16\n";

const README: &str = include_str!("readme.txt");

/// Keeps other runs from the machine's disk in `folder` as long as the file is open.
///
/// # Errors
///
/// When another run has it.
pub(super) fn hold(folder: &Path) -> Result<File> {
    let held = File::create(folder.join("in-use"))?;
    match held.try_lock() {
        Ok(()) => Ok(held),
        Err(TryLockError::WouldBlock) => {
            let disk = folder.join("disk.img");
            bail!("another `cargo xtask run` works on {}: end that one first", disk.display())
        }
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

/// The disk that machines of the user's work on, from `folder`; it is made if it is not there, and
/// then stays as they leave it.
///
/// # Errors
///
/// When a tool is missing or fails.
pub(super) fn provide(builder: &mut Builder<'_>, folder: &Path) -> Result<PathBuf> {
    let (disk, fresh) = (folder.join("disk.img"), fresh(builder, folder)?);
    let (made, recipe) = (folder.join("made"), format!("{FILES:?} {KEYS:?} {ALL} {HELLO}"));
    if !process::is_file(&disk) || std::fs::read_to_string(&made).ok().as_ref() != Some(&recipe) {
        say("making the machine's disk, once");
        std::fs::copy(fresh, &disk)?;
        std::fs::write(made, recipe)?;
    }
    Ok(disk)
}

/// A disk on which nobody has worked, not to be written.
///
/// # Errors
///
/// As [`provide`].
pub(crate) fn fresh(builder: &mut Builder<'_>, folder: &Path) -> Result<PathBuf> {
    packages::provide(&[packages::FILE_SYSTEMS])?;
    let (fresh, contents, fat) =
        (folder.join("fresh.img"), folder.join("contents"), folder.join("fat.img"));
    std::fs::create_dir_all(&contents)?;
    std::fs::write(contents.join("DATA.BIN"), random(DATA))?;
    let sum = sum(&contents.join("DATA.BIN"))?;
    std::fs::write(contents.join("DATA.SHA"), format!("{sum}  DATA.BIN\n"))?;
    std::fs::write(contents.join("README.TXT"), README)?;
    std::fs::write(contents.join("hello.cfg"), HELLO)?;
    std::fs::copy(builder.example("hello")?, contents.join("hello"))?;
    let files = ["README.TXT", "DATA.BIN", "DATA.SHA", "hello.cfg", "hello"];
    let files = files.map(|name| contents.join(name));
    make_fat(&fat, FILES.1, &files)?;
    make_disk(&fresh, ALL, &[(FILES.0, FILES.1, Some(&fat)), (KEYS.0, KEYS.1, None)])?;
    Ok(fresh)
}

/// Takes away what [`check`] looks for, which an earlier machine may have left, and adds a
/// configuration in a folder, as a user does.
///
/// # Errors
///
/// When it can't be put there.
pub(super) fn prepare(disk: &Path, scratch: &Path) -> Result<()> {
    let files = format!("{}@@{}", disk.display(), 512 * FILES.0);
    let _may_be_absent = process::output(Command::new("mdel").args(["-i", &files, "::REPORT.TXT"]));
    let _may_be_there =
        process::output(Command::new("mmd").args(["-D", "s", "-i", &files, "::more files"]));
    let added = scratch.join("added.cfg");
    std::fs::write(&added, ADDED)?;
    let mut copy = Command::new("mcopy");
    copy.args(["-n", "-o", "-i", &files]).arg(added).arg("::more files/added.cfg");
    process::output(&mut copy).map(drop)
}

/// Copies the partition of files to a file of its own, in `scratch`.
fn files(disk: &Path, scratch: &Path) -> Result<PathBuf> {
    let fat = scratch.join("files.img");
    let mut whole = File::open(disk)?;
    whole.seek(SeekFrom::Start(512 * FILES.0))?;
    std::io::copy(&mut whole.take(512 * FILES.1), &mut File::create(&fat)?)?;
    Ok(fat)
}

/// Checks the partition of files from outside: it is clean, the data are as they were made, and the
/// guest `blk` has reported on them.
///
/// # Errors
///
/// What is wrong.
pub(super) fn check(disk: &Path, scratch: &Path) -> Result<String> {
    let fat = files(disk, scratch)?;
    process::output(Command::new("/usr/sbin/fsck.fat").arg("-n").arg(&fat))
        .context("the file system is not clean")?;
    let read = |name: &str| {
        let from = format!("::{name}");
        process::output(Command::new("mcopy").args(["-n", "-i"]).arg(&fat).args([&*from, "-"]))
    };
    let data = random(DATA);
    ensure!(read("DATA.BIN")? == data, "DATA.BIN is not as it was");
    let zeros = data.iter().filter(|&&byte| byte == 0).count();
    let sum = super::drive::sum(&data);
    let wanted = format!("{sum}  DATA.BIN\n{} bytes, {zeros} of them 0\n", data.len());
    let report = String::from_utf8_lossy(&read("REPORT.TXT")?).into_owned();
    ensure!(report == wanted, "REPORT.TXT says:\n{report}and should say:\n{wanted}");
    Ok(format!("the file system is clean, DATA.BIN as it was ({sum}), REPORT.TXT right"))
}
