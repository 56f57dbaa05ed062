//! Guests that are crates of their own, outside this workspace: built where they are, and given what
//! their `Cargo.toml` says they need.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::block;
use crate::machine::{Log, Machine, System};
use crate::options::{MachineOptions, RunOptions};
use crate::ports::Forwards;
use crate::process::{self, say};
use crate::run::{Builder, GuestChoice, boot_and_tell, exit_code};
use crate::workspace::{Workspace, cargo};
use crate::xen_linux;

/// The length of a disk that is made. Unit: bytes.
const DISK: u64 = 16 << 20;
/// The address of a guest on the network of QEMU.
const ADDRESS: &str = "10.0.2.80";
/// What a crate can say of its machine.
const KEYS: [&str; 3] = ["memory", "disks", "ports"];

/// A guest's crate.
pub(crate) struct Folder {
    path: PathBuf,
    /// Its binary.
    name: String,
    /// Its memory. Unit: MiB.
    memory: u32,
    /// Files that are its disks.
    disks: Vec<PathBuf>,
    /// Its ports that the host reaches.
    ports: Vec<u16>,
}

/// A machine for a guest's crate, and the host's ports that lead to it.
pub(crate) struct Made {
    /// The machine.
    pub(crate) machine: Machine,
    /// The guest's name.
    pub(crate) name: String,
    /// The host's ports and the guest's.
    pub(crate) ports: Vec<(u16, u16)>,
}

impl Folder {
    /// Reads what the crate says of itself.
    ///
    /// # Errors
    ///
    /// When there is no crate with a binary, or what it says is none of what can be given.
    pub(crate) fn find(path: &Path) -> Result<Self> {
        let path = std::path::absolute(path)?;
        let manifest = path.join("Cargo.toml");
        ensure!(manifest.is_file(), "{} is a folder without a Cargo.toml", path.display());
        let mut command = Command::new(cargo());
        command.args(["metadata", "--no-deps", "--offline", "--format-version=1"]);
        command.arg("--manifest-path").arg(&manifest);
        let metadata: Value = serde_json::from_slice(&process::output(&mut command)?)?;
        let package = &metadata["packages"][0];
        let targets = package["targets"].as_array().cloned().unwrap_or_default();
        let binary = targets.iter().find(|target| target["kind"][0] == "bin");
        let name = binary.and_then(|target| target["name"].as_str());
        let name = name.with_context(|| format!("{} has no binary", manifest.display()))?;
        let wanted = &package["metadata"]["paravane"];
        let says = || format!("{}: [package.metadata.paravane]", manifest.display());
        if wanted.is_null() {
            say(format!("{} is not there: no disk, no port, usual memory", says()));
        }
        let mut keys = wanted.as_object().into_iter().flat_map(|it| it.keys());
        if let Some(key) = keys.find(|key| !KEYS.contains(&key.as_str())) {
            anyhow::bail!("{}: `{key}` is none of `{}`", says(), KEYS.join("`, `"));
        }
        let list = |key: &str| match &wanted[key] {
            Value::Null => Ok(Vec::new()),
            Value::Array(values) => Ok(values.clone()),
            _ => anyhow::bail!("{}: `{key}` should be a list", says()),
        };
        let disks = list("disks")?.into_iter().map(|disk| {
            let name = disk.as_str().context("`disks` are names of files")?;
            Ok(path.join(name))
        });
        let ports = list("ports")?.into_iter().map(|port| {
            let port = port.as_u64().and_then(|port| u16::try_from(port).ok());
            port.filter(|port| *port != 0).context("`ports` are numbers from 1 to 65535")
        });
        let memory = match &wanted["memory"] {
            Value::Null => MachineOptions::default().memory,
            value => value
                .as_u64()
                .and_then(|memory| u32::try_from(memory).ok())
                .with_context(|| format!("{}: `memory` is a number of MiB", says()))?,
        };
        Ok(Self {
            disks: disks.collect::<Result<_>>().with_context(says)?,
            ports: ports.collect::<Result<_>>().with_context(says)?,
            name: name.to_owned(),
            memory,
            path,
        })
    }

