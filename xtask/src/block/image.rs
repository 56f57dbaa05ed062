//! Disk images with something in them, made and looked into by Debian's tools.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::packages;
use crate::process;
use crate::workspace;

/// The file of random bytes on the first partition. Unit: bytes, and not a multiple of a sector.
pub(crate) const DATA: usize = 1_200_345;
/// Where the two partitions begin, how long each is, and the disk. Unit: sectors of 512 bytes.
const FIRST: [u64; 2] = [2048, 34816];
const SECTORS: [u64; 2] = [32768, 16384];
const ALL: u64 = 53248;
/// What `hello.txt` on the second partition says.
const HELLO: &str = "hello from ext2 via blkfront\n";
/// What GRUB does that finds the second partition.
const GRUB: &str = include_str!("grub.cfg");

/// The images, none of which is to be written: machines get copies.
pub(crate) struct Images {
    /// A disk with two partitions, by GPT: FAT and ext2.
    pub(crate) disk: PathBuf,
    /// The FAT file system alone.
    pub(super) fat: PathBuf,
    /// The sum of `DATA.BIN`, as `sha256sum` has it.
    pub(crate) sum: String,
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
    let data = random(DATA);
    let contents = folder.join("contents");
    let recipe = format!("{DATA} {FIRST:?} {SECTORS:?} {ALL} {HELLO} {GRUB}");
    std::fs::create_dir_all(&contents)?;
    let file = contents.join("DATA.BIN");
    workspace::once(folder, &recipe, || {
        std::fs::write(&file, &data)?;
        let sum = sum(&file)?;
        std::fs::write(contents.join("DATA.SHA"), format!("{sum}  DATA.BIN\n"))?;
        let files = ["DATA.BIN", "DATA.SHA"].map(|name| contents.join(name));
        make_fat(&fat, SECTORS[0], &files)?;
        let tree = folder.join("tree");
        std::fs::create_dir_all(tree.join("boot/grub"))?;
        std::fs::write(tree.join("hello.txt"), HELLO)?;
        std::fs::write(tree.join("boot/grub/grub.cfg"), GRUB)?;
        make_ext2(&ext2, SECTORS[1], &tree)?;
        let [one, two] = FIRST;
        let parts = [(one, SECTORS[0], Some(&*fat)), (two, SECTORS[1], Some(&*ext2))];
        make_disk(&disk, ALL, &parts)
    })?;
    let zeros = data.iter().filter(|&&byte| byte == 0).count();
    Ok(Images { disk, fat, sum: sum(&file)?, zeros })
}

/// So many random bytes, the same each time.
pub(crate) fn random(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let bytes = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    bytes.flatten().take(count).collect()
}

/// A file of zeros. Unit: sectors.
pub(crate) fn empty(path: &Path, sectors: u64) -> Result<()> {
    File::create(path)?.set_len(512 * sectors)?;
    Ok(())
}

/// An ext2 file system of so many sectors with all that is in `tree`.
///
/// # Errors
///
/// When the tool fails, such as for want of room.
pub(crate) fn make_ext2(path: &Path, sectors: u64, tree: &Path) -> Result<()> {
    empty(path, sectors)?;
    let mut make = Command::new("/usr/sbin/mke2fs");
    process::output(make.args(["-q", "-F", "-t", "ext2", "-d"]).args([tree, path])).map(drop)
}

/// A FAT file system with files.
pub(crate) fn make_fat(path: &Path, sectors: u64, files: &[PathBuf]) -> Result<()> {
    empty(path, sectors)?;
    process::output(Command::new("/usr/sbin/mkfs.fat").args(["-F", "16"]).arg(path))?;
    process::output(Command::new("mcopy").arg("-i").arg(path).args(files).arg("::"))?;
    Ok(())
}

/// A partition: its first sector, its length, and what is in it, or nothing but zeros.
pub(crate) type Partition<'a> = (u64, u64, Option<&'a Path>);

/// A disk of so many sectors with partitions.
pub(crate) fn make_disk(path: &Path, all: u64, partitions: &[Partition<'_>]) -> Result<()> {
    empty(path, all)?;
    let mut table = Command::new("/usr/sbin/sfdisk")
        .args(["-q", "--no-reread", "--no-tell-kernel"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot start sfdisk")?;
    let mut lines = "label: gpt\n".to_owned();
    for (first, sectors, _) in partitions {
        lines += &format!("start={first}, size={sectors}\n");
    }
    table.stdin.take().context("sfdisk reads nothing")?.write_all(lines.as_bytes())?;
    ensure!(table.wait()?.success(), "sfdisk failed");
    for (first, _, content) in partitions {
        let Some(content) = content else { continue };
        let mut disk = File::options().write(true).open(path)?;
        disk.seek(SeekFrom::Start(512 * first))?;
        disk.write_all(&std::fs::read(content)?)?;
    }
    Ok(())
}

/// The SHA-256 of a file.
///
/// # Errors
///
/// When it cannot be read.
pub(crate) fn sum(path: &Path) -> Result<String> {
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
