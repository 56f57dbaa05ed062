//! The machine's console, which dom0, its operator and all domains share.

use alloc::string::String;
use core::cell::RefCell;
use core::fmt;

use pv_guest_sdk::{print, println};

/// Who has the console.
#[derive(Debug, Default)]
enum Mode {
    /// Nobody: lines follow each other.
    #[default]
    Plain,
    /// The operator, whose line is shown so.
    Prompt(String),
    /// A domain.
    Attached,
}

/// The console.
#[derive(Debug, Default)]
pub(crate) struct Screen(RefCell<Mode>);

impl Screen {
    /// Shows a line, above what the operator types. Not while the console is a domain's.
    pub(crate) fn line(&self, text: fmt::Arguments<'_>) {
        match &*self.0.borrow() {
            Mode::Plain => println!("{text}"),
            Mode::Prompt(shown) => print!("\r\x1b[K{text}\n{shown}"),
            Mode::Attached => {}
        }
    }

    /// The operator types, and it looks so.
    pub(crate) fn prompt(&self, shown: String) {
        self.0.replace(Mode::Prompt(shown));
    }

    /// Nobody types.
    pub(crate) fn plain(&self) {
        self.0.replace(Mode::Plain);
    }

    /// A domain has the console for itself.
    pub(crate) fn attach(&self) {
        self.0.replace(Mode::Attached);
    }
}
