//! Why a request failed, under the names that travel on the wire.

/// Every error that a client can be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The request makes no sense: arguments missing, a path that is none.
    Einval,
    /// The client may not do that, or may not know whether there is such a node.
    Eacces,
    /// There is such a watch already.
    Eexist,
    /// There is no such node, watch, transaction or domain.
    Enoent,
    /// The client's share of the store's memory is used up.
    Enomem,
    /// A quota is used up: nodes, the size of a node, transactions.
    Enospc,
    /// There is no such request.
    Enosys,
    /// A transaction within a transaction.
    Ebusy,
    /// Another client changed what the transaction has looked at: start again.
    Eagain,
    /// The answer does not fit into a message, or there are too many watches.
    E2big,
    /// Only the privileged may give a node away.
    Eperm,
}

impl Error {
    /// The name that stands in an answer.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Einval => "EINVAL",
            Self::Eacces => "EACCES",
            Self::Eexist => "EEXIST",
            Self::Enoent => "ENOENT",
            Self::Enomem => "ENOMEM",
            Self::Enospc => "ENOSPC",
            Self::Enosys => "ENOSYS",
            Self::Ebusy => "EBUSY",
            Self::Eagain => "EAGAIN",
            Self::E2big => "E2BIG",
            Self::Eperm => "EPERM",
        }
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        out.write_str(self.name())
    }
}

impl core::error::Error for Error {}
