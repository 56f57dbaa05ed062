//! Serves pages over HTTP.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec;
use core::error::Error;

use pv_guest_sdk::grant::Grants;
use pv_guest_sdk::net::{Address, Card, Options, Port, Stack, smoltcp::iface::SocketSet};
use pv_guest_sdk::paging::Memory;
use pv_guest_sdk::task::{Executor, block_on};
use pv_guest_sdk::vcpu::Vcpu;
use pv_guest_sdk::xenbus::Device;
use pv_guest_sdk::{BootInfo, entry, println, xenstore};

pv_guest_sdk::heap!();
entry!(main);

fn main(boot: &BootInfo<'static>) -> Result<(), Box<dyn Error>> {
    let vcpu = Vcpu::start(boot)?;
    Memory::start(boot)?;
    vcpu.start_events()?;
    let grants = Grants::start(1)?;
    let store = xenstore::connect(boot)?;
    let device = block_on(Device::find(store, "vif", 0))?;
    let card = block_on(Card::open(device, grants, Options::default()))?;
    println!("{:?}", card.info());
    let (mut a, mut b) = (vec![0; 65536], vec![0; 65536]);
    let stack = Stack::new(Port::new(card, &mut a, &mut b), SocketSet::new(vec![]), Address::Dhcp);
    let executor = Executor::<Box<dyn Future<Output = ()>>>::default();
    let _ = executor.spawn(Box::pin(async { println!("{}", stack.run().await) }));
    let _ = executor.spawn(Box::pin(async {
        println!("address {}", stack.configured().await);
        println!("{:?}", stack.counts());
    }));
    executor.run();
    Ok(())
}
