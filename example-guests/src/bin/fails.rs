//! A guest that goes wrong in the way its command line names: `error`, `panic`, or a wrong move
//! such as `read-unmapped`. Anything else, or nothing, is listed and ends it well.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use pv_guest_sdk::raw::wrong::WrongMove;
use pv_guest_sdk::{BootInfo, entry, log, println};

entry!(main);

fn main(boot: &BootInfo) -> Result<(), &'static str> {
    let way = boot.arguments().next().unwrap_or_default();
    log::info!("going wrong by {way:?}");
    match (way, WrongMove::named(way)) {
        ("error", _) => return Err("as it was told"),
        ("panic", _) => deeper(3),
        (_, Some(wrong)) => wrong.make(),
        _ => println!("ways: error, panic and {:?}", WrongMove::ALL),
    }
    Ok(())
}

#[inline(never)]
fn deeper(levels: u32) {
    assert!(levels > 0, "as it was told");
    deeper(levels - 1);
    println!("came back from {levels}");
}
