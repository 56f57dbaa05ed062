//! Mutations by chance: of all that `cargo mutants` can make of `kernel/core`, some, by a seed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{Mutation, Places};

/// The version whose list a seed is about.
pub(crate) const VERSION: &str = "27.1.0";

/// All mutations there can be, in the order in which the seed takes them.
///
/// # Errors
///
/// When the tool can't be had, or says something unknown.
pub(crate) fn all(places: &Places, tree: &Path, seed: u64) -> Result<Vec<Mutation>> {
    let mut list = Command::new(tool(places)?);
    list.current_dir(tree).env("CARGO", &places.cargo);
    list.args(["mutants", "--list", "--json", "--diff", "--package", "kernel-core"]);
    // The machine of host memory is a part of the tests.
    list.args(["--exclude", "kernel/core/src/fake/**"]);
    let output = list.output().context("cargo-mutants does not run")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let list: Value = serde_json::from_slice(&output.stdout).context("cargo-mutants' list")?;
    let mut rest: Vec<&Value> = list.as_array().context("cargo-mutants' list")?.iter().collect();
    let mut random = Random(seed);
    let mut drawn = Vec::new();
    while !rest.is_empty() {
        let value = rest.swap_remove(random.below(rest.len()));
        let mut mutation = mutation(value, drawn.len() + 1)?;
        let file = std::fs::read_to_string(tree.join(&mutation.file))?;
        mutation.parts.iter_mut().for_each(|part| *part = narrowed(&file, part));
        drawn.push(mutation);
    }
    Ok(drawn)
}

/// The tool, which is installed into the scratch folder if it is not there.
fn tool(places: &Places) -> Result<PathBuf> {
    let folder = places.scratch.join("tool");
    let tool = folder.join("bin/cargo-mutants");
    if !tool.exists() {
        eprintln!("mutate: installing cargo-mutants {VERSION} in {}", folder.display());
        let mut install = Command::new(&places.cargo);
        install.args(["install", "cargo-mutants", "--locked", "--version", VERSION, "--root"]);
        ensure!(install.arg(&folder).status()?.success(), "cargo-mutants can't be installed");
    }
    Ok(tool)
}

fn mutation(value: &Value, number: usize) -> Result<Mutation> {
    let text = |name: &str| {
        let text = value[name].as_str().with_context(|| format!("a mutation without `{name}`"));
        text.map(str::to_owned)
    };
    Ok(Mutation {
        id: format!("r{number:03}"),
        what: text("name")?,
        file: text("file")?,
        parts: parts(&text("diff")?),
    })
}

/// The hunks of a diff, as what stands there and what is put in its place.
fn parts(diff: &str) -> Vec<(String, String)> {
    let mut parts: Vec<(String, String)> = Vec::new();
    // The first two lines name the file.
    for line in diff.split_inclusive('\n').skip(2) {
        if line.starts_with("@@") {
            parts.push(Default::default());
        } else if let (Some((before, after)), Some((kind, text))) =
            (parts.last_mut(), line.split_at_checked(1))
        {
            if kind != "+" {
                before.push_str(text);
            }
            if kind != "-" {
                after.push_str(text);
            }
        }
    }
    parts
}

/// A change with no more lines around it than tell where in the file it is: what else changes there
/// later is then no matter.
fn narrowed(file: &str, (before, after): &(String, String)) -> (String, String) {
    let (mut before, mut after) = (before.as_str(), after.as_str());
    loop {
        let first = |text: &'_ str| text.find('\n').map_or(text.len(), |end| end + 1);
        let last = |text: &'_ str| text.trim_end_matches('\n').rfind('\n').map_or(0, |end| end + 1);
        let without_first = (&before[first(before)..], &after[first(after)..]);
        let without_last = (&before[..last(before)], &after[..last(after)]);
        let same = [
            before[..first(before)] == after[..first(after)],
            before[last(before)..] == after[last(after)..],
        ];
        let shorter = [without_first, without_last].into_iter().zip(same);
        let mut shorter = shorter.filter(|((before, _), same)| {
            *same && !before.is_empty() && file.matches(before).count() == 1
        });
        match shorter.next() {
            Some((shorter, _)) => (before, after) = shorter,
            None => return (before.to_owned(), after.to_owned()),
        }
    }
}

/// Numbers by a seed (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let wide = (u128::from(mixed ^ mixed >> 31) * (limit as u128)) >> 64;
        usize::try_from(wide).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_is_what_stands_there_and_what_comes() {
        let diff = "--- f\n+++ w\n@@ -1,3 +1,3 @@\n a\n-b\n+c\n d\n@@ -9 +9,2 @@\n e\n+f\n";
        let part = |before: &str, after: &str| (before.to_owned(), after.to_owned());
        assert_eq!(parts(diff), [part("a\nb\nd\n", "a\nc\nd\n"), part("e\n", "e\nf\n")]);
    }

    #[test]
    fn a_change_has_no_more_around_it_than_it_needs() {
        let file = "a\nx\nb\nx\nc\n";
        let pair = |before: &str, after: &str| (before.to_owned(), after.to_owned());
        let narrow = |before, after| narrowed(file, &pair(before, after));
        assert_eq!(narrow("a\nx\nb\nx\n", "a\nx\ny\nx\n"), pair("b\n", "y\n"));
        assert_eq!(narrow("a\nx\nb\n", "a\ny\nb\n"), pair("x\nb\n", "y\nb\n"));
        assert_eq!(narrow("b\nx\nc\n", "b\nx\n"), pair("c\n", ""));
    }

    #[test]
    fn a_seed_always_draws_the_same() {
        let drawn = |seed| {
            let mut random = Random(seed);
            [(); 8].map(|()| random.below(1000))
        };
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
        assert!(drawn(3).iter().all(|&it| it < 1000));
    }
}
