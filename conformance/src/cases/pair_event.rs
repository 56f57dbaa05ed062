//! Event channels between two domains, with both ends in one hand.

use super::event_calls::{
    ALLOC_UNBOUND, BIND_INTERDOMAIN, CLOSE, CLOSED, ESRCH, INTERDOMAIN, NO_DOMAINS, NOBODY, RESET,
    SELF, SEND, STATUS, UNBOUND, UNMASK, UNTOUCHED, Words, about, event, ipi, is, status, unbound,
    word,
};
use crate::call::{EINVAL, EPERM};
use crate::case::{Case, Outcome, Test, Verdict, case, equal, equal_at};
use crate::puppet::Peer;

/// Ports that cases make: behind those of store, console and mailbox.
const USED: core::ops::Range<u32> = 4..20;

/// The puppet's end of a channel.
#[derive(Clone, Copy)]
struct Far(u32);

pub(crate) const CASES: &[Case] = &[
    case("pair_event/unbound", "A port for another domain is unbound and names it.", |t| {
        ports(t, |p, _| {
            let near = unbound(p.domain)?;
            equal("port", near, USED.start)?;
            let [kind, vcpu, domain, _] = status(near)?;
            equal("kind", kind, UNBOUND)?;
            equal("vCPU", vcpu, 0)?;
            equal("domain", domain & 0xffff, p.domain)
        })
    }),
    case("pair_event/bind", "The other domain binds: each end names the other.", |t| {
        ports(t, |p, _| {
            let near = unbound(p.domain)?;
            let far = p.bind(near)?;
            connected(p, near, far)
        })
    }),
    case("pair_event/bind_theirs", "So it is the other way round.", |t| {
        ports(t, |p, _| {
            let far = p.unbound(p.own)?;
            let near = bind(p, far)?;
            connected(p, near, far)
        })
    }),
    case("pair_event/bind_raises", "Binding raises the port of who binds, not the other.", |t| {
        ports(t, |p, words| {
            let near = unbound(p.domain)?;
            let far = p.bind(near)?;
            equal("bound to", words.pending(near), false)?;
            equal("who binds", p.pending(far.0)?, true)
        })
    }),
    case("pair_event/send", "A send sets the other end pending, not the own.", |t| {
        ports(t, |p, words| {
            let (near, far) = pair(p)?;
            words.set_pending(near, false);
            equal("send", about(SEND, near), 0)?;
            equal("other end", p.pending(far.0)?, true)?;
            equal("own end", words.pending(near), false)
        })
    }),
    case("pair_event/send_back", "The other domain's send sets this end pending.", |t| {
        ports(t, |p, words| {
            let (near, far) = pair(p)?;
            words.set_pending(near, false);
            equal("send", p.event(SEND, &[far.0])?, 0)?;
            equal("own end", words.pending(near), true)?;
            equal("other end", p.pending(far.0)?, false)
        })
    }),
    case("pair_event/send_masked", "A masked end is set pending, and nothing else.", |t| {
        ports(t, |p, words| {
            let (near, far) = pair(p)?;
            words.set_pending(near, false);
            words.set_masked(near, true);
            equal("send", p.event(SEND, &[far.0])?, 0)?;
            equal("pending", words.pending(near), true)?;
            equal("unmask", about(UNMASK, near), 0)?;
            equal("upcall", words.state(near).upcall, true)
        })
    }),
    case("pair_event/unmask_not_theirs", "Unmasking is of the caller's own ports.", |t| {
        ports(t, |p, _| {
            let (near, far) = pair(p)?;
            equal("another number", (near == far.0).into(), 1_u64)?;
            equal("beyond", about(UNMASK, 4096), EINVAL)
        })
    }),
    case("pair_event/bind_not_for_us", "A port for a third domain is refused: -EINVAL.", |t| {
        ports(t, |p, _| {
            for remote in [NOBODY, p.domain, 0x7ff1] {
                let far = p.unbound(remote)?;
                equal_at(
                    "bind",
                    remote.into(),
                    event(BIND_INTERDOMAIN, &[p.domain, far.0]),
                    EINVAL,
                )?;
                equal("port", word(2), UNTOUCHED)?;
                p.is(far, UNBOUND)?;
            }
            Ok(())
        })
    }),
    case("pair_event/bind_twice", "A port that is connected can't be bound again: -EINVAL.", |t| {
        ports(t, |p, _| {
            let (near, far) = pair(p)?;
            equal("again", event(BIND_INTERDOMAIN, &[p.domain, far.0]), EINVAL)?;
            equal("theirs", p.event(BIND_INTERDOMAIN, &[p.own, near])?, EINVAL)?;
            connected(p, near, far)
        })
    }),
    case("pair_event/bind_other_kinds", "A port of another kind is refused: -EINVAL.", |t| {
        ports(t, |p, _| {
            let near = ipi()?;
            for port in [near, near + 1, 0, 4096, u32::MAX] {
                let answer = p.event(BIND_INTERDOMAIN, &[p.own, port])?;
                equal_at("bind", port.into(), answer, EINVAL)?;
            }
            Ok(())
        })
    }),
    case("pair_event/bind_no_domain", "No such domain: -ESRCH.", |t| {
        ports(t, |p, _| {
            for domain in NO_DOMAINS.into_iter().filter(|domain| *domain > 2) {
                let answer = p.event(BIND_INTERDOMAIN, &[domain, 1])?;
                equal_at("bind", domain.into(), answer, ESRCH)?;
            }
            Ok(())
        })
    }),
    case("pair_event/unbound_for_nobody", "A port may wait for a domain that is not there.", |t| {
        ports(t, |_, _| {
            let near = unbound(NOBODY)?;
            equal("domain", status(near)?[2] & 0xffff, NOBODY)
        })
    }),
    case("pair_event/close", "Closing leaves the other end unbound, for who closed.", |t| {
        ports(t, |p, _| {
            let (near, far) = pair(p)?;
            equal("close", about(CLOSE, near), 0)?;
            is(near, CLOSED)?;
            let [kind, _, domain, _] = p.status(far)?;
            equal("kind", kind, UNBOUND)?;
            equal("domain", domain & 0xffff, p.own)
        })
    }),
    case("pair_event/close_theirs", "So it is the other way round.", |t| {
        ports(t, |p, _| {
            let (near, far) = pair(p)?;
            equal("close", p.event(CLOSE, &[far.0])?, 0)?;
            p.is(far, CLOSED)?;
            let [kind, _, domain, _] = status(near)?;
            equal("kind", kind, UNBOUND)?;
            equal("domain", domain & 0xffff, p.domain)
        })
    }),
    case("pair_event/close_both", "Both ends can be closed, in either order.", |t| {
        ports(t, |p, _| {
            for first in [true, false] {
                let (near, far) = pair(p)?;
                if first {
                    equal("close", about(CLOSE, near), 0)?;
                }
                equal("close theirs", p.event(CLOSE, &[far.0])?, 0)?;
                if !first {
                    equal("close", about(CLOSE, near), 0)?;
                }
                is(near, CLOSED)?;
                p.is(far, CLOSED)?;
                equal("once more", about(CLOSE, near), EINVAL)?;
            }
            Ok(())
        })
    }),
    case("pair_event/close_quiet", "Closing raises nothing at the other end.", |t| {
        ports(t, |p, words| {
            let (near, far) = pair(p)?;
            words.set_pending(near, false);
            equal("close", p.event(CLOSE, &[far.0])?, 0)?;
            equal("pending", words.pending(near), false)
        })
    }),
    case(
        "pair_event/close_pending",
        "What was sent before stays pending when it is closed.",
        |t| {
            ports(t, |p, words| {
                let (near, far) = pair(p)?;
                equal("send", p.event(SEND, &[far.0])?, 0)?;
                equal("close theirs", p.event(CLOSE, &[far.0])?, 0)?;
                equal("pending", words.pending(near), true)
            })
        },
    ),
    case("pair_event/rebind", "What is left can be bound again by who closed, and works.", |t| {
        ports(t, |p, words| {
            let (near, far) = pair(p)?;
            equal("close theirs", p.event(CLOSE, &[far.0])?, 0)?;
            let far = p.bind(near)?;
            connected(p, near, far)?;
            words.set_pending(near, false);
            equal("send", p.event(SEND, &[far.0])?, 0)?;
            equal("pending", words.pending(near), true)
        })
    }),
    case(
        "pair_event/send_unbound",
        "A send to an end that nobody has answers 0, for nothing.",
        |t| {
            ports(t, |p, _| {
                let (near, far) = pair(p)?;
                equal("close theirs", p.event(CLOSE, &[far.0])?, 0)?;
                equal("send", about(SEND, near), 0)?;
                equal("pending", p.pending(far.0)?, false)
            })
        },
    ),
    case("pair_event/send_closed", "A send by a closed port is refused: -EINVAL.", |t| {
        ports(t, |p, _| {
            let (near, _) = pair(p)?;
            equal("close", about(CLOSE, near), 0)?;
            equal("send", about(SEND, near), EINVAL)
        })
    }),
    case(
        "pair_event/for_another",
        "Making a port for another domain is not for all: -EPERM.",
        |t| {
            ports(t, |p, _| {
                for remote in [SELF, p.own, NOBODY] {
                    let answer = event(ALLOC_UNBOUND, &[p.domain | remote << 16]);
                    equal_at("alloc_unbound", remote.into(), answer, EPERM)?;
                }
                equal("nobody's", event(ALLOC_UNBOUND, &[NOBODY | SELF << 16]), ESRCH)
            })
        },
    ),
    case("pair_event/status_of_another", "Nor is asking for a port's state: -EPERM.", |t| {
        ports(t, |p, _| {
            equal("status", event(STATUS, &[p.domain, 1]), EPERM)?;
            equal("own by number", event(STATUS, &[p.own, 1]), 0)?;
            equal("nobody's", event(STATUS, &[NOBODY, 1]), ESRCH)
        })
    }),
    case("pair_event/reset_another", "Nor is closing all of its ports: -EPERM.", |t| {
        ports(t, |p, _| {
            let (near, far) = pair(p)?;
            equal("reset", event(RESET, &[p.domain]), EPERM)?;
            connected(p, near, far)
        })
    }),
    case("pair_event/many", "Channels do not disturb each other.", |t| {
        ports(t, |p, words| {
            let mut pairs = [(0, Far(0)); 8];
            for pair_of in &mut pairs {
                *pair_of = pair(p)?;
                words.set_pending(pair_of.0, false);
            }
            for (number, (near, far)) in pairs.iter().enumerate() {
                equal("send", p.event(SEND, &[far.0])?, 0)?;
                for (other, (port, _)) in pairs.iter().enumerate() {
                    let wanted = other == number;
                    equal_at("pending", (*port).into(), words.pending(*port), wanted)?;
                }
                words.set_pending(*near, false);
            }
            Ok(())
        })
    }),
];

