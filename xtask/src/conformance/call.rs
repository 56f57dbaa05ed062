//! A hypercall as the guest's line has it, in words.

use hypercall_abi::call::Hypercall;

/// The call of a line `NUMBER SIX-ARGUMENTS [at ADDRESS WORDS]`, all hexadecimal: its name, with that
/// of the sub-op, its arguments up to the last that is not 0, and the words that one points to.
pub(super) fn in_words(line: &str) -> Option<String> {
    let (call, memory) = line.split_once(" at ").unwrap_or((line, ""));
    let numbers = |text: &str| -> Option<Vec<u64>> {
        text.split_whitespace().map(|word| u64::from_str_radix(word, 16).ok()).collect()
    };
    let (call, memory) = (numbers(call)?, numbers(memory)?);
    let (number, arguments) = call.split_first()?;
    let known = Hypercall::from_number(*number);
    // The command of a batch or an envelope is the first word of its memory.
    let first = match known {
        Some(
            Hypercall::MmuextOp
            | Hypercall::Sysctl
            | Hypercall::Domctl
            | Hypercall::PlatformOp
            | Hypercall::MmuUpdate,
        ) => memory.get(1),
        _ => arguments.first(),
    };
    let op = known.zip(first).and_then(|(call, first)| {
        let low = u32::try_from(first & 0xffff_ffff).ok()?;
        call.sub_op(if call == Hypercall::MmuUpdate { low & 3 } else { low })
    });
    let op = op.map_or(String::new(), |op| format!(".{}", op.name));
    let name = known.map_or("a number that nobody has", Hypercall::name);
    let used = arguments.iter().rposition(|&it| it != 0).map_or(0, |last| last + 1);
    let list = |values: &[u64]| {
        values.iter().map(|value| format!("{value:#x}")).collect::<Vec<_>>().join(", ")
    };
    let with = match arguments.get(..used)? {
        [] => " without arguments".to_owned(),
        some => format!(" with {}", list(some)),
    };
    let at = match memory.as_slice() {
        [place, words @ ..] => format!(", where {place:#x} holds {}", list(words)),
        [] => String::new(),
    };
    Some(format!("{name}{op} ({number}){with}{at}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_have_names_and_arguments() {
        let text = in_words("24 5000 0 0 0 0 0 at 5000 1500000005 4d 0 0").expect("a call");
        assert_eq!(
            text,
            "domctl.getdomaininfo (36) with 0x5000, where 0x5000 holds 0x1500000005, 0x4d, 0x0, 0x0"
        );
        assert_eq!(
            in_words("3f 0 0 0 0 0 0").expect("a call"),
            "a number that nobody has (63) without arguments"
        );
        assert_eq!(in_words("what"), None);
    }
}
