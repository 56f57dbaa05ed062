//! The one place of this crate where `unsafe` is allowed.
//!
//! A conformance guest does on purpose what no guest should: wild hypercalls, reads of addresses
//! that belong to nobody, instructions that fault. The functions here are safe to *call* because
//! of a rule that this crate keeps as a whole: **a case names only memory that no Rust object lives
//! in** (the arena, the pages the loader left, addresses outside the image), or expects the guest
//! to end. Whoever writes a case keeps it; nothing outside this crate can call these.
#![allow(unsafe_code, reason = "wild instructions and hypercalls are what this guest is for")]

pub(crate) mod ap;
pub(crate) mod ap_snippets;
mod entry;
pub(crate) mod event_upcall;
pub(crate) mod memory;
pub(crate) mod pages_calls;
pub(crate) mod pages_direct;
pub(crate) mod pages_grants;
pub(crate) mod pages_reservation;
pub(crate) mod pages_scratch;
pub(crate) mod pages_segments;
pub(crate) mod pages_snippets;
mod probe;
pub(crate) mod snippets;
pub(crate) mod trap;
pub(crate) mod trap_emulation;
pub(crate) mod trap_snippets;
pub(crate) mod trap_stage;

pub(crate) use ap::{ApCode, ApState};
pub(crate) use entry::{EntryState, entry_state, guard_page, image_end};
pub(crate) use probe::{Code, FxArea, Registers, run};
