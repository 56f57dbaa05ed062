//! Some domains on a machine of host memory, and what their guests do with the shared words.

use std::sync::Arc;
use std::vec::Vec;

use core::sync::atomic::Ordering;

use hypercall_abi::types::{DomId, Port, VcpuId};

use super::Status;
use crate::clock::Clock;
use crate::domain::{Domain, Privilege};
use crate::fake::Machine;
use crate::mm::{DomainMemory, VcpuRoots};
use crate::platform::Platform;
use crate::ports::Ports;
use crate::system::{Identity, System};
use crate::vcpu::Vcpu;

pub(crate) type Dom = Arc<Domain<Machine>>;

pub(crate) struct World {
    pub(crate) system: System<Machine>,
    pub(crate) domains: Vec<Dom>,
}

pub(crate) const FIRST: VcpuId = VcpuId(0);

impl World {
    /// So many domains, numbered from 0, with so many vCPUs each.
    pub(crate) fn new(machine: Machine, domains: u16, vcpus: u32) -> Self {
        let identity = Identity { command_line: b"", changeset: "", compiler: "" };
        let clock = Clock::new(1_000_000, 0, 0);
        let system = System::new(machine, identity, clock, Ports::default());
        system.cpu_online().unwrap();
        let domains = (0..domains).map(|id| domain(&system, DomId(id), vcpus)).collect();
        Self { system, domains }
    }

    pub(crate) fn status(&self, domain: &Dom, port: Port) -> Status {
        self.system.port_status(domain, port).map_or(Status::Closed, |(status, _)| status)
    }

    /// Connects a new port of the second domain to one of the first: both.
    pub(crate) fn pair(&self, first: &Dom, second: &Dom) -> (Port, Port) {
        let waits = self.system.alloc_unbound(first, second.id).unwrap();
        let new = self.system.bind_interdomain(second, first, waits).unwrap();
        self.clear(second, new);
        (waits, new)
    }

    /// Checks, when nobody does anything, that ports below a number are free if and only if they are
    /// closed, that peers name each other, and that domains are referred to by ports and nobody else.
    pub(crate) fn check(&self, ports: u32) {
        let named = |domain: &Dom| {
            let connected = |owner: &Dom, port| {
                matches!(self.status(owner, Port(port)),
                         Status::Interdomain(id, _) if id == domain.id)
            };
            let of = |owner| (1..ports).filter(|&port| connected(owner, port)).count();
            self.domains.iter().map(of).sum::<usize>()
        };
        for domain in &self.domains {
            // The list of domains and this one hold them too.
            assert_eq!(Arc::strong_count(domain), 2 + named(domain), "references to {domain:?}");
            let used = domain.ports.used().next().map_or(0, |(_, used)| used);
            for port in (1..ports).map(Port) {
                let is_open = self.status(domain, port) != Status::Closed;
                assert_eq!(used >> port.0 & 1 != 0, is_open, "bit of {port}");
                if let Status::Interdomain(id, peer) = self.status(domain, port) {
                    let other = &self.domains[usize::from(id.0)];
                    let back = self.status(other, peer);
                    assert_eq!(back, Status::Interdomain(domain.id, port), "peer of {port}");
                }
            }
        }
    }

    /// Whether a port is pending and not masked, and whether some vCPU has been told to look.
    pub(crate) fn waits(&self, domain: &Dom, port: Port) -> (bool, bool) {
        let word = (port.0 / 64) as usize;
        let bit = 1 << (port.0 % 64);
        let word_at =
            |at: usize| self.system.platform.table(domain.shared_info)[at].load(Ordering::SeqCst);
        let told = domain.vcpus().any(|vcpu| {
            let info = vcpu.id.0 as usize * 8;
            word_at(info) & 0xff != 0 && word_at(info + 1) & 1 << word != 0
        });
        (word_at(256 + word) & !word_at(320 + word) & bit != 0, told)
    }

    /// The guest masks a port, or unmasks it without looking.
    pub(crate) fn mask(&self, domain: &Dom, port: Port, masked: bool) {
        let bit = 1 << (port.0 % 64);
        let words = self.system.platform.table(domain.shared_info);
        let word = &words[320 + (port.0 / 64) as usize];
        if masked {
            word.fetch_or(bit, Ordering::SeqCst);
        } else {
            word.fetch_and(!bit, Ordering::SeqCst);
        }
    }

    /// The guest forgets everything about a port, and every upcall.
    pub(crate) fn clear(&self, domain: &Dom, port: Port) {
        domain.clear_pending(&self.system.platform, port);
        for vcpu in domain.vcpus() {
            let _ = self.upcall(domain, vcpu.id);
        }
    }

    /// The guest's handler of upcalls: clears the flag, takes the selector, and takes every event
    /// that is not masked. `None`: there was no upcall.
    pub(crate) fn upcall(&self, domain: &Dom, vcpu: VcpuId) -> Option<Vec<Port>> {
        let platform = &self.system.platform;
        let info = vcpu.0 as usize * 64;
        if platform.bytes(domain.shared_info)[info].swap(0, Ordering::SeqCst) == 0 {
            return None;
        }
        let mut events = Vec::new();
        let word = |at: usize| &platform.table(domain.shared_info)[at];
        let selected = word(info / 8 + 1).swap(0, Ordering::SeqCst);
        for at in (0..64).filter(|at| selected & 1 << at != 0) {
            let ready =
                word(256 + at).load(Ordering::SeqCst) & !word(320 + at).load(Ordering::SeqCst);
            for bit in (0..64).filter(|bit| ready & 1 << bit != 0) {
                word(256 + at).fetch_and(!(1 << bit), Ordering::SeqCst);
                events.push(Port(u32::try_from(at).unwrap() * 64 + bit));
            }
        }
        Some(events)
    }
}

fn domain(system: &System<Machine>, id: DomId, vcpus: u32) -> Dom {
    let platform = &system.platform;
    let shared = platform.frames().alloc_shared(platform, id).unwrap().into_entry();
    let privilege = if id == DomId(0) { Privilege::Initial } else { Privilege::None };
    let memory = match privilege {
        Privilege::Initial => DomainMemory::new(id, 0).with_devices(),
        Privilege::None => DomainMemory::new(id, 0),
    };
    let domain = Arc::new(Domain::new(id, privilege, shared, memory));
    for number in 0..vcpus {
        let at = u64::from(number) * 64;
        let vcpu = Vcpu::new(VcpuId(number), VcpuRoots::none(), shared, at, number, 0);
        domain.add_vcpu(Arc::new(vcpu));
    }
    system.domains.add(platform, domain.clone()).unwrap();
    domain
}
