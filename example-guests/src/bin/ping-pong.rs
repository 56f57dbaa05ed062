//! Two virtual CPUs play ping-pong with events. With the word `measure` on its command line it says
//! how much of the processor's counter a round trip takes (instructions, where the machine counts
//! these), also for one virtual CPU with itself.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::{boxed::Box, sync::Arc};
use core::error::Error;

use pv_guest_sdk::abi::types::VcpuId;
use pv_guest_sdk::event::Channel;
use pv_guest_sdk::paging::Memory;
use pv_guest_sdk::raw::registers::counter;
use pv_guest_sdk::vcpu::{self, Vcpu};
use pv_guest_sdk::{BootInfo, HypercallError, entry, println, vary};

entry!(main);
pv_guest_sdk::heap!();

fn main(boot: &BootInfo<'static>) -> Result<(), Box<dyn Error>> {
    let vcpu = Vcpu::start(boot)?;
    Memory::start(boot)?;
    vcpu.start_events()?;
    let measure = boot.arguments().any(|word| word == "measure");
    let rounds = if measure { 1000 } else { 5 };
    let table = Arc::new(Table { ping: Channel::ipi(VcpuId(1))?, pong: Channel::ipi(VcpuId(0))? });
    let other = {
        let table = Arc::clone(&table);
        vcpu::spawn(VcpuId(1), move || table.return_all(rounds))?
    };
    // The first round is longer: the other one has to start.
    table.ping.send()?;
    table.pong.wait();
    let start = counter();
    for round in 1..rounds {
        table.ping.send()?;
        table.pong.wait();
        if !measure {
            println!("round {round}: there and back");
        }
    }
    let passed = counter() - start;
    println!("returned: {}", other.join()?);
    if measure {
        println!("between two: {}", vary!("round", passed / u64::from(rounds - 1)));
        let start = counter();
        for _ in 0..rounds {
            table.pong.send()?;
            table.pong.wait();
        }
        println!("to itself: {}", vary!("event", (counter() - start) / u64::from(rounds)));
    }
    Ok(())
}

/// The ports of both sides.
struct Table {
    ping: Channel,
    pong: Channel,
}

impl Table {
    /// Answers every ping.
    fn return_all(&self, rounds: u32) -> Result<u32, HypercallError> {
        for _ in 0..rounds {
            self.ping.wait();
            self.pong.send()?;
        }
        Ok(rounds)
    }
}
