//! A right guest on a disk that is wrong: the words `read=N` and `write=N` on its command line name
//! sectors that fail, `once=N` one whose first write fails, and the disk's first flush fails.
//!
//! Each sector is full of its number when this begins, and of what [`written`] says where this has
//! written. An error is to be told of the request that met it, and of no other; what was said to be
//! written is there. It ends well if that is so.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::error::Error;

use pv_guest_sdk::block::{Disk, DiskError, Options};
use pv_guest_sdk::grant::Grants;
use pv_guest_sdk::paging::Memory;
use pv_guest_sdk::task::{Executor, block_on};
use pv_guest_sdk::vcpu::Vcpu;
use pv_guest_sdk::xenbus::Device;
use pv_guest_sdk::{BootInfo, entry, println, xenstore};

entry!(main);
pv_guest_sdk::heap!();

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// The number of the first disk.
const DISK: u32 = 51712;
/// Unit: bytes.
const SECTOR: usize = 512;
/// Requests at once, of a page each.
const AT_ONCE: u64 = 32;
/// Sectors of a page.
const PAGE: u64 = 8;

fn main(boot: &BootInfo<'static>) -> Outcome {
    let vcpu = Vcpu::start(boot)?;
    Memory::start(boot)?;
    vcpu.start_events()?;
    let grants = Grants::start(1)?;
    let store = xenstore::connect(boot)?;
    let device = block_on(Device::find(store, "vbd", DISK))?;
    let disk = block_on(Disk::open(device, grants, Options::default()))?;
    let number = |name| -> Outcome<u64> {
        let word = boot.argument(name).ok_or_else(|| format!("{name}=N is missing"))?;
        word.parse().map_err(|_| format!("{name}={word} is no number").into())
    };
    let [read, write, once] = [number("read")?, number("write")?, number("once")?];
    block_on(reads(&disk, read))?;
    println!("a read fails alone");
    block_on(writes(&disk, write, once))?;
    println!("a write fails alone");
    at_once(&disk, write)?;
    println!("of many writes one fails");
    refused("flush", block_on(disk.flush()))?;
    block_on(disk.flush())?;
    println!("a flush fails once");
    block_on(disk.close())?;
    Ok(())
}

/// What a sector is full of after this has written it.
const fn written(sector: u64) -> u64 {
    sector ^ 0x5a5a_0000_0000_0000
}

/// Sectors from one on, full of what a function of their number says.
fn full(first: u64, count: u64, of: fn(u64) -> u64) -> Vec<u8> {
    (first..first + count).flat_map(|sector| of(sector).to_le_bytes().repeat(SECTOR / 8)).collect()
}

fn refused(what: &str, result: Result<(), DiskError>) -> Outcome {
    match result {
        Err(DiskError::Failed(operation, _, -1)) if operation == what => Ok(()),
        other => Err(format!("a {what} that must fail: {other:?}").into()),
    }
}

/// Reads sectors, which are to be full of what `of` says.
async fn check(disk: &Disk<'_, Grants>, first: u64, count: u64, of: fn(u64) -> u64) -> Outcome {
    let mut data = vec![0; full(first, count, of).len()];
    disk.read(first, &mut data).await?;
    if data == full(first, count, of) {
        Ok(())
    } else {
        Err(format!("sector {first}: others").into())
    }
}

async fn reads(disk: &Disk<'_, Grants>, bad: u64) -> Outcome {
    for (first, count) in [(bad, 1), (bad - 3, PAGE), (bad - 500, 600), (bad - 10, 11)] {
        let mut data = vec![0; full(first, count, |_| 0).len()];
        refused("read", disk.read(first, &mut data).await)?;
    }
    check(disk, bad - 500, 500, |sector| sector).await?;
    check(disk, bad + 1, 500, |sector| sector).await
}

async fn writes(disk: &Disk<'_, Grants>, bad: u64, once: u64) -> Outcome {
    refused("write", disk.write(bad, &full(bad, 1, written)).await)?;
    disk.write(bad - 64, &full(bad - 64, 64, written)).await?;
    disk.write(bad + 1, &full(bad + 1, 64, written)).await?;
    refused("write", disk.write(bad, &full(bad, 1, written)).await)?;
    check(disk, bad - 64, 64, written).await?;
    check(disk, bad, 1, |sector| sector).await?;
    check(disk, bad + 1, 64, written).await?;
    refused("write", disk.write(once, &full(once, 1, written)).await)?;
    check(disk, once, 1, |sector| sector).await?;
    disk.write(once, &full(once, 1, written)).await?;
    check(disk, once, 1, written).await
}

/// Writes many pages at once, in one of which is the bad sector. There is room between them: what is
/// in a row QEMU makes one request of, which fails as a whole.
fn at_once(disk: &Disk<'static, Grants>, bad: u64) -> Outcome {
    let first = bad - PAGE * AT_ONCE - 2;
    let results = core::cell::RefCell::new(Vec::new());
    let executor = Executor::<Box<dyn Future<Output = ()> + '_>>::default();
    for page in (first..).step_by(usize::try_from(2 * PAGE)?).take(usize::try_from(AT_ONCE)?) {
        let results = &results;
        let task: Box<dyn Future<Output = ()> + '_> = Box::new(async move {
            let result = disk.write(page, &full(page, PAGE, written)).await;
            results.borrow_mut().push((page, result));
        });
        executor.spawn(Box::into_pin(task)).map_err(|_| "too many tasks")?;
    }
    executor.run();
    for (page, result) in results.take() {
        if (page..page + PAGE).contains(&bad) {
            refused("write", result)?;
        } else {
            result?;
            block_on(check(disk, page, PAGE, written))?;
        }
    }
    Ok(())
}
