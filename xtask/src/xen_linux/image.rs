//! What the machine boots, made of Debian's packages: Linux, and a first root with Xen's toolstack.
//!
//! Packages are fetched by `apt-get download` and unpacked below the target directory: nothing of
//! them is installed, so nobody needs to be root.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use embassy_futures::block_on;
use toolstack::unpack::unpack;

use crate::cpio::Archive;
use crate::debian;
use crate::process::say;
use crate::workspace;

/// Names the kernel's package of today as the one it depends on.
const LINUX: &str = "linux-image-amd64";
/// The toolstack, a shell, and the libraries they load.
const PACKAGES: [&str; 20] = [
    "busybox-static",
    "libc6",
    "libgcc-s1",
    "liblzma5",
    "libuuid1",
    "libxencall1",
    "libxendevicemodel1",
    "libxenevtchn1",
    "libxenforeignmemory1",
    "libxengnttab1",
    "libxenhypfs1",
    "libxenmisc4.17",
    "libxenstore4",
    "libxentoolcore1",
    "libxentoollog1",
    "libyajl2",
    "libzstd1",
    "xen-utils-4.17",
    "xenstore-utils",
    "zlib1g",
];
/// What of them is needed, as `tar` matches names.
const CHOSEN: [&str; 10] = [
    "./bin/busybox",
    "./lib/x86_64-linux-gnu/l[di]*.so*",
    "./lib64/*",
    "./usr/bin/xenstore*",
    "./usr/lib/x86_64-linux-gnu/lib[lxyz]*.so*",
    "./usr/lib/x86_64-linux-gnu/libuuid.so*",
    "./usr/lib/xen-4.17/bin/xen-init-dom0",
    "./usr/lib/xen-4.17/bin/xenconsoled",
    "./usr/lib/xen-4.17/bin/xenstored",
    "./usr/lib/xen-4.17/bin/xl",
];
/// Parts of Linux, each behind those that it needs.
const MODULES: [&str; 17] = [
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci",
    "drivers/block/virtio_blk",
    "drivers/xen/xen-privcmd",
    "drivers/xen/xenfs/xenfs",
    "drivers/xen/xen-evtchn",
    "drivers/xen/xen-gntdev",
    "drivers/xen/xen-gntalloc",
    "drivers/block/xen-blkback/xen-blkback",
    "drivers/net/xen-netback/xen-netback",
    "drivers/block/loop",
    "net/llc/llc",
    "net/802/stp",
    "net/bridge/bridge",
];
/// What the machine runs, and what it runs for xl.
const SCRIPTS: [(&str, &str); 3] = [
    ("init", include_str!("init.sh")),
    ("bin/disk", include_str!("disk.sh")),
    ("bin/network", include_str!("network.sh")),
];

/// What the machine boots.
pub(super) struct Image {
    /// The file of Linux, compressed as Debian ships it.
    pub(super) linux: PathBuf,
    /// The first root, to which a job is appended.
    pub(super) root: Vec<u8>,
}

/// The image, from `folder`, where it is made if it is not there.
///
/// # Errors
///
/// When a package cannot be had, or is not as Debian 12's.
pub(super) fn provide(folder: &Path) -> Result<Image> {
    let (linux, tree) = (folder.join("linux"), folder.join("tree"));
    let recipe = format!("{PACKAGES:?} {CHOSEN:?} {MODULES:?}");
    workspace::once(folder, &recipe, || {
        say("making a Xen machine with Linux of Debian's packages, once");
        let packages = folder.join("packages");
        debian::or_afresh(|| make(&packages, &tree, &linux))
            .context("cannot make the Xen machine with Linux: it takes Debian 12's packages")
    })?;
    // The scripts change with this program, so this is done each time.
    Ok(Image { linux, root: root(&tree)? })
}

/// The ELF file in Linux's boot image, which is what our kernel takes: unpacked once.
///
/// # Errors
///
/// When the image is damaged, or the file can't be written.
pub(super) fn unpacked(linux: &Path) -> Result<PathBuf> {
    let file = linux.with_extension("elf");
    let age = |path: &Path| std::fs::metadata(path)?.modified();
    if age(&file).is_ok_and(|made| age(linux).is_ok_and(|packed| packed < made)) {
        return Ok(file);
    }
    let mut kernel = Vec::new();
    let mut sink = |piece: &[u8]| {
        kernel.extend_from_slice(piece);
        ControlFlow::Continue(())
    };
    let packed = std::fs::read(linux)?;
    block_on(unpack(&packed, &mut sink)).context("Debian's Linux can't be unpacked")?;
    let fresh = linux.with_extension("fresh");
    std::fs::write(&fresh, kernel)?;
    std::fs::rename(fresh, &file)?;
    Ok(file)
}

/// Makes the files of the first root in `tree`, and Linux as the file `linux`.
fn make(packages: &Path, tree: &Path, linux: &Path) -> Result<()> {
    for fresh in [tree, packages] {
        let _absent = std::fs::remove_dir_all(fresh);
        std::fs::create_dir_all(fresh)?;
    }
    let name = &debian::dependency(LINUX)?;
    debian::fetch(packages, PACKAGES.iter().copied().chain([name.as_str()]))?;
    let version = name.trim_start_matches("linux-image-");
    let modules = MODULES.map(|module| format!("./lib/modules/{version}/kernel/{module}.ko"));
    let boot = format!("./boot/vmlinuz-{version}");
    for file in std::fs::read_dir(packages)? {
        let file = file?;
        let is_linux = file.file_name().to_string_lossy().starts_with("linux-image-");
        let chosen: Vec<&str> = match is_linux {
            true => modules.iter().map(String::as_str).chain([boot.as_str()]).collect(),
            false => CHOSEN.to_vec(),
        };
        debian::unpack(&file.path(), tree, &chosen)?;
    }
    std::fs::create_dir_all(tree.join("modules"))?;
    for module in &modules {
        let name = module.rsplit('/').next().unwrap_or_default();
        let to = tree.join("modules").join(name);
        std::fs::rename(tree.join(module), to).with_context(|| format!("no module {name}"))?;
    }
    std::fs::rename(tree.join(boot), linux).context("no kernel")?;
    for used in [&tree.join("boot"), &tree.join("lib/modules"), packages] {
        std::fs::remove_dir_all(used)?;
    }
    Ok(())
}

/// The first root as an archive.
fn root(tree: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.tree(tree, "")?;
    let order = MODULES.map(|module| module.rsplit('/').next().unwrap_or_default());
    archive.file("modules/order", order.map(|name| format!("{name}.ko\n")).concat().as_bytes());
    for (path, text) in SCRIPTS {
        archive.file(path, text.as_bytes());
    }
    // Where xl looks for them when a configuration names none.
    archive.folder("etc");
    archive.folder("etc/xen");
    archive.folder("etc/xen/scripts");
    for (name, script) in [("block", "/bin/disk"), ("vif-bridge", "/bin/network")] {
        archive.link(&format!("etc/xen/scripts/{name}"), script);
    }
    archive.folder("dev");
    archive.terminal("dev/console", [5, 1]);
    Ok(archive.finish())
}
