//! Ports that the hypervisor stands in for, or takes apart: clock, timer chip, configuration space.

use super::trap_ports::{dx, level, ports};
use super::trap_stage::{END, Stage};
use crate::call::hypercall;
use crate::case::{Case, Outcome, Verdict, case, equal, equal_at};
use crate::raw::Code;
use crate::raw::memory::poke;
use crate::raw::pages_calls::update;
use crate::raw::pages_scratch::{FREE_SLOTS, LOADED, duplicate, with};
use crate::raw::trap_emulation as code;
use crate::raw::trap_stage::page;

const PHYSDEV_OP: u64 = 33;
const SET_IOBITMAP: u64 = 7;
const SELECTOR: u64 = 0x70;
const CHANNEL: u64 = 0x42;
const COMMAND: u64 = 0x43;
const GATE: u64 = 0x61;
const PORT: u64 = 0x80;
const SELECT: u64 = 0xcf8;

pub(crate) const CASES: &[Case] = &[
    case("port_device/clock_selector", "Port 70 reads as what was written, all 8 bits.", |t| {
        ports(t, |s| {
            equal("answer", level(1), 0)?;
            for value in [0, 0x7f, 0x80, 0xa5, 0xff, 0] {
                out(s, code::OUT_8, SELECTOR, value)?;
                equal("selector", read(s, code::IN_8, SELECTOR)?, value)?;
            }
            Ok(())
        })
    }),
    case("port_device/clock", "Port 71 is what that selects, its bit 7 aside.", |t| {
        ports(t, |s| {
            equal("answer", level(1), 0)?;
            // The register that says whether the battery is good: read-only, 0x80.
            for selector in [0x0d, 0x8d] {
                out(s, code::OUT_8, SELECTOR, selector)?;
                equal_at("data", selector, read(s, code::IN_8, SELECTOR + 1)?, 0x80)?;
            }
            Ok(())
        })
    }),
    case("port_device/clock_wide", "A wide access to port 70 is one to each.", |t| {
        ports(t, |s| {
            equal("answer", level(1), 0)?;
            out(s, code::OUT_8, SELECTOR, 0x0d)?;
            equal("both", read(s, code::IN_16, SELECTOR)?, 0x800d)?;
            // The seconds of the alarm.
            out(s, code::OUT_16, SELECTOR, 0x3301)?;
            equal("alarm", read(s, code::IN_16, SELECTOR)?, 0x3301)?;
            out(s, code::OUT_16, SELECTOR, 0x0001)
        })
    }),
    case("port_device/acpi_timer", "ACPI's timer, where QEMU has it, is the hypervisor's.", |t| {
        ports(t, |s| {
            equal("answer", level(1), 0)?;
            equal("port 608", read(s, code::IN_32, 0x608)?, 0xffff_ffff)
        })
    }),
    case("port_device/sound_gate", "Of port 61 bits 0 and 1 can be changed.", |t| {
        ports(t, |s| {
            equal("answer", level(1), 0)?;
            for value in [0, 1, 2, 3, 0xff, 0xf0] {
                out(s, code::OUT_8, GATE, value)?;
                let seen = read(s, code::IN_8, GATE)?;
                equal_at("bits 0, 1, 6 and 7", value, seen & 0xc3, value & 3)?;
            }
            Ok(())
        })
    }),
    case("port_device/sound_channel", "Channel 2 of the timer chip can be set and read.", |t| {
        ports(t, |s| {
            equal("answer", level(1), 0)?;
            out(s, code::OUT_8, GATE, 0)?;
            out(s, code::OUT_8, COMMAND, 0xb0)?;
            out(s, code::OUT_8, CHANNEL, 0x34)?;
            out(s, code::OUT_8, CHANNEL, 0x12)?;
            // Reads back its status: both bytes, mode 0.
            out(s, code::OUT_8, COMMAND, 0xe8)?;
            equal("status", read(s, code::IN_8, CHANNEL)? & 0x3f, 0x30)?;
            equal("command register", read(s, code::IN_8, COMMAND)?, 0)
        })
    }),
    case("port_device/other_channels", "Channels 0 and 1 are out of reach.", |t| {
        ports(t, |s| {
            equal("answer", level(1), 0)?;
            for port in [0x40, 0x41] {
                out(s, code::OUT_8, port, 0x55)?;
                equal_at("port", port, read(s, code::IN_8, port)?, 0xff)?;
            }
            equal("both at once", read(s, code::IN_16, 0x40)?, 0xffff)
        })
    }),
    case("port_device/split", "What is out of reach in part is read byte by byte.", |t| {
        ports(t, |s| {
            equal("answer", level(1), 0)?;
            // Port 61 has bit 7 clear, 60 and 62 are others.
            equal("second byte", read(s, code::IN_16, 0x60)? & 0x8000, 0)?;
            equal("upper half", read(s, code::IN_32, 0x1f)? & 0x00ff_ff00, 0x00ff_ff00)
        })
    }),
    case("port_device/select", "Port cf8 reads as what was written in 32 bits.", |t| {
        ports(t, |s| {
            equal("answer", level(1), 0)?;
            for value in [0, 0x8000_0000, 0xffff_ffff, 0x1234_5678] {
                out(s, code::OUT_32, SELECT, value)?;
                equal("select", read(s, code::IN_32, SELECT)?, value)?;
            }
            out(s, code::OUT_32, SELECT, 0)
        })
    }),
    case("port_device/configuration", "Ports cfc to cff are the selected register's bytes.", |t| {
        ports(t, |s| {
            equal("answer", level(1), 0)?;
            out(s, code::OUT_32, SELECT, 0x8000_0000)?;
            let vendor = read(s, code::IN_32, 0xcfc)?;
            for byte in 0..4 {
                let seen = read(s, code::IN_8, 0xcfc + byte)?;
                equal_at("byte", byte, seen, vendor >> (8 * byte) & 0xff)?;
            }
            equal("from cfe", read(s, code::IN_32, 0xcfe)? & 0xffff, vendor >> 16)?;
            out(s, code::OUT_32, SELECT, 0)
        })
    }),
    case("port_device/map_of_kernel", "The map of ports is read with the kernel's tables.", |t| {
        with(t, |[root, third, second, last, map, ..]| {
            (0..512).for_each(|word| map.set(word, u64::MAX));
            // Of all ports only those from 80 to bf are open.
            map.set(2, 0);
            last.set(0, map.entry(LOADED));
            second.set(0, last.entry(0x67));
            third.set(0, second.entry(0x67));
            for table in [last, second, third] {
                table.protect()?;
            }
            let first = duplicate(t, root)?;
            root.pin(4)?;
            let slot = FREE_SLOTS.start;
            let kernels = (first << 12) + 8 * slot;
            equal("the kernel's entry", update(kernels, third.entry(0x67)), 0)?;
            let outcome = ports(t, |s| {
                poke(page(5), slot << 39);
                poke(page(5) + 8, 4096);
                equal("map", hypercall(PHYSDEV_OP, &[SET_IOBITMAP, page(5)]), 0)?;
                equal("user tables", s.user_tables(root.mfn), 0)?;
                let open = s.user(code::OUT_8, dx(PORT))?;
                let closed = s.user(code::OUT_8, dx(PORT + 0x40))?;
                equal("the kernel's tables for both", s.user_tables(first), 0)?;
                equal("vector", open.vector, END)?;
                equal("vector of a closed port", closed.vector, 13)
            });
            equal("the kernel's entry", update(kernels, 0), 0)?;
            root.unpin()?;
            outcome
        })
    }),
];

fn out(s: &Stage, code: Code, port: u64, value: u64) -> Outcome {
    let mut registers = dx(port);
    registers.rax = value;
    s.quiet(code, registers)?;
    Ok(())
}

fn read(s: &Stage, code: Code, port: u64) -> Result<u64, Verdict> {
    Ok(s.quiet(code, dx(port))?.rax)
}