/// Does something with ports, and closes them at both ends behind it.
fn ports(t: &Test<'_>, does: impl FnOnce(&Peer, Words) -> Outcome) -> Outcome {
    let p = t.peer()?;
    let outcome = does(p, p.words);
    for port in USED {
        // Most are closed, which is refused.
        let _ = about(CLOSE, port);
        p.event(CLOSE, &[port])?;
        p.words.set(port, super::event_calls::State::number(0));
        p.forget(port)?;
    }
    outcome
}

/// A channel that the puppet has bound, and whose bits are clear.
fn pair(p: &Peer) -> Result<(u32, Far), Verdict> {
    let near = unbound(p.domain)?;
    let far = p.bind(near)?;
    p.forget(far.0)?;
    Ok((near, far))
}

fn bind(p: &Peer, far: Far) -> Result<u32, Verdict> {
    equal("bind", event(BIND_INTERDOMAIN, &[p.domain, far.0]), 0)?;
    Ok(word(2))
}

/// Checks that two ports are the ends of one channel.
fn connected(p: &Peer, near: u32, far: Far) -> Outcome {
    let [kind, _, domain, port] = status(near)?;
    equal("kind", kind, INTERDOMAIN)?;
    equal("domain", domain & 0xffff, p.domain)?;
    equal("port", port, far.0)?;
    let [kind, _, domain, port] = p.status(far)?;
    equal("their kind", kind, INTERDOMAIN)?;
    equal("their domain", domain & 0xffff, p.own)?;
    equal("their port", port, near)
}

impl Peer {
    fn unbound(&self, remote: u32) -> Result<Far, Verdict> {
        equal("their alloc_unbound", self.event(ALLOC_UNBOUND, &[SELF | remote << 16])?, 0)?;
        Ok(Far(self.half(1)))
    }

    /// The puppet binds to a port of this domain.
    fn bind(&self, near: u32) -> Result<Far, Verdict> {
        equal("their bind", self.event(BIND_INTERDOMAIN, &[self.own, near])?, 0)?;
        Ok(Far(self.half(2)))
    }

    fn status(&self, far: Far) -> Result<[u32; 4], Verdict> {
        equal("their status", self.event(STATUS, &[SELF, far.0])?, 0)?;
        Ok([2, 3, 4, 5].map(|index| self.half(index)))
    }

    fn is(&self, far: Far, kind: u32) -> Outcome {
        equal("their kind", self.status(far)?[0], kind)
    }
}
