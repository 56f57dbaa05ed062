//! CPUs and controllers at work on few units at once, in many orders: another one may act before each
//! access to what they share, and waits for a queue's lock are real.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::vec::Vec;

use shuttle::sync::atomic::AtomicBool as Between;
use shuttle::sync::{Condvar as Wait, Mutex as Gate};
use shuttle::thread;

use crate::cpu::{CpuId, CpuSet};
use crate::fake::Machine;
use crate::sched::unit::Presence;
use crate::sched::{Choice, Poke, Reasons, Scheduler, Scheduling, Share, Unit};

/// What the threads of one execution share with the code under test.
struct Execution {
    between: Between,
    locked: Gate<[bool; CPUS]>,
    unlocked: Wait,
}

std::thread_local! {
    /// All threads of an execution run on the one that started it.
    static EXECUTION: RefCell<Option<Arc<Execution>>> = const { RefCell::new(None) };
}

fn execution() -> Option<Arc<Execution>> {
    EXECUTION.with_borrow(Clone::clone)
}

/// Another CPU may act now.
pub(in crate::sched) fn point() {
    if let Some(execution) = execution() {
        let _ = execution.between.load(Ordering::SeqCst);
    }
}

/// The right to the lock of a queue: who has it finds the lock open.
pub(in crate::sched) struct Turn(Arc<Execution>, usize);

/// Waits for the right to the lock of a CPU's queue.
pub(in crate::sched) fn turn(cpu: CpuId) -> Option<Turn> {
    let execution = execution()?;
    let cpu = usize::from(cpu.number());
    let mut locked = execution.locked.lock().unwrap();
    while locked[cpu] {
        locked = execution.unlocked.wait(locked).unwrap();
    }
    locked[cpu] = true;
    drop(locked);
    Some(Turn(execution, cpu))
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.locked.lock().unwrap()[self.1] = false;
        self.0.unlocked.notify_all();
    }
}

const CPUS: usize = 2;
const UNITS: usize = 2;

struct Virtual {
    record: Scheduling,
    share: Share,
    /// On how many CPUs its registers are. Not more than one, ever.
    loaded: AtomicU32,
    /// What it waits for has come.
    event: AtomicBool,
}

impl Unit for Arc<Virtual> {
    fn scheduling(&self) -> &Scheduling {
        &self.record
    }

    fn share(&self) -> &Share {
        &self.share
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(self, other)
    }
}

/// A step of a CPU or of a controller. Each CPU belongs to one thread.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// The CPU looks at its queue.
    Ask(usize),
    /// What the CPU runs, if anything, yields.
    Yield(usize),
    /// What the CPU runs, if anything, waits for its event.
    Block(usize),
    /// The unit's event comes.
    Event(usize),
    /// Pauses the unit; if it then runs nowhere, it does not until the same thread's next step.
    Pause(usize),
    /// The unit's pause ends.
    Unpause(usize),
    /// The unit may run on these CPUs only.
    Pin(usize, u64),
}

struct World {
    machine: Machine,
    scheduler: Scheduler<Machine, Arc<Virtual>>,
    units: Vec<Arc<Virtual>>,
    current: [Mutex<Option<Arc<Virtual>>>; CPUS],
    poked: AtomicU64,
}

impl World {
    /// All units wait for the first CPU, which runs the first of them.
    fn new() -> Self {
        let unit = || Virtual {
            record: Scheduling::new(Reasons::DOWN, 0),
            share: Share::new(),
            loaded: AtomicU32::new(0),
            event: AtomicBool::new(false),
        };
        let world = Self {
            machine: Machine::new(1, 1),
            scheduler: Scheduler::new(),
            units: (0..UNITS).map(|_| Arc::new(unit())).collect(),
            current: Default::default(),
            poked: AtomicU64::new(0),
        };
        world.scheduler.cpu_online(&world.machine, CpuId::BOOT).unwrap();
        for unit in &world.units {
            world.apply(world.scheduler.wake(&world.machine, unit, Reasons::DOWN, 0));
        }
        world.ask(0);
        world.scheduler.cpu_online(&world.machine, CpuId::new(1).unwrap()).unwrap();
        // Its first look, which it owes itself.
        world.poked.fetch_or(2, Ordering::SeqCst);
        world
    }

