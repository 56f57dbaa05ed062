//! Hands the linker script to the linker, and the kernel what it tells guests about its build.

use std::env;
use std::process::Command;

fn main() {
    let directory = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo::rerun-if-changed=link.ld");
    println!("cargo::rustc-link-arg-bins=-T{directory}/link.ld");
    // Segments that follow each other page by page in memory must do so in the file too: the
    // multiboot address fields describe one contiguous piece of it.
    println!("cargo::rustc-link-arg-bins=-zmax-page-size=4096");

    println!("cargo::rerun-if-changed=../.git/HEAD");
    println!("cargo::rerun-if-changed=../.git/logs/HEAD");
    println!("cargo::rerun-if-changed=build.rs");
    let revision = output("git", &["-C", &directory, "rev-parse", "HEAD"]);
    println!("cargo::rustc-env=PARAVANE_CHANGESET={}", revision.as_deref().unwrap_or("unknown"));
    let compiler = output(&env::var("RUSTC").unwrap_or_default(), &["--version"]);
    println!("cargo::rustc-env=PARAVANE_COMPILER={}", compiler.as_deref().unwrap_or("rustc"));
}

/// The first line a program prints; `None` if it can't be run or fails.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.lines().next().map(str::to_owned))?
}
