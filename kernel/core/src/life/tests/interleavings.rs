//! What two CPUs do to one vCPU at the same time, in many of the orders in which their steps can come.

use hypercall_abi::domctl::{self, Domctl, VcpuContext};
use hypercall_abi::regs::{GuestContextFlags, VcpuGuestContext};
use hypercall_abi::vcpu::{self, RegisterVcpuInfo};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::atomic::AtomicBool;
use shuttle::thread;

use super::*;
use crate::mm::Mode;

fn orders(pair: fn()) {
    orders_of(60, 10_000, pair);
}

/// Tries so many orders, of each of two kinds: in a build with checks, and in one that is quick.
pub(super) fn orders_of(few: usize, many: usize, play: fn()) {
    let wanted = std::env::var("PARAVANE_ORDERS").ok().and_then(|count| count.parse().ok());
    let count = wanted.unwrap_or(if cfg!(debug_assertions) { few } else { many });
    let config = || {
        let mut config = shuttle::Config::new();
        // A vCPU's state is large, and so is a system that is being made.
        config.stack_size = 1 << 20;
        config
    };
    shuttle::Runner::new(RandomScheduler::new(count), config()).run(play);
    shuttle::Runner::new(PctScheduler::new(3, count), config()).run(play);
}

/// A place where the other CPU may come in between.
pub(super) fn step(waits: bool) {
    if waits {
        thread::yield_now();
    } else {
        let _ = AtomicBool::new(false).load(Ordering::SeqCst);
    }
}

/// A domain whose first vCPU two CPUs run, as two vCPUs with the same tables, and which has another one.
struct Pair {
    world: World,
    guest: Guest,
}

impl Pair {
    fn new() -> Self {
        let world = World::new(96);
        let guest = world.guest();
        world.system.add_vcpu(&guest.domain, VcpuRoots::none()).unwrap();
        Self { world, guest }
    }

    fn second(&self) -> &crate::vcpu::Vcpu {
        self.guest.domain.vcpu(VcpuId(1)).unwrap()
    }

    /// Loads a domain's tables on a CPU.
    fn run(&self, cpu: usize, domain: &Dom) {
        let machine = self.world.machine();
        machine.on(cpu);
        let roots = &domain.vcpu(VcpuId(0)).unwrap().roots;
        roots.resume(machine, &domain.memory, Mode::Kernel);
    }

    /// A state for the second vCPU, at an address of the guest's, with tables of its own.
    fn describe(&self, address: usize, root: Mfn) {
        let mut context = VcpuGuestContext {
            flags: GuestContextFlags::IN_KERNEL.bits(),
            gdt_ents: 512,
            ..VcpuGuestContext::default()
        };
        context.gdt_frames[0] = self.guest.pages[8].0;
        context.ctrlreg[3] = root.address();
        for (page, bytes) in (address / 4096..).zip(context.as_bytes().chunks(4096)) {
            self.world.machine().write_frame(self.guest.pages[page], 0, bytes);
        }
    }

    /// A hypercall of a domain's first vCPU on a CPU, until it is done.
    fn call(
        &self,
        cpu: u8,
        domain: &Dom,
        call: Hypercall,
        mut args: [u64; 6],
    ) -> Result<u64, Errno> {
        let here = self.world.system.cpus.get(CpuId::new(cpu).unwrap()).unwrap();
        let (vcpu, regs) = (domain.vcpu(VcpuId(0)).unwrap(), &mut GuestRegs::default());
        loop {
            self.world.machine().on(cpu.into());
            let mut cx = Context::new(&self.world.system, here, domain, vcpu, regs);
            match cx.call(call.number().into(), args)? {
                Reply::Value(value) => return Ok(value),
                Reply::Again(again) => args = again,
                Reply::Registers => panic!("registers"),
            }
            step(true);
        }
    }

    fn vcpu_op(&self, cpu: u8, op: u32, argument: u64) -> Result<u64, Errno> {
        self.call(cpu, &self.guest.domain, Hypercall::VcpuOp, [op.into(), 1, argument, 0, 0, 0])
    }

