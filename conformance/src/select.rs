//! Which cases the host wants, by the words of the command line.

use pv_guest_sdk::BootInfo;

use crate::case::Case;

/// The host's choice: `filter=TEXT` (cases whose name contains it), `from=N` (none before that
/// number), `only=NAME` (this one alone, even if it ends the guest).
pub(crate) struct Selection<'a> {
    filter: &'a str,
    from: usize,
    only: Option<&'a str>,
}

impl<'a> Selection<'a> {
    /// Reads the command line.
    pub(crate) fn new(boot: &BootInfo<'a>) -> Self {
        Self {
            filter: boot.argument("filter").unwrap_or(""),
            from: boot.argument("from").and_then(|word| word.parse().ok()).unwrap_or(0),
            only: boot.argument("only"),
        }
    }

    /// Whether one case was asked for by its name.
    pub(crate) const fn is_single(&self) -> bool {
        self.only.is_some()
    }

    /// The chosen ones of some cases, each with its number among them.
    pub(crate) fn of(
        &self,
        cases: impl Iterator<Item = &'static Case>,
    ) -> impl Iterator<Item = (usize, &'static Case)> {
        cases.enumerate().skip(self.from).filter(|(_, case)| match self.only {
            Some(only) => case.name == only,
            None => case.name.contains(self.filter),
        })
    }
}
