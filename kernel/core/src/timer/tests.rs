//! Timers against a model: events come when they are due and not before, and the hardware is always
//! set for what is due first.

use std::vec::Vec;
use std::{eprintln, vec};

use hypercall_abi::types::VcpuId;
use hypercall_abi::virq;

use super::{NEVER, instant};
use crate::cpu_state::Interrupt;
use crate::event::world::World;
use crate::fake::Machine;
use crate::platform::Platform;
use crate::sched::{Choice, Reasons};
use crate::system::DomainVcpu;

const CPUS: usize = 2;
const VCPUS: u32 = 3;

/// Random numbers, the same each time; a failure shows the seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % end
    }
}

/// What a vCPU's timers are set for, and its port.
struct Model {
    once: u64,
    poll: u64,
    port: hypercall_abi::types::Port,
}

/// The machine, what is expected of it, and the time.
struct Run {
    world: World,
    vcpus: Vec<(DomainVcpu<Machine>, Model)>,
    now: u64,
}

impl Run {
    fn new() -> Self {
        let world = World::new(Machine::new(64, 2), 1, VCPUS);
        world.system.platform.on(1);
        world.system.cpu_online().unwrap();
        world.system.platform.on(0);
        let domain = world.domains[0].clone();
        let vcpus = (0..VCPUS).map(|number| {
            let vcpu = domain.vcpu(VcpuId(number)).unwrap().clone();
            let port = world.system.bind_virq(&domain, virq::TIMER, vcpu.id).unwrap();
            let target = DomainVcpu { domain: domain.clone(), vcpu };
            world.system.set_timers(&target, |timers| timers.set_period(0));
            (target, Model { once: NEVER, poll: NEVER, port })
        });
        let vcpus = vcpus.collect();
        Self { world, vcpus, now: 0 }
    }

    /// One CPU does one thing with one vCPU's timers.
    fn step(&mut self, random: &mut Random) {
        let system = &self.world.system;
        system.platform.on(usize::try_from(random.below(CPUS as u64)).unwrap());
        let which = usize::try_from(random.below(u64::from(VCPUS))).unwrap();
        let (target, model) = &mut self.vcpus[which];
        let time = self.now + random.below(40);
        match random.below(6) {
            0 | 1 => {
                system.set_timers(target, |timers| timers.once = time);
                model.once = time;
            }
            2 => {
                system.set_timers(target, |timers| timers.once = NEVER);
                model.once = NEVER;
            }
            3 => {
                target.vcpu.scheduling.wait(Reasons::WAITING);
                system.set_timers(target, |timers| timers.poll = time);
                model.poll = time;
            }
            _ => self.now += random.below(15),
        }
        self.world.system.platform.advance_to(self.now);
    }

    /// Every CPU whose timer has gone off serves it, as the interrupt makes it do.
    fn serve(&self) {
        let system = &self.world.system;
        for cpu in 0..CPUS {
            system.platform.on(cpu);
            while system.platform.alarm(cpu) <= self.now {
                let here = system.cpus.get(system.platform.cpu()).unwrap();
                here.interrupted(Interrupt::Alarm);
                system.serve_timers(self.now);
                here.arm(system, None);
                if here.timers.first(&system.platform) > self.now {
                    break;
                }
            }
        }
    }

    /// What was due has come, nothing else has, and an alarm is set for what comes next.
    fn check(&mut self) {
        self.serve();
        let system = &self.world.system;
        let first = (0..CPUS).map(|cpu| system.platform.alarm(cpu)).min().unwrap();
        let pending: Vec<bool> = {
            let waits = |(target, model): &(DomainVcpu<Machine>, Model)| {
                self.world.waits(&target.domain, model.port).0
            };
            self.vcpus.iter().map(waits).collect()
        };
        for ((target, model), pending) in self.vcpus.iter_mut().zip(pending) {
            assert_eq!(pending, model.once <= self.now, "timer of {}", model.once);
            if pending {
                self.world.clear(&target.domain, model.port);
                model.once = NEVER;
            }
            let waits = target.vcpu.scheduling.reasons().contains(Reasons::WAITING);
            if model.poll <= self.now {
                assert!(!waits, "the poll ended at {}", model.poll);
                model.poll = NEVER;
            }
            let next = model.once.min(model.poll);
            assert!(first <= next, "nobody wakes up at {next}");
        }
    }
}

#[test]
fn what_is_due_comes_and_nothing_else() {
    for seed in 1..=200 {
        eprintln!("seed {seed}");
        let mut random = Random(seed);
        let mut run = Run::new();
        for _ in 0..300 {
            run.step(&mut random);
            run.check();
        }
    }
}

#[test]
fn a_periodic_timer_goes_on_from_its_last_tick_and_rests_with_its_vcpu() {
    const MS: u64 = 1_000_000;
    let run = Run::new();
    let system = &run.world.system;
    let (target, model) = &run.vcpus[0];
    let ticked = |time: u64| {
        system.platform.advance_to(time);
        system.serve_timers(time);
        let (pending, _) = run.world.waits(&target.domain, model.port);
        run.world.clear(&target.domain, model.port);
        pending
    };
    // It runs, so it is ticked.
    system.apply(system.scheduler.wake(&system.platform, target, Reasons::DOWN, 0));
    let cpu = system.platform.cpu();
    assert!(matches!(
        system.scheduler.choose(&system.platform, cpu, 0, None),
        Choice::Switch { .. }
    ));
    system.set_timers(target, |timers| timers.set_period(2 * MS));
    let ticks = [1, 2, 3, 9, 10, 11].map(|time| ticked(time * MS));
    // One that was missed does not come twice.
    assert_eq!(ticks, [false, true, false, true, false, true]);
    // While it waits there is none, and then one at once.
    target.vcpu.scheduling.wait(Reasons::WAITING);
    let choice = system.scheduler.choose(&system.platform, cpu, 11 * MS, Some(target));
    assert!(matches!(choice, Choice::Idle { .. }));
    system.apply(system.scheduler.put_back(&system.platform, cpu, 11 * MS, target));
    assert_eq!([15, 30].map(|time| ticked(time * MS)), [false, false]);
    system.apply(system.scheduler.wake(&system.platform, target, Reasons::WAITING, 30 * MS));
    let choice = system.scheduler.choose(&system.platform, cpu, 30 * MS, None);
    assert!(matches!(choice, Choice::Switch { .. }));
    system.resume_periodic(target);
    let (pending, _) = run.world.waits(&target.domain, model.port);
    assert!(pending, "the tick that was missed");
}

#[test]
fn times_are_signed() {
    assert_eq!([0, 1, u64::MAX >> 1].map(instant), [0, 1, u64::MAX >> 1]);
    assert_eq!([u64::MAX, 1 << 63].map(instant), [0, 0]);
    assert_eq!(vec![NEVER], [u64::MAX]);
}
