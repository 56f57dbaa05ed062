//! The extended state of a vCPU: XSAVE, XCR0, the upper halves of the AVX registers; and the instructions
//! that read and write segment bases.

use super::control::{EOPNOTSUPP, ESRCH, FREE, answer, answers, domctl, with_domain};
use super::cpuid::{ask, leaf_is};
use super::trap_stage::{END, Stage, user_stage};
use crate::call::{EFAULT, EINVAL};
use crate::case::{Case, Outcome, Test, Verdict, case, equal, equal_at};
use crate::raw::ap_snippets::{AVX_OFF, AVX_ON, BASES_YIELD, UPPER, UPPER_YIELD, XCR0, first};
use crate::raw::memory::{arena_address, peek, poke};
use crate::raw::trap_emulation as code;
use crate::raw::{Code, Registers, ap, run};
use crate::vcpus::{Ap, worker, yields};

const XSAVE: u64 = 1 << 26;
const OSXSAVE: u64 = 1 << 27;
const AVX: u64 = 1 << 28;
const CR4_FSGSBASE: u64 = 1 << 16;
const CR4_OSXSAVE: u64 = 1 << 18;
/// Values of XCR0 that no processor and no guest may have, then those that a guest with AVX may have.
const BAD: [u64; 9] = [0, 2, 4, 5, 6, 0x20, 0x27, 0x67, 1 << 63 | 3];
const GOOD: [u64; 3] = [1, 7, 3];
/// Words that tell the upper halves apart.
const PATTERN: [u64; 2] = [0x1111_2222_3333_4444, 0x5555_6666_7777_8888];

