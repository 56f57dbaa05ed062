//! Random hypercalls of a guest and of the control domain that works on it, at the same time, in orders of their
//! steps that `shuttle` draws; afterwards all references are counted, and the guest is ended.
//!
//! `SHUTTLE_RANDOM_SEED` repeats an order, `PARAVANE_ORDERS` says how many there are.

use hypercall_abi::domctl::{self, Domctl, HypercallInit, VcpuContext};
use hypercall_abi::grant::{self, COPY_SOURCE_GREF, CopyPtr, GrantCopy, UnmapGrantRef};
use hypercall_abi::mmu::mmuext::*;
use hypercall_abi::regs::{GuestContextFlags, VcpuGuestContext};
use hypercall_abi::types::GrantHandle;
use hypercall_abi::vcpu::{self, RegisterVcpuInfo};
use shuttle::rand::Rng;

use super::interleavings::{orders_of, step};
use super::*;
use crate::mm::Mode;

/// Hypercalls of each.
const CALLS: usize = 5;
/// Pages from here on are for tables and whatever else; those before hold arguments.
const FREE: usize = 2;

fn one<T: Copy>(of: &[T]) -> T {
    of[shuttle::rand::thread_rng().gen_range(0..of.len())]
}

struct Game {
    world: World,
    guest: Guest,
}

impl Game {
    fn new() -> Self {
        let world = World::new(112);
        let guest = world.guest();
        world.system.add_vcpu(&guest.domain, VcpuRoots::none()).unwrap();
        let Domain { grants, memory, .. } = &*guest.domain;
        grants.grow(world.mm(&guest.domain).frames, world.machine(), memory, 1).unwrap();
        for (cpu, domain) in [(0, &world.control), (1, &guest.domain)] {
            world.machine().on(cpu);
            let roots = &domain.vcpu(VcpuId(0)).unwrap().roots;
            roots.resume(world.machine(), &domain.memory, Mode::Kernel);
        }
        Self { world, guest }
    }

    fn frame(&self) -> Mfn {
        one(&[one(&self.guest.tables), one(&self.guest.pages[FREE..])])
    }

    fn entry(&self) -> u64 {
        match one(&[0, P, P, ALL]) {
            0 => 0,
            flags => self.frame().address() | flags,
        }
    }

    /// An address that may be mapped otherwise.
    fn address(&self) -> u64 {
        one(&[2_u64, 3, 4, 9, 10]) << 12
    }

    /// A hypercall, until it is done or has gone on often enough.
    fn call(&self, cpu: u8, call: Hypercall, mut args: [u64; 6]) {
        let domain = if cpu == 0 { &self.world.control } else { &self.guest.domain };
        let here = self.world.system.cpus.get(CpuId::new(cpu).unwrap()).unwrap();
        let (vcpu, regs) = (domain.vcpu(VcpuId(0)).unwrap(), &mut GuestRegs::default());
        for _ in 0..8 {
            self.world.machine().on(cpu.into());
            let mut cx = Context::new(&self.world.system, here, domain, vcpu, regs);
            match cx.call(call.number().into(), args) {
                Ok(Reply::Again(again)) => args = again,
                _ => return,
            }
            step(true);
        }
    }

    /// Puts arguments where the caller has them: at address 0.
    fn put(&self, cpu: u8, at: usize, value: &(impl IntoBytes + zerocopy::Immutable)) {
        if cpu == 0 {
            return self.world.put(at, value);
        }
        for (page, bytes) in value.as_bytes().chunks(4096).enumerate() {
            self.world.machine().write_frame(self.guest.pages[page], at, bytes);
        }
    }

    fn extended(&self, cpu: u8) {
        let cmd =
            one(&[PIN_L1_TABLE, PIN_L4_TABLE, UNPIN_TABLE, UNPIN_TABLE, CLEAR_PAGE, NEW_BASEPTR]);
        let op = MmuextOp { cmd, arg1: self.frame().0, ..MmuextOp::default() };
        self.put(cpu, 0, &op);
        let whose = if cpu == 0 { self.guest.domain.id } else { DomId::SELF };
        self.call(cpu, Hypercall::MmuextOp, [0, 1, 0, u64::from(whose.0), 0, 0]);
    }

    fn update(&self, cpu: u8) {
        let ptr = self.frame().address() + 8 * one(&[0, 2, 3, 300]);
        self.put(cpu, 0, &MmuUpdate { ptr, val: self.entry() });
        let id = u64::from(self.guest.domain.id.0);
        let whose = if cpu == 0 { (id + 1) << 16 | id } else { DomId::SELF.0.into() };
        self.call(cpu, Hypercall::MmuUpdate, [0, 1, 0, whose, 0, 0]);
    }

    fn reserve(&self, cpu: u8) {
        let op = one(&[memory::INCREASE_RESERVATION, memory::DECREASE_RESERVATION]);
        let domid = if cpu == 0 { self.guest.domain.id } else { DomId::SELF };
        let asked =
            Reservation { extent_start: 1024, nr_extents: 1, domid, ..Reservation::default() };
        self.put(cpu, 0, &asked);
        self.put(cpu, 1024, &one(&self.guest.pages[FREE..]).0);
        self.call(cpu, Hypercall::MemoryOp, [op.into(), 0, 0, 0, 0, 0]);
    }

