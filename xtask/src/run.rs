//! `cargo xtask run`: one guest, one machine, the console in front of the user.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};

use crate::block;
use crate::boot::{self, End, Watch};
use crate::cpio::Archive;
use crate::folder;
use crate::machine::{Log, Machine, System};
use crate::options::{MachineOptions, RunOptions};
use crate::packages;
use crate::process::say;
use crate::rule;
use crate::servers;
use crate::toolchain::{Route, Toolchain};
use crate::trace;
use crate::workspace::{GuestBinary, Workspace};
use crate::xen_linux;

/// The guests that run as domains side by side.
pub(crate) const FAMILY: [&str; 4] = ["hello", "tour", "usermode", "smp"];

/// Does what the options ask for; the exit code says how the boot ended.
///
/// # Errors
///
/// When the machine cannot be built or started.
pub(crate) fn command(options: &RunOptions) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    // What the user got wrong is said before anything is installed or built.
    let word = options.guest.clone().unwrap_or_default();
    if options.trace.is_some() {
        ensure!(options.on == System::Paravane, "--trace: not available on Xen");
    }
    if Path::new(&word).is_dir() {
        let mut builder = Builder::new(&workspace, options.machine.route);
        return folder::run(&workspace, &mut builder, Path::new(&word), options);
    }
    let guest = if options.guest.is_none() {
        ensure!(!options.on.is_below_linux(), "below Linux there is one guest: name it");
        ensure!(options.ramdisk.is_none(), "--ramdisk is a guest's: name it");
        GuestChoice::Built { package: "dom0".into(), name: "dom0".into() }
    } else {
        GuestChoice::find(&workspace, &word)?
    };
    if let Some(ramdisk) = &options.ramdisk {
        readable(ramdisk).with_context(|| format!("--ramdisk {}", ramdisk.display()))?;
    }
    let disks: Vec<_> = options.disks.iter().map(std::path::absolute).collect::<Result<_, _>>()?;
    for disk in &disks {
        readable(disk).with_context(|| format!("--disk {}", disk.display()))?;
    }
    let mut builder = Builder::new(&workspace, options.machine.route);
    if options.guest.is_none() {
        let keyboard = options.watch() == Watch::Terminal;
        return servers::run(&workspace, &mut builder, options, disks, keyboard);
    }
    if word == "blk" && disks.is_empty() {
        return Ok(exit_code(&block::run(&workspace, &mut builder, options)?));
    }
    if options.on.is_below_linux() {
        let end = xen_linux::run(&workspace, &mut builder, &guest, disks, options)?;
        return Ok(exit_code(&end));
    }
    let mut machine = builder.machine(options.on, &guest, &options.machine)?;
    machine.kernel_args.clone_from(&options.kernel_args);
    machine.guest_args.clone_from(&options.args);
    machine.disks = disks;
    if options.verbose {
        machine.log = Log::All;
    }
    if let Some(ramdisk) = &options.ramdisk {
        machine.ramdisk = Some(std::path::absolute(ramdisk)?);
    }
    let scratch = workspace.scratch(&format!("run-{}", std::process::id()))?;
    let name = word.to_str().unwrap_or_default();
    if options.ramdisk.is_none() {
        machine.ramdisk = builder.ramdisk(name, &scratch)?;
    }
    options.look_inside(&mut machine, &scratch)?;
    eprintln!("{}", machine.by_hand(&scratch)?);
    boot_and_tell(&machine, options, &scratch)
}

/// Boots a machine, and tells a user how it ended. Its folder goes if that was well, unless the command
/// line that was shown needs it.
///
/// # Errors
///
/// When it does not start.
pub(crate) fn boot_and_tell(
    machine: &Machine,
    options: &RunOptions,
    scratch: &Path,
) -> Result<ExitCode> {
    let watch = options.watch();
    if watch == Watch::Terminal {
        say("ctrl-a x or ctrl-c ends QEMU, ctrl-a c is its monitor");
    }
    let record = boot::boot(machine, watch, scratch)?;
    if let Some(path) = &options.trace {
        trace::write(machine, &record.console, path)?;
    }
    if !record.end.is_success() {
        eprint!("{}", record.report);
    } else if !machine.by_hand(scratch)?.starts_with("cd ") {
        let _kept = std::fs::remove_dir_all(scratch);
    }
    say(format!("{} ({:.1} s)", record.end, record.duration.as_secs_f32()));
    Ok(exit_code(&record.end))
}

