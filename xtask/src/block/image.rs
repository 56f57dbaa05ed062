//! Disk images with something in them, made and looked into by Debian's tools.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::packages;
use crate::process;

/// The file of random bytes on the first partition. Unit: bytes, and not a multiple of a sector.
const DATA: usize = 1_200_345;
/// Where the two partitions begin, how long each is, and the disk. Unit: sectors of 512 bytes.
const FIRST: [u64; 2] = [2048, 34816];
const SECTORS: [u64; 2] = [32768, 16384];
const ALL: u64 = 53248;
/// What `hello.txt` on the second partition says.
const HELLO: &str = "hello from ext2 via blkfront\n";

/// The images, none of which is to be written: machines get copies.
pub(crate) struct Images {
    /// A disk with two partitions, by GPT: FAT and ext2.
    pub(crate) disk: PathBuf,
    /// The FAT file system alone.
    pub(super) fat: PathBuf,
    /// The sum of `DATA.BIN`, as `sha256sum` has it.
    sum: String,
    /// How many of its bytes are 0.
    zeros: usize,
}

/// The images, from `folder`, where they are made if they are not there.
///
/// # Errors
///
/// When a tool is missing or fails.
pub(crate) fn provide(folder: &Path) -> Result<Images> {
    packages::provide(&[packages::FILE_SYSTEMS])?;
    let [disk, fat, ext2] = ["disk.img", "fat.img", "ext2.img"].map(|name| folder.join(name));
    let data = data();
    let (complete, contents) = (folder.join("complete"), folder.join("contents"));
    let recipe = format!("1 {DATA} {FIRST:?} {SECTORS:?} {ALL} {HELLO}");
    std::fs::create_dir_all(&contents)?;
    let file = contents.join("DATA.BIN");
    if std::fs::read_to_string(&complete).ok().as_ref() != Some(&recipe) {
        std::fs::write(&file, &data)?;
        let sum = sum(&file)?;
        std::fs::write(contents.join("DATA.SHA"), format!("{sum}  DATA.BIN\n"))?;
        let files = ["DATA.BIN", "DATA.SHA"].map(|name| contents.join(name));
        make_fat(&fat, SECTORS[0], &files)?;
        let tree = folder.join("tree");
        std::fs::create_dir_all(&tree)?;
        std::fs::write(tree.join("hello.txt"), HELLO)?;
        empty(&ext2, SECTORS[1])?;
        process::output(
            Command::new("/usr/sbin/mke2fs")
                .args(["-q", "-F", "-t", "ext2", "-d"])
                .args([&tree, &ext2]),
        )?;
        make_disk(&disk, [&fat, &ext2])?;
        std::fs::write(complete, recipe)?;
    }
    let zeros = data.iter().filter(|&&byte| byte == 0).count();
    Ok(Images { disk, fat, sum: sum(&file)?, zeros })
}

/// Random bytes, the same each time.
fn data() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let bytes = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    bytes.flatten().take(DATA).collect()
}

/// A file of zeros. Unit: sectors.
fn empty(path: &Path, sectors: u64) -> Result<()> {
    File::create(path)?.set_len(512 * sectors)?;
    Ok(())
}

/// A FAT file system with files.
fn make_fat(path: &Path, sectors: u64, files: &[PathBuf]) -> Result<()> {
    empty(path, sectors)?;
    process::output(Command::new("/usr/sbin/mkfs.fat").args(["-F", "16"]).arg(path))?;
    process::output(Command::new("mcopy").arg("-i").arg(path).args(files).arg("::"))?;
    Ok(())
}

/// A disk with two partitions.
fn make_disk(path: &Path, partitions: [&Path; 2]) -> Result<()> {
    empty(path, ALL)?;
    let mut table = Command::new("/usr/sbin/sfdisk")
        .args(["-q", "--no-reread", "--no-tell-kernel"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot start sfdisk")?;
    let mut lines = "label: gpt\n".to_owned();
    for (first, sectors) in FIRST.iter().zip(SECTORS) {
        lines += &format!("start={first}, size={sectors}\n");
    }
    table.stdin.take().context("sfdisk reads nothing")?.write_all(lines.as_bytes())?;
    ensure!(table.wait()?.success(), "sfdisk failed");
    for (first, partition) in FIRST.iter().zip(partitions) {
        let mut disk = File::options().write(true).open(path)?;
        disk.seek(SeekFrom::Start(512 * first))?;
        disk.write_all(&std::fs::read(partition)?)?;
    }
    Ok(())
}

/// The SHA-256 of a file.
fn sum(path: &Path) -> Result<String> {
    let line = process::output(Command::new("sha256sum").arg(path))?;
    let line = String::from_utf8_lossy(&line).into_owned();
    Ok(line.split_whitespace().next().context("sha256sum says nothing")?.to_owned())
}

impl Images {
    /// Checks what the guest `blk` has left on a copy of the disk: its report is there and right,
    /// the data are as they were, the file system is clean, and so is all else of the disk.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub(super) fn check_disk(&self, disk: &Path, scratch: &Path) -> Result<()> {
        let fat = scratch.join("after.img");
        let mut parts = File::open(disk)?;
        let mut rest = Vec::new();
        parts.read_to_end(&mut rest)?;
        let [from, to] = [FIRST[0], FIRST[0] + SECTORS[0]].map(|sector| 512 * sector);
        let range = usize::try_from(from)?..usize::try_from(to)?;
        std::fs::write(&fat, rest.get(range.clone()).context("the disk has become shorter")?)?;
        let original = std::fs::read(&self.disk)?;
        let outside = |all: &[u8]| {
            [all.get(..range.start), all.get(range.end..)].map(|it| it.map(<[u8]>::to_vec))
        };
        ensure!(outside(&rest) == outside(&original), "the disk was written beside the partition");
        self.check_fat(&fat, scratch)
    }

    /// As [`Images::check_disk`], of the FAT file system alone.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub(super) fn check_fat(&self, fat: &Path, scratch: &Path) -> Result<()> {
        process::output(Command::new("/usr/sbin/fsck.fat").arg("-n").arg(fat))?;
        for name in ["DATA.BIN", "REPORT.TXT"] {
            let to = scratch.join(name);
            let from = format!("::{name}");
            process::output(
                Command::new("mcopy").args(["-n", "-o", "-i"]).arg(fat).arg(from).arg(&to),
            )?;
        }
        let found = sum(&scratch.join("DATA.BIN"))?;
        ensure!(found == self.sum, "DATA.BIN has the sum {found}, and had {}", self.sum);
        let report = std::fs::read_to_string(scratch.join("REPORT.TXT"))?;
        let wanted = format!("{}  DATA.BIN\n{DATA} bytes, {} of them 0\n", self.sum, self.zeros);
        ensure!(report == wanted, "REPORT.TXT says:\n{report}and should say:\n{wanted}");
        Ok(())
    }
}