    fn guest_calls(&self) {
        let cpu = 1;
        match one(&[0, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8]) {
            0 => self.call(
                cpu,
                Hypercall::UpdateVaMapping,
                [self.address(), self.entry(), 0, 0, 0, 0],
            ),
            1 => self.extended(cpu),
            2 => self.update(cpu),
            3 => self.reserve(cpu),
            4 => {
                let table = self.guest.domain.grants.frame(0).unwrap();
                let value = one(&[0, 1, 5]) | self.frame().0 << 32;
                let word = &self.world.machine().table(table)[one(&[8, 9])];
                // As guests do: one that is in use stays.
                let old = word.load(Ordering::SeqCst);
                if old & 0x18 == 0 {
                    let _ = word.compare_exchange(old, value, Ordering::SeqCst, Ordering::SeqCst);
                }
            }
            5 => {
                let mut context = VcpuGuestContext {
                    flags: GuestContextFlags::IN_KERNEL.bits() | GuestContextFlags::ONLINE.bits(),
                    gdt_ents: 1,
                    ..VcpuGuestContext::default()
                };
                context.gdt_frames[0] = one(&self.guest.pages[8..]).0;
                context.ctrlreg[3] = one(&[self.guest.tables[0], self.frame()]).address();
                self.put(cpu, 0, &context);
                self.call(cpu, Hypercall::VcpuOp, [vcpu::INITIALISE.into(), 1, 0, 0, 0, 0]);
            }
            6 => self.call(
                cpu,
                Hypercall::VcpuOp,
                [one(&[vcpu::UP, vcpu::DOWN]).into(), 1, 0, 0, 0, 0],
            ),
            7 => {
                self.put(cpu, 0, &self.frame().0);
                self.call(cpu, Hypercall::SetGdt, [0, one(&[0, 512]), 0, 0, 0, 0]);
            }
            _ => {
                let asked = RegisterVcpuInfo { mfn: self.frame().0, ..RegisterVcpuInfo::default() };
                self.put(cpu, 0, &asked);
                self.call(cpu, Hypercall::VcpuOp, [vcpu::REGISTER_VCPU_INFO.into(), 1, 0, 0, 0, 0]);
            }
        }
    }

    fn domctl(&self, cmd: u32, argument: &(impl IntoBytes + zerocopy::Immutable)) {
        let mut asked = Domctl {
            cmd,
            interface_version: domctl::INTERFACE_VERSION,
            domain: self.guest.domain.id,
            ..Domctl::default()
        };
        let _ = argument.write_to_prefix(asked.payload.as_mut_bytes());
        self.put(0, 0, &asked);
        self.call(0, Hypercall::Domctl, [0; 6]);
    }

    fn grant_op(&self, op: u32, asked: &(impl IntoBytes + zerocopy::Immutable)) {
        self.put(0, 0, asked);
        self.call(0, Hypercall::GrantTableOp, [op.into(), 0, 1, 0, 0, 0]);
    }

    fn control_calls(&self) {
        let (cpu, dom) = (0, self.guest.domain.id);
        let (address, id) = (self.address(), u64::from(dom.0));
        match one(&[0, 0, 1, 2, 3, 3, 4, 5, 6, 7, 8, 9]) {
            0 => {
                let args = [address, self.entry(), 0, id, 0, 0];
                self.call(cpu, Hypercall::UpdateVaMappingOtherdomain, args);
            }
            1 => self.extended(cpu),
            2 => self.update(cpu),
            3 => {
                let reset = VcpuContext { vcpu: VcpuId(1), ..VcpuContext::default() };
                self.domctl(domctl::SETVCPUCONTEXT, &reset);
            }
            4 => self.domctl(one(&[domctl::PAUSEDOMAIN, domctl::UNPAUSEDOMAIN]), &0_u64),
            5 => self.domctl(domctl::HYPERCALL_INIT, &HypercallInit { gmfn: self.frame().0 }),
            6 => self.reserve(cpu),
            7 => {
                let (flags, grant_ref) = (one(&[1, 2, 3, 6]), GrantRef(one(&[8, 9])));
                let asked = MapGrantRef {
                    host_addr: address,
                    flags,
                    grant_ref,
                    dom,
                    ..MapGrantRef::default()
                };
                self.grant_op(grant::MAP_GRANT_REF, &asked);
            }
            8 => {
                let (handle, dev_bus_addr) = (GrantHandle(one(&[0, 1])), self.frame().address());
                let asked = UnmapGrantRef {
                    handle,
                    host_addr: address,
                    dev_bus_addr,
                    ..UnmapGrantRef::default()
                };
                self.grant_op(grant::UNMAP_GRANT_REF, &asked);
            }
            _ => {
                let source = CopyPtr { page: one(&[8, 9]), domid: dom, ..CopyPtr::default() };
                let dest =
                    CopyPtr { page: self.world.page.0, domid: DomId::SELF, ..CopyPtr::default() };
                let copy =
                    GrantCopy { source, dest, flags: COPY_SOURCE_GREF, ..GrantCopy::default() };
                self.grant_op(grant::COPY, &copy);
            }
        }
    }
}

#[test]
fn a_guest_and_who_works_on_it() {
    orders_of(60, 20_000, || {
        let game = Arc::new(Game::new());
        game.world.machine().pause_with(Some(step));
        let other = Arc::clone(&game);
        let guest = shuttle::thread::spawn(move || (0..CALLS).for_each(|_| other.guest_calls()));
        (0..CALLS).for_each(|_| game.control_calls());
        guest.join().unwrap();
        game.world.machine().pause_with(None);
        game.world.check();
        let second = game.guest.domain.vcpu(VcpuId(1)).unwrap();
        let goes = !second.scheduling.reasons().contains(Reasons::DOWN);
        assert!(second.roots.kernel().is_some() || !goes, "it runs on nothing");
        game.world.destroy(&game.guest.domain);
    });
}
