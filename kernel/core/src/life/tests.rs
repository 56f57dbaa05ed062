//! Domains that are made, used and ended by the privileged one, by its hypercalls where there are
//! some, on a machine of host memory. All references are counted after each step.

mod at_once;
mod interleavings;
mod slices;

use std::sync::Arc;
use std::vec::Vec;

use core::sync::atomic::Ordering;

use hypercall_abi::call::Hypercall;
use hypercall_abi::errno::Errno;
use hypercall_abi::grant::{GENERAL_ERROR, MapGrantRef, SETUP_TABLE, SetupTable};
use hypercall_abi::memory::{
    self, AcquireResource, DomainArg, E820Entry, ForeignMemoryMap, MemoryMap, Reservation,
};
use hypercall_abi::mmu::mmuext::{CLEAR_PAGE, COPY_PAGE, NEW_BASEPTR, PIN_L4_TABLE, UNPIN_TABLE};
use hypercall_abi::mmu::{EntryFlags, MmuUpdate, MmuextOp};
use hypercall_abi::types::{DomId, GrantRef, Mfn, Pfn, Port, VcpuId};
use hypercall_abi::virq;
use zerocopy::IntoBytes;

use super::NewDomain;
use crate::clock::Clock;
use crate::cpu::CpuId;
use crate::dispatch::{Answer, Reply};
use crate::domain::{Domain, Life, Privilege, ShutdownReason};
use crate::fake::Machine;
use crate::fake::audit::audit_system;
use crate::frames::FrameType;
use crate::grant::{Grants, Peer, Unmap};
use crate::mm::{Budget, DomainMemory, Level, Mm, Stop, VcpuRoots};
use crate::platform::Platform;
use crate::ports::Ports;
use crate::regs::GuestRegs;
use crate::sched::Reasons;
use crate::system::{Context, DomainVcpu, Here, Identity, System};
use crate::trace::Kind;

pub(crate) type Dom = Arc<Domain<Machine>>;

const P: u64 = EntryFlags::PRESENT.bits();
const RW: u64 = EntryFlags::RW.bits();
const US: u64 = EntryFlags::USER.bits();
const ALL: u64 = P | RW | US;

const CONFIG: NewDomain = NewDomain {
    handle: [7; 16],
    ssidref: 5,
    max_vcpus: 2,
    max_port: 1023,
    max_grant_frames: 1,
    max_maptrack_frames: 1,
};

/// What a domain is made of: tables from L4 to L1, and pages that it maps from address 0 on.
pub(crate) struct Guest {
    pub(crate) domain: Dom,
    tables: [Mfn; 4],
    pub(crate) pages: Vec<Mfn>,
}

/// A control domain with a machine of its own.
pub(crate) struct World {
    pub(crate) system: System<Machine>,
    pub(crate) control: Dom,
    /// The page at the control domain's address 0, for what its calls point to.
    page: Mfn,
    pub(crate) dom_exc: Port,
}

impl World {
    pub(crate) fn new(frames: usize) -> Self {
        let identity = Identity { command_line: b"", changeset: "", compiler: "" };
        let clock = Clock::new(1_000_000, 0, 0);
        let machine = Machine::of_domains(frames, 2, DomId::FIRST_RESERVED.0.into());
        let system = System::new(machine, identity, clock, Ports::default());
        let machine = &system.platform;
        for cpu in [0, 1] {
            machine.on(cpu);
            system.cpu_online().unwrap();
        }
        machine.on(0);
        let shared = machine.frames().alloc_shared(machine, DomId(0)).unwrap().into_entry();
        let memory = DomainMemory::new(DomId(0), 0).with_devices();
        memory.set_max_pages(u64::MAX);
        let control = Arc::new(Domain::new(DomId(0), Privilege::Initial, shared, memory));
        system.domains.add(machine, control.clone()).unwrap();
        (0..2).for_each(|_| system.add_vcpu(&control, VcpuRoots::none()).unwrap());
        let dom_exc = system.bind_virq(&control, virq::DOM_EXC, VcpuId(0)).unwrap();
        let frame = || {
            assert!(control.memory.grow(1));
            machine.frames().alloc_for(machine, DomId(0), 0, None).unwrap()
        };
        let [l4, l3, l2, l1, page] = [(); 5].map(|()| frame());
        for (table, below) in [(l4, l3), (l3, l2), (l2, l1), (l1, page)] {
            machine.table(table)[0].store(below.address() | ALL, Ordering::Relaxed);
        }
        let mm = Mm::new(machine, &control.memory, &system);
        for vcpu in control.vcpus() {
            mm.first_roots(&vcpu.roots, l4, None, &mut Budget::unlimited()).unwrap();
        }
        control.vcpu(VcpuId(0)).unwrap().roots.resume(
            machine,
            &control.memory,
            crate::mm::Mode::Kernel,
        );
        let world = Self { system, control, page, dom_exc };
        world.check();
        world
    }

    pub(crate) fn machine(&self) -> &Machine {
        &self.system.platform
    }

    fn mm<'a>(&'a self, domain: &'a Dom) -> Mm<'a, Machine, System<Machine>> {
        Mm::new(self.machine(), &domain.memory, &self.system)
    }

    /// All that must hold between any two operations.
    fn check(&self) {
        audit_system(&self.system);
        self.machine().check_tlbs();
    }

    pub(crate) fn put(&self, at: usize, value: &(impl IntoBytes + zerocopy::Immutable)) {
        self.machine().write_frame(self.page, at, value.as_bytes());
    }

    /// The word at an address of the control domain's page.
    pub(crate) fn told_at(&self, at: usize) -> u64 {
        self.word(self.page, at / 8)
    }

    fn word(&self, mfn: Mfn, index: usize) -> u64 {
        self.machine().table(mfn)[index].load(Ordering::Relaxed)
    }

    /// A domain's first vCPU makes a hypercall, until it is done.
    pub(crate) fn call_as(
        &self,
        domain: &Dom,
        call: Hypercall,
        mut args: [u64; 6],
    ) -> Result<u64, Errno> {
        let here = self.system.cpus.get(CpuId::BOOT).unwrap();
        let vcpu = domain.vcpu(VcpuId(0)).unwrap();
        loop {
            let regs = &mut GuestRegs::default();
            let mut cx = Context::new(&self.system, here, domain, vcpu, regs);
            let answer: Answer = cx.call(u64::from(call as u8), args);
            self.check();
            match answer? {
                Reply::Value(value) => return Ok(value),
                Reply::Again(again) => args = again,
                Reply::Registers => panic!("registers"),
            }
        }
    }

