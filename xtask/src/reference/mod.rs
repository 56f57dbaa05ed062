//! The reference of the interface: what each case of conformance is about, and the pages of
//! `docs/src/abi` that say of every hypercall what is known and what is proved.

pub(crate) mod cases;
mod rows;
mod ties;

use std::path::Path;

use anyhow::{Result, ensure};

use ties::Ties;

/// Checks that cases and rows fit, and counts them.
///
/// # Errors
///
/// Names each case without a row, each row without a case, and lines that are of no use.
pub(crate) fn check(root: &Path) -> Result<()> {
    let (cases, ties) = (cases::all(root)?, Ties::read(root)?);
    let faults = ties.faults(&cases);
    ensure!(faults.is_empty(), "{}:\n    {}", ties::FILE, faults.join("\n    "));
    let count = ties.count(&cases);
    println!(
        "{} cases with {} distinct clauses, of which {} show a refusal alone",
        count.cases, count.distinct, count.refusals
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_clause_has_a_row_and_every_row_a_clause() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
        check(root).expect("rows and cases fit");
    }
}
