//! `cargo xtask conformance`: what the systems do, clause by clause, and whether they agree.
//!
//! The cases are functions of a guest (`conformance/`), those of several domains ([`pairs`]) of two;
//! [`protocol`] reads what it prints,
//! [`suite`] boots it as often as its cases need, [`verdict`] compares the systems, [`report`] and
//! [`page`] tell.

mod book;
mod call;
mod page;
mod pairs;
mod protocol;
mod report;
mod suite;
mod verdict;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lexopt::prelude::*;

use crate::machine::{Machine, System};
use crate::options::{MachineOptions, machine, unknown};
use crate::run::{Builder, GuestChoice};
use crate::workspace::Workspace;
use book::Book;
use pairs::Pair;
use suite::Outcomes;
use verdict::Verdict;

const HELP: &str = "\
cargo xtask conformance [FILTER] [OPTIONS]

Boots a guest that checks what the hypervisor does, clause by clause, and compares our kernel with
real Xen. Only cases run whose name contains FILTER.

    --on paravane|xen|xen-linux|both
                            where to run them (default: both); below Linux only those of two
                            domains
    --list                  print the names and clauses of the cases, run none
    --json FILE             write the outcomes as JSON
    --junit FILE            write the outcomes as JUnit's XML
    --times N               run everything N times; a case must end alike each time (default: 1)
    --page FILE             write what was found as a page of the documentation
    --hypervisor FILE       try another hypervisor, a multiboot image: alone, or beside --on
    --append WORDS          its command line, as one argument
    --smp N, --cpu MODEL, --icount, --limit SECONDS (default: 300), --toolchain rustup|debian
                            as for `run`

Exit status: 0 everything passed, and every difference has a reason in
conformance/differences.json; 1 not so; 2 the command could not be done.
";

/// What the user asked for.
struct Options {
    systems: Vec<System>,
    filter: String,
    list: bool,
    json: Option<PathBuf>,
    junit: Option<PathBuf>,
    page: Option<PathBuf>,
    times: usize,
    machine: MachineOptions,
    /// Another hypervisor, and its command line.
    hypervisor: Option<PathBuf>,
    append: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            systems: vec![System::Paravane, System::Xen],
            filter: String::new(),
            list: false,
            json: None,
            junit: None,
            page: None,
            times: 1,
            machine: MachineOptions {
                limit: Duration::from_secs(300),
                ..MachineOptions::default()
            },
            hypervisor: None,
            append: String::new(),
        }
    }
}

impl Options {
    /// Gives the machine of another hypervisor its image and command line, and that of Xen one thread.
    fn fit(&self, machine: &mut Machine) {
        if machine.system == System::Xen && machine.options.smp > 1 {
            // Xen sets the CPUs' clocks once a second while all wait for each other. CPUs that are
            // threads of the host may wait for long there, and the clocks go wrong by as much.
            machine.devices.extend(["-accel", "tcg,thread=single"].map(str::to_owned));
        }
        if let (System::Other, Some(file)) = (machine.system, &self.hypervisor) {
            (machine.kernel, machine.kernel_args) = (file.clone(), self.append.clone());
        }
    }

    /// The words by which the same machines are run again, but for `--on` and a filter.
    fn again(&self) -> String {
        let mut words = Vec::new();
        if let Some(file) = &self.hypervisor {
            words.push(format!("--hypervisor {}", file.display()));
            if !self.append.is_empty() {
                words.push(format!("--append '{}'", self.append));
            }
        }
        let MachineOptions { smp, cpu, .. } = &self.machine;
        let usual = MachineOptions::default();
        if *smp != usual.smp {
            words.push(format!("--smp {smp}"));
        }
        if *cpu != usual.cpu {
            words.push(format!("--cpu {cpu}"));
        }
        words.join(" ")
    }

    /// The words that run the same, without those that name files to write.
    fn words(&self) -> String {
        let times = format!("--times {}", self.times);
        let words = [self.filter.clone(), times, self.again()];
        words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    }
}

/// Reads the command's own words and runs it.
///
/// # Errors
///
/// When a word is unknown, nothing can be built, or the guest does not begin.
pub(crate) fn command(words: lexopt::Parser) -> Result<ExitCode> {
    Ok(ExitCode::from(u8::from(!failures(words)?.is_empty())))
}

