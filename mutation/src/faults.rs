//! The faults that were thought out: `mutation/faults.toml`.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::Mutation;

/// Two for each of so many lessons.
#[cfg(test)]
const LESSONS: usize = 18;

/// A fault, and the lesson that it is about.
pub(crate) struct Fault {
    /// The change.
    pub(crate) mutation: Mutation,
    /// What the lesson is about.
    pub(crate) lesson: String,
}

/// All of them, in the file's order.
///
/// # Errors
///
/// When the file can't be read or is not what it should be.
pub(crate) fn read(root: &Path) -> Result<Vec<Fault>> {
    let path = root.join("mutation/faults.toml");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    parse(&text).with_context(|| path.display().to_string())
}

fn parse(text: &str) -> Result<Vec<Fault>> {
    let table: toml::Table = text.parse()?;
    let rows = table.get("fault").and_then(|rows| rows.as_array()).context("no faults")?;
    rows.iter().map(one).collect()
}

fn one(row: &toml::Value) -> Result<Fault> {
    let text = |name: &str| {
        let value = row.get(name).and_then(|value| value.as_str());
        value.map(str::to_owned).with_context(|| format!("a fault without `{name}`: {row:?}"))
    };
    let (before, after) = (text("before")?, text("after")?);
    ensure!(before != after && !before.is_empty(), "a fault that changes nothing: {row:?}");
    let (id, what, file) = (text("id")?, text("breaks")?, text("file")?);
    let mutation = Mutation { id, what, file, parts: vec![(before, after)] };
    Ok(Fault { mutation, lesson: text("lesson")? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::changed;

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("in a workspace")
    }

    #[test]
    fn there_are_two_for_each_lesson() {
        let faults = read(root()).unwrap();
        let ids: Vec<_> = faults.iter().map(|fault| fault.mutation.id.clone()).collect();
        let due: Vec<_> =
            (1..=LESSONS).flat_map(|lesson| ["a", "b"].map(|it| format!("{lesson}{it}"))).collect();
        assert_eq!(ids, due);
        for pair in faults.as_chunks::<2>().0 {
            assert_eq!(pair[0].lesson, pair[1].lesson);
        }
    }

    /// Who changes a place at which there is a fault has to change the fault.
    #[test]
    fn each_fits_the_sources() {
        for fault in read(root()).unwrap() {
            let text = std::fs::read_to_string(root().join(&fault.mutation.file)).unwrap();
            let id = &fault.mutation.id;
            assert_ne!(changed(&text, &fault.mutation).expect(id), text);
        }
    }

    #[test]
    fn a_row_without_a_word_is_refused() {
        let good = "[[fault]]\nid='1a'\nlesson='l'\nbreaks='b'\nfile='f'\nbefore='x'\nafter='y'\n";
        assert_eq!(parse(good).unwrap().len(), 1);
        for word in ["id", "lesson", "breaks", "file", "before", "after"] {
            assert!(parse(&good.replace(&format!("{word}="), "z=")).is_err(), "{word}");
        }
        assert!(parse(&good.replace("'y'", "'x'")).is_err());
    }
}
