//! What a refused hypercall says: which call, with what arguments, and what the refusal means
//! there.

use core::fmt;

use hypercall_abi::call::{Hypercall, SubOp};
use hypercall_abi::errno::Errno;

use crate::raw::gate::{Gate, Request};

/// One place where the SDK makes a hypercall, with what its refusals mean in this place.
///
/// # Examples
///
/// ```ignore-none
/// # use pv_guest_sdk::{abi::{call::Hypercall, errno::Errno, sched}, error::Site};
/// const STACK: Site = Site::call(Hypercall::StackSwitch, &[(Errno::EPERM, "no stack there")]);
/// const PIN: Site = Site::operation(Hypercall::SchedOp, sched::OPS, sched::POLL, &[]);
/// ```
#[derive(Debug, Eq, PartialEq)]
pub struct Site {
    call: Hypercall,
    operation: &'static str,
    causes: &'static [(Errno, &'static str)],
}

impl Site {
    /// A call without sub-operations. Errors that `causes` does not name keep their general
    /// meaning.
    #[must_use]
    pub const fn call(call: Hypercall, causes: &'static [(Errno, &'static str)]) -> Self {
        Self { call, operation: "", causes }
    }

    /// A sub-operation of a call; `operations` is the ABI's table that its number is from.
    ///
    /// # Panics
    /// If the table has no such number. A place is a `static`, so that is an error at compile time.
    #[must_use]
    #[expect(clippy::panic, reason = "evaluated by the compiler")]
    pub const fn operation(
        call: Hypercall,
        operations: &'static [SubOp],
        number: u32,
        causes: &'static [(Errno, &'static str)],
    ) -> Self {
        let mut rest = operations;
        while let [row, others @ ..] = rest {
            if row.number == number {
                return Self { call, operation: row.name, causes };
            }
            rest = others;
        }
        panic!("the ABI has no such sub-operation")
    }
}

/// A hypercall that the hypervisor refused.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, abi::errno::Errno, println};
/// # fn example(error: &HypercallError) {
/// match error.errno() {
///     Some(Errno::ENOMEM) => println!("there is no memory for it"),
///     _ => println!("{}: {}", error.name(), error.meaning()),
/// }
/// println!("{:?} {} {:x?}: {}", error.call(), error.operation(), error.args(), error.answer());
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HypercallError {
    site: &'static Site,
    args: [u64; 6],
    answer: i64,
}

impl HypercallError {
    /// Which hypercall.
    #[must_use]
    pub const fn call(&self) -> Hypercall {
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

    /// What the hypervisor answered: a negative number.
    #[must_use]
    pub const fn answer(&self) -> i64 {
        self.answer
    }

    /// The error, if the ABI names this number.
    #[must_use]
    pub const fn errno(&self) -> Option<Errno> {
        Errno::from_raw(self.answer)
    }

    /// The error's name, for example `ENOSYS`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.errno().map_or("E?", Errno::name)
    }

    /// What the error means in this place.
    #[must_use]
    pub fn meaning(&self) -> &'static str {
        let Some(errno) = self.errno() else {
            return "an error the ABI does not name";
        };
        let here = self.site.causes.iter().find(|&&(cause, _)| cause == errno);
        here.map_or_else(|| errno.meaning(), |&(_, meaning)| meaning)
    }
}

impl fmt::Display for HypercallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.site.call.name())?;
        if !self.site.operation.is_empty() {
            write!(f, " {}", self.site.operation)?;
        }
        let used = self.args.iter().rposition(|&arg| arg != 0).map_or(0, |last| last + 1);
        f.write_str("(")?;
        for (index, arg) in self.args.iter().take(used).enumerate() {
            write!(f, "{}{arg:#x}", if index == 0 { "" } else { ", " })?;
        }
        write!(f, ") = {} ({}): {}", self.answer, self.name(), self.meaning())
    }
}

impl core::error::Error for HypercallError {}

/// Makes a hypercall and sorts its answer: negative values are errors.
///
/// # Errors
/// [`HypercallError`] for a negative answer.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, abi::call::Hypercall, error::{Site, perform}, raw::request};
/// # fn example() -> Result<(), HypercallError> {
/// const VERSION: Site = Site::call(Hypercall::XenVersion, &[]);
/// let answer = perform(&Machine, &VERSION, &request::version())?;
/// # Ok(())
/// # }
/// ```
pub fn perform(
    gate: &impl Gate,
    site: &'static Site,
    request: &Request<'_>,
) -> Result<u64, HypercallError> {
    let answer = gate.call(request);
    u64::try_from(answer).map_err(|_| HypercallError { site, args: request.args(), answer })
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use hypercall_abi::call::Hypercall;
    use hypercall_abi::console;
    use hypercall_abi::errno::Errno;

    use super::{Site, perform};
    use crate::raw::gate::{CpuidAnswer, Gate, Machine, Request};
    use crate::raw::request::{console_write, yield_now};

    static SITE: Site = Site::operation(
        Hypercall::ConsoleIo,
        console::OPS,
        console::WRITE,
        &[(Errno::EPERM, "not for this domain")],
    );
    static PLAIN: Site = Site::call(Hypercall::SchedOp, &[]);

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
        assert_eq!(perform(&Answer(i64::MAX), &PLAIN, &yield_now()), Ok(i64::MAX.unsigned_abs()));
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
        assert_eq!((error.operation(), error.errno()), ("write", Some(Errno::EPERM)));
    }

    #[test]
    fn other_errors_keep_their_general_meaning() {
        let error = perform(&Machine, &PLAIN, &yield_now()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "sched_op() = -38 (ENOSYS): No such call, or not in this build."
        );
        let error = perform(&Answer(i64::MIN), &PLAIN, &yield_now()).unwrap_err();
        assert_eq!((error.answer(), error.errno(), error.name()), (i64::MIN, None, "E?"));
    }
}
