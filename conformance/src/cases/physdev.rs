//! `physdev_op`: numbers for interrupts, lines, and PCI devices.

use super::event_calls::{EEXIST, ESRCH, SELF, word};
use crate::call::{EFAULT, EINVAL, ENODEV, ENOSYS, EPERM, hypercall};
use crate::case::{Case, Outcome, case, equal, equal_at, holds};
use crate::raw::memory::{arena_address, put};
use crate::raw::trap_emulation as code;
use crate::raw::{Code, Registers, run};

const PHYSDEV_OP: u64 = 33;
const PHYSDEV_OP_COMPAT: u64 = 19;
pub(super) const STATUS_QUERY: u64 = 5;
const SET_IOPL: u64 = 6;
const APIC_READ: u64 = 8;
const APIC_WRITE: u64 = 9;
const ALLOC_VECTOR: u64 = 10;
const FREE_VECTOR: u64 = 11;
pub(super) const EOI: u64 = 12;
const MAP: u64 = 13;
pub(super) const UNMAP: u64 = 14;
const RESTORE: u64 = 19;
const SETUP_GSI: u64 = 21;
const FREE_PIRQ: u64 = 23;
const MMCFG: u64 = 24;
pub(super) const ADD: u64 = 25;
pub(super) const REMOVE: u64 = 26;
const RESTORE_EXT: u64 = 27;
const DBGP: u64 = 29;
const PREPARE: u64 = 30;
const RELEASE: u64 = 31;

const MSI: u32 = 0;
const LINE: u32 = 1;
const MULTI: u32 = 4;
const EDOM: i64 = -33;
const EOPNOTSUPP: i64 = -95;

/// Calls that read an argument.
const WITH_ARGUMENT: [u64; 22] =
    [5, 6, 7, 8, 9, 10, 12, 13, 14, 15, 16, 17, 19, 20, 21, 23, 25, 26, 27, 28, 30, 31];

/// Makes a call with its argument, given as words; the answer.
pub(super) fn physdev(command: u64, words: &[u32]) -> i64 {
    put(0, &[0x5a; 64]);
    for (index, word) in words.iter().enumerate() {
        put(index * 4, &word.to_le_bytes());
    }
    hypercall(PHYSDEV_OP, &[command, arena_address()])
}

/// Asks for a number, any if it is negative, for a line.
pub(super) fn map_line(line: u32, pirq: i32) -> i64 {
    physdev(MAP, &[SELF, LINE, line, pirq.cast_unsigned(), 0, 0, 0, 0, 0, 0])
}

/// Asks for any number for a message of a device; the answer and the number.
pub(super) fn map_message(kind: u32, device: u32, entries: u32) -> (i64, u32) {
    let none = u32::MAX;
    (physdev(MAP, &[SELF, kind, none, none, 0, device, entries, 0, 0, 0]), word(3))
}

/// Uses a port: the value read, or written.
pub(super) fn port(code: Code, port: u64, value: u64) -> u64 {
    let mut registers = Registers::new();
    (registers.rdx, registers.rax) = (port, value);
    run(code, &mut registers);
    registers.rax
}

/// Selects a register of a device, and reads it.
pub(super) fn config(device: u32, register: u32) -> u64 {
    let select = 0x8000_0000 | device << 8 | register;
    port(code::OUT_32, 0xcf8, select.into());
    port(code::IN_32, 0xcfc, 0) & 0xffff_ffff
}

/// Lets the kernel use ports meanwhile, and finds the device that raises interrupts on demand.
pub(super) fn with_device(does: impl FnOnce(u32) -> Outcome) -> Outcome {
    equal("set_iopl", physdev(SET_IOPL, &[1]), 0)?;
    let found = (0..32).map(|slot| slot << 3).find(|slot| config(*slot, 0) == 0x11e8_1234);
    let outcome = match found {
        Some(device) => does(device),
        None => equal("the device", "is not there", "is there"),
    };
    equal("set_iopl", physdev(SET_IOPL, &[0]), 0)?;
    outcome
}

