//! The machine's console, which dom0, its operator and all domains share.

use alloc::string::String;
use core::cell::RefCell;
use core::fmt;

use pv_guest_sdk::print;
use toolstack::operator::screen;

/// The console.
#[derive(Debug, Default)]
pub(crate) struct Screen(RefCell<screen::Screen>);

impl Screen {
    /// Shows a line, above what the operator types; while the console is a domain's, it waits.
    pub(crate) fn line(&self, text: fmt::Arguments<'_>) {
        let text = self.0.borrow_mut().line(text);
        print!("{text}");
    }

    /// The same of what a domain says; while the console is another's, its record alone has it.
    pub(crate) fn line_of_domain(&self, text: fmt::Arguments<'_>) {
        let text = self.0.borrow().shown(text);
        print!("{text}");
    }

    /// The operator types, and it looks so.
    pub(crate) fn prompt(&self, shown: String) {
        self.0.borrow_mut().prompt(shown);
    }

    /// Nobody types. What has waited is shown.
    pub(crate) fn plain(&self) {
        let text = self.0.borrow_mut().plain();
        print!("{text}");
    }

    /// A domain has the console for itself.
    pub(crate) fn attach(&self) {
        self.0.borrow_mut().attach();
    }
}
