//! How a domain ended.

use core::fmt;

use hypercall_abi::domctl::{DomainFlags, DomainInfo, SHUTDOWN_MASK, SHUTDOWN_SHIFT};
use hypercall_abi::sched;

/// How a domain ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// By itself, with one of `sched::REASONS`.
    Shutdown(u32),
    /// It is being destroyed, by somebody else.
    Dying,
}

impl End {
    /// How it ended, if it has.
    #[must_use]
    pub fn of(info: &DomainInfo) -> Option<Self> {
        let flags = DomainFlags::from_bits_retain(info.flags);
        if flags.contains(DomainFlags::SHUTDOWN) {
            return Some(Self::Shutdown(info.flags >> SHUTDOWN_SHIFT & SHUTDOWN_MASK));
        }
        flags.contains(DomainFlags::DYING).then_some(Self::Dying)
    }

    /// Whether it did what it was to do.
    #[must_use]
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Shutdown(sched::REASON_POWEROFF))
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Shutdown(reason) = self else { return f.write_str("dying") };
        match sched::REASONS.iter().find(|(_, number)| number == reason) {
            Some((name, _)) => f.write_str(name.strip_prefix("SHUTDOWN_").unwrap_or(name)),
            None => write!(f, "reason {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use hypercall_abi::domctl::DomainInfo;

    use super::End;

    fn end(flags: u32) -> Option<End> {
        End::of(&DomainInfo { flags, ..DomainInfo::default() })
    }

    #[test]
    fn the_reason_is_in_the_flags() {
        assert_eq!(end(0x3_0028), None, "no reason counts before the end");
        assert_eq!(end(0x4), Some(End::Shutdown(0)));
        assert_eq!(end(0x3_0005), Some(End::Shutdown(3)));
        assert_eq!(end(0x1), Some(End::Dying));
        assert!(End::Shutdown(0).is_success() && !End::Shutdown(3).is_success());
        assert_eq!(End::Shutdown(0).to_string(), "poweroff");
        assert_eq!(End::Shutdown(3).to_string(), "crash");
        assert_eq!(End::Shutdown(99).to_string(), "reason 99");
    }
}
