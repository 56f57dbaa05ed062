//! A small machine with domains that each run on a CPU of their own, for the tests of grants.

use std::sync::Arc;
use std::vec::Vec;

use core::sync::atomic::Ordering;

use hypercall_abi::grant::{GrantCopy, MapGrantRef};
use hypercall_abi::mmu::EntryFlags;
use hypercall_abi::types::{DomId, GrantHandle, GrantRef, Mfn};

use crate::clock::Clock;
use crate::domain::{Domain, Privilege};
use crate::fake::Machine;
use crate::fake::audit::Holders;
use crate::frames::{FrameType, TypeRef};
use crate::grant::{Copier, Grants, Peer, Status, Unmap};
use crate::mm::{Budget, DomainMemory, Entry, Mm, VcpuRoots};
use crate::platform::Platform;
use crate::ports::Ports;
use crate::system::{Identity, System};

pub(super) const P: u64 = EntryFlags::PRESENT.bits();
pub(super) const RW: u64 = EntryFlags::RW.bits();

pub(super) struct World {
    pub(super) system: System<Machine>,
    pub(super) domains: Vec<Arc<Domain<Machine>>>,
    roots: Vec<VcpuRoots>,
    /// The L1 table of each domain, which maps the addresses from 0 on.
    pub(super) l1: Vec<Mfn>,
    idle: Mfn,
}

impl World {
    pub(super) fn new(frames: usize, domains: u8) -> Self {
        let machine = Machine::new(frames, domains);
        let idle = machine.frames().alloc_kernel(&machine, 1).unwrap();
        let identity = Identity { command_line: b"", changeset: "", compiler: "" };
        let clock = Clock::new(1_000_000, 0, 0);
        let system = System::new(machine, identity, clock, Ports::default());
        let mut world =
            Self { system, domains: Vec::new(), roots: Vec::new(), l1: Vec::new(), idle };
        (0..domains).for_each(|number| world.add(number));
        world.check();
        world
    }

    /// A domain on the CPU of the same number, with a table of one frame.
    fn add(&mut self, number: u8) {
        let id = DomId(u16::from(number) + 1);
        let memory = DomainMemory::new(id, 0);
        let domain = Arc::new(Domain::new(id, Privilege::None, Mfn(0), memory));
        self.system.domains.add(&self.system.platform, Arc::clone(&domain)).unwrap();
        self.domains.push(domain);
        self.roots.push(VcpuRoots::none());
        let number = usize::from(number);
        let [l4, l3, l2, l1] = [(); 4].map(|()| self.frame(number));
        self.l1.push(l1);
        for (table, below) in [(l4, l3), (l3, l2), (l2, l1)] {
            self.word(table, 0).store(below.address() | P | RW, Ordering::Relaxed);
        }
        self.machine().on(number);
        self.domains[number].memory.dirty().enter(self.machine().cpu());
        self.mm(number).new_root(&self.roots[number], l4, &mut Budget::unlimited()).unwrap();
        self.grow(number, 1);
    }

    pub(super) const fn machine(&self) -> &Machine {
        &self.system.platform
    }

