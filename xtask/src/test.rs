//! `cargo xtask check` and `cargo xtask test`: everything that says whether the workspace is good.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::book;
use crate::boot::{self, End, Record, Watch};
use crate::check;
use crate::conformance;
use crate::machine::System;
use crate::options::TestOptions;
use crate::parts;
use crate::process;
use crate::rule;
use crate::run::{Builder, FAMILY, GuestChoice};
use crate::steps::Steps;
use crate::toolchain::Route;
use crate::transcript;
use crate::workspace::{GuestBinary, Workspace};
use crate::xen_linux::{self, Domain};

/// The command line of a guest that is to end well.
const WELL: &str = "first=1 \"two words\" a,b";

/// Guests that are to end badly: their name, and the command line that makes them.
const FAILURES: [(&str, &str); 3] =
    [("fails", "error"), ("fails", "panic"), ("fails", "read-unmapped")];

/// Guests that do not run alone: they have steps of their own.
const ALONE: &[&str] = &[
    "conformance",
    "nursery",
    "crowd",
    "pairs",
    "blk",
    "arena",
    "fuzz",
    "attack",
    "heartbeat",
    "sweep",
    "instructions",
    "liar",
    "meets-errors",
    "echo",
    "httpd",
    "kv",
    "netpair",
    "netliar",
];

/// Guests that run on several CPUs, or where every instruction takes the same time, on our kernel
/// alone: their name, command line, the CPUs, and whether instructions are counted.
const HARD: [(&str, &str, u32, bool); 6] = [
    ("guide", WELL, 2, false),
    ("smp", WELL, 2, false),
    ("smp", WELL, 4, false),
    ("ping-pong", WELL, 2, false),
    ("tour-events", WELL, 2, false),
    ("fair", "strict", 1, true),
];

/// Domains that take all they get, on one CPU where instructions are counted: what they differ in, what
/// each has of that, what of the CPU each is due, and of how much that is a part.
const SHARES: [(&str, [u32; 3], f64); 2] =
    [("weight", [256, 512, 1024], 1792.0), ("cap", [30, 55, 10], 100.0)];
/// How long the three are there. Unit: seconds.
const SHARED: f64 = 3.0;

/// Runs the checks that need no QEMU, or with `boots` all there is.
///
/// # Errors
///
/// When nothing can be checked at all; what fails is counted instead.
pub(crate) fn command(options: &TestOptions, boots: bool) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    let mut builder = Builder::new(&workspace, options.machine.route);
    let mut steps = Steps::new(&options.filter);
    let mut listed = Steps::listing();
    check::all(&workspace, &mut builder, &mut listed);
    parts::all(&workspace, &TestOptions { full: true, ..options.clone() }, &mut listed);
    check::all(&workspace, &mut builder, &mut steps);
    book::test((&workspace, &mut builder), options, listed.names(), boots, &mut steps);
    if boots {
        parts::all(&workspace, options, &mut steps);
    }
    Ok(steps.finish())
}

/// Runs random sequences that take longer than the other tests of the host.
pub(crate) fn random(workspace: &Workspace, options: &TestOptions, steps: &mut Steps) {
    let random = |words: &str, count: Option<&str>| {
        let mut test = check::host(workspace, "test");
        test.args("-q --release -p kernel-core --lib".split(' ')).arg(words);
        process::succeed(test.envs(count.map(|count| ("PARAVANE_SEQUENCES", count))))
    };
    steps.run("host tests: 100,000 random sequences of memory calls", || random("random_", None));
    if options.full {
        let name = "host tests: 1,000,000 random sequences of memory calls";
        steps.run(name, || random("random_calls", Some("1000000")));
    }
}

