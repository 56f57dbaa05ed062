//! A line that is typed at a terminal: moved in, corrected, completed, recalled.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// The longest line. Unit: letters.
const LONGEST: usize = 1024;
/// Lines that can be recalled.
const HISTORY: usize = 64;

/// What a byte has led to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Typed {
    /// Nothing yet.
    Nothing,
    /// A line was entered.
    Line(String),
}

/// Where in an escape sequence the terminal is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Escape {
    #[default]
    No,
    Begun,
    /// Behind `[`, with the number so far.
    Sequence(u32),
    /// Behind `O`.
    Function,
}

/// The line, and what was entered before.
#[derive(Debug)]
pub struct Editor {
    prompt: &'static str,
    line: Vec<char>,
    cursor: usize,
    history: Vec<String>,
    /// Which of the history is shown, counted from its end; 0: none.
    recalled: usize,
    /// What was typed before anything was recalled.
    draft: Vec<char>,
    escape: Escape,
    /// The last byte was a carriage return: a line feed behind it is none of its own.
    is_return: bool,
    /// A letter of several bytes that is not whole.
    partial: Vec<u8>,
}

impl Editor {
    /// An empty line behind a prompt.
    #[must_use]
    pub const fn new(prompt: &'static str) -> Self {
        Self {
            prompt,
            line: Vec::new(),
            cursor: 0,
            history: Vec::new(),
            recalled: 0,
            draft: Vec::new(),
            escape: Escape::No,
            is_return: false,
            partial: Vec::new(),
        }
    }

    /// What shows the prompt and the line anew, in the place of a terminal's line.
    #[must_use]
    pub fn shown(&self) -> String {
        let line: String = self.line.iter().collect();
        let mut text = format!("\r{}{line}\x1b[K", self.prompt);
        if self.cursor < self.line.len() {
            text += &format!("\x1b[{}D", self.line.len() - self.cursor);
        }
        text
    }

    /// Takes a byte. What the terminal is to show goes to `echo`; `complete` says what the line up
    /// to the cursor can go on with.
    pub fn feed(
        &mut self,
        byte: u8,
        complete: impl FnOnce(&str) -> Vec<String>,
        echo: &mut String,
    ) -> Typed {
        let after_return = core::mem::replace(&mut self.is_return, byte == b'\r');
        if self.escape != Escape::No {
            self.escaped(byte);
            *echo += &self.shown();
            return Typed::Nothing;
        }
        match byte {
            b'\n' if after_return => return Typed::Nothing,
            b'\r' | b'\n' => return self.enter(echo),
            b'\t' => self.complete(complete, echo),
            0x1b => self.escape = Escape::Begun,
            0x01 => self.cursor = 0,
            0x05 => self.cursor = self.line.len(),
            0x02 => self.cursor = self.cursor.saturating_sub(1),
            0x06 => self.right(),
            0x08 | 0x7f => self.erase(self.cursor.saturating_sub(1)),
            0x04 => self.delete(),
            0x0b => self.line.truncate(self.cursor),
            0x15 => self.erase(0),
            0x17 => self.erase(self.word_start()),
            0x10 => self.recall(true),
            0x0e => self.recall(false),
            0x0c => echo.push_str("\x1b[H\x1b[2J"),
            0x03 => {
                *echo += "^C\n";
                self.set(Vec::new());
            }
            0x20..=0x7e | 0x80.. => {
                let is_at_end = self.cursor == self.line.len();
                let before = self.cursor;
                self.type_byte(byte);
                if is_at_end {
                    // Nothing else changes.
                    echo.extend(self.line.iter().skip(before));
                    return Typed::Nothing;
                }
            }
            _ => return Typed::Nothing,
        }
        *echo += &self.shown();
        Typed::Nothing
    }

    fn type_byte(&mut self, byte: u8) {
        self.partial.push(byte);
        match core::str::from_utf8(&self.partial) {
            Ok(text) => {
                for letter in text.chars().filter(|it| !it.is_control()) {
                    if self.line.len() < LONGEST {
                        self.line.insert(self.cursor, letter);
                        self.cursor += 1;
                    }
                }
                self.partial.clear();
            }
            Err(error) if error.error_len().is_none() => {}
            Err(_) => self.partial.clear(),
        }
    }

