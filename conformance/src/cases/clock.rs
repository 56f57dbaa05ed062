//! The clock: what each vCPU is told of time, and the wall clock.

use crate::call::EFAULT;
use crate::case::{Case, Outcome, Test, case, equal, equal_at, holds};
use crate::clock::{Clock, MS, TimeInfo, clock, time_of};
use crate::raw::Registers;
use crate::raw::ap_snippets::RDTSC;
use crate::raw::memory::{arena_address, fill_arena, peek, peek_byte, poke, tsc};
use crate::tables::{M2P, mapped_end};
use crate::vcpus::{ENOENT, VCPUS, shared_page, vcpu_op, vcpu_op_of, worker};

const REGISTER: u64 = 13;
/// Where the copy of the time goes that cases ask for.
const COPY: u64 = 8192;

pub(crate) const CASES: &[Case] = &[
    case("clock/valid", "The time of the vCPU that runs is there, its version even.", |t| {
        let info = TimeInfo::at(time_of(t, 0)?);
        holds("version", info.version, "not 0", info.version != 0)?;
        holds("system time", info.system, "not 0", info.system != 0)?;
        holds("factor", info.mul, "its highest bit set", info.mul >= 1 << 31)?;
        holds("counter", info.tsc, "not ahead", info.tsc <= tsc())
    }),
    case("clock/padding", "What is between the fields and behind them is 0.", |t| {
        let address = time_of(t, 0)?;
        equal("behind the version", peek(address) >> 32, 0)?;
        equal("behind the flags", peek(address + 24) >> 48, 0)?;
        equal("flags but stable", peek_byte(address + 29) & !1, 0)
    }),
    case("clock/never_back", "Time never goes back, read a hundred thousand times.", |t| {
        let c = clock(t)?;
        let mut last = 0;
        for _ in 0..100_000 {
            let now = c.now();
            holds("time", now, "not below the last", now >= last)?;
            last = now;
        }
        Ok(())
    }),
    case("clock/updates", "Over updates by the hypervisor time is continuous.", |t| {
        let address = time_of(t, 0)?;
        let end = clock(t)?.now() + 2200 * MS;
        let mut info = TimeInfo::at(address);
        // An update is wrong by as long as another program had the processor within it, and the next one
        // makes up for that. What happened before the first is not known.
        let (mut allowed, mut last) = (None, clock(t)?.now());
        while last < end {
            let next = TimeInfo::at(address);
            let now = next.time_at(tsc());
            if next != info {
                let (before, after) = (info.time_at(next.tsc), next.system);
                let (jump, took) = (before.abs_diff(after), now.abs_diff(last));
                let most = took + allowed.unwrap_or(u64::MAX / 2);
                holds("jump", jump, "below 1 ms, or what the updates took", jump < most)?;
                holds("version", next.version, "grown", next.version > info.version)?;
                allowed = Some(took + allowed.unwrap_or(MS));
            }
            (info, last) = (next, now);
        }
        Ok(())
    }),
    case("clock/sleep", "Time goes on while a vCPU sleeps.", |t| {
        let c = clock(t)?;
        for ms in 1..=10 {
            let before = c.now();
            equal("poll", c.poll(before + ms * MS), 0)?;
            let now = c.now();
            holds("time", now, "not before the poll's", now >= before + ms * MS)?;
        }
        Ok(())
    }),
    case("clock/same", "All vCPUs see the same time.", |t| {
        let (c, ap) = (clock(t)?, worker(t)?);
        for _ in 0..20 {
            let before = c.now();
            let registers = ap.run(RDTSC, &Registers::new())?;
            let after = c.now();
            let info = TimeInfo::at(time_of(t, ap.number())?);
            let there = info.time_at(registers.rdx << 32 | registers.rax);
            // Factors differ by calibration.
            holds("before", there, "not below the first's", there + MS / 10 >= before)?;
            holds("after", there, "not above the first's", there <= after + MS / 10)?;
        }
        Ok(())
    }),
    case("clock/never_ran", "The time of a vCPU that never ran is not told.", |t| {
        for vcpu in [3, VCPUS, 31] {
            for word in 0..4 {
                let word = peek(time_of(t, vcpu)? + 8 * word);
                equal_at("word of vCPU", vcpu, word, 0)?;
            }
        }
        Ok(())
    }),
    case("clock/wall", "The wall clock is set, to this century.", |t| {
        let page = shared_page(t)?;
        let (version, seconds) = (peek(page + 3072) & 0xffff_ffff, peek(page + 3072) >> 32);
        let (nanoseconds, high) = (peek(page + 3080) & 0xffff_ffff, peek(page + 3080) >> 32);
        holds("version", version, "even, not 0", version % 2 == 0 && version != 0)?;
        let year = 1970 + (seconds + clock(t)?.now() / 1_000_000_000) / 31_556_952;
        holds("year", year, "2020 to 2100", (2020..=2100).contains(&year))?;
        holds("nanoseconds", nanoseconds, "less than a second", nanoseconds < 1_000_000_000)?;
        equal("upper half of the seconds", high, 0)
    }),
    case("clock/wall_stays", "The wall clock's beginning does not move as time passes.", |t| {
        let (c, page) = (clock(t)?, shared_page(t)?);
        let before = (peek(page + 3072), peek(page + 3080));
        equal("poll", c.poll(c.now() + 50 * MS), 0)?;
        equal("same", (peek(page + 3072), peek(page + 3080)) == before, true)
    }),
    case("clock/copy", "A copy of the time is written at once, of a vCPU that runs.", |t| {
        copied(t, |_, copy| {
            let (own, copy) = (TimeInfo::at(time_of(t, 0)?), TimeInfo::at(copy));
            equal("same", (own.tsc, own.system) == (copy.tsc, copy.system), true)
        })
    }),
    case("clock/copy_extent", "Nothing beside the copy's 32 bytes is written.", |t| {
        copied(t, |_, copy| {
            equal("before", peek(copy - 8), 0x5a5a_5a5a_5a5a_5a5a)?;
            equal("behind", peek(copy + 32), 0x5a5a_5a5a_5a5a_5a5a)
        })
    }),
    case("clock/copy_follows", "The copy follows the time.", |t| {
        copied(t, |c, copy| {
            let end = c.now() + 1200 * MS;
            while c.now() < end {
                let (own, copy) = (TimeInfo::at(time_of(t, 0)?), TimeInfo::at(copy));
                // The hypervisor writes one behind the other, so either may be a step ahead.
                let now = tsc();
                let apart = copy.time_at(now).abs_diff(own.time_at(now));
                holds("apart", apart, "below 1 ms", apart < MS)?;
            }
            c.poll(end + 10 * MS);
            equal("same", TimeInfo::at(time_of(t, 0)?).tsc, TimeInfo::at(copy).tsc)
        })
    }),
    case("clock/copy_moves", "A second copy replaces the first.", |t| {
        copied(t, |c, copy| {
            equal("answer", vcpu_op_of(REGISTER, 0, &[copy + 100]), 0)?;
            holds("version", peek(copy + 100), "not 0", peek(copy + 100) & 0xffff_ffff != 0)?;
            (0..4).for_each(|word| poke(copy + 8 * word, 0));
            c.poll(c.now() + 1200 * MS);
            equal("first", peek(copy), 0)
        })
    }),
    case("clock/copy_pointer", "A copy's address that cannot be read: EFAULT.", |_| {
        for pointer in [0, 0x1000, M2P, 1 << 47] {
            equal_at("answer for", pointer, vcpu_op(REGISTER, 0, pointer), EFAULT)?;
        }
        Ok(())
    }),
    case("clock/copy_hypervisor", "A copy in the hypervisor's range: EFAULT.", |_| {
        for address in [M2P, 0xffff_8300_0000_0000, 1 << 47] {
            equal_at("answer for", address, vcpu_op_of(REGISTER, 0, &[address]), EFAULT)?;
        }
        Ok(())
    }),
    case(
        "clock/copy_unmapped",
        "A copy that nothing maps is taken, too; only where it begins is looked at.",
        |t| {
            let c = clock(t)?;
            for address in [0x1000, mapped_end(t.boot) - 16, (1 << 47) - 16] {
                equal_at("answer for", address, vcpu_op_of(REGISTER, 0, &[address]), 0)?;
                c.poll(c.now() + 5 * MS);
            }
            equal("null", vcpu_op_of(REGISTER, 0, &[0]), 0)
        },
    ),
    case("clock/copy_others", "Copies of other vCPUs' times are taken, of none beyond.", |t| {
        worker(t)?;
        for vcpu in 1..VCPUS {
            fill_arena(0);
            equal_at("answer", vcpu, vcpu_op_of(REGISTER, vcpu, &[arena_address() + COPY]), 0)?;
            let copy = TimeInfo::at(arena_address() + COPY);
            holds("version of the copy", copy.version, "not 0", copy.version != 0)?;
            equal_at("null", vcpu, vcpu_op_of(REGISTER, vcpu, &[0]), 0)?;
        }
        equal("beyond", vcpu_op_of(REGISTER, VCPUS, &[arena_address() + COPY]), ENOENT)
    }),
];

/// Runs `body` while the time of vCPU 0 is copied to an address, in memory filled with 5a.
fn copied(t: &Test<'_>, body: impl FnOnce(Clock, u64) -> Outcome) -> Outcome {
    let c = clock(t)?;
    fill_arena(0x5a);
    let copy = arena_address() + COPY;
    equal("answer", vcpu_op_of(REGISTER, 0, &[copy]), 0)?;
    let outcome = body(c, copy);
    equal("null", vcpu_op_of(REGISTER, 0, &[0]), 0)?;
    outcome
}
