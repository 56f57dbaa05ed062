//! What a run found, for people.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};

use crate::faults;
use crate::record::{Entry, Outcome, Record, is_random};

/// Behind this line the page is generated.
const MARK: &str = "<!-- generated -->\n";

/// How many of a kind were noticed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Count {
    caught: usize,
    survived: usize,
    open: usize,
}

impl Count {
    fn of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut count = Self::default();
        for entry in entries {
            match &entry.outcome {
                Outcome::Caught(..) => count.caught += 1,
                Outcome::NotCompiled if is_random(&entry.mutation.id) => {}
                Outcome::NotCompiled => count.caught += 1,
                Outcome::Open => count.open += 1,
                Outcome::Survived => count.survived += 1,
            }
        }
        count
    }

    fn total(self) -> usize {
        self.caught + self.survived + self.open
    }

    /// In percent, rounded down.
    fn share(self) -> usize {
        (self.caught * 100).checked_div(self.total()).unwrap_or(0)
    }

    fn text(self) -> String {
        let open = if self.open > 0 { format!(", {} open", self.open) } else { String::new() };
        format!("{} of {} caught ({} %){open}", self.caught, self.total(), self.share())
    }
}

fn counts(record: &Record) -> [Count; 2] {
    let lessons = record.entries().into_iter().filter(|entry| !is_random(&entry.mutation.id));
    [Count::of(lessons), Count::of(record.random())]
}

/// Two lines.
pub(crate) fn summary(record: &Record) -> String {
    let [lessons, random] = counts(record).map(Count::text);
    format!("faults for lessons: {lessons}\nfaults by chance (seed {}): {random}\n", record.seed)
}

/// Whether as many were noticed as are to be.
pub(crate) fn is_enough(record: &Record) -> bool {
    let [lessons, random] = counts(record);
    lessons.open + random.open == 0 && lessons.share() >= 95 && random.share() >= 85
}

/// Puts the results into the page, behind what is written by hand.
///
/// # Errors
///
/// When the page has no place for them, or the faults or reasons can't be read.
pub(crate) fn into_page(page: &str, record: &Record, root: &Path) -> Result<String> {
    let (by_hand, _) = page.split_once(MARK).context("mutation.md has no generated part")?;
    let lessons = faults::read(root)?.into_iter().map(|it| (it.mutation.id, it.lesson));
    let reasons = reasons(root)?;
    Ok(format!("{by_hand}{MARK}{}", tables(record, &lessons.collect(), &reasons)))
}

/// Why nothing notices some, by fault.
///
/// # Errors
///
/// When the file can't be read or is not what it should be.
pub(crate) fn reasons(root: &Path) -> Result<BTreeMap<String, String>> {
    let path = root.join("mutation/survivors.toml");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let table: toml::Table = text.parse().with_context(|| path.display().to_string())?;
    let reason = |value: &toml::Value| value.as_str().map(str::to_owned);
    let rows = table.iter().map(|(id, value)| Some((id.clone(), reason(value)?)));
    rows.collect::<Option<_>>().with_context(|| format!("{}: a reason is a text", path.display()))
}

fn tables(
    record: &Record,
    lessons: &BTreeMap<String, String>,
    reasons: &BTreeMap<String, String>,
) -> String {
    let [by_lesson, random] = counts(record).map(Count::text);
    let entries = record.entries();
    let (drawn, thought): (Vec<&Entry>, Vec<&Entry>) =
        entries.into_iter().partition(|entry| is_random(&entry.mutation.id));
    let mut text =
        format!("\n## For lessons\n\n{by_lesson}.\n\n| | lesson | what is broken | noticed by |\n");
    text += "|---|---|---|---|\n";
    for entry in thought {
        let lesson = lessons.get(&entry.mutation.id).map_or("", String::as_str);
        row(&mut text, entry, &format!("{lesson} | {}", entry.mutation.what), reasons);
    }
    let not = drawn.iter().filter(|entry| entry.outcome == Outcome::NotCompiled).count();
    let _cannot_fail = write!(
        text,
        "\n## By chance\n\nSeed {}: {random}. {not} more that were drawn do not compile.\n\n\
         | | change of `kernel/core/src` | noticed by |\n|---|---|---|\n",
        record.seed
    );
    for entry in drawn.into_iter().filter(|entry| entry.outcome != Outcome::NotCompiled) {
        let what = entry.mutation.what.trim_start_matches("kernel/core/src/");
        row(&mut text, entry, &format!("`{}`", what.replace('|', "\\|")), reasons);
    }
    text
}

fn row(text: &mut String, entry: &Entry, what: &str, reasons: &BTreeMap<String, String>) {
    let id = &entry.mutation.id;
    let noticed = match &entry.outcome {
        Outcome::Caught(suite, by) => format!("{suite}: `{}`", by.trim().replace('|', "\\|")),
        Outcome::NotCompiled => "the compiler".into(),
        Outcome::Open => "not tried in QEMU yet".into(),
        Outcome::Survived => match reasons.get(id) {
            Some(reason) => format!("**nothing**: {reason}"),
            None => "**nothing**".into(),
        },
    };
    let _cannot_fail = writeln!(text, "| {id} | {what} | {noticed} |");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mutation;

    fn entry(id: &str, outcome: Outcome) -> Entry {
        let (what, file) = ("a | b".into(), "f".into());
        Entry { mutation: Mutation { id: id.into(), what, file, parts: Vec::new() }, outcome }
    }

    #[test]
    fn what_does_not_compile_counts_for_lessons_alone() {
        let all = [
            entry("1a", Outcome::NotCompiled),
            entry("r001", Outcome::NotCompiled),
            entry("r002", Outcome::Caught("s".into(), "t".into())),
            entry("r003", Outcome::Survived),
            entry("r004", Outcome::Open),
        ];
        let count = Count::of(&all);
        assert_eq!((count.caught, count.survived, count.open, count.share()), (2, 1, 1, 50));
    }

    #[test]
    fn rows_say_why_nothing_noticed() {
        let reasons = BTreeMap::from([("r003".to_owned(), "it is the same".to_owned())]);
        let mut text = String::new();
        row(&mut text, &entry("r003", Outcome::Survived), "`w`", &reasons);
        row(&mut text, &entry("r004", Outcome::Survived), "`w`", &reasons);
        assert_eq!(
            text,
            "| r003 | `w` | **nothing**: it is the same |\n| r004 | `w` | **nothing** |\n"
        );
    }

    /// Who writes results has to write the page.
    #[test]
    fn the_page_is_what_the_results_say() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let record = Record::read(&root.join("mutation/results.json")).unwrap();
        let page = std::fs::read_to_string(root.join("docs/src/mutation.md")).unwrap();
        let is_current = into_page(&page, &record, root).unwrap() == page;
        assert!(is_current, "docs/src/mutation.md is old: `cargo xtask mutate --report` writes it");
    }
}
