//! Why a page cannot be granted, mapped or copied.

use core::fmt;

use hypercall_abi::grant;

use crate::error::HypercallError;
use crate::paging::MemoryError;

/// One operation that the hypervisor refused; others of the same call may be done.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{grant::Refusal, println};
/// # fn example(refusal: Refusal) {
/// println!("{} ({}): {}", refusal.name(), refusal.status(), refusal.meaning());
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refusal {
    operation: &'static str,
    status: i16,
}

impl Refusal {
    /// What the status says of an operation; no status but [`grant::OKAY`] is success.
    pub(crate) const fn check(operation: &'static str, status: i16) -> Result<(), Self> {
        if status == grant::OKAY { Ok(()) } else { Err(Self { operation, status }) }
    }

    /// The status: a negative number, or one that no hypervisor gives if it gave none.
    #[must_use]
    pub const fn status(&self) -> i16 {
        self.status
    }

    /// The status' name, for example `GNTST_bad_page`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        let row = grant::RESULTS.iter().find(|&&(_, status)| status == self.status);
        row.map_or("no status", |&(name, _)| name)
    }

    /// What it means.
    #[must_use]
    pub const fn meaning(&self) -> &'static str {
        match self.status {
            grant::GENERAL_ERROR => {
                "the entry is not for this domain or not for writing, or the page or the address \
                 cannot be used so"
            }
            grant::BAD_DOMAIN => "there is no such domain",
            grant::BAD_GNTREF => "the granter's table has no such entry",
            grant::BAD_HANDLE => "nothing is mapped by that name",
            grant::BAD_VIRT_ADDR => "the list cannot be written",
            grant::NO_DEVICE_SPACE | grant::NO_SPACE => "the hypervisor's tables are full",
            grant::PERMISSION_DENIED => "the policy does not allow it to this domain",
            grant::BAD_PAGE => "the frame is not the granter's",
            grant::BAD_COPY_ARG => "the copy would leave a page",
            grant::EAGAIN => "the page is not there now",
            _ => "no answer to this operation",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} ({}): {}", self.operation, self.status, self.name(), self.meaning())
    }
}

impl core::error::Error for Refusal {}

/// Why a page cannot be granted or mapped.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{grant::GrantError, println};
/// # fn example(error: &GrantError) {
/// match error {
///     GrantError::Exhausted => println!("all entries of the table are in use"),
///     other => println!("{other}"),
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GrantError {
    /// The table has no free entry.
    Exhausted,
    /// The frame's number has more than the 32 bits of an entry.
    Unreachable,
    /// The table can't have so many frames.
    Frames(usize),
    /// Memory cannot be had or mapped.
    Memory(MemoryError),
    /// The hypervisor refused this operation.
    Refused(Refusal),
}

impl fmt::Display for GrantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exhausted => f.write_str("no entry of the grant table is free"),
            Self::Unreachable => f.write_str("the frame is too far for an entry of version 1"),
            Self::Frames(frames) => write!(f, "a grant table of {frames} frames, not 1 to 4"),
            Self::Memory(error) => write!(f, "{error}"),
            Self::Refused(refusal) => write!(f, "{refusal}"),
        }
    }
}

impl core::error::Error for GrantError {}

impl From<MemoryError> for GrantError {
    fn from(error: MemoryError) -> Self {
        Self::Memory(error)
    }
}

impl From<HypercallError> for GrantError {
    fn from(error: HypercallError) -> Self {
        Self::Memory(error.into())
    }
}

impl From<Refusal> for GrantError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::string::ToString;
    use std::vec::Vec;

    use super::Refusal;
    use hypercall_abi::grant;

    #[test]
    fn every_status_but_success_has_a_name_and_a_meaning() {
        let refusals =
            grant::RESULTS.iter().filter_map(|&(_, status)| Refusal::check("x", status).err());
        let names: HashSet<_> = refusals.clone().map(|refusal| refusal.name()).collect();
        assert_eq!(names.len(), grant::RESULTS.len() - 1);
        let unknown = refusals.into_iter().filter(|it| it.meaning().starts_with("no answer"));
        // Of transfers and devices, which the SDK does not use.
        assert_eq!(unknown.map(|it| it.status()).collect::<Vec<_>>(), [-6, -11]);
        assert_eq!(
            Refusal::check("map_grant_ref", -3).unwrap_err().to_string(),
            "map_grant_ref = -3 (GNTST_bad_gntref): the granter's table has no such entry"
        );
    }
}
