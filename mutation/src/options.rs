//! The words of the command line.

use anyhow::{Result, bail, ensure};
use lexopt::prelude::*;

/// What `--help` shows.
pub(crate) const HELP: &str = "\
cargo xtask mutate [OPTIONS]

Puts faults into a copy of the sources, one at a time, and runs the tests: those of the host first,
then, for what these did not notice, conformance and hostile guests in QEMU. Results are kept in
mutation/results.json as they come, and what has one is not run again; the page docs/src/mutation.md
gets them at the end. All of it takes hours of CPU time.

    --lessons      the two faults for each lesson, of mutation/faults.toml, alone
    --random       those drawn by chance from kernel/core alone
    --seed N       what they are drawn by (default: 1)
    --count N      how many of them (default: 100), without those that do not compile
    --only ID      this one, even if it has a result, such as 7a or r012
    --host         no QEMU: what the host's tests don't notice stays open
    --trust        the tests are known to pass without a fault: do not see for oneself
    --report       run nothing, write the page

Exit status: 0 enough was noticed (95 % and 85 %), and nothing is open; 1 not so; 2 the command could
not be done.
";

/// What the user asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Options {
    /// The faults for lessons.
    pub(crate) lessons: bool,
    /// Those by chance.
    pub(crate) random: bool,
    /// What these are drawn by.
    pub(crate) seed: u64,
    /// How many of these.
    pub(crate) count: usize,
    /// One of them.
    pub(crate) only: Option<String>,
    /// No QEMU.
    pub(crate) host: bool,
    /// Suites are not run without a fault first.
    pub(crate) trust: bool,
    /// Only the page.
    pub(crate) report: bool,
}

/// Reads them; `None`: help is wanted.
///
/// # Errors
///
/// When one is unknown or does not fit.
pub(crate) fn parse(mut words: lexopt::Parser) -> Result<Option<Options>> {
    let mut options = Options {
        lessons: false,
        random: false,
        seed: 1,
        count: 100,
        only: None,
        host: false,
        trust: false,
        report: false,
    };
    while let Some(word) = words.next()? {
        match word {
            Short('h') | Long("help") => return Ok(None),
            Long("lessons") => options.lessons = true,
            Long("random") => options.random = true,
            Long("seed") => options.seed = words.value()?.parse()?,
            Long("count") => options.count = words.value()?.parse()?,
            Long("only") => options.only = Some(words.value()?.string()?),
            Long("host") => options.host = true,
            Long("trust") => options.trust = true,
            Long("report") => options.report = true,
            other => bail!("{}: `cargo xtask mutate --help` lists the options", other.unexpected()),
        }
    }
    ensure!(options.count > 0, "--count 0: there is nothing to do");
    if !options.lessons && !options.random {
        (options.lessons, options.random) = (true, true);
    }
    Ok(Some(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Option<Options>> {
        parse(lexopt::Parser::from_args(words))
    }

    #[test]
    fn both_kinds_unless_one_is_named() {
        let both = parsed(&["--seed", "7"]).unwrap().unwrap();
        assert_eq!((both.lessons, both.random, both.seed, both.count), (true, true, 7, 100));
        let one = parsed(&["--lessons", "--only", "3b", "--host"]).unwrap().unwrap();
        assert_eq!((one.lessons, one.random, one.host), (true, false, true));
        assert_eq!(one.only.as_deref(), Some("3b"));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for words in [&["--count", "0"][..], &["--seed", "x"], &["7a"], &["--only"]] {
            assert!(parsed(words).is_err(), "{words:?}");
        }
        assert!(parsed(&["--help"]).unwrap().is_none());
    }
}
