//! Event channels against a model of them.

use std::string::String;
use std::sync::Arc;
use std::vec::Vec;
use std::{format, vec};

use core::sync::atomic::Ordering;

use hypercall_abi::errno::Errno;
use hypercall_abi::types::{DomId, Port, VcpuId};
use hypercall_abi::virq;
use proptest::prelude::*;

use super::world::{Dom, World};
use super::{Status, Swept};
use crate::fake::Machine;
use crate::platform::Platform;

const DOMAINS: usize = 3;
const VCPUS: u32 = 2;
/// Ports a domain may have in random sequences, and numbers that are tried.
const LIMIT: u32 = 5;
const TRIED: u32 = 7;

#[derive(Clone, Copy, Debug)]
enum Op {
    AllocUnbound(usize, u16),
    BindInterdomain(usize, usize, u32),
    BindVirq(usize, u32, u32),
    BindIpi(usize, u32),
    BindVcpu(usize, u32, u32),
    Close(usize, u32),
    Send(usize, u32),
    SendVirq(usize, u32, u32),
    Mask(usize, u32),
    Unmask(usize, u32),
    Upcall(usize, u32),
    Reset(usize),
}

fn ops() -> impl Strategy<Value = Op> {
    let domain = || 0..DOMAINS;
    let port = || 0..TRIED;
    let vcpu = || 0..=VCPUS;
    let number = || prop_oneof![Just(virq::TIMER), Just(virq::CONSOLE), Just(virq::COUNT)];
    prop_oneof![
        4 => (domain(), 0..4_u16).prop_map(|(d, r)| Op::AllocUnbound(d, r)),
        6 => (domain(), domain(), port()).prop_map(|(d, r, p)| Op::BindInterdomain(d, r, p)),
        2 => (domain(), number(), vcpu()).prop_map(|(d, n, v)| Op::BindVirq(d, n, v)),
        1 => (domain(), vcpu()).prop_map(|(d, v)| Op::BindIpi(d, v)),
        2 => (domain(), port(), vcpu()).prop_map(|(d, p, v)| Op::BindVcpu(d, p, v)),
        3 => (domain(), port()).prop_map(|(d, p)| Op::Close(d, p)),
        5 => (domain(), port()).prop_map(|(d, p)| Op::Send(d, p)),
        2 => (domain(), 0..VCPUS, number()).prop_map(|(d, v, n)| Op::SendVirq(d, v, n)),
        2 => (domain(), port()).prop_map(|(d, p)| Op::Mask(d, p)),
        2 => (domain(), port()).prop_map(|(d, p)| Op::Unmask(d, p)),
        3 => (domain(), 0..VCPUS).prop_map(|(d, v)| Op::Upcall(d, v)),
        1 => domain().prop_map(Op::Reset),
    ]
}

/// What a domain's ports should be: the plainest thing that can be said about them.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Model {
    ports: [(Status, u32); TRIED as usize],
    pending: [bool; TRIED as usize],
    masked: [bool; TRIED as usize],
    /// vCPUs that have been told to look.
    told: [bool; VCPUS as usize],
}

impl Model {
    const NEW: Self = Self {
        ports: [(Status::Closed, 0); TRIED as usize],
        pending: [false; TRIED as usize],
        masked: [false; TRIED as usize],
        told: [false; VCPUS as usize],
    };

    fn status(&self, port: u32) -> Status {
        self.ports[port as usize].0
    }

    fn open(&mut self, status: Status, vcpu: u32) -> Result<Port, Errno> {
        let port = (1..LIMIT).find(|&port| self.status(port) == Status::Closed);
        let port = port.ok_or(Errno::ENOSPC)?;
        self.ports[port as usize] = (status, vcpu);
        Ok(Port(port))
    }

    fn raise(&mut self, port: u32) {
        let at = port as usize;
        if !self.pending[at] {
            self.pending[at] = true;
            self.told[self.ports[at].1 as usize] |= !self.masked[at];
        }
    }

    fn virq_port(&self, number: u32, vcpu: u32) -> Option<u32> {
        (1..TRIED).find(|&port| {
            let (status, bound) = self.ports[port as usize];
            status == Status::Virq(number) && (!virq::is_per_vcpu(number) || bound == vcpu)
        })
    }

