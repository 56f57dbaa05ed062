//! `cargo xtask image`: what a machine without QEMU's `-kernel` boots, by GRUB: one file that is a compact
//! disc's image and a disk's, for a BIOS and for UEFI; and the tests that boot it in each of these ways.

mod serial;
mod tools;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, ensure};
use lexopt::prelude::*;

use crate::cpio::Archive;
use crate::options::{self, MachineOptions, TestOptions};
use crate::process::{self, say};
use crate::run::{Builder, GuestChoice};
use crate::steps::Steps;
use crate::workspace::Workspace;
use tools::Tools;

const HELP: &str = include_str!("../help/image.txt");

/// The guests in the bundle, and more lines of their configurations. A card's address comes by DHCP.
const GUESTS: [(&str, &str); 3] = [("hello", ""), ("echo", ""), ("httpd", "vif = ['']\n")];

/// GRUB's menu.
const MENU: &str = include_str!("grub.cfg");
/// How GRUB finds the menu, wherever it was started from.
const FIND: &str = include_str!("find.cfg");
/// GRUB's parts, beside those of a platform.
const PARTS: &str =
    "normal iso9660 part_msdos search search_fs_file multiboot2 serial terminal reboot halt";
/// For each platform: its folder, what the image is for, and more parts.
const BIOS: [&str; 3] = ["i386-pc", "i386-pc-eltorito", "biosdisk"];
const UEFI: [&str; 3] = ["x86_64-efi", "x86_64-efi", "fat efi_gop"];

/// Makes an image.
///
/// # Errors
///
/// When a word is wrong, or a part cannot be provided.
pub(crate) fn command(mut words: lexopt::Parser) -> Result<ExitCode> {
    let (mut path, mut machine) = (None, MachineOptions::default());
    while let Some(word) = words.next()? {
        match word {
            Short('h') | Long("help") => {
                print!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            Long("toolchain") => {
                options::machine(&mut machine, "toolchain", &mut words)?;
            }
            Value(word) if path.is_none() => path = Some(PathBuf::from(word)),
            other => return Err(options::unknown(&other, "image --help")),
        }
    }
    let workspace = Workspace::find()?;
    let scratch = workspace.scratch("image")?;
    let path = path.unwrap_or_else(|| scratch.join("paravane.iso"));
    ensure!(!path.is_dir(), "{} is a folder: give a file's path", path.display());
    make(&mut Builder::new(&workspace, machine.route), &scratch, &path)?;
    say(format!("{}: {} KiB", path.display(), path.metadata()?.len() / 1024));
    Ok(ExitCode::SUCCESS)
}

/// Makes the image `path`, with what it is made of in the folder `scratch`.
fn make(builder: &mut Builder<'_>, scratch: &Path, path: &Path) -> Result<()> {
    let tools = Tools::provide(scratch)?;
    let [tree, find, loader, system] =
        ["tree", "find.cfg", "loader.efi", "system.img"].map(|name| scratch.join(name));
    let boot = tree.join("boot");
    let _absent = std::fs::remove_dir_all(&tree);
    std::fs::create_dir_all(boot.join("grub"))?;
    std::fs::copy(builder.hypervisor()?, boot.join("paravane"))?;
    let control = GuestChoice::Built { package: "dom0".into(), name: "dom0".into() };
    std::fs::copy(builder.guest(&control)?, boot.join("dom0"))?;
    std::fs::write(boot.join("bundle"), bundle(builder)?)?;
    std::fs::write(boot.join("grub/grub.cfg"), MENU)?;
    std::fs::write(&find, FIND)?;
    for ([folder, format, parts], to) in [(BIOS, &boot.join("grub/bios.img")), (UEFI, &loader)] {
        let mut grub = tools.grub(folder);
        grub.args(["-O", format, "-p", "/boot/grub", "-c"]).arg(&find).arg("-o").arg(to);
        process::output(grub.args(PARTS.split(' ')).args(parts.split(' ')))?;
    }
    tools::make_system_partition(&system, &loader)?;
    let mut xorriso = tools.xorriso();
    xorriso.args("-as mkisofs -quiet -R -V PARAVANE".split(' '));
    // A BIOS starts `bios.img` from a disc by El Torito, from a disk by the first sector.
    xorriso
        .args("-b boot/grub/bios.img -no-emul-boot -boot-load-size 4 -boot-info-table".split(' '));
    xorriso
        .args(["--grub2-boot-info", "--grub2-mbr"])
        .arg(tools.grub_file("i386-pc/boot_hybrid.img"));
    // UEFI takes the second partition, which El Torito names too. Some BIOS start no disk
    // without an active partition.
    xorriso.args(["-partition_offset", "16", "--mbr-force-bootable"]);
    xorriso.args(["-append_partition", "2", "0xef"]).arg(&system);
    xorriso.args(
        "-eltorito-alt-boot -e --interval:appended_partition_2:all:: -no-emul-boot".split(' '),
    );
    process::output(xorriso.arg("-o").arg(path).arg(&tree)).map(drop)
}

/// The bundle of [`GUESTS`].
fn bundle(builder: &mut Builder<'_>) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for (name, more) in GUESTS {
        archive.file(name, &std::fs::read(builder.example(name)?)?);
        let config = format!("name = '{name}'\nkernel = '{name}'\nmemory = 16\n{more}");
        archive.file(&format!("{name}.cfg"), config.as_bytes());
    }
    Ok(archive.finish())
}

/// Boots the image as a disc and as a disk, by a BIOS and by UEFI, and rules each machine at its serial line.
pub(crate) fn test(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &TestOptions,
    steps: &mut Steps,
) {
    let disc = "-drive media=cdrom,format=raw,file=";
    let disk = "-drive media=disk,readonly=on,if=virtio,format=raw,file=";
    for (name, uefi, drive) in [
        ("image as a disc by a BIOS", false, disc),
        ("image as a disk by a BIOS", false, disk),
        ("image as a disc by UEFI", true, disc),
        ("image as a disk by UEFI", true, disk),
    ] {
        steps.run(name, || {
            let scratch = workspace.scratch("image")?;
            let image = scratch.join("test.iso");
            make(builder, &scratch, &image)?;
            crate::packages::provide(&[crate::packages::QEMU])?;
            let firmware = if uefi { Some(tools::firmware(&scratch)?) } else { None };
            let (flag, drive) = drive.split_once(' ').unwrap_or_default();
            let image = image.display().to_string().replace(',', ",,");
            let drive = [flag.to_owned(), format!("{drive}{image}")];
            serial::rule(&drive, firmware.as_deref(), &options.machine)
        });
    }
}
