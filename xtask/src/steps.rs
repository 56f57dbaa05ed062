//! Named steps that run whether or not the ones before failed, and the count at the end.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

use crate::process::say;

/// How much is said at the end of why steps failed: no more than is seen where only the end of the output
/// is kept. Unit: bytes.
const ROOM: usize = 4000;
/// How much of a line. Unit: characters.
const WIDTH: usize = 200;

/// The steps of one command.
pub(crate) struct Steps {
    /// Nothing is run, but names are kept.
    listed: Option<Vec<String>>,
    filter: String,
    passed: u32,
    /// What failed, and why.
    failed: Vec<(String, String)>,
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

    /// None yet, to be run or listed as these.
    pub(crate) fn alike(&self) -> Self {
        Self { listed: self.listed.as_ref().map(|_| Vec::new()), ..Self::new(&self.filter) }
    }

    /// Takes others as its own.
    pub(crate) fn join(&mut self, mut others: Self) {
        if let (Some(names), Some(more)) = (&mut self.listed, &mut others.listed) {
            names.append(more);
        }
        self.passed += others.passed;
        self.failed.append(&mut others.failed);
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
                let why = format!("{error:#}");
                println!("FAIL  {name} ({seconds:.1} s): {why}");
                self.failed.push((name.to_owned(), why));
            }
        }
    }

    /// Prints what failed and why, and the count; the exit code of the command.
    pub(crate) fn finish(self) -> ExitCode {
        if !self.failed.is_empty() {
            println!("\nfailed:");
        }
        for (name, why) in &self.failed {
            println!("    {name}\n{}", shortened(why, ROOM / self.failed.len()));
        }
        if self.passed == 0 && self.failed.is_empty() {
            println!("no step has a name that contains `{}`", self.filter);
            return ExitCode::from(2);
        }
        println!("{} passed, {} failed", self.passed, self.failed.len());
        if self.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// A long message's first line and as many of its last as there is room for, indented: the end of a boot
/// comes first, and a cause behind what it was the cause of.
fn shortened(why: &str, room: usize) -> String {
    let lines = why.lines().filter(|line| !line.trim().is_empty());
    let lines: Vec<String> = lines.map(|line| line.chars().take(WIDTH).collect()).collect();
    let Some((first, rest)) = lines.split_first() else { return String::new() };
    let mut left = room.saturating_sub(first.len());
    let fits = |line: &&String| left.checked_sub(line.len() + 9).inspect(|it| left = *it).is_some();
    let last = rest.iter().rev().take_while(fits).count();
    let cut = if last < rest.len() { "        ...\n" } else { "" };
    let last = rest[rest.len() - last..].iter().map(|line| format!("        {line}\n"));
    format!("        {first}\n{cut}{}", last.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::{Steps, shortened};

    #[test]
    fn steps_that_ran_beside_each_other_are_counted_together() {
        let mut all = Steps::new("a");
        all.run("a", || Ok(()));
        let mut others = all.alike();
        others.run("b is left out", || Ok(()));
        others.run("a too", || Ok(()));
        others.run("a fails", || anyhow::bail!("so"));
        all.join(others);
        assert_eq!((all.passed, all.failed), (2, vec![("a fails".into(), "so".into())]));

        let mut names = Steps::listing();
        let mut others = names.alike();
        others.run("not run", || unreachable!());
        names.join(others);
        assert_eq!(names.names(), ["not run"]);
    }

    #[test]
    fn a_long_message_keeps_its_ends() {
        assert_eq!(shortened("one\n\ntwo", 100), "        one\n        two\n");
        let lines: String = (0..100).map(|number| format!("{number}\n")).collect();
        assert_eq!(shortened(&lines, 25), "        0\n        ...\n        98\n        99\n");
        let wide = shortened(&format!("{0}\n{0}", "\u{e4}".repeat(300)), 1000);
        assert_eq!(wide.chars().count(), 2 * (200 + 9));
        assert_eq!(shortened("", 0), "");
    }
}
