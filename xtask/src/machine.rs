//! A machine to boot: which hypervisor, which guest, how large; and QEMU's command line for it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::options::MachineOptions;
use crate::process;

/// What a guest runs on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum System {
    /// Our kernel.
    Paravane,
    /// Real Xen 4.17.
    Xen,
    /// The same with Linux as the initial domain, below which guests are.
    XenLinux,
    /// Our kernel in Xen's place there.
    ParavaneLinux,
    /// Another hypervisor, whose image the user names.
    Other,
}

impl System {
    /// The system called `name`.
    ///
    /// # Errors
    ///
    /// When there is none of that name.
    pub(crate) fn named(name: &str) -> Result<Self> {
        match name {
            "paravane" => Ok(Self::Paravane),
            "xen" => Ok(Self::Xen),
            "xen-linux" => Ok(Self::XenLinux),
            "paravane-linux" => Ok(Self::ParavaneLinux),
            _ => bail!(
                "no system `{name}` to run on: it is `paravane`, `xen`, `xen-linux` or `paravane-linux`"
            ),
        }
    }

    /// The name that [`System::named`] takes.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Paravane => "paravane",
            Self::Xen => "xen",
            Self::XenLinux => "xen-linux",
            Self::ParavaneLinux => "paravane-linux",
            Self::Other => "other",
        }
    }

    /// Whether guests are domains that Linux makes.
    pub(crate) fn is_below_linux(self) -> bool {
        matches!(self, Self::XenLinux | Self::ParavaneLinux)
    }

    /// The hypervisor alone.
    pub(crate) fn hypervisor(self) -> Self {
        match self {
            Self::XenLinux => Self::Xen,
            Self::ParavaneLinux => Self::Paravane,
            other => other,
        }
    }

    /// What each of the hypervisor's own lines on the console begins with.
    pub(crate) fn mark(self) -> &'static str {
        match self {
            Self::Paravane | Self::ParavaneLinux => "(PV) ",
            Self::Xen | Self::XenLinux | Self::Other => "(XEN) ",
        }
    }
}

/// How much the hypervisor says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Log {
    /// What the judgement of a run needs.
    Warnings,
    /// Everything.
    All,
}

/// One machine with everything it boots.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// The hypervisor.
    pub(crate) system: System,
    /// The hypervisor's image.
    pub(crate) kernel: PathBuf,
    /// More words for the hypervisor's command line.
    pub(crate) kernel_args: String,
    /// How much it says.
    pub(crate) log: Log,
    /// The initial domain's ELF file.
    pub(crate) guest: PathBuf,
    /// The initial domain's command line.
    pub(crate) guest_args: String,
    /// The initial domain's ramdisk.
    pub(crate) ramdisk: Option<PathBuf>,
    /// Files that are disks of the machine, raw.
    pub(crate) disks: Vec<PathBuf>,
    /// More words for QEMU: devices.
    pub(crate) devices: Vec<String>,
    /// A file that is its memory, to be read when it is gone.
    pub(crate) memory_file: Option<PathBuf>,
    /// Domains that are made in it, and their ELF files: whose addresses on the console can be explained.
    pub(crate) domains: Vec<(String, PathBuf)>,
    /// What it has for other domains. Unit: MiB.
    pub(crate) others: u32,
    /// Size, CPU and time.
    pub(crate) options: MachineOptions,
}

/// A network card; without a boot ROM there is none to wait for.
const CARD: &str = "virtio-net-pci,netdev=net,romfile=";

/// What the machine has beside the guest's memory. Unit: MiB.
const OVERHEAD: u32 = 448;

impl Machine {
    /// Gives it a network card on QEMU's user network, where ports of the host lead to domains, such as
    /// `,hostfwd=tcp:127.0.0.1:8080-10.0.2.80:80`.
    pub(crate) fn add_card(&mut self, forwards: &str) {
        let devices = ["-netdev", &format!("user,id=net{forwards}"), "-device", CARD];
        self.devices.extend(devices.map(str::to_owned));
    }

