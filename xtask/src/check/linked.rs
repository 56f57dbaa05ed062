//! What each crate brings into ring 0: the sizes of its symbols in the kernel's ELF file.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use object::{Object, ObjectSymbol, SymbolKind};

/// Prints linked bytes per crate, largest first.
///
/// Link-time optimisation moves code: what is inlined counts where it went.
///
/// # Errors
///
/// When the file cannot be read.
pub(crate) fn print(kernel: &Path) -> Result<()> {
    let bytes = std::fs::read(kernel).with_context(|| kernel.display().to_string())?;
    let file = object::File::parse(&*bytes).context("the kernel is not an ELF file")?;
    let mut crates: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for symbol in file.symbols() {
        let entry = match symbol.kind() {
            SymbolKind::Text => (symbol.size(), 0),
            SymbolKind::Data => (0, symbol.size()),
            _ => continue,
        };
        let sum = crates.entry(origin(symbol.name().unwrap_or_default())).or_default();
        *sum = (sum.0 + entry.0, sum.1 + entry.1);
    }
    let mut rows: Vec<_> = crates.into_iter().collect();
    rows.sort_by_key(|(_, (code, data))| std::cmp::Reverse(code + data));
    println!("bytes linked into the kernel: {:<12}{:>9}{:>9}", "", "code", "data");
    let mut all = (0, 0);
    for (name, (code, data)) in rows {
        println!("    {name:<38}{code:>9}{data:>9}");
        all = (all.0 + code, all.1 + data);
    }
    println!("    {:<38}{:>9}{:>9}", "all", all.0, all.1);
    Ok(())
}

/// The crate that a symbol comes from.
fn origin(symbol: &str) -> String {
    let Ok(name) = addr2line::demangle(symbol, addr2line::gimli::DW_LANG_Rust).ok_or(()) else {
        return "(assembler)".into();
    };
    let (own, of) = name.split_once(" as ").unwrap_or((&name, ""));
    // `<u64 as core::fmt::Display>::fmt` is core's; `<paravane::Uart as ...>::write` is ours.
    let path = if own.contains("::") { own } else { of };
    let path = path.trim_start_matches(|letter: char| !letter.is_alphabetic() && letter != '_');
    match path.trim_start_matches("mut ").split_once("::") {
        Some((first, _)) => first.to_owned(),
        None => "(assembler)".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_belong_to_the_crate_of_their_first_path() {
        assert_eq!(origin("_ZN11kernel_core4boot4plan17h0123456789abcdefE"), "kernel_core");
        assert_eq!(origin("_start"), "(assembler)");
        let shown = "_ZN42_$LT$u64$u20$as$u20$core..fmt..Display$GT$3fmt17h0123456789abcdefE";
        assert_eq!(origin(shown), "core");
        let written = "_ZN46_$LT$log..Uart$u20$as$u20$core..fmt..Write$GT$3fmt17h0123456789abcdefE";
        assert_eq!(origin(written), "log");
    }
}
