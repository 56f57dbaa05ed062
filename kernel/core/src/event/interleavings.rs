//! CPUs on the same ports at once, in every order in which they can come.
//!
//! Another CPU may come in between before each access to a shared word and before each lock.

use std::boxed::Box;
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

use core::sync::atomic::{AtomicUsize, Ordering};

use hypercall_abi::errno::Errno;
use hypercall_abi::types::{DomId, Port, VcpuId};
use hypercall_abi::virq;
use shuttle::scheduler::{DfsScheduler, RandomScheduler};
use shuttle::{Config, MaxSteps, Runner, thread};

use super::world::{Dom, FIRST, World};
use super::{Status, Swept};
use crate::fake::Machine;

/// Orders tried of each case, at random and systematically from the first on.
const RANDOM: usize = 250;
const SYSTEMATIC: usize = 100;

/// What a CPU does.
type Cpu = Box<dyn FnOnce(&World) + Send>;

/// Plays CPUs in many orders. Each order has a world of its own, made by `prepare` with the CPUs
/// that act in it; `check` looks at it when all have finished.
fn play(
    domains: u16,
    prepare: impl Fn(&World) -> (Vec<Cpu>, Box<dyn FnOnce(&World)>) + Clone + Send + Sync + 'static,
) {
    let once = move || {
        let machine = Machine::new(64, 1);
        machine.pause_with(Some(|_| thread::yield_now()));
        let world = Arc::new(World::new(machine, domains, 2));
        let (cpus, check) = prepare(&world);
        let cpus: Vec<_> = cpus
            .into_iter()
            .map(|cpu| {
                let world = world.clone();
                thread::spawn(move || cpu(&world))
            })
            .collect();
        cpus.into_iter().for_each(|cpu| cpu.join().unwrap());
        world.check(4);
        check(&world);
    };
    let mut config = Config::new();
    // A world is large, and made on the stack.
    config.stack_size = 1 << 20;
    Runner::new(RandomScheduler::new(RANDOM), config.clone()).run(once.clone());
    // An order in which one CPU waits for ever while the others do nothing is not one to follow.
    config.max_steps = MaxSteps::ContinueAfter(2000);
    Runner::new(DfsScheduler::new(Some(SYSTEMATIC), false), config).run(once);
}

fn cpu(does: impl FnOnce(&World) + Send + 'static) -> Cpu {
    Box::new(does)
}

fn pending(world: &World, domain: &Dom, port: Port) -> bool {
    domain.is_pending(&world.system.platform, port).unwrap()
}

/// An event must not arrive at a port whose number is another's by now.
#[test]
fn sending_and_closing() {
    for closed in [0, 1] {
        play(2, move |world| {
            let (first, second) = world.pair(&world.domains[0], &world.domains[1]);
            let ports = [first, second];
            let send = move |world: &World, from: usize| {
                let sent = world.system.send_event(&world.domains[from], ports[from]);
                assert!(sent == Ok(()) || closed == from && sent == Err(Errno::EINVAL));
            };
            let sender = cpu(move |world| {
                send(world, 1 - closed);
                send(world, 1 - closed);
            });
            let own_sender = cpu(move |world| send(world, closed));
            let closer = cpu(move |world| {
                let domain = &world.domains[closed];
                assert_eq!(world.system.close_port(domain, ports[closed]), Ok(()));
            });
            let taker = cpu(move |world| {
                let made = world.system.alloc_unbound(&world.domains[closed], DomId(9));
                assert!(made == Ok(Port(1)) || made == Ok(Port(2)));
            });
            let check = move |world: &World| {
                let domain = &world.domains[closed];
                assert!((1..3).all(|port| !pending(world, domain, Port(port))));
                let left = world.status(&world.domains[1 - closed], ports[1 - closed]);
                assert_eq!(left, Status::Unbound(domain.id));
            };
            (vec![sender, own_sender, closer, taker], Box::new(check))
        });
    }
}

