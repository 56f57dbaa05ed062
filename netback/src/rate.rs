//! How fast a front end may send.

/// So many bytes in each interval.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Rate {
    /// From 1 on.
    bytes: u32,
    /// From 1 on. Unit: microseconds.
    interval: u32,
}

impl Rate {
    /// What the toolstack writes: bytes, a comma, microseconds. `None` is no limit: so is what can't be
    /// read, or 0.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (bytes, interval) = text.split_once(',')?;
        let (bytes, interval) = (bytes.parse().ok()?, interval.parse().ok()?);
        Some(Self { bytes, interval }).filter(|it| it.bytes > 0 && it.interval > 0)
    }
}

/// What may be sent by now. A packet is sent if anything is left, and may leave a debt: so one that is
/// larger than what an interval brings is sent too, and in the long run no more than the rate.
#[derive(Debug)]
pub(crate) struct Credit {
    pub(crate) rate: Rate,
    /// Unit: bytes.
    left: i64,
    /// When there will be more. Unit: nanoseconds.
    next: u64,
}

impl Credit {
    /// That of one interval.
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, left: rate.bytes.into(), next: 0 }
    }

    /// What may be sent at a time, in bytes, or when there will be something. What is not used within
    /// an interval is lost.
    pub(crate) fn left(&mut self, now: u64) -> Result<usize, u64> {
        let interval = 1000 * u64::from(self.rate.interval);
        if let Some(late) = now.checked_sub(self.next) {
            let intervals = i64::try_from(late / interval).unwrap_or(i64::MAX).saturating_add(1);
            let (most, more) = (i64::from(self.rate.bytes), i64::from(self.rate.bytes));
            self.left = more.saturating_mul(intervals).saturating_add(self.left).min(most);
            self.next = now.saturating_add(interval - late % interval);
        }
        usize::try_from(self.left).ok().filter(|&left| left > 0).ok_or(self.next)
    }

    /// So many bytes are sent.
    pub(crate) fn spend(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::{Credit, Rate};

    #[test]
    fn a_rate_is_two_numbers() {
        assert_eq!(Rate::parse("62500,50000"), Some(Rate { bytes: 62_500, interval: 50_000 }));
        for text in ["", "5", "0,5", "5,0", "5,", ",5", "5,x", "5,5,5", "-1,5", "4294967296,5"] {
            assert_eq!(Rate::parse(text), None, "{text}");
        }
    }

    #[test]
    fn in_the_long_run_the_rate_holds_whatever_packets_are() {
        for packet in [60, 1514, 9000, 65_535] {
            let mut credit = Credit::new(Rate { bytes: 10_000, interval: 1000 });
            let (mut sent, mut now) = (0, 5_000_000);
            while now < 1_005_000_000 {
                match credit.left(now) {
                    Ok(_) => {
                        credit.spend(packet);
                        sent += packet;
                        now += 100;
                    }
                    Err(next) => {
                        assert!(next > now && next <= now + 1_000_000);
                        now = next;
                    }
                }
            }
            assert!(sent.abs_diff(10_000_000) <= 10_000 + packet, "{packet}: {sent}");
        }
    }

    #[test]
    fn a_rest_brings_one_interval_and_no_more() {
        let mut credit = Credit::new(Rate { bytes: 1000, interval: 1000 });
        assert_eq!(credit.left(0), Ok(1000));
        credit.spend(1600);
        assert_eq!(credit.left(999_999), Err(1_000_000));
        assert_eq!(credit.left(1_000_000), Ok(400));
        credit.spend(400);
        assert_eq!(credit.left(1_000_000), Err(2_000_000));
        assert_eq!(credit.left(u64::MAX), Ok(1000));
    }
}