    fn bind_virq(&mut self, number: u32, vcpu: u32) -> Result<Port, Errno> {
        if number >= virq::COUNT || !virq::is_per_vcpu(number) && vcpu != 0 {
            Err(Errno::EINVAL)
        } else if vcpu >= VCPUS {
            Err(Errno::ENOENT)
        } else if self.virq_port(number, vcpu).is_some() {
            Err(Errno::EEXIST)
        } else {
            self.open(Status::Virq(number), vcpu)
        }
    }

    fn bind_vcpu(&mut self, port: u32, vcpu: u32) -> Result<(), Errno> {
        if vcpu >= VCPUS {
            return Err(Errno::ENOENT);
        }
        match self.status(port) {
            Status::Virq(virq::TIMER) | Status::Closed | Status::Ipi => Err(Errno::EINVAL),
            Status::Virq(_) | Status::Pirq(_) | Status::Unbound(_) | Status::Interdomain(..) => {
                self.ports[port as usize].1 = vcpu;
                Ok(())
            }
        }
    }

    fn unmask(&mut self, port: u32) {
        let at = port as usize;
        if self.status(port) != Status::Closed && self.masked[at] {
            self.masked[at] = false;
            self.told[self.ports[at].1 as usize] |= self.pending[at];
        }
    }

    fn upcall(&mut self, vcpu: u32) -> Option<Vec<Port>> {
        core::mem::take(&mut self.told[vcpu as usize]).then(|| {
            let ready = |&at: &usize| self.pending[at] && !self.masked[at];
            let taken: Vec<usize> = (0..TRIED as usize).filter(ready).collect();
            taken.iter().for_each(|&at| self.pending[at] = false);
            taken.into_iter().map(|at| Port(u32::try_from(at).unwrap())).collect()
        })
    }
}

fn close(models: &mut [Model; DOMAINS], at: usize, port: u32) -> Result<(), Errno> {
    match models[at].status(port) {
        Status::Closed => return Err(Errno::EINVAL),
        Status::Interdomain(peer, other) => {
            let own = DomId(u16::try_from(at).unwrap());
            models[usize::from(peer.0)].ports[other.0 as usize].0 = Status::Unbound(own);
        }
        Status::Unbound(_) | Status::Virq(_) | Status::Pirq(_) | Status::Ipi => {}
    }
    models[at].ports[port as usize] = (Status::Closed, 0);
    models[at].pending[port as usize] = false;
    Ok(())
}

/// The answer of what has none.
const NOTHING: &str = "";

/// What an operation answered, of whatever type.
fn told<T: core::fmt::Debug>(answer: T) -> String {
    format!("{answer:?}")
}

/// The model's answer.
fn expected(models: &mut [Model; DOMAINS], op: Op) -> String {
    let id = |at: usize| DomId(u16::try_from(at).unwrap());
    match op {
        Op::AllocUnbound(d, remote) => told(models[d].open(Status::Unbound(DomId(remote)), 0)),
        Op::BindInterdomain(d, remote, port) => {
            let waits = models[remote].status(port) == Status::Unbound(id(d));
            let opened = models[d].open(Status::Interdomain(id(remote), Port(port)), 0);
            told(opened.and_then(|new| {
                if !waits {
                    models[d].ports[new.0 as usize].0 = Status::Closed;
                    return Err(Errno::EINVAL);
                }
                models[remote].ports[port as usize].0 = Status::Interdomain(id(d), new);
                models[d].raise(new.0);
                Ok(new)
            }))
        }
        Op::BindVirq(d, number, vcpu) => told(models[d].bind_virq(number, vcpu)),
        Op::BindIpi(_, VCPUS..) => told(Err::<Port, _>(Errno::ENOENT)),
        Op::BindIpi(d, vcpu) => told(models[d].open(Status::Ipi, vcpu)),
        Op::BindVcpu(d, port, vcpu) => told(models[d].bind_vcpu(port, vcpu)),
        Op::Close(d, port) => told(close(models, d, port)),
        Op::Send(d, port) => told(match models[d].status(port) {
            Status::Closed | Status::Virq(_) | Status::Pirq(_) => Err(Errno::EINVAL),
            Status::Unbound(_) => Ok(()),
            Status::Ipi => {
                models[d].raise(port);
                Ok(())
            }
            Status::Interdomain(peer, other) => {
                models[usize::from(peer.0)].raise(other.0);
                Ok(())
            }
        }),
        Op::SendVirq(d, vcpu, number) => {
            let vcpu = if virq::is_per_vcpu(number) { vcpu } else { 0 };
            if let Some(port) = models[d].virq_port(number, vcpu) {
                models[d].raise(port);
            }
            NOTHING.into()
        }
        Op::Mask(d, port) => {
            models[d].masked[port as usize] = true;
            NOTHING.into()
        }
        Op::Unmask(d, port) => {
            models[d].unmask(port);
            told(Ok::<_, Errno>(()))
        }
        Op::Upcall(d, vcpu) => told(models[d].upcall(vcpu)),
        Op::Reset(d) => {
            (1..TRIED).for_each(|port| _ = close(models, d, port));
            told(Swept::All)
        }
    }
}