pub(crate) const CASES: &[Case] = &[
    case("xsave/shown", "The kernel is shown OSXSAVE where XSAVE is, whatever its CR4.", |t| {
        with_cr4(t, false, |_, _| {
            let ecx = ask(1, 0).rcx;
            equal("OSXSAVE", ecx & OSXSAVE != 0, ecx & XSAVE != 0)
        })
    }),
    case("xsave/shown_user", "User mode is shown OSXSAVE if the kernel's CR4 has the bit.", |t| {
        has(XSAVE)?;
        for is_on in [false, true] {
            with_cr4(t, is_on, |s, _| {
                let event = s.user(code::FORCED_CPUID, rax(1))?;
                equal("vector", event.vector, END)?;
                // The frame has it: on the way to the handler the register changes.
                equal("OSXSAVE", event.plain().rcx & OSXSAVE != 0, is_on)
            })?;
        }
        Ok(())
    }),
    case(
        "xsave/hidden",
        "Without XSAVE there is no AVX, leaf d is zero, and CR4 has no bit.",
        |t| {
            if ask(1, 0).rcx & XSAVE != 0 {
                return Err(Verdict::Skip("the processor has XSAVE"));
            }
            equal("AVX", ask(1, 0).rcx & AVX, 0)?;
            for subleaf in 0..3 {
                leaf_is(0xd, subleaf, [0; 4])?;
            }
            with_cr4(t, true, |s, cr4| equal("CR4", s.quiet(code::READ_CR4, rax(0))?.rax, cr4))
        },
    ),
    case(
        "xsave/parts",
        "Leaf d has x87, SSE, and AVX where that is shown, as processors have.",
        |_| {
            has(XSAVE)?;
            let [parts, _, size, high] = words(0xd, 0);
            equal("parts", parts & 7, if ask(1, 0).rcx & AVX == 0 { 3 } else { 7 })?;
            equal("upper parts", high, 0)?;
            equal(
                "as much as the parts take",
                size >= if parts & 4 == 0 { 576 } else { 832 },
                true,
            )?;
            if parts & 4 != 0 {
                leaf_is(0xd, 2, [256, 576, 0, 0])?;
            }
            equal("XSAVES", words(0xd, 1)[0] & 1 << 3, 0)?;
            leaf_is(0xd, 63, [0; 4])
        },
    ),
    case("xsave/size", "Its size in use is that of what XCR0 has, as the guest sets it.", |t| {
        has(AVX)?;
        with_cr4(t, true, |s, _| {
            for (value, size) in [(7, 832), (1, 576), (3, 576)] {
                s.quiet(code::XSETBV, rax(value))?;
                equal_at("size", value, words(0xd, 0)[1], size)?;
            }
            Ok(())
        })
    }),
    case("xsave/at_first", "XGETBV works without CR4's bit, and finds x87 and SSE.", |t| {
        has(XSAVE)?;
        with_cr4(t, false, |s, _| equal("XCR0", xcr0(s)?, 3))
    }),
    case("xsave/set", "XCR0 takes x87, SSE with it, AVX with both, and nothing else.", |t| {
        has(AVX)?;
        with_cr4(t, true, |s, _| {
            for value in GOOD {
                s.quiet(code::XSETBV, rax(value | 0xffff << 32))?;
                equal_at("XCR0", value, xcr0(s)?, value)?;
            }
            for value in BAD {
                let mut registers = rax(value & 0xffff_ffff);
                registers.rdx = value >> 32;
                let event = s.kernel(code::XSETBV, registers)?;
                equal_at("vector for", value, event.vector, 13)?;
                equal_at("error code for", value, event.coded().error, 0)?;
                equal_at("XCR0 behind", value, xcr0(s)?, 3)?;
            }
            Ok(())
        })
    }),
    case("xsave/set_other", "There is no other such register, and user mode sets none.", |t| {
        has(XSAVE)?;
        with_cr4(t, true, |s, _| {
            let mut registers = rax(3);
            registers.rcx = 7;
            equal("vector", s.kernel(code::XSETBV, registers)?.vector, 13)?;
            equal("vector", s.kernel(code::XGETBV, registers)?.vector, 13)?;
            equal("vector of user mode", s.user(code::XSETBV, rax(1))?.vector, 13)?;
            equal("XCR0", xcr0(s)?, 3)
        })
    }),
    case("xsave/off", "XSETBV is undefined without CR4's bit.", |t| {
        has(XSAVE)?;
        with_cr4(t, false, |s, _| {
            let event = s.kernel(code::XSETBV, rax(1))?;
            equal("vector", event.vector, 6)?;
            equal("XCR0", xcr0(s)?, 3)
        })
    }),
    case("xsave/upper", "The upper halves of AVX registers stay a vCPU's own.", |t| {
        let ap = with_avx(t)?;
        side_by_side(ap, first::UPPER_YIELD, 2)
    }),
    case("xsave/upper_off", "They do while XCR0 has them switched off.", |t| {
        let ap = with_avx(t)?;
        side_by_side(ap, first::UPPER_OFF_YIELD, 3)
    }),
    case("xsave/upper_new", "They are zero in a vCPU that never had any.", |t| {
        has(AVX)?;
        let other = Ap::with_context(t, 3, &[])?;
        run(first::AVX_ON, &mut Registers::new());
        run(first::UPPER, &mut seeded(arena_address(), 0));
        other.run(AVX_ON, &Registers::new())?;
        let found = other.run(UPPER, &seeded(ap::page(), 1));
        other.run(AVX_OFF, &Registers::new())?;
        run(first::AVX_OFF, &mut Registers::new());
        found?;
        equal("found", peek(ap::page() + 16) | peek(ap::page() + 40), 0)
    }),
    case("xsave/own", "XCR0 is a vCPU's own.", |t| {
        let ap = with_avx(t)?;
        run(first::AVX_OFF, &mut Registers::new());
        yields(10);
        let (mut registers, mut other) = (Registers::new(), ap.run(XCR0, &Registers::new())?);
        run(first::XCR0, &mut registers);
        equal("first's", registers.rax, 3)?;
        equal("other's", other.rax, 7)?;
        ap.run(AVX_OFF, &Registers::new())?;
        other = ap.run(XCR0, &Registers::new())?;
        equal("other's", other.rax, 3)
    }),
    case("xsave/bases_off", "Without CR4's bit the instructions for bases are undefined.", |t| {
        user_stage(t, |s| {
            for code in [code::RDFSBASE, code::WRGSBASE] {
                equal("vector", s.kernel(code, Registers::new())?.vector, 6)?;
                equal("vector of user mode", s.user(code, Registers::new())?.vector, 6)?;
            }
            Ok(())
        })
    }),
    case("xsave/bases", "With it they work, and the bases stay a vCPU's own.", |t| {
        if ask(7, 0).rbx & 1 == 0 {
            return Err(Verdict::Skip("the processor has no such instructions"));
        }
        let ap = worker(t)?;
        let bases = |place: u64| {
            let mut registers = Registers::new();
            registers.rbx = 200;
            registers.rbp = place << 32;
            registers.high[4] = place << 33;
            registers
        };
        ap.start(BASES_YIELD, &bases(1))?;
        let mut registers = bases(2);
        run(first::BASES_YIELD, &mut registers);
        let other = ap.finish()?;
        for (place, found) in [(1, other), (2, registers)] {
            equal_at("fs of", place, found.high[5], place << 32)?;
            equal_at("gs of", place, found.high[6], place << 33)?;
            equal_at("CR4 of", place, found.high[7] & CR4_FSGSBASE, CR4_FSGSBASE)?;
        }
        Ok(())
    }),
    case(
        "xsave/outside_new",
        "A vCPU that never had it in use has 16 bytes of extended state.",
        |_| {
            with_vcpu(|| {
                equal("room", domctl(GET, FREE, &[0; 4]), 0)?;
                let (kept, room) = (answer(1), answer(2));
                equal("some parts", kept != 0, ask(1, 0).rcx & XSAVE != 0)?;
                equal("some room", room >= 576 + 16, kept != 0)?;
                equal("get", domctl(GET, FREE, &[0, kept, room, buffer()]), 0)?;
                equal("bytes", answer(2), 16)?;
                equal("words", peek(buffer()) | peek(buffer() + 8), 0)?;
                answers(
                    FREE,
                    &[
                        (GET, &[0, kept, 15, buffer()], EINVAL),
                        (GET, &[0, kept ^ 8, 4096, buffer()], EINVAL),
                        (GET, &[0, kept, 16, 0x1000], EFAULT),
                        (GET, &[9, 0, 0, 0], ESRCH),
                        (SET, &[9, 0, 16, buffer()], ESRCH),
                        (SET, &[0, 0, 16, buffer()], 0),
                        (SET, &[0, 0, 15, buffer()], EINVAL),
                        (SET, &[0, 0, 24, buffer()], EINVAL),
                        (SET, &[0, 0, 16, 0x1000], EFAULT),
                        (SET, &[0, 0, room + 1, 0x1000], EINVAL),
                    ],
                )
            })
        },
    ),
    case("xsave/outside", "What is set from outside is what is got.", |_| {
        has(XSAVE)?;
        with_vcpu(|| {
            equal("room", domctl(GET, FREE, &[0; 4]), 0)?;
            let (kept, room) = (answer(1), answer(2));
            describe([1, 3, 2]);
            equal("set", domctl(SET, FREE, &[0, 0, SIZE, buffer()]), 0)?;
            poke(buffer() + 16 + 160, 0);
            equal("get", domctl(GET, FREE, &[0, kept, room, buffer()]), 0)?;
            equal("bytes", answer(2), SIZE)?;
            equal("XCR0", peek(buffer()), 1)?;
            equal("parts", peek(buffer() + 8), 3)?;
            equal("header", peek(buffer() + 16 + 512), 2)?;
            equal("xmm0", peek(buffer() + 16 + 160), PATTERN[0])?;
            equal("too little", domctl(GET, FREE, &[0, kept, SIZE - 1, buffer()]), EINVAL)
        })
    }),
    case("xsave/outside_bad", "State that no processor could load is refused.", |_| {
        has(XSAVE)?;
        with_vcpu(|| {
            let set = |size| domctl(SET, FREE, &[0, 0, size, buffer()]);
            for words in [
                [0, 3, 3],
                [2, 3, 3],
                [3, 1, 1],
                [3, 2, 2],
                [1, 1, 3],
                [3, 3, 1 << 63],
                [1 << 40 | 1, 1 << 40 | 1, 0],
            ] {
                describe(words);
                equal_at("answer for XCR0", words[0], set(SIZE), EINVAL)?;
            }
            for (word, expected) in [(65, EOPNOTSUPP), (66, EIO), (71, EIO)] {
                describe([3, 3, 3]);
                poke(buffer() + 16 + 8 * word, 1 << 63);
                equal_at("answer for word", word, set(SIZE), expected)?;
            }
            describe([0; 3]);
            equal("nothing, at length", set(SIZE), EINVAL)?;
            poke(buffer() + 16 + 8 * 65, 1 << 63);
            equal("nothing, compacted", set(SIZE), EOPNOTSUPP)?;
            describe([3, 3, 3]);
            equal("too short", set(SIZE - 1), EINVAL)?;
            equal("words alone", set(16), EINVAL)?;
            equal("room", domctl(GET, FREE, &[0; 4]), 0)?;
            let [kept, room] = [answer(1), answer(2)];
            equal("get", domctl(GET, FREE, &[0, kept, room, buffer()]), 0)?;
            equal("bytes", answer(2), 16)
        })
    }),
];