pub(crate) const CASES: &[Case] = &[
    case("physdev/pointer", "An argument that can't be read answers -EFAULT.", |_| {
        for command in WITH_ARGUMENT {
            equal_at("command", command, hypercall(PHYSDEV_OP, &[command, 0]), EFAULT)?;
        }
        equal("old call", hypercall(PHYSDEV_OP_COMPAT, &[0]), EFAULT)
    }),
    case("physdev/unknown", "Commands that are none answer -ENOSYS.", |_| {
        for command in [0, 1, 2, 3, FREE_VECTOR, 18, 22, 32, 33, 1000] {
            equal_at("command", command, physdev(command, &[]), ENOSYS)?;
        }
        Ok(())
    }),
    case("physdev/status", "Every number's status says that its end is to be reported.", |_| {
        for pirq in [0, 1, 16, 100] {
            equal_at("pirq", pirq.into(), physdev(STATUS_QUERY, &[pirq]), 0)?;
            equal("flags", word(1), 1)?;
        }
        for pirq in [0x1_0000, 0x8000_0000, u32::MAX] {
            equal_at("pirq", pirq.into(), physdev(STATUS_QUERY, &[pirq]), EINVAL)?;
        }
        Ok(())
    }),
    case("physdev/old", "The older call has the command in front of the argument.", |_| {
        put(0, &[0x5a; 64]);
        put(0, &5_u32.to_le_bytes());
        put(8, &9_u32.to_le_bytes());
        equal("answer", hypercall(PHYSDEV_OP_COMPAT, &[arena_address()]), 0)?;
        equal("flags", word(3), 1)
    }),
    case("physdev/eoi_unmapped", "The end of an interrupt that is not there: -EINVAL.", |_| {
        for pirq in [0, 40, 100, 0x1_0000, u32::MAX] {
            equal_at("pirq", pirq.into(), physdev(EOI, &[pirq]), EINVAL)?;
        }
        Ok(())
    }),
    case("physdev/line_range", "Lines there are not answer -EINVAL, the timer's -EPERM.", |_| {
        for line in [24, 100, 0x8000_0000, u32::MAX] {
            equal_at("line", line.into(), map_line(line, -1), EINVAL)?;
        }
        equal("timer", map_line(0, -1), EPERM)
    }),
    case("physdev/line", "A line has one number, the one asked for.", |_| {
        equal("map", map_line(18, 18), 0)?;
        equal("again", map_line(18, 18), 0)?;
        equal("any", map_line(18, -1), 0)?;
        equal("number", word(3), 18)?;
        equal("another", map_line(18, 19), EEXIST)?;
        equal("eoi", physdev(EOI, &[18]), 0)
    }),
    case("physdev/line_number", "No number is so high: -EINVAL.", |_| {
        equal("map", map_line(19, 0x1_0000), EINVAL)
    }),
    case("physdev/unmap", "Who gives a line back loses the right to it.", |_| {
        equal("map", map_line(20, 20), 0)?;
        equal("unmap", physdev(UNMAP, &[SELF, 20]), 0)?;
        equal("again", physdev(UNMAP, &[SELF, 20]), EINVAL)?;
        equal("eoi", physdev(EOI, &[20]), EINVAL)?;
        equal("map", map_line(20, 20), EPERM)
    }),
    case("physdev/nobody", "A domain that is not there answers -ESRCH.", |_| {
        equal("map", physdev(MAP, &[77, LINE, 19, 19, 0, 0, 0, 0, 0, 0]), ESRCH)?;
        equal("unmap", physdev(UNMAP, &[77, 19]), ESRCH)
    }),
    case("physdev/kinds", "Kinds of interrupts that are none answer -EINVAL.", |_| {
        for kind in [2, 5, u32::MAX] {
            equal_at("kind", kind.into(), map_message(kind, 0, 0).0, EINVAL)?;
        }
        Ok(())
    }),
    case("physdev/free", "Free numbers: low ones for lines, from the top for messages.", |_| {
        equal("for a message", physdev(FREE_PIRQ, &[MSI]), 0)?;
        let first = word(1);
        equal("for another", physdev(FREE_PIRQ, &[MSI]), 0)?;
        equal("number", word(1), first - 1)?;
        equal("for a line", physdev(FREE_PIRQ, &[LINE]), 0)?;
        holds("number", word(1), "a line's", (16..24).contains(&word(1)))
    }),
    case("physdev/setup", "A line is set up once; the timer's never is.", |_| {
        equal("timer", physdev(SETUP_GSI, &[0, 0]), EEXIST)?;
        equal("line 22", physdev(SETUP_GSI, &[22, 0x101]), 0)?;
        equal("again", physdev(SETUP_GSI, &[22, 0x101]), EEXIST)?;
        equal("line 24", physdev(SETUP_GSI, &[24, 0x101]), EINVAL)
    }),
    case("physdev/apic", "Registers of the I/O APIC can be read, and of no other address.", |_| {
        equal("read", physdev(APIC_READ, &[0xfec0_0000, 0, 1, 0]), 0)?;
        equal("inputs", word(3) >> 16 & 0xff, 23)?;
        for command in [APIC_READ, APIC_WRITE] {
            let answer = physdev(command, &[0xfec0_1000, 0, 0x20, 0]);
            equal_at("command", command, answer, EINVAL)?;
        }
        // Neither its own registers nor an input's upper half are written.
        equal("write", physdev(APIC_WRITE, &[0xfec0_0000, 0, 0x21, u32::MAX]), 0)
    }),
    case("physdev/vector", "A vector means nothing: it is the interrupt's number.", |_| {
        equal("answer", physdev(ALLOC_VECTOR, &[5000, 0]), 0)?;
        equal("vector", word(1), 5000)
    }),
    case("physdev/devices", "Devices are added any number of times, and removed once.", |_| {
        let device = 0xf8 << 24;
        equal("remove", physdev(REMOVE, &[device]), ENODEV)?;
        equal("add", physdev(ADD, &[device, 0, 0]), 0)?;
        equal("again", physdev(ADD, &[device, 0, 0]), 0)?;
        equal("restore", physdev(RESTORE_EXT, &[device]), 0)?;
        equal("message of a device that sends none", map_message(MSI, 0xf8, 0).0, ENODEV)?;
        equal("remove", physdev(REMOVE, &[device]), 0)?;
        equal("again", physdev(REMOVE, &[device]), ENODEV)
    }),
    case("physdev/unknown_device", "What needs a device that was not added: -ENODEV.", |_| {
        equal("restore", physdev(RESTORE, &[0xf800]), ENODEV)?;
        for command in [RESTORE_EXT, PREPARE, RELEASE] {
            equal_at("command", command, physdev(command, &[0xf800_0000]), ENODEV)?;
        }
        equal("message", map_message(MSI, 0xf8, 0).0, ENODEV)
    }),
    case("physdev/several", "Several messages of a device: one at most, and no table.", |_| {
        for entries in [0, 33, u32::MAX] {
            equal_at("entries", entries.into(), map_message(MULTI, 0xf8, entries).0, EDOM)?;
        }
        equal("two", map_message(MULTI, 0xf8, 2).0, EOPNOTSUPP)?;
        equal("one", map_message(MULTI, 0xf8, 1).0, ENODEV)?;
        let none = u32::MAX;
        let words = [SELF, MULTI, none, none, 0, 0xf8, 1, 0, 0x1000, 0];
        equal("with a table", physdev(MAP, &words), EINVAL)
    }),
    case("physdev/platform", "The machine has no configuration space in memory.", |_| {
        equal("answer", physdev(MMCFG, &[0xe000_0000, 0, 0, 0]), ENODEV)?;
        equal("with a bit set", physdev(MMCFG, &[0xe000_0000, 0, 0, 1]), ENODEV)?;
        equal("with another", physdev(MMCFG, &[0xe000_0000, 0, 0, 2]), EINVAL)?;
        equal("debug port", physdev(DBGP, &[0, 0, 0]), 0)
    }),
    case("physdev/platform_pointer", "Its places can't be read: EFAULT.", |_| {
        for command in [MMCFG, DBGP] {
            for at in [0, 0x1000] {
                equal_at("answer for", command, hypercall(PHYSDEV_OP, &[command, at]), EFAULT)?;
            }
        }
        Ok(())
    }),
    case("physdev/config", "The port that selects reads back; the device has an identity.", |_| {
        with_device(|device| {
            equal("identity", config(device, 0), 0x11e8_1234)?;
            let selected = port(code::IN_32, 0xcf8, 0) & 0xffff_ffff;
            equal("selected", selected, u64::from(0x8000_0000 | device << 8))?;
            equal("half", port(code::IN_16, 0xcfe, 0) & 0xffff, 0x11e8)
        })
    }),
];
