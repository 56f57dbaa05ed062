//! What a run found, as a table for people and as JUnit's XML for machines.

use std::fmt::Write;

use super::book::Book;
use super::protocol::Outcome;
use super::verdict::{Row, Verdict};
use crate::machine::System;

/// The table, and what did not pass without having failed.
pub(crate) fn table(verdict: &Verdict) -> String {
    let mut text = String::new();
    let width = verdict.rows.iter().map(|row| row.name.len()).fold("case".len(), usize::max);
    let systems = verdict.systems.iter().map(|system| format!("  {:<8}", system.name()));
    text += &line(format!("{:<width$}{}", "case", systems.collect::<String>()));
    for row in &verdict.rows {
        let words = row.outcomes.iter().map(|outcome| format!("  {:<8}", word(outcome.as_ref())));
        text += &line(format!("{:<width$}{}", row.name, words.collect::<String>()));
    }
    let mut others = Vec::new();
    for (row, system, outcome) in verdict.outcomes() {
        if !row.has_failed(system, outcome) && outcome != Some(&Outcome::Pass) {
            others.push(told(row, system, outcome));
        }
    }
    section(&mut text, "not passed, and no failure", others);
    let meant = verdict.rows.iter().filter(|row| row.differs());
    let meant = meant.filter_map(|row| Some(format!("{}: {}", row.name, row.reason.as_ref()?)));
    section(&mut text, "differences that are meant", meant.collect());
    text
}

/// What failed: cases with all that helps somebody who never saw the project, and differences; empty if
/// nothing did. `again` are the words that name the same machines on the command line.
pub(crate) fn failures(verdict: &Verdict, book: &Book, again: &str) -> String {
    let mut text = String::new();
    section(
        &mut text,
        "differences without a reason in conformance/differences.json",
        verdict.unexplained().map(|row| row.name.clone()).collect(),
    );
    section(
        &mut text,
        "stale in conformance/differences.json: nothing differs there any more",
        verdict.stale.clone(),
    );
    section(&mut text, "not alike in all runs", verdict.unsteady.clone());
    let mut lines = Vec::new();
    for (row, system, outcome) in verdict.outcomes() {
        if row.has_failed(system, outcome) {
            lines.push(told(row, system, outcome));
            lines.extend(explanation(row, system, book, again));
        }
    }
    section(&mut text, "failed", lines);
    text
}

/// How many cases are of which kind, in a line.
pub(crate) fn counted(verdict: &Verdict) -> String {
    let count = verdict.count();
    format!("{} passed, {} failed, {} skipped", count.passed, count.failed, count.skipped)
}

fn line(text: String) -> String {
    format!("{}\n", text.trim_end())
}

fn word(outcome: Option<&Outcome>) -> &'static str {
    outcome.map_or("-", Outcome::word)
}

fn section(text: &mut String, title: &str, lines: Vec<String>) {
    if lines.is_empty() {
        return;
    }
    let _cannot_fail = writeln!(text, "\n{title}:");
    for line in lines {
        let _cannot_fail = writeln!(text, "    {line}");
    }
}

/// What came of a case on a system.
fn told(row: &Row, system: System, outcome: Option<&Outcome>) -> String {
    let detail = outcome.map_or("did not run", Outcome::detail);
    format!("{} on {}: {}: {detail}", row.name, system.name(), word(outcome))
}

/// For somebody who never saw the project: what should be, what it is about, how to see it again.
fn explanation(row: &Row, system: System, book: &Book, again: &str) -> [String; 3] {
    let on = match system {
        System::Other => again.to_owned(),
        _ => format!("--on {} {again}", system.name()),
    };
    [
        format!("    a hypervisor must: {}", book.clause(&row.name)),
        format!("    about: {} (docs/src/abi/calls)", book.about(&row.name).join(", ")),
        format!("    alone: cargo xtask conformance {} {}", row.name, on.trim_end()),
    ]
}

