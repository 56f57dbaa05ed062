//! Unsafe code: only behind the fences, and counted.

use std::path::Path;

use anyhow::{Result, ensure};

use super::source::{Source, Token};

/// Where unsafe code may be.
const FENCES: [&str; 5] = [
    "kernel/src/x86",
    "pv-guest-sdk/src/raw",
    "dom0/src/hw",
    "conformance/src/raw",
    "conformance/hostile/src/raw",
];

/// What all is searched.
const FOLDERS: [&str; 19] = [
    "domain-builder/src",
    "toolstack/src",
    "xenstore/src",
    "shared-ring/src",
    "backend/src",
    "blkback/src",
    "netback/src",
    "kernel/src",
    "kernel/core/src",
    "hypercall-abi/src",
    "pv-guest-sdk/src",
    "dom0/src",
    "supervisors/src",
    "kv-store/src",
    "example-guests/src",
    "conformance/src",
    "conformance/hostile/src",
    "book/src",
    "xtask/src",
];

/// Crates whose root must forbid unsafe code, because they cannot inherit the lint as forbidden.
const PURE: [&str; 11] = [
    "hypercall-abi/src/lib.rs",
    "kernel/core/src/lib.rs",
    "domain-builder/src/lib.rs",
    "toolstack/src/lib.rs",
    "xenstore/src/lib.rs",
    "shared-ring/src/lib.rs",
    "backend/src/lib.rs",
    "blkback/src/lib.rs",
    "netback/src/lib.rs",
    "kv-store/src/lib.rs",
    "book/src/lib.rs",
];

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
            let blocks = blocks(&source.tokens);
            if blocks > 0 {
                println!("    {:<48}{blocks:>4}", source.path.display());
            }
            total += blocks;
            let fenced = FENCES.iter().any(|fence| source.path.starts_with(fence));
            if !fenced && let Some(line) = first_unsafe_line(&source.tokens) {
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

fn blocks(tokens: &[Token]) -> usize {
    followed(tokens).filter(|(word, next)| word.text == "unsafe" && next.text == "{").count()
}

/// The first line that says `unsafe` or brings assembler code, which no lint calls unsafe when it
/// stands outside functions. `#[unsafe(...)]` is left to the lint: a macro may expand to it.
fn first_unsafe_line(tokens: &[Token]) -> Option<usize> {
    let is_unsafe = |(word, next): &(&Token, &Token)| match word.text.as_str() {
        "unsafe" => next.text != "(",
        "asm" | "global_asm" | "naked_asm" => next.text == "!",
        _ => false,
    };
    followed(tokens).find(is_unsafe).map(|(word, _)| word.line)
}

fn followed(tokens: &[Token]) -> impl Iterator<Item = (&Token, &Token)> {
    tokens.iter().zip(tokens.iter().skip(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::source::rust;

    fn tokens(text: &str) -> Vec<Token> {
        rust(text).expect("Rust")
    }

    #[test]
    fn blocks_and_first_lines_are_found() {
        let code =
            tokens("fn a() {\n    unsafe { b() };\n    unsafe\n    {}\n}\nunsafe fn c() {}\n");
        assert_eq!(blocks(&code), 2);
        assert_eq!(first_unsafe_line(&code), Some(2));
        let assembler = tokens("#![forbid(unsafe_code)]\nglobal_asm!(\"\");");
        assert_eq!(first_unsafe_line(&assembler), Some(2));
        let harmless =
            tokens("#![forbid(unsafe_code)]\n#[unsafe(no_mangle)]\nconst A: &str = \"unsafe {\";");
        assert_eq!(first_unsafe_line(&harmless), None);
    }
}
