//! Sizes and amounts of memory as Xen writes them.

/// An amount of memory for a domain: a size, a share of all memory, or both added.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Amount {
    /// Bytes.
    pub bytes: u64,
    /// Percent of all memory.
    pub percent: u32,
    /// Whether it is what the kernel keeps, and the domain gets the rest: a minus sign before it.
    pub is_rest: bool,
}

impl Amount {
    /// Reads `[-]<size>`, `<number>%` or `<size>+<number>%`.
    pub fn parse(text: &str) -> Option<Self> {
        let (is_rest, text) = match text.strip_prefix('-') {
            Some(text) => (true, text),
            None => (false, text),
        };
        let percent = |text: &str| {
            let number = text.strip_suffix('%')?.parse().ok()?;
            (number <= 100).then_some(number)
        };
        let (bytes, percent) = match text.split_once('+') {
            Some((size, share)) => (parse_size(size)?, percent(share)?),
            None if text.ends_with('%') => (0, percent(text)?),
            None => (parse_size(text)?, 0),
        };
        Some(Self { bytes, percent, is_rest })
    }

    /// The amount in bytes where there are `total` bytes to share.
    pub fn of(&self, total: u64) -> u64 {
        // In 128 bits a share of any u64 fits; the result is at most `total`.
        let share = u128::from(total).saturating_mul(u128::from(self.percent)) / 100;
        let amount = self.bytes.saturating_add(u64::try_from(share).unwrap_or(total));
        if self.is_rest { total.saturating_sub(amount) } else { amount }
    }
}

/// Reads a size in bytes: a number and one of B, K, M, G, T in either case; without a unit, KiB.
pub fn parse_size(text: &str) -> Option<u64> {
    let units: [(&[char], u32); 5] = [
        (&['b', 'B'], 0),
        (&['k', 'K'], 10),
        (&['m', 'M'], 20),
        (&['g', 'G'], 30),
        (&['t', 'T'], 40),
    ];
    // In a hexadecimal number a final B is a digit, as it is to Xen.
    let is_digit = |unit: &[char]| unit.contains(&'b') && text.starts_with("0x");
    for (unit, shift) in units {
        if let Some(digits) = text.strip_suffix(unit).filter(|_| !is_digit(unit)) {
            return number(digits)?.checked_mul(1 << shift);
        }
    }
    number(text)?.checked_mul(1 << 10)
}

/// Reads a number as C does: hexadecimal after `0x`, octal after `0`, otherwise decimal.
pub(super) fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    // `from_str_radix` would accept a sign.
    let plain = digits.chars().all(|digit| digit.is_digit(radix));
    if plain { u64::from_str_radix(digits, radix).ok() } else { None }
}
