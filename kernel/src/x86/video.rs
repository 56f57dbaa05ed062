//! The text screen that the PC's firmware left, for the initial domain to go on with.

use hypercall_abi::start::{VGA_TEXT_MODE_3, VgaConsoleText};

use super::phys::{self, Fields};

/// The firmware's data area in low memory.
const DATA: u64 = 0x400;
const MODE: usize = 0x49;
const COLUMNS: usize = 0x4a;
/// Cursor of page 0: column, row.
const CURSOR: usize = 0x50;
/// Rows of the screen, minus 1.
const LAST_ROW: usize = 0x84;
const FONT_HEIGHT: usize = 0x85;

/// The screen, if it is in text mode 3 as PCs start in.
pub(super) fn screen() -> Option<VgaConsoleText> {
    let data = phys::left_behind(DATA, 256)?;
    let rows = u16::from(data.u8(LAST_ROW)?) + 1;
    (data.u8(MODE)? == VGA_TEXT_MODE_3).then_some(VgaConsoleText {
        video_type: VGA_TEXT_MODE_3,
        font_height: data.u16(FONT_HEIGHT)?,
        cursor_x: u16::from(data.u8(CURSOR)?),
        cursor_y: u16::from(data.u8(CURSOR + 1)?),
        rows,
        columns: data.u16(COLUMNS)?,
        ..VgaConsoleText::default()
    })
}
