//! `cargo xtask conformance`: the cases on both systems.

use std::process::ExitCode;

use anyhow::{Result, bail};

/// Reads the command's own words and runs it.
///
/// # Errors
///
/// Always: the runner is not written yet.
pub(crate) fn command(_words: lexopt::Parser) -> Result<ExitCode> {
    bail!("`conformance` is not written yet; `cargo xtask run conformance` boots its guest")
}