/// As [`command`], with what failed: nothing if all was right.
///
/// # Errors
///
/// As [`command`].
pub(crate) fn failures(words: lexopt::Parser) -> Result<String> {
    let Some(options) = parse(words)? else {
        print!("{HELP}");
        return Ok(String::new());
    };
    let workspace = Workspace::find()?;
    let scratch = workspace.scratch(&format!("conformance-{}", std::process::id()))?;
    let mut builder = Builder::new(&workspace, options.machine.route);
    let machines = machines(&workspace, &mut builder, &options, &scratch)?;
    let pairs = pairs::all(&workspace, &mut builder, &options, &scratch)?;
    if options.list {
        for machine in machines.first().into_iter().chain(pairs.iter().find_map(Pair::control)) {
            for (name, clause) in suite::list(machine, &options.filter, &scratch)? {
                println!("{name}: {clause}");
            }
        }
        std::fs::remove_dir_all(&scratch)?;
        return Ok(String::new());
    }
    let file = workspace.root.join("conformance/differences.json");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let mut meant = verdict::meant(&text).with_context(|| file.display().to_string())?;
    if options.hypervisor.is_some() {
        // The reasons are those of our kernel.
        meant.clear();
    }
    let book = Book::read(&workspace.root)?;
    let rounds = (0..options.times).map(|_| round(&machines, &pairs, &options.filter, &scratch));
    let mut rounds = rounds.collect::<Result<Vec<_>>>()?;
    std::fs::remove_dir_all(&scratch)?;
    let unsteady = page::unsteady(&rounds);
    let first = rounds.swap_remove(0);
    let verdict = Verdict { unsteady, ..Verdict::new(first, &meant, options.filter.is_empty()) };
    ensure!(!verdict.rows.is_empty(), "no case has a name that contains `{}`", options.filter);
    let stray = book.stray(&verdict);
    ensure!(stray.is_empty(), "the sources do not declare {}", stray.join(", "));
    write(options.json.as_deref(), || format!("{:#}\n", verdict::json(&verdict, &book)))?;
    write(options.junit.as_deref(), || report::junit(&verdict, &book))?;
    let (words, runs) = (options.words(), (options.machine.smp, options.times));
    write(options.page.as_deref(), || page::page(&verdict, &book, &words, runs))?;
    let failures = report::failures(&verdict, &book, &options.again());
    print!("{}{failures}", report::table(&verdict));
    println!("\n{}", report::counted(&verdict));
    Ok(failures)
}

/// All cases once, on all systems.
fn round(
    machines: &[Machine],
    pairs: &[Pair],
    filter: &str,
    scratch: &Path,
) -> Result<Vec<(System, Outcomes)>> {
    let mut runs = run(machines, filter, scratch)?;
    for pair in pairs {
        let (system, outcomes) = (pair.system, pair.run(scratch)?);
        match runs.iter_mut().find(|(other, _)| *other == system) {
            Some((_, all)) => all.extend(outcomes),
            None => runs.push((system, outcomes)),
        }
    }
    Ok(runs)
}

fn parse(mut words: lexopt::Parser) -> Result<Option<Options>> {
    let mut options = Options::default();
    let mut named = false;
    while let Some(word) = words.next()? {
        match word {
            Short('h') | Long("help") => return Ok(None),
            Long("on") => {
                let name = words.value()?.string()?;
                named = true;
                if name != "both" {
                    options.systems = vec![System::named(&name)?];
                }
            }
            Long("list") => options.list = true,
            Long("hypervisor") => {
                let file = PathBuf::from(words.value()?);
                let file = file.canonicalize().with_context(|| file.display().to_string())?;
                options.hypervisor = Some(file);
            }
            Long("append") => options.append = words.value()?.string()?,
            Long("json") => options.json = Some(words.value()?.into()),
            Long("junit") => options.junit = Some(words.value()?.into()),
            Long("page") => options.page = Some(words.value()?.into()),
            Long("times") => {
                options.times = words.value()?.parse()?;
                ensure!(options.times > 0, "--times is at least 1");
            }
            Value(filter) if options.filter.is_empty() => {
                options.filter = filter.string()?;
                let fits = !options.filter.contains(char::is_whitespace);
                ensure!(fits && options.filter.len() < 256, "a filter is one word of a name");
            }
            Long(name) => {
                let name = name.to_owned();
                // The cases know how much memory they are given.
                if name == "memory" || !machine(&mut options.machine, &name, &mut words)? {
                    return Err(unknown(&Long(&name), "conformance --help"));
                }
            }
            other => return Err(unknown(&other, "conformance --help")),
        }
    }
    if options.hypervisor.is_some() {
        if !named {
            options.systems.clear();
        }
        options.systems.push(System::Other);
    }
    ensure!(
        options.append.is_empty() || options.hypervisor.is_some(),
        "--append is for the hypervisor that --hypervisor names"
    );
    Ok(Some(options))
}