    pub(crate) fn call(&self, call: Hypercall, args: [u64; 6]) -> Result<u64, Errno> {
        self.call_as(&self.control, call, args)
    }

    fn create(&self, id: Option<u16>) -> Result<Dom, Errno> {
        let domain = self.system.create_domain(id.map(DomId), CONFIG);
        self.check();
        domain
    }

    fn memory_op(&self, op: u32, domain: u16, count: u64, order: u32) -> Result<u64, Errno> {
        let asked = Reservation {
            extent_start: 1024,
            nr_extents: count,
            extent_order: order,
            domid: DomId(domain),
            ..Reservation::default()
        };
        self.put(0, &asked);
        self.call(Hypercall::MemoryOp, [u64::from(op), 0, 0, 0, 0, 0])
    }

    fn populate(&self, domain: u16, pages: u64) -> Vec<Mfn> {
        (0..pages).for_each(|pfn| self.put(1024 + 8 * usize::try_from(pfn).unwrap(), &pfn));
        let done = self.memory_op(memory::POPULATE_PHYSMAP, domain, pages, 0).unwrap();
        let at = |page| self.word(self.page, 128 + usize::try_from(page).unwrap());
        (0..done).map(|page| Mfn(at(page))).collect()
    }

    /// The control domain maps a frame of a domain at its page `slot`.
    fn map(&self, domain: u16, slot: u64, entry: u64) -> Result<u64, Errno> {
        let args = [slot << 12, entry, 0, u64::from(domain), 0, 0];
        self.call(Hypercall::UpdateVaMappingOtherdomain, args)
    }

    fn unmap(&self, slot: u64) {
        self.call(Hypercall::UpdateVaMapping, [slot << 12, 0, 0, 0, 0, 0]).unwrap();
    }

    fn update(&self, ptr: u64, val: u64, tables: u16, frames: u16) -> Result<u64, Errno> {
        self.put(0, &MmuUpdate { ptr, val });
        let domains = u64::from(tables + 1) << 16 | u64::from(frames);
        self.call(Hypercall::MmuUpdate, [0, 1, 0, domains, 0, 0])
    }

    fn ext(&self, cmd: u32, arg1: Mfn, arg2: u64, domain: u16) -> Result<u64, Errno> {
        self.put(0, &MmuextOp { cmd, arg1: arg1.0, arg2, ..MmuextOp::default() });
        self.call(Hypercall::MmuextOp, [0, 1, 0, u64::from(domain), 0, 0])
    }

    /// A domain with memory, pinned tables and a vCPU that has roots, descriptors and information in
    /// frames of its own; paused.
    pub(crate) fn guest(&self) -> Guest {
        let domain = self.create(None).unwrap();
        domain.memory.set_max_pages(32);
        let id = domain.id.0;
        let mut frames = self.populate(id, 16);
        let pages = frames.split_off(4);
        let tables: [Mfn; 4] = frames.try_into().unwrap();
        let [l4, l3, l2, l1] = tables;
        let entry = |mfn: Mfn| mfn.address() | ALL;
        // As the tools do: through mappings of their own.
        for (table, below) in [(l4, l3), (l3, l2), (l2, l1)] {
            self.map(id, 9, table.address() | ALL).unwrap();
            self.machine().table(table)[0].store(entry(below), Ordering::Relaxed);
        }
        self.unmap(9);
        self.ext(PIN_L4_TABLE, l4, 0, id).unwrap();
        self.system.add_vcpu(&domain, VcpuRoots::none()).unwrap();
        for (slot, &page) in pages.iter().take(8).enumerate() {
            let at = l1.address() + 8 * u64::try_from(slot).unwrap();
            self.update(at, entry(page), id, id).unwrap();
        }
        let (mm, vcpu) = (self.mm(&domain), domain.vcpu(VcpuId(0)).unwrap());
        mm.first_roots(&vcpu.roots, l4, Some(l4), &mut Budget::unlimited()).unwrap();
        let gdt = mm.take_descriptors(pages[8]).unwrap().into_entry();
        let mut frames = crate::descriptors::GdtFrames::default();
        frames[0] = Some(gdt);
        vcpu.state
            .lock(self.machine())
            .tables
            .start(frames, crate::mm::Ldt { address: 0, entries: 0 });
        let info = mm.frames.take_writable(pages[9], domain.memory.as_owner()).unwrap();
        vcpu.move_info(self.machine(), info.into_entry(), 64);
        self.check();
        Guest { domain, tables, pages }
    }

    /// Ends a domain, with `between` between the steps.
    fn destroy_and(&self, domain: &Dom, mut between: impl FnMut()) {
        while self.system.destroy_domain(domain).is_err() {
            self.check();
            between();
        }
        self.check();
    }

    fn destroy(&self, domain: &Dom) {
        self.destroy_and(domain, || ());
    }

    fn is_known(&self, domain: &Dom) -> bool {
        self.system.domains.get(self.machine(), domain.id).is_some()
    }

    /// Whether the interrupt about domains was raised since this was asked last.
    fn told(&self) -> bool {
        let told = self.control.is_pending(self.machine(), self.dom_exc) == Some(true);
        let words = self.machine().table(self.control.shared_info);
        words[256].fetch_and(!(1 << self.dom_exc.0), Ordering::Relaxed);
        told
    }

    /// What a CPU does on its way back to a guest.
    fn bury(&self) {
        self.system.bury_if_due();
        self.check();
    }
}

#[test]
fn numbers_are_chosen_as_xen_does() {
    let world = World::new(64);
    let id = |domain: Result<Dom, Errno>| domain.map(|domain| domain.id.0);
    let first = world.create(None).unwrap();
    assert_eq!((first.id.0, first.ssidref, first.max_vcpus), (1, 5, 2));
    assert_eq!(*first.handle.lock(world.machine()), [7; 16]);
    assert_eq!(id(world.create(Some(3))), Ok(3));
    assert_eq!(id(world.create(Some(3))), Err(Errno::EEXIST));
    assert_eq!(id(world.create(Some(1))), Err(Errno::EEXIST));
    // 0 and what is no domain's number mean any.
    assert_eq!(id(world.create(Some(0))), Ok(2));
    assert_eq!(id(world.create(Some(0x7ff0))), Ok(4));
    world.destroy(&first);
    // Not used again before all others.
    assert_eq!(id(world.create(None)), Ok(5));
    assert_eq!(id(world.create(Some(0x7fef))), Ok(0x7fef));
    world.system.last_number.store(0x7fee, Ordering::Relaxed);
    assert_eq!(id(world.create(None)), Ok(1));
}

