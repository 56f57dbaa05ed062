//! What `hypercall-abi/reference` says of hypercalls: arguments, answers, errors, the order of checks.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use hypercall_abi::call::Status;
use hypercall_abi::errno::Errno;

use super::rows::Row;

/// Where the texts are.
const FOLDER: &str = "hypercall-abi/reference";

/// What is said of one row. The meaning of the keys stands at the top of `guest.txt`.
#[derive(Debug, Default)]
pub(crate) struct About {
    /// Place and meaning of each argument.
    pub(crate) arguments: Vec<(String, String)>,
    /// What is answered.
    pub(crate) answer: String,
    /// Errors and their causes.
    pub(crate) errors: Vec<(String, String)>,
    /// The order of checks.
    pub(crate) order: String,
    /// The version of this system that brought it, if not the first.
    pub(crate) since: String,
}

/// All texts, by the names of rows.
pub(crate) type Texts = BTreeMap<String, About>;

/// Reads all files.
///
/// # Errors
///
/// When a line is of no known form, names an unknown error, or a block is of no row.
pub(crate) fn read(root: &Path) -> Result<Texts> {
    let mut texts = Texts::new();
    for entry in root.join(FOLDER).read_dir().context(FOLDER)? {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path)?;
        parse(&text, &mut texts).with_context(|| path.display().to_string())?;
    }
    Ok(texts)
}

fn parse(text: &str, texts: &mut Texts) -> Result<()> {
    let mut open = None;
    for (number, line) in (1..).zip(text.lines()) {
        let Some((key, rest)) = line.split_once(' ').filter(|(key, _)| *key != "#") else {
            ensure!(line.is_empty() || line.starts_with('#'), "line {number}: a word alone");
            continue;
        };
        let (word, said) = rest.split_once(' ').unwrap_or((rest, ""));
        let pair = (word.to_owned(), said.to_owned());
        if key == "=" {
            ensure!(!texts.contains_key(rest), "line {number}: {rest} is there twice");
            open = Some(texts.entry(rest.to_owned()).or_default());
            continue;
        }
        let about = open.as_mut().with_context(|| format!("line {number}: of what?"))?;
        match key {
            "arg" => about.arguments.push(pair),
            "ret" => rest.clone_into(&mut about.answer),
            "err" => {
                let known = Errno::ALL.iter().any(|errno| errno.name() == word);
                ensure!(known, "line {number}: no error {word}");
                about.errors.push(pair);
            }
            "order" => rest.clone_into(&mut about.order),
            "since" => rest.clone_into(&mut about.since),
            _ => bail!("line {number}: `{key}` means nothing"),
        }
    }
    Ok(())
}

/// Rows that have no text and need one, and texts of no row: each hypercall needs arguments, answer
/// and order, each sub-op that is not absent its arguments.
pub(crate) fn faults(texts: &Texts) -> Vec<String> {
    let mut faults = Vec::new();
    let names: Vec<String> = Row::all().map(Row::name).collect();
    for (row, name) in Row::all().zip(&names) {
        let about = texts.get(name);
        let has = |part: fn(&About) -> bool| about.is_some_and(part);
        let complete = match row {
            Row::Number(_) => true,
            Row::Op(_, op) if op.status == Status::Absent => true,
            Row::Op(..) => has(|about| !about.arguments.is_empty()),
            Row::Call(_) => has(|about| {
                let texts = [&about.answer, &about.order];
                !about.arguments.is_empty() && texts.iter().all(|text| !text.is_empty())
            }),
        };
        if !complete {
            faults.push(format!("{FOLDER} says too little of {name}"));
        }
    }
    let unknown = texts.keys().filter(|name| !names.contains(name));
    faults.extend(unknown.map(|name| format!("{FOLDER} has {name}, which is no row")));
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_arguments_answers_errors_and_order() {
        let mut texts = Texts::new();
        let text = "# doc\n\n= iret\narg rsp the frame\nret never\nerr EINVAL it\norder None.\nsince 0.2\n";
        parse(text, &mut texts).expect("a block");
        let about = &texts["iret"];
        assert_eq!(about.arguments, [("rsp".to_owned(), "the frame".to_owned())]);
        assert_eq!(about.errors, [("EINVAL".to_owned(), "it".to_owned())]);
        assert_eq!((about.answer.as_str(), about.since.as_str()), ("never", "0.2"));
        for bad in ["ret 0", "= a\nerr EWHAT it", "= a\n= a", "= a\nwhat b"] {
            assert!(parse(bad, &mut Texts::new()).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut texts = Texts::new();
        parse("= iret\narg rsp it\n= nothing\n", &mut texts).expect("blocks");
        let faults = faults(&texts);
        let has = |end: &str| faults.iter().any(|fault| fault.ends_with(end));
        assert!(
            has("of iret") && has("of set_gdt") && has("nothing, which is no row"),
            "{faults:?}"
        );
    }
}
