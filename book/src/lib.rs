//! What the book and the SDK's documentation show, held to what is.
//!
//! [`blocks`] finds the code blocks of the pages and says whether each is what its language claims;
//! [`commands`] ties each command line of the pages to the step of the test that runs it; [`transcript`]
//! compares what a page says that a machine says with what one said; [`items`] lists public items of a
//! crate that no example shows. Nothing here builds or boots: `cargo xtask` does, with what is found.
#![forbid(unsafe_code)]

pub mod blocks;
pub mod commands;
pub mod items;
pub mod transcript;
