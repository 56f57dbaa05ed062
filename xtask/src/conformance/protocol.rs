//! What the conformance guest prints, line by line, and what it adds up to.
//!
//! The lines are described in `docs/src/conformance.md`. Any other line is the guest talking.

use super::call;

/// How a case ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// The hypervisor does what the clause says.
    Pass,
    /// It does something else: what was expected and what was seen.
    Fail(String),
    /// The case does not apply, and why.
    Skip(String),
    /// The guest broke in the middle, and how.
    Error(String),
}

impl Outcome {
    /// One word for the kind of outcome.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail(_) => "fail",
            Self::Skip(_) => "skip",
            Self::Error(_) => "error",
        }
    }

    /// What there is to say about it; nothing for a pass.
    pub(crate) fn detail(&self) -> &str {
        match self {
            Self::Pass => "",
            Self::Fail(detail) | Self::Skip(detail) | Self::Error(detail) => detail,
        }
    }
}

/// A case that has begun and has no outcome yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Open {
    /// Its number among all cases.
    pub(crate) number: usize,
    /// Its name.
    pub(crate) name: String,
    /// How the guest has announced that it will end: `crash`, `crash ADDRESS`, `poweroff`, ...
    pub(crate) end: Option<String>,
    /// The last hypercall before it failed, in words.
    pub(crate) call: Option<String>,
}

/// What one boot said.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// Outcomes, in the order of the cases.
    pub(crate) outcomes: Vec<(String, Outcome)>,
    /// The case in which the guest ended.
    pub(crate) open: Option<Open>,
    /// Cases that end the guest and want boots of their own.
    pub(crate) later: Vec<String>,
    /// Names and clauses, if the guest was asked for a list.
    pub(crate) list: Vec<(String, String)>,
    /// Whether the guest came to the end of its cases.
    pub(crate) done: bool,
    /// The first line since the last case began that is none of the protocol's: a panic's, say.
    pub(crate) own_words: String,
}

impl Said {
    /// Reads the guest's lines.
    pub(crate) fn of<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut said = Self::default();
        for line in lines {
            if !said.take(line) && said.own_words.is_empty() {
                line.clone_into(&mut said.own_words);
            }
        }
        said
    }

    /// Takes one line; says whether it was one of the protocol's.
    fn take(&mut self, line: &str) -> bool {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (name, detail) = rest.split_once(' ').unwrap_or((rest, ""));
        match word {
            "suite" => {}
            "case" => {
                let Ok(number) = name.parse() else { return false };
                self.open = Some(Open { number, name: detail.to_owned(), end: None, call: None });
                self.own_words.clear();
            }
            "pass" => return self.close(name, Outcome::Pass),
            "fail" => {
                let call = self.open.as_mut().and_then(|open| open.call.take());
                let call = call.map_or(String::new(), |call| format!("; last call: {call}"));
                return self.close(name, Outcome::Fail(format!("{detail}{call}")));
            }
            "call" => match (&mut self.open, call::in_words(rest)) {
                (Some(open), Some(call)) => open.call = Some(call),
                _ => return false,
            },
            "skip" => return self.close(name, Outcome::Skip(detail.to_owned())),
            "ends" => match &mut self.open {
                Some(open) if open.name == name => open.end = Some(detail.to_owned()),
                _ => return false,
            },
            "later" => self.later.push(name.to_owned()),
            "list" => self.list.push((name.to_owned(), String::new())),
            "clause" => match self.list.last_mut() {
                Some((_, clause)) => rest.clone_into(clause),
                None => return false,
            },
            "done" => self.done = true,
            _ => return false,
        }
        true
    }

    /// Gives the open case its outcome, if `name` is that case.
    fn close(&mut self, name: &str, outcome: Outcome) -> bool {
        match self.open.take_if(|open| open.name == name) {
            Some(open) => {
                self.outcomes.push((open.name, outcome));
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_come_in_the_order_of_the_cases() {
        let said = Said::of([
            "suite 4",
            "case 0 a/one",
            "pass a/one",
            "case 1 a/two",
            "# the guest talks",
            "fail a/two rax: expected 1 seen 2",
            "later a/three",
            "case 3 a/four",
            "skip a/four no such CPU",
            "done 4",
        ]);
        let outcomes = [
            ("a/one".to_owned(), Outcome::Pass),
            ("a/two".to_owned(), Outcome::Fail("rax: expected 1 seen 2".into())),
            ("a/four".to_owned(), Outcome::Skip("no such CPU".into())),
        ];
        assert_eq!(said.outcomes, outcomes);
        assert_eq!(said.later, ["a/three"]);
        assert!(said.done && said.open.is_none());
        assert_eq!(said.own_words, "");
    }

    #[test]
    fn a_boot_that_breaks_leaves_its_case_open() {
        let said = Said::of(["# before", "case 7 a/b", "panicked at src/main.rs", "  #0 0x1"]);
        let open = Open { number: 7, name: "a/b".into(), end: None, call: None };
        assert_eq!(said.open, Some(open));
        assert!(!said.done);
        assert_eq!(said.own_words, "panicked at src/main.rs");
    }

    #[test]
    fn an_announced_end_stays_with_its_case() {
        let said = Said::of(["case 7 a/b", "ends a/b crash ffff"]);
        let end = Some("crash ffff".into());
        let open = Open { number: 7, name: "a/b".into(), end, call: None };
        assert_eq!(said.open, Some(open));
    }

    #[test]
    fn an_outcome_of_another_case_is_no_outcome() {
        let said = Said::of(["case 7 a/b", "pass a/c", "ends a/c crash", "case x a/d"]);
        assert!(said.outcomes.is_empty());
        assert_eq!(said.open.map(|open| (open.name, open.end)), Some(("a/b".into(), None)));
        assert_eq!(said.own_words, "pass a/c");
    }

    #[test]
    fn a_failure_tells_the_last_call() {
        let said = Said::of([
            "case 7 a/b",
            "call 11 7 1000 0 0 0 0",
            "fail a/b answer: expected -22 seen 0",
        ]);
        let detail =
            "answer: expected -22 seen 0; last call: xen_version.pagesize (17) with 0x7, 0x1000";
        assert_eq!(said.outcomes, [("a/b".to_owned(), Outcome::Fail(detail.into()))]);
    }

    #[test]
    fn a_list_has_names_and_clauses() {
        let said = Said::of(["list a/b ends", "clause It must.", "list a/c continues"]);
        let list = [("a/b".into(), "It must.".into()), ("a/c".into(), String::new())];
        assert_eq!(said.list, list);
    }
}
