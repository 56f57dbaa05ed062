//! Ports: making them unbound, their numbers, and what they are said to be.

use super::event_calls::{
    ALLOC_UNBOUND, BIND_INTERDOMAIN, BIND_IPI, BIND_PIRQ, BIND_VCPU, BIND_VIRQ, CLOSE, CLOSED,
    ENOSPC, ESRCH, EVENT_CHANNEL_OP, GLOBAL, INTERDOMAIN, IPI, NO_DOMAINS, NO_PORTS, NOBODY,
    PER_VCPU, RESET, SELF, SEND, STATUS, State, UNBOUND, UNMASK, UNTOUCHED, VIRQ, about, each_kind,
    event, ipi, is, pair, ports, status, unbound, virq, word,
};
use crate::call::{EFAULT, EINVAL, ENOSYS, hypercall};
use crate::case::{Case, Outcome, case, equal, equal_at};
use crate::raw::memory::{arena_address, peek, poke, poke_byte};
use crate::raw::pages_scratch;
use crate::tables::{M2P, mapped_end};

/// The calls that every system has, with the sizes of their arguments. Unit: bytes.
const SIZES: [(u64, u64); 11] = [
    (BIND_INTERDOMAIN, 12),
    (BIND_VIRQ, 12),
    (BIND_PIRQ, 12),
    (CLOSE, 4),
    (SEND, 4),
    (STATUS, 24),
    (ALLOC_UNBOUND, 8),
    (BIND_IPI, 8),
    (BIND_VCPU, 8),
    (UNMASK, 4),
    (RESET, 2),
];

/// The most ports that can be in use: port 0 is none.
const LIMIT: u32 = 4095;

pub(crate) const CALLS: &[Case] = &[
    case("event_calls/bad_pointer", "An argument that is not mapped answers -EFAULT.", |t| {
        let end = mapped_end(t.boot);
        for (command, size) in SIZES {
            for pointer in [0, 0x1000, 0x8000_0000_0000, end, end - size + 1, u64::MAX] {
                let answer = hypercall(EVENT_CHANNEL_OP, &[command, pointer]);
                equal_at("answer of", command, answer, EFAULT)?;
            }
        }
        Ok(())
    }),
    case("event_calls/hypervisor", "An argument in the hypervisor answers -EFAULT.", |_| {
        for (command, _) in SIZES {
            let answer = hypercall(EVENT_CHANNEL_OP, &[command, M2P]);
            equal_at("answer of", command, answer, EFAULT)?;
        }
        Ok(())
    }),
    case("event_calls/extent", "An argument may end where mapped memory does.", |t| {
        ports(t, |_| {
            for (command, size) in SIZES.into_iter().filter(|&(command, _)| command != RESET) {
                let at = mapped_end(t.boot) - size;
                (0..size).for_each(|byte| poke_byte(at + byte, 0xff));
                let answer = hypercall(EVENT_CHANNEL_OP, &[command, at]);
                let expected = match command {
                    BIND_INTERDOMAIN | STATUS | ALLOC_UNBOUND => ESRCH,
                    BIND_IPI | BIND_VCPU => super::event_calls::ENOENT,
                    _ => EINVAL,
                };
                equal_at("answer of", command, answer, expected)?;
            }
            Ok(())
        })
    }),
    case("event_calls/unaligned", "An argument needs no alignment.", |t| {
        ports(t, |_| {
            for offset in 1..8 {
                poke(arena_address() + offset, 0x1234_7ff0);
                let answer = hypercall(EVENT_CHANNEL_OP, &[6, arena_address() + offset]);
                equal_at("offset", offset, answer, 0)?;
                equal_at("port", offset, peek(arena_address() + offset) >> 32, offset)?;
            }
            Ok(())
        })
    }),
    case(
        "event_calls/unknown",
        "Commands from 15 on answer -ENOSYS, whatever the pointer.",
        |_| {
            for command in [15, 16, 63, 255, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
                for pointer in [0x1000, arena_address()] {
                    let answer = hypercall(EVENT_CHANNEL_OP, &[command, pointer]);
                    equal_at("answer of", command, answer, ENOSYS)?;
                }
            }
            Ok(())
        },
    ),
    case("event_calls/command_cut", "The command has 32 bits.", |t| {
        ports(t, |_| {
            for upper in [1 << 32, 1 << 63, 0xffff_ffff_0000_0000] {
                equal_at("send with", upper, event(upper | SEND, &[0]), EINVAL)?;
                equal_at("unknown with", upper, event(upper | 15, &[0]), ENOSYS)?;
                equal_at("bind_ipi with", upper, event(upper | BIND_IPI, &[0]), 0)?;
            }
            Ok(())
        })
    }),
    case("event_calls/result_refused", "A result that cannot be written answers -EFAULT.", |t| {
        pages_scratch::with(t, |[page, ..]| {
            ports(t, |_| {
                page.set(0, u64::from(SELF));
                page.protect()?;
                for command in [ALLOC_UNBOUND, STATUS] {
                    let answer = hypercall(EVENT_CHANNEL_OP, &[command, page.va]);
                    equal_at("answer of", command, answer, EFAULT)?;
                }
                is(1, UNBOUND)
            })
        })
    }),
];

