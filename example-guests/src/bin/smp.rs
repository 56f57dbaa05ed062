//! Four virtual CPUs share work, signal each other, sleep, and wait for each other's locks.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::{boxed::Box, format, vec::Vec};
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use core::{error::Error, fmt::Debug, iter::from_fn};

use pv_guest_sdk::abi::types::{DomId, Port, VcpuId};
use pv_guest_sdk::descriptor::{Descriptor, Gdt};
use pv_guest_sdk::event::Channel;
use pv_guest_sdk::lock::{Held, Mutex, Yielding};
use pv_guest_sdk::paging::Memory;
use pv_guest_sdk::raw::privileged::segment_limit;
use pv_guest_sdk::raw::probe::Raise;
use pv_guest_sdk::task::block_on;
use pv_guest_sdk::time::{Duration, Instant, sleep, sleep_until};
use pv_guest_sdk::vcpu::{self, Running, SpawnError, Vcpu};
use pv_guest_sdk::{BootInfo, Machine, entry, println, vary, wait};

entry!(main);
pv_guest_sdk::heap!();

type Outcome = Result<(), Box<dyn Error>>;

const OTHERS: [VcpuId; 3] = [VcpuId(1), VcpuId(2), VcpuId(3)];

fn main(boot: &BootInfo<'static>) -> Outcome {
    let first = Vcpu::start(boot)?;
    Memory::start(boot)?;
    first.start_events()?;
    println!("{} virtual CPUs", vcpu::count(&Machine));
    starting()?;
    shared_work()?;
    signals()?;
    timers()?;
    locks()?;
    clocks()
}

fn check<T: Debug + PartialEq>(what: &str, got: T, wanted: T) -> Outcome {
    println!("{what}: {got:?}");
    if got == wanted { Ok(()) } else { Err(format!("{what} should be {wanted:?}").into()) }
}

/// What each of the others answers.
fn on_others<T: Send + 'static>(
    work: impl Fn() -> T + Clone + Send + 'static,
) -> Result<Vec<T>, SpawnError> {
    let all: Result<Vec<_>, _> = OTHERS.iter().map(|&id| vcpu::spawn(id, work.clone())).collect();
    Ok(all?.into_iter().map(Running::join).collect())
}

fn number() -> u32 {
    Vcpu::current().map_or(u32::MAX, |vcpu| vcpu.id().0)
}

fn starting() -> Outcome {
    check("each is the one it is", on_others(number)?, [1, 2, 3].into())?;
    let busy = vcpu::spawn(VcpuId(1), || block_on(sleep(Duration::from_millis(1))))?;
    check("one that is busy", vcpu::spawn(VcpuId(1), number).err(), Some(SpawnError::Busy))?;
    drop(busy);
    check("the first one", vcpu::spawn(VcpuId(0), number).err(), Some(SpawnError::Busy))?;
    let limits = on_others(|| {
        let _loaded = Gdt::load(&[Descriptor::NULL, Descriptor::data(0, 100 + number())]);
        segment_limit(Gdt::selector(1))
    })?;
    check("limits in their own tables", limits, [101, 102, 103].map(Some).into())?;
    let traps = on_others(|| {
        let (_, seen) = Vcpu::current()?.observe(|| Raise::PageFault.now());
        seen.map(|trap| trap.vector.number())
    })?;
    check("traps of their own", traps, [Some(14); 3].into())
}

/// How many numbers below `limit` are prime, taken from a counter that all share.
fn primes(next: &AtomicU32, limit: u32) -> usize {
    let numbers = from_fn(|| {
        wait::yield_now();
        Some(next.fetch_add(1, SeqCst)).filter(|&number| number < limit)
    });
    let prime = |&n: &u32| n > 1 && (2..n).take_while(|d| d * d <= n).all(|d| n % d != 0);
    numbers.filter(prime).count()
}

fn shared_work() -> Outcome {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let work = || primes(&NEXT, 2_000);
    let all: Result<Vec<_>, _> = OTHERS.iter().map(|&id| vcpu::spawn(id, work)).collect();
    let own = work();
    let found: Vec<usize> = all?.into_iter().map(Running::join).chain([own]).collect();
    println!("found by each: {}", vary!("each", "{:?}", found));
    check("primes below 2000", found.iter().sum(), 303)
}

static SIGNALS: [AtomicU32; 4] = [const { AtomicU32::new(0) }; 4];

/// Counts an event, for the virtual CPU on which the handler runs.
fn signalled(_: Port) {
    SIGNALS[number() as usize].fetch_add(1, SeqCst);
}

fn signals() -> Outcome {
    static FINISHED: AtomicUsize = AtomicUsize::new(0);
    let channels = (0..4).map(|id| Channel::ipi(VcpuId(id))).collect::<Result<Vec<_>, _>>()?;
    let channels: &[Channel] = channels.leak();
    channels.iter().for_each(|channel| channel.handle(&signalled));
    on_others(move || {
        for (id, channel) in channels.iter().enumerate() {
            let before = SIGNALS[id].load(SeqCst);
            let _open = channel.send();
            // Two at once would be one event.
            while SIGNALS[id].load(SeqCst) == before {
                wait::yield_now();
            }
        }
        // One that is down hears nothing, so none ends before the others.
        FINISHED.fetch_add(1, SeqCst);
        while FINISHED.load(SeqCst) < OTHERS.len() {
            wait::yield_now();
        }
    })?;
    check("all were signalled", SIGNALS.iter().all(|count| count.load(SeqCst) > 0), true)?;
    let moved: &Channel = Box::leak(Box::new(Channel::unbound(DomId::SELF)?));
    let end = Channel::connect(DomId::SELF, moved.port())?;
    moved.bind_vcpu(VcpuId(2))?;
    let waits = vcpu::spawn(VcpuId(3), || moved.wait())?;
    end.send()?;
    // Its event reaches one virtual CPU, and wakes what waits on another.
    drop((vcpu::spawn(VcpuId(2), || block_on(sleep(Duration::from_millis(1))))?, waits));
    check("notifies", moved.status()?.vcpu, VcpuId(2))
}

fn timers() -> Outcome {
    let late = on_others(|| {
        let wanted = Instant::now() + Duration::from_millis(5 * u64::from(number()));
        block_on(sleep_until(wanted));
        Instant::now() >= wanted
    })?;
    check("slept long enough", late, [true; 3].into())
}

fn locks() -> Outcome {
    static YIELDING: Yielding<u32> = Yielding::new(0);
    static BLOCKING: Mutex<u32> = Mutex::new(0);
    static HELD: Held<u32> = Held::new(0);
    on_others(|| {
        for round in 0..1000 {
            *YIELDING.lock() += 1;
            *HELD.lock() += 1;
            let mut count = BLOCKING.lock();
            if round % 100 == 0 {
                // Others meet a lock that is taken.
                block_on(sleep(Duration::from_micros(50)));
            }
            *count += 1;
        }
    })?;
    check("counted", [*YIELDING.lock(), *BLOCKING.lock(), *HELD.lock()], [3000; 3])
}

fn clocks() -> Outcome {
    static LATEST: AtomicU64 = AtomicU64::new(0);
    let forward = on_others(|| {
        (0..2000).all(|_| {
            let before = LATEST.load(SeqCst);
            let now = Instant::now().nanoseconds();
            LATEST.fetch_max(now, SeqCst);
            now >= before
        })
    })?;
    check("no clock was behind another", forward, [true; 3].into())
}
