//! Binding ports to ports, to virtual and physical interrupts, and to vCPUs.

use super::event_calls::{
    BIND_INTERDOMAIN, BIND_IPI, BIND_PIRQ, BIND_VCPU, BIND_VIRQ, CLOSE, EEXIST, ENOENT, EOPNOTSUPP,
    ESRCH, EXPAND_ARRAY, GLOBAL, INTERDOMAIN, IPI, NO_DOMAINS, NO_PORTS, NO_VCPUS, NOBODY,
    PER_VCPU, SELF, SEND, SET_PRIORITY, State, TIMER, UNBOUND, UNMASK, UNTOUCHED, about, each_kind,
    event, ipi, is, only_vcpu, pair, ports, status, unbound, virq, word,
};
use crate::call::{EINVAL, ENOSYS};
use crate::case::{Case, Outcome, case, equal, equal_at};

/// Virtual interrupts of each vCPU.
const OF_VCPUS: [u32; 4] = [0, 1, 7, 13];
/// Numbers that no virtual interrupt can have.
const NO_VIRQS: [u32; 5] = [24, 25, 0x100, 0x8000_0000, u32::MAX];

fn of_domain() -> impl Iterator<Item = u32> {
    (0..24).filter(|number| !OF_VCPUS.contains(number))
}

pub(crate) const INTERDOMAINS: &[Case] = &[
    case("event_bind/loopback", "A domain may bind to a port of its own.", |t| {
        ports(t, |_| {
            let first = unbound(SELF)?;
            equal("bind", event(BIND_INTERDOMAIN, &[SELF, first]), 0)?;
            equal("port", word(2), 2)?;
            is(first, INTERDOMAIN)?;
            is(2, INTERDOMAIN)
        })
    }),
    case("event_bind/own_number", "It may name itself by its number, 0.", |t| {
        ports(t, |_| {
            let first = unbound(0)?;
            equal("bind", event(BIND_INTERDOMAIN, &[0xabcd_0000, first]), 0)?;
            equal("port", word(2), 2)
        })
    }),
    case("event_bind/inputs", "The argument's domain and port stay as they were.", |t| {
        ports(t, |_| {
            let first = unbound(SELF)?;
            equal("bind", event(BIND_INTERDOMAIN, &[SELF, first]), 0)?;
            equal("domain", word(0), SELF)?;
            equal("port", word(1), first)
        })
    }),
    case("event_bind/other_remote", "A port that waits for another is refused: -EINVAL.", |t| {
        ports(t, |_| {
            for remote in NO_DOMAINS {
                let port = unbound(remote)?;
                let answer = event(BIND_INTERDOMAIN, &[SELF, port]);
                equal_at("bind to that of", remote.into(), answer, EINVAL)?;
                equal("port", word(2), UNTOUCHED)?;
                is(port, UNBOUND)?;
            }
            Ok(())
        })
    }),
    case("event_bind/not_unbound", "A port that is not unbound is refused: -EINVAL.", |t| {
        ports(t, |_| {
            let [_, others @ ..] = each_kind()?;
            for port in others.into_iter().chain([0, 40]) {
                let answer = event(BIND_INTERDOMAIN, &[SELF, port]);
                equal_at("bind to", port.into(), answer, EINVAL)?;
            }
            Ok(())
        })
    }),
    case("event_bind/itself", "A port is not bound to itself: the new one is not unbound.", |t| {
        ports(t, |_| {
            equal("bind to the next", event(BIND_INTERDOMAIN, &[SELF, 1]), EINVAL)?;
            equal("the next", ipi()?, 1)
        })
    }),
    case("event_bind/port_range", "A port beyond 4095 is refused: -EINVAL.", |t| {
        ports(t, |_| {
            for port in NO_PORTS {
                let answer = event(BIND_INTERDOMAIN, &[SELF, port]);
                equal_at("bind to", port.into(), answer, EINVAL)?;
            }
            Ok(())
        })
    }),
    case("event_bind/no_domain", "A domain that is none is refused first: -ESRCH.", |t| {
        ports(t, |_| {
            let first = unbound(SELF)?;
            for domain in NO_DOMAINS {
                for port in [first, 4096] {
                    let answer = event(BIND_INTERDOMAIN, &[domain, port]);
                    equal_at("bind to", domain.into(), answer, ESRCH)?;
                }
            }
            Ok(())
        })
    }),
    case("event_bind/raises", "Binding raises the new port, not the one bound to.", |t| {
        ports(t, |words| {
            let (first, second) = pair()?;
            equal("bound to", words.state(first).pending, false)?;
            equal("new", words.state(second).bits(), State::number(0).raised().bits())
        })
    }),
    case("event_bind/raises_masked", "If the new port is masked it is only pending.", |t| {
        ports(t, |words| {
            words.set_masked(2, true);
            let (_, second) = pair()?;
            equal("state", words.state(second).bits(), State::number(2).raised().bits())
        })
    }),
    case("event_bind/others_quiet", "Making any other kind of port raises nothing.", |t| {
        ports(t, |words| {
            for port in [unbound(SELF)?, virq(PER_VCPU)?, virq(GLOBAL)?, ipi()?] {
                equal_at("state of", port.into(), words.state(port).bits(), 0)?;
            }
            Ok(())
        })
    }),
];

