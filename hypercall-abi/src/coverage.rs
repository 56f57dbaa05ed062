//! The coverage page: what of the ABI exists here, rendered from the tables.

use core::fmt::{Result, Write};

use crate::call::{Hypercall, NUMBERS, Status, SubOp};

/// How many calls have which status. A call with sub-ops counts as its sub-ops.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Count {
    /// Calls with [`Status::Done`].
    pub done: usize,
    /// Calls with [`Status::Refused`].
    pub refused: usize,
    /// Calls with [`Status::Absent`].
    pub absent: usize,
}

impl Count {
    const fn add(&mut self, status: Status) {
        let which = match status {
            Status::Done => &mut self.done,
            Status::Refused(_) => &mut self.refused,
            Status::Absent => &mut self.absent,
        };
        *which = which.saturating_add(1);
    }

    /// The calls of one hypercall.
    #[must_use]
    pub fn of(call: Hypercall) -> Self {
        let mut count = Self::default();
        match call.sub_ops() {
            [] => count.add(call.status()),
            ops => ops.iter().for_each(|op| count.add(op.status)),
        }
        count
    }

    /// All calls of the ABI.
    #[must_use]
    pub fn of_all() -> Self {
        let mut count = Self::default();
        for call in Hypercall::ALL {
            match call.sub_ops() {
                [] => count.add(call.status()),
                ops => ops.iter().for_each(|op| count.add(op.status)),
            }
        }
        count
    }

    /// The number of calls.
    #[must_use]
    pub const fn total(self) -> usize {
        self.done.saturating_add(self.refused).saturating_add(self.absent)
    }
}

/// Writes the page as Markdown.
///
/// # Errors
///
/// Those of `out`.
pub fn render(out: &mut impl Write) -> Result {
    introduction(out)?;
    overview(out)?;
    for call in Hypercall::ALL {
        if !call.sub_ops().is_empty() {
            details(out, *call)?;
        }
    }
    Ok(())
}

fn introduction(out: &mut impl Write) -> Result {
    let all = Count::of_all();
    write!(
        out,
        "# Coverage of the ABI\n\n\
         <!-- Generated from the tables in hypercall-abi. Do not edit: change the tables, then run\n     \
         UPDATE_GOLDEN=1 cargo test -p hypercall-abi -->\n\n\
         Every hypercall and sub-op of Xen 4.17's interface for 64-bit PV guests, and what this\n\
         system's kernel does with it:\n\n\
         - **done**: what Xen does;\n\
         - **refused**: deliberately answered with the error named;\n\
         - **absent**: answered with `ENOSYS`, as an unknown call is.\n\n\
         *Caller* says who may make the call: *any* domain, the *privileged* one that has the\n\
         devices, or a *control* domain that builds others.\n\n\
         Of {} calls, {} are done, {} are refused and {} are absent.\n\n",
        all.total(),
        all.done,
        all.refused,
        all.absent
    )
}

fn overview(out: &mut impl Write) -> Result {
    out.write_str("## Hypercalls\n\n| Number | Name | Caller | Status | What it does |\n")?;
    out.write_str("|---:|---|---|---|---|\n")?;
    for number in 0..NUMBERS {
        let Some(call) = Hypercall::from_number(u64::from(number)) else {
            writeln!(out, "| {number} | | | absent | Not assigned. |")?;
            continue;
        };
        let name = call.name();
        let page = format_args!("[`{name}`](calls/{number:02}-{name}.md)");
        write!(out, "| {number} | {page} | {} | ", call.caller().name())?;
        if call.sub_ops().is_empty() {
            status(out, call.status())?;
        } else {
            let count = Count::of(call);
            write!(out, "{} of {} done", count.done, count.total())?;
            if count.refused != 0 {
                write!(out, ", {} refused", count.refused)?;
            }
        }
        writeln!(out, " | {} |", call.about())?;
    }
    Ok(())
}

fn details(out: &mut impl Write, call: Hypercall) -> Result {
    writeln!(out, "\n## {} ({})\n", call.name(), call.number())?;
    if let Status::Refused(errno) = call.status() {
        writeln!(out, "Any other sub-op is answered with `{}`.\n", errno.name())?;
    }
    out.write_str("| Sub-op | Name | Caller | Status | What it does |\n|---:|---|---|---|---|\n")?;
    for SubOp { number, name, caller, status: how_far, about, .. } in call.sub_ops() {
        write!(out, "| {number} | `{name}` | {} | ", caller.name())?;
        status(out, *how_far)?;
        writeln!(out, " | {about} |")?;
    }
    Ok(())
}

fn status(out: &mut impl Write, status: Status) -> Result {
    match status {
        Status::Done => out.write_str("done"),
        Status::Refused(errno) => write!(out, "refused (`{}`)", errno.name()),
        Status::Absent => out.write_str("absent"),
    }
}
