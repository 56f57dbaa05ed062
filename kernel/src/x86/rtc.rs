//! The PC's battery-backed clock: what time it is when the kernel starts.

use kernel_core::clock::unix_seconds;
use x86_64::instructions::port::Port;

const INDEX: u16 = 0x70;
const DATA: u16 = 0x71;
const SECONDS: u8 = 0x00;
const MINUTES: u8 = 0x02;
const HOURS: u8 = 0x04;
const DAY: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
/// Status A: bit 7 is set while the clock moves on.
const STATUS_A: u8 = 0x0a;
const UPDATING: u8 = 1 << 7;
/// Status B: bit 1 for 24 hours, bit 2 for binary numbers.
const STATUS_B: u8 = 0x0b;
const HOURS_24: u8 = 1 << 1;
const BINARY: u8 = 1 << 2;
/// In 12-hour form: afternoon.
const AFTERNOON: u8 = 1 << 7;
/// Readings until two agree; a clock that never does so is broken or absent.
const TRIES: u32 = 1000;

/// Seconds since 1970; 0 if the clock makes no sense.
pub(crate) fn now() -> u64 {
    let mut last = read();
    for _ in 0..TRIES {
        let again = read();
        if register(STATUS_A) & UPDATING == 0 && again == last {
            return convert(again, register(STATUS_B));
        }
        last = again;
    }
    0
}

/// Year, month, day, hours, minutes, seconds as the clock has them.
fn read() -> [u8; 6] {
    [YEAR, MONTH, DAY, HOURS, MINUTES, SECONDS].map(register)
}

fn convert(fields: [u8; 6], status: u8) -> u64 {
    let number = |field: u8| {
        let field = if status & BINARY == 0 { (field >> 4) * 10 + (field & 15) } else { field };
        u64::from(field)
    };
    let [year, month, day, hours, minutes, seconds] = fields;
    let hours = match (status & HOURS_24 != 0, hours & AFTERNOON != 0) {
        (true, _) => number(hours),
        (false, afternoon) => number(hours & !AFTERNOON) % 12 + if afternoon { 12 } else { 0 },
    };
    let date = [2000 + number(year), number(month), number(day)];
    unix_seconds(date, [hours, number(minutes), number(seconds)])
}

fn register(index: u8) -> u8 {
    // SAFETY: selects a register of the clock; non-maskable interrupts stay enabled.
    unsafe { Port::new(INDEX).write(index) };
    // SAFETY: reads the register; none that is read here has side effects.
    unsafe { Port::new(DATA).read() }
}
