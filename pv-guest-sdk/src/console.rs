//! The hypervisor's console: `print!`, `println!`, and the calls below them.
//!
//! It is shared with the hypervisor and every other domain, so each line goes out in one call
//! wherever it fits ([`crate::line`]).

use core::fmt::{self, Write};

use hypercall_abi::call::Hypercall;
use hypercall_abi::console as abi;
use hypercall_abi::errno::Errno;

use crate::error::{HypercallError, Site, perform};
use crate::line::LineWriter;
use crate::raw::gate::{Gate, Machine};
use crate::raw::request;

/// Writes formatted text to the console of this machine. What [`crate::print!`] expands to.
///
/// A console that refuses is ignored: there is nobody left to tell.
pub fn print(text: fmt::Arguments<'_>) {
    let mut writer = LineWriter::new(|piece| {
        let _ignored = Machine.call(&request::console_write(piece));
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
pub fn write(gate: &impl Gate, bytes: &[u8]) -> Result<(), HypercallError> {
    perform(gate, &WRITE, &request::console_write(bytes)).map(drop)
}

/// Takes what was typed at the hypervisor's console, without waiting. Returns the bytes taken, none
/// if nothing was typed.
///
/// # Errors
/// EPERM (1) if this domain may not use that console.
pub fn read<'a>(gate: &impl Gate, bytes: &'a mut [u8]) -> Result<&'a [u8], HypercallError> {
    let taken = perform(gate, &READ, &request::console_read(bytes))?;
    let taken = usize::try_from(taken).unwrap_or(usize::MAX);
    Ok(bytes.get(..taken).unwrap_or(bytes))
}

/// Prints to the hypervisor's console, with the syntax of [`core::format_args!`].
#[macro_export]
macro_rules! print {
    ($($text:tt)*) => { $crate::console::print(::core::format_args!($($text)*)) };
}

/// Prints a line to the hypervisor's console, with the syntax of [`core::format_args!`].
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($text:tt)*) => {
        $crate::console::print(::core::format_args!("{}\n", ::core::format_args!($($text)*)))
    };
}
