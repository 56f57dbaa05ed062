//! The command lines of the pages, each tied to what runs it: the table `book/commands.txt`.
//!
//! A line of the table that is not indented is a command line as the book has it; the indented one below
//! it says how it is run:
//!
//! - `run`: as it is, by a shell, one after the other in the order of the table;
//! - `step NAME`: by that step of the test;
//! - `form WHY`: not a command line to be typed but the form of several;
//! - `never WHY`: by nobody.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::blocks::{Page, pages};

/// Where the table is, below the workspace.
const TABLE: &str = "book/commands.txt";

/// How a command line is run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum How {
    /// As it is.
    Run,
    /// By the step of this name.
    Step(String),
    /// It is the form of several: why.
    Form(String),
    /// By nobody: why.
    Never(String),
}

/// A row of the table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Row {
    /// The command line.
    pub line: String,
    /// What runs it.
    pub how: How,
}

impl Row {
    /// The words behind `cargo xtask`, if it is a command of this project that can be typed.
    #[must_use]
    pub fn words(&self) -> Option<Vec<String>> {
        let rest = self.line.strip_prefix("cargo xtask")?;
        let can = !matches!(self.how, How::Form(_));
        can.then(|| shlex::split(rest).unwrap_or_default())
    }
}

/// Reads the table, and holds it to the pages.
///
/// # Errors
///
/// Names the command lines that are in no row, the rows that are on no page, and those that are tied to a
/// step that is none of `steps`.
pub fn rows(root: &Path, steps: &[String]) -> Result<Vec<Row>> {
    let path = root.join(TABLE);
    let table = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let rows = parse(&table)?;
    let lines = lines(&pages(root)?)?;
    let mut wrong = Vec::new();
    for line in lines.iter().filter(|line| !rows.iter().any(|row| row.line == **line)) {
        wrong.push(format!("`{line}` is in no row"));
    }
    for Row { line, how } in &rows {
        if !lines.contains(line) {
            wrong.push(format!("`{line}` is on no page"));
        }
        if let How::Step(name) = how
            && !steps.contains(name)
        {
            wrong.push(format!("`{line}`: there is no step `{name}`"));
        }
    }
    ensure!(wrong.is_empty(), "{TABLE}:\n    {}", wrong.join("\n    "));
    Ok(rows)
}

fn parse(table: &str) -> Result<Vec<Row>> {
    let mut lines = table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut rows = Vec::new();
    while let Some(line) = lines.next() {
        let how = lines.next().unwrap_or_default();
        let (word, rest) = how.trim().split_once(' ').unwrap_or((how.trim(), ""));
        let how = match (word, rest) {
            ("run", "") => How::Run,
            ("step", name) if !name.is_empty() => How::Step(name.into()),
            ("form", why) if !why.is_empty() => How::Form(why.into()),
            ("never", why) if !why.is_empty() => How::Never(why.into()),
            _ => bail!("{TABLE}: `{line}`: `{how}` does not say how it is run"),
        };
        rows.push(Row { line: line.into(), how });
    }
    Ok(rows)
}

/// All command lines: of blocks for a shell or the operator, and of prose those of cargo.
fn lines(pages: &[Page]) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for page in pages {
        for block in page.blocks()? {
            if ["sh", "operator"].contains(&block.language.as_str()) {
                let typed = block.text.lines().map(|line| {
                    line.split_once(" #").map_or(line, |(line, _)| line).trim().to_owned()
                });
                lines.extend(typed.filter(|line| !line.is_empty()));
            }
        }
        let spans = page.spans().filter(|span| span.starts_with("cargo "));
        lines.extend(spans.map(|span| span.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
    lines.sort();
    lines.dedup();
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_say_how_a_line_is_run() {
        let rows = parse("# why\na b\n    run\nc\n    step d e\n").expect("two rows");
        assert_eq!(rows[0], Row { line: "a b".into(), how: How::Run });
        assert_eq!(rows[1].how, How::Step("d e".into()));
        assert!(parse("a\nb\n    run\n").is_err());
        assert!(parse("a\n    never\n").is_err());
    }

    #[test]
    fn command_lines_are_found_in_blocks_and_prose() {
        let text = "Say `cargo a\nb` or `c`.\n\n```sh\nd e   # why\n\nf\n```\n";
        let page = Page { path: "a.md".into(), text: text.into() };
        assert_eq!(lines(&[page]).expect("lines"), ["cargo a b", "d e", "f"]);
    }

    #[test]
    fn words_are_a_shells() {
        let row = Row { line: "cargo xtask run a --args 'b c'".into(), how: How::Run };
        assert_eq!(row.words().expect("words"), ["run", "a", "--args", "b c"]);
    }
}
