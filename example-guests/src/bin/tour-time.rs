//! Time, once: the clock, timers, tasks that sleep and signal each other. It ends well if all of it
//! went as expected.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::{boxed::Box, format};
use core::cell::Cell;
use core::future::{Future, poll_fn};
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use core::{error::Error, fmt::Debug, pin::Pin, pin::pin, task::Poll};

use pv_guest_sdk::abi::types::VcpuId;
use pv_guest_sdk::event::Channel;
use pv_guest_sdk::paging::Memory;
use pv_guest_sdk::task::{Executor, block_on};
use pv_guest_sdk::time::{Duration, Instant, sleep, wall_clock};
use pv_guest_sdk::{BootInfo, Machine, entry, println, vary, vcpu::Vcpu, wait};

entry!(main);
pv_guest_sdk::heap!();

type Outcome = Result<(), Box<dyn Error>>;
type Task = Box<dyn Future<Output = ()>>;

fn main(boot: &BootInfo<'static>) -> Outcome {
    let vcpu = Vcpu::start(boot)?;
    Memory::start(boot)?;
    vcpu.start_events()?;
    time(vcpu)?;
    tasks()?;
    boxed_tasks()
}

fn check<T: Debug + PartialEq>(what: &str, got: T, wanted: T) -> Outcome {
    println!("{what}: {got:?}");
    if got == wanted { Ok(()) } else { Err(format!("{what} should be {wanted:?}").into()) }
}

fn time(vcpu: &Vcpu) -> Outcome {
    let start = Instant::now();
    let mut last = start;
    let forward = (0..10_000).all(|_| {
        let before = core::mem::replace(&mut last, Instant::now());
        before <= last
    });
    check("the clock never went back", forward, true)?;
    let duration = Duration::from_millis(30);
    block_on(sleep(duration));
    let slept = start.elapsed();
    let mut forever = pin!(sleep(Duration::MAX));
    let waits = poll_fn(|context| Poll::Ready(forever.as_mut().poll(context).is_pending()));
    check("waits for ever", block_on(waits), true)?;
    check("slept at least", slept >= duration, true)?;
    println!(
        "slept {}, at {}",
        vary!("slept", "{:?}", slept),
        vary!("since-1970", "{:?}", wall_clock())
    );
    let now = Instant::now();
    wait::poll(&Machine, &[], Some(now + duration))?;
    check("polled at least", now.elapsed() >= duration, true)?;
    let state = vcpu.runstate();
    check("blocked meanwhile", state.blocked >= duration, true)
}

fn tasks() -> Outcome {
    let (ping, pong) = (Channel::ipi(VcpuId(0))?, Channel::ipi(VcpuId(0))?);
    let (turns, sleepers) = (Cell::new(0_u64), Cell::new(0_u64));
    let note = |list: &Cell<u64>, digit: u64| list.set(list.get() * 10 + digit);
    let (ping, pong, note, turns, sleepers) = (&ping, &pong, &note, &turns, &sleepers);
    let one = pin!(async {
        for _ in 0..3 {
            let _open = ping.send();
            pong.notified().await;
            note(turns, 1);
        }
    });
    let two = pin!(async {
        for _ in 0..3 {
            ping.notified().await;
            note(turns, 2);
            let _open = pong.send();
        }
    });
    let early = pin!(async {
        sleep(Duration::from_millis(10)).await;
        note(sleepers, 3);
    });
    let late = pin!(async {
        sleep(Duration::from_millis(20)).await;
        note(sleepers, 4);
    });
    let executor = Executor::default();
    let all: [Pin<&mut dyn Future<Output = ()>>; 4] = [one, two, early, late];
    all.into_iter().try_for_each(|task| executor.spawn(task)).map_err(|_| "no room")?;
    executor.run();
    check("the order of four tasks", (turns.get(), sleepers.get()), (212_121, 34))
}

fn boxed_tasks() -> Outcome {
    static DONE: AtomicU32 = AtomicU32::new(0);
    // Tasks that spawn tasks need an executor that outlives them.
    let executor: &'static Executor<Task> = Box::leak(Box::default());
    for number in 1..=100 {
        let inner = async move {
            sleep(Duration::from_micros(100 * u64::from(number % 7))).await;
            DONE.fetch_add(number, SeqCst);
        };
        let outer = async move {
            let _room = executor.spawn(Box::pin(inner));
        };
        executor.spawn(Box::pin(outer)).map_err(|_| "no room")?;
    }
    executor.run();
    check("tasks spawned by tasks, sum", DONE.load(SeqCst), 5050)
}
