//! What calls refuse, and where batches of them stop, on a machine of host memory. Whether Xen does the same
//! is asked by the cases of conformance.

use hypercall_abi::call::Hypercall;
use hypercall_abi::errno::Errno;
use hypercall_abi::layout::{HYPERVISOR_VIRT_END, HYPERVISOR_VIRT_START};
use hypercall_abi::memory::{self, Exchange, Reservation};
use hypercall_abi::multicall::MulticallEntry;
use hypercall_abi::platform::{self, PlatformOp};
use hypercall_abi::regs::IretContext;
use hypercall_abi::sched::{self, SchedPoll, SchedShutdown};
use hypercall_abi::segment;
use hypercall_abi::sysctl::{self, GetDomainInfoList, Sysctl};
use hypercall_abi::trap::TrapInfo;
use hypercall_abi::types::{DomId, Mfn, VcpuId};
use zerocopy::IntoBytes;

use crate::bounce::rflags;
use crate::cpu::CpuId;
use crate::dispatch::Reply;
use crate::guest_memory::GuestRange;
use crate::life::tests::{Dom, Guest, World};
use crate::platform::Platform;
use crate::regs::GuestRegs;
use crate::system::Context;

/// Where in the page that calls point to there is room for lists.
const LISTS: [usize; 2] = [1024, 2048];

fn call(call: Hypercall) -> u64 {
    u64::from(call.number())
}

