//! Events and time, once: a channel from its making to its end, the clock, timers, tasks. It ends
//! well if all of it went as expected.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::{boxed::Box, format};
use core::cell::Cell;
use core::future::{Future, poll_fn};
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use core::{error::Error, fmt::Debug, pin::Pin, pin::pin, task::Poll};

use pv_guest_sdk::abi::errno::Errno;
use pv_guest_sdk::abi::types::{DomId, Port, VcpuId};
use pv_guest_sdk::abi::virq;
use pv_guest_sdk::event::{Channel, State, port};
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
    to_itself(vcpu)?;
    masked(vcpu)?;
    between_ports()?;
    refused(vcpu)?;
    time(vcpu)?;
    tasks()?;
    boxed_tasks()
}

fn check<T: Debug + PartialEq>(what: &str, got: T, wanted: T) -> Outcome {
    println!("{what}: {got:?}");
    if got == wanted { Ok(()) } else { Err(format!("{what} should be {wanted:?}").into()) }
}

static HANDLED: AtomicU32 = AtomicU32::new(0);

fn count(_: Port) {
    HANDLED.fetch_add(1, SeqCst);
}

fn to_itself(vcpu: &Vcpu) -> Outcome {
    let channel = Channel::ipi(vcpu.id())?;
    channel.handle(&count);
    channel.send()?;
    check("an event to itself, handled", HANDLED.swap(0, SeqCst), 1)?;
    channel.wait();
    println!("it was remembered for who waits, too");
    vcpu.hold_events(true);
    channel.send()?;
    channel.send()?;
    check("handled while all are held back", HANDLED.swap(0, SeqCst), 0)?;
    vcpu.hold_events(false);
    check("handled afterwards, of two", HANDLED.swap(0, SeqCst), 1)?;
    check("status", channel.status()?.state, State::Ipi)
}

fn masked(vcpu: &Vcpu) -> Outcome {
    let channel = Channel::ipi(vcpu.id())?;
    channel.handle(&count);
    channel.mask();
    channel.send()?;
    check("pending at a masked port", channel.is_pending(), true)?;
    wait::poll(&Machine, &[channel.port()], None)?;
    check("handled until then", HANDLED.swap(0, SeqCst), 0)?;
    channel.unmask()?;
    check("handled when unmasked", HANDLED.swap(0, SeqCst), 1)?;
    channel.mask();
    channel.send()?;
    check("taken by itself", (channel.take_pending(), channel.take_pending()), (true, false))?;
    channel.unmask()?;
    check("handled after that", HANDLED.swap(0, SeqCst), 0)
}

fn between_ports() -> Outcome {
    let one = Channel::unbound(DomId::SELF)?;
    check("unbound", matches!(one.status()?.state, State::Unbound(_)), true)?;
    one.send()?;
    let other = Channel::connect(DomId::SELF, one.port())?;
    let connected = matches!(one.status()?.state, State::Interdomain(_, it) if it == other.port());
    check("connected", connected, true)?;
    other.wait();
    println!("it was signalled when it was connected");
    other.handle(&count);
    one.send()?;
    check("handled at the other end", HANDLED.swap(0, SeqCst), 1)?;
    let closed = other.port();
    drop(other);
    check("status behind a closed port", matches!(one.status()?.state, State::Unbound(_)), true)?;
    check("status of it", port::status(&Machine, closed)?.state, State::Closed)
}

fn refused(vcpu: &Vcpu) -> Outcome {
    let errno = |error: pv_guest_sdk::HypercallError| error.errno();
    let closed = Channel::ipi(vcpu.id())?.port();
    check(
        "send to a closed port",
        port::send(&Machine, closed).map_err(errno),
        Err(Some(Errno::EINVAL)),
    )?;
    let second = Channel::virq(virq::TIMER, vcpu.id()).map(drop);
    check("the timer bound twice", second.map_err(errno), Err(Some(Errno::EEXIST)))?;
    let nobody = Channel::ipi(VcpuId(1 << 20)).map(drop);
    check("a port of no virtual CPU", nobody.map_err(errno), Err(Some(Errno::ENOENT)))
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
