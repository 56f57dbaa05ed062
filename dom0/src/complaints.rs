//! What there is to say of domains that do not keep to the rules: a domain that breaks them again and
//! again is not to fill the machine's console.

use alloc::rc::Rc;
use alloc::string::String;
use core::cell::Cell;

use crate::screen::Screen;
use crate::store::Service;

/// How often one domain's device, or its connection to the store, is complained of.
const MOST: u32 = 16;

/// Complaints about one thing.
pub(crate) struct Complaints {
    about: String,
    left: Cell<u32>,
    screen: Rc<Screen>,
}

impl Complaints {
    /// About what, as lines begin with it.
    pub(crate) fn new(about: String, store: &Service) -> Self {
        Self { about, left: Cell::new(MOST), screen: store.screen.clone() }
    }

    /// Says something, on the console.
    pub(crate) fn say(&self, what: &str) {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        let about = &self.about;
        match left {
            0 => {}
            1 => self.screen.line(format_args!("{about}: {what}; no more is said of it")),
            _ => self.screen.line(format_args!("{about}: {what}")),
        }
    }

    /// The same of a back end, whose place in the store they are about, and where tools look for it.
    pub(crate) fn report(&self, store: &Service, error: &str) {
        self.say(error);
        store.write(&place(&self.about), error);
    }
}

/// Where the store has the error of a back end.
pub(crate) fn place(back: &str) -> String {
    let back = back.strip_prefix("/local/domain/0").unwrap_or(back);
    alloc::format!("/local/domain/0/error{back}")
}