/// Boots every guest that runs alone, and some as domains.
pub(crate) fn guests(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &TestOptions,
    steps: &mut Steps,
) {
    for guest in workspace.guests.iter().filter(|guest| !ALONE.contains(&&*guest.name)) {
        let well = (guest, WELL, &End::Success);
        on_both(workspace, builder, options, well, steps);
        for (_, args) in FAILURES.iter().filter(|(name, _)| *name == guest.name) {
            let badly = (guest, *args, &End::GuestFailed);
            on_both(workspace, builder, options, badly, steps);
        }
    }
    for guest in workspace.guests.iter().filter(|guest| guest.name == "hello") {
        steps.run("guest hello by Debian's compiler on paravane", || {
            let mut debian = Builder::new(workspace, Some(Route::Debian));
            let well = (guest, WELL, &End::Success);
            transcript_of(workspace, &mut debian, options, well, System::Paravane).map(drop)
        });
    }
    domains(workspace, builder, options, steps);
    hard(workspace, builder, options, steps);
}

/// Boots domains that compete.
pub(crate) fn shares(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &TestOptions,
    steps: &mut Steps,
) {
    for row in &SHARES {
        steps.run(&format!("shares by {} on paravane", row.0), || {
            share(workspace, builder, options, row)
        });
    }
}

/// Runs the cases of conformance: the name of the step, and the words of the command.
pub(crate) fn cases(options: &TestOptions, steps: &mut Steps) {
    let rows: [(&str, &[&str]); 4] = [
        ("conformance on both", &[]),
        // The usual model has no XSAVE. With SMAP the emulator refuses guests' `iretq`.
        ("conformance of extended state on both", &["xsave/", "--cpu=max,-smap"]),
        ("conformance of pairs with 2 CPUs on paravane", &["pair_", "--on=paravane", "--smp=2"]),
        ("conformance of pairs below Linux on xen", &["pair_", "--on=xen-linux"]),
    ];
    for (name, words) in rows {
        steps.run(name, || {
            // A route that was forced for us is forced for it.
            let route = options.machine.route.iter().flat_map(|it| ["--toolchain", it.name()]);
            let words = words.iter().copied().chain(route);
            let failures = conformance::failures(lexopt::Parser::from_args(words))?;
            ensure!(failures.is_empty(), "{failures}");
            Ok(())
        });
    }
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
        steps.run(&format!("{name} says the same on both"), || {
            transcript::compare([ours, theirs], ["paravane", "xen"])
        });
    }
}

/// Boots the guests of [`FAMILY`] as domains: below the nursery and below Linux, on both systems. Each must say what it says as the initial domain.
fn domains(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &TestOptions,
    steps: &mut Steps,
) {
    let mut alone = BTreeMap::new();
    for (system, cpus) in [(System::Paravane, 1), (System::Paravane, 2), (System::Xen, 1)] {
        let name = system.name();
        steps.run(&format!("domains with {cpus} CPUs on {name}"), || {
            let guest = workspace.guests.iter().find(|guest| guest.name == "nursery");
            let guest = guest.context("there is no nursery")?;
            let scratch = workspace.scratch(&format!("domains-{name}"))?;
            let mut machine_options = options.machine.clone();
            machine_options.smp = cpus;
            let guest = GuestChoice::of(guest);
            let mut machine = builder.machine(system, &guest, &machine_options)?;
            machine.ramdisk = builder.ramdisk("nursery", &scratch)?;
            let record = boot::boot(&machine, Watch::Nobody, &scratch)?;
            ensure!(record.end == End::Success, "{}\n{}", record.end, record.report);
            same_as_alone(workspace, builder, options, &record, &mut alone)
        });
    }
    for system in [System::ParavaneLinux, System::XenLinux] {
        let name = system.hypervisor().name();
        for cpus in if options.full { 1..=2 } else { 1..=1 } {
            steps.run(&format!("domains with {cpus} CPUs below Linux on {name}"), || {
                below_linux(workspace, builder, options, (system, cpus), &mut alone)
            });
        }
    }
}

