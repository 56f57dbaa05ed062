//! No entry into ring 0 takes longer because many large trees of tables are given up one after the other.

use hypercall_abi::layout::FLAT_RING3_CS64;
use hypercall_abi::regs::{GuestContextFlags, VcpuGuestContext};

use super::*;
use crate::frames::Validation;
use crate::mm::Mode;

/// Tables of level 1 in a tree: more than are undone in a slice.
const LARGE: usize = 24;
/// Tables of level 1 that are undone in one slice at most: those of its budget, and one of each tree that
/// has its turn.
const MOST: usize = 14;

/// An unpinned tree of a domain's, whose address 0 is a page of it to be read.
fn tree(world: &World, domain: &Dom, page: Mfn) -> Mfn {
    let frames = world.populate(domain.id.0, 3 + LARGE as u64);
    let set = |table: Mfn, index: usize, to: Mfn, flags: u64| {
        world.machine().table(table)[index].store(to.address() | flags, Ordering::Relaxed);
    };
    let (uppers, lowest) = frames.split_at(3);
    set(uppers[0], 0, uppers[1], ALL);
    set(uppers[1], 0, uppers[2], ALL);
    lowest.iter().enumerate().for_each(|(index, &table)| set(uppers[2], index, table, ALL));
    set(lowest[0], 0, page, P | US);
    uppers[0]
}

/// The tables of level 1 that are whole.
fn tables(world: &World) -> Vec<Mfn> {
    let frames = world.machine().frames();
    let whole = |mfn: &Mfn| {
        let word = frames.word(*mfn);
        word.frame_type() == FrameType::L1 && word.validation() == Validation::Done
    };
    (0..frames.len()).map(Mfn).filter(whole).collect()
}

/// Does one thing after the other until it is done, each of which undoes no more than there is time for.
fn in_slices(world: &World, mut step: impl FnMut() -> bool) {
    loop {
        let before = tables(world);
        let done = step();
        let after = tables(world);
        let gone = before.iter().filter(|table| !after.contains(table)).count();
        assert!(gone <= MOST, "{gone} tables");
        world.check();
        if done {
            return;
        }
    }
}

fn large_guest(world: &World) -> Guest {
    let guest = world.guest();
    guest.domain.memory.set_max_pages(400);
    guest
}

#[test]
fn the_roots_of_a_domain_that_ends() {
    let world = World::new(512);
    let config = NewDomain { max_vcpus: 8, ..CONFIG };
    let domain = world.system.create_domain(None, config).unwrap();
    domain.memory.set_max_pages(400);
    let page = world.populate(domain.id.0, 1)[0];
    for number in 0..6 {
        world.system.add_vcpu(&domain, VcpuRoots::none()).unwrap();
        let roots = [(); 2].map(|()| tree(&world, &domain, page));
        let vcpu = domain.vcpu(VcpuId(number)).unwrap();
        let budget = &mut Budget::unlimited();
        world.mm(&domain).first_roots(&vcpu.roots, roots[0], Some(roots[1]), budget).unwrap();
    }
    in_slices(&world, || world.system.destroy_domain(&domain).is_ok());
    assert!(!world.is_known(&domain));
}

#[test]
fn roots_that_are_loaded_by_an_instruction() {
    const LOAD_CR3: [u8; 3] = [0x0f, 0x22, 0xd8];
    let world = World::new(512);
    let guest = large_guest(&world);
    let (machine, domain) = (world.machine(), &guest.domain);
    let (here, vcpu) =
        (world.system.cpus.get(CpuId::BOOT).unwrap(), domain.vcpu(VcpuId(0)).unwrap());
    let roots = [(); 8].map(|()| tree(&world, domain, guest.pages[0]));
    vcpu.roots.resume(machine, &domain.memory, Mode::Kernel);
    machine.write_frame(guest.pages[0], 0, &LOAD_CR3);
    for root in roots {
        in_slices(&world, || {
            let regs = &mut GuestRegs {
                rax: root.address(),
                cs: FLAT_RING3_CS64.into(),
                ..GuestRegs::default()
            };
            let mut cx = Context::new(&world.system, here, domain, vcpu, regs);
            assert!(cx.privileged_instruction());
            regs.rip != 0
        });
        assert_eq!(vcpu.roots.kernel(), Some(root));
    }
}

