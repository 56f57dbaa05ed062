//! The cases of conformance as their sources declare them: names and clauses, without a boot.

use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use proc_macro2::{Literal, TokenStream, TokenTree};

/// Where cases are declared.
const SOURCES: [&str; 2] = ["conformance/src/cases", "supervisors/src/pairs"];

/// One case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Case {
    /// `area/what`.
    pub(crate) name: String,
    /// What the hypervisor must do.
    pub(crate) clause: String,
}

/// All cases of the workspace, by name.
///
/// # Errors
///
/// When a source cannot be read, or a name is there twice.
pub(crate) fn all(root: &Path) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for folder in SOURCES {
        for entry in root.join(folder).read_dir().with_context(|| folder.to_owned())? {
            let path = entry?.path();
            let text = std::fs::read_to_string(&path)?;
            cases.extend(of(&text).with_context(|| path.display().to_string())?);
        }
    }
    cases.sort_by(|one, other| one.name.cmp(&other.name));
    for pair in cases.windows(2) {
        ensure!(pair[0].name != pair[1].name, "{} is there twice", pair[0].name);
    }
    Ok(cases)
}

/// The cases of one file.
///
/// A row is a name `area/what` and its clause behind a comma. A macro that puts an area before the
/// names of its rows has them in braces or brackets, each ended by a semicolon and with its
/// clause last; or it is called once a row, with the clause second.
fn of(text: &str) -> Result<Vec<Case>> {
    let stream: TokenStream = text.parse().map_err(|error| anyhow!("not Rust: {error}"))?;
    let mut found = Found { areas: areas(&stream), cases: Vec::new() };
    found.walk(stream)?;
    Ok(found.cases)
}

struct Found {
    /// Macros and the areas that they put before names.
    areas: Vec<(String, String)>,
    cases: Vec<Case>,
}

impl Found {
    fn walk(&mut self, stream: TokenStream) -> Result<()> {
        let trees: Vec<TokenTree> = stream.into_iter().collect();
        for (at, tree) in trees.iter().enumerate() {
            match trees.get(at..).unwrap_or_default() {
                [TokenTree::Ident(word), TokenTree::Punct(_), TokenTree::Group(rows), ..] => {
                    let area = self.areas.iter().find(|(name, _)| word == name).cloned();
                    if let Some((_, area)) = area {
                        self.rows(&area, rows.stream())?;
                    }
                }
                [TokenTree::Literal(name), TokenTree::Punct(_), TokenTree::Literal(clause), ..] => {
                    if let (Some(name), Some(clause)) = (string(name), string(clause))
                        && is_name(&name)
                    {
                        self.cases.push(Case { name, clause });
                    }
                }
                _ => {}
            }
            if let TokenTree::Group(group) = tree {
                self.walk(group.stream())?;
            }
        }
        Ok(())
    }

    /// The rows of a macro's call.
    fn rows(&mut self, area: &str, stream: TokenStream) -> Result<()> {
        let trees: Vec<TokenTree> = stream.into_iter().collect();
        let ends =
            |tree: &TokenTree| matches!(tree, TokenTree::Punct(sign) if sign.as_char() == ';');
        let single = !trees.iter().any(ends);
        for row in trees.split(ends).filter(|row| !row.is_empty()) {
            let mut texts = row.iter().filter_map(|tree| match tree {
                TokenTree::Literal(literal) => string(literal),
                _ => None,
            });
            let name = texts.next().context("a row without a name")?;
            let clause = if single { texts.next() } else { texts.next_back() };
            let clause = clause.with_context(|| format!("{area}{name} has no clause"))?;
            self.cases.push(Case { name: format!("{area}{name}"), clause });
        }
        Ok(())
    }
}

/// The macros of a file whose rows are cases: their names and areas.
fn areas(stream: &TokenStream) -> Vec<(String, String)> {
    let trees: Vec<TokenTree> = stream.clone().into_iter().collect();
    let macros = trees.windows(4).filter_map(|trees| match trees {
        [TokenTree::Ident(word), _, TokenTree::Ident(name), TokenTree::Group(body)]
            if word == "macro_rules" =>
        {
            let text = body.to_string();
            let (_, area) = text.split_once("concat")?;
            let (area, _) = area.split_once('"')?.1.split_once('"')?;
            Some((name.to_string(), area.to_owned()))
        }
        _ => None,
    });
    macros.collect()
}

/// What a literal says, if it is a text without escapes but those of line breaks.
fn string(literal: &Literal) -> Option<String> {
    let text = literal.to_string();
    let text = text.strip_prefix('"')?.strip_suffix('"')?;
    let mut lines = text.split("\\\n");
    let first = lines.next()?.to_owned();
    Some(lines.fold(first, |all, line| all + line.trim_start()).replace("\\\"", "\""))
}

fn is_name(text: &str) -> bool {
    let fits = |part: &str| {
        !part.is_empty()
            && part.chars().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_')
    };
    text.split_once('/').is_some_and(|(area, what)| fits(area) && fits(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<(String, String)> {
        of(text).expect("cases").into_iter().map(|case| (case.name, case.clause)).collect()
    }

    fn one(name: &str, clause: &str) -> Vec<(String, String)> {
        vec![(name.to_owned(), clause.to_owned())]
    }

    #[test]
    fn a_row_is_a_name_and_its_clause() {
        let text =
            "const C: &[Case] = &[case(\"a/b\", \"It \\\n      must.\", |_| equal(\"x\", 1, 2))];";
        assert_eq!(names(text), one("a/b", "It must."));
        assert_eq!(names("f(\"text/plain.\", \"b\"); g(\"a/b\", 1)"), []);
    }

    #[test]
    fn rows_of_macros_get_their_area() {
        let rule = "macro_rules! m { () => { concat!(\"a/\", $name) }; }";
        let rows = format!("{rule} const C: X = m! {{ \"b\", 1, \"It must.\"; }};");
        assert_eq!(names(&rows), one("a/b", "It must."));
        let single = format!("{rule} [m!(\"b\", \"It must.\", |t| f(\"x\", 1))]");
        assert_eq!(names(&single), one("a/b", "It must."));
        assert!(of(&format!("{rule} m! {{ \"b\", 1; }}")).is_err());
    }
}