#[test]
fn nothing_is_left_of_a_domain_that_could_not_be_made() {
    let world = World::new(64);
    let free = world.machine().frames().free_count();
    // Numbers that differ by 64 share a place, which the control domain is in too.
    let made: Vec<Dom> = (1..16).map(|n| world.create(Some(n * 64)).unwrap()).collect();
    assert_eq!(world.create(Some(16 * 64)).err(), Some(Errno::ENOMEM));
    assert_eq!(world.machine().frames().free_count(), free - 15);
    made.iter().for_each(|domain| world.destroy(domain));
    assert_eq!(world.machine().frames().free_count(), free);
    let config = NewDomain { max_vcpus: 33, ..CONFIG };
    assert_eq!(world.system.create_domain(None, config).err(), Some(Errno::EINVAL));
    let config = NewDomain { max_vcpus: 0, ..CONFIG };
    assert_eq!(world.system.create_domain(None, config).err(), Some(Errno::EINVAL));
    assert_eq!(world.machine().frames().free_count(), free);
}

#[test]
fn a_domain_is_paused_as_often_as_it_is() {
    let world = World::new(64);
    let domain = world.create(None).unwrap();
    world.system.add_vcpu(&domain, VcpuRoots::none()).unwrap();
    let reasons = || domain.vcpu(VcpuId(0)).unwrap().scheduling.reasons();
    assert_eq!((domain.pauses(world.machine()), reasons()), (1, Reasons::PAUSED | Reasons::DOWN));
    world.system.pause_domain(&domain).unwrap();
    world.system.unpause_domain(&domain).unwrap();
    assert_eq!(reasons(), Reasons::PAUSED | Reasons::DOWN);
    world.system.unpause_domain(&domain).unwrap();
    assert_eq!(reasons(), Reasons::DOWN);
    assert_eq!(world.system.unpause_domain(&domain), Err(Errno::EINVAL));
    (0..255).for_each(|_| world.system.pause_domain(&domain).unwrap());
    assert_eq!(world.system.pause_domain(&domain), Err(Errno::EOVERFLOW));
    assert_eq!(reasons(), Reasons::PAUSED | Reasons::DOWN);
}

#[test]
fn the_account_is_level_after_many_lives() {
    let world = World::new(192);
    let free = world.machine().frames().free_count();
    let windows = std::format!("{:?}", world.system.windows);
    for _ in 0..100 {
        let [first, second] = [world.guest(), world.guest()];
        for guest in [first, second] {
            world.destroy(&guest.domain);
            assert!(!world.is_known(&guest.domain) && world.told());
            assert_eq!(Arc::strong_count(&guest.domain), 1);
        }
        assert_eq!(world.machine().frames().free_count(), free);
        assert_eq!(std::format!("{:?}", world.system.windows), windows);
    }
}

#[test]
fn claimed_frames_are_nobody_elses_and_end_with_the_domain() {
    let world = World::new(192);
    let [one, other] = [world.guest(), world.guest()].map(|guest| guest.domain);
    let (machine, frames) = (world.machine(), world.machine().frames());
    let free = frames.free_count();
    let has = one.memory.pages();
    one.memory.set_max_pages(has + free);
    assert_eq!(one.memory.claim(frames, has), Err(Errno::EINVAL));
    assert_eq!(one.memory.claim(frames, has + free + 1), Err(Errno::EINVAL));
    assert_eq!(one.memory.claim(frames, has + free - 2), Ok(()));
    assert_eq!(one.memory.claim(frames, has + 1), Err(Errno::EINVAL));
    assert_eq!(other.memory.claim(frames, 0), Ok(()));
    assert_eq!(frames.claimed_count(), free - 2);
    let take = |order| frames.alloc_for(machine, other.id, order, None).is_ok();
    other.memory.add(2);
    assert!(!take(2) && take(0) && take(0) && !take(0));
    assert!(frames.alloc_kernel(machine, 1).is_err());
    world.destroy(&one);
    assert_eq!(frames.claimed_count(), 0);
    assert!(frames.alloc_kernel(machine, 1).is_ok());
}

#[test]
fn what_others_map_stays_until_they_no_longer_do() {
    let world = World::new(128);
    let free = world.machine().frames().free_count();
    let guest = world.guest();
    let id = guest.domain.id.0;
    let [l4, _, _, l1] = guest.tables;
    // A page the guest maps, one that it does not, two tables, and the page shared with the kernel.
    for (slot, frame) in
        [guest.pages[0], guest.pages[11], guest.domain.shared_info].iter().enumerate()
    {
        world.map(id, slot as u64 + 1, frame.address() | ALL).unwrap();
    }
    world.map(id, 4, l4.address() | P).unwrap();
    world.map(id, 5, l1.address() | P).unwrap();
    assert_eq!(world.map(id, 6, l1.address() | ALL), Err(Errno::EBUSY));
    world.destroy(&guest.domain);
    assert_eq!((guest.domain.life(), guest.domain.memory.pages()), (Life::Dead, 5));
    assert!(world.is_known(&guest.domain) && world.told());
    assert_eq!(world.machine().frames().free_count(), free - 5);
    assert!(world.system.destroy_domain(&guest.domain).is_ok());
    // Nobody reaches the frames anew, and its number is taken.
    assert_eq!(world.map(id, 6, guest.pages[0].address() | P), Err(Errno::ESRCH));
    assert_eq!(world.create(Some(id)).err(), Some(Errno::EEXIST));
    for slot in [3, 1, 5, 2] {
        world.unmap(slot);
        world.bury();
        assert!(world.is_known(&guest.domain) && !world.told());
    }
    world.unmap(4);
    world.bury();
    assert!(!world.is_known(&guest.domain) && world.told());
    assert_eq!(world.machine().frames().free_count(), free);
    world.create(Some(id)).unwrap();
}