/// JUnit's XML: a suite a system, a test case a case.
pub(crate) fn junit(verdict: &Verdict, book: &Book) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for (column, system) in verdict.systems.iter().enumerate() {
        let cases = verdict.rows.iter().map(|row| (row, row.outcomes.get(column)));
        let cases =
            cases.map(|(row, outcome)| test_case(row, outcome.and_then(Option::as_ref), book));
        let cases: Vec<(String, &str)> = cases.collect();
        let of = |kind: &str| cases.iter().filter(|(_, word)| *word == kind).count();
        let _cannot_fail = writeln!(
            text,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\">",
            system.name(),
            cases.len(),
            of("failure"),
            of("error"),
            of("skipped")
        );
        for (case, _) in &cases {
            text += case;
        }
        text += "  </testsuite>\n";
    }
    text += "</testsuites>\n";
    text
}

/// One element and the kind of what is in it.
fn test_case(row: &Row, outcome: Option<&Outcome>, book: &Book) -> (String, &'static str) {
    let (area, what) = row.name.split_once('/').unwrap_or(("", &row.name));
    let kind = match outcome {
        Some(Outcome::Pass) => "",
        Some(Outcome::Fail(_)) if row.reason.is_some() => "skipped",
        Some(Outcome::Fail(_)) => "failure",
        Some(Outcome::Skip(_)) => "skipped",
        Some(Outcome::Error(_)) | None => "error",
    };
    let head = format!("    <testcase classname=\"{}\" name=\"{}\"", escape(area), escape(what));
    if kind.is_empty() {
        return (head + "/>\n", kind);
    }
    let detail = outcome.map_or("did not run", Outcome::detail);
    let (detail, clause) = (escape(detail), escape(book.clause(&row.name)));
    (format!("{head}><{kind} message=\"{detail}\">{clause}</{kind}></testcase>\n"), kind)
}

/// Text as an XML attribute; what XML cannot hold becomes `?`.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            control if control.is_control() => escaped.push('?'),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::verdict::Meant;

    fn verdict() -> Verdict {
        let ours = vec![
            ("a/b".into(), Outcome::Pass),
            ("a/c".into(), Outcome::Fail("rip: expected <1> seen \"2\"\u{1}".into())),
        ];
        let xens = vec![("a/b".into(), Outcome::Pass), ("a/c".into(), Outcome::Pass)];
        let runs = vec![(System::Paravane, ours), (System::Xen, xens)];
        Verdict::new(runs, &Meant::new(), true)
    }

    #[test]
    fn failures_are_told_behind_the_table() {
        let text = table(&verdict());
        assert!(text.starts_with("case  paravane  xen\na/b   pass      pass\n"), "{text}");
        assert!(text.ends_with("\na/c   fail      pass\n"), "{text}");
        let text = failures(&verdict(), &Book::default(), "--smp 2");
        assert!(text.contains("\n    a/c on paravane: fail: rip: expected <1>"), "{text}");
        let alone = "\n        alone: cargo xtask conformance a/c --on paravane --smp 2\n";
        assert!(text.ends_with(alone), "{text}");
        assert_eq!(counted(&verdict()), "3 passed, 1 failed, 0 skipped");
    }

    #[test]
    fn what_is_meant_to_differ_is_no_failure() {
        let mut verdict = verdict();
        verdict.rows[1].reason = Some("it is ours".into());
        let text = table(&verdict);
        assert!(text.contains("no failure:\n    a/c on paravane: fail: rip"), "{text}");
        assert!(text.ends_with("that are meant:\n    a/c: it is ours\n"), "{text}");
        assert_eq!(failures(&verdict, &Book::default(), ""), "");
    }

    #[test]
    fn junit_is_escaped() {
        let text = junit(&verdict(), &Book::default());
        let failure = "<failure message=\"rip: expected &lt;1&gt; seen &quot;2&quot;?\"></failure>";
        assert!(text.contains(failure), "{text}");
        assert!(text.contains("name=\"paravane\" tests=\"2\" failures=\"1\""), "{text}");
    }
}