    /// QEMU's command line, with the serial console on standard input and output. Keys reach
    /// QEMU's own monitor (ctrl-a x, ctrl-a c) when it is `interactive`.
    ///
    /// QEMU runs in the folder `scratch`, where files with a blank in their path (which would end
    /// a boot module's path) are linked.
    ///
    /// # Errors
    ///
    /// When such a link cannot be made.
    pub(crate) fn qemu(&self, interactive: bool, scratch: &Path) -> Result<Command> {
        let memory = self.options.memory + self.options.memory / 32 + OVERHEAD + self.others;
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.current_dir(scratch);
        qemu.args(["-cpu", &self.options.cpu]);
        qemu.args(["-smp", &self.options.smp.to_string()]);
        qemu.args(["-m", &memory.to_string()]);
        if let Some(file) = &self.memory_file {
            let file = file.display().to_string().replace(',', ",,");
            let backend = format!("id=memory,size={memory}M,mem-path={file},share=on");
            qemu.args(["-object", &format!("memory-backend-file,{backend}")]);
            qemu.args(["-machine", "memory-backend=memory"]);
        }
        // A reset ends QEMU; no card means no boot ROM to wait for.
        qemu.args(["-display", "none", "-no-reboot", "-nic", "none"]);
        // A device that raises interrupts when told to, by its line or by messages.
        qemu.args(["-device", "edu"]);
        if interactive {
            qemu.args(["-chardev", "stdio,id=console,mux=on,signal=on"]);
            qemu.args(["-serial", "chardev:console", "-mon", "chardev=console"]);
        } else {
            qemu.args(["-monitor", "none", "-serial", "stdio"]);
        }
        if matches!(self.system, System::Paravane | System::Other) {
            qemu.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]);
        }
        for disk in &self.disks {
            let file = disk.display().to_string().replace(',', ",,");
            qemu.args(["-drive", &format!("file={file},if=virtio,format=raw")]);
        }
        qemu.args(&self.devices);
        if self.options.icount {
            qemu.args(["-icount", "shift=0,sleep=off", "-rtc", "clock=vm"]);
        }
        qemu.arg("-kernel").arg(&self.kernel);
        qemu.args(["-append", &self.append()]);
        let mut modules = module(&self.guest, &self.guest_args, scratch, "guest")?;
        if let Some(ramdisk) = &self.ramdisk {
            modules.push(',');
            modules.push_str(&module(ramdisk, "", scratch, "ramdisk")?);
        }
        qemu.args(["-initrd", &modules]);
        Ok(qemu)
    }

    /// What to type to get the same machine by hand.
    ///
    /// # Errors
    ///
    /// As [`Machine::qemu`].
    pub(crate) fn by_hand(&self, scratch: &Path) -> Result<String> {
        let line = process::line(&self.qemu(true, scratch)?);
        let linked = [Some(&self.guest), self.ramdisk.as_ref()];
        if linked.into_iter().flatten().any(|path| has_blank(path)) {
            return Ok(format!("cd {:?} && {line}", scratch.display().to_string()));
        }
        Ok(line)
    }

    /// The hypervisor's command line; our kernel takes Xen's names. Another hypervisor gets the words
    /// that were given for it, if there are any.
    fn append(&self) -> String {
        if self.system == System::Other && !self.kernel_args.is_empty() {
            return self.kernel_args.clone();
        }
        let (own, guest) = match self.log {
            Log::Warnings => ("warning", "none"),
            Log::All => ("all", "all"),
        };
        let mut words = format!(
            "console=com1 com1=115200,8n1 dom0=pv dom0_mem={}M dom0_max_vcpus=4 loglvl={own} guest_loglvl={guest}",
            self.options.memory
        );
        if !self.kernel_args.is_empty() {
            words.push(' ');
            words.push_str(&self.kernel_args);
        }
        words
    }
}

/// A boot module as `-initrd` takes it: path, blank, command line, with commas doubled.
fn module(path: &Path, args: &str, scratch: &Path, link: &str) -> Result<String> {
    let mut path = path.to_path_buf();
    if has_blank(&path) {
        let name = scratch.join(link);
        if name.is_symlink() {
            std::fs::remove_file(&name)?;
        }
        std::os::unix::fs::symlink(&path, &name)?;
        path = PathBuf::from(link);
    }
    let mut module = path.display().to_string();
    if !args.is_empty() {
        module.push(' ');
        module.push_str(args);
    }
    Ok(module.replace(',', ",,"))
}

fn has_blank(path: &Path) -> bool {
    path.display().to_string().contains(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(system: System, guest: &str) -> Machine {
        Machine {
            system,
            kernel: "/kernel".into(),
            kernel_args: String::new(),
            log: Log::Warnings,
            guest: guest.into(),
            guest_args: "a=1,2".into(),
            ramdisk: Some("/disk".into()),
            disks: Vec::new(),
            devices: Vec::new(),
            memory_file: None,
            domains: Vec::new(),
            others: 0,
            options: MachineOptions::default(),
        }
    }

    #[test]
    fn modules_carry_their_command_lines() {
        let line = machine(System::Xen, "/g.elf").by_hand(Path::new("/tmp")).expect("line");
        assert!(line.ends_with("-initrd '/g.elf a=1,,2,/disk'"), "{line}");
        assert!(line.contains(" dom0_mem=64M "), "{line}");
        assert!(!line.contains("isa-debug-exit"), "{line}");
    }

    #[test]
    fn only_our_kernel_has_the_exit_device() {
        let line = machine(System::Paravane, "/g.elf").by_hand(Path::new("/tmp")).expect("line");
        assert!(line.contains("isa-debug-exit"), "{line}");
    }
}
