//! Mutation: faults are put into the sources one at a time, to see whether the tests notice.
//!
//! `faults` has those that were thought out, two for each lesson of others' advisories; `draw` takes
//! others by chance from all that `cargo mutants` can make of `kernel/core`. `tree` is the copy of the
//! workspace that they are put into, `suite` what could notice, the quickest first, `record` what
//! came of it, kept as it comes, so that an interrupted run goes on; `report` tells.
#![forbid(unsafe_code)]

mod draw;
mod faults;
mod options;
mod record;
mod report;
mod run;
mod suite;
mod tree;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use record::Record;

/// Where the command works.
#[derive(Clone, Debug)]
pub struct Places {
    /// The workspace's folder.
    pub root: PathBuf,
    /// A folder of its own, for the copy of the workspace and what is built of it.
    pub scratch: PathBuf,
    /// The cargo to call.
    pub cargo: PathBuf,
}

/// One change of one file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Mutation {
    /// What it is called: `7a` of a lesson, `r012` of those drawn by chance.
    pub(crate) id: String,
    /// What is broken.
    pub(crate) what: String,
    /// Relative to the workspace.
    pub(crate) file: String,
    /// What stands there, exactly once, and what is put in its place.
    pub(crate) parts: Vec<(String, String)>,
}

/// Reads the command's own words and runs it. The exit code is 0 if everything that was asked for was
/// tried and enough of it noticed: 95 % of the faults for lessons, 85 % of those by chance.
///
/// # Errors
///
/// When a word is unknown, a fault does not fit the sources, the tests fail without a fault, or the tool
/// that makes mutations can't be had.
pub fn command(words: lexopt::Parser, places: &Places) -> Result<ExitCode> {
    let Some(options) = options::parse(words)? else {
        print!("{}", options::HELP);
        return Ok(ExitCode::SUCCESS);
    };
    let file = places.root.join("mutation/results.json");
    let mut record = Record::read(&file)?;
    if !options.report {
        run::all(places, &options, &mut record)?;
    }
    let page = places.root.join("docs/src/mutation.md");
    let text = std::fs::read_to_string(&page).with_context(|| page.display().to_string())?;
    std::fs::write(&page, report::into_page(&text, &record, &places.root)?)?;
    print!("{}", report::summary(&record));
    Ok(ExitCode::from(u8::from(!report::is_enough(&record))))
}
