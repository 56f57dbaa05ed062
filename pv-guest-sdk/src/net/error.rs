//! What can go wrong with a network card.

use core::fmt;

use crate::error::HypercallError;
use crate::grant::GrantError;
use crate::ring::TooMany;
use crate::xenbus::State;
use crate::xenstore::StoreError;

/// What the back end did that no back end may do.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{net::{Breach, NetError}, println};
/// # fn example(error: &NetError) {
/// if let NetError::Broken(Breach::Indices) = error {
///     println!("the back end claims more than the ring holds");
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Breach {
    /// It answered more than was asked.
    Indices,
    /// It answered for a page that it does not have, or out of turn (the answer's number).
    Answer(u16),
    /// The answer has a status that there is not.
    Status(i16),
    /// A piece of a packet does not lie in its page (offset, length). Unit: bytes.
    Piece(u16, u16),
    /// A packet has more pieces, or more said about it, than any may have.
    Endless,
    /// What is said about a packet is of a kind that was not asked for, or makes no sense.
    Extra(u8),
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Indices => f.write_str("more answers than requests"),
            Self::Answer(id) => write!(f, "an answer to {id:#x}, which is not its turn"),
            Self::Status(status) => write!(f, "an answer of status {status}"),
            Self::Piece(offset, length) => write!(f, "{length} bytes at {offset} of a page"),
            Self::Endless => f.write_str("a packet without an end"),
            Self::Extra(kind) => write!(f, "an extra info of kind {kind}"),
        }
    }
}

impl From<TooMany> for Breach {
    fn from(_: TooMany) -> Self {
        Self::Indices
    }
}

/// Why a network card cannot be opened, or a packet not sent or received.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NetError {
    /// The store.
    Store(StoreError),
    /// Memory, or the grant table.
    Grant(GrantError),
    /// The hypervisor refused a port.
    Hypercall(HypercallError),
    /// The back end is in this state, and will not connect.
    Refused(State),
    /// What is published of the card cannot be, or is not what this front end needs (the node).
    Form(&'static str),
    /// The packet is empty or longer than the card takes.
    Length(usize),
    /// The back end does not take packets with such a [`Note`](super::Note).
    Unsupported,
    /// The back end broke the protocol. The card is of no use after it.
    Broken(Breach),
    /// The back end is closed or gone.
    Gone,
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => write!(f, "{error}"),
            Self::Grant(error) => write!(f, "{error}"),
            Self::Hypercall(error) => write!(f, "{error}"),
            Self::Refused(state) => write!(f, "the network card's back end is {state}"),
            Self::Form(node) => write!(f, "the network card has no valid {node}"),
            Self::Length(length) => write!(f, "a packet of {length} bytes can't be sent"),
            Self::Unsupported => f.write_str("the network card can't complete such a packet"),
            Self::Broken(breach) => {
                write!(f, "the network card's back end broke the protocol: {breach}")
            }
            Self::Gone => f.write_str("the network card's back end is gone"),
        }
    }
}

impl core::error::Error for NetError {}

impl From<StoreError> for NetError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<GrantError> for NetError {
    fn from(error: GrantError) -> Self {
        Self::Grant(error)
    }
}

impl From<HypercallError> for NetError {
    fn from(error: HypercallError) -> Self {
        Self::Hypercall(error)
    }
}