pub(crate) const CASES: &[Case] = &[
    case("event_ports/first", "The first port is 1, the next are 2 and so on.", |t| {
        ports(t, |_| {
            for port in 1..80 {
                equal("port", unbound(SELF)?, port)?;
            }
            Ok(())
        })
    }),
    case("event_ports/kinds", "All kinds of ports count together.", |t| {
        ports(t, |_| {
            for (expected, port) in [3, 1, 2, 4, 5, 6].into_iter().zip(each_kind()?) {
                equal("port", port, expected)?;
            }
            Ok(())
        })
    }),
    case("event_ports/lowest", "The lowest free port is taken.", |t| {
        ports(t, |_| {
            for _ in 0..9 {
                unbound(SELF)?;
            }
            for port in [7, 2, 5] {
                equal("close", about(CLOSE, port), 0)?;
            }
            for port in [2, 5, 7, 10] {
                equal("port", ipi()?, port)?;
            }
            Ok(())
        })
    }),
    case("event_ports/refused_takes_none", "A refused call takes no port.", |t| {
        ports(t, |_| {
            equal("interdomain", event(BIND_INTERDOMAIN, &[SELF, 77]), EINVAL)?;
            equal("virq", event(BIND_VIRQ, &[99, 0]), EINVAL)?;
            equal("alloc_unbound", event(ALLOC_UNBOUND, &[NOBODY]), ESRCH)?;
            equal("port", ipi()?, 1)
        })
    }),
    case("event_ports/wish", "What is in the port's place of the argument does not matter.", |t| {
        ports(t, |_| {
            for (place, wish) in (1..).zip([0, 1, 17, 4096, u32::MAX]) {
                equal("alloc_unbound", event(ALLOC_UNBOUND, &[SELF, wish]), 0)?;
                equal("port", word(1), place)?;
            }
            Ok(())
        })
    }),
    case("event_ports/own_number", "The initial domain may name itself 0.", |t| {
        ports(t, |_| {
            equal("alloc_unbound", event(ALLOC_UNBOUND, &[0]), 0)?;
            let [_, _, remote, _] = status(word(1))?;
            equal("remote", remote & 0xffff, 0)
        })
    }),
    case("event_ports/no_domain", "No port is made in a domain that is none: -ESRCH.", |t| {
        ports(t, |_| {
            for domain in NO_DOMAINS {
                equal_at("domain", domain.into(), event(ALLOC_UNBOUND, &[domain]), ESRCH)?;
                equal("port", word(1), UNTOUCHED)?;
            }
            Ok(())
        })
    }),
    case("event_ports/remote", "Any number will do for the domain that may bind.", |t| {
        ports(t, |_| {
            for domain in NO_DOMAINS {
                let [kind, _, remote, _] = status(unbound(domain)?)?;
                equal_at("kind for", domain.into(), kind, UNBOUND)?;
                equal("remote", remote & 0xffff, domain)?;
            }
            Ok(())
        })
    }),
    case("event_ports/remote_self", "The caller as remote is stored by its number.", |t| {
        ports(t, |_| {
            let [_, _, remote, _] = status(unbound(SELF)?)?;
            equal("remote", remote & 0xffff, 0)
        })
    }),
    case("event_ports/limit", "There are 4095 ports, then -ENOSPC, from each call.", |t| {
        ports(t, |_| filled(full))
    }),
    case("event_ports/limit_reuse", "With all in use, one that is closed is the next.", |t| {
        ports(t, |_| filled(reuse))
    }),
    case("event_ports/limit_last", "The last port is raised like the first.", |t| {
        ports(t, |words| {
            filled(|| {
                equal("close", about(CLOSE, LIMIT), 0)?;
                equal("port", ipi()?, LIMIT)?;
                words.set_masked(LIMIT, true);
                equal("send", about(SEND, LIMIT), 0)?;
                equal("state", words.state(LIMIT).bits(), 3)?;
                equal("unmask", about(UNMASK, LIMIT), 0)?;
                equal("state", words.state(LIMIT).bits(), State::number(3).unmasked().bits())?;
                equal("selector", words.selector(), 1 << 63)
            })
        })
    }),
    case("event_ports/limit_reset", "Reset closes 4095 ports, too.", |t| {
        ports(t, |_| {
            filled(|| {
                equal("reset", event(RESET, &[SELF]), 0)?;
                for port in [1, 64, 65, 2048, LIMIT] {
                    is(port, CLOSED)?;
                }
                equal("port", ipi()?, 1)
            })
        })
    }),
    case("event_ports/status_closed", "A port not in use is closed, of vCPU 0.", |t| {
        ports(t, |_| {
            for port in [0, 1, 2, 40] {
                equal_at("status of", port.into(), event(STATUS, &[SELF, port]), 0)?;
                equal_at("kind of", port.into(), word(2), CLOSED)?;
                equal_at("vCPU of", port.into(), word(3), 0)?;
            }
            Ok(())
        })
    }),
    case("event_ports/status_range", "Beyond 4095 there is no status: -EINVAL.", |t| {
        ports(t, |_| {
            for port in NO_PORTS {
                equal_at("status of", port.into(), event(STATUS, &[SELF, port]), EINVAL)?;
                equal("kind", word(2), UNTOUCHED)?;
            }
            Ok(())
        })
    }),
    case("event_ports/status_no_domain", "A domain that is none has no status: -ESRCH.", |t| {
        ports(t, |_| {
            let port = ipi()?;
            for domain in NO_DOMAINS {
                for port in [port, 4096] {
                    let answer = event(STATUS, &[domain, port]);
                    equal_at("status of domain", domain.into(), answer, ESRCH)?;
                }
            }
            Ok(())
        })
    }),
    case("event_ports/status_own_number", "The initial domain's status is that of 0.", |t| {
        ports(t, |_| {
            let port = ipi()?;
            equal("status", event(STATUS, &[0, port]), 0)?;
            equal("kind", word(2), IPI)
        })
    }),
    case("event_ports/status_kinds", "Each kind of port has its number.", |t| {
        ports(t, |_| {
            let kinds = [UNBOUND, INTERDOMAIN, INTERDOMAIN, VIRQ, VIRQ, IPI];
            for (port, kind) in each_kind()?.into_iter().zip(kinds) {
                let [seen, vcpu, ..] = status(port)?;
                equal_at("kind of", port.into(), seen, kind)?;
                equal_at("vCPU of", port.into(), vcpu, 0)?;
            }
            Ok(())
        })
    }),
    case("event_ports/status_interdomain", "Connected ports name domain and port.", |t| {
        ports(t, |_| {
            let (first, second) = pair()?;
            for (port, other) in [(first, second), (second, first)] {
                let [_, _, domain, remote] = status(port)?;
                equal_at("domain of", port.into(), domain & 0xffff, 0)?;
                equal_at("remote of", port.into(), remote, other)?;
            }
            Ok(())
        })
    }),
    case("event_ports/status_virq", "A virtual interrupt's port says which it is.", |t| {
        ports(t, |_| {
            for number in [PER_VCPU, GLOBAL, 12] {
                let [kind, _, detail, _] = status(virq(number)?)?;
                equal("kind", kind, VIRQ)?;
                equal("virq", detail, number)?;
            }
            Ok(())
        })
    }),
    case("event_ports/status_untouched", "Details that a kind has not stay as they were.", |t| {
        ports(t, |_| {
            let [unbound, _, _, virq, _, ipi] = each_kind()?;
            for (port, details) in
                [(ipi, [UNTOUCHED; 2]), (40, [UNTOUCHED; 2]), (virq, [PER_VCPU, UNTOUCHED])]
            {
                let [_, _, first, second] = status(port)?;
                equal_at("first of", port.into(), first, details[0])?;
                equal_at("second of", port.into(), second, details[1])?;
            }
            let [_, _, remote, second] = status(unbound)?;
            equal("remote", remote, UNTOUCHED & 0xffff_0000 | NOBODY)?;
            equal("second", second, UNTOUCHED)
        })
    }),
    case("event_ports/status_inputs", "Status leaves domain and port in the argument.", |t| {
        ports(t, |_| {
            let port = ipi()?;
            equal("status", event(STATUS, &[SELF | 0xabcd_0000, port]), 0)?;
            equal("domain", word(0), SELF | 0xabcd_0000)?;
            equal("port", word(1), port)
        })
    }),
];

