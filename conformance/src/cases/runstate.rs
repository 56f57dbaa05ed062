//! What vCPUs did with their time: asked for, and written to memory of the guest.

use crate::call::{EFAULT, VM_ASSIST, hypercall};
use crate::case::{Case, Outcome, Test, Verdict, case, equal, equal_at, holds};
use crate::clock::{Clock, MS, bind_ipi, clock, close, send};
use crate::raw::Registers;
use crate::raw::ap_snippets::BLOCK;
use crate::raw::memory::{arena_address, fill_arena, peek, poke};
use crate::tables::{M2P, mapped_end};
use crate::vcpus::{DOWN, ENOENT, UP, VCPUS, vcpu_op, vcpu_op_of, worker, yields};

const GET: u64 = 4;
const REGISTER: u64 = 5;
/// Where cases have the times written to.
const AREA: u64 = 8192;

const RUNNING: usize = 0;
const RUNNABLE: usize = 1;
const BLOCKED: usize = 2;
const OFFLINE: usize = 3;

/// What a vCPU does, since when, and how long it did what. Unit: ns.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Runstate {
    state: u64,
    since: u64,
    times: [u64; 4],
}

impl Runstate {
    fn at(address: u64) -> Self {
        let times = [16, 24, 32, 40].map(|offset| peek(address + offset));
        Self { state: peek(address), since: peek(address + 8), times }
    }

    /// Asks for a vCPU's.
    fn get(vcpu: u64) -> Result<Self, Verdict> {
        let address = arena_address() + AREA;
        equal("get_runstate_info", vcpu_op(GET, vcpu, address), 0)?;
        Ok(Self::at(address))
    }

    fn total(&self) -> u64 {
        self.times.iter().sum()
    }

    /// What was added to the time of a state.
    fn spent(&self, before: &Self, state: usize) -> u64 {
        self.times[state].wrapping_sub(before.times[state])
    }
}