/// A port's number is taken at once by another, which is signalled: what waited at the old one goes, and
/// what was sent to the new one stays.
#[test]
fn closing_and_taking() {
    play(1, |world| {
        let domain = &world.domains[0];
        let old = world.system.bind_ipi(domain, FIRST).unwrap();
        assert_eq!(world.system.send_event(domain, old), Ok(()));
        let closer = cpu(move |world| {
            assert_eq!(world.system.close_port(&world.domains[0], old), Ok(()));
        });
        let taker = cpu(|world| {
            let made = world.system.alloc_unbound(&world.domains[0], DomId(9)).unwrap();
            assert_eq!(world.system.close_port(&world.domains[0], made), Ok(()));
            let made = world.system.bind_ipi(&world.domains[0], FIRST).unwrap();
            assert_eq!(world.system.send_event(&world.domains[0], made), Ok(()));
        });
        let check = |world: &World| {
            for port in [1, 2].map(Port) {
                let is_open = world.status(&world.domains[0], port) == Status::Ipi;
                assert_eq!(pending(world, &world.domains[0], port), is_open);
            }
        };
        (vec![closer, taker], Box::new(check))
    });
}

/// Both ends close, and one of the numbers is taken at once by a port that is bound to another.
#[test]
fn closing_both_ends() {
    play(2, |world| {
        let [first, second] = &world.domains[..] else { unreachable!() };
        let (ours, theirs) = world.pair(first, second);
        let waits = world.system.alloc_unbound(first, second.id).unwrap();
        let closer = cpu(move |world| {
            let [first, second] = &world.domains[..] else { unreachable!() };
            assert_eq!(world.system.close_port(first, ours), Ok(()));
            assert_eq!(world.system.alloc_unbound(first, second.id), Ok(ours));
        });
        let rebinder = cpu(move |world| {
            let [first, second] = &world.domains[..] else { unreachable!() };
            assert_eq!(world.system.close_port(second, theirs), Ok(()));
            assert_eq!(world.system.bind_interdomain(second, first, waits), Ok(theirs));
        });
        let check = move |world: &World| {
            let [first, second] = &world.domains[..] else { unreachable!() };
            assert_eq!(world.status(first, ours), Status::Unbound(second.id));
            assert_eq!(world.status(first, waits), Status::Interdomain(second.id, theirs));
            assert_eq!(world.status(second, theirs), Status::Interdomain(first.id, waits));
        };
        (vec![closer, rebinder], Box::new(check))
    });
}

/// A port is bound to while it is closed, and the new one is closed too.
#[test]
fn binding_and_closing() {
    play(2, |world| {
        let waits = world.system.alloc_unbound(&world.domains[0], world.domains[1].id).unwrap();
        let binder = cpu(move |world| {
            let [first, second] = &world.domains[..] else { unreachable!() };
            match world.system.bind_interdomain(second, first, waits) {
                Ok(port) => assert_eq!(port, Port(1)),
                Err(errno) => assert_eq!(errno, Errno::EINVAL),
            }
        });
        let closer = cpu(move |world| {
            let [first, second] = &world.domains[..] else { unreachable!() };
            assert_eq!(world.system.close_port(first, waits), Ok(()));
            assert_eq!(world.system.alloc_unbound(first, second.id), Ok(waits));
        });
        let other_closer = cpu(move |world| {
            let _ = world.system.close_port(&world.domains[1], Port(1));
        });
        (vec![binder, closer, other_closer], Box::new(|_| {}))
    });
}

/// Two domains bind to each other at once, and a third CPU sends.
#[test]
fn binding_crosswise() {
    play(2, |world| {
        let [first, second] = &world.domains[..] else { unreachable!() };
        let ours = world.system.alloc_unbound(first, second.id).unwrap();
        let theirs = world.system.alloc_unbound(second, first.id).unwrap();
        let bind = |own: usize, remote: Port| {
            cpu(move |world| {
                let (own, other) = (&world.domains[own], &world.domains[1 - own]);
                let bound = world.system.bind_interdomain(own, other, remote).unwrap();
                assert!(pending(world, own, bound));
            })
        };
        let sender = cpu(move |world| {
            assert_eq!(world.system.send_event(&world.domains[0], ours), Ok(()));
        });
        let check = |world: &World| {
            for domain in &world.domains {
                assert_eq!(world.waits(domain, Port(2)), (true, true));
            }
        };
        (vec![bind(0, theirs), bind(1, ours), sender], Box::new(check))
    });
}

