//! Consoles: `print!`, `println!`, and the calls of the hypervisor's console.
//!
//! A domain that is not the initial one has a console of its own: the ring that the start-of-day
//! page names, to which [`print!`](crate::print) goes; see [`ring`]. Without one it goes here, where
//! not every hypervisor lets such a domain write.
//!
//! This console is shared with the hypervisor and every other domain, so each line goes out in one call
//! wherever it fits ([`crate::line`]).

pub mod ring;

use core::fmt::{self, Write};

use hypercall_abi::call::Hypercall;
use hypercall_abi::console as abi;
use hypercall_abi::errno::Errno;
#[cfg(target_os = "none")]
use hypercall_abi::types::VcpuId;

use crate::error::{HypercallError, Site, perform};
#[cfg(target_os = "none")]
use crate::event::{Channel, Signal};
use crate::line::LineWriter;
use crate::raw::gate::{Gate, Machine};
use crate::raw::request;

/// Writes formatted text to this domain's console. What [`crate::print!`] expands to; for the
/// kernel alone.
///
/// A console that refuses is ignored: there is nobody left to tell.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{console};
/// # fn example() {
/// console::print(format_args!("{} beats\n", 3));
/// # }
/// ```
pub fn print(text: fmt::Arguments<'_>) {
    let mut writer = LineWriter::new(|piece| {
        #[cfg(target_os = "none")]
        if crate::raw::console::write(piece) {
            return;
        }
        let _refused = Machine.call(&request::console_write(piece));
    });
    let _cannot_fail = writer.write_fmt(text);
}

const CAUSES: &[(Errno, &str)] =
    &[(Errno::EPERM, "this domain may not use the hypervisor's console")];

static WRITE: Site = Site::operation(Hypercall::ConsoleIo, abi::OPS, abi::WRITE, CAUSES);
static READ: Site = Site::operation(Hypercall::ConsoleIo, abi::OPS, abi::READ, CAUSES);

/// Writes bytes to the hypervisor's console. Returns when all of them are taken.
///
/// # Errors
/// EPERM (1) if this domain may not use that console.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Machine, HypercallError, console};
/// # fn example() -> Result<(), HypercallError> {
/// console::write(&Machine, b"past `println`, at once\n")?;
/// # Ok(())
/// # }
/// ```
pub fn write(gate: &impl Gate, bytes: &[u8]) -> Result<(), HypercallError> {
    perform(gate, &WRITE, &request::console_write(bytes)).map(drop)
}

/// Takes what was typed at the hypervisor's console, without waiting. Returns the bytes taken, none
/// if nothing was typed.
///
/// # Errors
/// EPERM (1) if this domain may not use that console.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Machine, HypercallError, console};
/// # fn example() -> Result<(), HypercallError> {
/// let mut bytes = [0; 64];
/// let typed = console::read(&Machine, &mut bytes)?;
/// console::write(&Machine, typed)?;
/// # Ok(())
/// # }
/// ```
pub fn read<'a>(gate: &impl Gate, bytes: &'a mut [u8]) -> Result<&'a [u8], HypercallError> {
    let taken = perform(gate, &READ, &request::console_read(bytes))?;
    let taken = usize::try_from(taken).unwrap_or(usize::MAX);
    Ok(bytes.get(..taken).unwrap_or(bytes))
}

/// Waits until something is typed at this domain's own console, and returns it: no more than fits,
/// and at least a byte. None if the domain has no such console, or the hypervisor does not know its
/// port. One at a time may wait.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{console, println};
/// # async fn example() {
/// let mut bytes = [0; 80];
/// while let Some(typed) = console::input(&mut bytes).await {
///     println!("you typed {}", typed.escape_ascii());
/// }
/// # }
/// ```
#[cfg(target_os = "none")]
pub async fn input(bytes: &mut [u8]) -> Option<&[u8]> {
    static CHANNEL: spin::Once<Channel> = spin::Once::new();
    let (ring, port) = crate::raw::console::ring()?;
    let channel = CHANNEL.try_call_once(|| Channel::adopt(port, VcpuId(0))).ok()?;
    loop {
        let taken = ring.take_input(bytes);
        if taken > 0 || bytes.is_empty() {
            channel.notify();
            return bytes.get(..taken);
        }
        channel.notified().await;
    }
}

/// Prints to this domain's console, with the syntax of [`core::format_args!`].
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{print};
/// # fn example() {
/// print!("{} pages, ", 42);
/// # }
/// ```
#[macro_export]
macro_rules! print {
    ($($text:tt)*) => { $crate::console::print(::core::format_args!($($text)*)) };
}

/// Prints a line to this domain's console, with the syntax of [`core::format_args!`].
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{println};
/// # fn example() {
/// println!("{} pages", 42);
/// # }
/// ```
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($text:tt)*) => {
        $crate::console::print(::core::format_args!("{}\n", ::core::format_args!($($text)*)))
    };
}

#[cfg(test)]
mod tests {
    use core::cell::RefCell;
    use std::vec::Vec;

    use super::{read, write};
    use crate::raw::gate::{CpuidAnswer, Gate, Request};

    /// Records calls and answers all of them alike.
    struct Recorder {
        answer: i64,
        calls: RefCell<Vec<(u64, [u64; 6])>>,
    }

    impl Recorder {
        const fn new(answer: i64) -> Self {
            Self { answer, calls: RefCell::new(Vec::new()) }
        }
    }

    impl Gate for Recorder {
        fn call(&self, request: &Request<'_>) -> i64 {
            self.calls.borrow_mut().push((request.number(), request.args()));
            self.answer
        }

        fn cpuid(&self, _leaf: u32, _subleaf: u32) -> CpuidAnswer {
            [0; 4]
        }
    }

    #[test]
    fn a_write_passes_length_and_address() {
        let gate = Recorder::new(0);
        let bytes = *b"hello";
        write(&gate, &bytes).unwrap();
        let address = bytes.as_ptr().addr() as u64;
        assert_eq!(*gate.calls.borrow(), [(18, [0, 5, address, 0, 0, 0])]);
    }

    #[test]
    fn a_read_gives_what_was_typed_and_no_more_than_there_is_room_for() {
        let mut bytes = *b"hello";
        let address = bytes.as_ptr().addr() as u64;
        let gate = Recorder::new(2);
        assert_eq!(read(&gate, &mut bytes).unwrap(), b"he");
        assert_eq!(*gate.calls.borrow(), [(18, [1, 5, address, 0, 0, 0])]);
        assert_eq!(read(&Recorder::new(0), &mut bytes).unwrap(), b"");
        assert_eq!(read(&Recorder::new(i64::MAX), &mut bytes).unwrap(), b"hello");
    }

    #[test]
    fn a_refusal_says_what_it_means_for_a_console() {
        let error = write(&Recorder::new(-1), b"").unwrap_err();
        assert_eq!(error.meaning(), "this domain may not use the hypervisor's console");
    }
}
