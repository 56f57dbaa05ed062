//! The pages: one a hypercall, one a facility, and their lines in the book's contents.

use std::collections::BTreeMap;
use std::fmt::Write;

use hypercall_abi::call::{Caller, Hypercall, Status};

use super::cases::Case;
use super::rows::Row;
use super::text::{About, Texts};
use super::ties::Ties;

/// A page of `docs/src/abi/calls`.
pub(crate) struct Page {
    /// Its file's name.
    pub(crate) file: String,
    /// Its title in the contents.
    pub(crate) title: String,
    /// Its text.
    pub(crate) text: String,
}

/// What pages are made of.
pub(crate) struct Sources<'a> {
    ties: &'a Ties,
    texts: &'a Texts,
    /// The cases about each row and facility.
    proofs: BTreeMap<&'a str, Vec<&'a Case>>,
}

const HEAD: &str = "<!-- Generated from the tables and texts in hypercall-abi and the cases of\n     \
    conformance. Do not edit: change those, then run UPDATE_GOLDEN=1 cargo test -p xtask reference -->\n";

impl<'a> Sources<'a> {
    /// Cases, what they are about, and what is said of rows.
    pub(crate) fn new(cases: &'a [Case], ties: &'a Ties, texts: &'a Texts) -> Self {
        let mut proofs = BTreeMap::<&str, Vec<&Case>>::new();
        for case in cases {
            for row in ties.of(&case.name) {
                proofs.entry(row).or_default().push(case);
            }
        }
        Self { ties, texts, proofs }
    }

    /// All pages, in the order of the contents.
    pub(crate) fn pages(&self) -> Vec<Page> {
        let calls = Hypercall::ALL.iter().map(|&call| self.call(call));
        let facilities =
            self.ties.facilities.iter().map(|(name, about)| self.facility(name, about));
        calls.chain(facilities).collect()
    }

    fn call(&self, call: Hypercall) -> Page {
        let title = format!("{} {}", call.number(), call.name());
        let mut text = format!("# {title}\n\n{HEAD}\n{}\n\n", call.about());
        let row = Row::Call(call);
        let about = self.texts.get(&row.name());
        let here = if call.sub_ops().is_empty() {
            format!("Here: {}.", status(call.status()))
        } else {
            format!("Unknown sub-ops: {}.", status(call.status()))
        };
        let number = format!("Number {0} ({0:#x}) in `rax`.", call.number());
        line(&mut text, &format!("{number} {} {here} {}\n", caller(call.caller()), since(about)));
        self.body(&mut text, row, "##");
        for op in call.sub_ops() {
            let row = Row::Op(call, op);
            line(&mut text, &format!("\n## {} {}\n", op.number, op.name));
            let since =
                self.texts.get(&row.name()).map_or(String::new(), |about| since(Some(about)));
            let here = status(op.status);
            line(&mut text, &format!("{} {} Here: {here}. {since}\n", op.about, caller(op.caller)));
            self.body(&mut text, row, "###");
        }
        Page { file: format!("{:02}-{}.md", call.number(), call.name()), title, text: tidy(&text) }
    }

    fn facility(&self, name: &str, about: &str) -> Page {
        let title = name.replace('_', " ");
        let mut text = format!("# {title}\n\n{HEAD}\n{about}\n");
        self.proofs(&mut text, name);
        Page { file: format!("{name}.md"), title, text: tidy(&text) }
    }

    /// What is said and proved of a row.
    fn body(&self, text: &mut String, row: Row, level: &str) {
        let name = row.name();
        if let Some(about) = self.texts.get(&name) {
            if !about.arguments.is_empty() {
                line(text, "| Argument | |\n|---|---|");
                let rows = about.arguments.iter();
                rows.for_each(|(place, what)| line(text, &format!("| `{place}` | {what} |")));
                line(text, "");
            }
            if !about.answer.is_empty() {
                line(text, &format!("Answers: {}.\n", about.answer));
            }
            if !about.errors.is_empty() {
                line(text, "| Error | Cause |\n|---|---|");
                for (error, cause) in &about.errors {
                    line(text, &format!("| `{error}` | {cause} |"));
                }
                line(text, "");
            }
            if !about.order.is_empty() {
                line(text, &format!("Order of checks: {}", about.order));
            }
        }
        if let Some(why) = self.ties.never.get(&name) {
            line(text, &format!("\n{level} No case\n\n{why}"));
        }
        self.proofs(text, &name);
    }

    fn proofs(&self, text: &mut String, name: &str) {
        let Some(proofs) = self.proofs.get(name) else { return };
        line(text, "\nProved by:\n");
        for Case { name, clause } in proofs {
            line(text, &format!("- `{name}`: {}", clause.replace('<', "\\<")));
        }
    }
}

/// The lines of the book's contents.
pub(crate) fn contents(pages: &[Page]) -> String {
    let lines =
        pages.iter().map(|page| format!("    - [{}](abi/calls/{})\n", page.title, page.file));
    lines.collect()
}

fn caller(caller: Caller) -> &'static str {
    match caller {
        Caller::Any => "For every domain.",
        Caller::Privileged => "For the domain with the devices.",
        Caller::Control => "For a domain that rules others.",
    }
}

fn status(status: Status) -> String {
    match status {
        Status::Done => "as on Xen".into(),
        Status::Refused(errno) => format!("refused with `{}`", errno.name()),
        Status::Absent => "absent (`ENOSYS`)".into(),
    }
}

fn since(about: Option<&About>) -> String {
    match about.map(|about| about.since.as_str()) {
        None | Some("") => "Xen 4.17's; known here since 0.1.".into(),
        Some(version) => format!("Since version {version} of our own calls."),
    }
}

fn line(text: &mut String, more: &str) {
    let _cannot_fail = writeln!(text, "{more}");
}

/// The same without blanks at the ends of lines, and no two empty lines in a row.
fn tidy(text: &str) -> String {
    let mut tidy = String::new();
    for text in text.lines().map(str::trim_end) {
        if !(text.is_empty() && tidy.ends_with("\n\n")) {
            line(&mut tidy, text);
        }
    }
    format!("{}\n", tidy.trim_end())
}
