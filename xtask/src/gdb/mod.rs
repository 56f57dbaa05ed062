//! `run --gdb`: a machine that waits for gdb, and the script that brings gdb to the guest's first
//! instruction with the symbols of guest and hypervisor.

mod core_file;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use object::Endianness;
use object::read::elf::{ElfFile64, FileHeader, SectionHeader};

use crate::boot::{self, Watch};
use crate::machine::{Machine, System};
use crate::options::MachineOptions;
use crate::packages;
use crate::ports;
use crate::process::{self, say};
use crate::run::{Builder, GuestChoice};
use crate::steps::Steps;
use crate::toolchain::Toolchain;
use crate::workspace::Workspace;

/// What gdb learns to do.
const COMMANDS: &str = include_str!("commands.py");
/// `XEN_ELFNOTE_ENTRY`: where a guest begins.
const ENTRY_NOTE: u32 = 1;

impl Machine {
    /// Has it wait for gdb before its first instruction; the script for gdb, in `scratch`. Our kernel becomes
    /// one with DWARF.
    ///
    /// # Errors
    ///
    /// When that does not build, the guest's file says nowhere where it begins, or the script cannot be written.
    pub(crate) fn await_gdb(&mut self, scratch: &Path) -> Result<PathBuf> {
        packages::provide(&[packages::GDB])?;
        if self.system == System::Paravane {
            let toolchain = Toolchain::provide(&Workspace::find()?, self.options.route)?;
            self.kernel = toolchain.build_for_gdb()?;
        }
        let free = ports::take(0)?;
        let server = format!("tcp:{}", free.local_addr()?);
        self.devices.extend(["-S", "-gdb", &server].map(str::to_owned));
        let commands = scratch.join("commands.py");
        std::fs::write(&commands, COMMANDS)?;
        let script = scratch.join("gdb");
        // A domain below the initial one, which begins at its own place, maybe the same.
        let below = self.domains.first().map(|(_, path)| path.clone());
        let guest = below.clone().unwrap_or_else(|| self.guest.clone());
        let (first, second) = (entry(&self.guest)?, entry(&guest)?);
        let earlier = u32::from(below.is_some() && first == second);
        let lines = [
            "set confirm off".into(),
            "set pagination off".into(),
            "set tcp connect-timeout 60".into(),
            "set architecture i386:x86-64".into(),
            format!("source {}", commands.display()),
            format!("file {}", guest.display()),
            format!("add-symbol-file {}", self.kernel.display()),
            format!("target remote {}", server.trim_start_matches("tcp:")),
            format!("hbreak *{second:#x}"),
            format!("ignore 1 {earlier}"),
            "continue".into(),
            "delete 1".into(),
            String::new(),
        ];
        std::fs::write(&script, lines.join("\n"))?;
        Ok(script)
    }
}

/// The guest's first instruction.
fn entry(path: &Path) -> Result<u64> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = ElfFile64::<Endianness>::parse(&*bytes)
        .with_context(|| format!("{} is no ELF file", path.display()))?;
    let endian = file.endian();
    for section in file.elf_section_table().iter() {
        let Ok(Some(mut notes)) = section.notes(endian, &*bytes) else { continue };
        while let Ok(Some(note)) = notes.next() {
            if note.name() == b"Xen" && note.n_type(endian) == ENTRY_NOTE {
                let address =
                    note.desc().first_chunk().context("a note of the entry is too short")?;
                return Ok(u64::from_le_bytes(*address));
            }
        }
    }
    Ok(file.elf_header().e_entry(endian))
}

/// Tells the user how to go on.
pub(crate) fn tell(script: &Path) {
    say("the machine waits for gdb; in another terminal:");
    say(format!("    gdb -x {}", script.display()));
    say(
        "it stops at the guest's first instruction; pv-regs, pv-walk, pv-break, pv-domains, pv-ports, pv-grants look around",
    );
}

/// What gdb is to do with a guest, and what it is to say then.
type Look = (&'static str, &'static [&'static str], &'static [&'static str]);

/// At a guest's first instruction, at one that has connected two ports, and at one that has mapped what it granted.
const LOOKS: [Look; 3] = [
    (
        "hello",
        &["pv-walk $rip", "pv-domains", "pv-ports", "pv-grants 1", "pv-regs", "info symbol $rip"],
        &[
            "L1[",
            "MFN 0x",
            "PFN 0x100",
            "domain 0: alive, 4 vCPUs, paused 0 times, shared page MFN 0x",
            "domain 0, vCPU 0: upcall not pending, events masked",
            "there is no domain 1",
            "ring 3, a guest",
            "eflags",
            "_start in section",
        ],
    ),
    (
        "tour-events",
        &[
            "pv-break tour_events::between_ports",
            "continue",
            "pv-break pv_guest_sdk::event::channel::Channel::handle",
            "continue",
            "pv-ports 0",
        ],
        &[
            "domain 0, port 1: ",
            "interdomain, to port ",
            " of domain 0, vCPU 0",
            ": VIRQ 0, vCPU 0",
        ],
    ),
    (
        "share",
        &["pv-break pv_guest_sdk::raw::grant::Mapping::unmap", "continue", "pv-grants"],
        &[
            "domain 0, entry 8: to domain 0, MFN 0x",
            ", read, written",
            "domain 0: 1 entries are used",
        ],
    ),
];

/// Has gdb look at guests.
pub(crate) fn test(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &MachineOptions,
    steps: &mut Steps,
) {
    for (name, commands, wanted) in LOOKS {
        steps.run(&format!("gdb looks at {name}"), || {
            let scratch = workspace.scratch("gdb")?;
            let guest = GuestChoice::Built { package: "example-guests".into(), name: name.into() };
            let mut machine = builder.machine(System::Paravane, &guest, options)?;
            let script = machine.await_gdb(&scratch)?;
            let mut gdb = Command::new("gdb");
            gdb.args(["-batch", "-nx", "-x"]).arg(&script);
            for command in commands.iter().chain(&["kill"]) {
                gdb.args(["-ex", command]);
            }
            let said = std::thread::scope(|scope| {
                let boot = scope.spawn(|| boot::boot(&machine, Watch::Nobody, &scratch));
                let said = process::output(&mut gdb);
                boot.join().map_err(|_| anyhow::anyhow!("the boot has panicked"))??;
                said
            })?;
            let said = String::from_utf8_lossy(&said);
            for what in wanted {
                ensure!(said.contains(what), "gdb should say `{what}`:\n{said}");
            }
            Ok(())
        });
    }
    core_file::test(workspace, builder, options, steps);
}