    /// Runs both at the same time; then everything is counted.
    fn both<T: Send + 'static>(
        self,
        first: impl FnOnce(&Self) -> T + Send + 'static,
        second: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> (Self, [T; 2]) {
        self.world.machine().pause_with(Some(step));
        let pair = Arc::new(self);
        let (one, other) = (Arc::clone(&pair), Arc::clone(&pair));
        let first = thread::spawn(move || first(&one));
        let second = thread::spawn(move || second(&other));
        let done = [first.join().unwrap(), second.join().unwrap()];
        let pair = Arc::into_inner(pair).unwrap();
        pair.world.machine().pause_with(None);
        pair.world.check();
        (pair, done)
    }
}

/// A vCPU's tables are in use from the moment it has a state: who comes second must not exchange them.
#[test]
fn a_vcpu_gets_its_state_once() {
    orders(|| {
        let pair = Pair::new();
        pair.describe(0x1000, pair.guest.pages[10]);
        pair.describe(0x3000, pair.guest.pages[11]);
        (0..2).for_each(|cpu| pair.run(cpu, &pair.guest.domain));
        // It may run from then on.
        let give = |pair: &Pair, cpu, address| {
            let given = pair.vcpu_op(cpu, vcpu::INITIALISE, address);
            given.map(|_| pair.second().roots.kernel())
        };
        let (pair, done) =
            pair.both(move |pair| give(pair, 0, 0x1000), move |pair| give(pair, 1, 0x3000));
        let ([Ok(root), Err(Errno::EEXIST)] | [Err(Errno::EEXIST), Ok(root)]) = done else {
            panic!("{done:?}")
        };
        assert_eq!(pair.second().roots.kernel(), root);
        pair.world.destroy(&pair.guest.domain);
        assert!(!pair.world.is_known(&pair.guest.domain));
    });
}

#[test]
fn a_vcpus_information_moves_once() {
    orders(|| {
        let pair = Pair::new();
        (0..2).for_each(|cpu| pair.run(cpu, &pair.guest.domain));
        for page in [1, 2] {
            let asked = RegisterVcpuInfo {
                mfn: pair.guest.pages[page + 8].0,
                ..RegisterVcpuInfo::default()
            };
            pair.world.machine().write_frame(pair.guest.pages[page], 0, asked.as_bytes());
        }
        let (pair, mut done) = pair.both(
            |pair| pair.vcpu_op(0, vcpu::REGISTER_VCPU_INFO, 0x1000),
            |pair| pair.vcpu_op(1, vcpu::REGISTER_VCPU_INFO, 0x2000),
        );
        done.sort_by_key(Result::is_err);
        assert_eq!(done, [Ok(0), Err(Errno::EINVAL)]);
        pair.world.destroy(&pair.guest.domain);
        assert!(!pair.world.is_known(&pair.guest.domain));
    });
}

/// A vCPU whose state is taken away while the guest sets it going has no tables to run on.
#[test]
fn no_vcpu_goes_without_a_state() {
    orders(|| {
        let pair = Pair::new();
        pair.describe(0x1000, pair.guest.pages[10]);
        pair.run(1, &pair.guest.domain);
        pair.vcpu_op(1, vcpu::INITIALISE, 0x1000).unwrap();
        pair.run(0, &pair.world.control);
        let id = pair.guest.domain.id;
        let reset = VcpuContext { vcpu: VcpuId(1), ..VcpuContext::default() };
        let mut asked = Domctl {
            cmd: domctl::SETVCPUCONTEXT,
            interface_version: domctl::INTERFACE_VERSION,
            domain: id,
            ..Domctl::default()
        };
        let _ = reset.write_to_prefix(asked.payload.as_mut_bytes());
        pair.world.put(0, &asked);
        let (pair, _) = pair.both(
            |pair| pair.call(0, &pair.world.control, Hypercall::Domctl, [0; 6]),
            |pair| pair.vcpu_op(1, vcpu::UP, 0),
        );
        let vcpu = pair.second();
        assert!(!vcpu.is_initialised() && vcpu.roots.kernel().is_none());
        assert!(vcpu.scheduling.reasons().contains(Reasons::DOWN), "it runs on nothing");
    });
}