/// [`FAMILY`] below Linux, on so many CPUs; as of [`domains`].
fn below_linux(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &TestOptions,
    (system, cpus): (System, u32),
    alone: &mut BTreeMap<&'static str, String>,
) -> Result<()> {
    let scratch = workspace.scratch("domains-linux")?;
    let family = FAMILY.map(|name| Ok(Domain::new(name, builder.example(name)?, "")));
    let family = family.into_iter().collect::<Result<Vec<_>>>()?;
    let mut machine_options = options.machine.clone();
    (machine_options.smp, machine_options.limit) =
        (cpus, options.machine.limit.max(xen_linux::LIMIT));
    let job = (&family[..], None);
    let machine = xen_linux::machine(workspace, builder, system, job, &machine_options, &scratch)?;
    let record = boot::boot(&machine, Watch::Nobody, &scratch)?;
    for name in FAMILY {
        let end = xen_linux::end(&record, name);
        ensure!(end == End::Success, "{name}: {end}\n{}", record.report);
    }
    same_as_alone(workspace, builder, options, &record, alone)
}

/// Compares what each of [`FAMILY`] said as a domain with what it says as our initial domain, which
/// is kept in `alone`.
fn same_as_alone(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &TestOptions,
    record: &Record,
    alone: &mut BTreeMap<&'static str, String>,
) -> Result<()> {
    let transcript = record.console.transcript();
    for name in FAMILY {
        if !alone.contains_key(name) {
            let guest = workspace.guests.iter().find(|guest| guest.name == name);
            let boot = (guest.context("no such guest")?, "", &End::Success);
            let said = transcript_of(workspace, builder, options, boot, System::Paravane)?;
            alone.insert(name, said);
        }
        let said = transcript::of_domain(&transcript, name);
        let places = ["as a domain", "as the initial domain"];
        let same = transcript::compare([&said, alone.get(name).map_or("", |said| said)], places);
        same.with_context(|| format!("{name} says something else"))?;
    }
    Ok(())
}

/// What many domains cost the hypervisor, and whether anything is left of them. Only where instructions
/// are counted, and on our kernel, is that to be strictly the same for all of them.
pub(crate) fn crowd(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &TestOptions,
    steps: &mut Steps,
) {
    for (system, args) in
        [(System::Paravane, "live=50 cycles=500 strict"), (System::Xen, "live=50 cycles=20")]
    {
        let name = system.name();
        steps.run(&format!("crowd {args} on {name}"), || {
            let guest = workspace.guests.iter().find(|guest| guest.name == "crowd");
            let guest = guest.context("there is no crowd")?;
            let scratch = workspace.scratch(&format!("crowd-{name}"))?;
            let mut options = options.machine.clone();
            options.icount = true;
            let mut machine = builder.machine(system, &GuestChoice::of(guest), &options)?;
            args.clone_into(&mut machine.guest_args);
            machine.ramdisk = builder.ramdisk("crowd", &scratch)?;
            let record = boot::boot(&machine, Watch::Nobody, &scratch)?;
            ensure!(record.end == End::Success, "{}\n{}", record.end, record.report);
            Ok(())
        });
    }
}

/// Has three domains compete, and compares how long each ran with what it is due: but for the time until
/// they have been made, which nobody gets.
fn share(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &TestOptions,
    (what, values, all): &(&str, [u32; 3], f64),
) -> Result<()> {
    let names = ["a", "b", "c"];
    let guest = workspace.guests.iter().find(|guest| guest.name == "nursery");
    let scratch = workspace.scratch(&format!("shares-{what}"))?;
    let mut options = options.machine.clone();
    (options.icount, options.smp) = (true, 1);
    let guest = GuestChoice::of(guest.context("there is no nursery")?);
    let mut machine = builder.machine(System::Paravane, &guest, &options)?;
    machine.ramdisk = Some(builder.archive(&names.map(|name| (name, "fair")), &scratch)?);
    let words =
        names.iter().zip(values).map(|(name, it)| format!("{name}=until={SHARED},{what}:{it}"));
    machine.guest_args = words.collect::<Vec<_>>().join(" ");
    let record = boot::boot(&machine, Watch::Nobody, &scratch)?;
    ensure!(record.end == End::Success, "{}\n{}", record.end, record.report);
    let said = record.console.transcript();
    for (name, value) in names.iter().zip(values) {
        let ran = said.lines().find_map(|line| {
            seconds(line.strip_prefix(&format!("{name}: "))?.split_once("ran~")?.1)
        });
        let ran = ran.with_context(|| format!("nothing was said of {name}:\n{said}"))?;
        let due = SHARED * f64::from(*value) / all;
        ensure!((ran / due - 1.0).abs() < 0.05, "{name} ran {ran} s, and was due {due} s");
    }
    Ok(())
}

