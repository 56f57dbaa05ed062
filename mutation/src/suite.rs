//! What could notice a fault: tests of the host, then guests in QEMU.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Where a suite runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stage {
    /// In this machine's processes.
    Host,
    /// In QEMU.
    Machine,
}

/// Tests that run by one command.
#[derive(Debug)]
pub(crate) struct Suite {
    /// What results call it.
    pub(crate) name: &'static str,
    /// Where it runs.
    pub(crate) stage: Stage,
    /// Cargo's words.
    words: &'static [&'static str],
    /// Of which files' faults it is asked: what their paths begin with.
    of: &'static [&'static str],
}

const EMULATION: &[&str] =
    &["kernel/core/src/emulate/", "kernel/core/src/cpuid.rs", "kernel/core/src/guest_memory.rs"];
const KERNEL: &[&str] = &["kernel/", "domain-builder/"];
const GUESTS: &[&str] = &["kernel/", "domain-builder/", "pv-guest-sdk/"];
const SERVED: &[&str] =
    &["xenstore/", "toolstack/", "shared-ring/", "backend/", "blkback/", "netback/"];

const DISKS: &[&str] = &["shared-ring/", "backend/", "blkback/", "pv-guest-sdk/"];

/// Cases of conformance that are about what a file of `kernel/core/src` does, by a part of its path and a
/// part of their names. They are asked before all the others.
const CASES: [(&str, &str); 37] = [
    ("core/src/areas", "runstate/"),
    ("core/src/bounce", "trap"),
    ("calls/assist", "debug/"),
    ("calls/console", "console/"),
    ("calls/control", "domctl/"),
    ("calls/cpu.", "segments/"),
    ("calls/event", "event_"),
    ("calls/grant", "grant_"),
    ("calls/memory_map", "memory_query/"),
    ("calls/mmu", "mmu"),
    ("calls/multicall", "multicall/"),
    ("calls/physdev", "physdev/"),
    ("calls/sched", "poll/"),
    ("calls/traps", "iret"),
    ("calls/vcpu", "vcpu_"),
    ("calls/version", "version/"),
    ("core/src/control", "control/"),
    ("core/src/cpuid", "cpuid/"),
    ("core/src/debug", "debug/"),
    ("core/src/descriptors", "dt/"),
    ("emulate/msr", "msr/"),
    ("emulate/table", "ptwr/"),
    ("core/src/emulate", "emulation/"),
    ("core/src/event", "event_"),
    ("core/src/grant", "grant_"),
    ("core/src/irq", "pirq/"),
    ("mm/descriptor", "dt/"),
    ("mm/exchange", "memory_exchange/"),
    ("mm/ext", "ext_"),
    ("mm/reservation", "memory_reservation/"),
    ("core/src/mm", "mmu_"),
    ("core/src/saved", "vcpu_run/"),
    ("core/src/timer", "timer/"),
    ("core/src/trap", "trap"),
    ("core/src/vcpu", "vcpu_"),
    ("core/src/virtual_cpu", "vcpu_"),
    ("core/src/regs", "iret_call/"),
];

/// The name of the suite whose command gets one of these as a filter.
const NEAR: &str = "cases";

/// All of them, in the order in which they are asked.
const SUITES: [Suite; 15] = [
    host("kernel-core", &["test", "-p", "kernel-core", "--lib"], &["kernel/core/"]),
    host("emulation", &["test", "-p", "kernel-core", "--test", "emulate"], EMULATION),
    host("xenstore", &["test", "-p", "xenstore", "--lib", "--tests"], &["xenstore/"]),
    host("shared-ring", &["test", "-p", "shared-ring", "--lib", "--tests"], &["shared-ring/"]),
    host(
        "blkback",
        &["test", "-p", "blkback", "--lib", "--tests"],
        &["shared-ring/", "backend/", "blkback/"],
    ),
    host(
        "netback",
        &["test", "-p", "netback", "--lib", "--tests"],
        &["shared-ring/", "backend/", "netback/"],
    ),
    host("toolstack", &["test", "-p", "toolstack", "--lib", "--tests"], &["toolstack/"]),
    host(
        "pv-guest-sdk",
        &["test", "-p", "pv-guest-sdk", "--lib", "--tests", "--features", "smoltcp"],
        &["pv-guest-sdk/"],
    ),
    // With the cases of the file: see [`CASES`].
    machine(NEAR, &["xtask", "conformance", "--on", "paravane", "--limit", "240"], KERNEL),
    machine("conformance", &["xtask", "conformance", "--on", "paravane", "--limit", "240"], KERNEL),
    machine("pairs", &["xtask", "conformance", "pair_", "--on", "paravane", "--smp", "2"], KERNEL),
    machine("hostile", &["xtask", "test", "hostile guests"], KERNEL),
    machine("domains", &["xtask", "test", "domains with 2 CPUs on paravane"], GUESTS),
    machine("dom0", &["xtask", "test", "from the host on paravane"], SERVED),
    machine("disks", &["xtask", "test", "disks that fail on paravane"], DISKS),
];

