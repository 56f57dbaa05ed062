//! The legacy interrupt controllers: masked, out of the way of exceptions, and never used.

use x86_64::instructions::port::Port;

const FIRST_COMMAND: u16 = 0x20;
const FIRST_DATA: u16 = 0x21;
const SECOND_COMMAND: u16 = 0xa0;
const SECOND_DATA: u16 = 0xa1;
/// Where spurious interrupts (they cannot be masked) would arrive: 0x20 and 0x28.
const FIRST_VECTOR: u8 = 0x20;
const SECOND_VECTOR: u8 = 0x28;

/// Masks both controllers, after moving them off the exceptions' vectors.
pub(crate) fn mask() {
    let sequence = [
        (FIRST_DATA, 0xff),
        (SECOND_DATA, 0xff),
        // Initialisation, in four words: begin; vectors; how the two are wired; 8086 mode.
        (FIRST_COMMAND, 0x11),
        (SECOND_COMMAND, 0x11),
        (FIRST_DATA, FIRST_VECTOR),
        (SECOND_DATA, SECOND_VECTOR),
        (FIRST_DATA, 4),
        (SECOND_DATA, 2),
        (FIRST_DATA, 1),
        (SECOND_DATA, 1),
        (FIRST_DATA, 0xff),
        (SECOND_DATA, 0xff),
    ];
    for (port, value) in sequence {
        // SAFETY: programs the interrupt controllers, with interrupts off; touches no memory.
        unsafe { Port::<u8>::new(port).write(value) };
    }
}
