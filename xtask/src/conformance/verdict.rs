//! The outcomes of all systems side by side, and what of them is in order.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use super::book::Book;
use super::protocol::Outcome;
use super::suite::Outcomes;
use crate::machine::System;

/// The differences that are meant, from a file: for each case the reason.
pub(crate) type Meant = BTreeMap<String, String>;

/// Reads the file of meant differences: one JSON object, names of cases to reasons.
///
/// # Errors
///
/// When it is not of that form, or a reason is empty.
pub(crate) fn meant(text: &str) -> Result<Meant> {
    let meant: Meant = serde_json::from_str(text).context("not an object of texts")?;
    for (case, reason) in &meant {
        anyhow::ensure!(!reason.trim().is_empty(), "`{case}` gives no reason");
    }
    Ok(meant)
}

/// One case on all systems that ran.
pub(crate) struct Row {
    /// The case's name.
    pub(crate) name: String,
    /// Its outcome on each system, in their order; none where it did not run.
    pub(crate) outcomes: Vec<Option<Outcome>>,
    /// Why a difference is meant, if the file says so.
    pub(crate) reason: Option<String>,
}

impl Row {
    /// Whether the systems differ.
    pub(crate) fn differs(&self) -> bool {
        let kinds = self.outcomes.iter().map(|outcome| outcome.as_ref().map(Outcome::word));
        self.outcomes.len() > 1 && kinds.clone().any(|kind| Some(kind) != kinds.clone().next())
    }

    /// Whether the outcome on a system counts as in order: a pass, or less where a difference is
    /// meant. Real Xen is the measure, so nothing is forgiven there.
    fn passes(&self, system: System, outcome: &Outcome) -> bool {
        let forgiven = self.reason.is_some() && system == System::Paravane;
        *outcome == Outcome::Pass || matches!(outcome, Outcome::Fail(_)) && forgiven
    }

    /// Whether it counts as failed: what did not run has.
    pub(crate) fn has_failed(&self, system: System, outcome: Option<&Outcome>) -> bool {
        !outcome.is_some_and(|it| matches!(it, Outcome::Skip(_)) || self.passes(system, it))
    }
}

/// Everything a run found.
pub(crate) struct Verdict {
    /// The systems, in the order of the outcomes in a row.
    pub(crate) systems: Vec<System>,
    /// All cases.
    pub(crate) rows: Vec<Row>,
    /// Entries of the file that name a case which is gone, or does not differ any more.
    pub(crate) stale: Vec<String>,
    /// Cases that did not end alike in all of several runs, each with its system.
    pub(crate) unsteady: Vec<String>,
}

/// How many outcomes are of which kind.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Count {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl Verdict {
    /// Puts the outcomes of the systems together. `complete` says that all cases ran.
    pub(crate) fn new(runs: Vec<(System, Outcomes)>, meant: &Meant, complete: bool) -> Self {
        let systems: Vec<System> = runs.iter().map(|(system, _)| *system).collect();
        let mut rows: Vec<Row> = Vec::new();
        for (column, (_, outcomes)) in runs.into_iter().enumerate() {
            for (name, outcome) in outcomes {
                let row = match rows.iter().position(|row| row.name == name) {
                    Some(index) => index,
                    None => {
                        let reason = meant.get(&name).cloned();
                        rows.push(Row { name, outcomes: vec![None; systems.len()], reason });
                        rows.len() - 1
                    }
                };
                let place = rows.get_mut(row).and_then(|row| row.outcomes.get_mut(column));
                if let Some(place) = place {
                    *place = Some(outcome);
                }
            }
        }
        let stale = stale(&rows, meant, systems.len() > 1, complete);
        Self { systems, rows, stale, unsteady: Vec::new() }
    }

    /// The count over all systems. A case that did not run on one of them has failed there.
    pub(crate) fn count(&self) -> Count {
        let mut count = Count::default();
        for (row, system, outcome) in self.outcomes() {
            match outcome {
                _ if row.has_failed(system, outcome) => count.failed += 1,
                Some(Outcome::Skip(_)) => count.skipped += 1,
                _ => count.passed += 1,
            }
        }
        count
    }

    /// Each case on each system.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = (&Row, System, Option<&Outcome>)> {
        self.rows.iter().flat_map(|row| {
            let outcomes = row.outcomes.iter().map(Option::as_ref);
            self.systems.iter().zip(outcomes).map(move |(&system, outcome)| (row, system, outcome))
        })
    }

    /// Differences that nobody has given a reason for.
    pub(crate) fn unexplained(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.differs() && row.reason.is_none())
    }
}