/// What such an instruction frees of another domain's is counted as that domain's.
#[test]
fn frames_of_others_in_a_root_that_is_given_up_by_an_instruction() {
    let world = World::new(512);
    let [guest, other] = [large_guest(&world), world.guest()];
    let (machine, domain) = (world.machine(), &guest.domain);
    let vcpu = domain.vcpu(VcpuId(0)).unwrap();
    let [old, new] = [(); 2].map(|()| tree(&world, domain, guest.pages[0]));
    let (mm, budget) = (world.mm(domain), &mut Budget::unlimited());
    vcpu.roots.resume(machine, &domain.memory, Mode::Kernel);
    mm.new_root(&vcpu.roots, old, budget).unwrap();
    let lowest = mm.entry_for(old, 0).unwrap().0;
    let (at, id) = (lowest.mfn().address() + 8, domain.id.0);
    mm.drop_table(lowest, budget);
    vcpu.roots.resume(machine, &domain.memory, Mode::Kernel);
    world.control.vcpu(VcpuId(0)).unwrap().roots.resume(
        machine,
        &world.control.memory,
        Mode::Kernel,
    );
    world.update(at, other.pages[0].address() | P, id, other.domain.id.0).unwrap();
    world.destroy(&other.domain);
    assert!(world.is_known(&other.domain));
    vcpu.roots.resume(machine, &domain.memory, Mode::Kernel);
    machine.write_frame(guest.pages[0], 0, &[0x0f, 0x22, 0xd8]);
    let here = world.system.cpus.get(CpuId::BOOT).unwrap();
    for _ in 0..8 {
        let regs = &mut GuestRegs {
            rax: new.address(),
            cs: FLAT_RING3_CS64.into(),
            ..GuestRegs::default()
        };
        assert!(Context::new(&world.system, here, domain, vcpu, regs).privileged_instruction());
        world.check();
        world.bury();
    }
    assert!(!world.is_known(&other.domain));
}

#[test]
fn roots_of_a_state_that_is_refused() {
    let world = World::new(512);
    let guest = large_guest(&world);
    let (machine, domain) = (world.machine(), &guest.domain);
    world.system.add_vcpu(domain, VcpuRoots::none()).unwrap();
    let (here, vcpu) =
        (world.system.cpus.get(CpuId::BOOT).unwrap(), domain.vcpu(VcpuId(0)).unwrap());
    let roots = [(); 8].map(|()| tree(&world, domain, guest.pages[0]));
    vcpu.roots.resume(machine, &domain.memory, Mode::Kernel);
    for root in roots {
        let mut context = VcpuGuestContext {
            flags: GuestContextFlags::IN_KERNEL.bits(),
            ..VcpuGuestContext::default()
        };
        // A page of descriptors is no root for user mode.
        (context.ctrlreg[3], context.ctrlreg[1]) = (root.address(), guest.pages[8].address());
        for (page, bytes) in context.as_bytes().chunks(4096).enumerate() {
            machine.write_frame(guest.pages[page + 1], 0, bytes);
        }
        in_slices(&world, || {
            let regs = &mut GuestRegs::default();
            let mut cx = Context::new(&world.system, here, domain, vcpu, regs);
            match cx.call(Hypercall::VcpuOp.number().into(), [0, 1, 0x1000, 0, 0, 0]) {
                Ok(Reply::Again(_)) => false,
                answer => {
                    assert_eq!(answer, Err(Errno::EINVAL));
                    true
                }
            }
        });
    }
}

/// As many CPUs as there may be give up a tree each at once, and only then somebody goes on with them.
#[test]
fn trees_that_many_cpus_give_up_at_once() {
    let world = World::new(512);
    let guest = large_guest(&world);
    let (mm, others) = (world.mm(&guest.domain), tables(&world));
    let roots = [(); 8].map(|()| tree(&world, &guest.domain, guest.pages[0]));
    let held = roots.map(|root| mm.take_table(root, Level::L4, &mut Budget::unlimited()).unwrap());
    for root in held {
        let before = tables(&world).len();
        mm.drop_table(root, &mut Budget::new());
        assert!(before - tables(&world).len() <= MOST);
    }
    in_slices(&world, || mm.finish_pending(&mut Budget::new()).is_ok());
    assert_eq!(tables(&world), others);
}
