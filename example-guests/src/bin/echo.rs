//! Talks to whoever is at its console: says each line again, until the line is `end`; at `flood` it says
//! more than anybody can read.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use pv_guest_sdk::console::ring::{read, write};
use pv_guest_sdk::task::block_on;
use pv_guest_sdk::time::{Duration, sleep};
use pv_guest_sdk::vcpu::Vcpu;
use pv_guest_sdk::{BootInfo, HypercallError, entry};

entry!(main);

/// How often it looks for keys.
const LOOK: Duration = Duration::from_millis(10);

fn main(boot: &BootInfo<'static>) -> Result<(), HypercallError> {
    Vcpu::start(boot)?.start_events()?;
    write(b"echo listens\n");
    let (mut line, mut length) = ([0; 80], 0);
    loop {
        let mut key = [0];
        if read(&mut key) == 0 {
            block_on(sleep(LOOK));
            continue;
        }
        if let (true, Some(place)) = (key != *b"\n", line.get_mut(length)) {
            *place = key[0];
            length += 1;
            continue;
        }
        let said = line.get(..length).unwrap_or_default();
        length = 0;
        match said {
            b"end" => return Ok(()),
            b"flood" => {
                (0..20_000).for_each(|_| write(b"0123456789012345678901234567890123456789\n"))
            }
            _ => {
                write(b"you said: ");
                write(said);
                write(b"\n");
            }
        }
    }
}
