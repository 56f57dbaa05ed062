//! A guest that goes wrong in the way its command line names: `error`, `panic`, `overflow` (of the
//! stack), or a wrong move such as `read-unmapped`; with `traps` as the second word it has a trap
//! table, which reports the move. Any other word, or none, lists the ways and ends well.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use pv_guest_sdk::raw::wrong::WrongMove;
use pv_guest_sdk::vcpu::Vcpu;
use pv_guest_sdk::{BootInfo, entry, log, println};

entry!(main);

fn main(boot: &BootInfo) -> Result<(), &'static str> {
    let way = boot.arguments().next().unwrap_or_default();
    log::info!("going wrong by {way:?}");
    if boot.arguments().nth(1) == Some("traps") {
        Vcpu::start(boot).map_err(|_| "no trap table")?;
    }
    match (way, WrongMove::named(way)) {
        ("error", _) => return Err("as it was told"),
        ("panic", _) => deeper(3),
        ("overflow", _) => deeper(u32::MAX),
        (_, Some(wrong)) => wrong.make(),
        _ => println!("ways: error, panic, overflow and {:?}", WrongMove::ALL),
    }
    Ok(())
}

#[inline(never)]
fn deeper(levels: u32) {
    assert!(levels > 0, "as it was told");
    deeper(levels - 1);
    println!("came back from {levels}");
}
