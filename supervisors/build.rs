//! Links the guest with the SDK's layout.

fn main() {
    println!("cargo:rustc-link-arg-bins=-T{}/../pv-guest-sdk/guest.ld", env!("CARGO_MANIFEST_DIR"));
    println!("cargo:rerun-if-changed=../pv-guest-sdk/guest.ld");
}
