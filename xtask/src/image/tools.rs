//! What makes images: GRUB and xorriso of Debian's packages, unpacked, so that nobody needs to be root.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::debian;
use crate::packages;
use crate::process::{self, say};

/// GRUB's files and maker for a BIOS and UEFI, and xorriso with the libraries it loads.
const PACKAGES: [&str; 8] = [
    "grub-common",
    "grub-efi-amd64-bin",
    "grub-pc-bin",
    "libburn4",
    "libisoburn1",
    "libisofs6",
    "libjte2",
    "xorriso",
];
/// What of them is used, as `tar` matches names.
const CHOSEN: [&str; 4] = [
    "./usr/bin/grub-mkimage",
    "./usr/bin/xorriso",
    "./usr/lib/grub/*",
    "./usr/lib/x86_64-linux-gnu/lib*",
];
/// UEFI for QEMU.
const FIRMWARE: &str = "./usr/share/ovmf/OVMF.fd";

/// The tools.
pub(super) struct Tools {
    tree: PathBuf,
}

impl Tools {
    /// The tools, from `folder`, where they are put if they are not there.
    ///
    /// # Errors
    ///
    /// When a package cannot be had, or is not as Debian 12's.
    pub(super) fn provide(folder: &Path) -> Result<Self> {
        packages::provide(&[packages::FILE_SYSTEMS])?;
        Ok(Self { tree: unpacked(&folder.join("tools"), &PACKAGES, &CHOSEN)? })
    }

    /// `grub-mkimage` for one of GRUB's platforms.
    pub(super) fn grub(&self, platform: &str) -> Command {
        let mut grub = Command::new(self.tree.join("usr/bin/grub-mkimage"));
        grub.arg("-d").arg(self.grub_file(platform));
        grub
    }

    /// A file of GRUB's, or a platform's folder of them.
    pub(super) fn grub_file(&self, name: &str) -> PathBuf {
        self.tree.join("usr/lib/grub").join(name)
    }

    /// `xorriso`.
    pub(super) fn xorriso(&self) -> Command {
        let mut xorriso = Command::new(self.tree.join("usr/bin/xorriso"));
        xorriso.env("LD_LIBRARY_PATH", self.tree.join("usr/lib/x86_64-linux-gnu"));
        xorriso
    }
}

/// UEFI's file for QEMU, from `folder`, where it is put if it is not there.
///
/// # Errors
///
/// As of [`Tools::provide`].
pub(super) fn firmware(folder: &Path) -> Result<PathBuf> {
    Ok(unpacked(&folder.join("firmware"), &["ovmf"], &[FIRMWARE])?.join(FIRMWARE))
}

/// The folder with what is `chosen` of packages, below `folder`.
fn unpacked(folder: &Path, names: &[&str], chosen: &[&str]) -> Result<PathBuf> {
    packages::provide(&[packages::DEBIAN])?;
    let [tree, fetched, complete] = ["tree", "packages", "complete"].map(|it| folder.join(it));
    let recipe = format!("{names:?} {chosen:?}");
    if std::fs::read_to_string(&complete).ok().as_ref() == Some(&recipe) {
        return Ok(tree);
    }
    say(format!("fetching Debian's packages {}, once", names.join(" ")));
    debian::or_afresh(|| {
        for fresh in [&tree, &fetched] {
            let _absent = std::fs::remove_dir_all(fresh);
            std::fs::create_dir_all(fresh)?;
        }
        debian::fetch(&fetched, names.iter().copied())?;
        for file in std::fs::read_dir(&fetched)? {
            debian::unpack(&file?.path(), &tree, chosen)?;
        }
        Ok(())
    })
    .context("it takes Debian 12's packages to make an image")?;
    std::fs::remove_dir_all(fetched)?;
    std::fs::write(complete, recipe)?;
    Ok(tree)
}

/// Makes a FAT file system in the file `image`, with one file at a path of two folders, as UEFI looks for
/// it.
///
/// # Errors
///
/// When a tool fails.
pub(super) fn make_system_partition(image: &Path, loader: &Path) -> Result<()> {
    let _absent = std::fs::remove_file(image);
    let tool = |name: &str, words: &[&str]| {
        let mut tool = Command::new(name);
        process::output(tool.arg("-i").arg(image).args(words)).map(drop)
    };
    // As a floppy of 2.88 MB: the form that firmware finds on a compact disc.
    tool("mformat", &["-C", "-f", "2880", "::"])?;
    tool("mmd", &["::/EFI", "::/EFI/BOOT"])?;
    let loader = loader.display().to_string();
    tool("mcopy", &[&loader, "::/EFI/BOOT/BOOTX64.EFI"])
}
