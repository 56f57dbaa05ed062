//! What stock guests are made of: files of Debian's packages, as they are, and our scripts beside them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cpio::Archive;
use crate::debian;
use crate::packages;
use crate::process::say;
use crate::workspace;

/// Names the kernel's package of today as the one it depends on.
const LINUX: &str = "linux-image-cloud-amd64";
/// GRUB, a shell, and the store's tools with the libraries they load.
const PACKAGES: [&str; 7] = [
    "busybox-static",
    "grub-xen-host",
    "libc6",
    "libgcc-s1",
    "libxenstore4",
    "libxentoolcore1",
    "xenstore-utils",
];
/// What of them goes into Linux's first root, as `tar` matches names.
const CHOSEN: [&str; 7] = [
    "./bin/busybox",
    "./lib/x86_64-linux-gnu/ld*.so*",
    "./lib/x86_64-linux-gnu/libc.so*",
    "./lib/x86_64-linux-gnu/libgcc_s.so*",
    "./lib64/*",
    "./usr/bin/xenstore*",
    "./usr/lib/x86_64-linux-gnu/libxen*.so*",
];
/// GRUB for a domain, which looks for a configuration on its disks.
const GRUB: &str = "./usr/lib/grub-xen/grub-x86_64-xen.bin";
/// Parts of Linux.
const MODULES: [&str; 2] = ["drivers/block/xen-blkfront", "drivers/net/xen-netfront"];
/// The first program of Linux as a domain, and what it may run.
const SCRIPTS: [(&str, &str); 6] = [
    ("init", include_str!("init.sh")),
    ("role/alone", include_str!("alone.sh")),
    ("role/disk", include_str!("disk.sh")),
    ("role/server", include_str!("server.sh")),
    ("role/client", include_str!("client.sh")),
    ("role/store", include_str!("store.sh")),
];

/// Stock guests, unchanged.
pub(super) struct Material {
    /// Linux, compressed as Debian ships it.
    pub(super) linux: PathBuf,
    /// GRUB, an ELF file.
    pub(super) grub: PathBuf,
    /// Linux's first root.
    pub(super) root: Vec<u8>,
}

/// The material, from `folder`, where it is made if it is not there.
///
/// # Errors
///
/// When a package cannot be had, or is not as Debian 12's.
pub(super) fn provide(folder: &Path) -> Result<Material> {
    packages::provide(&[packages::DEBIAN])?;
    let [linux, grub, tree] = ["linux", "grub", "tree"].map(|name| folder.join(name));
    let recipe = format!("{PACKAGES:?} {CHOSEN:?} {MODULES:?}");
    workspace::once(folder, &recipe, || {
        say("fetching stock guests of Debian's packages, once");
        debian::or_afresh(|| make(&folder.join("packages"), &tree, [&linux, &grub]))
            .context("cannot get stock guests: it takes Debian 12's packages")
    })?;
    // The scripts change with this program, so this is done each time.
    Ok(Material { linux, grub, root: root(&tree)? })
}

/// Makes the files of the first root in `tree`, and the files of Linux and GRUB.
fn make(packages: &Path, tree: &Path, [linux, grub]: [&Path; 2]) -> Result<()> {
    for fresh in [tree, packages] {
        let _absent = std::fs::remove_dir_all(fresh);
        std::fs::create_dir_all(fresh)?;
    }
    let name = debian::dependency(LINUX)?;
    debian::fetch(packages, PACKAGES.iter().copied().chain([name.as_str()]))?;
    let version = name.trim_start_matches("linux-image-");
    let modules = MODULES.map(|module| format!("./lib/modules/{version}/kernel/{module}.ko"));
    let boot = format!("./boot/vmlinuz-{version}");
    let mut chosen = CHOSEN.to_vec();
    chosen.extend(modules.iter().chain([&boot]).map(String::as_str).chain([GRUB]));
    for file in std::fs::read_dir(packages)? {
        debian::unpack(&file?.path(), tree, &chosen)?;
    }
    std::fs::create_dir_all(tree.join("modules"))?;
    for module in &modules {
        let name = module.rsplit('/').next().unwrap_or_default();
        let to = tree.join("modules").join(name);
        std::fs::rename(tree.join(module), to).with_context(|| format!("no module {name}"))?;
    }
    std::fs::rename(tree.join(boot), linux).context("no kernel")?;
    std::fs::rename(tree.join(GRUB), grub).context("no GRUB")?;
    for used in ["boot", "lib/modules", "usr/lib/grub-xen"] {
        std::fs::remove_dir_all(tree.join(used))?;
    }
    std::fs::remove_dir_all(packages)?;
    Ok(())
}

/// The first root as an archive.
fn root(tree: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.tree(tree, "")?;
    for folder in ["dev", "role"] {
        archive.folder(folder);
    }
    for (path, text) in SCRIPTS {
        archive.file(path, text.as_bytes());
    }
    archive.terminal("dev/console", [5, 1]);
    Ok(archive.finish())
}
