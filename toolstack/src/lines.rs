//! Whole lines out of a stream of bytes.

use alloc::string::String;
use alloc::vec::Vec;

/// The longest line; a longer one is cut into several. Unit: bytes.
const LONGEST: usize = 1024;

/// Collects bytes until a line is whole.
#[derive(Debug, Default)]
pub struct Lines(Vec<u8>);

impl Lines {
    /// Takes bytes, and hands on each line that they complete, without its end.
    pub fn feed(&mut self, bytes: &[u8], mut line: impl FnMut(&str)) {
        for &byte in bytes {
            if byte == b'\n' || self.0.len() == LONGEST {
                self.flush(&mut line);
            }
            if !matches!(byte, b'\n' | b'\r') {
                self.0.push(byte);
            }
        }
    }

    /// Hands on what is left, if anything is.
    pub fn end(&mut self, mut line: impl FnMut(&str)) {
        if !self.0.is_empty() {
            self.flush(&mut line);
        }
    }

    /// A domain may say anything: what is no text is shown as such, and control characters, which
    /// a terminal might obey, as dots.
    fn flush(&mut self, line: &mut impl FnMut(&str)) {
        let text: String = String::from_utf8_lossy(&self.0)
            .chars()
            .map(|letter| if letter.is_control() && letter != '\t' { '.' } else { letter })
            .collect();
        self.0.clear();
        line(&text);
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;

    use super::{LONGEST, Lines};

    fn lines(parts: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut seen) = (Lines::default(), Vec::new());
        parts.iter().for_each(|part| lines.feed(part, |line| seen.push(line.to_string())));
        lines.end(|line| seen.push(line.to_string()));
        seen
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        assert_eq!(lines(&[b"one\ntw", b"o\r\n\nthr", b"ee"]), ["one", "two", "", "three"]);
        assert!(lines(&[b"", b""]).is_empty());
    }

    #[test]
    fn what_a_terminal_would_obey_or_nobody_can_read_is_replaced() {
        assert_eq!(lines(&[b"a\x1b[2Jb\tc\xff\n"]), ["a.[2Jb\tc\u{fffd}"]);
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let seen = lines(&[&[b'x'; LONGEST + 1]]);
        assert_eq!(seen.iter().map(String::len).collect::<Vec<_>>(), [LONGEST, 1]);
    }
}