pub(crate) const VIRQS: &[Case] = &[
    case("event_virq/each", "The initial domain may bind each of the 24 numbers, once.", |t| {
        ports(t, |_| {
            for number in 0..24 {
                equal("port", virq(number)?, number + 1)?;
            }
            for number in 0..24 {
                let again = event(BIND_VIRQ, &[number, 0]);
                equal_at("again", number.into(), again, EEXIST)?;
                equal("port", word(2), UNTOUCHED)?;
            }
            Ok(())
        })
    }),
    case("event_virq/range", "A number from 24 on is refused first: -EINVAL.", |t| {
        ports(t, |_| {
            for number in NO_VIRQS {
                for vcpu in [0, 1, u32::MAX] {
                    let answer = event(BIND_VIRQ, &[number, vcpu]);
                    equal_at("virq", number.into(), answer, EINVAL)?;
                }
            }
            Ok(())
        })
    }),
    case("event_virq/no_vcpu", "A vCPU's own interrupt needs a vCPU: -ENOENT.", |t| {
        ports(t, |_| {
            for number in OF_VCPUS {
                for vcpu in NO_VCPUS {
                    let answer = event(BIND_VIRQ, &[number, vcpu]);
                    equal_at("virq", number.into(), answer, ENOENT)?;
                }
            }
            Ok(())
        })
    }),
    case("event_virq/other_vcpu", "Each vCPU, up or not, has its own interrupts.", |t| {
        ports(t, |_| {
            for number in OF_VCPUS {
                for vcpu in 0..4 {
                    equal_at("vCPU", vcpu.into(), event(BIND_VIRQ, &[number, vcpu]), 0)?;
                    equal("vCPU", status(word(2))?[1], vcpu)?;
                    let again = event(BIND_VIRQ, &[number, vcpu]);
                    equal_at("vCPU again", vcpu.into(), again, EEXIST)?;
                }
            }
            Ok(())
        })
    }),
    case("event_virq/global_vcpu", "The domain's interrupts take vCPU 0 alone: -EINVAL.", |t| {
        ports(t, |_| {
            for number in of_domain() {
                for vcpu in [1, 2, 3].into_iter().chain(NO_VCPUS) {
                    let answer = event(BIND_VIRQ, &[number, vcpu]);
                    equal_at("virq", number.into(), answer, EINVAL)?;
                }
            }
            Ok(())
        })
    }),
    case("event_virq/again", "A number is free again when its port is closed.", |t| {
        ports(t, |_| {
            for number in [PER_VCPU, GLOBAL] {
                let port = virq(number)?;
                equal("close", about(CLOSE, port), 0)?;
                equal("port", virq(number)?, port)?;
                equal("again", event(BIND_VIRQ, &[number, 0]), EEXIST)?;
            }
            Ok(())
        })
    }),
    case("event_ipi/many", "A vCPU may have many ports of its own.", |t| {
        ports(t, |_| {
            for port in 1..70 {
                equal("port", ipi()?, port)?;
                is(port, IPI)?;
            }
            Ok(())
        })
    }),
    case("event_ipi/no_vcpu", "A port needs a vCPU that is there: -ENOENT.", |t| {
        ports(t, |_| {
            for vcpu in NO_VCPUS {
                equal_at("vCPU", vcpu.into(), event(BIND_IPI, &[vcpu]), ENOENT)?;
                equal("port", word(1), UNTOUCHED)?;
            }
            Ok(())
        })
    }),
    case("event_ipi/other_vcpu", "A port may be of any vCPU, up or not, and raises it.", |t| {
        ports(t, |words| {
            for vcpu in [1, 2, 3, 0] {
                equal_at("vCPU", vcpu.into(), event(BIND_IPI, &[vcpu]), 0)?;
                let port = word(1);
                equal("vCPU", status(port)?[1], vcpu)?;
                words.clear();
                equal("send", about(SEND, port), 0)?;
                only_vcpu(words, vcpu)?;
            }
            Ok(())
        })
    }),
    case("event_pirq/range", "No interrupt has so high a number: -EINVAL.", |t| {
        ports(t, |_| {
            for number in [0x1_0000, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
                for flags in [0, 1, 2] {
                    let answer = event(BIND_PIRQ, &[number, flags]);
                    equal_at("pirq", number.into(), answer, EINVAL)?;
                }
            }
            Ok(())
        })
    }),
    case("event_pirq/unmapped", "An interrupt that was not mapped is refused: -EPERM.", |t| {
        ports(t, |_| {
            for number in [0, 16, 17, 20, 23, 100] {
                let answer = event(BIND_PIRQ, &[number, 0]);
                equal_at("pirq", number.into(), answer, crate::call::EPERM)?;
            }
            Ok(())
        })
    }),
];

