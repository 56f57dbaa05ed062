//! One configuration file, read by xl on Xen and by our toolstack, makes the same domain.

use anyhow::{Result, ensure};

use super::{image, machine};
use crate::boot::{self, End, Watch};
use crate::machine::System;
use crate::options::MachineOptions;
use crate::run::Builder;
use crate::transcript;
use crate::workspace::Workspace;
use crate::xen_linux::{self, Domain};

/// The file. Where its kernel is, is a path on Xen, and a name in the boot bundle here; the disk is
/// the first partition of the machine's on both.
const CONFIG: &str = "\
# A domain with a disk and an interface.
type = 'pv'
name = 'blk'
kernel = 'blk/image'
memory = 32
vcpus = '2'
cpu_weight = 512
disk = ['/dev/vda1,raw,xvda,w']
vif = ['mac=00:16:3e:00:00:02,bridge=xenbr0']
extra = 'in=DATA.BIN sum=DATA.SHA out=REPORT.TXT'
on_poweroff = 'preserve'
on_crash = 'preserve'
";

/// Has both make a domain of it, each with a disk of its own; both must say the same, and leave the
/// same on the disk.
///
/// # Errors
///
/// When one of them does not, or a machine cannot be made.
pub(super) fn test(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &MachineOptions,
) -> Result<()> {
    let images = image::provide(&workspace.scratch("disk-images")?)?;
    let blk = builder.example("blk")?;
    let mut said = Vec::new();
    for system in [System::Paravane, System::XenLinux] {
        let name = system.name();
        let scratch = workspace.scratch(&format!("same-{name}"))?;
        let disk = scratch.join("disk.img");
        std::fs::copy(&images.disk, &disk)?;
        let mut options = options.clone();
        options.limit = options.limit.max(xen_linux::LIMIT);
        let record = if system == System::Paravane {
            let files =
                [("blk.cfg".into(), CONFIG.into()), ("blk/image".into(), std::fs::read(&blk)?)];
            let mut machine = machine(builder, system, &files, &options, &scratch)?;
            machine.disks.push(disk.clone());
            boot::boot(&machine, Watch::Nobody, &scratch)?
        } else {
            let mut domain = Domain::new("blk", blk.clone(), "");
            domain.file = Some(CONFIG);
            (domain.disks, domain.network) = (vec![disk.clone()], true);
            let job = (&[domain][..], None);
            let machine = xen_linux::machine(workspace, builder, system, job, &options, &scratch)?;
            let mut record = boot::boot(&machine, Watch::Nobody, &scratch)?;
            record.end = xen_linux::end(&record, "blk");
            record
        };
        ensure!(record.end == End::Success, "{name}: {}\n{}", record.end, record.report);
        images.check_disk(&disk, &scratch)?;
        said.push(transcript::of_domain(&record.console.transcript(), "blk"));
    }
    let [ours, theirs] = [0, 1].map(|at| said.get(at).map_or("", |said| said));
    ensure!(ours.contains("REPORT.TXT is what was written"), "blk says:\n{ours}");
    transcript::compare([ours, theirs], ["paravane", "xen-linux"])
}
