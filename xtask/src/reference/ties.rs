//! Which case proves what: `conformance/rows.txt`.
//!
//! A line is one of
//!
//! - `facility NAME TEXT`: a facility, and what it is about;
//! - `tie PATTERN ROW...`: cases whose names match are about these rows or facilities. A `*` at the
//!   end of a pattern stands for any text; the longest pattern that matches a case is the one that counts;
//! - `never ROW TEXT`: a call that no case may make on a system that is used for more, and why;
//! - `refusal NAME` and `effect NAME`: that a case shows a refusal alone, or more, where the words of
//!   its clause suggest the opposite.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::cases::Case;
use super::rows::Row;

/// Where the lines stand.
pub(crate) const FILE: &str = "conformance/rows.txt";

/// The file's lines.
#[derive(Debug, Default)]
pub(crate) struct Ties {
    /// Facilities and what they are about, in the file's order.
    pub(crate) facilities: Vec<(String, String)>,
    /// Rows that are never asked for, and why.
    pub(crate) never: BTreeMap<String, String>,
    patterns: BTreeMap<String, Vec<String>>,
    /// Cases, and whether each shows a refusal alone.
    kinds: BTreeMap<String, bool>,
}

/// How many cases there are, and of which kind.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Count {
    /// All cases.
    pub(crate) cases: usize,
    /// Those whose clause, together with what it is about, no other case has.
    pub(crate) distinct: usize,
    /// Of these, those that show a refusal alone.
    pub(crate) refusals: usize,
}

impl Ties {
    /// Reads the file of the workspace.
    ///
    /// # Errors
    ///
    /// When a line is of no known form.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let path = root.join(FILE);
        Self::parse(&std::fs::read_to_string(&path).context(FILE)?)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut ties = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                ties.take(line).with_context(|| format!("{FILE}, line {number}"))?;
            }
        }
        Ok(ties)
    }

    fn take(&mut self, line: &str) -> Result<()> {
        let (word, rest) = line.split_once(' ').context("a word alone")?;
        let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let (name, text) = (name.to_owned(), rest.trim().to_owned());
        match word {
            "facility" => self.facilities.push((name, text)),
            "never" => ensure!(self.never.insert(name, text).is_none(), "twice"),
            "tie" => {
                let rows = text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
                ensure!(!rows.is_empty(), "`{name}` is tied to nothing");
                ensure!(self.patterns.insert(name, rows).is_none(), "twice");
            }
            "refusal" | "effect" => drop(self.kinds.insert(name, word == "refusal")),
            _ => bail!("`{word}` means nothing here"),
        }
        Ok(())
    }

    /// What a case is about.
    pub(crate) fn of(&self, case: &str) -> &[String] {
        self.pattern(case).and_then(|pattern| self.patterns.get(pattern)).map_or(&[], Vec::as_slice)
    }

    fn pattern(&self, case: &str) -> Option<&str> {
        let matches = |pattern: &&String| match pattern.strip_suffix('*') {
            Some(start) => case.starts_with(start),
            None => case == **pattern,
        };
        let exact = |pattern: &&String| (pattern.len(), !pattern.ends_with('*'));
        self.patterns.keys().filter(matches).max_by_key(exact).map(String::as_str)
    }

    /// Whether a case shows only that something is refused: its clause names an error or says so,
    /// unless the file knows better.
    pub(crate) fn is_refusal(&self, case: &Case) -> bool {
        let known = self.kinds.get(&case.name).copied();
        known.unwrap_or_else(|| says_refusal(&case.clause))
    }

    /// What does not fit: cases about nothing or about what there is not, rows without a case, and
    /// lines that match no case.
    pub(crate) fn faults(&self, cases: &[Case]) -> Vec<String> {
        let mut faults = Vec::new();
        let rows: Vec<String> = Row::all().map(Row::name).collect();
        let facilities = self.facilities.iter().map(|(name, _)| name);
        let known: BTreeSet<&String> = rows.iter().chain(facilities).collect();
        let (mut used, mut proved) = (BTreeSet::new(), BTreeSet::new());
        for case in cases {
            match self.pattern(&case.name) {
                Some(pattern) => drop(used.insert(pattern)),
                None => faults.push(format!("case {} is about no row: tie it", case.name)),
            }
            if case.clause.trim().is_empty() {
                faults.push(format!("case {} has no clause", case.name));
            }
            for row in self.of(&case.name) {
                if !known.contains(row) {
                    faults.push(format!("case {} is about {row}, which there is not", case.name));
                }
                if self.never.contains_key(row) {
                    faults
                        .push(format!("case {} is about {row}, never to be asked for", case.name));
                }
                proved.insert(row);
            }
        }
        for row in known.iter().filter(|row| !proved.contains(*row)) {
            if !self.never.contains_key(*row) {
                faults.push(format!("{row} has no case"));
            }
        }
        let never = self.never.iter().filter(|(row, why)| !known.contains(row) || why.is_empty());
        faults.extend(never.map(|(row, _)| format!("never {row}: no such row, or no reason")));
        let unused = self.patterns.keys().filter(|pattern| !used.contains(pattern.as_str()));
        faults.extend(unused.map(|pattern| format!("tie {pattern} matches no case")));
        let gone = |name: &&String| !cases.iter().any(|case| case.name == **name);
        faults.extend(self.kinds.keys().filter(gone).map(|name| format!("{name} is no case")));
        faults
    }

    /// Counts the cases.
    pub(crate) fn count(&self, cases: &[Case]) -> Count {
        let mut seen = BTreeSet::new();
        let mut count = Count { cases: cases.len(), ..Count::default() };
        for case in cases {
            if seen.insert((self.of(&case.name), &case.clause)) {
                count.distinct += 1;
                count.refusals += usize::from(self.is_refusal(case));
            }
        }
        count
    }
}