/// Has a domain's first vCPU do something, with these registers.
fn within<T>(
    world: &World,
    domain: &Dom,
    regs: &mut GuestRegs,
    does: impl FnOnce(&mut Context<'_, crate::fake::Machine>) -> T,
) -> T {
    let here = world.system.cpus.get(CpuId::BOOT).unwrap();
    let vcpu = domain.vcpu(VcpuId(0)).unwrap();
    does(&mut Context::new(&world.system, here, domain, vcpu, regs))
}

#[test]
fn a_segment_base_is_canonical() {
    let world = World::new(64);
    for which in [segment::FS, segment::GS_USER, segment::GS_KERNEL] {
        let set =
            |base| world.call(Hypercall::SetSegmentBase, [u64::from(which), base, 0, 0, 0, 0]);
        for base in [0, 0x7fff_ffff_ffff, 0xffff_8000_0000_0000, u64::MAX] {
            assert_eq!(set(base), Ok(0), "{base:#x}");
        }
        for base in [0x8000_0000_0000, 0xffff_7fff_ffff_ffff, 1 << 63] {
            assert_eq!(set(base), Err(Errno::EINVAL), "{base:#x}");
        }
    }
}

#[test]
fn ranges_are_looked_at_as_a_whole() {
    let (first, end) = (HYPERVISOR_VIRT_START, HYPERVISOR_VIRT_END);
    for (start, len) in [(0, 0), (0, 4096), (first - 1, 1), (end, 1), (u64::MAX - 7, 8)] {
        assert!(GuestRange::new(start, len).is_ok(), "{len} at {start:#x}");
    }
    let bad = [(first - 1, 2), (first, 1), (end - 1, 1), (0, usize::MAX), (u64::MAX, 2)];
    for (start, len) in bad {
        assert!(GuestRange::new(start, len).is_err(), "{len} at {start:#x}");
    }
}

#[test]
fn so_many_ports_are_polled_and_no_more() {
    let world = World::new(64);
    (0..129).for_each(|port| world.put(LISTS[0] + 4 * port, &world.dom_exc));
    let poll = |nr_ports| {
        let ports = LISTS[0] as u64;
        world.put(0, &SchedPoll { ports, nr_ports, ..SchedPoll::default() });
        world.call(Hypercall::SchedOp, [u64::from(sched::POLL), 0, 0, 0, 0, 0])
    };
    assert_eq!(poll(129), Err(Errno::EINVAL));
    assert_eq!(poll(u32::MAX), Err(Errno::EINVAL));
    assert_eq!(poll(128), Ok(0));
}

/// A guest gives frames for as many others.
fn exchange(world: &World, guest: &Guest, frames: &[Mfn], nr_exchanged: u64) -> Result<u64, Errno> {
    let side = |list: usize| Reservation {
        extent_start: list as u64,
        nr_extents: frames.len() as u64,
        domid: DomId::SELF,
        ..Reservation::default()
    };
    for (index, frame) in frames.iter().enumerate() {
        world.put(LISTS[0] + 8 * index, frame);
        world.put(LISTS[1] + 8 * index, &20_u64);
    }
    world.put(0, &Exchange { given: side(LISTS[0]), taken: side(LISTS[1]), nr_exchanged });
    let exchange = u64::from(memory::EXCHANGE);
    world.call_as(&guest.domain, Hypercall::MemoryOp, [exchange, 0, 0, 0, 0, 0])
}

#[test]
fn a_frame_that_is_in_use_is_not_exchanged() {
    let world = World::new(192);
    let guest = world.guest();
    let id = guest.domain.id;
    let [mapped, free] = [guest.pages[0], guest.pages[11]];
    assert!(exchange(&world, &guest, &[mapped], 0).is_err());
    assert!(exchange(&world, &guest, &[free, mapped], 0).is_err());
    assert_eq!(world.machine().frames().owner(mapped), Some(id));
    let free = guest.pages[10];
    assert_eq!(exchange(&world, &guest, &[free], 0), Ok(0));
    let new = world.told_at(LISTS[1]);
    assert_eq!(world.machine().frames().owner(Mfn(new)), Some(id));
}

#[test]
fn no_more_is_exchanged_already_than_is_to_be() {
    let world = World::new(192);
    let guest = world.guest();
    let free = guest.pages[11];
    assert_eq!(exchange(&world, &guest, &[free], 2), Err(Errno::EINVAL));
    assert_eq!(exchange(&world, &guest, &[free], u64::MAX), Err(Errno::EINVAL));
    assert_eq!(world.machine().frames().owner(free), Some(guest.domain.id));
    assert_eq!(exchange(&world, &guest, &[free], 1), Ok(0));
    assert_eq!(world.machine().frames().owner(free), Some(guest.domain.id));
}

#[test]
fn an_order_has_a_limit() {
    let world = World::new(4096);
    let guest = world.guest();
    let id = guest.domain.id;
    guest.domain.memory.set_max_pages(4096);
    assert!(guest.domain.memory.grow(1024));
    let start = world.machine().frames().alloc_for(world.machine(), id, 10, None).unwrap();
    let decrease = |order| {
        world.put(LISTS[0], &start);
        let reservation = Reservation {
            extent_start: LISTS[0] as u64,
            nr_extents: 1,
            extent_order: order,
            domid: DomId::SELF,
            ..Reservation::default()
        };
        world.put(0, &reservation);
        let decrease = u64::from(memory::DECREASE_RESERVATION);
        world.call_as(&guest.domain, Hypercall::MemoryOp, [decrease, 0, 0, 0, 0, 0])
    };
    for order in [10, 63, 64, u32::MAX] {
        assert_eq!(decrease(order), Ok(0), "{order}");
        assert_eq!(world.machine().frames().owner(start), Some(id));
    }
    assert_eq!(decrease(9), Ok(1));
    assert_eq!(world.machine().frames().owner(start), None);
}

/// Puts a batch of calls there whose results are not written yet.
fn batch(world: &World, calls: &[(Hypercall, [u64; 6])]) -> [u64; 6] {
    for (index, &(number, args)) in calls.iter().enumerate() {
        let entry = MulticallEntry { op: call(number), result: UNWRITTEN, args };
        world.put(LISTS[0] + 64 * index, &entry);
    }
    [LISTS[0] as u64, calls.len() as u64, 0, 0, 0, 0]
}

const UNWRITTEN: u64 = 0x7777;

fn result(world: &World, index: usize) -> u64 {
    world.told_at(LISTS[0] + 64 * index + 8)
}

const HARMLESS: (Hypercall, [u64; 6]) = (Hypercall::FpuTaskswitch, [0; 6]);

/// None of its vCPUs may take the rest for done; one that goes on after all goes on with it.
#[test]
fn a_batch_is_left_unfinished_by_its_domains_end() {
    let world = World::new(192);
    let guest = world.guest();
    world.put(512, &SchedShutdown { reason: 3 });
    let shutdown = (Hypercall::SchedOp, [u64::from(sched::SHUTDOWN), 512, 0, 0, 0, 0]);
    let args = batch(&world, &[HARMLESS, shutdown, HARMLESS]);
    let regs = &mut GuestRegs::default();
    let mut go_on =
        |args| within(&world, &guest.domain, regs, |cx| cx.call(call(Hypercall::Multicall), args));
    let rest = [args[0] + 2 * size_of::<MulticallEntry>() as u64, 1, 0, 0, 0, 0];
    assert_eq!(go_on(args), Ok(Reply::Again(rest)));
    assert_eq!([0, 1, 2].map(|index| result(&world, index)), [0, 0, UNWRITTEN]);
    assert_eq!(go_on(rest), Ok(Reply::Value(0)));
    assert_eq!([0, 1, 2].map(|index| result(&world, index)), [0; 3]);
}

/// All of it is the guest's to choose but what would harm others.
#[test]
fn a_batch_ends_where_the_guest_goes_on_elsewhere() {
    let world = World::new(192);
    let guest = world.guest();
    let frame = IretContext { rip: 0x1234, rflags: u64::MAX, ..IretContext::default() };
    world.put(0, &frame);
    let args = batch(&world, &[HARMLESS, (Hypercall::Iret, [0; 6]), HARMLESS]);
    let regs = &mut GuestRegs::default();
    let answer =
        within(&world, &guest.domain, regs, |cx| cx.call(call(Hypercall::Multicall), args));
    assert_eq!(answer, Ok(Reply::Registers));
    assert_eq!([0, 1, 2].map(|index| result(&world, index)), [0, UNWRITTEN, UNWRITTEN]);
    assert_eq!((regs.rip, regs.cs & 3, regs.ss & 3), (0x1234, 3, 3));
    assert_eq!(regs.rflags, !(rflags::IOPL | rflags::VM));
    world.put(0, &IretContext { rflags: 0, ..frame });
    within(&world, &guest.domain, regs, |cx| {
        cx.regs.rsp = 0;
        cx.call(call(Hypercall::Iret), [0; 6])
    })
    .unwrap();
    assert_eq!(regs.rflags, rflags::IF, "interrupts are not the guest's to disable");
}

#[test]
fn a_handler_whose_frame_cannot_be_written_is_the_domains_end() {
    let world = World::new(192);
    let guest = world.guest();
    let row = TrapInfo { vector: 13, address: 0x1000, ..TrapInfo::default() };
    guest.domain.vcpu(VcpuId(0)).unwrap().state.lock(world.machine()).traps.set(&row);
    let regs = &mut GuestRegs { rsp: 0x4000_0000, ..GuestRegs::default() };
    within(&world, &guest.domain, regs, |cx| cx.general_protection(0));
    assert!(guest.domain.shutdown_reason(world.machine()).is_some());
    assert_ne!(regs.rip, 0x1000);
}

#[test]
fn a_domain_has_so_many_lines() {
    let world = World::new(192);
    let [one, other] = [world.guest().domain, world.guest().domain];
    assert_eq!((0..1000).filter(|_| one.may_log()).count(), 64);
    assert!(other.may_log());
}

/// What `getdomaininfolist` answers: how many, and their numbers.
fn listed(world: &World, first: u16, max_domains: u32) -> (u64, [u64; 4]) {
    let asked = GetDomainInfoList {
        first_domain: DomId(first),
        max_domains,
        buffer: LISTS[0] as u64,
        ..GetDomainInfoList::default()
    };
    let (cmd, interface_version) = (sysctl::GETDOMAININFOLIST, sysctl::INTERFACE_VERSION);
    let mut op = Sysctl { cmd, interface_version, payload: [0; 16] };
    op.payload.as_mut_bytes()[..24].copy_from_slice(asked.as_bytes());
    let unwritten = [UNWRITTEN; 4 * DOMAIN_INFO / 8];
    world.put(LISTS[0], &unwritten);
    world.put(0, &op);
    world.call(Hypercall::Sysctl, [0; 6]).unwrap();
    let numbers = [0, 1, 2, 3].map(|at| world.told_at(LISTS[0] + DOMAIN_INFO * at) & 0xffff);
    (world.told_at(8 + 16) & 0xffff_ffff, numbers)
}

/// Bytes of what is told of a domain.
const DOMAIN_INFO: usize = 112;

#[test]
fn domains_are_listed_from_a_number_on() {
    let world = World::new(192);
    let guests = [world.guest(), world.guest()];
    assert_eq!(guests.map(|guest| guest.domain.id.0), [1, 2]);
    let none = UNWRITTEN;
    assert_eq!(listed(&world, 0, 4), (3, [0, 1, 2, none]));
    assert_eq!(listed(&world, 0, 2), (2, [0, 1, none, none]));
    assert_eq!(listed(&world, 2, 4), (1, [2, none, none, none]));
    assert_eq!(listed(&world, 3, 4), (0, [none; 4]));
    assert_eq!(listed(&world, 0, 0), (0, [none; 4]));
}

/// What `platform_op` tells of a CPU: the words of its answer.
fn real_cpu(world: &World, cmd: u32, cpu: u64) -> [u64; 4] {
    let mut op =
        PlatformOp { cmd, interface_version: platform::INTERFACE_VERSION, payload: [7; 16] };
    op.payload[0] = cpu;
    world.put(0, &op);
    assert_eq!(world.call(Hypercall::PlatformOp, [0; 6]), Ok(0));
    [0, 1, 2, 3].map(|at| world.told_at(8 + 8 * at))
}

#[test]
fn real_cpus_are_told_with_their_numbers() {
    let world = World::new(64);
    let highest = u64::from(world.system.cpu_count() - 1) << 32;
    let told = real_cpu(&world, platform::GET_CPUINFO, 0);
    assert_eq!(told, [highest, 1, 1, 7], "online, APIC 0, ACPI's 1");
    let none = real_cpu(&world, platform::GET_CPUINFO, 99);
    assert_eq!(none, [99 | highest, 2, 7, 7], "invalid, and the rest as it was");
    let version = real_cpu(&world, platform::GET_CPU_VERSION, 99);
    assert_eq!(version, [99 | highest, 0, 0, 0]);
    let unknown =
        PlatformOp { cmd: 62, interface_version: platform::INTERFACE_VERSION, payload: [0; 16] };
    world.put(0, &unknown);
    assert_eq!(world.call(Hypercall::PlatformOp, [0; 6]), Err(Errno::ENOSYS));
    world.put(0, &PlatformOp { interface_version: 0, ..unknown });
    assert_eq!(world.call(Hypercall::PlatformOp, [0; 6]), Err(Errno::EACCES));
}

#[test]
fn a_domain_is_told_what_time_its_counter_shows() {
    let world = World::new(192);
    let guest = world.guest();
    world.machine().advance_to(5_000_000);
    let told = world.system.tsc_info(&guest.domain);
    assert_ne!(told.elapsed_nsec, 0);
    assert_eq!(told.elapsed_nsec, world.system.now());
}
