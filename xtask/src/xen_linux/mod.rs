//! Real Xen with Debian's Linux as the initial domain, where guests are domains that `xl` creates:
//! the second oracle, for what a guest is as one domain of several. Our kernel can take Xen's place.

mod image;
pub(crate) mod served;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::boot::{self, End, Record, Watch};
use crate::cpio::Archive;
use crate::machine::{Log, Machine, System};
use crate::options::{MachineOptions, RunOptions};
use crate::packages;
use crate::process::say;
use crate::run::{Builder, GuestChoice};
use crate::workspace::Workspace;

/// The initial domain's memory. Unit: MiB.
const LINUX_MEMORY: u32 = 256;

/// The least time that it gets to start and to run domains that take a few seconds: half a minute where
/// nobody else has the processor, and many times that on a host that is busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(600);

/// A domain to create.
pub(crate) struct Domain {
    /// What it is called: without blanks.
    pub(crate) name: String,
    /// Its ELF file.
    pub(crate) image: PathBuf,
    /// Its command line.
    pub(crate) args: String,
    /// Its ramdisk.
    pub(crate) ramdisk: Option<PathBuf>,
    /// Its memory. Unit: MiB.
    pub(crate) memory: u32,
    /// Its virtual CPUs.
    pub(crate) vcpus: u32,
    /// Files that are its disks: the first is xvda.
    pub(crate) disks: Vec<PathBuf>,
    /// Whether it has a network card, on a bridge where the others' are.
    pub(crate) network: bool,
    /// Its configuration, if it is not to be written from the above; its kernel is `NAME/image`.
    pub(crate) file: Option<&'static str>,
}

impl Domain {
    /// A domain with as much memory and as many virtual CPUs as an initial domain has by default.
    pub(crate) fn new(name: &str, image: PathBuf, args: &str) -> Self {
        Self {
            name: name.to_owned(),
            image,
            args: args.to_owned(),
            ramdisk: None,
            memory: MachineOptions::default().memory,
            vcpus: 4,
            disks: Vec::new(),
            network: false,
            file: None,
        }
    }

    /// What `xl` reads. Its first disk is the machine's number `first`.
    fn config(&self, first: u8) -> String {
        if let Some(text) = self.file {
            return text.to_owned();
        }
        let Self { name, memory, vcpus, .. } = self;
        let mut text = format!(
            "type = \"pv\"\nname = {name:?}\nkernel = \"/job/{name}/image\"\ncmdline = {:?}\n\
             memory = {memory}\nmaxmem = {memory}\nvcpus = {vcpus}\n",
            self.args
        );
        if self.ramdisk.is_some() {
            text += &format!("ramdisk = \"/job/{name}/ramdisk\"\n");
        }
        // What a domain said is complete only while it is there.
        for end in ["poweroff", "reboot", "crash", "watchdog", "soft_reset"] {
            text += &format!("on_{end} = \"preserve\"\n");
        }
        let letters = (b'a'..=b'z').zip(b'a' + first..=b'z').zip(&self.disks);
        let disks = letters.map(|((theirs, ours), _)| {
            format!(
                "\"phy:/dev/vd{},xvd{},w,script=/bin/disk\"",
                char::from(ours),
                char::from(theirs)
            )
        });
        text += &format!("disk = [{}]\n", disks.collect::<Vec<_>>().join(", "));
        if self.network {
            text += "vif = [\"script=/bin/network\"]\n";
        }
        text
    }
}

/// The machine for some domains, on one of the systems with Linux, and a script that the initial domain runs beside them; their files and what to do with them lie in `scratch`.
///
/// # Errors
///
/// When a part of the machine cannot be provided.
pub(crate) fn machine(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    system: System,
    (domains, client): (&[Domain], Option<&str>),
    options: &MachineOptions,
    scratch: &Path,
) -> Result<Machine> {
    packages::provide(&[packages::DEBIAN])?;
    let system = system.hypervisor();
    let kernel = builder.kernel(system)?;
    let image = image::provide(&workspace.scratch("xen-linux")?)?;
    let mut root = image.root;
    root.extend(job(domains, client)?);
    let ramdisk = scratch.join("linux-root.cpio");
    std::fs::write(&ramdisk, root)?;
    Ok(Machine {
        system,
        kernel,
        kernel_args: String::new(),
        log: Log::Warnings,
        guest: match system {
            System::Paravane => image::unpacked(&image.linux)?,
            _ => image.linux,
        },
        guest_args: "console=hvc0 quiet loglevel=1 panic=1 maxcpus=1".into(),
        ramdisk: Some(ramdisk),
        disks: domains.iter().flat_map(|domain| domain.disks.clone()).collect(),
        devices: Vec::new(),
        memory_file: None,
        domains: domains.iter().map(|it| (it.name.clone(), it.image.clone())).collect(),
        // What a domain takes beside its memory is not much.
        others: domains.iter().map(|domain| domain.memory + domain.memory / 32 + 8).sum(),
        options: MachineOptions { memory: LINUX_MEMORY, ..options.clone() },
    })
}