    fn enter(&mut self, echo: &mut String) -> Typed {
        let line: String = self.line.iter().collect();
        *echo += "\n";
        if !line.trim().is_empty() && self.history.last() != Some(&line) {
            if self.history.len() == HISTORY {
                self.history.remove(0);
            }
            self.history.push(line.clone());
        }
        self.set(Vec::new());
        self.recalled = 0;
        Typed::Line(line)
    }

    fn set(&mut self, line: Vec<char>) {
        self.cursor = line.len();
        self.line = line;
    }

    fn right(&mut self) {
        self.cursor = self.line.len().min(self.cursor + 1);
    }

    /// Removes what is from there to the cursor.
    fn erase(&mut self, from: usize) {
        self.line.drain(from..self.cursor);
        self.cursor = from;
    }

    fn delete(&mut self) {
        if self.cursor < self.line.len() {
            self.line.remove(self.cursor);
        }
    }

    /// Where the word before the cursor begins.
    fn word_start(&self) -> usize {
        let before = self.line.get(..self.cursor).unwrap_or_default();
        let end = before.iter().rposition(|letter| *letter != ' ').map_or(0, |at| at + 1);
        let word = before.get(..end).unwrap_or_default();
        word.iter().rposition(|letter| *letter == ' ').map_or(0, |at| at + 1)
    }

    fn recall(&mut self, older: bool) {
        let wanted = if older { self.recalled + 1 } else { self.recalled.saturating_sub(1) };
        if wanted == self.recalled || wanted > self.history.len() {
            return;
        }
        if self.recalled == 0 {
            self.draft = core::mem::take(&mut self.line);
        }
        self.recalled = wanted;
        let line = match wanted {
            0 => core::mem::take(&mut self.draft),
            _ => {
                let line = self.history.get(self.history.len() - wanted);
                line.map(|line| line.chars().collect()).unwrap_or_default()
            }
        };
        self.set(line);
    }

    fn escaped(&mut self, byte: u8) {
        let number = match self.escape {
            Escape::Begun => {
                self.escape = match byte {
                    b'[' => Escape::Sequence(0),
                    b'O' => Escape::Function,
                    _ => Escape::No,
                };
                return;
            }
            Escape::Sequence(number) if byte.is_ascii_digit() => {
                let number = number.saturating_mul(10).saturating_add(u32::from(byte - b'0'));
                self.escape = Escape::Sequence(number);
                return;
            }
            // Other parameters are skipped.
            Escape::Sequence(_) if !(0x40..=0x7e).contains(&byte) => return,
            Escape::Sequence(number) => number,
            _ => 0,
        };
        self.escape = Escape::No;
        match (byte, number) {
            (b'A', _) => self.recall(true),
            (b'B', _) => self.recall(false),
            (b'C', _) => self.right(),
            (b'D', _) => self.cursor = self.cursor.saturating_sub(1),
            (b'H', _) | (b'~', 1 | 7) => self.cursor = 0,
            (b'F', _) | (b'~', 4 | 8) => self.cursor = self.line.len(),
            (b'~', 3) => self.delete(),
            _ => {}
        }
    }

    /// One candidate is taken, of several what they have in common; if that is nothing more, they are
    /// listed.
    fn complete(&mut self, complete: impl FnOnce(&str) -> Vec<String>, echo: &mut String) {
        let before: String = self.line.iter().take(self.cursor).collect();
        let found = complete(&before);
        let Some(first) = found.first() else { return };
        let start =
            self.line.iter().take(self.cursor).rposition(|it| *it == ' ').map_or(0, |it| it + 1);
        let have = self.cursor - start;
        let mut common = found.iter().fold(first.chars().count(), |most, other| {
            most.min(first.chars().zip(other.chars()).take_while(|(a, b)| a == b).count())
        });
        let mut rest: String = first.chars().take(common).skip(have).collect();
        // Behind a folder more may come.
        if found.len() == 1 && !first.ends_with('/') {
            rest.push(' ');
            common += 1;
        }
        if common <= have {
            *echo += &format!("\n{}\n", found.join("  "));
        }
        for letter in rest.chars().filter(|_| self.line.len() < LONGEST).collect::<Vec<_>>() {
            self.line.insert(self.cursor, letter);
            self.cursor += 1;
        }
    }

