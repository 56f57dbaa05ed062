//! What the model does not show: how many ports there are, and whose calls are about whom.

use std::vec;

use core::sync::atomic::Ordering;

use hypercall_abi::errno::Errno;
use hypercall_abi::event::{
    ALLOC_UNBOUND, AllocUnbound, BIND_INTERDOMAIN, BindInterdomain, EventStatus, RESET, Reset,
    STATUS, STATUS_INTERDOMAIN, TWO_LEVEL_PORTS,
};
use hypercall_abi::types::{DomId, Port, VcpuId};
use hypercall_abi::virq;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::world::{FIRST, World};
use super::{Status, Swept};
use crate::calls::event::event_channel_op;
use crate::cpu::CpuId;
use crate::dispatch::{Answer, DONE};
use crate::fake::Machine;
use crate::guest_memory;
use crate::platform::Platform;
use crate::regs::GuestRegs;
use crate::system::Context;

#[test]
fn there_are_as_many_ports_as_bits() {
    let world = World::new(Machine::new(8, 1), 1, 1);
    let (system, domain) = (&world.system, &world.domains[0]);
    let status = |port| system.port_status(domain, Port(port)).map(|(status, _)| status);
    // What exists is a bucket more than was ever in use.
    assert_eq!(status(63), Ok(Status::Closed));
    assert_eq!(status(64), Err(Errno::EINVAL));
    for port in 1..TWO_LEVEL_PORTS {
        assert_eq!(system.bind_ipi(domain, FIRST), Ok(Port(port)));
    }
    assert_eq!(system.bind_ipi(domain, FIRST), Err(Errno::ENOSPC));
    for port in [4095, 64, 1] {
        assert_eq!(system.send_event(domain, Port(port)), Ok(()));
        assert_eq!(domain.is_pending(&system.platform, Port(port)), Some(true));
        assert_eq!(system.close_port(domain, Port(port)), Ok(()));
        assert_eq!(system.bind_ipi(domain, FIRST), Ok(Port(port)));
    }
    for port in [4096, u32::MAX] {
        assert_eq!(status(port), Err(Errno::EINVAL));
        assert_eq!(system.send_event(domain, Port(port)), Err(Errno::EINVAL));
        assert_eq!(domain.is_pending(&system.platform, Port(port)), None);
    }
    // Closing so many takes several steps.
    let steps = (0..100).take_while(|_| system.close_ports(domain) == Swept::Some).count();
    assert_eq!(steps, 31);
    assert_eq!(system.bind_ipi(domain, FIRST), Ok(Port(1)));
    assert_eq!(system.end_ports(domain), Swept::All);
    assert_eq!(system.bind_ipi(domain, FIRST), Err(Errno::EINVAL));
}

#[test]
fn global_interrupts_go_to_the_initial_domain() {
    let world = World::new(Machine::new(8, 1), 2, 2);
    for domain in &world.domains {
        assert_eq!(world.system.bind_virq(domain, virq::DOM_EXC, FIRST), Ok(Port(1)));
        assert_eq!(world.system.bind_vcpu(domain, Port(1), VcpuId(1)), Ok(()));
    }
    world.system.send_global_virq(virq::DOM_EXC);
    assert_eq!(world.upcall(&world.domains[0], FIRST), None);
    assert_eq!(world.upcall(&world.domains[0], VcpuId(1)), Some(vec![Port(1)]));
    assert_eq!(world.upcall(&world.domains[1], VcpuId(1)), None);
}

/// Where the guest of [`call`] has its argument.
const ARGUMENT: u64 = 0x40_0000;