/// What a boot's end is for who started it.
pub(crate) fn exit_code(end: &End) -> ExitCode {
    ExitCode::from(match end {
        End::Success | End::Reboot => 0,
        End::GuestFailed => 1,
        End::Quit | End::Qemu(_) => 2,
        End::Refused => 3,
        End::HypervisorFailed => 4,
        End::Hang => 5,
    })
}

/// A guest that a user named.
pub(crate) enum GuestChoice {
    /// One of the workspace's, to be built.
    Built {
        /// The package it is in.
        package: String,
        /// The binary's name.
        name: String,
    },
    /// A file that is there.
    File(PathBuf),
}

impl GuestChoice {
    /// A guest of the workspace.
    pub(crate) fn of(guest: &GuestBinary) -> Self {
        Self::Built { package: guest.package.clone(), name: guest.name.clone() }
    }

    /// What `word` stands for: a guest's name or an ELF file's path.
    ///
    /// # Errors
    ///
    /// When it is neither.
    pub(crate) fn find(workspace: &Workspace, word: &OsStr) -> Result<Self> {
        if let Some(guest) = workspace.guests.iter().find(|guest| word == guest.name.as_str()) {
            return Ok(Self::of(guest));
        }
        let path = Path::new(word);
        if path.components().count() == 1 && !path.exists() {
            let names: Vec<&str> = workspace.guests.iter().map(|guest| &*guest.name).collect();
            bail!(
                "no guest `{}` in this workspace, and no file of that name here: the guests are {}",
                path.display(),
                names.join(", ")
            );
        }
        elf(path).with_context(|| format!("guest {}", path.display()))?;
        Ok(Self::File(std::path::absolute(path)?))
    }
}

/// Checks that a file begins like an ELF file. All else about it is the hypervisor's to judge.
fn elf(path: &Path) -> Result<()> {
    readable(path)?;
    let mut magic = [0; 4];
    let short = std::fs::File::open(path)?.read_exact(&mut magic).is_err();
    ensure!(!short && magic == *b"\x7fELF", "not an ELF file: give an uncompressed PV64 kernel");
    Ok(())
}

fn readable(path: &Path) -> Result<()> {
    let found = path.metadata().context("cannot be read: check the path")?;
    ensure!(found.is_file(), "not a file: give the path of a file");
    std::fs::File::open(path).context("cannot be read: check its permissions")?;
    Ok(())
}

/// Guests that run others as domains: the name, the others' package and their names.
const RAMDISKS: [(&str, &str, &[&str]); 3] = [
    ("nursery", "example-guests", &FAMILY),
    ("crowd", "example-guests", &["still"]),
    ("arena", "hostile", &["heartbeat", "fuzz", "attack"]),
];

/// Provides and builds what machines boot, each thing once.
pub(crate) struct Builder<'a> {
    workspace: &'a Workspace,
    route: Option<Route>,
    toolchain: Option<Toolchain>,
    /// What was built, or did not build, by name.
    built: BTreeMap<String, Option<PathBuf>>,
}

impl<'a> Builder<'a> {
    /// A builder that looks for the compiler by `route` when it first needs one.
    pub(crate) fn new(workspace: &'a Workspace, route: Option<Route>) -> Self {
        Self { workspace, route, toolchain: None, built: BTreeMap::new() }
    }

    /// A machine with `guest` on `system`, everything in it built; no arguments, no ramdisk.
    ///
    /// # Errors
    ///
    /// When something cannot be provided.
    pub(crate) fn machine(
        &mut self,
        system: System,
        guest: &GuestChoice,
        options: &MachineOptions,
    ) -> Result<Machine> {
        Ok(Machine {
            system,
            kernel: self.kernel(system)?,
            kernel_args: String::new(),
            log: Log::Warnings,
            guest: self.guest(guest)?,
            guest_args: String::new(),
            ramdisk: None,
            disks: Vec::new(),
            devices: Vec::new(),
            memory_file: None,
            domains: Vec::new(),
            others: 0,
            options: options.clone(),
        })
    }

