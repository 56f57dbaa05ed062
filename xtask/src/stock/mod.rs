//! Guests that nobody made for us: Debian's GRUB and Linux, unchanged, as domains below our control
//! domain on our kernel; and the store as the tools of Xen's own find it, here and on Xen.

mod material;
mod server;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::block::{self, image};
use crate::boot::{self, End, Watch};
use crate::machine::System;
use crate::options::TestOptions;
use crate::packages;
use crate::run::Builder;
use crate::steps::Steps;
use crate::transcript;
use crate::workspace::Workspace;
use crate::xen_linux::{self, Domain};
use material::Material;

/// The memory of a Linux. Unit: MiB.
const LINUX: u32 = 128;
/// The memory of the control domain, which has the files of all domains in it. Unit: MiB.
const CONTROL: u32 = 192;
/// The least time that a boot gets.
const LIMIT: Duration = Duration::from_secs(1200);
/// What Linux says itself.
const QUIET: &str = "console=hvc0 quiet loglevel=1";
/// The control domain's network, in QEMU's.
const NETWORK: &str = "ip=10.0.2.4/24,10.0.2.2";
/// Unit: bytes.
const MIB: usize = 1 << 20;

/// What all steps need.
struct Bench<'a, 'b> {
    workspace: &'a Workspace,
    builder: &'a mut Builder<'b>,
    options: &'a TestOptions,
}

/// Runs the steps.
pub(crate) fn test(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &TestOptions,
    steps: &mut Steps,
) {
    let mut bench = Bench { workspace, builder, options };
    steps.run("stock GRUB in a domain on paravane", || bench.grub());
    steps.run("stock GRUB starts a stock Linux on paravane", || bench.chain());
    steps.run("stock Linux in a domain on paravane", || bench.linux());
    steps.run("two stock Linux domains on paravane", || bench.pair());
    let said = [System::Paravane, System::XenLinux].map(|system| {
        let mut said = None;
        steps.run(&format!("stock tools of the store on {}", system.name()), || {
            said = Some(bench.store(system)?);
            Ok(())
        });
        said
    });
    if let [Some(ours), Some(theirs)] = &said {
        steps.run("stock tools of the store see the same on both", || {
            transcript::compare([ours, theirs], ["paravane", "xen-linux"])
        });
    }
}

/// Domains below our control domain: a configuration and its file each, and the machine's disks.
#[derive(Default)]
struct Below {
    bundle: Vec<(String, Vec<u8>)>,
    disks: Vec<PathBuf>,
    /// What the domains take. Unit: MiB.
    memory: u32,
    /// The least number of the machine's CPUs.
    cpus: u32,
}

impl Below {
    /// Adds a Linux with two CPUs: what it is to do, more of its configuration, and its command line.
    fn linux(&mut self, role: &str, more: &str, words: &str) {
        let config = format!(
            "name = '{role}'\nkernel = 'linux'\nramdisk = 'root'\nmemory = {LINUX}\nvcpus = 2\n\
             extra = '{QUIET} role={role} {words}'\n{more}\n"
        );
        self.bundle.push((format!("{role}.cfg"), config.into_bytes()));
        self.memory += LINUX + 16;
    }
}

impl Bench<'_, '_> {
    fn material(&self) -> Result<Material> {
        material::provide(&self.workspace.scratch("stock")?)
    }

    /// Boots domains below our control domain, and returns what the console said. Each must end well.
    fn boot(&mut self, below: Below, scratch: &str) -> Result<String> {
        let scratch = self.workspace.scratch(scratch)?;
        let mut options = self.options.machine.clone();
        (options.memory, options.limit) = (CONTROL, options.limit.max(LIMIT));
        options.smp = options.smp.max(below.cpus);
        let mut machine =
            block::machine(self.builder, System::Paravane, &below.bundle, &options, &scratch)?;
        (machine.disks, machine.others) = (below.disks, below.memory);
        machine.add_card("");
        NETWORK.clone_into(&mut machine.guest_args);
        let record = boot::boot(&machine, Watch::Nobody, &scratch)?;
        ensure!(record.end == End::Success, "{}\n{}", record.end, record.report);
        Ok(record.console.transcript())
    }

