//! How fast the time stamp counter and the local timer run, measured against a clock that is known.
//!
//! Known are ACPI's timer (3.58 MHz) and, where that is missing, the PC's timer chip (1.19 MHz).
//! About 2 ms of either are enough: both ends of the interval are read several times, and of each
//! the reading that took least time counts, so that the host's scheduling of an emulated machine
//! hardly matters.

use core::arch::x86_64::_rdtsc;

use spin::Once;
use x86_64::instructions::port::Port;

use super::apic;

const ACPI_HZ: u64 = 3_579_545;
/// The timer may have 32 bits; 24 always work.
const ACPI_MASK: u64 = 0xff_ffff;
const CHIP_HZ: u64 = 1_193_182;
const CHIP_MASK: u64 = 0xffff;
const CHIP_COMMAND: u16 = 0x43;
const CHIP_CHANNEL_2: u16 = 0x42;
/// Bit 0 lets channel 2 count, bit 1 connects it to the speaker.
const CHIP_GATE: u16 = 0x61;

const INTERVAL_MICROSECONDS: u64 = 2000;
const READINGS: usize = 8;
/// A clock that has not moved after so many readings does not run.
const PATIENCE: u32 = 1_000_000;

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    /// Time stamp counter, in kHz.
    pub tsc_khz: u64,
    /// Local timer, in kHz, at the divider that [`apic::enable`] sets.
    pub timer_khz: u64,
}

static RATES: Once<Rates> = Once::new();

/// Measures, with the local APIC enabled and interrupts off. `None` when no clock runs.
pub(crate) fn calibrate(acpi_timer: Option<u16>) -> Option<Rates> {
    let clocks = [acpi_timer.map(Clock::Acpi), Some(Clock::Chip)];
    let rates = clocks.into_iter().flatten().find_map(|clock| clock.measure())?;
    Some(*RATES.call_once(|| rates))
}

/// The rates measured; zeros before [`calibrate`].
pub(crate) fn rates() -> Rates {
    RATES.get().copied().unwrap_or(Rates { tsc_khz: 0, timer_khz: 0 })
}

/// The time stamp counter.
pub(crate) fn tsc() -> u64 {
    // SAFETY: reads a counter; the CPU has it (`cpu::missing_feature`).
    unsafe { _rdtsc() }
}

/// Lets the local timer go off once, so many nanoseconds from now or a little earlier.
pub(super) fn set_alarm(delay: u64) {
    let ticks = u128::from(delay) * u128::from(rates().timer_khz) / 1_000_000;
    apic::set_timer(u32::try_from(ticks).unwrap_or(u32::MAX).max(1));
}

/// Waits; only after [`calibrate`].
pub(crate) fn wait_microseconds(time: u64) {
    let ticks = time * rates().tsc_khz / 1000;
    let start = tsc();
    while tsc().wrapping_sub(start) < ticks {
        core::hint::spin_loop();
    }
}

#[derive(Clone, Copy)]
enum Clock {
    Acpi(u16),
    Chip,
}

impl Clock {
    fn measure(self) -> Option<Rates> {
        self.start();
        let (hz, mask) = match self {
            Self::Acpi(_) => (ACPI_HZ, ACPI_MASK),
            Self::Chip => (CHIP_HZ, CHIP_MASK),
        };
        apic::set_timer(u32::MAX);
        let (timer_0, timer_tsc_0) = best(|| u64::from(apic::timer_left()));
        let (clock_0, tsc_0) = best(|| self.now());
        let wanted = hz * INTERVAL_MICROSECONDS / 1_000_000;
        let mut patience = PATIENCE;
        while self.now().wrapping_sub(clock_0) & mask < wanted {
            patience = patience.checked_sub(1)?;
        }
        let (clock_1, tsc_1) = best(|| self.now());
        let (timer_1, timer_tsc_1) = best(|| u64::from(apic::timer_left()));
        apic::set_timer(0);

        let clock = clock_1.wrapping_sub(clock_0) & mask;
        let tsc_khz = (tsc_1 - tsc_0) * hz / (clock * 1000);
        let timer_khz = (timer_0 - timer_1) * tsc_khz / (timer_tsc_1 - timer_tsc_0);
        Some(Rates { tsc_khz, timer_khz })
    }

    fn start(self) {
        if matches!(self, Self::Chip) {
            let gate = read_port(CHIP_GATE);
            write_port(CHIP_GATE, gate & !2 | 1);
            // Channel 2, both bytes, counts down once.
            write_port(CHIP_COMMAND, 0xb0);
            write_port(CHIP_CHANNEL_2, 0xff);
            write_port(CHIP_CHANNEL_2, 0xff);
        }
    }

    /// The clock's count, upwards.
    fn now(self) -> u64 {
        match self {
            // SAFETY: ACPI names this port as its timer; reading changes nothing.
            Self::Acpi(port) => u64::from(unsafe { Port::<u32>::new(port).read() }) & ACPI_MASK,
            Self::Chip => {
                // Holds channel 2's count so that its two bytes belong together.
                write_port(CHIP_COMMAND, 0x80);
                let low = read_port(CHIP_CHANNEL_2);
                let high = read_port(CHIP_CHANNEL_2);
                CHIP_MASK - u64::from(u16::from_le_bytes([low, high]))
            }
        }
    }
}

/// What `read` gave and when, for the quickest of several readings.
fn best(read: impl Fn() -> u64) -> (u64, u64) {
    let readings = core::array::from_fn::<_, READINGS, _>(|_| {
        let before = tsc();
        let value = read();
        let after = tsc();
        (after.wrapping_sub(before), value, before + after.wrapping_sub(before) / 2)
    });
    let quickest = readings.into_iter().min_by_key(|reading| reading.0);
    quickest.map_or((0, 0), |(_, value, at)| (value, at))
}

fn read_port(port: u16) -> u8 {
    // SAFETY: the timer chip's ports; no access to them touches memory.
    unsafe { Port::new(port).read() }
}

fn write_port(port: u16, value: u8) {
    // SAFETY: the timer chip's ports; its channel 2 drives nothing but the speaker.
    unsafe { Port::new(port).write(value) };
}