/// Whether a clause names an error, or says in another way that something is refused.
fn says_refusal(clause: &str) -> bool {
    const WORDS: [&str; 9] = [
        "refused",
        "refuses",
        "unknown",
        "can't be",
        "cannot be",
        "may not",
        "status -",
        "is invalid",
        "does not exist",
    ];
    let is_error = |word: &str| {
        let word = word.trim_matches(|sign: char| !sign.is_ascii_alphanumeric());
        let named = word.strip_prefix('E');
        named.is_some_and(|rest| {
            rest.len() >= 3 && rest.chars().all(|it| it.is_ascii_uppercase() || it.is_ascii_digit())
        })
    };
    let lower = clause.to_lowercase();
    clause.split_whitespace().any(is_error) || WORDS.iter().any(|word| lower.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(name: &str, clause: &str) -> Case {
        Case { name: name.to_owned(), clause: clause.to_owned() }
    }

    fn ties(text: &str) -> Ties {
        Ties::parse(text).expect("lines")
    }

    #[test]
    fn the_longest_pattern_counts() {
        let ties =
            ties("tie a/* xen_version\ntie a/b* iret\ntie a/bc set_gdt stack_switch\n# no\n");
        assert_eq!(ties.of("a/x"), ["xen_version"]);
        assert_eq!(ties.of("a/bd"), ["iret"]);
        assert_eq!(ties.of("a/bc"), ["set_gdt", "stack_switch"]);
        assert!(ties.of("b/x").is_empty());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let text = "facility traps Traps\ntie a/* iret\ntie b/* nothing\ntie c/* iret\n\
                    never sysctl.debug_keys It may do anything.\nnever iret.x It.\neffect a/gone";
        let faults = ties(text).faults(&[case("a/b", "It."), case("b/b", "It."), case("d/b", " ")]);
        let has =
            |text: &str| assert!(faults.iter().any(|fault| fault == text), "{text}: {faults:?}");
        has("case d/b is about no row: tie it");
        has("case d/b has no clause");
        has("case b/b is about nothing, which there is not");
        has("tie c/* matches no case");
        has("traps has no case");
        has("set_gdt has no case");
        has("never iret.x: no such row, or no reason");
        has("a/gone is no case");
        assert!(!faults.iter().any(|fault| fault.contains("debug_keys")), "{faults:?}");
    }

    #[test]
    fn a_case_may_not_ask_for_what_is_never_asked_for() {
        let ties = ties("tie a/* iret\nnever iret It.");
        let faults = ties.faults(&[case("a/b", "It.")]);
        assert!(faults.contains(&"case a/b is about iret, never to be asked for".to_owned()));
    }

    #[test]
    fn equal_clauses_about_the_same_count_once() {
        let ties = ties("tie a/* iret\ntie b/* set_gdt\neffect a/d");
        let cases = [
            case("a/a", "It is refused."),
            case("a/b", "It is refused."),
            case("a/c", "Any other: -EINVAL."),
            case("a/d", "It answers EPERM to strangers, and works."),
            case("b/a", "It is refused."),
            case("b/b", "It works."),
        ];
        assert_eq!(ties.count(&cases), Count { cases: 6, distinct: 5, refusals: 3 });
    }

    #[test]
    fn lines_of_no_known_form_are_refused() {
        for line in ["tie a/*", "bind a b", "tie"] {
            assert!(Ties::parse(line).is_err(), "{line}");
        }
        assert!(Ties::parse("tie a/* iret\ntie a/* iret").is_err());
    }
}