/// What is given to a domain after its end nobody takes back.
#[test]
fn a_domain_that_ends_gets_nothing_more() {
    use hypercall_abi::physdev::{self, MapPirq};
    let world = World::new(128);
    let (machine, guest) = (world.machine(), world.guest());
    machine.interrupts().lines.begin(machine, 24);
    let domid = guest.domain.id;
    let map = || {
        let (index, pirq) = (20, -1);
        world.put(0, &MapPirq { domid, kind: physdev::MAP_GSI, index, pirq, ..MapPirq::default() });
        world.call(Hypercall::PhysdevOp, [physdev::MAP_PIRQ.into(), 0, 0, 0, 0, 0])
    };
    let grow = || {
        let asked =
            SetupTable { dom: domid, nr_frames: 1, frame_list: 512, ..SetupTable::default() };
        world.put(0, &asked);
        world.call(Hypercall::GrantTableOp, [SETUP_TABLE.into(), 0, 1, 0, 0, 0]).unwrap();
        // The status is the lowest two bytes.
        world.told_at(8) & 0xffff
    };
    let acquire = |frame_list| {
        let asked =
            AcquireResource { domid, nr_frames: 1, frame_list, ..AcquireResource::default() };
        world.put(0, &AcquireResource { kind: memory::RESOURCE_GRANT_TABLE, ..asked });
        world.call(Hypercall::MemoryOp, [memory::ACQUIRE_RESOURCE.into(), 0, 0, 0, 0, 0])
    };
    assert_eq!((map(), acquire(512), acquire(u64::MAX)), (Ok(0), Ok(0), Err(Errno::EFAULT)));
    world.map(domid.0, 1, guest.pages[0].address() | P).unwrap();
    world.destroy(&guest.domain);
    assert_eq!((map(), acquire(512)), (Err(Errno::ESRCH), Err(Errno::ESRCH)));
    assert_eq!(grow(), u64::from(GENERAL_ERROR.cast_unsigned()));
    world.unmap(1);
    world.bury();
    assert!(!world.is_known(&guest.domain));
    assert_eq!(Arc::strong_count(&guest.domain), 1);
}

#[test]
fn a_domain_ends_whatever_state_it_is_in() {
    let world = World::new(128);
    let free = world.machine().frames().free_count();
    // Nothing in it; memory alone; a table half checked; unpinned; given up but mapped; shut down.
    for state in 0..7 {
        let domain = match state {
            0 => world.create(None).unwrap(),
            1 => {
                let domain = world.create(None).unwrap();
                domain.memory.set_max_pages(16);
                assert_eq!(world.populate(domain.id.0, 20).len(), 16);
                domain
            }
            _ => {
                let guest = world.guest();
                let [l4, l3, ..] = guest.tables;
                let id = guest.domain.id.0;
                if state == 2 {
                    let more = world.populate(id, 4);
                    for (slot, table) in more.iter().take(3).enumerate() {
                        let table = table.address() | ALL;
                        world.machine().table(more[3])[slot].store(table, Ordering::Relaxed);
                    }
                    let mm = world.mm(&guest.domain);
                    let taken = mm.take_table(more[3], Level::L4, &mut Budget::of(1));
                    assert!(matches!(taken, Err(Stop::Again)));
                } else if state == 3 {
                    world.ext(UNPIN_TABLE, l4, 0, id).unwrap();
                    world.ext(PIN_L4_TABLE, l4, 0, id).unwrap();
                    world.ext(hypercall_abi::mmu::mmuext::PIN_L3_TABLE, l3, 0, id).unwrap();
                } else if state == 4 {
                    world.put(1024, &guest.pages[1].0);
                    let done = world.memory_op(memory::DECREASE_RESERVATION, id, 1, 0);
                    assert_eq!(done, Ok(1));
                } else if state == 5 {
                    world.system.shut_down(&guest.domain, ShutdownReason(3));
                    assert!(world.told());
                    world.system.shut_down(&guest.domain, ShutdownReason(1));
                    assert!(!world.told());
                    let reason = guest.domain.shutdown_reason(world.machine());
                    assert_eq!(reason, Some(ShutdownReason(3)));
                    assert_eq!(guest.domain.memory.pages(), 16);
                }
                guest.domain
            }
        };
        world.check();
        world.destroy(&domain);
        assert!(!world.is_known(&domain), "{state}");
        assert_eq!(world.machine().frames().free_count(), free, "{state}");
    }
}

#[test]
fn a_domain_ends_after_it_has_left_its_cpu_and_its_visitors_have_gone() {
    let world = World::new(128);
    let guest = world.guest();
    let system = &world.system;
    let vcpu = guest.domain.vcpu(VcpuId(0)).unwrap().clone();
    let target = DomainVcpu { domain: guest.domain.clone(), vcpu: vcpu.clone() };
    system.unpause_domain(&guest.domain).unwrap();
    system.wake(&target, Reasons::DOWN);
    system.set_timers(&target, |timers| timers.once = 1 << 40);
    world.machine().on(1);
    let regs = &mut GuestRegs::default();
    let mut here: Here<Machine> = system.first_vcpu(regs).unwrap();
    assert!(here.running.is(&target));
    world.machine().on(0);
    let visit = system.visit(guest.domain.id).unwrap();
    assert!(system.destroy_domain(&guest.domain).is_err());
    assert!(system.visit(guest.domain.id).is_none());
    drop(visit);
    for _ in 0..3 {
        assert!(system.destroy_domain(&guest.domain).is_err());
        assert_eq!(guest.domain.memory.pages(), 16);
        world.check();
    }
    // Something else for the CPU to do.
    let other = world.control.vcpu(VcpuId(1)).unwrap().clone();
    system.wake(&DomainVcpu { domain: world.control.clone(), vcpu: other }, Reasons::DOWN);
    world.machine().on(1);
    here.cpu.call_attention();
    system.interrupted(&mut here, regs);
    assert!(!here.running.is(&target));
    world.machine().on(0);
    drop(target);
    drop(vcpu);
    world.destroy(&guest.domain);
    assert!(!world.is_known(&guest.domain));
    assert_eq!(Arc::strong_count(&guest.domain), 1);
}

