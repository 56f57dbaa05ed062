//! Who may do what with a node.

use core::fmt;

use hypercall_abi::types::DomId;

/// What a domain may do with a node.
///
/// # Examples
///
/// ```ignore-none
/// # use pv_guest_sdk::{xenstore::Rights};
/// let nobody_else = Rights::None;
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rights {
    /// Nothing.
    None,
    /// Read it.
    Read,
    /// Write it.
    Write,
    /// Both.
    Both,
}

/// What one domain may do with a node. Of a list, the first names the owner, who may do everything,
/// and the rights of all domains that the others do not name.
///
/// # Examples
///
/// ```ignore-none
/// # use pv_guest_sdk::{abi::types::DomId, xenstore::{Permission, Rights}};
/// let all_may_read = Permission { domain: DomId(0), rights: Rights::Read };
/// assert_eq!(all_may_read.to_string(), "r0");
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Permission {
    /// Who.
    pub domain: DomId,
    /// What.
    pub rights: Rights,
}

impl Permission {
    fn parse(text: &str) -> Option<Self> {
        let (letter, number) = text.split_at_checked(1)?;
        let rights = match letter {
            "n" => Rights::None,
            "r" => Rights::Read,
            "w" => Rights::Write,
            "b" => Rights::Both,
            _ => return None,
        };
        Some(Self { domain: DomId(number.parse().ok()?), rights })
    }

    /// The list in an answer, if it is one.
    pub(super) fn parse_all(body: &[u8]) -> Option<impl Iterator<Item = Self> + use<'_>> {
        let texts = core::str::from_utf8(body).ok()?.split_terminator('\0');
        let valid = texts.clone().all(|text| Self::parse(text).is_some());
        valid.then(|| texts.filter_map(Self::parse))
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = match self.rights {
            Rights::None => 'n',
            Rights::Read => 'r',
            Rights::Write => 'w',
            Rights::Both => 'b',
        };
        write!(f, "{letter}{}", self.domain.0)
    }
}
