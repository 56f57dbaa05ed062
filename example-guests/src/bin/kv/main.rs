//! Keeps keys and values on its first disk, for clients on port 6379, which speak Redis' protocol or
//! type lines: `SET key value`, `GET key`, `DEL key ..`, `EXISTS key ..`, `COUNT`, `STATS`, `SYNC`,
//! `COMPACT`, `PING`, `QUIT`, `SHUTDOWN`.
//!
//! What it has acknowledged is on the disk whatever happens then: see the crate `kv-store`. One flush
//! acknowledges all changes that wait. A disk gets a store if it begins with zeros, or with the word
//! `format` on the command line, which loses what is there. The address is DHCP's, or
//! `ip=A.B.C.D/N gw=A.B.C.D`.
//!
//! The word `noflush` is for a test that must find what it does: nothing is flushed, and what was
//! acknowledged is lost when power fails.
#![no_std]
#![no_main]

extern crate alloc;

mod disk;
mod group;
#[path = "../../network.rs"]
mod network;
mod session;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;
use core::future::poll_fn;
use core::task::{Poll, Waker};

use disk::Flushes;
use kv_store::{Format, Options, Store};
use network::{Outcome, Stack, stack};
use pv_guest_sdk::raw::registers::counter;
use pv_guest_sdk::shutdown::{Reason, shutdown};
use pv_guest_sdk::start::Start;
use pv_guest_sdk::task::{Executor, block_on};
use pv_guest_sdk::time::{Instant, wall_clock};
use pv_guest_sdk::vcpu::Vcpu;
use pv_guest_sdk::{BootInfo, block, entry, println, vary};

pv_guest_sdk::heap!();
entry!(main);

/// Connections at a time, with those that wait for their turn.
const CONNECTIONS: usize = 24;

/// What all connections use.
struct Server<'s> {
    stack: &'s Stack,
    vcpu: &'static Vcpu,
    group: group::Group<disk::Sectors>,
    start: Instant,
    requests: Cell<u64>,
    connections: Cell<u64>,
    /// Somebody has asked it to end, and who waits for that.
    ending: Cell<bool>,
    waiting: Cell<Option<Waker>>,
}

fn main(boot: &BootInfo<'static>) -> Outcome {
    let start = Start::new(boot, 2)?;
    let store = open(boot, &start)?;
    let stack = stack(&start, boot, CONNECTIONS + 2)?;
    let server = Server {
        stack: &stack,
        vcpu: start.vcpu,
        group: group::Group::new(store),
        start: Instant::now(),
        requests: Cell::new(0),
        connections: Cell::new(0),
        ending: Cell::new(false),
        waiting: Cell::new(None),
    };
    let server = &server;
    let executor = Box::new(Executor::<Box<dyn Future<Output = ()> + '_>>::default());
    let mut tasks: Vec<Box<dyn Future<Output = ()> + '_>> = Vec::new();
    tasks.push(Box::new(async {
        println!("{}", server.stack.run().await);
        shutdown(Reason::Crash);
    }));
    tasks.push(Box::new(async {
        println!("{}", server.group.run().await);
    }));
    tasks.push(Box::new(async {
        let address = server.stack.configured().await;
        println!("serving at {}", vary!("address", address));
    }));
    tasks.push(Box::new(async move {
        let told = start.told_to_end().await;
        server.end(told.unwrap_or(Reason::Crash));
    }));
    tasks.push(Box::new(async {
        server.told().await;
        server.end(Reason::Poweroff);
    }));
    for _ in 0..CONNECTIONS {
        tasks.push(Box::new(session::serve(server)));
    }
    for task in tasks {
        executor.spawn(Box::into_pin(task)).map_err(|_| "too many tasks")?;
    }
    executor.run();
    Ok(())
}

/// The store on the first disk.
#[inline(never)]
fn open(boot: &BootInfo<'static>, start: &Start) -> Outcome<Store<disk::Sectors>> {
    let is = |wanted| boot.arguments().any(|word| word == wanted);
    let device = start.first("vbd")?;
    let disk = Box::pin(block::Disk::open(device, start.grants, block::Options::default()));
    let disk = block_on(disk)?;
    let info = disk.info();
    println!("disk of {} sectors, {} bytes each", info.sectors, info.sector_size);
    if !info.flush {
        println!("it keeps nothing back that would have to be flushed");
    }
    let flushes = if is("noflush") { Flushes::Never } else { Flushes::Always };
    if flushes == Flushes::Never {
        println!("WITHOUT FLUSHES: what is acknowledged is lost when power fails");
    }
    let options = Options {
        format: if is("format") { Format::Always } else { Format::Blank },
        salt: counter() ^ u64::from(wall_clock().subsec_nanos()) << 32 ^ wall_clock().as_secs(),
        // What is not the keys' is left for connections and what is under way.
        memory: usize::try_from(boot.pages())? * 4096 / 4,
    };
    let opened = block_on(Box::pin(Store::open(disk::Sectors { disk, flushes }, options)));
    let (store, found) = opened?;
    if found.formatted {
        println!("a fresh store");
    } else {
        println!("{} keys, of {} records in {} bytes", found.keys, found.records, found.bytes);
    }
    if found.torn != 0 {
        println!("dropped a record of {} bytes that was not complete", found.torn);
    }
    if found.unfinished {
        println!("dropped a generation that was not complete");
    }
    Ok(store)
}

impl Server<'_> {
    /// Has the domain end soon.
    fn tell(&self) {
        self.ending.set(true);
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    /// Waits until [`Server::tell`] was called.
    async fn told(&self) {
        poll_fn(|context| {
            self.waiting.set(Some(context.waker().clone()));
            if self.ending.get() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Ends the domain. What is not acknowledged yet may be lost.
    fn end(&self, reason: Reason) {
        println!("{} requests", vary!("count", self.requests.get()));
        shutdown(reason);
    }

    fn statistics(&self) -> String {
        let store = self.group.store().counts();
        let (card, _) = self.stack.counts();
        format!(
            "uptime: {:?}\r\nconnections: {}\r\nrequests: {}\r\nkeys: {}\r\nbytes: {}\r\n\
             commits: {}\r\nchanges: {}\r\ncompactions: {}\r\ngeneration: {}\r\n\
             log: {} of {} bytes\r\nreceived: {} packets\r\nsent: {} packets\r\nran: {:?}\r\n",
            self.start.elapsed(),
            self.connections.get(),
            self.requests.get(),
            store.keys,
            store.bytes,
            store.commits,
            self.group.changes(),
            store.compactions,
            store.generation,
            store.log,
            store.area,
            card.received,
            card.sent,
            self.vcpu.runstate().running,
        )
    }
}
