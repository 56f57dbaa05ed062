//! PCI configuration space by ports.

use kernel_core::emulate::width::Width;
use spin::Mutex;

use super::port;

const SELECT: u16 = 0xcf8;
const DATA: u16 = 0xcfc;

/// Selecting and accessing belong together. Nothing waits while it is held.
static TURN: Mutex<()> = Mutex::new(());

/// Reads from a byte, 0 to 3, of the selected register on.
pub(super) fn read(selected: u32, byte: u8, width: Width) -> u32 {
    let _turn = TURN.lock();
    port::write(SELECT, Width::B4, selected);
    port::read(DATA + u16::from(byte & 3), width)
}

/// Writes from a byte, 0 to 3, of the selected register on.
pub(super) fn write(selected: u32, byte: u8, width: Width, value: u32) {
    let _turn = TURN.lock();
    port::write(SELECT, Width::B4, selected);
    port::write(DATA + u16::from(byte & 3), width, value);
}
