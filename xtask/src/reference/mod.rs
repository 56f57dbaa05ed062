//! The reference of the interface: what each case of conformance is about, and the pages of
//! `docs/src/abi/calls` that say of every hypercall what is known and what is proved.

pub(crate) mod cases;
mod pages;
pub(crate) mod rows;
mod text;
pub(crate) mod ties;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use pages::Sources;
use ties::Ties;

/// Where the pages are.
const PAGES: &str = "docs/src/abi/calls";
const CONTENTS: &str = "docs/src/SUMMARY.md";
/// Behind this line of the contents stand those of the pages.
const BEFORE: &str = "- [Hypercalls](abi/coverage.md)\n";

/// Checks that cases, rows and texts fit and that the pages say the same, and counts the cases. With
/// `UPDATE_GOLDEN` in the environment the pages are written instead.
///
/// # Errors
///
/// Names each case without a row, each row without a case or text, lines that are of no use, and
/// pages that differ.
pub(crate) fn check(root: &Path) -> Result<()> {
    let (cases, ties) = (cases::all(root)?, Ties::read(root)?);
    let texts = text::read(root)?;
    let mut faults = ties.faults(&cases);
    faults.extend(text::faults(&texts));
    ensure!(faults.is_empty(), "these do not fit:\n    {}", faults.join("\n    "));
    let count = ties.count(&cases);
    println!(
        "{} cases with {} distinct clauses, of which {} show a refusal alone",
        count.cases, count.distinct, count.refusals
    );
    let pages = Sources::new(&cases, &ties, &texts).pages();
    let lines = pages::contents(&pages);
    let mut wanted: BTreeMap<String, String> =
        pages.into_iter().map(|page| (format!("{PAGES}/{}", page.file), page.text)).collect();
    wanted.insert(CONTENTS.into(), contents(root, &lines)?);
    same(root, &wanted, std::env::var_os("UPDATE_GOLDEN").is_some())
}

/// The book's contents with the lines of the pages.
fn contents(root: &Path, lines: &str) -> Result<String> {
    let text = std::fs::read_to_string(root.join(CONTENTS)).context(CONTENTS)?;
    let others: Vec<&str> = text.lines().filter(|line| !line.contains("](abi/calls/")).collect();
    let (front, behind) = others.split_at(
        others
            .iter()
            .position(|line| BEFORE.trim_end() == *line)
            .context("contents without calls")?
            + 1,
    );
    Ok(format!("{}\n{lines}{}\n", front.join("\n"), behind.join("\n")))
}

/// Compares files with what they should be, or makes them so.
fn same(root: &Path, wanted: &BTreeMap<String, String>, update: bool) -> Result<()> {
    if update {
        std::fs::create_dir_all(root.join(PAGES))?;
    }
    let listed = root.join(PAGES).read_dir().with_context(|| format!("no folder {PAGES}"))?;
    let mut wrong = Vec::new();
    for entry in listed {
        let file = format!("{PAGES}/{}", entry?.file_name().display());
        if !wanted.contains_key(&file) {
            if update {
                std::fs::remove_file(root.join(&file))?;
            }
            wrong.push(file);
        }
    }
    for (file, text) in wanted {
        let path = root.join(file);
        if std::fs::read_to_string(&path).ok().as_ref() != Some(text) {
            if update {
                std::fs::write(path, text)?;
            }
            wrong.push(file.clone());
        }
    }
    ensure!(
        update || wrong.is_empty(),
        "not what tables, texts and cases say: {}; if the change is meant, run \
         `UPDATE_GOLDEN=1 cargo test -p xtask reference`",
        wrong.join(", ")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_clause_has_a_row_and_every_row_a_clause_and_the_pages_say_so() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
        check(root).expect("rows, cases and pages fit");
    }

    #[test]
    fn a_page_that_differs_or_is_too_many_is_named() {
        let root = std::env::temp_dir().join(format!("reference-{}", std::process::id()));
        let wanted = BTreeMap::from([(format!("{PAGES}/a.md"), "one".to_owned())]);
        same(&root, &wanted, true).expect("written");
        same(&root, &wanted, false).expect("the same");
        std::fs::write(root.join(PAGES).join("b.md"), "two").expect("a file");
        assert!(same(&root, &wanted, false).is_err());
        same(&root, &wanted, true).expect("removed");
        std::fs::write(root.join(PAGES).join("a.md"), "two").expect("a file");
        assert!(same(&root, &wanted, false).is_err());
        std::fs::remove_dir_all(root).expect("removed");
    }
}
