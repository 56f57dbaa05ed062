//! Hands the linker script to the linker.

fn main() {
    let directory = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo::rerun-if-changed=link.ld");
    println!("cargo::rustc-link-arg-bins=-T{directory}/link.ld");
    // Segments that follow each other page by page in memory must do so in the file too: the
    // multiboot address fields describe one contiguous piece of it.
    println!("cargo::rustc-link-arg-bins=-zmax-page-size=4096");
}
