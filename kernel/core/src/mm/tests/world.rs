//! A small machine with domains, for the tests of this module.

use std::sync::Mutex;
use std::vec::Vec;

use hypercall_abi::mmu::EntryFlags;
use hypercall_abi::types::{DomId, Mfn};

use crate::fake::Machine;
use crate::fake::audit::Holders;
use crate::frames::{FrameOwners, FrameType};
use crate::mm::*;
use crate::platform::Platform;

pub(super) const P: u64 = EntryFlags::PRESENT.bits();
pub(super) const RW: u64 = EntryFlags::RW.bits();
pub(super) const US: u64 = EntryFlags::USER.bits();
pub(super) const MARK: u64 = EntryFlags::GUEST_KERNEL.bits();
pub(super) const GLOBAL: u64 = EntryFlags::GLOBAL.bits();

/// A machine, some domains with a vCPU on a CPU each, and what they hold outside page tables.
pub(super) struct World {
    pub(super) machine: Machine,
    pub(super) domains: Vec<Domain>,
    pub(super) holders: Mutex<Holders>,
}

pub(super) struct Domain {
    pub(super) memory: DomainMemory,
    pub(super) roots: Vec<VcpuRoots>,
}

impl FrameOwners for World {
    fn frame_freed(&self, owner: DomId) {
        if let Some(domain) = self.domains.iter().find(|domain| domain.memory.id() == owner) {
            domain.memory.shrink(1);
        }
    }
}

impl World {
    /// `domains` domains of `cpus` vCPUs each, on `cpus` CPUs.
    pub(super) fn new(frames: usize, cpus: u8, domains: u16) -> Self {
        let machine = Machine::new(frames, cpus);
        let domains = (1..=domains)
            .map(|id| Domain {
                memory: DomainMemory::new(DomId(id), 0),
                roots: (0..cpus).map(|_| VcpuRoots::none()).collect(),
            })
            .collect();
        Self { machine, domains, holders: Mutex::default() }
    }

    pub(super) fn mm(&self, domain: usize) -> Mm<'_, Machine, Self> {
        Mm::new(&self.machine, &self.domains[domain].memory, self)
    }

    /// A frame for a domain.
    pub(super) fn frame(&self, domain: usize) -> Mfn {
        let memory = &self.domains[domain].memory;
        memory.set_max_pages(memory.max_pages().max(memory.pages() + 1));
        assert!(memory.grow(1));
        self.machine.frames().alloc_for(&self.machine, memory.id(), 0, None).unwrap()
    }

    /// Writes a word of a frame as a guest does that has it mapped writable.
    pub(super) fn poke(&self, mfn: Mfn, index: usize, value: u64) {
        let word = self.machine.frames().word(mfn);
        let free = word.typed() == 0 || word.frame_type() == FrameType::Writable;
        assert!(free, "a guest could not write this");
        self.machine.table(mfn)[index].store(value, core::sync::atomic::Ordering::Relaxed);
    }

    pub(super) fn peek(&self, mfn: Mfn, index: usize) -> u64 {
        self.machine.table(mfn)[index].load(core::sync::atomic::Ordering::Relaxed)
    }

    /// A chain of four tables, L4 first, in which `leaf` is mapped at address 0 with `flags`.
    pub(super) fn chain(&self, domain: usize, leaf: Mfn, flags: u64) -> [Mfn; 4] {
        let tables = [(); 4].map(|()| self.frame(domain));
        let [l4, l3, l2, l1] = tables;
        self.poke(l4, 0, entry(l3, P | RW | US));
        self.poke(l3, 0, entry(l2, P | RW | US));
        self.poke(l2, 0, entry(l1, P | RW | US));
        self.poke(l1, 0, entry(leaf, flags));
        tables
    }

    /// A chain whose L4 has a second entry for its L3, and so down to the L2, which maps `page` by as many
    /// further L1 tables as are asked for. The L4.
    pub(super) fn tree(&self, domain: usize, page: Mfn, further: usize) -> Mfn {
        let [l4, l3, l2, _] = self.chain(domain, page, P | RW);
        for slot in 1..=further {
            let l1 = self.frame(domain);
            self.poke(l1, 7, entry(page, P | RW));
            self.poke(l2, slot * 80, entry(l1, P));
        }
        self.poke(l3, 511, entry(l2, P));
        self.poke(l4, 511, entry(l3, P));
        l4
    }

    pub(super) fn ext(&self, domain: usize, cpu: usize, cmd: u32, arg1: u64) -> Result<(), Why> {
        let operation = hypercall_abi::mmu::MmuextOp { cmd, arg1, ..Default::default() };
        self.ext_with(domain, cpu, operation, &mut Budget::new())
    }

    /// One operation of `mmuext_op`, continued until it is done, in slices of `budget`'s size.
    pub(super) fn ext_with(
        &self,
        domain: usize,
        cpu: usize,
        operation: hypercall_abi::mmu::MmuextOp,
        budget: &mut Budget,
    ) -> Result<(), Why> {
        self.machine.on(cpu);
        let mm = self.mm(domain);
        let roots = &self.domains[domain].roots[cpu];
        loop {
            match mm.one_extended(roots, None, operation, budget, &mut |_| {}) {
                Ok(()) => return Ok(()),
                Err(Stop::Refused(refusal)) => return Err(refusal.why),
                Err(Stop::Again) => {
                    self.check();
                    *budget = Budget::new();
                }
            }
        }
    }

    /// `mmu_update` with one request.
    pub(super) fn update(&self, domain: usize, ptr: u64, val: u64) -> Result<(), Why> {
        let request = hypercall_abi::mmu::MmuUpdate { ptr, val };
        let mm = self.mm(domain);
        let mut budget = Budget::new();
        match mm.one_update(request, Source::Own, &mut budget) {
            Ok(()) => Ok(()),
            Err(Stop::Refused(refusal)) => Err(refusal.why),
            Err(Stop::Again) => panic!("one slice is not enough"),
        }
    }

    /// All that must hold between any two operations.
    pub(super) fn check(&self) {
        let mut holders = self.holders.lock().unwrap().clone();
        for domain in &self.domains {
            for roots in &domain.roots {
                let both = [roots.kernel(), roots.user()];
                let both = both.into_iter().flatten().map(|mfn| (mfn, FrameType::L4));
                holders.typed.extend(both);
            }
        }
        let pages: Vec<_> =
            self.domains.iter().map(|d| (d.memory.id(), d.memory.pages())).collect();
        self.machine.audit(&holders, &pages);
        self.machine.check_tlbs();
    }
}

pub(super) fn entry(mfn: Mfn, flags: u64) -> u64 {
    mfn.address() | flags
}

pub(super) fn at(mfn: Mfn, index: u64) -> u64 {
    mfn.address() + 8 * index
}
