//! Named steps that run whether or not the ones before failed, and the count at the end.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

use crate::process::say;

/// The steps of one command.
pub(crate) struct Steps {
    /// Nothing is run, but names are kept.
    listed: Option<Vec<String>>,
    filter: String,
    passed: u32,
    failed: Vec<String>,
}

impl Steps {
    /// Runs only steps whose name contains `filter`; all when it is empty.
    pub(crate) fn new(filter: &str) -> Self {
        Self { listed: None, filter: filter.to_owned(), passed: 0, failed: Vec::new() }
    }

    /// Runs nothing, and keeps the names of all.
    pub(crate) fn listing() -> Self {
        Self { listed: Some(Vec::new()), ..Self::new("") }
    }

    /// The names, of steps that are listed.
    pub(crate) fn names(self) -> Vec<String> {
        self.listed.unwrap_or_default()
    }

    /// Whether the step `name` is to run.
    pub(crate) fn selects(&self, name: &str) -> bool {
        name.contains(&self.filter)
    }

    /// Runs the step `name`, unless the filter leaves it out, and tells how it went.
    pub(crate) fn run(&mut self, name: &str, step: impl FnOnce() -> Result<()>) {
        if let Some(names) = &mut self.listed {
            names.push(name.to_owned());
            return;
        }
        if !self.selects(name) {
            return;
        }
        say(format!("{name} ..."));
        let started = Instant::now();
        let result = step();
        let seconds = started.elapsed().as_secs_f32();
        match result {
            Ok(()) => {
                self.passed += 1;
                println!("pass  {name} ({seconds:.1} s)");
            }
            Err(error) => {
                println!("FAIL  {name} ({seconds:.1} s): {error:#}");
                self.failed.push(name.to_owned());
            }
        }
    }

    /// Prints what failed and the count; the exit code of the command.
    pub(crate) fn finish(self) -> ExitCode {
        if !self.failed.is_empty() {
            println!("\nfailed:");
        }
        for name in &self.failed {
            println!("    {name}");
        }
        if self.passed == 0 && self.failed.is_empty() {
            println!("no step has a name that contains `{}`", self.filter);
            return ExitCode::from(2);
        }
        println!("{} passed, {} failed", self.passed, self.failed.len());
        if self.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