/// Sub-ops of `domctl`, and bytes of a state without AVX.
const SET: u64 = 62;
const GET: u64 = 63;
const SIZE: u64 = 16 + 576;
const EIO: i64 = -5;

/// Where a state lies.
fn buffer() -> u64 {
    arena_address() + 1024
}

/// Runs `body` while there is a domain with a vCPU that never ran.
fn with_vcpu(body: impl FnOnce() -> Outcome) -> Outcome {
    with_domain(|| {
        answers(FREE, &[(15, &[1], 0)])?;
        body()
    })
}

/// Puts a state in the buffer: XCR0, the parts ever in use, those in the header.
fn describe([xcr0, ever, parts]: [u64; 3]) {
    (0..SIZE).step_by(8).for_each(|at| poke(buffer() + at, 0));
    let words = [(0, xcr0), (8, ever), (16, 0x37f), (40, 0x1f80), (176, PATTERN[0]), (528, parts)];
    words.into_iter().for_each(|(at, word)| poke(buffer() + at, word));
}

fn rax(value: u64) -> Registers {
    let mut registers = Registers::new();
    registers.rax = value;
    registers
}

fn words(leaf: u64, subleaf: u64) -> [u64; 4] {
    let Registers { rax, rbx, rcx, rdx, .. } = ask(leaf, subleaf);
    [rax, rbx, rcx, rdx]
}

