//! One CPU runs a vCPU that waits, another one wakes it, in every order in which they can come: the
//! real calls on both sides, down to what each leaves in the scheduler.

use std::sync::Arc;

use hypercall_abi::types::{Port, VcpuId};
use hypercall_abi::{sched, vcpu};
use shuttle::scheduler::{DfsScheduler, RandomScheduler};
use shuttle::{Config, MaxSteps, Runner, thread};

use crate::calls::sched::sched_op;
use crate::calls::vcpu::vcpu_op;
use crate::dispatch::{Answer, DONE};
use crate::event::world::World;
use crate::fake::Machine;
use crate::platform::Platform;
use crate::regs::GuestRegs;
use crate::sched::{Choice, Reasons};
use crate::system::{Context, DomainVcpu};

/// Orders tried of each case, at random and systematically from the first on.
const RANDOM: usize = 2000;
const SYSTEMATIC: usize = 1000;

/// A domain whose first vCPU runs on the first of two CPUs, and a port by which it is told.
fn running() -> (World, DomainVcpu<Machine>, Port) {
    let world = World::new(Machine::new(64, 2), 1, 2);
    if let Some(other) = world.domains[0].vcpu(VcpuId(1)) {
        other.set_up(true);
    }
    let system = &world.system;
    system.platform.on(1);
    system.cpu_online().unwrap();
    system.platform.on(0);
    let domain = world.domains[0].clone();
    let port = system.bind_ipi(&domain, VcpuId(0)).unwrap();
    let vcpu = domain.vcpu(VcpuId(0)).unwrap().clone();
    let target = DomainVcpu { domain, vcpu };
    system.wake(&target, Reasons::DOWN);
    let cpu = system.platform.cpu();
    let choice = system.scheduler.choose(&system.platform, cpu, 0, None);
    assert!(matches!(choice, Choice::Switch { .. }));
    (world, target, port)
}

/// The vCPU blocks, as its hypercall and the way out of it do. True if it goes on at once.
fn block(world: &World, target: &DomainVcpu<Machine>) -> bool {
    let system = &world.system;
    let cpu = system.platform.cpu();
    let here = system.cpus.get(cpu).unwrap();
    let regs = &mut GuestRegs::default();
    let DomainVcpu { domain, vcpu } = target;
    let mut cx = Context::new(system, here, domain, vcpu, regs);
    assert_eq!(sched_op(&mut cx, [u64::from(sched::BLOCK), 0, 0, 0, 0, 0]), DONE);
    if !here.take_attention() {
        return true;
    }
    match system.scheduler.choose(&system.platform, cpu, 0, Some(target)) {
        Choice::Stay { .. } => true,
        Choice::Switch { .. } => panic!("there is nobody else"),
        Choice::Idle { .. } => {
            system.apply(system.scheduler.put_back(&system.platform, cpu, 0, target));
            false
        }
    }
}

fn blocked_and_told() {
    let (world, target, port) = running();
    world.system.platform.pause_with(Some(|_| thread::yield_now()));
    let world = Arc::new(world);
    let (sender, domain) = (Arc::clone(&world), target.domain.clone());
    let other = thread::spawn(move || {
        sender.system.platform.on(1);
        sender.system.send_event(&domain, port).unwrap();
    });
    let goes_on = block(&world, &target);
    other.join().unwrap();
    world.system.platform.on(0);
    let system = &world.system;
    assert!(target.vcpu.info(&system.platform).wants_upcall(), "the event was sent");
    let reasons = target.vcpu.scheduling.reasons();
    assert!(!reasons.contains(Reasons::WAITING), "it waits, and nobody will wake it");
    // Wherever it is queued, one of the CPUs finds it.
    let found = goes_on
        || (0..2).any(|number| {
            system.platform.on(number);
            let cpu = system.platform.cpu();
            matches!(system.scheduler.choose(&system.platform, cpu, 0, None), Choice::Switch { .. })
        });
    assert!(found, "it may run, and no CPU has it");
    system.platform.pause_with(None);
}

/// The vCPU takes itself down; who sees that it is down sets it going again.
fn down_and_up() {
    let (world, target, _) = running();
    target.vcpu.set_initialised(true);
    target.vcpu.set_up(true);
    world.system.platform.pause_with(Some(|_| thread::yield_now()));
    let world = Arc::new(world);
    let (other, again) = (Arc::clone(&world), target.clone());
    let up = thread::spawn(move || {
        other.system.platform.on(1);
        while again.vcpu.is_up() {
            thread::yield_now();
        }
        assert_eq!(call(&other, &again, vcpu::UP), DONE);
    });
    assert_eq!(call(&world, &target, vcpu::DOWN), DONE);
    up.join().unwrap();
    let reasons = target.vcpu.scheduling.reasons();
    assert!(target.vcpu.is_up() && !reasons.contains(Reasons::DOWN), "it is up, and held");
    world.system.platform.pause_with(None);
}

/// `vcpu_op` about the first vCPU of a domain with another one that is up.
fn call(world: &World, target: &DomainVcpu<Machine>, operation: u32) -> Answer {
    let DomainVcpu { domain, vcpu } = target;
    let system = &world.system;
    let here = system.cpus.get(system.platform.cpu()).unwrap();
    let regs = &mut GuestRegs::default();
    let mut cx = Context::new(system, here, domain, vcpu, regs);
    vcpu_op(&mut cx, [u64::from(operation), 0, 0, 0, 0, 0])
}

fn play(case: fn()) {
    let mut config = Config::new();
    config.max_steps = MaxSteps::ContinueAfter(2000);
    // A CPU's lists are made on the stack.
    config.stack_size = 1 << 20;
    Runner::new(RandomScheduler::new(RANDOM), config.clone()).run(case);
    Runner::new(DfsScheduler::new(Some(SYSTEMATIC), false), config).run(case);
}

#[test]
fn an_event_wakes_whoever_blocks() {
    play(blocked_and_told);
}

#[test]
fn who_is_seen_to_be_down_can_be_set_going() {
    play(down_and_up);
}
