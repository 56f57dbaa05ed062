//! What the control domain asks of other domains and of the machine: the work behind
//! [`crate::calls::control`], which decodes and authorises.

mod affinity;
mod context;
mod create;
mod extended;
mod info;
mod machine;
mod policy;
mod pools;
mod ranges;
mod rights;
mod scheduling;

pub(crate) use pools::scheduler_op;
pub use ranges::Ranges;

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The payload of an envelope.
pub(crate) type Payload = [u64; 16];

/// A sub-op's structure out of the payload.
pub(crate) fn get<T: FromBytes + IntoBytes>(payload: &Payload) -> T {
    T::read_from_prefix(payload.as_bytes()).map_or_else(|_| T::new_zeroed(), |(value, _)| value)
}

/// A sub-op's structure into the payload; what is behind it stays.
pub(crate) fn put<T: IntoBytes + Immutable>(payload: &mut Payload, value: &T) {
    // Every structure is smaller than the payload.
    let _ = value.write_to_prefix(payload.as_mut_bytes());
}
