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
    /// How much it may send, if that is limited.
    pub rate: Option<Rate>,
}

const MAC: &str = "an address is like 00:16:3e:00:00:02, and no group's";

const BRIDGE: &str = "a switch has a name of 1 to 15 letters, digits, and -_.";
const RATE: &str = "a rate is like 10Mb/s, 250KB/s, or 1MB/s@20ms, and brings 1 to 4294967295 bytes in \
                    an interval";

/// How much an interface may send: so many bytes in each interval.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// From 1 on.
    pub bytes: u32,
    /// From 1 on. Unit: microseconds.
    pub interval: u32,
}

impl Rate {
    /// Reads what xl reads: a number, perhaps a thousand, million or thousand million times, of bits
    /// (`b`) or bytes (`B`) a second, and perhaps behind `@` the interval, else 50 ms.
    fn parse(text: &str) -> Option<Self> {
        let (rate, interval) = text.split_once('@').unwrap_or((text, "50ms"));
        let (rate, per_byte) = match rate.strip_suffix("b/s") {
            Some(bits) => (bits, 8),
            None => (rate.strip_suffix("B/s")?, 1),
        };
        let a_second = times(rate, &[("G", 1_000_000_000), ("M", 1_000_000), ("K", 1000)], 1)?;
        let interval = interval.strip_suffix('s').unwrap_or(interval);
        let micros = times(interval, &[("m", 1000), ("u", 1)], 1_000_000)?;
        let bytes = u128::from(a_second / per_byte) * u128::from(micros) / 1_000_000;
        let rate = Self { bytes: bytes.try_into().ok()?, interval: micros.try_into().ok()? };
        Some(rate).filter(|rate| rate.bytes > 0)
    }
}

/// A number with one of these units behind it, or of another without.
fn times(text: &str, units: &[(&str, u64)], plain: u64) -> Option<u64> {
    let with = units.iter().find_map(|&(unit, value)| Some((text.strip_suffix(unit)?, value)));
    let (number, unit) = with.unwrap_or((text, plain));
    let is_number = !number.is_empty() && number.bytes().all(|it| it.is_ascii_digit());
    number.parse::<u64>().ok().filter(|_| is_number)?.checked_mul(unit)
}

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
                Some(("rate", value)) => {
                    vif.rate = Some(Rate::parse(value).ok_or_else(|| wrong(RATE))?);
                }
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

#[cfg(test)]
mod tests {
    use super::Rate;

    #[test]
    fn rates_are_as_of_xl() {
        let rate = |bytes, interval| Some(Rate { bytes, interval });
        for (text, expected) in [
            ("10Mb/s", rate(62_500, 50_000)),
            ("250KB/s", rate(12_500, 50_000)),
            ("1MB/s@20ms", rate(20_000, 20_000)),
            ("1GB/s", rate(50_000_000, 50_000)),
            ("8000b/s@1s", rate(1000, 1_000_000)),
            ("100B/s@2", rate(200, 2_000_000)),
            ("1MB/s@500us", rate(500, 500)),
            ("1MB/s@500u", rate(500, 500)),
        ] {
            assert_eq!(Rate::parse(text), expected, "{text}");
        }
        for text in [
            "",
            "10",
            "10Mb",
            "10/s",
            "Mb/s",
            "10mb/s",
            "-1B/s",
            "+1B/s",
            "1.5MB/s",
            "0B/s",
            "1B/s",
            "1MB/s@",
            "1MB/s@0ms",
            "1MB/s@1min",
            "1MB/s@x",
            "9999999999GB/s",
            "1000GB/s@1s",
            "1MB/s@9999999s",
            "1MB/s@1ms@1ms",
        ] {
            assert_eq!(Rate::parse(text), None, "{text}");
        }
    }
}
