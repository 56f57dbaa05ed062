//! What an operator says and is told, without the machine: [`verbs`] and their words, [`editor`] of
//! a line, [`request`]s as lines of JSON, and answers [`show`]n as tables.

pub mod allowance;
pub mod editor;
pub mod record;
pub mod request;
pub mod show;
pub mod verbs;
