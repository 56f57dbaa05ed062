//! Model front ends, well-behaved and hostile, against the back end and its switch: fake grants, a
//! map for xenstore.
#![allow(clippy::cast_possible_truncation, reason = "the numbers of tests are small")]

mod edges;
mod front;
mod hostile;
mod packets;
mod passing;
mod rates;
mod rig;
mod states;
mod switching;
mod traffic;
mod world;