pub(crate) const VCPUS: &[Case] = &[
    case("event_vcpu/allowed", "Unbound, connected and the domain's ports go to any vCPU.", |t| {
        ports(t, |_| {
            let [unbound, first, second, _, global, _] = each_kind()?;
            for port in [unbound, first, second, global] {
                equal_at("port", port.into(), event(BIND_VCPU, &[port, 0]), 0)?;
                equal("vCPU", status(port)?[1], 0)?;
            }
            Ok(())
        })
    }),
    case("event_vcpu/moved", "What comes behind bind_vcpu is for that vCPU.", |t| {
        ports(t, |words| {
            let (first, second) = pair()?;
            for vcpu in [1, 2, 3, 0] {
                equal("bind_vcpu", event(BIND_VCPU, &[second, vcpu]), 0)?;
                equal("vCPU", status(second)?[1], vcpu)?;
                equal("vCPU of the other", status(first)?[1], 0)?;
                words.clear();
                equal("send", about(SEND, first), 0)?;
                only_vcpu(words, vcpu)?;
            }
            Ok(())
        })
    }),
    case("event_vcpu/kept_unbound", "An unbound port keeps its vCPU when it is connected.", |t| {
        ports(t, |_| {
            let first = unbound(SELF)?;
            equal("bind_vcpu", event(BIND_VCPU, &[first, 2]), 0)?;
            equal("bind", event(BIND_INTERDOMAIN, &[SELF, first]), 0)?;
            let second = word(2);
            equal("vCPU", status(first)?[1], 2)?;
            equal("vCPU of the other", status(second)?[1], 0)
        })
    }),
    case("event_vcpu/forgotten", "A port that is made again is of vCPU 0.", |t| {
        ports(t, |_| {
            let port = unbound(SELF)?;
            equal("bind_vcpu", event(BIND_VCPU, &[port, 3]), 0)?;
            equal("close", about(CLOSE, port), 0)?;
            equal("vCPU when closed", status(port)?[1], 0)?;
            equal("port", unbound(SELF)?, port)?;
            equal("vCPU", status(port)?[1], 0)
        })
    }),
    case("event_vcpu/unmask", "Unmasking raises the vCPU that the port is bound to.", |t| {
        ports(t, |words| {
            let (_, second) = pair()?;
            equal("bind_vcpu", event(BIND_VCPU, &[second, 1]), 0)?;
            words.clear();
            words.set(second, State::number(3));
            equal("unmask", about(UNMASK, second), 0)?;
            only_vcpu(words, 1)
        })
    }),
    case(
        "event_vcpu/fixed",
        "Ports of a vCPU's own cannot move, not to it itself: -EINVAL.",
        |t| {
            ports(t, |_| {
                for port in OF_VCPUS {
                    let port = virq(port)?;
                    equal_at("port", port.into(), event(BIND_VCPU, &[port, 0]), EINVAL)?;
                }
                equal("ipi", event(BIND_VCPU, &[ipi()?, 0]), EINVAL)
            })
        },
    ),
    case("event_vcpu/global", "Each of the domain's interrupts can move.", |t| {
        ports(t, |_| {
            for number in of_domain() {
                let port = virq(number)?;
                equal_at("virq", number.into(), event(BIND_VCPU, &[port, 0]), 0)?;
            }
            Ok(())
        })
    }),
    case("event_vcpu/no_port", "A port that is closed or none is refused: -EINVAL.", |t| {
        ports(t, |_| {
            for port in [0, 1, 40].into_iter().chain(NO_PORTS) {
                equal_at("port", port.into(), event(BIND_VCPU, &[port, 0]), EINVAL)?;
            }
            Ok(())
        })
    }),
    case("event_vcpu/no_vcpu", "A vCPU that is not there is refused first: -ENOENT.", |t| {
        ports(t, |_| {
            let kinds = each_kind()?;
            for port in kinds.into_iter().chain([0, 40, 4096]) {
                for vcpu in NO_VCPUS {
                    let answer = event(BIND_VCPU, &[port, vcpu]);
                    equal_at("port", port.into(), answer, ENOENT)?;
                }
            }
            Ok(())
        })
    }),
    case("event_vcpu/quiet", "Binding to a vCPU raises nothing.", |t| {
        ports(t, |words| {
            let port = unbound(NOBODY)?;
            equal("bind_vcpu", event(BIND_VCPU, &[port, 0]), 0)?;
            equal("state", words.state(port).bits(), 0)
        })
    }),
    case("event_vcpu/pending", "A pending port stays pending, and is not raised again.", |t| {
        ports(t, |words| {
            let (_, second) = pair()?;
            let before = State { pending: true, ..State::number(0) };
            words.set(second, before);
            words.set_upcall(false);
            equal("bind_vcpu", event(BIND_VCPU, &[second, 0]), 0)?;
            equal("state", words.state(second).bits(), before.bits())
        })
    }),
    case("event_queue/priority", "Without queues a port has no priority: -ENOSYS.", |t| {
        ports(t, |_| {
            for port in each_kind()? {
                for priority in [0, 7, 15, 16, u32::MAX] {
                    let answer = event(SET_PRIORITY, &[port, priority]);
                    equal_at("port", port.into(), answer, ENOSYS)?;
                }
            }
            Ok(())
        })
    }),
    case("event_queue/priority_no_port", "A port beyond 4095 is refused first: -EINVAL.", |t| {
        ports(t, |_| {
            for port in NO_PORTS {
                equal_at("port", port.into(), event(SET_PRIORITY, &[port, 0]), EINVAL)?;
            }
            Ok(())
        })
    }),
    case("event_queue/expand", "Without queues their array does not grow: -EOPNOTSUPP.", |_| {
        for frame in [0, 0x1000, u32::MAX] {
            equal_at("frame", frame.into(), event(EXPAND_ARRAY, &[frame, 0]), EOPNOTSUPP)?;
        }
        Ok(())
    }),
    case("event_virq/timer_free", "The timer's number is free when a domain begins.", |t| {
        ports(t, |_| timer_is_free())
    }),
];

fn timer_is_free() -> Outcome {
    let port = virq(TIMER)?;
    let [_, vcpu, number, _] = status(port)?;
    equal("vCPU", vcpu, 0)?;
    equal("virq", number, TIMER)
}
