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
/// ```ignore-none
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
        Self { sink, buffer: [0; PIECE], used: 0 }
    }

    /// Hands on what is left, whether or not it ends a line.
    ///
    /// # Examples
    ///
    /// ```ignore-none
    /// use core::fmt::Write;
    /// let mut seen = Vec::new();
    /// let mut writer = pv_guest_sdk::line::LineWriter::new(|piece: &[u8]| seen.push(piece.to_vec()));
    /// write!(writer, "> ").unwrap();
    /// writer.flush(); // a prompt has no end of line
    /// drop(writer);
    /// assert_eq!(seen, [b"> ".to_vec()]);
    /// ```
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

#[cfg(test)]
mod tests {
    use core::fmt::Write;
    use std::vec::Vec;

    use super::{LineWriter, PIECE};

    /// The pieces that writing `parts`, one after the other, makes.
    fn pieces(parts: &[&str]) -> Vec<Vec<u8>> {
        let mut seen = Vec::new();
        let mut writer = LineWriter::new(|piece: &[u8]| seen.push(piece.to_vec()));
        for part in parts {
            writer.write_str(part).unwrap();
        }
        drop(writer);
        seen
    }

    #[test]
    fn a_line_is_one_piece_however_it_is_written() {
        assert_eq!(pieces(&["a", "b ", "c\n"]), [b"ab c\n"]);
    }

    #[test]
    fn each_line_is_a_piece_and_the_rest_follows() {
        assert_eq!(pieces(&["a\nb\n\nc"]), [&b"a\n"[..], b"b\n", b"\n", b"c"]);
    }

    #[test]
    fn nothing_makes_no_piece() {
        assert!(pieces(&[""]).is_empty());
    }

    #[test]
    fn every_length_around_a_piece_arrives_whole_in_pieces_that_fit() {
        for length in 0..=3 * PIECE {
            let mut text = "x".repeat(length);
            text.push('\n');
            let seen = pieces(&[&text]);
            assert_eq!(seen.concat(), text.as_bytes(), "length {length}");
            assert!(seen.iter().all(|piece| (1..=PIECE).contains(&piece.len())));
            assert_eq!(seen.len(), text.len().div_ceil(PIECE), "length {length}");
        }
    }

    #[test]
    fn the_piece_is_what_the_console_copies_at_once() {
        assert_eq!(PIECE, 127);
    }
}