/// Skips where leaf 1 does not show the feature.
fn has(feature: u64) -> Outcome {
    let shown = ask(1, 0).rcx & feature != 0;
    if shown { Ok(()) } else { Err(Verdict::Skip("the processor has no XSAVE, or no AVX")) }
}

fn xcr0(s: &Stage) -> Result<u64, Verdict> {
    let found = s.quiet(code::XGETBV, Registers::new())?;
    Ok(found.rdx << 32 | found.rax)
}

/// Runs `body`, which gets CR4, with CR4.OSXSAVE set or not; XCR0 is as at first behind it.
fn with_cr4(t: &Test<'_>, is_on: bool, body: impl FnOnce(&Stage, u64) -> Outcome) -> Outcome {
    user_stage(t, |s| {
        let cr4 = s.quiet(code::READ_CR4, Registers::new())?.rax & !CR4_OSXSAVE;
        s.quiet(code::WRITE_CR4, rax(if is_on { cr4 | CR4_OSXSAVE } else { cr4 }))?;
        let outcome = body(s, cr4);
        if is_on && has(XSAVE).is_ok() {
            s.quiet(code::XSETBV, rax(3))?;
        }
        s.quiet(code::WRITE_CR4, rax(cr4))?;
        outcome
    })
}

/// A second vCPU, both with AVX on.
fn with_avx(t: &Test<'_>) -> Result<Ap, Verdict> {
    has(AVX)?;
    let ap = worker(t)?;
    ap.run(AVX_ON, &Registers::new())?;
    run(first::AVX_ON, &mut Registers::new());
    Ok(ap)
}

/// Registers with which a snippet loads upper halves from memory, which are `place`'s.
fn seeded(address: u64, place: u64) -> Registers {
    for (at, word) in (0..).zip(PATTERN) {
        poke(address + 8 * at, word.rotate_left(8 * u32::try_from(place).unwrap_or(0)));
    }
    (16..48).step_by(8).for_each(|at| poke(address + at, 0xdead));
    let mut registers = Registers::new();
    (registers.rsi, registers.rbx) = (address, 200);
    registers
}

/// Lets both vCPUs yield to each other, with different upper halves, the first's being `place`'s: those of an
/// earlier case would be no proof.
fn side_by_side(ap: Ap, code: Code, place: u64) -> Outcome {
    ap.start(UPPER_YIELD, &seeded(ap::page(), 1))?;
    run(code, &mut seeded(arena_address(), place));
    let finished = ap.finish();
    run(first::AVX_OFF, &mut Registers::new());
    ap.run(AVX_OFF, &Registers::new())?;
    finished?;
    for (place, address) in [(1, ap::page()), (place, arena_address())] {
        for at in (16..48).step_by(8) {
            let expected = peek(address + at % 16);
            equal_at("upper half of", 100 * place + at, peek(address + at), expected)?;
        }
    }
    Ok(())
}
