//! The planner against layouts measured on Xen 4.17.7, against any input, and against broken files.
#![expect(clippy::unwrap_used, reason = "what fails to unwrap fails the test")]

mod carried_out;
mod elf_file;
mod guest_section;
mod images;
mod initial;
mod mutations;
mod properties;
mod toolstack;
