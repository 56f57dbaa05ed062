//! `event_channel_op` and the words of the shared page that it changes.

use pv_guest_sdk::Machine;
use pv_guest_sdk::raw::shared::shared_info;

use crate::call::hypercall;
use crate::case::{Outcome, Test, Verdict, equal, equal_at};
use crate::raw::memory::{arena_address, get, peek, poke, poke_byte, put};
use crate::raw::snippets::RDTSC;
use crate::raw::{Registers, run};

pub(crate) const EVENT_CHANNEL_OP: u64 = 32;

pub(crate) const BIND_INTERDOMAIN: u64 = 0;
pub(crate) const BIND_VIRQ: u64 = 1;
pub(crate) const BIND_PIRQ: u64 = 2;
pub(crate) const CLOSE: u64 = 3;
pub(crate) const SEND: u64 = 4;
pub(crate) const STATUS: u64 = 5;
pub(crate) const ALLOC_UNBOUND: u64 = 6;
pub(crate) const BIND_IPI: u64 = 7;
pub(crate) const BIND_VCPU: u64 = 8;
pub(crate) const UNMASK: u64 = 9;
pub(crate) const RESET: u64 = 10;
pub(crate) const EXPAND_ARRAY: u64 = 12;
pub(crate) const SET_PRIORITY: u64 = 13;

pub(crate) const ENOENT: i64 = -2;
pub(crate) const ESRCH: i64 = -3;
pub(crate) const EEXIST: i64 = -17;
pub(crate) const ENOSPC: i64 = -28;
pub(crate) const EOPNOTSUPP: i64 = -95;

/// What a port is.
pub(crate) const CLOSED: u32 = 0;
pub(crate) const UNBOUND: u32 = 1;
pub(crate) const INTERDOMAIN: u32 = 2;
pub(crate) const VIRQ: u32 = 4;
pub(crate) const IPI: u32 = 5;

/// The calling domain, named as such.
pub(crate) const SELF: u32 = 0x7ff0;
/// A number no domain has.
pub(crate) const NOBODY: u32 = 0x1234;
/// Domains that are none: small, in the middle, devices', the hypervisor's, no number at all.
pub(crate) const NO_DOMAINS: [u32; 7] = [1, NOBODY, 0x7fef, 0x7ff1, 0x7ff2, 0x7ff4, 0xffff];
/// Ports that the two-level form cannot have.
pub(crate) const NO_PORTS: [u32; 5] = [4096, 4097, 0x1_0000, 0x8000_0000, u32::MAX];
/// vCPUs that are none: the initial domain has four, of which one is up.
pub(crate) const NO_VCPUS: [u32; 6] = [4, 31, 32, 8192, 0x8000_0000, u32::MAX];

/// A virtual interrupt of each vCPU, which nobody raises.
pub(crate) const PER_VCPU: u32 = 7;
/// A virtual interrupt of the domain, which nobody raises.
pub(crate) const GLOBAL: u32 = 10;
/// The timer's.
pub(crate) const TIMER: u32 = 0;

/// What words of an argument hold that the hypervisor did not write.
pub(crate) const UNTOUCHED: u32 = 0x5a5a_5a5a;

/// Ports that cases use, so that closing these closes all.
const USED: u32 = 80;

/// Makes a call with its argument, given as words, at the arena's start; the answer.
pub(crate) fn event(command: u64, words: &[u32]) -> i64 {
    put(0, &[0x5a; 32]);
    for (index, word) in words.iter().enumerate() {
        put(index * 4, &word.to_le_bytes());
    }
    hypercall(EVENT_CHANNEL_OP, &[command, arena_address()])
}

/// The word of the last argument at `index`.
pub(crate) fn word(index: usize) -> u32 {
    u32::from_le_bytes(get(index * 4))
}

/// Makes a call that must succeed and answers a port, the argument's word at `index`.
fn port(what: &'static str, command: u64, words: &[u32], index: usize) -> Result<u32, Verdict> {
    equal(what, event(command, words), 0)?;
    Ok(word(index))
}