    /// GRUB finds its script on the disk of a domain, and reads there.
    fn grub(&mut self) -> Result<()> {
        let images = image::provide(&self.workspace.scratch("disk-images")?)?;
        let disk = self.workspace.scratch("stock-grub")?.join("disk.img");
        std::fs::copy(&images.disk, &disk)?;
        let said = self.grub_says(&disk, 32, "stock-grub")?;
        let said = plain(&transcript::of_domain(&said, "grub"));
        let wanted = include_str!("grub.txt").replace("SUM", &images.sum);
        ensure!(said.contains(&wanted), "GRUB says:\n{said}\nand should say:\n{wanted}");
        ensure!(
            std::fs::read(disk)? == std::fs::read(images.disk)?,
            "GRUB has written to its disk"
        );
        Ok(())
    }

    /// What GRUB says as a domain with two CPUs, so much memory, and a disk.
    fn grub_says(&mut self, disk: &Path, memory: u32, scratch: &str) -> Result<String> {
        let material = self.material()?;
        let config = format!(
            "name = 'grub'\nkernel = 'grub'\nmemory = {memory}\nvcpus = 2\n\
             disk = ['/dev/vda,raw,xvda,w']\n"
        );
        let mut below =
            Below { disks: vec![disk.to_owned()], memory: memory + 16, ..Below::default() };
        below.bundle.push(("grub.cfg".into(), config.into()));
        below.bundle.push(("grub".into(), std::fs::read(material.grub)?));
        self.boot(below, scratch)
    }

    /// GRUB loads Linux and its first root from a disk, and starts it.
    fn chain(&mut self) -> Result<()> {
        packages::provide(&[packages::FILE_SYSTEMS])?;
        let scratch = self.workspace.scratch("stock-chain")?;
        let (tree, disk) = (scratch.join("tree"), scratch.join("disk.img"));
        std::fs::create_dir_all(tree.join("boot/grub"))?;
        // GRUB can't unpack the small kernel.
        std::fs::copy(xen_linux::linux(self.workspace)?, tree.join("vmlinuz"))?;
        std::fs::write(tree.join("initrd"), self.material()?.root)?;
        let script = format!("linux /vmlinuz {QUIET} role=alone\ninitrd /initrd\nboot\n");
        std::fs::write(tree.join("boot/grub/grub.cfg"), script)?;
        image::make_ext2(&disk, 32 * 2048, &tree)?;
        let said = self.grub_says(&disk, 192, "stock-chain")?;
        let due = "Linux is of the kind xen PV, CPUs: 2\nalone has ended\n";
        ensure!(of_linux(&said, "grub").ends_with(due), "{said}\nshould end with:\n{due}");
        Ok(())
    }

    /// Linux reads and writes its disk, and fetches a file from outside.
    fn linux(&mut self) -> Result<()> {
        let material = self.material()?;
        let mut outside = image::random(12 * MIB);
        let inside = outside.split_off(8 * MIB);
        let scratch = self.workspace.scratch("stock-linux")?;
        let [disk, sample] = ["disk.img", "sample"].map(|name| scratch.join(name));
        let sum = |bytes: &[u8]| {
            std::fs::write(&sample, bytes)?;
            image::sum(&sample)
        };
        let mut contents = inside.clone();
        contents.resize(32 * MIB, 0);
        std::fs::write(&disk, &contents)?;
        let port = server::start(outside.clone())?;
        let mut below = Below { disks: vec![disk.clone()], ..Below::default() };
        below.linux(
            "disk",
            "disk = ['/dev/vda,raw,xvda,w']\nvif = ['mac=00:16:3e:00:00:10']",
            &format!(
                "disk=xvda address=10.0.2.16 others=10.0.2.4,10.0.2.2 from=http://10.0.2.2:{port}/file"
            ),
        );
        let said = self.linux_says(material, below, "stock-linux")?;
        let (inside, fetched) = (sum(&inside)?, sum(&outside)?);
        let wanted = format!(
            "Linux is of the kind xen PV, CPUs: 2\nsectors: 65536\nfirst 4 MiB: {inside}  -\n\
             10.0.2.4 answers\n10.0.2.2 answers\nfetched: {fetched}  -\nread back: {fetched}  -\n\
             disk has ended\n"
        );
        transcript::compare([&of_linux(&said, "disk"), &wanted], ["it", "due"])?;
        let written = contents.get_mut(8 * MIB..16 * MIB).context("the disk is too small")?;
        written.copy_from_slice(&outside);
        ensure!(std::fs::read(disk)? == contents, "the disk is not as it should be");
        Ok(())
    }

