//! What the commands need beside Rust, how to see that it is there, and which package has it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::debian;
use crate::process::{self, is_file};
use crate::workspace;

/// Xen's hypervisor as Debian installs it.
const XEN_FILE: &str = "/boot/xen-4.17-amd64.gz";

/// Something from outside the workspace.
pub(crate) struct Need {
    /// Programs and files that are there when it is met.
    signs: &'static [&'static str],
    packages: &'static [&'static str],
}

/// The emulator.
pub(crate) const QEMU: Need =
    Need { signs: &["qemu-system-x86_64"], packages: &["qemu-system-x86"] };

/// The debugger.
pub(crate) const GDB: Need = Need { signs: &["gdb"], packages: &["gdb"] };

/// Real Xen, the oracle.
pub(crate) const XEN: Need = Need { signs: &[XEN_FILE], packages: &["xen-hypervisor-4.17-amd64"] };

/// Xen's public headers and a C compiler, to compare layouts with.
pub(crate) const HEADERS: Need = Need {
    signs: &["/usr/include/xen/xen.h", "/usr/include/stdio.h", "gcc"],
    packages: &["libxen-dev", "libc6-dev", "gcc"],
};

/// What fetches Debian's packages and takes them apart.
pub(crate) const DEBIAN: Need =
    Need { signs: &["apt-get", "apt-cache", "dpkg-deb", "tar"], packages: &["apt", "dpkg", "tar"] };

/// What makes disk images with file systems, and looks into them.
pub(crate) const FILE_SYSTEMS: Need = Need {
    signs: &[
        "/usr/sbin/sfdisk",
        "/usr/sbin/mkfs.fat",
        "/usr/sbin/fsck.fat",
        "/usr/sbin/mke2fs",
        "mcopy",
        "sha256sum",
    ],
    packages: &["fdisk", "dosfstools", "mtools", "e2fsprogs", "coreutils"],
};

impl Need {
    fn is_met(&self) -> bool {
        // An absolute path stays what it is behind the folders of the PATH.
        self.signs.iter().all(|sign| process::program(sign).is_some())
    }
}

/// Makes sure that all of `needs` are there, and installs what is not.
///
/// # Errors
///
/// When something is missing and cannot be installed; the error says what to run.
pub(crate) fn provide(needs: &[Need]) -> Result<()> {
    let _alone = workspace::alone();
    let missing: Vec<&Need> = needs.iter().filter(|need| !need.is_met()).collect();
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.packages).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    debian::install(&packages, "for this command")?;
    ensure!(
        missing.iter().all(|need| need.is_met()),
        "the packages {} are installed, but not all of their files are where Debian 12 puts them: \
         reinstall them",
        packages.join(" ")
    );
    Ok(())
}

/// Real Xen as QEMU takes it: unpacked into `folder`, once.
///
/// # Errors
///
/// When Debian's file cannot be unpacked.
pub(crate) fn xen(folder: &Path) -> Result<PathBuf> {
    let _alone = workspace::alone();
    let unpacked = folder.join("xen-4.17");
    let age = |path: &Path| path.metadata().and_then(|found| found.modified()).ok();
    if is_file(&unpacked) && age(&unpacked) > age(Path::new(XEN_FILE)) {
        return Ok(unpacked);
    }
    let image = process::output(std::process::Command::new("gzip").args(["-dc", XEN_FILE]))?;
    // Renamed into place: a second xtask beside this one never sees half a file.
    let fresh = folder.join(format!("xen-4.17.{}", std::process::id()));
    std::fs::write(&fresh, image)
        .and_then(|()| std::fs::rename(&fresh, &unpacked))
        .with_context(|| format!("cannot write {}", unpacked.display()))?;
    Ok(unpacked)
}