const fn host(
    name: &'static str,
    words: &'static [&'static str],
    of: &'static [&'static str],
) -> Suite {
    Suite { name, stage: Stage::Host, words, of }
}

const fn machine(
    name: &'static str,
    words: &'static [&'static str],
    of: &'static [&'static str],
) -> Suite {
    Suite { name, stage: Stage::Machine, words, of }
}

/// Those that could notice a fault in a file.
pub(crate) fn of(file: &str) -> impl Iterator<Item = &'static Suite> {
    let cases = cases(file).is_some();
    let asked = move |suite: &&Suite| suite.name != NEAR || cases;
    SUITES.iter().filter(move |it| it.of.iter().any(|begin| file.starts_with(begin)) && asked(it))
}

/// The cases of a file.
fn cases(file: &str) -> Option<&'static str> {
    CASES.iter().find(|(part, _)| file.contains(part)).map(|(_, cases)| *cases)
}

/// What a suite made of a fault.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Noticed {
    /// Nothing: all passed.
    No,
    /// This failed first.
    By(String),
    /// The sources do not compile.
    NotCompiled(String),
}

/// The settings of all builds and tests: no symbols, a kernel that is built quickly, and random tests
/// that are short and the same each time.
const SETTINGS: [(&str, &str); 8] = [
    ("CARGO_PROFILE_DEV_DEBUG", "0"),
    ("CARGO_PROFILE_DEV_OPT_LEVEL", "1"),
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_TERM_COLOR", "never"),
    ("PARAVANE_SEED", "1"),
    ("PARAVANE_SEQUENCES", "60"),
    ("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1"),
    ("PROPTEST_RNG_SEED", "1"),
];

/// The most CPU time of one process, after which it counts as hung. Unit: seconds.
const CPU_LIMIT: u32 = 600;
/// The longest that a suite may take. Waiting for each other costs no CPU time. Unit: seconds.
const LIMIT: Duration = Duration::from_secs(1800);

impl Suite {
    /// Runs it in the tree until something fails, for a fault in `file`.
    ///
    /// # Errors
    ///
    /// When cargo does not start.
    pub(crate) fn run(&self, cargo: &Path, tree: &Path, file: &str) -> Result<Noticed> {
        let cases = Some(self.name).filter(|name| *name == NEAR).and_then(|_| cases(file));
        let told = run(self.command(cargo, tree, cases), |line| failure(line).is_some())?;
        let failed = told.lines.iter().find_map(|line| failure(line));
        Ok(match (failed, told.status) {
            (Some(failed), _) => Noticed::By(failed),
            (None, Status::Success) => Noticed::No,
            (None, Status::Hung) => Noticed::By("it hangs".into()),
            (None, Status::Failure) => match told.first("error: could not compile") {
                Some(line) => Noticed::NotCompiled(line),
                None => Noticed::By(told.case().or(told.first("xtask: ")).unwrap_or_default()),
            },
        })
    }

    fn command(&self, cargo: &Path, tree: &Path, cases: Option<&str>) -> Command {
        // The limit is on CPU time: how long something takes depends on what else is going on.
        let script = format!("ulimit -t {CPU_LIMIT}; exec \"$@\"");
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg("sh").arg(cargo).args(self.words).args(cases);
        command.current_dir(tree).envs(SETTINGS).env_remove("CARGO_TARGET_DIR");
        command
    }
}

