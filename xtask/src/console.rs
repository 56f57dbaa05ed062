//! The serial console of one boot, taken apart into the guest's lines and the hypervisor's.
//!
//! Both share the line. The hypervisor's lines begin with its mark (`(XEN) `, `(PV) `), and neither
//! system lets one start in the middle of a guest's line of less than 128 bytes. A guest that
//! prints such a mark at the start of a line is taken for the hypervisor: it only fools itself.

use crate::machine::System;

/// Who wrote a line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Source {
    /// The guest.
    Guest,
    /// The hypervisor.
    Hypervisor,
}

/// One line of the console, without its end; the hypervisor's without its mark.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Line {
    /// Who wrote it.
    pub(crate) source: Source,
    /// What it says.
    pub(crate) text: String,
}

/// Everything a console has said, and what of it a user is to see.
pub(crate) struct Console {
    mark: &'static [u8],
    verbose: bool,
    lines: Vec<Line>,
    /// The line that has not ended yet.
    open: Vec<u8>,
    /// How much of `open` the user has seen.
    shown: usize,
}

impl Console {
    /// The console of a fresh machine. With `verbose` the user sees the hypervisor's lines too.
    pub(crate) fn new(system: System, verbose: bool) -> Self {
        Self {
            mark: system.mark().as_bytes(),
            verbose,
            lines: Vec::new(),
            open: Vec::new(),
            shown: 0,
        }
    }

    /// Takes what the machine wrote and returns what to show: the guest's bytes at once, also of
    /// a line that has not ended, but for a beginning that may yet turn out to be a mark.
    ///
    /// `note` may add something to a whole line, such as what an address in it means.
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        mut note: impl FnMut(&str) -> Option<String>,
    ) -> Vec<u8> {
        let mut show = Vec::new();
        for byte in bytes {
            if *byte != b'\n' {
                self.open.push(*byte);
                continue;
            }
            let visible = self.is_visible();
            if self.open.last() == Some(&b'\r') {
                self.open.pop();
            }
            let rest = self.open.get(self.shown..).unwrap_or_default();
            if visible {
                show.extend_from_slice(rest);
                if let Some(note) = note(&String::from_utf8_lossy(&self.open)) {
                    show.push(b' ');
                    show.extend_from_slice(note.as_bytes());
                }
                show.push(b'\n');
            }
            self.end_line();
        }
        if self.is_visible() && !self.mark.starts_with(&self.open) {
            // A carriage return waits: it may belong to the line's end.
            let held = usize::from(self.open.last() == Some(&b'\r'));
            let until = self.open.len() - held;
            show.extend_from_slice(self.open.get(self.shown..until).unwrap_or_default());
            self.shown = until.max(self.shown);
        }
        show
    }

    /// The machine is gone: takes what is left as a last line.
    pub(crate) fn finish(&mut self) {
        if !self.open.is_empty() {
            self.end_line();
        }
    }

    /// All whole lines so far.
    pub(crate) fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The guest's lines so far, each with a line feed.
    pub(crate) fn transcript(&self) -> String {
        let guest = self.lines.iter().filter(|line| line.source == Source::Guest);
        guest.fold(String::new(), |text, line| text + &line.text + "\n")
    }

    fn is_visible(&self) -> bool {
        self.verbose || !self.open.starts_with(self.mark)
    }

    fn end_line(&mut self) {
        let (source, text) = match self.open.strip_prefix(self.mark) {
            Some(text) => (Source::Hypervisor, text),
            None => (Source::Guest, self.open.as_slice()),
        };
        let text = String::from_utf8_lossy(text).into_owned();
        self.lines.push(Line { source, text });
        self.open.clear();
        self.shown = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(console: &mut Console, text: &str) -> String {
        String::from_utf8(console.feed(text.as_bytes(), |_| None)).expect("text")
    }

    #[test]
    fn the_hypervisors_lines_stay_out_of_the_transcript() {
        let mut console = Console::new(System::Xen, false);
        let text = "(XEN) Freed\r\nhello\r\n(XEN) Hardware Dom0 halted\r\nend";
        assert_eq!(shown(&mut console, text), "hello\nend");
        console.finish();
        assert_eq!(console.transcript(), "hello\nend\n");
        assert_eq!(console.lines()[2].text, "Hardware Dom0 halted");
        assert_eq!(console.lines()[2].source, Source::Hypervisor);
    }

    #[test]
    fn a_prompt_is_shown_before_its_line_ends() {
        let mut console = Console::new(System::Xen, false);
        assert_eq!(shown(&mut console, "(X"), "");
        assert_eq!(shown(&mut console, "Y) > "), "(XY) > ");
        assert_eq!(shown(&mut console, "ls\r"), "ls");
        assert_eq!(shown(&mut console, "\n"), "\n");
    }

    #[test]
    fn notes_follow_the_line_they_explain() {
        let mut console = Console::new(System::Paravane, true);
        let note = |line: &str| line.contains("#0").then(|| "main".to_owned());
        let show = console.feed(b"(PV)   #0 0x1\r\n", note);
        assert_eq!(show, b"(PV)   #0 0x1 main\n");
    }
}
