//! `cargo xtask check` and `cargo xtask test`: everything that says whether the workspace is good.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use crate::boot::{self, End, Watch};
use crate::check;
use crate::conformance;
use crate::machine::System;
use crate::options::TestOptions;
use crate::process;
use crate::rule;
use crate::run::{Builder, GuestChoice};
use crate::steps::Steps;
use crate::toolchain::Route;
use crate::transcript;
use crate::workspace::{GuestBinary, Workspace};

/// The command line of a guest that is to end well.
const WELL: &str = "first=1 \"two words\" a,b";

/// Guests that are to end badly: their name, and the command line that makes them.
const FAILURES: [(&str, &str); 3] =
    [("fails", "error"), ("fails", "panic"), ("fails", "read-unmapped")];

/// Guests that run on several CPUs, or where every instruction takes the same time, on our kernel
/// alone: their name, command line, the CPUs, and whether instructions are counted.
const HARD: [(&str, &str, u32, bool); 5] = [
    ("smp", WELL, 2, false),
    ("smp", WELL, 4, false),
    ("ping-pong", WELL, 2, false),
    ("tour-events", WELL, 2, false),
    ("fair", "strict", 1, true),
];

/// Runs the checks that need no QEMU, or with `boots` all there is.
///
/// # Errors
///
/// When nothing can be checked at all; what fails is counted instead.
pub(crate) fn command(options: &TestOptions, boots: bool) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    let mut builder = Builder::new(&workspace, options.machine.route);
    let mut steps = Steps::new(&options.filter);
    check::all(&workspace, &mut builder, &mut steps);
    if boots {
        steps.run("host tests: 100,000 random sequences of memory calls", || {
            let words = "-q --release -p kernel-core --lib random_".split(' ');
            process::succeed(check::host(&workspace, "test").args(words))
        });
        let alone = ["conformance", "nursery", "echo"];
        for guest in workspace.guests.iter().filter(|guest| !alone.contains(&&*guest.name)) {
            let well = (guest, WELL, &End::Success);
            on_both(&workspace, &mut builder, options, well, &mut steps);
            for (_, args) in FAILURES.iter().filter(|(name, _)| *name == guest.name) {
                let badly = (guest, *args, &End::GuestFailed);
                on_both(&workspace, &mut builder, options, badly, &mut steps);
            }
        }
        for guest in workspace.guests.iter().filter(|guest| guest.name == "hello") {
            steps.run("guest hello by Debian's compiler on paravane", || {
                let mut builder = Builder::new(&workspace, Some(Route::Debian));
                let well = (guest, WELL, &End::Success);
                transcript_of(&workspace, &mut builder, options, well, System::Paravane).map(drop)
            });
        }
        nursery(&workspace, &mut builder, options, &mut steps);
        ruled(&workspace, &mut builder, options, &mut steps);
        hard(&workspace, &mut builder, options, &mut steps);
        steps.run("conformance on both", || {
            // A route that was forced for us is forced for it.
            let route = options.machine.route.iter().flat_map(|it| ["--toolchain", it.name()]);
            let code = conformance::command(lexopt::Parser::from_args(route))?;
            ensure!(code == ExitCode::SUCCESS, "see above");
            Ok(())
        });
    }
    Ok(steps.finish())
}

/// A boot that is checked: the guest, its command line, and how it is to end.
type Boot<'a> = (&'a GuestBinary, &'a str, &'a End);

/// Boots one guest on both systems; it must end as expected on both and say the same.
fn on_both(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &TestOptions,
    boot: Boot<'_>,
    steps: &mut Steps,
) {
    let (guest, args, expected) = boot;
    let mut name = format!("guest {}", guest.name);
    if *expected != End::Success {
        name = format!("{name} {args}");
    }
    let said = [System::Paravane, System::Xen].map(|system| {
        let mut transcript = None;
        steps.run(&format!("{name} on {}", system.name()), || {
            transcript = Some(transcript_of(workspace, builder, options, boot, system)?);
            Ok(())
        });
        transcript
    });
    if let [Some(ours), Some(theirs)] = &said {
        steps.run(&format!("{name} says the same on both"), || transcript::compare(ours, theirs));
    }
}

/// Boots the guest that runs others as domains; what those print comes in any order.
fn nursery(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &TestOptions,
    steps: &mut Steps,
) {
    for (system, cpus) in [(System::Paravane, 1), (System::Paravane, 2), (System::Xen, 1)] {
        let name = system.name();
        steps.run(&format!("nursery with {cpus} CPUs on {name}"), || {
            let guest = workspace.guests.iter().find(|guest| guest.name == "nursery");
            let guest = guest.context("there is no nursery")?;
            let scratch = workspace.scratch(&format!("nursery-{name}"))?;
            let mut options = options.machine.clone();
            options.smp = cpus;
            let mut machine = builder.machine(system, &GuestChoice::of(guest), &options)?;
            machine.ramdisk = Some(builder.nursery(&scratch)?);
            let record = boot::boot(&machine, Watch::Nobody, &scratch)?;
            ensure!(record.end == End::Success, "{}\n{}", record.end, record.report);
            Ok(())
        });
    }
}

/// Boots dom0 with an operator, and rules domains from here.
fn ruled(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &TestOptions,
    steps: &mut Steps,
) {
    for system in [System::Paravane, System::Xen] {
        let name = system.name();
        steps.run(&format!("domains ruled from the host on {name}"), || {
            let guest = workspace.guests.iter().find(|guest| guest.name == "dom0");
            let guest = guest.context("there is no dom0")?;
            let scratch = workspace.scratch(&format!("ruled-{name}"))?;
            let mut machine = builder.machine(system, &GuestChoice::of(guest), &options.machine)?;
            machine.guest_args = "operator".into();
            machine.ramdisk = Some(builder.ruled(&scratch)?);
            rule::drive(&machine, &scratch)
        });
    }
}

/// Boots the guests of [`HARD`].
fn hard(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &TestOptions,
    steps: &mut Steps,
) {
    for (name, args, cpus, icount) in HARD {
        let Some(guest) = workspace.guests.iter().find(|guest| guest.name == name) else {
            continue;
        };
        let counted = if icount { ", counted" } else { "" };
        steps.run(&format!("guest {name} with {cpus} CPUs{counted} on paravane"), || {
            let mut options = options.clone();
            (options.machine.smp, options.machine.icount) = (cpus, icount);
            let well = (guest, args, &End::Success);
            transcript_of(workspace, builder, &options, well, System::Paravane).map(drop)
        });
    }
}

/// What a guest says on one system, when it ends as expected.
fn transcript_of(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &TestOptions,
    (guest, args, expected): Boot<'_>,
    system: System,
) -> Result<String> {
    let mut machine = builder.machine(system, &GuestChoice::of(guest), &options.machine)?;
    args.clone_into(&mut machine.guest_args);
    let scratch = workspace.scratch(&format!("test-{}", system.name()))?;
    let record = boot::boot(&machine, Watch::Nobody, &scratch)?;
    let (end, report) = (&record.end, &record.report);
    ensure!(end == expected, "{end}, but it should be that {expected}\n{report}");
    Ok(record.console.transcript())
}