/// Makes a call as a domain; the argument is what it has become.
fn call<T>(world: &World, caller: usize, command: u32, argument: &mut T) -> Answer
where
    T: FromBytes + IntoBytes + Immutable,
{
    let domain = &world.domains[caller];
    let platform = &world.system.platform;
    guest_memory::write(platform, ARGUMENT, argument).unwrap();
    let vcpu = domain.vcpu(FIRST).unwrap();
    let here = world.system.cpus.get(CpuId::BOOT).unwrap();
    let regs = &mut GuestRegs::default();
    let mut cx = Context::new(&world.system, here, domain, vcpu, regs);
    let answer = event_channel_op(&mut cx, [u64::from(command), ARGUMENT, 0, 0, 0, 0]);
    *argument = guest_memory::read(platform, ARGUMENT).unwrap();
    answer
}

/// A world whose machine has one page mapped, for arguments.
fn callers() -> World {
    let world = World::new(Machine::new(32, 1), 3, 1);
    let platform = &world.system.platform;
    let [l4, l3, l2, l1, page] =
        [(); 5].map(|()| platform.frames().alloc_kernel(platform, 1).unwrap());
    for (table, index, next) in [(l4, 0, l3), (l3, 0, l2), (l2, 2, l1), (l1, 0, page)] {
        let entry = next.address() | 7;
        platform.table(table)[index].store(entry, Ordering::SeqCst);
    }
    platform.load_root(l4, true);
    world
}

#[test]
fn others_are_for_the_privileged() {
    let world = callers();
    let (second, third) = (&world.domains[1], &world.domains[2]);
    let mut alloc = AllocUnbound { dom: second.id, remote_dom: third.id, port: Port(0) };
    assert_eq!(call(&world, 2, ALLOC_UNBOUND, &mut alloc), Err(Errno::EPERM));
    assert_eq!(world.status(second, Port(1)), Status::Closed);
    assert_eq!(call(&world, 0, ALLOC_UNBOUND, &mut alloc), DONE);
    assert_eq!((alloc.port, world.status(second, Port(1))), (Port(1), Status::Unbound(third.id)));
    // `SELF` as the remote is the caller, not the owner of the port.
    let mut alloc = AllocUnbound { dom: second.id, remote_dom: DomId::SELF, port: Port(0) };
    assert_eq!(call(&world, 0, ALLOC_UNBOUND, &mut alloc), DONE);
    assert_eq!(world.status(second, Port(2)), Status::Unbound(DomId(0)));

    // Anybody may bind to what waits for it, and only then.
    let mut bind = BindInterdomain {
        remote_dom: second.id,
        remote_port: Port(1),
        ..BindInterdomain::new_zeroed()
    };
    assert_eq!(call(&world, 0, BIND_INTERDOMAIN, &mut bind), Err(Errno::EINVAL));
    assert_eq!(call(&world, 2, BIND_INTERDOMAIN, &mut bind), DONE);
    assert_eq!(bind.local_port, Port(1));
    bind.remote_dom = DomId(3);
    assert_eq!(call(&world, 2, BIND_INTERDOMAIN, &mut bind), Err(Errno::ESRCH));

    let asked = || EventStatus { dom: second.id, port: Port(1), ..EventStatus::new_zeroed() };
    assert_eq!(call(&world, 2, STATUS, &mut asked()), Err(Errno::EPERM));
    let beyond = &mut EventStatus { port: Port(64), ..asked() };
    assert_eq!(call(&world, 2, STATUS, beyond), Err(Errno::EINVAL));
    for caller in [0, 1] {
        let mut status = asked();
        assert_eq!(call(&world, caller, STATUS, &mut status), DONE);
        assert_eq!((status.status, status.detail), (STATUS_INTERDOMAIN, 2));
        assert_eq!(status.remote_port, Port(1));
    }

    let mut reset = Reset { dom: second.id };
    assert_eq!(call(&world, 2, RESET, &mut reset), Err(Errno::EPERM));
    assert_eq!(call(&world, 0, RESET, &mut reset), Err(Errno::EINVAL));
    assert_eq!(call(&world, 1, RESET, &mut reset), DONE);
    assert_eq!(world.status(third, Port(1)), Status::Unbound(second.id));
    assert_eq!(call(&world, 0, RESET, &mut Reset { dom: DomId(3) }), Err(Errno::ESRCH));
}
