//! The hypervisor's console: `print!`, `println!`, and the calls below them.
//!
//! It is shared with the hypervisor and every other domain, so each line goes out in one call
//! wherever it fits ([`crate::line`]).

use core::fmt::{self, Write};

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