#[test]
fn ports_go_with_their_domain() {
    let world = World::new(128);
    let [first, second] = [world.guest(), world.guest()];
    let system = &world.system;
    let mut ports = Vec::new();
    for _ in 0..300 {
        let waits = system.alloc_unbound(&first.domain, second.domain.id).unwrap();
        let bound = system.bind_interdomain(&second.domain, &first.domain, waits).unwrap();
        ports.push(bound);
    }
    let mut steps = 0;
    world.destroy_and(&first.domain, || steps += 1);
    assert!(steps >= 2 && !world.is_known(&first.domain));
    assert_eq!(Arc::strong_count(&first.domain), 1);
    for port in ports {
        let (status, _) = system.port_status(&second.domain, port).unwrap();
        assert_eq!(status, crate::event::Status::Unbound(first.domain.id));
    }
    world.destroy(&second.domain);
}

#[test]
fn grants_go_with_their_domain() {
    let world = World::new(192);
    let free = world.machine().frames().free_count();
    let [first, second] = [world.guest(), world.guest()];
    let (machine, system) = (world.machine(), &world.system);
    let grow = |guest: &Guest| {
        let Domain { grants, memory, .. } = &*guest.domain;
        grants.grow(world.mm(&guest.domain).frames, machine, memory, 1).unwrap();
        assert!(grants.grow(world.mm(&guest.domain).frames, machine, memory, 2).is_err());
    };
    grow(&first);
    grow(&second);
    let grant = |guest: &Guest, to: &Dom, frame: Mfn| {
        let table = guest.domain.grants.frame(0).unwrap();
        let entry = 1 | u64::from(to.id.0) << 16 | frame.0 << 32;
        machine.table(table)[8].store(entry, Ordering::Relaxed);
    };
    let map = |domain: &Dom, whose: &Dom, slot: u64| {
        let asked = MapGrantRef {
            host_addr: slot << 12,
            flags: 3,
            grant_ref: GrantRef(8),
            dom: whose.id,
            ..MapGrantRef::default()
        };
        let roots = &domain.vcpu(VcpuId(0)).unwrap().roots;
        let mapped = Grants { system, domain, roots }.map(&mut Peer::none(), &asked);
        world.check();
        mapped
    };
    // The first one maps a grant of the second one, the control domain one of the first, also for
    // devices.
    grant(&second, &first.domain, second.pages[2]);
    map(&first.domain, &second.domain, 20).unwrap();
    grant(&first, &world.control, first.pages[3]);
    let (handle, mfn) = map(&world.control, &first.domain, 7).unwrap();
    assert_eq!(mfn, first.pages[3]);
    world.destroy(&second.domain);
    assert!(world.is_known(&second.domain));
    world.destroy(&first.domain);
    // The page, and the table that says so.
    assert_eq!((first.domain.life(), first.domain.memory.pages()), (Life::Dead, 1));
    world.bury();
    assert!(world.is_known(&first.domain) && !world.is_known(&second.domain));
    let roots = &world.control.vcpu(VcpuId(0)).unwrap().roots;
    let (grants, mut peer) = (Grants { system, domain: &world.control, roots }, Peer::none());
    let dev_bus_addr = mfn.address();
    let asked = Unmap { handle, host_addr: 7 << 12, dev_bus_addr, new_addr: 0 };
    let removed = grants.unmap(&mut peer, asked).unwrap().unwrap();
    grants.flush_removed();
    grants.finish(&mut peer, removed);
    drop(peer);
    world.bury();
    assert!(!world.is_known(&first.domain));
    assert_eq!(machine.frames().free_count(), free);
}

#[test]
fn large_domains_end_in_slices() {
    let world = World::new(4096);
    let free = world.machine().frames().free_count();
    let domain = world.create(None).unwrap();
    domain.memory.set_max_pages(3000);
    // Extents of 8 pages: the last frame a domain has is none's first.
    for _ in 0..6 {
        let done = world.memory_op(memory::INCREASE_RESERVATION, domain.id.0, 40, 3);
        assert_eq!(done, Ok(40));
    }
    assert_eq!(domain.memory.pages(), 6 * 40 * 8);
    // Nothing is taken while somebody works on it.
    let visit = world.system.visit(domain.id).unwrap();
    for _ in 0..3 {
        assert!(world.system.destroy_domain(&domain).is_err());
    }
    assert_eq!((domain.life(), domain.memory.pages()), (Life::Dying, 6 * 40 * 8));
    drop(visit);
    let mut steps = 0;
    world.destroy_and(&domain, || steps += 1);
    assert!(steps >= 3, "{steps}");
    assert_eq!(world.machine().frames().free_count(), free);
}

#[test]
fn only_the_privileged_domain_reaches_others() {
    let world = World::new(192);
    let [first, second] = [world.guest(), world.guest()];
    let id = u64::from(second.domain.id.0);
    // The first guest's pages are where the control domain's is: at address 0.
    let machine = world.machine();
    let root = first.domain.vcpu(VcpuId(0)).unwrap();
    root.roots.resume(machine, &first.domain.memory, crate::mm::Mode::Kernel);
    let put = |value: &[u8]| machine.write_frame(first.pages[0], 0, value);
    let call = |call, args| world.call_as(&first.domain, call, args);
    let entry = second.pages[0].address() | P;
    let other = Hypercall::UpdateVaMappingOtherdomain;
    assert_eq!(call(other, [0x9000, entry, 0, id, 0, 0]), Err(Errno::EPERM));
    assert_eq!(call(other, [0x9000, entry, 0, 99, 0, 0]), Err(Errno::ESRCH));
    put(MmuUpdate { ptr: second.tables[3].address(), val: 0 }.as_bytes());
    let tables = (id + 1) << 16 | 0x7ff0;
    assert_eq!(call(Hypercall::MmuUpdate, [0, 1, 0, tables, 0, 0]), Err(Errno::EPERM));
    assert_eq!(call(Hypercall::MmuextOp, [0, 1, 0, id, 0, 0]), Err(Errno::EPERM));
    let domid = second.domain.id;
    put(Reservation { extent_start: 1024, nr_extents: 1, domid, ..Reservation::default() }
        .as_bytes());
    assert_eq!(call(Hypercall::MemoryOp, [6, 0, 0, 0, 0, 0]), Ok(0));
    put(DomainArg { domid }.as_bytes());
    for op in [memory::CURRENT_RESERVATION, memory::MAXIMUM_RESERVATION, memory::MAXIMUM_GPFN] {
        assert_eq!(call(Hypercall::MemoryOp, [u64::from(op), 0, 0, 0, 0, 0]), Err(Errno::EPERM));
    }
    assert_eq!(second.domain.memory.pages(), 16);
}

