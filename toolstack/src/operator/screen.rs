//! The machine's console, which the operator, this program and all domains share: who has it, and
//! what a line that comes then is to look like.
//!
//! While the operator types, a line goes above the one he edits, which is shown anew behind it. While a domain
//! has the console, lines of this program wait; those of other domains are in their records.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use core::fmt;

/// The most lines that wait.
const WAITING: usize = 256;

/// Who has the console.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
enum Mode {
    /// Nobody: lines follow each other.
    #[default]
    Plain,
    /// The operator, whose line is shown so.
    Prompt(String),
    /// A domain.
    Attached,
}

/// The console. What its methods return is to be printed.
#[derive(Clone, Debug, Default)]
pub struct Screen {
    mode: Mode,
    waiting: VecDeque<String>,
    /// Lines that were too many to wait.
    lost: usize,
}

impl Screen {
    /// A line of this program's.
    pub fn line(&mut self, text: fmt::Arguments<'_>) -> String {
        if self.mode != Mode::Attached {
            return self.shown(text);
        }
        if self.waiting.len() == WAITING {
            self.waiting.pop_front();
            self.lost += 1;
        }
        self.waiting.push_back(format!("{text}"));
        String::new()
    }

    /// A line of a domain's, which is in its record too.
    #[must_use]
    pub fn shown(&self, text: fmt::Arguments<'_>) -> String {
        match &self.mode {
            Mode::Plain => format!("{text}\n"),
            Mode::Prompt(shown) => format!("\r\x1b[K{text}\n{shown}"),
            Mode::Attached => String::new(),
        }
    }

    /// The operator types, and it looks so.
    pub fn prompt(&mut self, shown: String) {
        self.mode = Mode::Prompt(shown);
    }

    /// Nobody has it.
    pub fn plain(&mut self) -> String {
        self.mode = Mode::Plain;
        let mut text = String::new();
        if self.lost > 0 {
            text = format!("[{} lines came before these]\n", core::mem::take(&mut self.lost));
        }
        for line in self.waiting.drain(..) {
            text += &line;
            text.push('\n');
        }
        text
    }

    /// A domain has it for itself.
    pub fn attach(&mut self) {
        self.mode = Mode::Attached;
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;

    use super::{Screen, WAITING};
    use crate::operator::editor::{Editor, Typed};

    /// A terminal as wide as one likes.
    #[derive(Default)]
    struct Terminal {
        rows: Vec<Vec<char>>,
        column: usize,
    }

    impl Terminal {
        fn print(&mut self, text: &str) {
            let mut letters = text.chars();
            while let Some(letter) = letters.next() {
                if self.rows.is_empty() {
                    self.rows.push(Vec::new());
                }
                let row = self.rows.last_mut().unwrap();
                match letter {
                    '\r' => self.column = 0,
                    '\n' => {
                        self.column = 0;
                        self.rows.push(Vec::new());
                    }
                    '\x1b' => {
                        assert_eq!(letters.next(), Some('['));
                        let rest: String = letters.as_str().to_string();
                        let end = rest.find(|it: char| it.is_ascii_alphabetic()).unwrap();
                        match rest.split_at(end) {
                            ("", all) if all.starts_with('K') => row.truncate(self.column),
                            (count, all) if all.starts_with('D') => {
                                self.column -= count.parse::<usize>().unwrap();
                            }
                            other => panic!("{other:?}"),
                        }
                        letters = letters.as_str()[end + 1..].chars();
                    }
                    letter => {
                        if self.column == row.len() {
                            row.push(letter);
                        } else {
                            row[self.column] = letter;
                        }
                        self.column += 1;
                    }
                }
            }
        }

        fn shows(&self) -> Vec<String> {
            self.rows.iter().map(|row| row.iter().collect()).collect()
        }
    }

    /// An operator who types, and the lines he has entered.
    fn type_all(
        (editor, screen, terminal): (&mut Editor, &mut Screen, &mut Terminal),
        keys: &[u8],
    ) -> Vec<String> {
        let mut entered = Vec::new();
        for &key in keys {
            let mut echo = String::new();
            let typed = editor.feed(key, |_| Vec::new(), &mut echo);
            terminal.print(&echo);
            if let Typed::Line(line) = typed {
                entered.push(line);
                terminal.print(&screen.plain());
                terminal.print(&editor.shown());
            }
            screen.prompt(editor.shown());
        }
        entered
    }

    #[test]
    fn a_line_goes_above_what_is_typed() {
        let (mut editor, mut screen, mut terminal) =
            (Editor::new("> "), Screen::default(), Terminal::default());
        terminal.print(&screen.line(format_args!("first")));
        terminal.print(&editor.shown());
        screen.prompt(editor.shown());
        // Longer and shorter than what is typed, at its end, within it, and in an escape sequence.
        assert!(type_all((&mut editor, &mut screen, &mut terminal), b"list wb\x1b[D").is_empty());
        terminal.print(&screen.line(format_args!("a line that is longer than the prompt")));
        type_all((&mut editor, &mut screen, &mut terminal), b"e\x1b");
        terminal.print(&screen.line(format_args!("x")));
        terminal.print(&screen.shown(format_args!("web| y")));
        assert_eq!(
            terminal.shows(),
            ["first", "a line that is longer than the prompt", "x", "web| y", "> list web"]
        );
        assert_eq!(terminal.column, "> list we".len());
        let entered = type_all((&mut editor, &mut screen, &mut terminal), b"[D-\r");
        assert_eq!(entered, ["list w-eb"]);
        terminal.print(&screen.line(format_args!("z")));
        assert_eq!(terminal.shows()[4..], ["> list w-eb", "z", "> "]);
    }

    #[test]
    fn what_comes_while_a_domain_has_the_console_comes_later() {
        let mut screen = Screen::default();
        screen.attach();
        assert_eq!(screen.shown(format_args!("other| said")), "");
        assert_eq!(screen.line(format_args!("vbd 1: bad")), "");
        assert_eq!(screen.line(format_args!("web: crash")), "");
        assert_eq!(screen.plain(), "vbd 1: bad\nweb: crash\n");
        assert_eq!(screen.plain(), "");
        screen.attach();
        for number in 0..WAITING + 2 {
            assert_eq!(screen.line(format_args!("{number}")), "");
        }
        let text = screen.plain();
        let last = format!("\n{}\n", WAITING + 1);
        assert!(text.starts_with("[2 lines came before these]\n2\n3\n") && text.ends_with(&last));
    }
}
