//! Who may do what with a node.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::error::Error;

/// The domain that may do everything.
pub const PRIVILEGED: u16 = 0;

/// What a domain may do with a node's value and children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Read the value, list the children, see the permissions.
    pub read: bool,
    /// Write the value, make children, remove the node.
    pub write: bool,
}

impl Access {
    /// Nothing.
    pub const NONE: Self = Self { read: false, write: false };
    /// Reading.
    pub const READ: Self = Self { read: true, write: false };
    /// Writing.
    pub const WRITE: Self = Self { read: false, write: true };
    /// Both.
    pub const BOTH: Self = Self { read: true, write: true };

    /// Whether all of the other is in this one.
    pub(crate) const fn covers(self, other: Self) -> bool {
        (self.read || !other.read) && (self.write || !other.write)
    }

    const fn letter(self) -> char {
        match (self.read, self.write) {
            (false, false) => 'n',
            (true, false) => 'r',
            (false, true) => 'w',
            (true, true) => 'b',
        }
    }
}

/// One row of a node's permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// Whom it is about.
    pub domid: u16,
    /// What that one may do.
    pub access: Access,
}

impl Permission {
    /// Reads `r5` and the like.
    fn parse(text: &str) -> Option<Self> {
        let access = match text.as_bytes().first()? {
            b'n' => Access::NONE,
            b'r' => Access::READ,
            b'w' => Access::WRITE,
            b'b' => Access::BOTH,
            _ => return None,
        };
        Some(Self { domid: text[1..].parse().ok()?, access })
    }
}

/// Who asks: a domain, and the one for which it acts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) domid: u16,
    pub(crate) target: Option<u16>,
}

impl Identity {
    pub(crate) const fn is_privileged(self) -> bool {
        self.domid == PRIVILEGED
    }

    fn is(self, domid: u16) -> bool {
        self.domid == domid || self.target == Some(domid)
    }
}

/// A node's permissions: its owner, who may do everything, with what everyone else may do; then the
/// exceptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Perms(Vec<Permission>);

impl Perms {
    /// Permissions with no exceptions.
    #[must_use]
    pub fn new(owner: u16, others: Access) -> Self {
        Self(vec![Permission { domid: owner, access: others }])
    }

    /// Adds an exception.
    #[must_use]
    pub fn with(mut self, domid: u16, access: Access) -> Self {
        self.0.push(Permission { domid, access });
        self
    }

    /// Reads the wire's form: `n0`, `r5`, ...; the first is the owner's.
    ///
    /// # Errors
    ///
    /// [`Error::Einval`]: there is none, or one is not understood.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, Error> {
        let rows: Option<Vec<_>> = texts.into_iter().map(Permission::parse).collect();
        rows.filter(|rows| !rows.is_empty()).map(Self).ok_or(Error::Einval)
    }

    /// The rows; the first is the owner's.
    #[must_use]
    pub fn rows(&self) -> &[Permission] {
        &self.0
    }

    /// The wire's form of each row.
    pub fn texts(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|row| format!("{}{}", row.access.letter(), row.domid))
    }

    /// Whose node it is.
    #[must_use]
    pub fn owner(&self) -> u16 {
        self.0.first().map_or(PRIVILEGED, |row| row.domid)
    }

    pub(crate) fn own(&mut self, domid: u16) {
        if let Some(first) = self.0.first_mut() {
            first.domid = domid;
        }
    }

    /// What someone may do: the first row that names him decides.
    pub(crate) fn allow(&self, who: Identity) -> Access {
        let everyone = self.0.first().map_or(Access::NONE, |row| row.access);
        if self.is_owner(who) {
            return Access::BOTH;
        }
        let named = self.0.iter().skip(1).find(|row| who.is(row.domid));
        named.map_or(everyone, |row| row.access)
    }

    /// Whether he may do what owners may.
    pub(crate) fn is_owner(&self, who: Identity) -> bool {
        who.is_privileged() || who.is(self.owner())
    }

    pub(crate) fn mentions(&self, domid: u16) -> bool {
        self.0.iter().any(|row| row.domid == domid)
    }

    /// Without the exceptions for a domain.
    pub(crate) fn without(&self, domid: u16) -> Self {
        let kept = |(place, row): &(usize, &Permission)| *place == 0 || row.domid != domid;
        Self(self.0.iter().enumerate().filter(kept).map(|(_, row)| *row).collect())
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec::Vec;

    use super::{Access, Identity, Perms};

    fn allowed(perms: &str, domid: u16, target: Option<u16>) -> Access {
        Perms::parse(perms.split(',')).unwrap().allow(Identity { domid, target })
    }

    #[test]
    fn the_owner_the_named_and_everyone_else() {
        assert_eq!(allowed("n3,r4,w4,b5", 3, None), Access::BOTH);
        assert_eq!(allowed("n3,r4,w4,b5", 4, None), Access::READ, "the first row that names him");
        assert_eq!(allowed("n3,r4,w4,b5", 6, None), Access::NONE);
        assert_eq!(allowed("w3,n4", 6, None), Access::WRITE);
        assert_eq!(allowed("w3,n4", 4, None), Access::NONE);
        assert_eq!(allowed("n3", 0, None), Access::BOTH);
        assert_eq!(allowed("n3", 9, Some(3)), Access::BOTH);
        assert_eq!(allowed("n3,r4", 9, Some(4)), Access::READ);
    }

    #[test]
    fn text_goes_there_and_back() {
        let perms = Perms::parse(["b0", "r65535", "n7"]).unwrap();
        assert_eq!(perms.texts().collect::<Vec<String>>(), ["b0", "r65535", "n7"]);
        for bad in ["", "x1", "r", "r65536", "r-1", "r1x", "\u{e4}"] {
            assert!(Perms::parse([bad]).is_err(), "{bad}");
        }
        assert!(Perms::parse([]).is_err());
    }
}
