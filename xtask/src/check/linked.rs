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
    for (name, (code, data)) in rows {
        println!("    {name:<38}{code:>9}{data:>9}");
    }
    Ok(())
}

/// The crate that a symbol comes from.
fn origin(symbol: &str) -> String {
    let Ok(name) = addr2line::demangle(symbol, addr2line::gimli::DW_LANG_Rust).ok_or(()) else {
        return "(assembler)".into();
    };
    let path = name.trim_start_matches(['<', '&', '*', '(', '[']).trim_start_matches("mut ");
    match path.split_once("::") {
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
    }
}