    /// What is typed so far.
    #[must_use]
    pub fn line(&self) -> String {
        self.line.iter().collect::<String>().to_string()
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;

    use super::{Editor, LONGEST, Typed};

    fn nothing(_: &str) -> Vec<String> {
        Vec::new()
    }

    /// Types bytes; the lines that were entered.
    fn typed(editor: &mut Editor, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for &byte in bytes {
            if let Typed::Line(line) = editor.feed(byte, nothing, &mut String::new()) {
                lines.push(line);
            }
        }
        lines
    }

    fn one(bytes: &[u8]) -> String {
        typed(&mut Editor::new("> "), bytes).remove(0)
    }

    #[test]
    fn a_line_can_be_corrected() {
        for (bytes, line) in [
            (&b"list\r"[..], "list"),
            (b"lisst\x1b[D\x7f\n", "list"),
            (b"st\x01li\n", "list"),
            (b"ist\x1b[Hl\x05 x\x7f\x7f\n", "list"),
            (b"xlist\x1b[1~\x1b[3~\n", "list"),
            (b"list web\x17\x17pause\n", "pause"),
            (b"list web\x1b[D\x1b[D\x1b[D\x0b\n", "list "),
            (b"list web\x15x\n", "x"),
            (b"a\x1b[1;5Cb\x1bOFc\x00\x1b\x1b\n", "abc"),
            ("gr\u{fc}\u{1f600}n\x1b[D\x1b[D\x7f\u{fc}\n".as_bytes(), "gr\u{fc}\u{1f600}n"),
            (b"a\xff\xfeb\n", "ab"),
            (b"gone\x03new\n", "new"),
        ] {
            assert_eq!(one(bytes), line, "{bytes:?}");
        }
    }

    #[test]
    fn a_return_with_a_line_feed_is_one() {
        assert_eq!(typed(&mut Editor::new(""), b"a\r\nb\n\nc\r\r"), ["a", "b", "", "c", ""]);
    }

    #[test]
    fn lines_are_recalled_and_a_draft_is_kept() {
        let mut editor = Editor::new("");
        typed(&mut editor, b"one\none\ntwo\nthr\x1b[A");
        assert_eq!(editor.line(), "two");
        typed(&mut editor, b"\x1b[A\x1b[A\x1b[A");
        assert_eq!(editor.line(), "one", "it is there once");
        typed(&mut editor, b"\x1b[B\x1b[B\x1b[B");
        assert_eq!(editor.line(), "thr");
        assert_eq!(typed(&mut editor, b"\x10\n"), ["two"]);
    }

    #[test]
    fn what_begins_alike_is_completed() {
        let names = |line: &str| -> Vec<String> {
            let last = line.rsplit(' ').next().unwrap().to_string();
            let all = ["pause", "poweroff", "web-1", "web-2"].map(|it| it.to_string());
            all.into_iter().filter(|it| it.starts_with(&last)).collect()
        };
        let mut editor = Editor::new("");
        let mut feed = |bytes: &[u8]| {
            let mut echo = String::new();
            bytes.iter().for_each(|&byte| drop(editor.feed(byte, names, &mut echo)));
            (editor.line(), echo)
        };
        assert_eq!(feed(b"pa\t").0, "pause ");
        assert_eq!(feed(b"w\t").0, "pause web-");
        let (line, echo) = feed(b"\t");
        assert!(line == "pause web-" && echo.contains("\nweb-1  web-2\n"), "{echo:?}");
        assert_eq!(feed(b"1\tx\t").0, "pause web-1 x");
    }

    #[test]
    fn a_line_is_bounded_and_is_shown_where_it_is() {
        let mut editor = Editor::new("> ");
        typed(&mut editor, &[b'x'; LONGEST + 9]);
        assert_eq!(editor.line().len(), LONGEST);
        typed(&mut editor, b"\x15ab\x1b[D");
        assert_eq!(editor.shown(), "\r> ab\x1b[K\x1b[1D");
    }
}