/// Takes all ports, does something, and closes all.
fn filled(does: impl FnOnce() -> Outcome) -> Outcome {
    let refused = (1..=LIMIT).find(|&port| !unbound(SELF).is_ok_and(|made| made == port));
    let outcome = match refused {
        Some(port) => equal("the port that could not be had", port, 0),
        None => does(),
    };
    for port in 1..=LIMIT {
        // Those that were closed already are refused.
        let _ = about(CLOSE, port);
    }
    outcome
}

fn full() -> Outcome {
    equal("alloc_unbound", event(ALLOC_UNBOUND, &[SELF]), ENOSPC)?;
    equal("bind_ipi", event(BIND_IPI, &[0]), ENOSPC)?;
    equal("bind_virq", event(BIND_VIRQ, &[PER_VCPU, 0]), ENOSPC)?;
    equal("bind_interdomain", event(BIND_INTERDOMAIN, &[SELF, 1]), ENOSPC)?;
    equal("a bad one", event(BIND_INTERDOMAIN, &[SELF, 4096]), ENOSPC)?;
    equal("one of nobody", event(BIND_INTERDOMAIN, &[NOBODY, 1]), ESRCH)?;
    equal("a bad virq", event(BIND_VIRQ, &[99, 0]), EINVAL)
}

fn reuse() -> Outcome {
    for port in [LIMIT, 1, 2000] {
        equal_at("close", port.into(), about(CLOSE, port), 0)?;
        equal_at("kind of", port.into(), status(port)?[0], CLOSED)?;
        equal("port", ipi()?, port)?;
    }
    equal("bind_ipi", event(BIND_IPI, &[0]), ENOSPC)
}