#[test]
fn the_privileged_domain_works_on_others() {
    let world = World::new(192);
    let [first, second] = [world.guest(), world.guest()];
    let (one, two) = (first.domain.id.0, second.domain.id.0);
    let l1 = first.tables[3].address();
    let entry = |mfn: Mfn| mfn.address() | ALL;
    // Frames of a third domain in another's table, and of its own in it.
    world.update(l1 + 8 * 100, entry(second.pages[0]), one, two).unwrap();
    world.update(l1 + 8 * 101, entry(world.page), one, DomId::SELF.0).unwrap();
    assert_eq!(world.update(l1 + 8 * 102, entry(world.page), one, one), Err(Errno::EBUSY));
    assert_eq!(world.update(l1 + 8 * 102, entry(first.pages[0]), two, two), Err(Errno::EINVAL));
    assert_eq!(world.update(l1, 0, one, 0), Err(Errno::ESRCH));
    // A table refers to tables of its own domain alone.
    let (l2, table) = (first.tables[2].address(), entry(first.tables[3]));
    world.update(l2 + 8, table, one, one).unwrap();
    world.update(l2 + 8, 0, one, one).unwrap();
    assert_eq!(world.update(l2 + 8, table, one, DomId::SELF.0), Err(Errno::EINVAL));
    assert_eq!(world.update(l2 + 8, table, one, two), Err(Errno::EINVAL));
    // The machine-to-physical table.
    let pages = first.pages[3].address();
    world.update(pages | 1, 77, 0, one).unwrap();
    assert_eq!(world.machine().m2p(first.pages[3]), Pfn(77));
    assert_eq!(world.update(pages | 1, 78, 0, two), Err(Errno::EINVAL));
    // Whole pages.
    world.machine().table(first.pages[3])[5].store(5, Ordering::Relaxed);
    world.ext(COPY_PAGE, first.pages[4], first.pages[3].0, one).unwrap();
    assert_eq!(world.word(first.pages[4], 5), 5);
    world.ext(CLEAR_PAGE, first.pages[3], 0, one).unwrap();
    assert_eq!(world.word(first.pages[3], 5), 0);
    assert_eq!(world.ext(CLEAR_PAGE, first.pages[3], 0, two), Err(Errno::EINVAL));
    assert_eq!(world.ext(NEW_BASEPTR, first.tables[0], 0, one), Err(Errno::EPERM));
    // A frame given up while another domain maps it is its owner's until then.
    world.map(two, 3, entry(second.pages[11])).unwrap();
    world.put(1024, &second.pages[11].0);
    assert_eq!(world.memory_op(memory::DECREASE_RESERVATION, two, 1, 0), Ok(1));
    assert_eq!(second.domain.memory.pages(), 16);
    world.unmap(3);
    assert_eq!(second.domain.memory.pages(), 15);
    world.put(0, &DomainArg { domid: second.domain.id });
    let ask = |op: u32| world.call(Hypercall::MemoryOp, [u64::from(op), 0, 0, 0, 0, 0]);
    assert_eq!(ask(memory::CURRENT_RESERVATION), Ok(15));
    assert_eq!(ask(memory::MAXIMUM_RESERVATION), Ok(32));
    // The second one's frame is in the first one's table: it goes when that does.
    world.destroy(&second.domain);
    assert_eq!((second.domain.life(), second.domain.memory.pages()), (Life::Dead, 1));
    world.destroy(&first.domain);
    assert!(!world.is_known(&first.domain));
    world.bury();
    assert!(!world.is_known(&second.domain));
}

#[test]
fn a_domain_is_told_the_memory_map_it_was_given() {
    let world = World::new(128);
    let guest = world.guest();
    let map = |lines, buffer| MemoryMap { nr_entries: lines, buffer, ..MemoryMap::default() };
    let call = |op: u32| world.call(Hypercall::MemoryOp, [u64::from(op), 0, 0, 0, 0, 0]);
    world.put(0, &map(4, 512));
    assert_eq!(call(memory::MEMORY_MAP), Err(Errno::ENOSYS));
    let line = E820Entry { addr: 0.into(), size: 0x10_0000.into(), kind: 1.into() };
    for domid in [DomId::SELF, guest.domain.id, DomId(99)] {
        world.put(0, &ForeignMemoryMap { domid, map: map(1, 512), ..ForeignMemoryMap::default() });
        world.put(512, &line);
        let told = if domid == DomId(99) { Err(Errno::ESRCH) } else { Ok(0) };
        assert_eq!(call(memory::SET_MEMORY_MAP), told);
    }
    world.put(512, &[0_u8; 20]);
    world.put(0, &map(4, 512));
    assert_eq!(call(memory::MEMORY_MAP), Ok(0));
    assert_eq!(world.word(world.page, 0) & 0xffff_ffff, 1);
    assert_eq!(world.word(world.page, 65), 0x10_0000);
    assert_eq!(guest.domain.memory_map.lock(world.machine()).lines().len(), 1);
    world.destroy(&guest.domain);
}

#[test]
fn the_audit_finds_what_is_wrong() {
    let world = World::new(128);
    let guest = world.guest();
    let found = || {
        let mut found = Vec::new();
        world.system.audit(|imbalance| found.push(std::format!("{imbalance}"))).unwrap();
        found
    };
    let free = world.machine().frames().free_count();
    assert_eq!((found().len(), world.machine().frames().free_count()), (0, free));
    guest.domain.memory.add(1);
    assert_eq!(found(), ["domain 1 has 17 frames, not 18"]);
    guest.domain.memory.shrink(1);
    let lost = world.mm(&guest.domain).frames.take(guest.pages[0], guest.domain.id).unwrap();
    assert_eq!(found().len(), 1);
    world.mm(&guest.domain).frames.put(lost);
    let held = world.machine().frames().word(guest.tables[3]);
    assert_eq!(held.frame_type(), FrameType::L1);
}

