//! The nodes of both ends in xenstore, and the numbers in them.

use alloc::format;
use alloc::string::String;

/// What the front end's and the back end's directories hold, as the device sees them.
pub trait Nodes {
    /// The value of a node of the front end's directory, if there is such a node.
    fn front(&self, name: &str) -> Option<String>;

    /// The value of a node of the back end's directory, if there is such a node.
    fn back(&self, name: &str) -> Option<String>;

    /// A decimal number of 32 bits in the front end's directory, if there is such a node.
    ///
    /// # Errors
    /// That it is no number, as a sentence for who looks into xenstore.
    fn number(&self, name: &str) -> Result<Option<u32>, String> {
        let Some(text) = self.front(name) else { return Ok(None) };
        let number = decimal(&text);
        number.map(Some).ok_or_else(|| format!("{name} is no number: {}", quoted(&text)))
    }

    /// The same, which must be there.
    ///
    /// # Errors
    /// As of [`Self::number`], and that there is no such node.
    fn required(&self, name: &str) -> Result<u32, String> {
        self.number(name)?.ok_or_else(|| format!("there is no {name}"))
    }

    /// Whether such a number is there and not 0.
    ///
    /// # Errors
    /// As of [`Self::number`].
    fn flag(&self, name: &str) -> Result<bool, String> {
        Ok(self.number(name)?.is_some_and(|value| value != 0))
    }
}

/// The beginning of a text of the front end's, without what would garble a log.
#[must_use]
pub fn quoted(text: &str) -> String {
    text.escape_default().take(32).collect()
}

/// A number of 32 bits: digits and nothing else.
#[must_use]
pub fn decimal(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