    /// The hypervisor's image, with QEMU to boot it.
    ///
    /// # Errors
    ///
    /// When it or QEMU cannot be provided.
    pub(crate) fn kernel(&mut self, system: System) -> Result<PathBuf> {
        match system.hypervisor() {
            System::Paravane | System::ParavaneLinux => {
                packages::provide(&[packages::QEMU])?;
                self.hypervisor()
            }
            // Whoever asks for it names the file.
            System::Other => packages::provide(&[packages::QEMU]).map(|()| PathBuf::new()),
            System::Xen | System::XenLinux => {
                packages::provide(&[packages::QEMU, packages::XEN])?;
                packages::xen(&self.workspace.scratch("images")?)
            }
        }
    }

    /// Our kernel's ELF file.
    ///
    /// # Errors
    ///
    /// When it does not build.
    pub(crate) fn hypervisor(&mut self) -> Result<PathBuf> {
        self.build("paravane-kernel", "paravane")
    }

    /// The guest's ELF file.
    ///
    /// # Errors
    ///
    /// When it does not build.
    pub(crate) fn guest(&mut self, guest: &GuestChoice) -> Result<PathBuf> {
        match guest {
            GuestChoice::File(path) => Ok(path.clone()),
            GuestChoice::Built { package, name } => self.build(package, name),
        }
    }

    /// A ramdisk with the guests that a guest runs as domains, if it does.
    ///
    /// # Errors
    ///
    /// When one of them does not build, or the archive cannot be written.
    pub(crate) fn ramdisk(&mut self, guest: &str, scratch: &Path) -> Result<Option<PathBuf>> {
        let Some((_, package, names)) = RAMDISKS.iter().find(|(name, ..)| *name == guest) else {
            return Ok(None);
        };
        let mut built = Vec::new();
        for name in *names {
            built.push((*name, self.build(package, name)?));
        }
        ramdisk(&built, scratch).map(Some)
    }

    /// A ramdisk of example guests: for each the file's name, and the guest's.
    ///
    /// # Errors
    ///
    /// As [`Builder::ramdisk`].
    pub(crate) fn archive(&mut self, files: &[(&str, &str)], scratch: &Path) -> Result<PathBuf> {
        let mut built = Vec::new();
        for &(name, guest) in files {
            built.push((name, self.example(guest)?));
        }
        ramdisk(&built, scratch)
    }

    /// The ELF file of the example guest `name`.
    ///
    /// # Errors
    ///
    /// When it does not build.
    pub(crate) fn example(&mut self, name: &str) -> Result<PathBuf> {
        self.build("example-guests", name)
    }

    /// The ELF file of the hostile guest `name`.
    ///
    /// # Errors
    ///
    /// When it does not build.
    pub(crate) fn hostile(&mut self, name: &str) -> Result<PathBuf> {
        self.build("hostile", name)
    }

    /// A ramdisk with the guest `echo` and configurations, for an operator.
    ///
    /// # Errors
    ///
    /// When the guest does not build.
    pub(crate) fn ruled(&mut self, scratch: &Path) -> Result<PathBuf> {
        let mut archive = Archive::default();
        archive.file("echo", &std::fs::read(self.example("echo")?)?);
        for (name, text) in rule::CONFIGURATIONS {
            archive.file(name, text.as_bytes());
        }
        let path = scratch.join("bundle.cpio");
        std::fs::write(&path, archive.finish())?;
        Ok(path)
    }

    fn build(&mut self, package: &str, name: &str) -> Result<PathBuf> {
        if let Some(built) = self.built.get(name) {
            return built.clone().with_context(|| format!("`{name}` did not build (see above)"));
        }
        let built = self.toolchain()?.build(package, name);
        self.built.insert(name.to_owned(), built.as_ref().ok().cloned());
        built
    }

    /// The bare-metal compiler.
    ///
    /// # Errors
    ///
    /// When there is none to be had.
    pub(crate) fn toolchain(&mut self) -> Result<&Toolchain> {
        if self.toolchain.is_none() {
            self.toolchain = Some(Toolchain::provide(self.workspace, self.route)?);
        }
        self.toolchain.as_ref().context("no toolchain")
    }
}

/// A ramdisk with files under these names, in the folder `scratch`.
///
/// # Errors
///
/// When one cannot be read.
pub(crate) fn ramdisk(files: &[(&str, PathBuf)], scratch: &Path) -> Result<PathBuf> {
    let mut archive = Archive::default();
    for (name, path) in files {
        archive.file(name, &std::fs::read(path)?);
    }
    let path = scratch.join("ramdisk.cpio");
    std::fs::write(&path, archive.finish())?;
    Ok(path)
}
