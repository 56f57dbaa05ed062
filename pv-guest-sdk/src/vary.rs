//! Values that may differ from one hypervisor, machine or run to the next.
//!
//! Transcripts of two systems are compared byte for byte, but for what is printed through
//! [`crate::vary!`]: everything from the `~` to the next white space counts as one value that may
//! be anything. Addresses, counts, versions and times go through it; nothing else should, and at
//! most 15 values in one guest.

use core::fmt::{self, Write};

/// A named value, printed as `name~value` without any white space. Made by [`crate::vary!`].
///
/// # Examples
///
/// ```ignore-none
/// # use pv_guest_sdk::{vary};
/// // A `Vary` is made by `vary!`.
/// assert_eq!(vary!("pages", 16 * 256).to_string(), "pages~4096");
/// ```
pub struct Vary<'a> {
    name: &'static str,
    value: fmt::Arguments<'a>,
}

impl<'a> Vary<'a> {
    /// Names a formatted value.
    ///
    /// # Examples
    ///
    /// ```ignore-none
    /// # use pv_guest_sdk::{vary::Vary};
    /// assert_eq!(Vary::new("pages", format_args!("{}", 42)).to_string(), "pages~42");
    /// ```
    #[must_use]
    pub const fn new(name: &'static str, value: fmt::Arguments<'a>) -> Self {
        Self { name, value }
    }
}

impl fmt::Display for Vary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        f.write_char('~')?;
        let mut word = Word { out: f, empty: true };
        word.write_fmt(self.value)?;
        if word.empty { f.write_char('-') } else { Ok(()) }
    }
}

/// Keeps a value one word: white space and control characters become `_`.
struct Word<'a, 'f> {
    out: &'a mut fmt::Formatter<'f>,
    empty: bool,
}

impl fmt::Write for Word<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| self.write_char(c))
    }

    fn write_char(&mut self, c: char) -> fmt::Result {
        self.empty = false;
        self.out.write_char(if c.is_whitespace() || c.is_control() { '_' } else { c })
    }
}

/// Prints a value that may vary, for use as an argument of `println!` and its like.
///
/// ```ignore-none
/// use pv_guest_sdk::vary;
/// assert_eq!(format!("{} pages", vary!("size", 16384)), "size~16384 pages");
/// assert_eq!(format!("{}", vary!("at", "{:#x}", 4096)), "at~0x1000");
/// assert_eq!(format!("{}", vary!("built", "Fri 21")), "built~Fri_21");
/// assert_eq!(format!("{}", vary!("extra", "")), "extra~-");
/// ```
#[macro_export]
macro_rules! vary {
    ($name:literal, $format:literal, $($value:expr),+) => {
        $crate::vary::Vary::new($name, ::core::format_args!($format, $($value),+))
    };
    ($name:literal, $value:expr) => {
        $crate::vary::Vary::new($name, ::core::format_args!("{}", $value))
    };
}
