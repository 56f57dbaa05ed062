//! The CPU's local interrupt controller: identity, end of interrupt, messages to other CPUs, timer.

use spin::Once;
use x86_64::registers::model_specific::Msr;

use super::devices::Registers;
use super::memory::Memory;

/// Vector of the local timer.
pub(crate) const TIMER_VECTOR: u8 = 0xfd;
/// Vector of interrupts that vanished before they were delivered; needs no end of interrupt.
pub(crate) const SPURIOUS_VECTOR: u8 = 0xff;

const IA32_APIC_BASE: u32 = 0x1b;
const BASE_ENABLED: u64 = 1 << 11;
const BASE_X2APIC: u64 = 1 << 10;
const BASE_ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// First register's MSR in x2APIC mode; registers lie 16 bytes apart in memory, one apart here.
const X2APIC_FIRST: u32 = 0x800;

const ID: u32 = 0x20;
const TASK_PRIORITY: u32 = 0x80;
const END_OF_INTERRUPT: u32 = 0xb0;
const SPURIOUS: u32 = 0xf0;
const COMMAND: u32 = 0x300;
const COMMAND_HIGH: u32 = 0x310;
const TIMER: u32 = 0x320;
const THERMAL: u32 = 0x330;
const COUNTER: u32 = 0x340;
const LINE_0: u32 = 0x350;
const LINE_1: u32 = 0x360;
const ERROR: u32 = 0x370;
const TIMER_START: u32 = 0x380;
const TIMER_NOW: u32 = 0x390;
const TIMER_DIVIDE: u32 = 0x3e0;

const ENABLE: u32 = 1 << 8;
const MASKED: u32 = 1 << 16;
const VERSION: u32 = 0x30;
const DIVIDE_BY_1: u32 = 0b1011;
const PENDING: u32 = 1 << 12;
const ASSERT: u32 = 1 << 14;
const DELIVER_NMI: u32 = 0b100 << 8;
const DELIVER_INIT: u32 = 0b101 << 8;
const DELIVER_STARTUP: u32 = 0b110 << 8;

/// How the registers are reached: the same way on all CPUs.
#[derive(Clone, Copy, Debug)]
enum Access {
    Memory(Registers),
    Msr,
}

static ACCESS: Once<Access> = Once::new();

/// Finds out how to reach the controller; to be called once, before anything else here.
///
/// `None` when memory for its mapping is exhausted.
pub(crate) fn find(memory: &mut Memory) -> Option<()> {
    let base = read_msr(IA32_APIC_BASE);
    let access = if base & BASE_X2APIC != 0 {
        Access::Msr
    } else {
        Access::Memory(Registers::map(memory, base & BASE_ADDRESS, 4096)?)
    };
    ACCESS.call_once(|| access);
    Some(())
}

/// Physical address of the registers, unless they are reached in another way.
pub(crate) fn registers() -> Option<u64> {
    let base = read_msr(IA32_APIC_BASE);
    (base & BASE_X2APIC == 0).then_some(base & BASE_ADDRESS)
}

/// Makes this CPU's controller deliver interrupts. All its own sources are masked but the timer.
pub(crate) fn enable() {
    let base = read_msr(IA32_APIC_BASE);
    let x2apic = if matches!(ACCESS.get(), Some(Access::Msr)) { BASE_X2APIC } else { 0 };
    write_msr(IA32_APIC_BASE, base | BASE_ENABLED | x2apic);
    write(TASK_PRIORITY, 0);
    // The last entry the controller has stands in bits 16-23 of the version register.
    let last_entry = read(VERSION) >> 16 & 0xff;
    for (entry, needs) in [(LINE_0, 0), (LINE_1, 0), (ERROR, 3), (COUNTER, 4), (THERMAL, 5)] {
        if last_entry >= needs {
            write(entry, MASKED);
        }
    }
    write(TIMER_DIVIDE, DIVIDE_BY_1);
    write(TIMER_START, 0);
    write(TIMER, u32::from(TIMER_VECTOR));
    write(SPURIOUS, ENABLE | u32::from(SPURIOUS_VECTOR));
    end_of_interrupt();
}

/// This CPU's number.
pub(crate) fn id() -> u32 {
    match ACCESS.get() {
        Some(Access::Msr) => read(ID),
        _ => read(ID) >> 24,
    }
}

/// Tells the controller that the interrupt being handled is done with.
pub(crate) fn end_of_interrupt() {
    write(END_OF_INTERRUPT, 0);
}

/// Sets the timer off in `ticks` of its clock, once; 0 stops it.
pub(crate) fn set_timer(ticks: u32) {
    write(TIMER_START, ticks);
}

/// Ticks until the timer goes off.
pub(crate) fn timer_left() -> u32 {
    read(TIMER_NOW)
}

/// Sends interrupt `vector` to the CPU with local APIC number `apic_id`.
pub(crate) fn send(apic_id: u32, vector: u8) {
    command(apic_id, ASSERT | u32::from(vector));
}

/// Sends an NMI to the CPU with local APIC number `apic_id`.
pub(crate) fn send_nmi(apic_id: u32) {
    command(apic_id, ASSERT | DELIVER_NMI);
}

/// Puts a CPU into the state in which it waits for [`send_startup`].
pub(crate) fn send_init(apic_id: u32) {
    command(apic_id, ASSERT | DELIVER_INIT);
}

/// Starts a CPU that waits, in real mode at physical page number `page` (below 256).
pub(crate) fn send_startup(apic_id: u32, page: u8) {
    command(apic_id, ASSERT | DELIVER_STARTUP | u32::from(page));
}

/// Sends a message and waits until it is under way.
fn command(apic_id: u32, low: u32) {
    match ACCESS.get() {
        Some(Access::Msr) => {
            // One register of 64 bits in this mode, and nothing to wait for.
            write_msr(X2APIC_FIRST + (COMMAND >> 4), u64::from(apic_id) << 32 | u64::from(low));
        }
        _ => {
            write(COMMAND_HIGH, apic_id << 24);
            write(COMMAND, low);
            while read(COMMAND) & PENDING != 0 {
                core::hint::spin_loop();
            }
        }
    }
}

fn read(register: u32) -> u32 {
    match ACCESS.get() {
        Some(Access::Memory(registers)) => registers.read(u64::from(register)),
        Some(Access::Msr) => {
            let value = read_msr(X2APIC_FIRST + (register >> 4));
            // These registers are 32 bits wide; the upper half reads as zero.
            u32::try_from(value).unwrap_or(0)
        }
        None => 0,
    }
}

fn write(register: u32, value: u32) {
    match ACCESS.get() {
        Some(Access::Memory(registers)) => registers.write(u64::from(register), value),
        Some(Access::Msr) => write_msr(X2APIC_FIRST + (register >> 4), u64::from(value)),
        None => {}
    }
}

fn read_msr(number: u32) -> u64 {
    // SAFETY: only IA32_APIC_BASE, which every CPU with an APIC has, and the x2APIC's registers in
    // x2APIC mode; reading them changes nothing.
    unsafe { Msr::new(number).read() }
}

fn write_msr(number: u32, value: u64) {
    // SAFETY: the registers named above; they control interrupts, and vectors they can raise are
    // all in the interrupt table.
    unsafe { Msr::new(number).write(value) };
}
