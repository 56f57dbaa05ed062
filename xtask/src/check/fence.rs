//! Unsafe code: only behind the fences, and counted.

use std::path::Path;

use anyhow::{Result, ensure};

use super::source::{Source, words};

/// Where unsafe code may be.
const FENCES: [&str; 4] =
    ["kernel/src/x86", "pv-guest-sdk/src/raw", "dom0/src/hw", "conformance/src/raw"];

/// What all is searched.
const FOLDERS: [&str; 8] = [
    "kernel/src",
    "kernel/core/src",
    "hypercall-abi/src",
    "pv-guest-sdk/src",
    "dom0/src",
    "example-guests/src",
    "conformance/src",
    "xtask/src",
];

/// Crates whose root must forbid unsafe code, because they cannot inherit the lint as forbidden.
const PURE: [&str; 2] = ["hypercall-abi/src/lib.rs", "kernel/core/src/lib.rs"];

/// Prints the unsafe blocks of each file.
///
/// # Errors
///
/// When there is unsafe code outside the fences, or a pure crate does not forbid it.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut wrong = Vec::new();
    let mut total = 0;
    println!("unsafe blocks:");
    for folder in FOLDERS {
        for source in Source::all_below(root, folder)? {
            let blocks = blocks(&source.code);
            if blocks > 0 {
                println!("    {:<48}{blocks:>4}", source.path.display());
            }
            total += blocks;
            let fenced = FENCES.iter().any(|fence| source.path.starts_with(fence));
            if !fenced && let Some(line) = first_unsafe_line(&source.code) {
                wrong.push(format!("{}:{line}: unsafe code", source.path.display()));
            }
        }
    }
    println!("    {:<48}{total:>4}", "all");
    for crate_root in PURE {
        let text = std::fs::read_to_string(root.join(crate_root))?;
        if !text.lines().any(|line| line.trim() == "#![forbid(unsafe_code)]") {
            wrong.push(format!("{crate_root}: no `#![forbid(unsafe_code)]`"));
        }
    }
    ensure!(
        wrong.is_empty(),
        "unsafe code belongs into {} alone:\n    {}",
        FENCES.join(", "),
        wrong.join("\n    ")
    );
    Ok(())
}

fn blocks(code: &str) -> usize {
    words(code, "unsafe").filter(|(_, after)| after.trim_start().starts_with('{')).count()
}

/// The first line that says `unsafe` or brings assembler code, which no lint calls unsafe when it
/// stands outside functions. `#[unsafe(...)]` is left to the lint: a macro may expand to it.
fn first_unsafe_line(code: &str) -> Option<usize> {
    let assembler = ["asm", "global_asm", "naked_asm"];
    let calls = assembler.iter().flat_map(|name| words(code, name));
    let macros = calls.filter(|(_, after)| after.starts_with('!')).map(|(at, _)| at);
    let unsafes = words(code, "unsafe").filter(|(_, after)| !after.starts_with('('));
    let at = unsafes.map(|(at, _)| at).chain(macros).min()?;
    Some(code.get(..at)?.matches('\n').count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_first_lines_are_found() {
        let code = "fn a() {\n    unsafe { b() };\n    unsafe\n    {}\n}\nunsafe fn c() {}\n";
        assert_eq!(blocks(code), 2);
        assert_eq!(first_unsafe_line(code), Some(2));
        assert_eq!(first_unsafe_line("#![forbid(unsafe_code)]\nglobal_asm!();"), Some(2));
        assert_eq!(first_unsafe_line("#![forbid(unsafe_code)]\n#[unsafe(no_mangle)]"), None);
    }
}
