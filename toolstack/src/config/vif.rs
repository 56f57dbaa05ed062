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
    /// The switch it is at, where there are several.
    pub bridge: Option<String>,
}

const MAC: &str = "an address is like 00:16:3e:00:00:02, and no group's";

impl Vif {
    pub(super) fn parse(words: &str) -> Result<Self, Problem> {
        let mut vif = Self::default();
        for word in words.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let wrong = |expected| Problem::Part(word.to_string(), expected);
            match word.split_once('=') {
                Some(("mac", value)) => vif.mac = Some(mac(value).ok_or_else(|| wrong(MAC))?),
                Some(("bridge", value)) => vif.bridge = Some(value.to_string()),
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