    pub(super) fn mm(&self, domain: usize) -> Mm<'_, Machine, System<Machine>> {
        Mm::new(self.machine(), &self.domains[domain].memory, &self.system)
    }

    pub(super) fn grants(&self, domain: usize) -> Grants<'_, Machine> {
        self.machine().on(domain);
        Grants { system: &self.system, domain: &self.domains[domain], roots: &self.roots[domain] }
    }

    pub(super) fn grow(&self, domain: usize, frames: u32) {
        let Domain { grants, memory, .. } = &*self.domains[domain];
        grants.grow(self.mm(domain).frames, self.machine(), memory, frames).unwrap();
    }

    /// A frame for a domain.
    pub(super) fn frame(&self, domain: usize) -> Mfn {
        let memory = &self.domains[domain].memory;
        memory.set_max_pages(memory.max_pages().max(memory.pages() + 1));
        assert!(memory.grow(1));
        self.machine().frames().alloc_for(self.machine(), memory.id(), 0, None).unwrap()
    }

    pub(super) fn word(&self, mfn: Mfn, index: usize) -> &core::sync::atomic::AtomicU64 {
        &self.machine().table(mfn)[index]
    }

    /// The entry of the L1 table for page `slot`.
    pub(super) fn slot(&self, domain: usize, slot: u64) -> Entry {
        let at = usize::try_from(slot).unwrap();
        Entry(self.word(self.l1[domain], at).load(Ordering::Relaxed))
    }

    /// Writes an entry of the table as the guest does.
    pub(super) fn grant(&self, domain: usize, reference: u32, value: u64) {
        self.shared(domain, reference).store(value, Ordering::Relaxed);
    }

    pub(super) fn shared(&self, domain: usize, reference: u32) -> &core::sync::atomic::AtomicU64 {
        let frame = self.domains[domain].grants.frame(reference / 512).unwrap();
        self.word(frame, usize::try_from(reference % 512).unwrap())
    }

    pub(super) fn map(
        &self,
        domain: usize,
        (whose, reference): (u16, u32),
        (flags, host_addr): (u32, u64),
    ) -> Result<(GrantHandle, Mfn), Status> {
        let asked = MapGrantRef {
            host_addr,
            flags,
            grant_ref: GrantRef(reference),
            dom: DomId(whose),
            ..MapGrantRef::default()
        };
        self.grants(domain).map(&mut Peer::none(), &asked)
    }

    /// Unmaps in one batch; the statuses.
    pub(super) fn unmap(&self, domain: usize, all: &[Unmap]) -> Vec<i16> {
        let (grants, mut peer) = (self.grants(domain), Peer::none());
        let mut removed = Vec::new();
        let mut one = |&asked| {
            let unmapped = grants.unmap(&mut peer, asked);
            let status = Status::of(&unmapped);
            removed.extend(unmapped.ok().flatten());
            status
        };
        let statuses = all.iter().map(&mut one).collect();
        if !removed.is_empty() {
            grants.flush_removed();
        }
        removed.into_iter().for_each(|removed| grants.finish(&mut peer, removed));
        statuses
    }

    pub(super) fn copy(&self, domain: usize, all: &[GrantCopy]) -> Vec<i16> {
        let mut copier = Copier::new(self.grants(domain));
        let statuses = all.iter().map(|asked| Status::of(&copier.copy(asked))).collect();
        copier.finish();
        statuses
    }

    /// A domain stops to run, and all it has goes; its table when nobody uses it any more.
    pub(super) fn end(&mut self, domain: usize) {
        self.machine().on(domain);
        self.machine().load_root(self.idle, true);
        self.domains[domain].memory.dirty().leave(self.machine().cpu());
        while self.grants(domain).end_mappings(&mut Budget::of(1)).is_err() {
            self.check();
        }
        self.check();
        let root = self.roots[domain].kernel().unwrap();
        self.roots[domain] = VcpuRoots::none();
        let held = TypeRef::from_entry(root, FrameType::L4);
        self.mm(domain).drop_table(held, &mut Budget::unlimited());
        self.check();
        let id = self.domains[domain].id;
        for mfn in (0..self.machine().frames().len()).map(Mfn) {
            if self.machine().frames().owner(mfn) == Some(id) {
                if let Ok(frame) = self.mm(domain).frames.take(mfn, id) {
                    if let Some(held) = self.mm(domain).frames.unpin(&frame) {
                        self.mm(domain).drop_table(held, &mut Budget::unlimited());
                    }
                    self.mm(domain).frames.put(frame);
                }
                let _ = self.mm(domain).take_away(mfn);
            }
        }
        let _ = self.grants(domain).end_table();
        self.check();
    }

    /// All that must hold between any two operations.
    pub(super) fn check(&self) {
        let mut holders = Holders::default();
        let roots = self.roots.iter().filter_map(VcpuRoots::kernel);
        holders.typed.extend(roots.map(|mfn| (mfn, FrameType::L4)));
        holders.general.push(self.idle);
        holders.add_grants(self.machine(), &self.domains);
        let pages: Vec<_> = self.domains.iter().map(|d| (d.id, d.memory.pages())).collect();
        self.machine().audit(&holders, &pages);
        self.machine().check_tlbs();
    }
}
