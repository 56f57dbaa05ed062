//! Interrupts of devices as events: the battery-backed clock's by its edge, another device's by level
//! and by messages.

use super::block::{BLOCK, block};
use super::event_calls::{
    BIND_PIRQ, BIND_VCPU, CLOSE, EEXIST, SELF, SEND, Words, about, event, ports, status, word,
};
use super::event_delivery::{one, upcalled};
use super::physdev::{
    ADD, EOI, REMOVE, UNMAP, config, map_line, map_message, physdev, port, with_device,
};
use crate::call::{EBUSY, EINVAL, EPERM};
use crate::case::{Case, Outcome, Test, Verdict, case, equal, holds};
use crate::raw::event_upcall::arm;
use crate::raw::pages_calls::update_va;
use crate::raw::pages_scratch::{LOADED, with};
use crate::raw::trap_emulation as code;
use crate::raw::trap_snippets::SYSCALL;
use crate::raw::{Registers, run};

/// The kind of port.
const PIRQ: u32 = 3;
/// The clock's line.
const CLOCK: u32 = 8;
/// The clock's register B: periodic interrupts, 24 hours.
const PERIODIC: u64 = 0x42;
const QUIET: u64 = 0x02;
/// Longer than any interrupt takes. Unit: nanoseconds.
const PATIENCE: u64 = 30_000_000_000;
/// How long to wait for one that must not come. Unit: nanoseconds.
const WHILE: u64 = 20_000_000;
/// The device's registers that raise an interrupt, and take it back.
const RAISE: u64 = 0x60;
const LOWER: u64 = 0x64;

pub(crate) const CASES: &[Case] = &[
    case("pirq/edge", "Each interrupt of the clock raises the port that is bound to it.", |t| {
        clock(t, |words, line| {
            for _ in 0..3 {
                words.clear();
                let _ = cmos(12);
                came(words, line)?;
                equal("eoi", physdev(EOI, &[CLOCK]), 0)?;
            }
            Ok(())
        })
    }),
    case("pirq/status", "The port is of its own kind, and says which interrupt.", |t| {
        clock(t, |_, line| {
            let [kind, vcpu, pirq, _] = status(line)?;
            equal("kind", kind, PIRQ)?;
            equal("vCPU", vcpu, 0)?;
            equal("pirq", pirq, CLOCK)
        })
    }),
    case("pirq/twice", "An interrupt is bound once: -EEXIST.", |t| {
        clock(t, |_, _| equal("bind", event(BIND_PIRQ, &[CLOCK, 1]), EEXIST))
    }),
    case("pirq/send", "The guest can't send by the port: -EINVAL.", |t| {
        clock(t, |_, line| equal("send", about(SEND, line), EINVAL))
    }),
    case("pirq/vcpu", "The port can be bound to another vCPU.", |t| {
        clock(t, |words, line| {
            equal("bind_vcpu", event(BIND_VCPU, &[line, 1]), 0)?;
            equal("vCPU", status(line)?[1], 1)?;
            words.clear();
            let _ = cmos(12);
            came(words, line)?;
            equal("upcall of vCPU 1", words.upcall_of(1), true)
        })
    }),
    case("pirq/wakes", "The interrupt ends block, and its upcall comes.", |t| {
        upcalled(t, |s, words| {
            with_device(|_| {
                equal("map", map_line(CLOCK, 8), 0)?;
                let line = bind(CLOCK)?;
                words.clear();
                set_cmos(11, PERIODIC);
                let _ = cmos(12);
                arm(s.info(), 0, false);
                s.quiet(SYSCALL, block(s, BLOCK, 0))?;
                s.set_mask(1);
                set_cmos(11, QUIET);
                one()?;
                equal("pending", words.pending(line), true)
            })
        })
    }),
    case(
        "pirq/closed",
        "Behind the port's end nothing is raised, and it can be bound anew.",
        |t| {
            clock(t, |words, line| {
                equal("close", about(CLOSE, line), 0)?;
                words.clear();
                let _ = cmos(12);
                stays_quiet(words, line)?;
                let line = bind(CLOCK)?;
                let _ = cmos(12);
                came(words, line)
            })
        },
    ),
    case("pirq/unmapped", "A line given back keeps its port, which raises nothing.", |t| {
        ports(t, |_| {
            equal("map", map_line(21, 21), 0)?;
            equal("bind", event(BIND_PIRQ, &[21, 0]), 0)?;
            let line = word(2);
            equal("unmap", physdev(UNMAP, &[SELF, 21]), 0)?;
            equal("pirq", status(line)?[2], 21)?;
            equal("bind", event(BIND_PIRQ, &[21, 0]), EPERM)?;
            equal("map to it", map_line(21, 21), EEXIST)?;
            equal("map to any", map_line(21, -1), EBUSY)?;
            equal("close", about(CLOSE, line), 0)?;
            equal("map", map_line(21, 21), EPERM)
        })
    }),
    case(
        "pirq/level",
        "A level comes again behind its end, until the device takes it back.",
        |t| {
            device(t, |words, device, registers| {
                let [number, ..] = config(device, 0x3c).to_le_bytes();
                let irq = u32::from(number);
                equal("map", map_line(irq, number.into()), 0)?;
                let line = bind(irq)?;
                for _ in 0..3 {
                    words.clear();
                    store(registers + RAISE, 1);
                    came(words, line)?;
                    words.clear();
                    equal("eoi", physdev(EOI, &[irq]), 0)?;
                    came(words, line)?;
                    store(registers + LOWER, 1);
                    equal("eoi", physdev(EOI, &[irq]), 0)?;
                    words.clear();
                    stays_quiet(words, line)?;
                }
                Ok(())
            })
        },
    ),
    case("pirq/message", "A message raises its port once the driver has switched it on.", |t| {
        device(t, |words, device, registers| {
            equal("add", physdev(ADD, &[device << 24, 0, 0]), 0)?;
            let (answer, pirq) = map_message(0, device, 0);
            equal("map", answer, 0)?;
            holds("number", pirq, "no line's", pirq >= 24)?;
            let line = bind(pirq)?;
            equal("enabled at first", config(device, 0x40) >> 16 & 1, 0)?;
            port(code::OUT_16, 0xcfe, 0x81);
            for _ in 0..3 {
                words.clear();
                store(registers + RAISE, 1);
                came(words, line)?;
                store(registers + LOWER, 1);
                equal("eoi", physdev(EOI, &[pirq]), 0)?;
                words.clear();
                stays_quiet(words, line)?;
            }
            equal("close", about(CLOSE, line), 0)?;
            equal("enabled", config(device, 0x40) >> 16 & 1, 1)?;
            equal("unmap", physdev(UNMAP, &[SELF, pirq]), 0)?;
            equal("enabled at last", config(device, 0x40) >> 16 & 1, 0)?;
            equal("bind", event(BIND_PIRQ, &[pirq, 0]), EPERM)?;
            equal("remove", physdev(REMOVE, &[device << 24]), 0)
        })
    }),
];