    fn apply(&self, poke: Poke) {
        self.poked.fetch_or(poke.cpus().bits(), Ordering::SeqCst);
    }

    fn ask(&self, number: usize) {
        self.poked.fetch_and(!(1 << number), Ordering::SeqCst);
        let cpu = CpuId::new(u8::try_from(number).unwrap()).unwrap();
        let old = self.current[number].lock().unwrap().clone();
        let next = match self.scheduler.choose(&self.machine, cpu, 0, old.as_ref()) {
            Choice::Stay { .. } => return,
            Choice::Switch { next, .. } => Some(next),
            Choice::Idle { .. } => None,
        };
        if let Some(next) = &next {
            assert_eq!(next.loaded.fetch_add(1, Ordering::SeqCst), 0, "it is on two CPUs");
        }
        *self.current[number].lock().unwrap() = next;
        if let Some(old) = old {
            point();
            old.loaded.fetch_sub(1, Ordering::SeqCst);
            self.apply(self.scheduler.put_back(&self.machine, cpu, 0, &old));
        }
    }

    fn act(&self, act: Act) {
        let (machine, scheduler) = (&self.machine, &self.scheduler);
        match act {
            Act::Ask(cpu) => self.ask(cpu),
            Act::Yield(cpu) => {
                let current = self.current[cpu].lock().unwrap().clone();
                current.iter().for_each(|unit| unit.record.yield_turn());
                self.ask(cpu);
            }
            Act::Block(cpu) => {
                let current = self.current[cpu].lock().unwrap().clone();
                if let Some(unit) = current {
                    unit.record.wait(Reasons::WAITING);
                    point();
                    if unit.event.load(Ordering::SeqCst) {
                        self.apply(scheduler.wake(machine, &unit, Reasons::WAITING, 0));
                    }
                    self.ask(cpu);
                }
            }
            Act::Event(unit) => {
                let unit = &self.units[unit];
                point();
                unit.event.store(true, Ordering::SeqCst);
                self.apply(scheduler.wake(machine, unit, Reasons::WAITING, 0));
            }
            Act::Pause(unit) => {
                let unit = &self.units[unit];
                self.apply(scheduler.hold(machine, unit, Reasons::PAUSED, 0));
                if !unit.record.is_on_cpu() {
                    for _ in 0..3 {
                        point();
                        assert_eq!(unit.loaded.load(Ordering::SeqCst), 0, "it runs though paused");
                    }
                }
            }
            Act::Unpause(unit) => {
                let unit = &self.units[unit];
                self.apply(scheduler.wake(machine, unit, Reasons::PAUSED, 0));
            }
            Act::Pin(unit, cpus) => {
                let cpus = CpuSet::from_bits(cpus);
                let poke = scheduler.set_affinity(machine, &self.units[unit], cpus, 0);
                self.apply(poke.unwrap());
            }
        }
    }

    /// CPUs that were poked look until none is; then everybody is where they must be.
    fn settle(&self) {
        for _ in 0..20 {
            let poked = self.poked.load(Ordering::SeqCst);
            (0..CPUS).filter(|cpu| poked & (1 << cpu) != 0).for_each(|cpu| self.ask(cpu));
        }
        assert_eq!(self.poked.load(Ordering::SeqCst), 0, "CPUs poke each other for ever");
        let current = self.current.each_ref().map(|current| current.lock().unwrap().clone());
        for (number, unit) in self.units.iter().enumerate() {
            let place = unit.record.place();
            let on = |at: &usize| current[*at].as_ref().is_some_and(|other| other.is(unit));
            let cpus: Vec<usize> = (0..CPUS).filter(on).collect();
            let allowed = |cpu: usize| unit.record.affinity().bits() & (1 << cpu) != 0;
            match place.presence {
                Presence::Off => assert!(!unit.record.reasons().is_empty(), "{number} is lost"),
                Presence::Running => assert_eq!(cpus, [usize::from(place.cpu.number())]),
                Presence::Queued => {
                    let idle = (0..CPUS).any(|cpu| current[cpu].is_none() && allowed(cpu));
                    assert!(!idle && cpus.is_empty(), "{number} waits though a CPU is idle");
                }
            }
            assert_eq!(place.presence == Presence::Off, !unit.record.reasons().is_empty());
            assert!(cpus.iter().all(|cpu| allowed(*cpu)), "{number} runs where it must not");
            let loaded = usize::try_from(unit.loaded.load(Ordering::SeqCst)).unwrap();
            assert_eq!(loaded, cpus.len());
            if unit.event.load(Ordering::SeqCst) {
                assert!(!unit.record.reasons().contains(Reasons::WAITING), "{number} sleeps on");
            }
        }
    }
}

