//! All chosen cases on one system: one boot for those the guest survives, another behind each case
//! that breaks it, and one for each case that ends it on purpose.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Result, bail};

use super::protocol::{Outcome, Said};
use crate::boot::{self, End, Record, Watch};
use crate::console::Source;
use crate::machine::Machine;
use crate::process::say;
use crate::transcript;

/// The outcomes of a system, by the names of the cases, in their order.
pub(crate) type Outcomes = Vec<(String, Outcome)>;

/// Runs the cases whose names contain `filter`, in `workers` machines at a time.
///
/// # Errors
///
/// When the guest does not even begin.
pub(crate) fn run(
    machine: &Machine,
    filter: &str,
    workers: usize,
    scratch: &Path,
) -> Result<Outcomes> {
    let mut outcomes = Outcomes::new();
    let mut later: Vec<String> = Vec::new();
    let mut from = 0;
    loop {
        let args = format!("run from={from} filter={filter}");
        let (record, said) = boot_once(machine, &args, scratch)?;
        outcomes.extend(said.outcomes);
        later.extend(said.later);
        match said.open {
            Some(open) => {
                say(format!("{}: {} broke the guest", machine.system.name(), open.name));
                from = open.number + 1;
                outcomes.push((open.name, Outcome::Error(broken(&record, &said.own_words))));
            }
            None if said.done => break,
            None => bail!("the conformance guest did not begin: {}\n{}", record.end, record.report),
        }
    }
    if !later.is_empty() {
        say(format!("{}: {} boots for cases that end it", machine.system.name(), later.len()));
        outcomes.extend(run_later(machine, &later, workers, scratch)?);
    }
    Ok(outcomes)
}

/// Runs cases of several domains, all in one boot of `machine`, whose command line chooses them.
/// `tester` is the domain that tells, if it is not the initial one.
///
/// # Errors
///
/// When that does not even begin.
pub(crate) fn run_once(
    machine: &Machine,
    tester: Option<&str>,
    scratch: &Path,
) -> Result<Outcomes> {
    let record = boot::boot(machine, Watch::Nobody, scratch)?;
    let mut transcript = record.console.transcript();
    if let Some(tester) = tester {
        transcript = transcript::of_domain(&transcript, tester);
    }
    let said = Said::of(transcript.lines());
    let mut outcomes = said.outcomes;
    match said.open {
        Some(open) => outcomes.push((open.name, Outcome::Error(broken(&record, &said.own_words)))),
        None if said.done && record.end == End::Hang => {
            bail!("the cases of two domains are done, but a domain goes on\n{}", record.report)
        }
        None if said.done => {}
        None => bail!("cases of two domains did not begin: {}\n{}", record.end, record.report),
    }
    Ok(outcomes)
}

/// The names and clauses of the cases whose names contain `filter`.
///
/// # Errors
///
/// When the guest does not get to the end of its list.
pub(crate) fn list(
    machine: &Machine,
    filter: &str,
    scratch: &Path,
) -> Result<Vec<(String, String)>> {
    let (record, said) = boot_once(machine, &format!("list filter={filter}"), scratch)?;
    if !record.end.is_success() {
        bail!("the conformance guest did not list its cases: {}\n{}", record.end, record.report);
    }
    Ok(said.list)
}

