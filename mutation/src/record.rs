//! What came of each fault, kept in a file as it comes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::Mutation;

/// What came of a fault.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// Something failed: the suite, and what of it.
    Caught(String, String),
    /// The sources do not compile with it. Not counted among those drawn by chance; as good as caught
    /// among the others.
    NotCompiled,
    /// The host's tests did not notice; guests were not asked yet.
    Open,
    /// Nothing noticed.
    Survived,
}

/// A fault with what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The fault.
    pub(crate) mutation: Mutation,
    /// What came of it.
    pub(crate) outcome: Outcome,
}

/// All of them.
pub(crate) struct Record {
    path: PathBuf,
    /// What those by chance were drawn by.
    pub(crate) seed: u64,
    entries: BTreeMap<String, Entry>,
}

impl Record {
    /// Reads the file, which need not be there.
    ///
    /// # Errors
    ///
    /// When it is there and is not what this program writes.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let mut record = Self { path: path.to_owned(), seed: 1, entries: BTreeMap::new() };
        let Ok(text) = std::fs::read_to_string(path) else { return Ok(record) };
        let value: Value =
            serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        record.seed = value["seed"].as_u64().context("results without a seed")?;
        for row in value["faults"].as_array().into_iter().flatten() {
            let entry = parse(row).with_context(|| format!("not a result: {row}"))?;
            record.entries.insert(entry.mutation.id.clone(), entry);
        }
        Ok(record)
    }

    /// What came of a fault, if it is known.
    pub(crate) fn get(&self, id: &str) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// All that are known: those for lessons in their order, then those by chance.
    pub(crate) fn entries(&self) -> Vec<&Entry> {
        let mut entries: Vec<_> = self.entries.values().collect();
        entries.sort_by_key(|entry| order(&entry.mutation.id));
        entries
    }

    /// Those by chance.
    pub(crate) fn random(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().filter(|entry| is_random(&entry.mutation.id))
    }

    /// Forgets those by chance, to draw others.
    pub(crate) fn draw_anew(&mut self, seed: u64) {
        self.seed = seed;
        self.entries.retain(|id, _| !is_random(id));
    }

    /// Keeps what came of a fault.
    ///
    /// # Errors
    ///
    /// When the file can't be written.
    pub(crate) fn keep(&mut self, mutation: &Mutation, outcome: Outcome) -> Result<()> {
        let entry = Entry { mutation: mutation.clone(), outcome };
        self.entries.insert(mutation.id.clone(), entry);
        let faults: Vec<Value> = self.entries().into_iter().map(row).collect();
        let text = format!("{:#}\n", json!({ "seed": self.seed, "faults": faults }));
        // Never half a file, whenever this is interrupted.
        let new = self.path.with_extension("new");
        std::fs::write(&new, text).with_context(|| new.display().to_string())?;
        std::fs::rename(&new, &self.path).with_context(|| self.path.display().to_string())
    }
}

/// Whether a fault was drawn by chance.
pub(crate) fn is_random(id: &str) -> bool {
    id.starts_with('r')
}

fn order(id: &str) -> (bool, usize, String) {
    let number = id.trim_matches(|letter: char| !letter.is_ascii_digit());
    (is_random(id), number.parse().unwrap_or(0), id.to_owned())
}

fn row(entry: &Entry) -> Value {
    let Mutation { id, what, file, parts } = &entry.mutation;
    let (outcome, suite, by) = match &entry.outcome {
        Outcome::Caught(suite, by) => ("caught", suite.as_str(), by.as_str()),
        Outcome::NotCompiled => ("not compiled", "", ""),
        Outcome::Open => ("open", "", ""),
        Outcome::Survived => ("survived", "", ""),
    };
    let mut row = json!({ "id": id, "what": what, "file": file, "outcome": outcome });
    if !suite.is_empty() {
        (row["suite"], row["by"]) = (json!(suite), json!(by));
    }
    // Those for lessons stand in their own file.
    if is_random(id) {
        row["parts"] = json!(parts);
    }
    row
}

fn parse(row: &Value) -> Option<Entry> {
    let text = |name: &str| Some(row[name].as_str()?.to_owned());
    let outcome = match row["outcome"].as_str()? {
        "caught" => Outcome::Caught(text("suite")?, text("by")?),
        "not compiled" => Outcome::NotCompiled,
        "open" => Outcome::Open,
        "survived" => Outcome::Survived,
        _ => return None,
    };
    let part = |part: &Value| Some((part[0].as_str()?.to_owned(), part[1].as_str()?.to_owned()));
    let parts = row["parts"].as_array().into_iter().flatten().map(part);
    let parts = parts.collect::<Option<Vec<_>>>()?;
    let mutation = Mutation { id: text("id")?, what: text("what")?, file: text("file")?, parts };
    Some(Entry { mutation, outcome })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_read_again() {
        let path = std::env::temp_dir().join(format!("paravane-record-{}", std::process::id()));
        let mutation = |id: &str| Mutation {
            id: id.into(),
            what: "w".into(),
            file: "f".into(),
            parts: vec![("a\n".into(), "b".into())],
        };
        let mut record = Record::read(&path).unwrap();
        record.keep(&mutation("r002"), Outcome::Survived).unwrap();
        record.keep(&mutation("10a"), Outcome::Caught("s".into(), "t".into())).unwrap();
        record.keep(&mutation("9b"), Outcome::Open).unwrap();
        record.keep(&mutation("r001"), Outcome::NotCompiled).unwrap();
        let read = Record::read(&path).unwrap();
        let ids: Vec<_> = read.entries().iter().map(|entry| entry.mutation.id.clone()).collect();
        assert_eq!(ids, ["9b", "10a", "r001", "r002"]);
        assert_eq!(read.get("r002").unwrap().mutation, mutation("r002"));
        assert_eq!(read.get("10a").unwrap().outcome, Outcome::Caught("s".into(), "t".into()));
        std::fs::remove_file(path).unwrap();
    }
}