    /// Its machine, with everything in it built: it is the initial domain, or, with a disk or a network card,
    /// a domain below our control domain.
    ///
    /// # Errors
    ///
    /// When something does not build or is not there.
    pub(crate) fn machine(
        &self,
        builder: &mut Builder<'_>,
        (system, args): (System, &str),
        options: &MachineOptions,
        scratch: &Path,
    ) -> Result<Made> {
        let image = builder.toolchain()?.build_folder(&self.path, &self.name)?;
        self.make_disks()?;
        if self.is_plain() {
            let guest = GuestChoice::File(image);
            let sized = MachineOptions { memory: self.memory, ..options.clone() };
            let mut machine = builder.machine(system, &guest, &sized)?;
            args.clone_into(&mut machine.guest_args);
            return Ok(Made { machine, name: self.name.clone(), ports: Vec::new() });
        }
        let domains = vec![(self.name.clone(), image.clone())];
        let bundle = [
            (format!("{}.cfg", self.name), self.config(args).into_bytes()),
            (self.name.clone(), std::fs::read(image)?),
        ];
        let mut machine = block::machine(builder, system, &bundle, options, scratch)?;
        machine.domains = domains;
        machine.others = self.memory + 16;
        machine.disks.clone_from(&self.disks);
        machine.guest_args.clone_from(&self.name);
        let (mut forwards, mut ports) = (Forwards::default(), Vec::new());
        for &port in &self.ports {
            ports.push((forwards.add(8000 + port % 1000, ADDRESS, port)?, port));
        }
        if !ports.is_empty() {
            machine.guest_args = format!("operator {}", self.name);
            machine.add_card(&forwards.words());
        }
        Ok(Made { machine, name: self.name.clone(), ports })
    }

    fn is_plain(&self) -> bool {
        self.disks.is_empty() && self.ports.is_empty()
    }

    /// What our toolstack reads.
    fn config(&self, args: &str) -> String {
        let Self { name, memory, .. } = self;
        let disks = (b'a'..=b'z').take(self.disks.len()).map(char::from);
        let disks: Vec<_> = disks.map(|x| format!("'/dev/vd{x},raw,xvd{x},w'")).collect();
        let mut text = format!("name = '{name}'\nkernel = '{name}'\nmemory = {memory}\n");
        text += &format!("disk = [{}]\n", disks.join(", "));
        let mut words = args.to_owned();
        if !self.ports.is_empty() {
            text += "vif = ['']\n";
            words = format!("ip={ADDRESS}/24 gw=10.0.2.2 {args}");
        }
        text += &format!("extra = {:?}\n", words.trim_end());
        text
    }

    fn make_disks(&self) -> Result<()> {
        for disk in self.disks.iter().filter(|disk| !disk.exists()) {
            let file = std::fs::File::create(disk)
                .with_context(|| format!("cannot make {}", disk.display()))?;
            file.set_len(DISK)?;
            say(format!("made {}: {} MiB of zeros", disk.display(), DISK >> 20));
        }
        Ok(())
    }
}

/// Does what `run` does, with the crate in a folder.
///
/// # Errors
///
/// When it does not build, or its machine cannot be started.
pub(crate) fn run(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    path: &Path,
    options: &RunOptions,
) -> Result<ExitCode> {
    let folder = Folder::find(path)?;
    ensure!(options.disks.is_empty(), "--disk: the disks of a crate stand in its Cargo.toml");
    if options.on.is_below_linux() {
        let image = builder.toolchain()?.build_folder(&folder.path, &folder.name)?;
        folder.make_disks()?;
        let mut options = options.clone();
        (options.machine.memory, options.network) = (folder.memory, !folder.ports.is_empty());
        let guest = GuestChoice::File(image);
        let end = xen_linux::run(workspace, builder, &guest, folder.disks, &options)?;
        return Ok(exit_code(&end));
    }
    let scratch = workspace.scratch(&format!("run-{}", std::process::id()))?;
    let Made { mut machine, ports, .. } = {
        let guest = (options.on, options.args.as_str());
        folder.machine(builder, guest, &options.machine, &scratch)?
    };
    machine.kernel_args.clone_from(&options.kernel_args);
    if options.verbose {
        machine.log = Log::All;
    }
    options.look_inside(&mut machine, &scratch)?;
    eprintln!("{}", machine.by_hand(&scratch)?);
    for (here, there) in ports {
        say(format!("its port {there} is localhost:{here}"));
    }
    boot_and_tell(&machine, options, &scratch)
}
