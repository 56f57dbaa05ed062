//! Cutting a stream of text into pieces that the hypervisor's console takes whole.
//!
//! The console copies at most 127 bytes at a time, and between two pieces its own messages may
//! come. So text is collected into a piece that ends with a line's end wherever the line fits.

use core::fmt;

/// The longest piece that goes to the console at once. Unit: bytes.
pub const PIECE: usize = 127;

/// Collects text and hands it on in pieces: at each line's end, when [`PIECE`] bytes are full, and
/// at the end of the writer's life.
///
/// ```
/// use core::fmt::Write;
/// let mut seen = Vec::new();
/// let mut writer = pv_guest_sdk::line::LineWriter::new(|piece: &[u8]| seen.push(piece.to_vec()));
/// write!(writer, "one {}\ntwo", 1).unwrap();
/// drop(writer);
/// assert_eq!(seen, [b"one 1\n".to_vec(), b"two".to_vec()]);
/// ```
pub struct LineWriter<S: FnMut(&[u8])> {
    sink: S,
    buffer: [u8; PIECE],
    used: usize,
}

impl<S: FnMut(&[u8])> LineWriter<S> {
    /// A writer that hands its pieces to `sink`. No piece is empty.
    pub const fn new(sink: S) -> Self {
        Self {
            sink,
            buffer: [0; PIECE],
            used: 0,
        }
    }

    /// Hands on what is left, whether or not it ends a line.
    pub fn flush(&mut self) {
        let used = core::mem::take(&mut self.used);
        if let Some(piece) = self.buffer.get(..used)
            && !piece.is_empty()
        {
            (self.sink)(piece);
        }
    }

    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.buffer.get_mut(self.used) {
            *slot = byte;
            self.used += 1;
        }
        if byte == b'\n' || self.used == PIECE {
            self.flush();
        }
    }
}

impl<S: FnMut(&[u8])> fmt::Write for LineWriter<S> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.push(byte));
        Ok(())
    }
}

impl<S: FnMut(&[u8])> Drop for LineWriter<S> {
    fn drop(&mut self) {
        self.flush();
    }
}
