//! Pages that two domains share, with this guest as both: it grants pages to itself, maps them,
//! copies between them, and takes them back. It ends well if all of it went as expected.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::{boxed::Box, format, vec::Vec};
use core::{error::Error, fmt::Debug, sync::atomic::Ordering::Relaxed};

use pv_guest_sdk::abi::types::{DomId, GrantRef};
use pv_guest_sdk::grant::{Destination, Grant, Grants, PageCopy, Peer, Source, copy};
use pv_guest_sdk::paging::{Access, Frame, Memory, Page};
use pv_guest_sdk::{BootInfo, Machine, entry, println, vary};

entry!(main);
pv_guest_sdk::heap!();

type Outcome = Result<(), Box<dyn Error>>;

/// The initial domain, which this guest is.
const HERE: DomId = DomId(0);
const AT: Page = Page::fixed(0x1000_0000);
const READ: Access = Access::empty();

fn main(boot: &BootInfo<'static>) -> Outcome {
    let memory = Memory::start(boot)?;
    println!("{}", Grants::start(9).err().ok_or("a table of nine frames")?);
    let grants = Grants::start(1)?;
    // The tables that lead to the pages below are made once, and so is the heap's first page.
    drop(memory.map(AT, Frame::new()?, READ)?);
    drop(Vec::<u64>::with_capacity(64));
    let free = memory.free();
    println!("{} pages free", vary!("free", free));
    mapping(grants)?;
    refusals(grants)?;
    copies(grants)?;
    quarantine(grants, memory)?;
    many(grants)?;
    check("pages lost", free - memory.free(), 0)
}

fn check<T: Debug + PartialEq>(what: &str, got: T, wanted: T) -> Outcome {
    println!("{what}: {got:x?}");
    if got == wanted { Ok(()) } else { Err(format!("{what} should be {wanted:x?}").into()) }
}

fn peer(grant: &Grant) -> Peer {
    Peer { domain: HERE, reference: grant.reference() }
}

/// A page that begins with these letters.
fn letters(text: &[u8; 4]) -> Result<Frame, Box<dyn Error>> {
    let mut frame = Frame::new()?;
    frame.bytes_mut()[..4].copy_from_slice(text);
    Ok(frame)
}

fn mapping(grants: Grants) -> Outcome {
    let grant = grants.share(letters(b"page")?, HERE, Access::WRITE)?;
    println!("granted by entry {}", grant.reference().0);
    check("in use before", grant.is_used(), false)?;
    let mapping = grants.map(AT, peer(&grant), Access::WRITE)?;
    check("the mapping shows", mapping.load(0), 0x6567_6170)?;
    mapping.words().ok_or("not writable")?[1].store(0x1111, Relaxed);
    grant.words()[1023].store(0x2222, Relaxed);
    check("written by the mapping", grant.words()[1].load(Relaxed), 0x1111)?;
    check("written by the owner", mapping.load(1023), 0x2222)?;
    check("in use while mapped", grant.is_used(), true)?;
    let Err(grant) = grant.end() else { return Err("taken back from under a mapping".into()) };
    mapping.unmap()?;
    check("in use behind it", grant.is_used(), false)?;
    let frame = grant.end().map_err(|_| "still in use")?;
    check("taken back", &frame.bytes()[..6], b"page\x11\x11")
}

fn refusals(grants: Grants) -> Outcome {
    let grant = grants.share(Frame::new()?, HERE, READ)?;
    let reading = grants.map(AT, peer(&grant), READ)?;
    check("words to write", reading.words().is_some(), false)?;
    let taken = grants.map(AT, peer(&grant), READ);
    check("mapped over another", taken.map(drop).is_err(), true)?;
    drop(reading);
    let nobody = Peer { domain: DomId(77), ..peer(&grant) };
    let beyond = Peer { reference: GrantRef(1 << 20), ..peer(&grant) };
    let empty = Peer { reference: GrantRef(grant.reference().0 + 1), ..peer(&grant) };
    for (wanted, access) in
        [(peer(&grant), Access::WRITE), (nobody, READ), (beyond, READ), (empty, READ)]
    {
        match grants.map(AT, wanted, access) {
            Ok(_) => return Err("mapped".into()),
            Err(error) => println!("{error}"),
        }
    }
    Ok(())
}

fn copies(grants: Grants) -> Outcome {
    let from = grants.share(letters(b"from")?, HERE, READ)?;
    let to = grants.share(Frame::new()?, HERE, Access::WRITE)?;
    let (own, mut last) = (letters(b"mine")?, Frame::new()?);
    let mut batch = [
        PageCopy::new(Source::peer(peer(&from), 0), Destination::peer(peer(&to), 4), 4),
        PageCopy::new(Source::frame(&own, 0)?, Destination::peer(peer(&to), 8), 4),
        PageCopy::new(Source::frame(&own, 0)?, Destination::peer(peer(&from), 0), 4),
        PageCopy::new(Source::frame(&own, 0)?, Destination::peer(peer(&to), 4093), 4),
        PageCopy::new(Source::peer(peer(&to), 4), Destination::frame(&mut last, 0)?, 8),
    ];
    copy(&Machine, &mut batch)?;
    let results = batch.each_ref().map(|copy| copy.result().map_err(|refusal| refusal.name()));
    let (bad, long) = ("GNTST_general_error", "GNTST_bad_copy_arg");
    check("copies", results, [Ok(()), Ok(()), Err(bad), Err(long), Ok(())])?;
    check("copied", &last.bytes()[..8], b"frommine")?;
    check("in use behind it", from.is_used() || to.is_used(), false)
}

fn quarantine(grants: Grants, memory: Memory) -> Outcome {
    let grant = grants.share(letters(b"gone")?, HERE, Access::WRITE)?;
    let mapping = grants.map(AT, peer(&grant), Access::WRITE)?;
    let free = memory.free();
    drop(grant);
    check("pages in quarantine", grants.reclaim(), 1)?;
    check("pages back meanwhile", memory.free() - free, 0)?;
    check("still there", mapping.load(0), 0x656e_6f67)?;
    drop(mapping);
    check("pages in quarantine", grants.reclaim(), 0)?;
    check("pages back", memory.free() - free, 1)
}

fn many(grants: Grants) -> Outcome {
    let mut all = Vec::with_capacity(504);
    let full = loop {
        match grants.share(Frame::new()?, HERE, READ) {
            Ok(grant) => all.push(grant),
            Err(error) => break error,
        }
    };
    println!("after {} grants: {full}", all.len());
    check("entries", all.len(), 512 - 8)
}