/// Two domains name each other's new port, which waits for nobody yet.
#[test]
fn binding_to_what_is_being_bound() {
    play(2, |_| {
        let bind = |own: usize| {
            cpu(move |world| {
                let (own, other) = (&world.domains[own], &world.domains[1 - own]);
                let bound = world.system.bind_interdomain(own, other, Port(1));
                assert_eq!(bound, Err(Errno::EINVAL));
            })
        };
        (vec![bind(0), bind(1)], Box::new(|_| {}))
    });
}

/// Two CPUs make ports: they are two.
#[test]
fn taking_ports() {
    play(1, |_| {
        let take = || {
            cpu(|world| {
                let made = world.system.bind_ipi(&world.domains[0], FIRST).unwrap();
                assert_eq!(world.system.close_port(&world.domains[0], made), Ok(()));
                let made = world.system.bind_ipi(&world.domains[0], FIRST).unwrap();
                assert!(made == Port(1) || made == Port(2));
            })
        };
        let check = |world: &World| {
            let ports = [1, 2].map(|port| world.status(&world.domains[0], Port(port)));
            assert_eq!(ports, [Status::Ipi; 2]);
        };
        (vec![take(), take()], Box::new(check))
    });
}

/// All ports of a domain are closed while others send to it, bind to it, and it makes new ones.
#[test]
fn resetting() {
    play(2, |world| {
        let [first, second] = &world.domains[..] else { unreachable!() };
        let (sends, _) = world.pair(first, second);
        let waits = world.system.alloc_unbound(second, first.id).unwrap();
        let resetter = cpu(|world| {
            let second = &world.domains[1];
            assert_ne!(world.system.close_ports(second), Swept::Some);
            let made = world.system.bind_ipi(second, FIRST).unwrap();
            assert!(made == Port(1) || made == Port(2));
        });
        let sender = cpu(move |world| {
            assert_eq!(world.system.send_event(&world.domains[0], sends), Ok(()));
        });
        let binder = cpu(move |world| {
            let [first, second] = &world.domains[..] else { unreachable!() };
            let _ = world.system.bind_interdomain(first, second, waits);
        });
        let check = |world: &World| {
            let second = &world.domains[1];
            let open: Vec<_> = [1, 2]
                .map(Port)
                .into_iter()
                .filter(|&port| world.status(second, port) == Status::Ipi)
                .collect();
            assert_eq!(open.len(), 1);
            assert!((1..3).all(|port| !pending(world, second, Port(port))));
        };
        (vec![resetter, sender, binder], Box::new(check))
    });
}

/// A domain ends while it is bound to and makes ports itself: none is left, and none is made.
#[test]
fn ending() {
    play(2, |world| {
        let [first, second] = &world.domains[..] else { unreachable!() };
        let waits = world.system.alloc_unbound(second, first.id).unwrap();
        let ender = cpu(|world| {
            while world.system.end_ports(&world.domains[1]) != Swept::All {
                thread::yield_now();
            }
        });
        let binder = cpu(move |world| {
            let [first, second] = &world.domains[..] else { unreachable!() };
            let _ = world.system.bind_interdomain(first, second, waits);
        });
        let maker = cpu(|world| {
            let [first, second] = &world.domains[..] else { unreachable!() };
            let _ = world.system.bind_virq(second, virq::TIMER, FIRST);
            let _ = world.system.bind_interdomain(second, first, Port(1));
        });
        let check = |world: &World| {
            let second = &world.domains[1];
            assert!((1..4).all(|port| world.status(second, Port(port)) == Status::Closed));
            assert_eq!(world.system.bind_ipi(second, FIRST), Err(Errno::EINVAL));
            assert_eq!(Arc::strong_count(second), 2);
        };
        (vec![ender, binder, maker], Box::new(check))
    });
}

/// A virtual interrupt is signalled while its port is closed and bound to another vCPU.
#[test]
fn virtual_interrupts() {
    play(1, |world| {
        let domain = &world.domains[0];
        let timer = world.system.bind_virq(domain, virq::TIMER, FIRST).unwrap();
        let sender = cpu(|world| {
            let domain = &world.domains[0];
            world.system.send_virq(domain, domain.vcpu(FIRST).unwrap(), virq::TIMER);
        });
        let closer = cpu(move |world| {
            let domain = &world.domains[0];
            assert_eq!(world.system.close_port(domain, timer), Ok(()));
            assert_eq!(world.system.bind_virq(domain, virq::TIMER, VcpuId(1)), Ok(timer));
        });
        let check = move |world: &World| {
            assert!(!pending(world, &world.domains[0], timer));
            let again = world.system.bind_virq(&world.domains[0], virq::TIMER, FIRST);
            assert_eq!(again, Ok(Port(2)));
        };
        (vec![sender, closer], Box::new(check))
    });
}