/// Debian's generic Linux, compressed as it is shipped.
///
/// # Errors
///
/// When a package cannot be had.
pub(crate) fn linux(workspace: &Workspace) -> Result<PathBuf> {
    Ok(image::provide(&workspace.scratch("xen-linux")?)?.linux)
}

/// The archive that says which domains to create, with their files.
fn job(domains: &[Domain], client: Option<&str>) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.folder("job");
    let mut disks = 0;
    for domain in domains {
        let folder = format!("job/{}", domain.name);
        archive.folder(&folder);
        archive.file(&format!("{folder}/image"), &std::fs::read(&domain.image)?);
        if let Some(ramdisk) = &domain.ramdisk {
            archive.file(&format!("{folder}/ramdisk"), &std::fs::read(ramdisk)?);
        }
        archive.file(&format!("{folder}/config"), domain.config(disks).as_bytes());
        disks += u8::try_from(domain.disks.len())?;
    }
    ensure!(disks <= 26, "{disks} disks; 26 are the most");
    if domains.iter().any(|domain| domain.network) {
        archive.file("job/bridge", &[]);
    }
    if let Some(client) = client {
        archive.file("job/client", client.as_bytes());
    }
    let names = domains.iter().map(|domain| format!("{}\n", domain.name));
    archive.file("job/list", names.collect::<String>().as_bytes());
    Ok(archive.finish())
}

/// How the domain `name` ended.
pub(crate) fn end(record: &Record, name: &str) -> End {
    let transcript = record.console.transcript();
    let told = transcript.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    match (told, &record.end) {
        (Some("POWEROFF"), _) => End::Success,
        (Some("REBOOT"), _) => End::Reboot,
        (Some("refused"), _) => End::Refused,
        (Some(_), _) => End::GuestFailed,
        (None, End::Hang) => End::Hang,
        (None, _) => End::HypervisorFailed,
    }
}

/// Does what `run` does, with the guest as a domain.
///
/// # Errors
///
/// When the machine cannot be built or started.
pub(crate) fn run(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    guest: &GuestChoice,
    disks: Vec<PathBuf>,
    options: &RunOptions,
) -> Result<End> {
    let image = builder.guest(guest)?;
    let name = image.file_stem().unwrap_or_default().to_string_lossy().replace(' ', "-");
    let mut domain = Domain::new(&name, image, &options.args);
    domain.ramdisk.clone_from(&options.ramdisk);
    (domain.memory, domain.disks, domain.network) =
        (options.machine.memory, disks, options.network);
    let scratch = workspace.scratch(&format!("run-{}", std::process::id()))?;
    let client = options.client.as_ref().map(std::fs::read_to_string).transpose()?;
    let job = (&[domain][..], client.as_deref());
    let limit = options.machine.limit.max(LIMIT);
    let machine_options = MachineOptions { limit, ..options.machine.clone() };
    let mut machine = machine(workspace, builder, options.on, job, &machine_options, &scratch)?;
    machine.kernel_args.clone_from(&options.kernel_args);
    if options.verbose {
        machine.log = Log::All;
        machine.guest_args = machine.guest_args.replace("quiet loglevel=1", "loglevel=7");
    }
    eprintln!("{}", machine.by_hand(&scratch)?);
    let record = boot::boot(&machine, Watch::Output, &scratch)?;
    let end = end(&record, &name);
    if end.is_success() {
        std::fs::remove_dir_all(&scratch)?;
    } else {
        eprint!("{}", record.report);
    }
    say(format!("{end} ({:.1} s)", record.duration.as_secs_f32()));
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_described_as_xl_reads_it() {
        let mut domain = Domain::new("a", "/a.elf".into(), "x=\"1\" b");
        (domain.disks, domain.network) = (vec!["/one".into(), "/two".into()], true);
        let config = domain.config(1);
        assert!(config.contains("cmdline = \"x=\\\"1\\\" b\"\nmemory = 64\n"), "{config}");
        assert!(config.contains("\"phy:/dev/vdb,xvda,w,"), "{config}");
        assert!(config.contains("\"phy:/dev/vdc,xvdb,w,"), "{config}");
        assert!(config.contains("vif = ["), "{config}");
    }
}