/// One boot for each case, some at a time.
fn run_later(
    machine: &Machine,
    names: &[String],
    workers: usize,
    scratch: &Path,
) -> Result<Outcomes> {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(vec![None; names.len()]);
    thread::scope(|scope| {
        let work = |worker: usize| -> Result<()> {
            let folder = scratch.join(worker.to_string());
            std::fs::create_dir_all(&folder)?;
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(name) = names.get(index) else { return Ok(()) };
                let (record, said) = boot_once(machine, &format!("run only={name}"), &folder)?;
                let outcome = judge(&record, said);
                let mut outcomes = outcomes.lock().unwrap_or_else(|poison| poison.into_inner());
                if let Some(place) = outcomes.get_mut(index) {
                    *place = Some((name.clone(), outcome));
                }
            }
        };
        let threads: Vec<_> =
            (0..workers).map(|worker| scope.spawn(move || work(worker))).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    let outcomes = outcomes.into_inner().unwrap_or_else(|poison| poison.into_inner());
    Ok(outcomes.into_iter().flatten().collect())
}

fn boot_once(machine: &Machine, args: &str, scratch: &Path) -> Result<(Record, Said)> {
    let mut machine = machine.clone();
    args.clone_into(&mut machine.guest_args);
    let record = boot::boot(&machine, Watch::Nobody, scratch)?;
    let lines = record.console.lines().iter();
    let guest = lines.filter(|line| line.source == Source::Guest).map(|line| line.text.as_str());
    let said = Said::of(guest);
    Ok((record, said))
}

/// The outcome of a case that had the boot for itself.
fn judge(record: &Record, said: Said) -> Outcome {
    match (said.outcomes.into_iter().next(), said.open.and_then(|open| open.end)) {
        (Some((_, outcome)), _) => outcome,
        (None, Some(end)) => ended(&end, &record.end, &dump(record)),
        (None, None) => Outcome::Error(broken(record, &said.own_words)),
    }
}

/// Whether a guest that announced its end met it: the way, and for a crash with an address whether
/// the hypervisor's dump shows that address.
fn ended(announced: &str, end: &End, dump: &[&str]) -> Outcome {
    let (how, address) = announced.split_once(' ').unwrap_or((announced, ""));
    let expected = match how {
        "crash" => End::GuestFailed,
        "reboot" => End::Reboot,
        "poweroff" => End::Success,
        _ => return Outcome::Error(format!("the guest announced an unknown end: {announced}")),
    };
    if *end == End::HypervisorFailed || *end == End::Hang {
        return Outcome::Error(format!("expected {expected}, but {end}"));
    }
    if *end != expected {
        return Outcome::Fail(format!("expected {expected} seen {end}"));
    }
    if address.is_empty() || dump.iter().any(|line| line.contains(address)) {
        return Outcome::Pass;
    }
    let seen = instruction_pointer(dump).unwrap_or("none");
    Outcome::Fail(format!("expected a dump with {address} seen {seen}"))
}

/// How a guest ended that should have gone on.
fn broken(record: &Record, own_words: &str) -> String {
    let mut text = record.end.to_string();
    if !own_words.is_empty() {
        text += &format!("; it said: {own_words}");
    }
    if let Some(line) = instruction_pointer(&dump(record)) {
        text += &format!("; {line}");
    }
    text
}

/// What the hypervisor said.
fn dump(record: &Record) -> Vec<&str> {
    let lines = record.console.lines().iter();
    let lines = lines.filter(|line| line.source == Source::Hypervisor);
    lines.map(|line| line.text.as_str()).collect()
}

/// The line of a dump that shows where the guest was.
fn instruction_pointer<'a>(dump: &[&'a str]) -> Option<&'a str> {
    dump.iter().copied().find(|line| line.to_lowercase().contains("rip"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: [&str; 2] = ["Domain 0 crashed", "RIP:    e033:[<ffffffff80100308>]"];

    #[test]
    fn an_announced_crash_must_happen_where_it_was_announced() {
        let end = ended("crash ffffffff80100308", &End::GuestFailed, &DUMP);
        assert_eq!(end, Outcome::Pass);
        assert_eq!(ended("crash", &End::GuestFailed, &DUMP), Outcome::Pass);
        let end = ended("crash ffffffff80100309", &End::GuestFailed, &DUMP);
        assert!(matches!(end, Outcome::Fail(text) if text.contains("[<ffffffff80100308>]")));
        assert!(matches!(ended("crash 0", &End::Success, &DUMP), Outcome::Fail(_)));
    }

    #[test]
    fn an_announced_shutdown_must_be_of_that_kind() {
        assert_eq!(ended("poweroff", &End::Success, &[]), Outcome::Pass);
        assert_eq!(ended("reboot", &End::Reboot, &DUMP), Outcome::Pass);
        assert!(matches!(ended("reboot", &End::Success, &DUMP), Outcome::Fail(_)));
        assert!(matches!(ended("vanish", &End::Success, &DUMP), Outcome::Error(_)));
    }

    #[test]
    fn no_case_may_end_the_hypervisor() {
        assert!(matches!(ended("crash", &End::HypervisorFailed, &DUMP), Outcome::Error(_)));
        assert!(matches!(ended("crash", &End::Hang, &DUMP), Outcome::Error(_)));
    }
}
