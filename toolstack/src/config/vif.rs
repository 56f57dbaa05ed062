//! A network interface, as xl describes it: `mac=00:16:3e:00:00:02,bridge=xenbr0`.

use alloc::string::{String, ToString};
use core::fmt;

use super::error::Problem;

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A domain's network interface.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Vif {
    /// Its address; one is made up where there is none.
    pub mac: Option<Mac>,
    /// The switch it is at; without one, that of the cards.
    pub bridge: Option<String>,
}

const MAC: &str = "an address is like 00:16:3e:00:00:02, and no group's";

const BRIDGE: &str = "a switch has a name of 1 to 15 letters, digits, and -_.";
const RATE: &str = "what an interface may send can't be limited here: remove it";

/// Whether it can be a switch's name, as Linux names bridges.
fn is_name(text: &str) -> bool {
    let good = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    (1..=15).contains(&text.len()) && text.chars().all(good)
}

impl Vif {
    pub(super) fn parse(words: &str) -> Result<Self, Problem> {
        let mut vif = Self::default();
        for word in words.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let wrong = |expected| Problem::Part(word.to_string(), expected);
            match word.split_once('=') {
                Some(("mac", value)) => vif.mac = Some(mac(value).ok_or_else(|| wrong(MAC))?),
                Some(("bridge", value)) if is_name(value) => vif.bridge = Some(value.to_string()),
                Some(("bridge", _)) => return Err(wrong(BRIDGE)),
                Some(("rate", _)) => return Err(wrong(RATE)),
                Some(("type", "vif" | "netfront")) => {}
                _ => return Err(wrong("nothing of an interface here")),
            }
        }
        Ok(vif)
    }
}

fn mac(text: &str) -> Option<Mac> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        *byte = parts
            .next()
            .filter(|part| part.len() == 2)
            .and_then(|part| u8::from_str_radix(part, 16).ok())?;
    }
    (parts.next().is_none() && bytes[0] & 1 == 0).then_some(Mac(bytes))
}
