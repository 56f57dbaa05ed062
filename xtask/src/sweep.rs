//! What every hypercall answers to systematic arguments, and what every instruction does: a guest's lines
//! on both systems.
//!
//! `conformance/hostile/src/bin` has the guests. Each line begins with what was asked for, up to a
//! colon; those that may differ are named in `conformance/sweep.json`, by how they begin, with the reason.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use crate::boot::{self, End, Watch};
use crate::machine::System;
use crate::options::TestOptions;
use crate::run::{Builder, GuestChoice};
use crate::steps::Steps;
use crate::workspace::Workspace;

/// Differences that are told in full.
const SHOWN: usize = 10;

/// The steps: their names, the guests, and the files of differences that are meant, if there are any.
const SWEEPS: [(&str, &str, Option<&str>); 2] = [
    (
        "all hypercalls answer systematic arguments as on xen",
        "sweep",
        Some("conformance/sweep.json"),
    ),
    ("all instructions do what they do on xen", "instructions", None),
];

/// The steps of the test.
pub(crate) fn test(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &TestOptions,
    steps: &mut Steps,
) {
    for (name, guest, differences) in SWEEPS {
        steps.run(name, || {
            let meant = differences.map_or(Ok(BTreeMap::new()), |file| meant(workspace, file))?;
            let mut said = |system| said(workspace, builder, options, (system, guest));
            let (ours, theirs) = (said(System::Paravane)?, said(System::Xen)?);
            compare(&ours, &theirs, &meant)
        });
    }
}

/// Reads a file of differences that are meant.
fn meant(workspace: &Workspace, file: &str) -> Result<BTreeMap<String, String>> {
    let file = workspace.root.join(file);
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    serde_json::from_str(&text).with_context(|| file.display().to_string())
}

/// What a guest says on a system.
fn said(
    workspace: &Workspace,
    builder: &mut Builder<'_>,
    options: &TestOptions,
    (system, name): (System, &str),
) -> Result<String> {
    let guest = GuestChoice::find(workspace, name.as_ref())?;
    let machine = builder.machine(system, &guest, &options.machine)?;
    let record = boot::boot(&machine, Watch::Nobody, &workspace.scratch("sweep")?)?;
    ensure!(record.end == End::Success, "{}\n{}", record.end, record.report);
    Ok(record.console.transcript())
}

/// Compares the lines; those that are meant to differ have to.
fn compare(ours: &str, theirs: &str, meant: &BTreeMap<String, String>) -> Result<()> {
    let lines = |said: &str| -> BTreeMap<String, String> {
        let pairs = said.lines().filter_map(|line| line.split_once(':'));
        pairs.map(|(asked, answers)| (asked.to_owned(), answers.to_owned())).collect()
    };
    let (ours, theirs) = (lines(ours), lines(theirs));
    ensure!(ours.len() > 1000, "the guest says {} lines", ours.len());
    ensure!(ours.keys().eq(theirs.keys()), "the guest asks otherwise on one system");
    let differ = ours.iter().filter(|(asked, answers)| theirs.get(*asked) != Some(answers));
    let differ: Vec<_> = differ.map(|(asked, _)| asked.as_str()).collect();
    let is_of = |asked: &str, key: &str| {
        asked.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    for key in meant.keys() {
        ensure!(differ.iter().any(|asked| is_of(asked, key)), "`{key}` does not differ any more");
    }
    let new = differ.iter().filter(|asked| !meant.keys().any(|key| is_of(asked, key)));
    let told: Vec<_> = new
        .take(SHOWN)
        .map(|&asked| {
            let of =
                |lines: &BTreeMap<String, String>| lines.get(asked).cloned().unwrap_or_default();
            format!("{asked}\n  ours:{}\n  xen: {}", of(&ours), of(&theirs))
        })
        .collect();
    ensure!(told.is_empty(), "answers differ:\n{}", told.join("\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(changed: &str) -> String {
        let usual = (0..1500).map(|number| format!("{number} 0x1 0 0: -22*3\n"));
        usual.chain([changed.to_owned()]).collect()
    }

    #[test]
    fn a_difference_fails_unless_it_is_named() {
        let (ours, theirs) = (said("9 0x9 1 2: 0*1"), said("9 0x9 1 2: -14*1"));
        let named = |key: &str| BTreeMap::from([(key.to_owned(), "a reason".to_owned())]);
        let error = compare(&ours, &theirs, &BTreeMap::new()).expect_err("a difference");
        assert!(error.to_string().contains("9 0x9 1 2\n  ours: 0*1\n  xen:  -14*1"));
        compare(&ours, &theirs, &named("9 0x9")).expect("named");
        let error = compare(&ours, &theirs, &named("9 0x9 1 1")).expect_err("another");
        assert!(error.to_string().contains("does not differ"));
        compare(&ours, &ours, &BTreeMap::new()).expect("equal");
        assert!(compare(&ours, &ours, &named("9 0x9")).is_err());
        assert!(compare(&ours, &said(""), &BTreeMap::new()).is_err());
    }
}
