//! Talks to whoever is at its console: says each line again, until the line is `end`; at `flood` it says
//! more than anybody can read.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::fmt;

use pv_guest_sdk::console;
use pv_guest_sdk::task::block_on;
use pv_guest_sdk::vcpu::Vcpu;
use pv_guest_sdk::{BootInfo, HypercallError, entry, println};

entry!(main);

/// Why it ends early.
#[derive(Debug)]
enum Failure {
    NoConsole,
    Refused(HypercallError),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoConsole => f.write_str("this domain has no console of its own"),
            Self::Refused(error) => write!(f, "{error}"),
        }
    }
}

impl From<HypercallError> for Failure {
    fn from(error: HypercallError) -> Self {
        Self::Refused(error)
    }
}

fn main(boot: &BootInfo<'static>) -> Result<(), Failure> {
    Vcpu::start(boot)?.start_events()?;
    println!("echo listens");
    let (mut line, mut length) = ([0; 80], 0);
    loop {
        let mut key = [0];
        block_on(console::input(&mut key)).ok_or(Failure::NoConsole)?;
        if let (true, Some(place)) = (!matches!(&key, b"\n" | b"\r"), line.get_mut(length)) {
            *place = key[0];
            length += 1;
            continue;
        }
        let said = line.get(..length).unwrap_or_default();
        length = 0;
        match said {
            // A line's end of two letters, or nothing.
            b"" => {}
            b"end" => return Ok(()),
            b"flood" => {
                (0..20_000).for_each(|_| println!("0123456789012345678901234567890123456789"));
            }
            _ => println!("you said: {}", said.escape_ascii()),
        }
    }
}