/// Makes a port unbound, for a domain to bind to.
pub(crate) fn unbound(remote: u32) -> Result<u32, Verdict> {
    port("alloc_unbound", ALLOC_UNBOUND, &[SELF | remote << 16], 1)
}

/// Makes a port between vCPUs, of which there is one.
pub(crate) fn ipi() -> Result<u32, Verdict> {
    port("bind_ipi", BIND_IPI, &[0], 1)
}

/// Binds a virtual interrupt of vCPU 0.
pub(crate) fn virq(number: u32) -> Result<u32, Verdict> {
    port("bind_virq", BIND_VIRQ, &[number, 0], 2)
}

/// Two ports of this domain that are connected: the one that was there first, and the other.
pub(crate) fn pair() -> Result<(u32, u32), Verdict> {
    let first = unbound(SELF)?;
    let second = port("bind_interdomain", BIND_INTERDOMAIN, &[SELF, first], 2)?;
    Ok((first, second))
}

/// What `status` answers: the port's kind, its vCPU, and two words of details.
pub(crate) fn status(port: u32) -> Result<[u32; 4], Verdict> {
    equal_at("status of port", port.into(), event(STATUS, &[SELF, port]), 0)?;
    Ok([word(2), word(3), word(4), word(5)])
}

/// Checks what kind of port it is.
pub(crate) fn is(port: u32, kind: u32) -> Outcome {
    let [seen, ..] = status(port)?;
    equal_at("kind of port", port.into(), seen, kind)
}

/// Makes a call about one port; the answer.
pub(crate) fn about(command: u64, port: u32) -> i64 {
    event(command, &[port])
}

/// Checks which vCPU alone has an upcall, for the first 64 ports.
pub(crate) fn only_vcpu(words: Words, vcpu: u32) -> Outcome {
    for other in 0..4 {
        let raised = other == vcpu;
        equal_at("selector of vCPU", other.into(), words.selector_of(other), raised.into())?;
        equal_at("upcall of vCPU", other.into(), words.upcall_of(other), raised)?;
    }
    Ok(())
}

/// One port of each kind.
pub(crate) fn each_kind() -> Result<[u32; 6], Verdict> {
    let (first, second) = pair()?;
    Ok([unbound(NOBODY)?, first, second, virq(PER_VCPU)?, virq(GLOBAL)?, ipi()?])
}

/// The shared page's words on events, of vCPU 0.
#[derive(Clone, Copy)]
pub(crate) struct Words {
    page: u64,
}

/// The state of a port in the shared page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct State {
    /// The port's pending bit.
    pub(crate) pending: bool,
    /// The port's mask bit.
    pub(crate) masked: bool,
    /// The bit for the port's word in the vCPU's selector.
    pub(crate) selected: bool,
    /// The vCPU's byte of a pending upcall.
    pub(crate) upcall: bool,
}

impl State {
    /// One of 16 states.
    pub(crate) const fn number(bits: u64) -> Self {
        Self {
            pending: bits & 1 != 0,
            masked: bits & 2 != 0,
            selected: bits & 4 != 0,
            upcall: bits & 8 != 0,
        }
    }

    /// The number of this state.
    pub(crate) fn bits(self) -> u64 {
        u64::from(self.pending)
            | u64::from(self.masked) << 1
            | u64::from(self.selected) << 2
            | u64::from(self.upcall) << 3
    }

    /// What it becomes when the port is raised.
    pub(crate) const fn raised(self) -> Self {
        let raises = !self.pending && !self.masked && !self.selected;
        Self {
            pending: true,
            selected: self.selected || raises,
            upcall: self.upcall || raises,
            ..self
        }
    }

    /// What it becomes when the port is unmasked by the call.
    pub(crate) const fn unmasked(self) -> Self {
        let raises = self.pending && self.masked && !self.selected;
        Self {
            masked: false,
            selected: self.selected || raises,
            upcall: self.upcall || raises,
            ..self
        }
    }
}

impl Words {
    /// The words of the shared page at an address.
    pub(crate) const fn at(page: u64) -> Self {
        Self { page }
    }

    /// Where the page is.
    pub(crate) const fn address(self) -> u64 {
        self.page
    }

