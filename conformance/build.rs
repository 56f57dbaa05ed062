//! Links with a layout of its own: the SDK's, but for the notes, which name this guest's entry.

fn main() {
    let folder = env!("CARGO_MANIFEST_DIR");
    println!("cargo:rustc-link-arg-bins=-T{folder}/guest.ld");
    println!("cargo:rerun-if-changed=guest.ld");
}
