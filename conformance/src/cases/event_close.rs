//! Closing ports, sending by them, and closing all at once.

use super::event_calls::{
    BIND_INTERDOMAIN, CLOSE, CLOSED, ESRCH, GLOBAL, NO_DOMAINS, NO_PORTS, NOBODY, PER_VCPU, RESET,
    SELF, SEND, STATUS, State, UNBOUND, UNMASK, about, each_kind, event, ipi, is, pair, ports,
    status, unbound, virq, word,
};
use crate::call::EINVAL;
use crate::case::{Case, Outcome, case, equal, equal_at};

pub(crate) const CASES: &[Case] = &[
    case("event_close/each", "A port of any kind can be closed, once.", |t| {
        ports(t, |_| {
            for port in each_kind()? {
                equal_at("close", port.into(), about(CLOSE, port), 0)?;
                is(port, CLOSED)?;
                equal_at("again", port.into(), about(CLOSE, port), EINVAL)?;
            }
            Ok(())
        })
    }),
    case("event_close/none", "What is no port in use is not closed: -EINVAL.", |t| {
        ports(t, |_| {
            for port in [0, 1, 40].into_iter().chain(NO_PORTS) {
                equal_at("close", port.into(), about(CLOSE, port), EINVAL)?;
            }
            Ok(())
        })
    }),
    case("event_close/peer", "The other end is unbound then, for the same domain.", |t| {
        ports(t, |_| {
            for turn in 0..2 {
                let (first, second) = pair()?;
                let (closed, other) = if turn == 0 { (first, second) } else { (second, first) };
                equal("close", about(CLOSE, closed), 0)?;
                let [kind, _, remote, _] = status(other)?;
                equal("kind", kind, UNBOUND)?;
                equal("remote", remote & 0xffff, 0)?;
                equal("bind again", event(BIND_INTERDOMAIN, &[SELF, other]), 0)?;
                equal("port", word(2), closed)?;
            }
            Ok(())
        })
    }),
    case("event_close/peer_quiet", "Closing raises nothing at the other end.", |t| {
        ports(t, |words| {
            let (first, second) = pair()?;
            words.clear();
            equal("close", about(CLOSE, second), 0)?;
            equal("state", words.state(first).bits(), 0)
        })
    }),
    case("event_close/pending", "Closing clears the pending bit, and nothing else.", |t| {
        ports(t, |words| {
            for port in each_kind()? {
                words.set(port, State::number(7));
                words.set_upcall(true);
                equal_at("close", port.into(), about(CLOSE, port), 0)?;
                equal_at("state", port.into(), words.state(port).bits(), 14)?;
                words.clear();
            }
            Ok(())
        })
    }),
    case("event_close/refused_pending", "A close that is refused clears nothing.", |t| {
        ports(t, |words| {
            words.set(40, State::number(7));
            equal("close", about(CLOSE, 40), EINVAL)?;
            equal("state", words.state(40).bits(), 7)
        })
    }),
    case("event_close/masked_again", "A new port is masked if its number was before.", |t| {
        ports(t, |words| {
            words.set(1, State::number(2));
            let port = ipi()?;
            equal("port", port, 1)?;
            equal("state", words.state(port).bits(), 2)
        })
    }),
];