pub(crate) const CASES: &[Case] = &[
    case("runstate/self", "The vCPU that asks is running, since no later than now.", |t| {
        let (c, state) = (clock(t)?, Runstate::get(0)?);
        equal("state", state.state, RUNNING as u64)?;
        holds("since", state.since, "past", state.since != 0 && state.since <= c.now())
    }),
    case("runstate/total", "The times of all states add up to the time that passed.", |t| {
        let c = clock(t)?;
        for vcpu in 0..VCPUS {
            let begin = c.now();
            let first = Runstate::get(vcpu)?;
            let middle = c.now();
            c.poll(middle + 5 * MS);
            let late = c.now();
            let second = Runstate::get(vcpu)?;
            let end = c.now();
            let passed = second.total() - first.total();
            // Each vCPU's clock may round by a little.
            holds("time", passed, "not less than passed", passed + MS / 10 >= late - middle)?;
            holds("time", passed, "not more than passed", passed <= end - begin + MS / 10)?;
        }
        Ok(())
    }),
    case("runstate/running", "While it runs or would, no other state's time grows.", |t| {
        let c = clock(t)?;
        let first = Runstate::get(0)?;
        let end = c.now() + 10 * MS;
        while c.now() < end {}
        let second = Runstate::get(0)?;
        let ran = second.spent(&first, RUNNING);
        holds("running", ran, "over 5 ms", ran > 5 * MS)?;
        equal("blocked", second.spent(&first, BLOCKED), 0)?;
        equal("offline", second.spent(&first, OFFLINE), 0)
    }),
    case("runstate/blocked", "A vCPU that sleeps is blocked.", |t| {
        let c = clock(t)?;
        let first = Runstate::get(0)?;
        let begin = c.now();
        // Long, for another program may have the processor until it sleeps.
        let sleep = 500 * MS;
        c.poll(begin + sleep);
        let (second, end) = (Runstate::get(0)?, c.now());
        let blocked = second.spent(&first, BLOCKED);
        holds("blocked", blocked, "over 25 ms", blocked > 25 * MS)?;
        holds("since", second.since, "the end of the sleep", second.since >= begin + sleep)?;
        holds("since", second.since, "past", second.since <= end)
    }),
    case("runstate/never", "A vCPU that never started is offline since it was made.", |t| {
        let (state, now) = (Runstate::get(3)?, clock(t)?.now());
        equal("state", state.state, OFFLINE as u64)?;
        holds("since", state.since, "past", state.since <= now)?;
        for other in [RUNNING, RUNNABLE, BLOCKED] {
            equal_at("time in state", other as u64, state.times[other], 0)?;
        }
        let offline = state.since + state.times[OFFLINE];
        holds("until", offline, "now", offline <= now + MS && now < offline + 1000 * MS)
    }),
    case("runstate/down", "A vCPU that was taken down is offline since then.", |t| {
        let ap = worker(t)?.spin()?;
        let begin = clock(t)?.now();
        vcpu_op(DOWN, ap.number(), 0);
        yields(10);
        let first = Runstate::get(ap.number())?;
        clock(t)?.poll(clock(t)?.now() + 5 * MS);
        let second = Runstate::get(ap.number())?;
        vcpu_op(UP, ap.number(), 0);
        ap.stop()?;
        equal("state", first.state, OFFLINE as u64)?;
        holds("since", first.since, "not before", first.since + MS / 10 >= begin)?;
        equal("since", second.since, first.since)?;
        let offline = second.spent(&first, OFFLINE);
        holds("offline", offline, "5 ms and more", offline >= 5 * MS)
    }),
    case(
        "runstate/runnable",
        "A vCPU that waits for the one CPU it may run on is runnable.",
        |t| {
            let ap = worker(t)?.spin()?;
            let first = Runstate::get(ap.number())?;
            let end = clock(t)?.now() + 3 * MS;
            while clock(t)?.now() < end {}
            let second = Runstate::get(ap.number())?;
            ap.stop()?;
            equal("state", first.state, RUNNABLE as u64)?;
            equal("offline", second.spent(&first, OFFLINE), 0)?;
            equal("blocked", second.spent(&first, BLOCKED), 0)
        },
    ),
    case("runstate/blocked_other", "Another vCPU that blocks is blocked, taken down too.", |t| {
        let ap = worker(t)?;
        let port = bind_ipi(ap.number())?;
        ap.start(BLOCK, &Registers::new())?;
        ap.sleeps()?;
        let first = Runstate::get(ap.number())?;
        clock(t)?.poll(clock(t)?.now() + 5 * MS);
        let second = Runstate::get(ap.number())?;
        vcpu_op(DOWN, ap.number(), 0);
        let third = Runstate::get(ap.number())?;
        vcpu_op(UP, ap.number(), 0);
        let fourth = Runstate::get(ap.number())?;
        send(port)?;
        ap.finish()?;
        close(port)?;
        ap.forget_events(t)?;
        equal("state", first.state, BLOCKED as u64)?;
        equal("since", second.since, first.since)?;
        let blocked = second.spent(&first, BLOCKED);
        holds("blocked", blocked, "5 ms and more", blocked >= 5 * MS)?;
        equal("state when down", third.state, BLOCKED as u64)?;
        equal("state when up again", fourth.state, BLOCKED as u64)
    }),
    case("runstate/extent", "48 bytes are written, the padding as 0.", |_| {
        fill_arena(0x5a);
        equal("answer", vcpu_op(GET, 0, arena_address() + AREA), 0)?;
        equal("state and padding", peek(arena_address() + AREA), 0)?;
        equal("before", peek(arena_address() + AREA - 8), 0x5a5a_5a5a_5a5a_5a5a)?;
        equal("behind", peek(arena_address() + AREA + 48), 0x5a5a_5a5a_5a5a_5a5a)
    }),
    case("runstate/pointer", "Times that cannot be written: EFAULT.", |t| {
        for pointer in [0, 0x1000, M2P, 1 << 47, mapped_end(t.boot) - 40, u64::MAX - 39] {
            equal_at("answer for", pointer, vcpu_op(GET, 0, pointer), EFAULT)?;
            equal_at("answer for", pointer, vcpu_op(GET, 3, pointer), EFAULT)?;
        }
        equal("beyond", vcpu_op(GET, VCPUS, arena_address()), ENOENT)
    }),
    case("runstate/area", "An area is written when it is registered, for each vCPU.", |t| {
        worker(t)?;
        for (vcpu, state) in [(0, RUNNING), (1, OFFLINE), (3, OFFLINE)] {
            registered(t, vcpu, |_, area| {
                equal_at("state of", vcpu, peek(area), state as u64)?;
                let there = Runstate::at(area);
                let now = Runstate::get_to(vcpu, area + 100)?;
                equal_at("since", vcpu, there.since, now.since)?;
                equal("before", peek(area - 8), 0x5a5a_5a5a_5a5a_5a5a)?;
                equal("behind", peek(area + 48), 0x5a5a_5a5a_5a5a_5a5a)
            })?;
        }
        Ok(())
    }),
    case("runstate/area_follows", "The area is written when the vCPU goes on.", |t| {
        registered(t, 0, |c, area| {
            let first = Runstate::at(area);
            let begin = c.now();
            let sleep = 300 * MS;
            c.poll(begin + sleep);
            let (second, end) = (Runstate::at(area), c.now());
            equal("state", second.state, RUNNING as u64)?;
            holds("since", second.since, "the end of the sleep", second.since >= begin + sleep)?;
            holds("since", second.since, "past", second.since <= end)?;
            let blocked = second.spent(&first, BLOCKED);
            holds("blocked", blocked, "over 10 ms", blocked > 10 * MS)
        })
    }),
    case("runstate/area_stays", "While the vCPU runs its area is not written.", |t| {
        registered(t, 0, |c, area| {
            let mut first = Runstate::at(area);
            for _ in 0..10 {
                let end = c.now() + MS;
                while c.now() < end {}
                let next = Runstate::at(area);
                // It may have been interrupted.
                let same = next == first || next.since != first.since;
                equal("same, or since another time", same, true)?;
                first = next;
            }
            Ok(())
        })
    }),
    case("runstate/area_other", "The area of a vCPU says what it does while others run.", |t| {
        let ap = worker(t)?;
        registered(t, ap.number(), |_, area| {
            equal("down", peek(area), OFFLINE as u64)?;
            let ap = worker(t)?.spin()?;
            let spinning = Runstate::at(area);
            ap.stop()?;
            let down = Runstate::at(area);
            equal("spinning", spinning.state, RUNNABLE as u64)?;
            equal("down again", down.state, OFFLINE as u64)?;
            holds("since", down.since, "later", down.since > spinning.since)
        })
    }),
    case("runstate/area_flag", "With the assist, the mark of an update is gone behind it.", |t| {
        equal("enable", hypercall(VM_ASSIST, &[0, 5]), 0)?;
        let ap = worker(t)?;
        let outcome = registered(t, ap.number(), |_, area| {
            let ap = worker(t)?.spin()?;
            let mut marked = false;
            for _ in 0..100 {
                yields(1);
                marked |= peek(area + 8) >> 63 == 1;
            }
            ap.stop()?;
            equal("marked", marked, false)
        });
        let own = registered(t, 0, |c, area| {
            c.poll(c.now() + 5 * MS);
            equal("marked", peek(area + 8) >> 63, 0)
        });
        equal("disable", hypercall(VM_ASSIST, &[1, 5]), 0)?;
        outcome.and(own)
    }),
    case("runstate/area_unmapped", "An area that nothing maps is taken, too.", |t| {
        let c = clock(t)?;
        for address in [0x1000, mapped_end(t.boot) - 16, (1 << 47) - 16] {
            equal_at("answer for", address, vcpu_op_of(REGISTER, 0, &[address]), 0)?;
            equal("poll", c.poll(c.now() + 2 * MS), 0)?;
        }
        equal("null", vcpu_op_of(REGISTER, 0, &[0]), 0)
    }),
    case("runstate/area_hypervisor", "An area in the hypervisor's range: EFAULT.", |t| {
        registered(t, 0, |c, area| {
            for address in [M2P, 0xffff_8300_0000_0000, 1 << 47] {
                equal_at("answer for", address, vcpu_op_of(REGISTER, 0, &[address]), EFAULT)?;
            }
            let first = Runstate::at(area);
            c.poll(c.now() + 2 * MS);
            equal("the one before is kept", Runstate::at(area).since > first.since, true)
        })
    }),
    case("runstate/area_pointer", "An area's address that cannot be read: EFAULT.", |_| {
        for pointer in [0, 0x1000, M2P, 1 << 47] {
            equal_at("answer for", pointer, vcpu_op(REGISTER, 0, pointer), EFAULT)?;
        }
        equal("beyond", vcpu_op_of(REGISTER, VCPUS, &[0]), ENOENT)
    }),
    case("runstate/area_moves", "A second area replaces the first; null ends it.", |t| {
        registered(t, 0, |c, area| {
            equal("answer", vcpu_op_of(REGISTER, 0, &[area + 100]), 0)?;
            poke(area + 8, 0);
            c.poll(c.now() + 2 * MS);
            equal("first", peek(area + 8), 0)?;
            holds("second", peek(area + 108), "written", peek(area + 108) != 0)?;
            equal("null", vcpu_op_of(REGISTER, 0, &[0]), 0)?;
            poke(area + 108, 0);
            c.poll(c.now() + 2 * MS);
            equal("second", peek(area + 108), 0)
        })
    }),
    case("runstate/area_straddles", "An area may lie across pages, at any address.", |t| {
        registered(t, 0, |c, area| {
            equal("answer", vcpu_op_of(REGISTER, 0, &[area + 4096 - 19]), 0)?;
            c.poll(c.now() + 2 * MS);
            let (there, asked) = (Runstate::at(area + 4096 - 19), Runstate::get_to(0, area)?);
            equal("since", there.since, asked.since)?;
            equal("blocked", there.times[BLOCKED], asked.times[BLOCKED])
        })
    }),
];

impl Runstate {
    /// Asks for a vCPU's, to be written somewhere.
    fn get_to(vcpu: u64, address: u64) -> Result<Self, Verdict> {
        equal("get_runstate_info", vcpu_op(GET, vcpu, address), 0)?;
        Ok(Self::at(address))
    }
}

/// Runs `body` while a vCPU's area is an address, in memory filled with 5a.
fn registered(t: &Test<'_>, vcpu: u64, body: impl FnOnce(Clock, u64) -> Outcome) -> Outcome {
    let c = clock(t)?;
    fill_arena(0x5a);
    let area = arena_address() + AREA;
    equal("answer", vcpu_op_of(REGISTER, vcpu, &[area]), 0)?;
    let outcome = body(c, area);
    equal("null", vcpu_op_of(REGISTER, vcpu, &[0]), 0)?;
    outcome
}