/// Two CPUs bind the same virtual interrupt: one of them does, and no port is lost.
#[test]
fn binding_the_same_virq() {
    play(1, |_| {
        let bind = || {
            cpu(|world| {
                let bound = world.system.bind_virq(&world.domains[0], virq::DEBUG, FIRST);
                assert!(bound.is_ok() || bound == Err(Errno::EEXIST));
            })
        };
        let check = |world: &World| {
            let domain = &world.domains[0];
            let bound = [1, 2].map(|port| world.status(domain, Port(port)));
            assert_eq!(bound.iter().filter(|&&is| is == Status::Virq(virq::DEBUG)).count(), 1);
            assert_eq!(bound.iter().filter(|&&is| is == Status::Closed).count(), 1);
        };
        (vec![bind(), bind()], Box::new(check))
    });
}

/// Events are sent while the guest takes them, masks, unmasks and moves the port to another vCPU:
/// none is lost, none is made up, and there are no more upcalls than reasons for them.
#[test]
fn sending_and_taking() {
    static TAKEN: AtomicUsize = AtomicUsize::new(0);
    static UPCALLS: AtomicUsize = AtomicUsize::new(0);
    fn take(world: &World, vcpu: VcpuId) {
        if let Some(events) = world.upcall(&world.domains[1], vcpu) {
            UPCALLS.fetch_add(1, Ordering::SeqCst);
            TAKEN.fetch_add(events.len(), Ordering::SeqCst);
        }
    }
    for moves in [false, true] {
        play(2, move |world| {
            TAKEN.store(0, Ordering::SeqCst);
            UPCALLS.store(0, Ordering::SeqCst);
            let (port, sends) = world.pair(&world.domains[1], &world.domains[0]);
            let senders = [1, 2].map(|events| {
                cpu(move |world| {
                    for _ in 0..events {
                        assert_eq!(world.system.send_event(&world.domains[0], sends), Ok(()));
                    }
                })
            });
            let guest = cpu(move |world| {
                let domain = &world.domains[1];
                world.mask(domain, port, true);
                take(world, FIRST);
                if moves {
                    assert_eq!(world.system.bind_vcpu(domain, port, VcpuId(1)), Ok(()));
                }
                assert_eq!(world.system.unmask_port(domain, port), Ok(()));
                take(world, FIRST);
                take(world, VcpuId(1));
            });
            let check = move |world: &World| {
                let domain = &world.domains[1];
                let (waits, told) = world.waits(domain, port);
                assert!(told || !waits, "an event waits and nobody is told");
                take(world, FIRST);
                take(world, VcpuId(1));
                assert!(!pending(world, domain, port));
                let taken = TAKEN.load(Ordering::SeqCst);
                assert!((1..=3).contains(&taken), "{taken} events of 3");
                let upcalls = UPCALLS.load(Ordering::SeqCst);
                assert!(upcalls <= 4, "{upcalls} upcalls");
            };
            let mut cpus = Vec::from(senders);
            cpus.push(guest);
            (cpus, Box::new(check))
        });
    }
}

/// A vCPU's information moves while an event is sent: the vCPU is told in the new place.
#[test]
fn moving_the_information() {
    play(1, |world| {
        let domain = &world.domains[0];
        let port = world.system.bind_ipi(domain, FIRST).unwrap();
        let sender = cpu(move |world| {
            assert_eq!(world.system.send_event(&world.domains[0], port), Ok(()));
        });
        let mover = cpu(|world| {
            let domain = &world.domains[0];
            let vcpu = domain.vcpu(FIRST).unwrap();
            vcpu.move_info(&world.system.platform, domain.shared_info, 5 * 64);
            world.system.select_all(domain, vcpu);
        });
        let check = move |world: &World| {
            let taken = world.upcall(&world.domains[0], VcpuId(5));
            assert_eq!(taken, Some(vec![port]));
        };
        (vec![sender, mover], Box::new(check))
    });
}