fn stale(rows: &[Row], meant: &Meant, compared: bool, complete: bool) -> Vec<String> {
    let is_stale = |case: &&String| match rows.iter().find(|row| row.name == **case) {
        Some(row) => compared && !row.differs(),
        None => complete,
    };
    meant.keys().filter(is_stale).cloned().collect()
}

/// The object that `--json` writes.
pub(crate) fn json(verdict: &Verdict, book: &Book) -> Value {
    let count = verdict.count();
    let cases = verdict.rows.iter().map(|row| {
        let mut case = serde_json::Map::new();
        case.insert("name".into(), row.name.clone().into());
        case.insert("clause".into(), book.clause(&row.name).into());
        case.insert("about".into(), book.about(&row.name).into());
        case.insert("difference".into(), row.reason.clone().into());
        for (system, outcome) in verdict.systems.iter().zip(&row.outcomes) {
            let outcome = outcome.as_ref().map(|outcome| {
                serde_json::json!({ "outcome": outcome.word(), "detail": outcome.detail() })
            });
            case.insert(system.name().into(), outcome.into());
        }
        Value::Object(case)
    });
    serde_json::json!({
        "passed": count.passed,
        "failed": count.failed,
        "skipped": count.skipped,
        "stale": verdict.stale,
        "unsteady": verdict.unsteady,
        "cases": cases.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::report;

    /// Whether the command ends well.
    fn is_good(verdict: &Verdict) -> bool {
        report::failures(verdict, &Book::default(), "").is_empty()
    }

    fn fail() -> Outcome {
        Outcome::Fail("rax: expected 1 seen 2".into())
    }

    fn verdict(ours: Outcome, xens: Outcome, file: &str) -> Verdict {
        let runs = [(System::Paravane, ours), (System::Xen, xens)];
        let runs = runs.map(|(system, outcome)| (system, vec![("a/b".to_owned(), outcome)]));
        Verdict::new(runs.into(), &meant(file).expect("file"), true)
    }

    #[test]
    fn equal_passes_are_good() {
        let verdict = verdict(Outcome::Pass, Outcome::Pass, "{}");
        assert!(is_good(&verdict));
        assert_eq!(verdict.count(), Count { passed: 2, ..Count::default() });
    }

    #[test]
    fn a_difference_needs_a_reason() {
        let without = verdict(fail(), Outcome::Pass, "{}");
        assert!(!is_good(&without));
        assert_eq!(without.unexplained().count(), 1);
        let with = verdict(fail(), Outcome::Pass, r#"{"a/b": "it is ours"}"#);
        assert!(is_good(&with));
    }

    #[test]
    fn a_reason_excuses_no_crash_and_nothing_on_xen() {
        let file = r#"{"a/b": "it is ours"}"#;
        assert!(!is_good(&verdict(Outcome::Error("hang".into()), Outcome::Pass, file)));
        assert!(!is_good(&verdict(Outcome::Pass, fail(), file)));
    }

    #[test]
    fn a_reason_for_nothing_is_stale() {
        let verdict = verdict(Outcome::Pass, Outcome::Pass, r#"{"a/b": "old", "a/c": "gone"}"#);
        assert_eq!(verdict.stale, ["a/b", "a/c"]);
        assert!(!is_good(&verdict));
    }

    #[test]
    fn a_case_that_is_missing_on_one_system_has_failed() {
        let runs =
            vec![(System::Paravane, vec![]), (System::Xen, vec![("a/b".into(), Outcome::Pass)])];
        let verdict = Verdict::new(runs, &Meant::new(), true);
        assert_eq!(verdict.count(), Count { passed: 1, failed: 1, skipped: 0 });
        assert!(verdict.rows[0].differs());
    }

    #[test]
    fn the_file_must_give_reasons() {
        assert!(meant(r#"{"a/b": " "}"#).is_err());
        assert!(meant(r#"["a/b"]"#).is_err());
    }
}