/// Binds an interrupt that is mapped; the port.
fn bind(pirq: u32) -> Result<u32, Verdict> {
    equal("bind_pirq", event(BIND_PIRQ, &[pirq, 1]), 0)?;
    Ok(word(2))
}

/// Waits until the port is pending.
fn came(words: Words, line: u32) -> Outcome {
    let end = words.now() + PATIENCE;
    while !words.pending(line) && words.now() < end {}
    equal("the interrupt came", words.pending(line), true)
}

fn stays_quiet(words: Words, line: u32) -> Outcome {
    let end = words.now() + WHILE;
    while words.now() < end {}
    equal("an interrupt came", words.pending(line), false)
}

fn cmos(register: u64) -> u64 {
    port(code::OUT_8, 0x70, register);
    port(code::IN_8, 0x71, 0) & 0xff
}

fn set_cmos(register: u64, value: u64) {
    port(code::OUT_8, 0x70, register);
    port(code::OUT_8, 0x71, value);
}

/// Does something with the clock's periodic interrupt, bound to a port.
fn clock(t: &Test<'_>, does: impl FnOnce(Words, u32) -> Outcome) -> Outcome {
    ports(t, |words| {
        with_device(|_| {
            equal("map", map_line(CLOCK, 8), 0)?;
            let line = bind(CLOCK)?;
            set_cmos(11, PERIODIC);
            let outcome = does(words, line);
            set_cmos(11, QUIET);
            let _ = cmos(12);
            outcome
        })
    })
}

/// Does something with the device that raises interrupts on demand, whose registers are mapped, and
/// which may write to memory meanwhile, as messages do.
fn device(t: &Test<'_>, does: impl FnOnce(Words, u32, u64) -> Outcome) -> Outcome {
    ports(t, |words| {
        with(t, |[page, ..]| {
            with_device(|device| {
                let frame = config(device, 0x10) >> 12;
                equal("registers", update_va(page.va, frame << 12 | LOADED, 2), 0)?;
                let was = config(device, 4) & 0xffff;
                port(code::OUT_16, 0xcfc, was | 6);
                let outcome = does(words, device, page.va);
                config(device, 4);
                port(code::OUT_16, 0xcfc, was);
                outcome
            })
        })
    })
}

/// Writes a register of 32 bits.
fn store(address: u64, value: u64) {
    let mut registers = Registers::new();
    (registers.rax, registers.rsi) = (value, address);
    run(code::STORE_32, &mut registers);
}