#[test]
fn the_audit_call_is_for_the_privileged_and_counts_while_others_stand() {
    let world = World::new(128);
    let guest = world.guest();
    let asked = |domain: &Dom, op: u64| {
        let here = world.system.cpus.get(CpuId::BOOT).unwrap();
        let (vcpu, regs) = (domain.vcpu(VcpuId(0)).unwrap(), &mut GuestRegs::default());
        let mut cx = Context::new(&world.system, here, domain, vcpu, regs);
        cx.call(55, [op, 0, 0, 0, 0, 0])
    };
    assert_eq!(asked(&guest.domain, 0), Ok(Reply::Value(3)));
    assert_eq!(asked(&guest.domain, 1), Err(Errno::EPERM));
    assert_eq!(asked(&world.control, 99), Err(Errno::ENOSYS));
    // The second CPU stands still, this one does not wait for itself.
    world.system.standstill.pretend(2);
    assert_eq!(asked(&world.control, 1), Ok(Reply::Value(0)));
    guest.domain.memory.add(1);
    world.system.standstill.pretend(2);
    assert_eq!(asked(&world.control, 1), Ok(Reply::Value(1)));
    guest.domain.memory.shrink(1);
    // Another CPU counts: the call is made again after it.
    let args = [1, 0, 0, 0, 0, 0];
    world.system.standstill.pretend(2);
    let again = world.system.alone(|| asked(&world.control, 1));
    assert_eq!(again, Some(Ok(Reply::Again(args))));
    world.system.stand_still();
    world.check();
}

/// What was in a domain's memory, in the page it shared and in its descriptors is nowhere in what
/// others get afterwards.
#[test]
fn freed_frames_come_back_blank() {
    let world = World::new(96);
    let marker = [0xa5; 4096];
    let guest = world.guest();
    let all = guest.pages.iter().chain(&guest.tables).chain([&guest.domain.shared_info]);
    let all: Vec<Mfn> = all.copied().collect();
    world.destroy(&guest.domain);
    all.iter().for_each(|&mfn| world.machine().write_frame(mfn, 0, &marker));
    let blank = |mfn: Mfn| {
        assert!((0..512).all(|at| world.word(mfn, at) == 0), "{mfn:?}");
        all.contains(&mfn)
    };
    let next = world.create(None).unwrap();
    next.memory.set_max_pages(32);
    let frames = world.populate(next.id.0, 24);
    assert!(frames.into_iter().filter(|&mfn| blank(mfn)).count() >= 8, "the same frames");
    // The control domain's own, and the kernel's.
    let own = world.populate(0x7ff0, 24);
    assert_eq!(own.iter().filter(|&&mfn| blank(mfn)).count(), 0, "all are taken");
    world.destroy(&next);
    all.iter()
        .filter(|&&mfn| world.machine().frames().owner(mfn).is_none())
        .for_each(|&mfn| world.machine().write_frame(mfn, 0, &marker));
    assert!(world.populate(0x7ff0, 24).into_iter().filter(|&mfn| blank(mfn)).count() >= 8);
}

#[test]
fn a_domain_that_has_shut_down_goes_on() {
    let world = World::new(96);
    let domain = world.guest().domain;
    let reasons = || domain.vcpu(VcpuId(0)).unwrap().scheduling.reasons();
    let before = reasons();
    world.system.resume_domain(&domain);
    assert_eq!(reasons(), before, "it had not shut down");
    world.system.shut_down(&domain, ShutdownReason(2));
    assert_eq!(domain.shutdown_reason(world.machine()), Some(ShutdownReason(2)));
    assert_eq!(reasons(), before | Reasons::STOPPED);
    assert!(world.told());
    world.system.resume_domain(&domain);
    assert_eq!((domain.shutdown_reason(world.machine()), reasons()), (None, before));
    // It can do so again, for another reason.
    world.system.shut_down(&domain, ShutdownReason(0));
    assert_eq!(domain.shutdown_reason(world.machine()), Some(ShutdownReason(0)));
    assert!(world.told());
    world.destroy(&domain);
}

#[test]
fn what_a_domain_is_connected_to_is_recorded() {
    use hypercall_abi::extension::{GET_RINGS, Rings, SET_RINGS};
    let world = World::new(96);
    let guest = world.guest();
    let call = |op: u32, domain: &Dom| {
        world.call_as(domain, Hypercall::Extension, [u64::from(op), 0, 0, 0, 0, 0])
    };
    let id = guest.domain.id;
    let rings = Rings { domain: id, store_port: 1, console_frame: 7, ..Rings::default() };
    world.put(0, &rings);
    assert_eq!(call(SET_RINGS, &world.control), Ok(0));
    world.put(0, &Rings { domain: id, ..Rings::default() });
    assert_eq!(call(GET_RINGS, &world.control), Ok(0));
    let mut told = [0; size_of::<Rings>()];
    world.machine().read_frame(world.page, 0, &mut told);
    assert_eq!(told, rings.as_bytes());
    assert_eq!(call(GET_RINGS, &guest.domain), Err(Errno::EPERM));
    world.put(0, &Rings { pad: 1, ..rings });
    assert_eq!(call(SET_RINGS, &world.control), Err(Errno::EINVAL));
    world.put(0, &Rings { domain: DomId(99), ..rings });
    assert_eq!(call(SET_RINGS, &world.control), Err(Errno::ESRCH));
    world.destroy(&guest.domain);
}

#[test]
fn a_multicall_has_one_budget() {
    let world = World::new(128);
    let guest = world.guest();
    let (machine, domain) = (world.machine(), &guest.domain);
    domain.vcpu(VcpuId(0)).unwrap().roots.resume(machine, &domain.memory, crate::mm::Mode::Kernel);
    // The guest's page 0 has the list, page 1 twenty pages to clear.
    let [list, pages] = [guest.pages[0], guest.pages[1]];
    let clear = MmuextOp { cmd: CLEAR_PAGE, arg1: guest.pages[7].0, ..MmuextOp::default() };
    (0..20).for_each(|n| machine.write_frame(pages, n * size_of::<MmuextOp>(), clear.as_bytes()));
    let args = [4096, 20, 0, u64::from(DomId::SELF.0), 0, 0];
    let (op, result) = (u64::from(Hypercall::MmuextOp.number()), 7);
    let entry = hypercall_abi::multicall::MulticallEntry { op, result, args };
    let size = size_of_val(&entry);
    (0..40).for_each(|n| machine.write_frame(list, n * size, entry.as_bytes()));
    let (mut args, mut slices) = ([0, 40, 0, 0, 0, 0], 0);
    loop {
        let here = world.system.cpus.get(CpuId::BOOT).unwrap();
        let (vcpu, regs) = (domain.vcpu(VcpuId(0)).unwrap(), &mut GuestRegs::default());
        let mut cx = Context::new(&world.system, here, domain, vcpu, regs);
        match cx.call(u64::from(Hypercall::Multicall.number()), args) {
            Ok(Reply::Again(again)) => args = again,
            done => break assert_eq!(done, Ok(Reply::Value(0))),
        }
        slices += 1;
    }
    // 64 of a slice for each page, and for each call.
    assert!((13..20).contains(&slices), "{slices}");
    assert!((0..40).all(|n| world.word(list, n * size / 8 + 1) == 0));
    world.control.vcpu(VcpuId(0)).unwrap().roots.resume(
        machine,
        &world.control.memory,
        crate::mm::Mode::Kernel,
    );
    world.check();
}