/// Plays the scripts at once, after `before`.
fn play(before: &[Act], scripts: &'static [&'static [Act]]) {
    EXECUTION.set(None);
    let world = Arc::new(World::new());
    before.iter().for_each(|act| world.act(*act));
    EXECUTION.set(Some(Arc::new(Execution {
        between: Between::new(false),
        locked: Gate::new([false; CPUS]),
        unlocked: Wait::new(),
    })));
    let threads: Vec<_> = scripts
        .iter()
        .map(|script| {
            let world = Arc::clone(&world);
            thread::spawn(move || script.iter().for_each(|act| world.act(*act)))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    EXECUTION.set(None);
    world.settle();
}

/// Orders tried of each kind: at random, at random with few switches, and systematically from the
/// first on.
const ORDERS: usize = 300;

fn all_orders(before: &'static [Act], scripts: &'static [&'static [Act]]) {
    shuttle::check_random(move || play(before, scripts), ORDERS);
    shuttle::check_pct(move || play(before, scripts), ORDERS, 3);
    shuttle::check_dfs(move || play(before, scripts), Some(ORDERS));
}

use Act::{Ask, Block, Event, Pause, Pin, Unpause, Yield};

#[test]
fn wake_against_block() {
    all_orders(&[], &[&[Block(0), Ask(0)], &[Event(0)]]);
    all_orders(&[], &[&[Block(0), Ask(0)], &[Event(0)], &[Ask(1)]]);
}

#[test]
fn wake_against_put_back() {
    all_orders(&[], &[&[Yield(0), Block(0)], &[Event(0), Event(1)], &[Ask(1), Block(1)]]);
    all_orders(&[Pause(1)], &[&[Block(0), Ask(0)], &[Event(0), Unpause(1)], &[Ask(1), Ask(1)]]);
}

#[test]
fn steal_against_wake() {
    all_orders(&[Block(0), Pin(0, 1)], &[&[Ask(1), Block(1)], &[Event(0)], &[Ask(0), Block(0)]]);
    all_orders(&[Block(0)], &[&[Ask(1)], &[Event(0)], &[Block(0)]]);
    all_orders(&[Pause(1)], &[&[Ask(1)], &[Unpause(1)], &[Unpause(1), Ask(0)]]);
}

#[test]
fn affinity_against_steal() {
    all_orders(&[], &[&[Ask(1), Ask(1)], &[Pin(1, 1), Pin(1, 2)], &[Yield(0)]]);
    all_orders(&[], &[&[Ask(1)], &[Pin(0, 2)], &[Pin(1, 2), Pin(0, 1)]]);
    all_orders(&[Block(0)], &[&[Pin(0, 2), Pin(0, 1)], &[Event(0)], &[Ask(1), Ask(1)]]);
}

#[test]
fn pause_against_all() {
    all_orders(&[], &[&[Pause(0), Unpause(0)], &[Ask(0), Yield(0)], &[Ask(1)]]);
    all_orders(&[], &[&[Pause(1), Unpause(1)], &[Yield(0)], &[Ask(1), Yield(1)]]);
    all_orders(&[Block(0)], &[&[Pause(0), Unpause(0)], &[Event(0)], &[Ask(1)]]);
    all_orders(&[], &[&[Pause(0), Unpause(0)], &[Block(0)], &[Event(0), Pin(0, 2)]]);
}
