//! What is known of the cases beside their outcomes: their clauses, and what they are about.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use super::verdict::Verdict;
use crate::reference::cases;
use crate::reference::ties::Ties;

/// The clauses of all cases, and what they are about.
#[derive(Debug, Default)]
pub(crate) struct Book {
    clauses: BTreeMap<String, String>,
    ties: Ties,
}

impl Book {
    /// Reads the sources of the cases.
    ///
    /// # Errors
    ///
    /// When one cannot be read.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let clauses = cases::all(root)?.into_iter().map(|case| (case.name, case.clause)).collect();
        Ok(Self { clauses, ties: Ties::read(root)? })
    }

    /// What the hypervisor must do.
    pub(crate) fn clause(&self, case: &str) -> &str {
        self.clauses.get(case).map_or("", String::as_str)
    }

    /// What a case is about: hypercalls, sub-ops and facilities.
    pub(crate) fn about(&self, case: &str) -> &[String] {
        self.ties.of(case)
    }

    /// Cases that ran and that the sources do not have, as they are read.
    pub(crate) fn stray(&self, verdict: &Verdict) -> Vec<String> {
        let names = verdict.rows.iter().map(|row| &row.name);
        names.filter(|name| !self.clauses.contains_key(*name)).cloned().collect()
    }
}