/// What guests do is recorded, inside a multicall too, and only when that is asked for.
#[test]
fn calls_refusals_and_exceptions_are_recorded() {
    let world = World::new(128);
    let guest = world.guest();
    let here = world.system.cpus.get(CpuId::BOOT).unwrap();
    let target = |domain: &Dom| {
        let vcpu = domain.vcpu(VcpuId(0)).unwrap().clone();
        DomainVcpu { domain: domain.clone(), vcpu }
    };
    let (vcpu, regs) = (guest.domain.vcpu(VcpuId(0)).unwrap(), &mut GuestRegs::default());
    regs.rip = 0x1234;
    let mut cx = Context::new(&world.system, here, &guest.domain, vcpu, regs);
    cx.call_traced(55, [0; 6], false).unwrap();
    *world.machine().records.lock().unwrap() = Some(Vec::new());
    cx.call_traced(55, [0, 1, 2, 3, 4, 5], false).unwrap();
    assert_eq!(cx.call_traced(99, [7; 6], true), Err(Errno::ENOSYS));
    cx.explain(format_args!("it is {} and longer than what fits in a record, {:0100}", "so", 0));
    cx.trace(Kind::Exception, 0x1234, &[13, 8, 0]);
    world.system.trace_switch(&target(&world.control), &target(&guest.domain));
    let records = world.machine().records.lock().unwrap().take().unwrap();
    let who = |kind: Kind, domain: u64| domain << 32 | kind as u64;
    let number = u64::from(guest.domain.id.0);
    let heads: Vec<_> = records.iter().map(|record| [record[0], record[2]]).collect();
    let [call, refusal] = [Kind::Hypercall, Kind::Refusal].map(|kind| [who(kind, number), 0x1234]);
    let exception = [who(Kind::Exception, number), 0x1234];
    assert_eq!(heads, [call, call, refusal, exception, [who(Kind::Switch, number), 0]]);
    assert_eq!(records[0][4..12], [55, 0, 1, 2, 3, 4, 5, 3]);
    assert_eq!(records[0][13..15], [0, 0]);
    assert_eq!(records[1][11..15], [(-38_i64).cast_unsigned(), records[1][12], 0, 1]);
    assert_eq!(records[2][4].to_le_bytes(), *b"it is so");
    assert_eq!(records[4][4], 0, "the control domain's first vCPU");
}

/// A call that never returns is recorded all the same, and so is a crash.
#[test]
fn ends_are_recorded() {
    let world = World::new(128);
    let guest = world.guest();
    let here = world.system.cpus.get(CpuId::BOOT).unwrap();
    *world.machine().records.lock().unwrap() = Some(Vec::new());
    let regs = &mut GuestRegs::default();
    let vcpu = guest.domain.vcpu(VcpuId(0)).unwrap();
    Context::new(&world.system, here, &guest.domain, vcpu, regs).crash(format_args!("so it is"));
    let vcpu = world.control.vcpu(VcpuId(0)).unwrap();
    let mut cx = Context::new(&world.system, here, &world.control, vcpu, regs);
    let number = u64::from(Hypercall::SchedOpCompat.number());
    let power_off = [u64::from(hypercall_abi::sched::SHUTDOWN), 0, 0, 0, 0, 0];
    let call = std::panic::AssertUnwindSafe(|| cx.call_traced(number, power_off, false));
    std::panic::catch_unwind(call).unwrap_err();
    let records = world.machine().records.lock().unwrap().take().unwrap();
    assert_eq!(records.iter().map(|it| it[0] & 0xff).collect::<Vec<_>>(), [7, 1]);
    assert_eq!(records[0][4].to_le_bytes(), *b"so it is");
    assert_eq!((records[1][4], records[1][13]), (number, 3));
}

/// A vCPU that loses its state refers to nothing any more, and waits for nothing.
#[test]
fn a_vcpu_is_reset() {
    let world = World::new(128);
    let guest = world.guest();
    let vcpu = guest.domain.vcpu(VcpuId(0)).unwrap();
    vcpu.set_initialised(true);
    vcpu.poll.begin(Some(Port(1)));
    let target = DomainVcpu { domain: guest.domain.clone(), vcpu: vcpu.clone() };
    world.system.hold(&target, Reasons::WAITING);
    let here = world.system.cpus.get(CpuId::BOOT).unwrap();
    let (own, regs) = (world.control.vcpu(VcpuId(0)).unwrap(), &mut GuestRegs::default());
    let cx = Context::new(&world.system, here, &world.control, own, regs);
    for _ in 0..2 {
        assert_eq!(cx.set_vcpu_context(&guest.domain, &[0; 16]), Ok(Reply::Value(0)));
        world.check();
        assert!(!vcpu.is_initialised() && !vcpu.poll.is_on());
        assert_eq!((vcpu.roots.kernel(), vcpu.roots.user()), (None, None));
        let reasons = vcpu.scheduling.reasons();
        assert!(reasons.contains(Reasons::DOWN) && !reasons.contains(Reasons::WAITING));
    }
    let gdt = world.machine().frames().word(guest.pages[8]);
    assert_eq!(gdt.typed(), 0, "no longer a table of descriptors");
    // The table is a table still: it is pinned.
    assert_eq!(world.machine().frames().word(guest.tables[0]).frame_type(), FrameType::L4);
    world.mm(&guest.domain);
    world.destroy(&guest.domain);
    assert!(!world.is_known(&guest.domain));
}