/// A machine for each system, with everything built and the ramdisk that the guest's cases know.
fn machines(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &Options,
    scratch: &Path,
) -> Result<Vec<Machine>> {
    let ramdisk = scratch.join("ramdisk");
    std::fs::write(&ramdisk, ramdisk_bytes())?;
    let guest = GuestChoice::find(workspace, "conformance".as_ref())?;
    let systems = if options.list { options.systems.get(..1) } else { options.systems.get(..) };
    // Below Linux no guest is the initial domain, which these cases are about.
    let systems = systems.unwrap_or_default().iter().filter(|it| !it.is_below_linux());
    let machines = systems.map(|&system| {
        let mut machine = builder.machine(system, &guest, &options.machine)?;
        machine.ramdisk = Some(ramdisk.clone());
        options.fit(&mut machine);
        Ok(machine)
    });
    machines.collect()
}

/// 5000 bytes, so that the last page is not full; byte n is 7n modulo 251.
fn ramdisk_bytes() -> Vec<u8> {
    (0..5000_u32).filter_map(|at| u8::try_from(at * 7 % 251).ok()).collect()
}

/// All systems at the same time.
fn run(machines: &[Machine], filter: &str, scratch: &Path) -> Result<Vec<(System, Outcomes)>> {
    let workers = 2_usize.div_ceil(machines.len().max(1));
    thread::scope(|scope| {
        let threads = machines.iter().map(|machine| {
            scope.spawn(move || {
                let folder = scratch.join(machine.system.name());
                std::fs::create_dir_all(&folder)?;
                Ok((machine.system, suite::run(machine, filter, workers, &folder)?))
            })
        });
        let threads: Vec<_> = threads.collect();
        let results = threads.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        results.collect()
    })
}

fn write(path: Option<&Path>, text: impl FnOnce() -> String) -> Result<()> {
    match path {
        Some(path) => {
            std::fs::write(path, text()).with_context(|| format!("cannot write {}", path.display()))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Option<Options>> {
        parse(lexopt::Parser::from_args(words))
    }

    #[test]
    fn both_systems_run_unless_one_is_named() {
        let options = parsed(&["start/", "--json", "x"]).expect("parsed").expect("options");
        assert_eq!(options.systems, [System::Paravane, System::Xen]);
        assert_eq!((options.filter.as_str(), options.list), ("start/", false));
        let options = parsed(&["--on", "xen", "--list"]).expect("parsed").expect("options");
        assert_eq!(options.systems, [System::Xen]);
        assert!(options.list);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(parsed(&["--on", "kvm"]).is_err());
        assert!(parsed(&["--memory", "128"]).is_err());
        assert!(parsed(&["a b"]).is_err());
        assert!(parsed(&["--hypervisor", "/no/such/file"]).is_err());
        assert!(parsed(&["--append", "a"]).is_err());
        assert!(parsed(&["a", "b"]).is_err());
    }

    #[test]
    fn another_hypervisor_runs_alone_or_beside() {
        let options = parsed(&["--hypervisor", "/", "--append", "a b"]).expect("parsed");
        let options = options.expect("options");
        assert_eq!(
            (options.systems.as_slice(), options.append.as_str()),
            (&[System::Other][..], "a b")
        );
        assert_eq!(options.again(), "--hypervisor / --append 'a b'");
        let options = parsed(&["--hypervisor", "/", "--on", "xen"]).expect("parsed");
        assert_eq!(options.expect("options").systems, [System::Xen, System::Other]);
    }

    #[test]
    fn the_ramdisk_is_what_the_guest_expects() {
        let bytes = ramdisk_bytes();
        assert_eq!((bytes.len(), bytes[0], bytes[1], bytes[36]), (5000, 0, 7, 1));
    }
}
