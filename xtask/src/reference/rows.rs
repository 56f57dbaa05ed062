//! What a clause can be about: a hypercall, one of its sub-ops, a number that nobody has, or a
//! facility, which is what a hypervisor does unasked.

use hypercall_abi::call::{Hypercall, NUMBERS, SubOp};

/// A row of the interface.
#[derive(Clone, Copy)]
pub(crate) enum Row {
    /// A hypercall as such: what holds for all of its sub-ops, if it has any.
    Call(Hypercall),
    /// A sub-op.
    Op(Hypercall, &'static SubOp),
    /// A number without a hypercall.
    Number(u32),
}

impl Row {
    /// Every row, by number.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..NUMBERS).flat_map(|number| {
            let call = Hypercall::from_number(number.into());
            let ops = call
                .into_iter()
                .flat_map(|call| call.sub_ops().iter().map(move |op| Self::Op(call, op)));
            std::iter::once(call.map_or(Self::Number(number), Self::Call)).chain(ops)
        })
    }

    /// What `conformance/rows.txt` calls it: the call's name, call and sub-op with a dot, or the
    /// bare number.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Call(call) => call.name().to_owned(),
            Self::Op(call, op) => format!("{}.{}", call.name(), op.name),
            Self::Number(number) => number.to_string(),
        }
    }
}
