//! A model front end, well-behaved and hostile, against the back end: fake grants, a disk in
//! memory that completes in any order, and a map for xenstore.
#![allow(clippy::cast_possible_truncation, reason = "the numbers of tests are small")]

mod random;
mod requests;
mod rig;
mod rings;
mod states;
mod world;