    fn set_bit(place: u64, bit: u32, value: bool) {
        let mask = 1 << (bit % 64);
        let place = place + u64::from(bit / 64) * 8;
        poke(place, peek(place) & !mask | if value { mask } else { 0 });
    }

    fn bit(place: u64, bit: u32) -> bool {
        peek(place + u64::from(bit / 64) * 8) >> (bit % 64) & 1 != 0
    }

    /// Whether a port is pending.
    pub(crate) fn pending(self, port: u32) -> bool {
        Self::bit(self.page + 2048, port)
    }

    /// Sets a port's pending bit.
    pub(crate) fn set_pending(self, port: u32, value: bool) {
        Self::set_bit(self.page + 2048, port, value);
    }

    /// Sets a port's mask bit.
    pub(crate) fn set_masked(self, port: u32, value: bool) {
        Self::set_bit(self.page + 2560, port, value);
    }

    /// The state of a port.
    pub(crate) fn state(self, port: u32) -> State {
        State {
            pending: self.pending(port),
            masked: Self::bit(self.page + 2560, port),
            selected: Self::bit(self.page + 8, port / 64),
            upcall: peek(self.page) & 0xff != 0,
        }
    }

    /// Sets all of a port's state but the upcall, which is for [`State::upcall`]'s user to set.
    pub(crate) fn set(self, port: u32, state: State) {
        self.set_pending(port, state.pending);
        self.set_masked(port, state.masked);
        Self::set_bit(self.page + 8, port / 64, state.selected);
    }

    /// Sets the byte of a pending upcall. Only while upcalls are masked.
    pub(crate) fn set_upcall(self, upcall: bool) {
        poke_byte(self.page, upcall.into());
    }

    /// The vCPU's selector.
    pub(crate) fn selector(self) -> u64 {
        self.selector_of(0)
    }

    /// The selector of any vCPU.
    pub(crate) fn selector_of(self, vcpu: u32) -> u64 {
        peek(self.page + u64::from(vcpu) * 64 + 8)
    }

    /// Whether any vCPU has a pending upcall.
    pub(crate) fn upcall_of(self, vcpu: u32) -> bool {
        peek(self.page + u64::from(vcpu) * 64) & 0xff != 0
    }

    /// Forgets that anything is pending or masked.
    pub(crate) fn clear(self) {
        for vcpu in 0..4 {
            poke_byte(self.page + vcpu * 64, 0);
            poke(self.page + vcpu * 64 + 8, 0);
        }
        (256..384).for_each(|word| poke(self.page + word * 8, 0));
    }

    /// The byte that masks upcalls.
    pub(crate) fn upcall_mask(self) -> u64 {
        peek(self.page) >> 8 & 0xff
    }

    /// The system's time. Unit: nanoseconds since it began.
    pub(crate) fn now(self) -> u64 {
        let mut registers = Registers::new();
        loop {
            let version = peek(self.page + 32);
            run(RDTSC, &mut registers);
            let (stamp, time) = (peek(self.page + 40), peek(self.page + 48));
            let scale = peek(self.page + 56);
            if version == peek(self.page + 32) && version & 1 == 0 {
                let ticks = (registers.rdx << 32 | registers.rax).wrapping_sub(stamp);
                let shift = scale.to_le_bytes()[4].cast_signed();
                let ticks = if shift < 0 {
                    ticks >> shift.unsigned_abs()
                } else {
                    ticks << shift.unsigned_abs()
                };
                let product = u128::from(ticks) * u128::from(scale & 0xffff_ffff);
                return time + u64::try_from(product >> 32).unwrap_or(0);
            }
        }
    }
}

/// Does something with ports, and closes all and clears the words behind it.
pub(crate) fn ports(t: &Test<'_>, does: impl FnOnce(Words) -> Outcome) -> Outcome {
    let words = match shared_info(&Machine, t.boot) {
        Ok(shared) => Words::at(core::ptr::from_ref(shared).expose_provenance() as u64),
        Err(_) => return equal("the shared page", "refused", "mapped"),
    };
    words.clear();
    let outcome = does(words);
    for port in 1..USED {
        // Most are closed, which is refused.
        let _ = about(CLOSE, port);
    }
    words.clear();
    outcome
}