/// The kernel's answer.
fn answered(world: &World, op: Op) -> String {
    let (system, domains) = (&world.system, &world.domains);
    match op {
        Op::AllocUnbound(d, remote) => told(system.alloc_unbound(&domains[d], DomId(remote))),
        Op::BindInterdomain(d, remote, port) => {
            told(system.bind_interdomain(&domains[d], &domains[remote], Port(port)))
        }
        Op::BindVirq(d, number, vcpu) => told(system.bind_virq(&domains[d], number, VcpuId(vcpu))),
        Op::BindIpi(d, vcpu) => told(system.bind_ipi(&domains[d], VcpuId(vcpu))),
        Op::BindVcpu(d, port, vcpu) => {
            told(system.bind_vcpu(&domains[d], Port(port), VcpuId(vcpu)))
        }
        Op::Close(d, port) => told(system.close_port(&domains[d], Port(port))),
        Op::Send(d, port) => told(system.send_event(&domains[d], Port(port))),
        Op::SendVirq(d, vcpu, number) => {
            let vcpu = if virq::is_per_vcpu(number) { vcpu } else { 0 };
            let vcpu = domains[d].vcpu(VcpuId(vcpu)).unwrap();
            system.send_virq(&domains[d], vcpu, number);
            NOTHING.into()
        }
        Op::Mask(d, port) => {
            world.mask(&domains[d], Port(port), true);
            NOTHING.into()
        }
        Op::Unmask(d, port) => told(system.unmask_port(&domains[d], Port(port))),
        Op::Upcall(d, vcpu) => told(world.upcall(&domains[d], VcpuId(vcpu))),
        Op::Reset(d) => told(system.close_ports(&domains[d])),
    }
}

/// What the model would have to be for what there is.
fn seen(world: &World, domain: &Dom) -> Model {
    let platform = &world.system.platform;
    let mut model = Model::NEW;
    let word = |at: usize| platform.table(domain.shared_info)[at].load(Ordering::SeqCst);
    for port in 0..TRIED {
        let (status, vcpu) = world.system.port_status(domain, Port(port)).unwrap();
        model.ports[port as usize] = (status, vcpu.0);
        model.pending[port as usize] = domain.is_pending(platform, Port(port)).unwrap();
        model.masked[port as usize] = word(320) & 1 << port != 0;
    }
    for vcpu in 0..VCPUS as usize {
        model.told[vcpu] = word(8 * vcpu) & 0xff != 0;
        assert_eq!(word(8 * vcpu + 1) & 1 != 0, model.told[vcpu], "selector and upcall");
    }
    model
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn it_behaves_as_the_model(ops in proptest::collection::vec(ops(), 1..80)) {
        let world = World::new(Machine::new(8, 1), 3, VCPUS);
        world.domains.iter().for_each(|domain| domain.ports.set_limit(LIMIT));
        let mut models = [Model::NEW; DOMAINS];
        for op in ops {
            prop_assert_eq!(answered(&world, op), expected(&mut models, op), "{:?}", op);
            for (domain, model) in world.domains.iter().zip(&models) {
                prop_assert_eq!(&seen(&world, domain), model, "after {:?}", op);
            }
            world.check(TRIED);
        }
        for domain in &world.domains {
            prop_assert_eq!(world.system.end_ports(domain), Swept::All);
        }
        for domain in &world.domains {
            prop_assert_eq!(Arc::strong_count(domain), 2);
        }
    }
}
