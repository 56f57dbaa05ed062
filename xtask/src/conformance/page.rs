//! What runs of all cases found, as a page of the documentation.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::book::Book;
use super::protocol::Outcome;
use super::suite::Outcomes;
use super::verdict::{Count, Row, Verdict};
use crate::machine::System;

/// Cases that had not the same outcome in all of the runs, each with its system.
pub(crate) fn unsteady(runs: &[Vec<(System, Outcomes)>]) -> Vec<String> {
    let mut seen: BTreeMap<String, Vec<&Outcome>> = BTreeMap::new();
    for (system, outcomes) in runs.iter().flatten() {
        for (name, outcome) in outcomes {
            seen.entry(format!("{name} on {}", system.name())).or_default().push(outcome);
        }
    }
    seen.retain(|_, all| all.len() != runs.len() || all.iter().any(|one| Some(one) != all.first()));
    seen.into_keys().collect()
}

/// The page. `words` are those of the command, without the file's name.
pub(crate) fn page(
    verdict: &Verdict,
    book: &Book,
    words: &str,
    (cpus, times): (u32, usize),
) -> String {
    let title = if cpus == 1 { "one CPU".into() } else { format!("{cpus} CPUs") };
    let mut text = format!(
        "# Report with {title}\n\nWritten by `cargo xtask conformance {words}`.\n\n{}\n",
        summary(verdict, times)
    );
    text += &areas(verdict);
    let meant: Vec<&Row> = verdict.rows.iter().filter(|row| row.differs()).collect();
    if !meant.is_empty() {
        text += "\n## Differences\n\n| case | what Xen does | why not here |\n|---|---|---|\n";
        for row in meant {
            let reason = row.reason.as_deref().unwrap_or("**not explained**");
            text += &line(&[&format!("`{}`", row.name), book.clause(&row.name), reason]);
        }
    }
    text
}

fn summary(verdict: &Verdict, times: usize) -> String {
    let Count { passed, failed, skipped } = verdict.count();
    let systems: Vec<&str> = verdict.systems.iter().map(|system| system.name()).collect();
    let mut text = format!(
        "{} cases on {}: {passed} as they should, {failed} not, {skipped} skipped. ",
        verdict.rows.len(),
        systems.join(" and "),
    );
    text += &match (times, verdict.unsteady.as_slice()) {
        (1, _) => "One run.".to_owned(),
        (_, []) => format!("{times} runs, with the same outcome of every case in each."),
        (_, names) => format!("{times} runs; not the same in all: {}.", names.join(", ")),
    };
    text
}

/// For each area, how many cases passed on each system, of how many.
fn areas(verdict: &Verdict) -> String {
    let systems: Vec<&str> = verdict.systems.iter().map(|system| system.name()).collect();
    let mut text = format!("\n| area | cases | {} |\n|---|---|", systems.join(" | "));
    text += &"---|".repeat(systems.len());
    text.push('\n');
    let mut areas: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in &verdict.rows {
        let area = row.name.split_once('/').map_or(row.name.as_str(), |(area, _)| area);
        areas.entry(area).or_default().push(row);
    }
    for (area, rows) in areas {
        let passed = (0..systems.len()).map(|column| {
            let passes =
                |row: &&&Row| matches!(row.outcomes.get(column), Some(Some(Outcome::Pass)));
            rows.iter().filter(passes).count().to_string()
        });
        let passed: Vec<String> = passed.collect();
        let _cannot_fail = writeln!(text, "| {area} | {} | {} |", rows.len(), passed.join(" | "));
    }
    text
}

fn line(cells: &[&str]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |\n", cells.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::verdict::Meant;

    fn run(ours: Outcome) -> Vec<(System, Outcomes)> {
        vec![
            (System::Paravane, vec![("a/b".into(), ours)]),
            (System::Xen, vec![("a/b".into(), Outcome::Pass)]),
        ]
    }

    #[test]
    fn what_changes_from_run_to_run_is_named() {
        let steady = [run(Outcome::Pass), run(Outcome::Pass)];
        assert!(unsteady(&steady).is_empty());
        let other = [run(Outcome::Pass), run(Outcome::Fail("rax".into()))];
        assert_eq!(unsteady(&other), ["a/b on paravane"]);
        let missing = [run(Outcome::Pass), Vec::new()];
        assert_eq!(unsteady(&missing), ["a/b on paravane", "a/b on xen"]);
    }

    #[test]
    fn the_page_counts_and_gives_reasons() {
        let meant: Meant = [("a/b".to_owned(), "it is | ours".to_owned())].into();
        let verdict = Verdict::new(run(Outcome::Fail("x".into())), &meant, true);
        let text = page(&verdict, &Book::default(), "--times 2", (1, 2));
        assert!(text.contains("| area | cases | paravane | xen |\n|---|---|---|---|\n"), "{text}");
        assert!(text.contains("| a | 1 | 0 | 1 |\n"), "{text}");
        assert!(text.contains("| `a/b` |  | it is \\| ours |\n"), "{text}");
        assert!(text.contains("2 runs, with the same outcome of every case in each."), "{text}");
    }
}
