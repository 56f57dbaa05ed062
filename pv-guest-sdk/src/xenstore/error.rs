//! What can go wrong with the store.

use core::fmt;

use heapless::String;
use hypercall_abi::errno::Errno;

/// What the server did that no server may do. The connection is of no use after it.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{xenstore::{Cause, Fault, StoreError}};
/// # fn example(error: &StoreError) -> bool {
/// matches!(error.cause(), Cause::Broken(Fault::Indices))
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The indices of the ring are further apart than it is long.
    Indices,
    /// A message is longer than messages can be. Unit: bytes.
    Length(u32),
    /// It answered something that was not asked (the answer's number).
    Answer(u32),
    /// The answer is not of the request's kind (the answer's kind).
    Kind(u32),
    /// It was asked to start again, and has not yet.
    Restarting,
    /// The tokens or texts in a message are not of the protocol's form.
    Form,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Indices => f.write_str("the ring's indices are too far apart"),
            Self::Length(length) => write!(f, "a message of {length} bytes"),
            Self::Answer(number) => write!(f, "an answer to {number:#x}, which nobody asked"),
            Self::Kind(kind) => write!(f, "an answer of kind {kind}, which is not the request's"),
            Self::Restarting => f.write_str("it has not started again yet"),
            Self::Form => f.write_str("a message that is not of the protocol's form"),
        }
    }
}

/// Why a request to the store has no result.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{xenstore::{Cause, Fault, StoreError}, println};
/// # fn example(error: &StoreError) {
/// match error.cause() {
///     Cause::NotConnected => println!("this domain has no store"),
///     Cause::Broken(fault) => println!("the server: {fault}"),
///     other => println!("{other}"),
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// The server refused.
    Refused(Errno),
    /// The server refused with an error that the ABI does not name.
    Unnamed,
    /// The server broke the protocol.
    Broken(Fault),
    /// The connection was made anew since.
    Reconnected,
    /// There is no connection.
    NotConnected,
    /// The request is longer than a message can be, or the path longer than a watch's can.
    TooLong,
    /// A path has a NUL in it.
    Path,
    /// The answer is longer than the buffer. Unit: bytes.
    NoRoom(usize),
    /// The answer is not text, or not of the form that was asked for.
    Form,
    /// All places for watches are taken.
    NoPlace,
    /// The hypervisor does not know the port of the ring.
    NoPort,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(errno) => write!(f, "{}: {}", errno.name(), errno.meaning()),
            Self::Unnamed => f.write_str("an error the ABI does not name"),
            Self::Broken(fault) => write!(f, "the server broke the protocol: {fault}"),
            Self::Reconnected => f.write_str("the connection was made anew"),
            Self::NotConnected => {
                f.write_str("there is no connection to the store (an initial domain has none)")
            }
            Self::TooLong => f.write_str("too long for a message"),
            Self::Path => f.write_str("a path with a NUL"),
            Self::NoRoom(needed) => write!(f, "the answer has {needed} bytes"),
            Self::Form => f.write_str("the answer is not of the form that was asked for"),
            Self::NoPlace => f.write_str("too many watches"),
            Self::NoPort => f.write_str("the hypervisor does not know the ring's port"),
        }
    }
}

/// A request to the store that has no result: what was asked, of which node, and why.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{abi::errno::Errno, xenstore::StoreError, println};
/// # fn example(error: &StoreError) {
/// if error.errno() == Some(Errno::ENOENT) {
///     println!("{} is not there", error.path());
/// }
/// println!("{}: {}", error.operation(), error.cause());
/// # }
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoreError {
    operation: &'static str,
    /// The end of the path, if all of it is too long for this.
    path: String<PATH>,
    cause: Cause,
}

/// How much of a path an error keeps. Unit: bytes.
const PATH: usize = 72;

impl StoreError {
    pub(crate) fn new(operation: &'static str, path: &str, cause: Cause) -> Self {
        let fits = |&start: &usize| path.len() - start <= PATH && path.is_char_boundary(start);
        let start = (0..=path.len()).find(fits).unwrap_or(path.len());
        let path = path.get(start..).and_then(|end| String::try_from(end).ok());
        Self { operation, path: path.unwrap_or_default(), cause }
    }

    /// What was asked, for example `read`.
    #[must_use]
    pub const fn operation(&self) -> &'static str {
        self.operation
    }

    /// Of which node: the path, or its last 72 bytes.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Why there is no result.
    #[must_use]
    pub const fn cause(&self) -> Cause {
        self.cause
    }

    /// The error that the server gave, if it gave one.
    #[must_use]
    pub const fn errno(&self) -> Option<Errno> {
        if let Cause::Refused(errno) = self.cause { Some(errno) } else { None }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blank = if self.path.is_empty() { "" } else { " " };
        write!(f, "xenstore {}{blank}{}: {}", self.operation, self.path, self.cause)
    }
}

impl core::error::Error for StoreError {}

/// The error that a server's answer names.
pub(super) fn named(body: &[u8]) -> Cause {
    let name = crate::boot::text(body);
    let errno = Errno::ALL.iter().find(|errno| errno.name() == name);
    errno.map_or(Cause::Unnamed, |&errno| Cause::Refused(errno))
}
