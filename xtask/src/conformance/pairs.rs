//! The cases of several domains: between two that are alike, and of one that controls another.
//!
//! Two that are alike are the guest `conformance` twice: the *tester* runs the cases, the *puppet*
//! does what it says. The nursery makes both, or Linux. Those of control are the guest `pairs`,
//! the initial domain, which makes its puppets itself.

use std::path::Path;

use anyhow::Result;

use super::Options;
use super::suite::{self, Outcomes};
use crate::machine::{Machine, System};
use crate::run::{Builder, GuestChoice, ramdisk};
use crate::workspace::Workspace;
use crate::xen_linux::{self, Domain};

const TESTER: &str = "tester";
const PUPPET: &str = "puppet";
/// Memory of each below Linux. Unit: MiB.
const MEMORY: u32 = 16;

/// A boot with several domains.
pub(super) struct Pair {
    /// Where it is.
    pub(super) system: System,
    machine: Machine,
    /// Who tells, if it is not the initial domain.
    tester: Option<&'static str>,
}

impl Pair {
    /// What the cases come to.
    ///
    /// # Errors
    ///
    /// When they do not begin.
    pub(super) fn run(&self, scratch: &Path) -> Result<Outcomes> {
        suite::run_once(&self.machine, self.tester, scratch)
    }

    /// The machine, if its initial domain is who tells.
    pub(super) fn control(&self) -> Option<&Machine> {
        self.tester.is_none().then_some(&self.machine)
    }
}

/// All boots with several domains, on each system.
///
/// # Errors
///
/// When something cannot be provided.
pub(super) fn all(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &Options,
    scratch: &Path,
) -> Result<Vec<Pair>> {
    let image = builder.guest(&GuestChoice::find(workspace, "conformance".as_ref())?)?;
    let filter = format!("filter={}", options.filter);
    // Domains are numbered in the order in which they are made.
    let words = [format!("own=1 peer=2 {filter}"), "puppet=1".to_owned()];
    let ramdisk = ramdisk(&[(TESTER, image.clone()), (PUPPET, image.clone())], scratch)?;
    let mut pairs = Vec::new();
    for &system in &options.systems {
        let mut machine_options = options.machine.clone();
        if system.is_below_linux() {
            let domain = |(name, words): (&str, &String)| Domain {
                memory: MEMORY,
                vcpus: 1,
                ..Domain::new(name, image.clone(), words)
            };
            let domains: Vec<_> = [TESTER, PUPPET].into_iter().zip(&words).map(domain).collect();
            machine_options.limit = machine_options.limit.max(xen_linux::LIMIT);
            let machine = xen_linux::machine(
                workspace,
                builder,
                system,
                (&domains, None),
                &machine_options,
                scratch,
            )?;
            pairs.push(Pair { system, machine, tester: Some(TESTER) });
            continue;
        }
        let [own, puppet] = words.each_ref().map(|words| words.replace(' ', ","));
        let nursery = format!("{TESTER}={own} {PUPPET}={puppet}");
        for (guest, args, tester) in
            [("nursery", nursery, Some(TESTER)), ("pairs", filter.clone(), None)]
        {
            let guest = GuestChoice::find(workspace, guest.as_ref())?;
            let mut machine = builder.machine(system, &guest, &machine_options)?;
            options.fit(&mut machine);
            (machine.guest_args, machine.ramdisk) = (args, Some(ramdisk.clone()));
            pairs.push(Pair { system, machine, tester });
        }
    }
    Ok(pairs)
}
