//! What an operator says and is told, without the machine: [`verbs`] and their words, [`editor`] of
//! a line, [`request`]s as lines of JSON, answers [`show`]n as tables, and the [`screen`] that all share.

pub mod allowance;
pub mod editor;
pub mod record;
pub mod request;
pub mod screen;
pub mod show;
pub mod verbs;