/// A duration as Rust shows it. Unit: seconds.
fn seconds(text: &str) -> Option<f64> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e-3),
        None => (text.strip_suffix('s')?, 1.0),
    };
    Some(number.parse::<f64>().ok()? * unit)
}

/// Boots dom0 with an operator, and rules domains from here.
pub(crate) fn ruled(
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
            rule::drive(&machine, &scratch, rule::rule).map(drop)
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

/// Boots of hostile guests beside a neighbour: the step's name, what the arena is told, the CPUs, whether
/// instructions are counted. All attacks and a million wild calls on two CPUs; and on one where time
/// counts instructions, so that a beat that is missed is the kernel's fault.
const HOSTILE: [(&str, &str, u32, bool); 2] = [
    ("hostile guests on paravane", "seed=1 calls=1000000", 2, false),
    ("hostile guests, no beat missed, counted, on paravane", "seed=2 calls=20000 strict", 1, true),
];

/// The same, where all is tested.
const HOSTILE_LONG: [(&str, &str, u32, bool); 3] = [
    ("ten million wild calls on paravane", "only=fuzz seed=7 calls=10000000", 2, false),
    ("ten million others on paravane", "only=fuzz seed=4 calls=10000000", 2, false),
    ("ten million wild calls on one CPU on paravane", "only=fuzz seed=3 calls=10000000", 1, false),
];

/// A seed's wild calls, that are to be the same when they are made again.
const AGAIN: &str = "only=fuzz seed=5 calls=50000";

/// Lets hostile guests loose.
pub(crate) fn hostile(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &TestOptions,
    steps: &mut Steps,
) {
    let long = HOSTILE_LONG.iter().filter(|_| options.full);
    for row in HOSTILE.iter().chain(long) {
        steps.run(row.0, || arena(workspace, builder, options, row).map(drop));
    }
    let name = "a seed's wild calls and their answers, twice the same, counted, on paravane";
    steps.run(name, || {
        let [first, second] = [(); 2].map(|()| {
            let said = arena(workspace, builder, options, &(name, AGAIN, 1, true))?;
            let hashes = said.lines().find(|line| line.trim_start().starts_with("asked "));
            hashes.map(String::from).context("the fuzzer tells no hashes")
        });
        let (first, second) = (first?, second?);
        ensure!(first == second, "at first {first}, then {second}");
        Ok(())
    });
}

/// What the arena says.
fn arena(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &TestOptions,
    (_, args, cpus, icount): &(&str, &str, u32, bool),
) -> Result<String> {
    let guest = workspace.guests.iter().find(|guest| guest.name == "arena");
    let guest = guest.context("there is no arena")?;
    let scratch = workspace.scratch("arena")?;
    let mut options = options.machine.clone();
    (options.smp, options.icount) = (*cpus, *icount);
    options.limit = options.limit.max(Duration::from_secs(1200));
    let mut machine = builder.machine(System::Paravane, &GuestChoice::of(guest), &options)?;
    (*args).clone_into(&mut machine.guest_args);
    // Where beats are judged, the hypervisor is to be as fast as it is.
    if !icount {
        machine.kernel_args = "poison".into();
    }
    machine.ramdisk = builder.ramdisk("arena", &scratch)?;
    let record = boot::boot(&machine, Watch::Nobody, &scratch)?;
    ensure!(record.end == End::Success, "{}\n{}", record.end, record.report);
    Ok(record.console.transcript())
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