/// What failed, if a line says so.
fn failure(line: &str) -> Option<String> {
    let test = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"));
    let step = line.strip_prefix("FAIL  ").map(|rest| rest.split(" (").next().unwrap_or(rest));
    let case = line.strip_suffix(" broke the guest").and_then(|rest| rest.rsplit(' ').next());
    test.or(step).or(case).map(str::to_owned)
}

#[derive(Clone, Copy, Debug)]
enum Status {
    Success,
    Failure,
    Hung,
}

/// What a command said, and how it ended.
struct Told {
    lines: Vec<String>,
    status: Status,
}

impl Told {
    /// The first case of conformance that failed without a reason: those are explained in the next
    /// line.
    fn case(&self) -> Option<String> {
        let explained = |line: &String| line.trim_start().starts_with("a hypervisor must: ");
        let before = self.lines.iter().position(explained)?.checked_sub(1)?;
        self.lines.get(before)?.split_whitespace().next().map(str::to_owned)
    }

    fn first(&self, begin: &str) -> Option<String> {
        self.lines.iter().find(|line| line.starts_with(begin)).cloned()
    }
}

/// Runs a command to its end, or until a line is enough, or time is up; then all it started is killed.
fn run(mut command: Command, mut is_enough: impl FnMut(&str) -> bool) -> Result<Told> {
    let (reader, writer) = std::io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).process_group(0);
    let mut child = command.spawn().context("cargo does not start")?;
    // The writing ends that the command has kept would keep the pipe open.
    drop(command);
    let (to, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
            if to.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                break;
            }
        }
    });
    let (begun, mut told) = (Instant::now(), Vec::new());
    let status = loop {
        match lines.recv_timeout(LIMIT.saturating_sub(begun.elapsed())) {
            Ok(line) => {
                let enough = is_enough(&line);
                told.push(line);
                if enough {
                    break Some(Status::Failure);
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => break Some(Status::Hung),
            Err(mpsc::RecvTimeoutError::Disconnected) => break None,
        }
    };
    if status.is_some() {
        let group = format!("-{}", child.id());
        let _gone = Command::new("kill").args(["-KILL", "--", &group]).status();
    }
    let ended = child.wait()?;
    let status = status.unwrap_or(if ended.success() { Status::Success } else { Status::Failure });
    Ok(Told { lines: told, status })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_tell_what_failed() {
        for (line, what) in [
            ("test mm::tests::a ... FAILED", Some("mm::tests::a")),
            ("test mm::tests::a ... ok", None),
            ("FAIL  hostile guests (3.2 s): harm", Some("hostile guests")),
            ("xtask: paravane: traps/a broke the guest", Some("traps/a")),
            ("pass  hostile guests (3.2 s)", None),
        ] {
            assert_eq!(failure(line).as_deref(), what, "{line}");
        }
    }

    #[test]
    fn a_case_with_a_reason_has_not_failed() {
        let lines = "failed:
            gdt/a on paravane: fail: answer: expected 0 seen 1
            gdt/b on paravane: fail: answer: expected 0 seen 1
                a hypervisor must: answer 0.";
        let lines = lines.lines().map(str::to_owned).collect();
        let told = Told { lines, status: Status::Failure };
        assert_eq!(told.case().as_deref(), Some("gdt/b"));
    }

    #[test]
    fn files_have_suites() {
        let names = |file| of(file).map(|suite| suite.name).collect::<Vec<_>>();
        assert_eq!(names("kernel/core/src/regs.rs")[..2], ["kernel-core", "cases"]);
        assert_eq!(names("kernel/src/x86/frame.rs")[0], "conformance");
        assert_eq!(
            names("shared-ring/src/lib.rs"),
            ["shared-ring", "blkback", "netback", "dom0", "disks"]
        );
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_line_that_is_enough_ends_the_command() {
        let told = run(shell("echo a; echo b >&2; exec sleep 1000"), |line| line == "b").unwrap();
        assert_eq!(told.lines, ["a", "b"]);
        assert!(matches!(told.status, Status::Failure));
    }

    #[test]
    fn exit_statuses_are_told() {
        let status = |script| run(shell(script), |_| false).unwrap().status;
        assert!(matches!(status("exit 0"), Status::Success));
        assert!(matches!(status("exit 3"), Status::Failure));
    }
}
