//! What the commands need beside Rust, how to see that it is there, and which package has it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::debian;
use crate::process::{self, is_file};

/// Xen's hypervisor as Debian installs it.
const XEN: &str = "/boot/xen-4.17-amd64.gz";

/// Something from outside the workspace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Need {
    /// The emulator.
    Qemu,
    /// Real Xen, the oracle.
    Xen,
    /// Xen's public headers and a C compiler, to compare layouts with.
    Headers,
}

impl Need {
    fn is_met(self) -> bool {
        match self {
            Self::Qemu => process::program("qemu-system-x86_64").is_some(),
            Self::Xen => is_file(Path::new(XEN)),
            Self::Headers => {
                is_file(Path::new("/usr/include/xen/xen.h")) && process::program("gcc").is_some()
            }
        }
    }

    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Qemu => &["qemu-system-x86"],
            Self::Xen => &["xen-hypervisor-4.17-amd64"],
            Self::Headers => &["libxen-dev", "gcc", "libc6-dev"],
        }
    }
}

/// Makes sure that all of `needs` are there, and installs what is not.
///
/// # Errors
///
/// When something is missing and cannot be installed; the error says what to run.
pub(crate) fn provide(needs: &[Need]) -> Result<()> {
    let missing: Vec<Need> = needs.iter().copied().filter(|need| !need.is_met()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.packages()).copied().collect();
    debian::install(&packages, "for this command")?;
    for need in missing {
        ensure!(
            need.is_met(),
            "the packages {} are installed, but what is needed of them is not where Debian 12 puts it",
            need.packages().join(" ")
        );
    }
    Ok(())
}

/// Real Xen as QEMU takes it: unpacked into `folder`, once.
///
/// # Errors
///
/// When Debian's file cannot be unpacked.
pub(crate) fn xen(folder: &Path) -> Result<PathBuf> {
    let unpacked = folder.join("xen-4.17");
    let age = |path: &Path| path.metadata().and_then(|found| found.modified()).ok();
    if is_file(&unpacked) && age(&unpacked) > age(Path::new(XEN)) {
        return Ok(unpacked);
    }
    let image = process::output(std::process::Command::new("gzip").args(["-dc", XEN]))?;
    // Renamed into place: a second xtask beside this one never sees half a file.
    let fresh = folder.join(format!("xen-4.17.{}", std::process::id()));
    std::fs::write(&fresh, image)
        .and_then(|()| std::fs::rename(&fresh, &unpacked))
        .with_context(|| format!("cannot write {}", unpacked.display()))?;
    Ok(unpacked)
}