    /// Boots Linux domains.
    fn linux_says(
        &mut self,
        material: Material,
        mut below: Below,
        scratch: &str,
    ) -> Result<String> {
        below.bundle.push(("linux".into(), std::fs::read(material.linux)?));
        below.bundle.push(("root".into(), material.root));
        self.boot(below, scratch)
    }

    /// One Linux fetches what another one serves.
    fn pair(&mut self) -> Result<()> {
        let material = self.material()?;
        let disk = self.workspace.scratch("stock-pair")?.join("disk.img");
        std::fs::write(&disk, image::random(8 * MIB))?;
        let mut below = Below { disks: vec![disk.clone()], cpus: 2, ..Below::default() };
        below.linux(
            "server",
            "disk = ['/dev/vda,raw,xvda,r']\nvif = ['mac=00:16:3e:00:00:11']",
            "disk=xvda address=10.0.2.17",
        );
        below.linux(
            "client",
            "vif = ['mac=00:16:3e:00:00:12']",
            "address=10.0.2.18 from=10.0.2.17",
        );
        let said = self.linux_says(material, below, "stock-pair")?;
        let sum = image::sum(&disk)?;
        let begin = "Linux is of the kind xen PV, CPUs: 2\n";
        for (name, due) in [
            ("server", format!("{begin}the client is content\nserver has ended\n")),
            ("client", format!("{begin}fetched: {sum}  -\nclient has ended\n")),
        ] {
            transcript::compare([&of_linux(&said, name), &due], ["it", "due"])
                .with_context(|| format!("the {name} says something else"))?;
        }
        Ok(())
    }

    /// What the store says to Xen's own tools, and to raw messages, in a Linux on our kernel or on Xen.
    fn store(&mut self, system: System) -> Result<String> {
        let material = self.material()?;
        let name = format!("stock-store-{}", system.name());
        let said = if system == System::Paravane {
            let mut below = Below::default();
            below.linux("store", "", "");
            self.linux_says(material, below, &name)?
        } else {
            let scratch = self.workspace.scratch(&name)?;
            let root = scratch.join("root.cpio");
            std::fs::write(&root, &material.root)?;
            let words = format!("{QUIET} role=store");
            let mut domain = Domain::new("store", material.linux, &words);
            (domain.ramdisk, domain.memory, domain.vcpus) = (Some(root), LINUX, 2);
            let mut options = self.options.machine.clone();
            options.limit = options.limit.max(LIMIT);
            let job = (&[domain][..], None);
            let machine =
                xen_linux::machine(self.workspace, self.builder, system, job, &options, &scratch)?;
            let record = boot::boot(&machine, Watch::Nobody, &scratch)?;
            let end = xen_linux::end(&record, "store");
            ensure!(end == End::Success, "{end}\n{}", record.report);
            record.console.transcript()
        };
        let said = of_linux(&said, "store");
        ensure!(said.ends_with("store has ended\n"), "it did not get to its end:\n{said}");
        Ok(said)
    }
}

/// What a Linux domain said, without what its kernel says even when it is to be quiet.
fn of_linux(said: &str, name: &str) -> String {
    let said = transcript::of_domain(said, name);
    let own = said.lines().filter(|line| !line.starts_with('['));
    own.map(|line| format!("{line}\n")).collect()
}

/// The lines of a terminal's text as our control domain shows it: of each what is behind its last colour or
/// movement, for GRUB draws its progress before that.
fn plain(text: &str) -> String {
    let behind = |line: &str| {
        let part = line.rsplit_once(".[").map_or(line, |(_, part)| {
            part.trim_start_matches(|it: char| it == ';' || it.is_ascii_digit())
                .trim_start_matches(['H', 'J', 'm'])
        });
        format!("{}\n", part.trim_matches([' ', '\r']))
    };
    text.lines().map(behind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_and_movements_are_not_text() {
        let text = ".[30m.[47mWelcome\n\r.[4;9H [ a.txt  29B ].[4;1Hls \nplain.[\n";
        assert_eq!(plain(text), "Welcome\nls\n\n");
    }

    #[test]
    fn what_linux_says_itself_is_left_out() {
        let text = "a| [ 1.0] reboot: Power down\na| text\nb| more\n";
        assert_eq!(of_linux(text, "a"), "text\n");
    }
}
