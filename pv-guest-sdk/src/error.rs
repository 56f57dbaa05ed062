//! What a refused hypercall says: which call, with what arguments, and what the refusal means
//! there.

use core::fmt;

use crate::errno;
use crate::raw::gate::{Gate, Request};

/// One place where the SDK makes a hypercall, with what its refusals mean in this place.
#[derive(Debug, Eq, PartialEq)]
pub struct Site {
    /// The hypercall's name.
    pub call: &'static str,
    /// The name of the sub-operation, empty if the call has none.
    pub operation: &'static str,
    /// Error numbers (positive) and what each means here; others get their general meaning.
    pub causes: &'static [(i64, &'static str)],
}

/// A hypercall that the hypervisor refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HypercallError {
    site: &'static Site,
    args: [u64; 6],
    answer: i64,
}

impl HypercallError {
    /// The hypercall's name.
    #[must_use]
    pub const fn call(&self) -> &'static str {
        self.site.call
    }

    /// The name of the sub-operation, empty if the call has none.
    #[must_use]
    pub const fn operation(&self) -> &'static str {
        self.site.operation
    }

    /// The arguments as they were passed.
    #[must_use]
    pub const fn args(&self) -> [u64; 6] {
        self.args
    }

    /// The error number, positive.
    #[must_use]
    pub const fn errno(&self) -> i64 {
        self.answer.saturating_neg()
    }

    /// The error number's name, for example `ENOSYS`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        errno::name(self.errno())
    }

    /// What the error means in this place.
    #[must_use]
    pub fn meaning(&self) -> &'static str {
        let here = self
            .site
            .causes
            .iter()
            .find(|&&(number, _)| number == self.errno());
        here.map_or_else(|| errno::meaning(self.errno()), |&(_, meaning)| meaning)
    }
}

impl fmt::Display for HypercallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.site.call)?;
        if !self.site.operation.is_empty() {
            write!(f, " {}", self.site.operation)?;
        }
        let used = self
            .args
            .iter()
            .rposition(|&arg| arg != 0)
            .map_or(0, |last| last + 1);
        f.write_str("(")?;
        for (index, arg) in self.args.iter().take(used).enumerate() {
            write!(f, "{}{arg:#x}", if index == 0 { "" } else { ", " })?;
        }
        write!(
            f,
            ") = {} ({}): {}",
            self.answer,
            self.name(),
            self.meaning()
        )
    }
}

impl core::error::Error for HypercallError {}

/// Makes a hypercall and sorts its answer: negative values are errors.
///
/// # Errors
/// [`HypercallError`] for a negative answer.
pub fn perform(
    gate: &impl Gate,
    site: &'static Site,
    request: &Request<'_>,
) -> Result<u64, HypercallError> {
    let answer = gate.call(request);
    u64::try_from(answer).map_err(|_| HypercallError {
        site,
        args: request.args(),
        answer,
    })
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::{Site, perform};
    use crate::raw::gate::{CpuidAnswer, Gate, Machine, Request};
    use crate::raw::request::{console_write, yield_now};

    static SITE: Site = Site {
        call: "console_io",
        operation: "write",
        causes: &[(1, "not for this domain")],
    };
    static PLAIN: Site = Site {
        call: "sched_op",
        operation: "",
        causes: &[],
    };

    /// Gives the same answer to everything.
    struct Answer(i64);

    impl Gate for Answer {
        fn call(&self, _request: &Request<'_>) -> i64 {
            self.0
        }

        fn cpuid(&self, _leaf: u32, _subleaf: u32) -> CpuidAnswer {
            [0; 4]
        }
    }

    #[test]
    fn results_are_values_that_are_not_negative() {
        assert_eq!(perform(&Answer(0), &PLAIN, &yield_now()), Ok(0));
        assert_eq!(
            perform(&Answer(i64::MAX), &PLAIN, &yield_now()),
            Ok(i64::MAX.unsigned_abs())
        );
    }

    #[test]
    fn an_error_says_call_arguments_number_and_its_meaning_here() {
        let bytes = [0; 5];
        let error = perform(&Answer(-1), &SITE, &console_write(&bytes)).unwrap_err();
        let address = bytes.as_ptr().addr();
        assert_eq!(
            error.to_string(),
            std::format!(
                "console_io write(0x0, 0x5, {address:#x}) = -1 (EPERM): not for this domain"
            )
        );
        assert_eq!(
            (error.call(), error.operation(), error.errno()),
            ("console_io", "write", 1)
        );
    }

    #[test]
    fn other_errors_keep_their_general_meaning() {
        let error = perform(&Machine, &PLAIN, &yield_now()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "sched_op() = -38 (ENOSYS): the hypervisor does not have this call"
        );
        let error = perform(&Answer(i64::MIN), &PLAIN, &yield_now()).unwrap_err();
        assert_eq!((error.errno(), error.name()), (i64::MAX, "E?"));
    }
}