pub(crate) const SENDS: &[Case] = &[
    case("event_send/ipi", "A vCPU's own port is raised itself.", |t| {
        ports(t, |words| {
            let port = ipi()?;
            equal("send", about(SEND, port), 0)?;
            equal("state", words.state(port).bits(), State::number(0).raised().bits())
        })
    }),
    case("event_send/connected", "By a connected port its other end is raised alone.", |t| {
        ports(t, |words| {
            let (first, second) = pair()?;
            for (port, other) in [(first, second), (second, first)] {
                words.clear();
                equal("send", about(SEND, port), 0)?;
                equal_at("pending", port.into(), words.pending(port), false)?;
                equal_at("pending", other.into(), words.pending(other), true)?;
            }
            Ok(())
        })
    }),
    case("event_send/unbound", "By an unbound port nothing is raised, without an error.", |t| {
        ports(t, |words| {
            for remote in [SELF, NOBODY] {
                let port = unbound(remote)?;
                equal("send", about(SEND, port), 0)?;
                equal("state", words.state(port).bits(), 0)?;
            }
            Ok(())
        })
    }),
    case("event_send/left", "Nor by one whose other end was closed.", |t| {
        ports(t, |words| {
            let (first, second) = pair()?;
            equal("close", about(CLOSE, second), 0)?;
            words.clear();
            equal("send", about(SEND, first), 0)?;
            equal("state", words.state(first).bits() | words.state(second).bits(), 0)
        })
    }),
    case("event_send/virq", "Nobody sends by a virtual interrupt's port: -EINVAL.", |t| {
        ports(t, |words| {
            for number in 0..24 {
                let port = virq(number)?;
                equal_at("send", number.into(), about(SEND, port), EINVAL)?;
                if number != 0 {
                    equal_at("state", number.into(), words.pending(port), false)?;
                }
            }
            Ok(())
        })
    }),
    case("event_send/none", "Nor by what is no port in use: -EINVAL.", |t| {
        ports(t, |words| {
            for port in [0, 1, 40].into_iter().chain(NO_PORTS) {
                equal_at("send", port.into(), about(SEND, port), EINVAL)?;
            }
            equal("selector", words.selector(), 0)
        })
    }),
    case("event_send/words", "Each port has its bit, and each 64 ports theirs.", |t| {
        ports(t, |words| {
            for port in 1..80 {
                equal("port", ipi()?, port)?;
                words.clear();
                equal("send", about(SEND, port), 0)?;
                let state = State::number(0).raised().bits();
                equal_at("state of", port.into(), words.state(port).bits(), state)?;
                equal_at("selector", port.into(), words.selector(), 1 << (port / 64))?;
            }
            Ok(())
        })
    }),
    case("event_unmask/each", "Unmasking answers 0 for ports of any kind.", |t| {
        ports(t, |words| {
            for port in each_kind()? {
                words.set(port, State::number(3));
                equal_at("unmask", port.into(), about(UNMASK, port), 0)?;
                let state = State::number(3).unmasked().bits();
                equal_at("state of", port.into(), words.state(port).bits(), state)?;
                words.clear();
            }
            Ok(())
        })
    }),
    case("event_unmask/closed", "Unmasking a closed port answers 0 and does nothing.", |t| {
        ports(t, |words| {
            for port in [0, 1, 40] {
                words.set(port, State::number(3));
                equal_at("unmask", port.into(), about(UNMASK, port), 0)?;
                equal_at("state of", port.into(), words.state(port).bits(), 3)?;
                words.clear();
            }
            Ok(())
        })
    }),
    case("event_unmask/range", "A port beyond 4095 is refused: -EINVAL.", |t| {
        ports(t, |_| {
            for port in NO_PORTS {
                equal_at("unmask", port.into(), about(UNMASK, port), EINVAL)?;
            }
            Ok(())
        })
    }),
];

pub(crate) const RESETS: &[Case] = &[
    case("event_reset/all", "Reset closes all ports, so that 1 is the next.", |t| {
        ports(t, |_| reset(SELF))
    }),
    case("event_reset/own_number", "The initial domain may do so by its number.", |t| {
        ports(t, |_| reset(0))
    }),
    case("event_reset/empty", "Without ports it answers 0, too.", |t| {
        ports(t, |_| {
            equal("reset", event(RESET, &[SELF]), 0)?;
            equal("again", event(RESET, &[SELF]), 0)
        })
    }),
    case("event_reset/words", "It clears the bits of ports that were in use.", |t| {
        ports(t, |words| {
            let kinds = each_kind()?;
            for port in kinds.into_iter().chain([40]) {
                words.set(port, State::number(7));
            }
            words.set_upcall(true);
            equal("reset", event(RESET, &[SELF]), 0)?;
            for port in kinds {
                equal_at("state of", port.into(), words.state(port).bits(), 14)?;
            }
            equal("state of another", words.state(40).bits(), 15)
        })
    }),
    case("event_reset/no_domain", "A domain that is none is refused: -ESRCH.", |t| {
        ports(t, |_| {
            let port = ipi()?;
            for domain in NO_DOMAINS {
                equal_at("reset", domain.into(), event(RESET, &[domain]), ESRCH)?;
            }
            equal("status", event(STATUS, &[SELF, port]), 0)
        })
    }),
];

fn reset(domain: u32) -> Outcome {
    let kinds = each_kind()?;
    equal("reset", event(RESET, &[domain]), 0)?;
    for port in kinds {
        is(port, CLOSED)?;
    }
    equal("virq", virq(PER_VCPU)?, 1)?;
    equal("virq", virq(GLOBAL)?, 2)
}
