//! What is done to one disk.

use alloc::format;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use hostile::random::Random;
use hypercall_abi::blkif::{READ, STATUS_ERROR, STATUS_OKAY, WRITE};
use pv_guest_sdk::grant::Grant;
use pv_guest_sdk::paging::Access;
use pv_guest_sdk::println;
use pv_guest_sdk::xenbus::State;

use crate::front::{Front, Info};
use crate::link::{Link, SLOTS, request, whole};
use crate::requests::{self, work};
use crate::{Outcome, ensure, nodes};

/// How many connections are left in the middle of each kind.
const TIMES: u32 = 8;

/// Everything there is.
pub(crate) async fn attack(front: &Front) -> Outcome {
    front.reset().await?;
    let can_keep = front.can_keep().await?;
    for keeps in [false, true] {
        if keeps && !can_keep {
            continue;
        }
        let mut link = front.connect(keeps).await?;
        requests::wrong(front, &mut link).await?;
        println!("wrong requests are refused");
        close(front, link).await?;
        revoked(front, keeps).await?;
        println!("pages are revoked in flight");
        indices(front, keeps).await?;
        scribbles(front, keeps).await?;
        println!("indices that cannot be end the connection");
        abandoned(front, keeps).await?;
        println!("a front end may stop in the middle");
    }
    nodes::garbage(front).await?;
    println!("garbage in nodes is refused");
    nodes::orders(front).await?;
    println!("states come in any order");
    // A right one, for the last time; then without a word.
    let (mut link, page) = (front.connect(can_keep).await?, front.page(Access::WRITE)?);
    work(&mut link, &page, &front.info().await?).await?;
    fill(&mut link, core::slice::from_ref(&page), WRITE);
    link.show()?;
    front.vanish().await?;
    // The back end may still write to them.
    core::mem::forget((link, page));
    Ok(())
}

/// Closes a connection without a request in flight, and begins again.
async fn close(front: &Front, link: Link) -> Outcome {
    front.say("state", b"5").await?;
    front.back(&[State::Closing]).await?;
    front.say("state", b"6").await?;
    front.back(&[State::Closed]).await?;
    let is_free = link.ring.end().is_ok();
    ensure(is_free, || "the ring of a closed connection is in use".into())?;
    front.reset().await
}

/// Puts as many requests as the ring has room for, of one page each.
fn fill(link: &mut Link, pages: &[Grant], operation: u8) {
    for (id, page) in (0..u64::from(SLOTS)).zip(pages.iter().cycle()) {
        let list = [whole(page)];
        let mut one = request(operation, 8 * id, &list, 1);
        one.id = id;
        link.put(&one);
    }
}

/// Takes pages back while the back end is at them.
async fn revoked(front: &Front, keeps: bool) -> Outcome {
    let mut link = front.connect(keeps).await?;
    let mut done = 0;
    for round in 0..6 {
        let pages = (0..SLOTS).map(|_| front.page(Access::WRITE)).collect::<Outcome<Vec<_>>>()?;
        fill(&mut link, &pages, if round % 2 == 0 { READ } else { WRITE });
        link.show()?;
        // What is in use is left to the quarantine.
        drop(pages);
        for status in link.answers(SLOTS as usize).await? {
            let is_known = [STATUS_OKAY, STATUS_ERROR].contains(&status);
            ensure(is_known, || format!("a page that was revoked: status {status}"))?;
            done += u32::from(status == STATUS_OKAY);
        }
    }
    println!("{} done in time", pv_guest_sdk::vary!("requests", done));
    let page = front.page(Access::WRITE)?;
    work(&mut link, &page, &front.info().await?).await?;
    drop(page);
    close(front, link).await
}

/// Numbers of requests that cannot be.
async fn indices(front: &Front, keeps: bool) -> Outcome {
    // From how many requests that are right; then so many more, or less.
    let steps = [1 + SLOTS, 1000, 1 << 31, u32::MAX, 0_u32.wrapping_sub(3)];
    for (right, step) in steps.iter().flat_map(|&step| [(0, step), (5, step)]) {
        let (mut link, page) = (front.connect(keeps).await?, front.page(Access::WRITE)?);
        for _ in 0..right {
            link.ask(request(READ, 0, &[whole(&page)], 1)).await?;
        }
        link.show_as(link.produced().wrapping_add(step))?;
        front.back(&[State::Closed]).await?;
        drop((link, page));
        front.reset().await?;
    }
    Ok(())
}

/// Writes anything to the ring, again and again, while the back end serves it.
async fn scribbles(front: &Front, keeps: bool) -> Outcome {
    let mut random = Random::new(3);
    for _ in 0..TIMES {
        let (mut link, page) = (front.connect(keeps).await?, front.page(Access::WRITE)?);
        fill(&mut link, core::slice::from_ref(&page), READ);
        link.show()?;
        for _ in 0..40 {
            let words = link.ring.words();
            // Past the indices, which would end it at once.
            for word in words.iter().skip(16) {
                let few = random.below(16);
                let value = if random.once_in(2) { few } else { random.wild() };
                word.store(u32::try_from(value & 0xffff_ffff).unwrap_or(0), Ordering::Relaxed);
            }
            // That may have ended it.
            let _is_open = link.send();
        }
        words_behind(&link, &mut random);
        let _is_open = link.send();
        drop((link, page));
        front.reset().await?;
    }
    Ok(())
}

/// The same with the indices.
fn words_behind(link: &Link, random: &mut Random) {
    for word in link.ring.words().iter().take(4) {
        word.store(u32::try_from(random.wild() & 0xffff_ffff).unwrap_or(0), Ordering::Relaxed);
    }
}

/// Leaves connections in the middle, with requests in flight.
async fn abandoned(front: &Front, keeps: bool) -> Outcome {
    let info = front.info().await?;
    for state in ["6", "1", "5", "0", "x"] {
        for _ in 0..TIMES {
            let mut link = front.connect(keeps).await?;
            let pages = (0..4).map(|_| front.page(Access::WRITE)).collect::<Outcome<Vec<_>>>()?;
            fill(&mut link, &pages, READ);
            link.show()?;
            front.say("state", state.as_bytes()).await?;
            match state {
                // It starts again, and takes no notice of what was: the ring goes, and the pages.
                "1" => drop(front.back(&[State::InitWait]).await?),
                // What was asked is answered.
                "5" => drop(link.answers(SLOTS as usize).await?),
                _ => drop(front.back(&[State::Closed]).await?),
            }
            drop((link, pages));
            front.reset().await?;
        }
    }
    let (mut link, page) = (front.connect(keeps).await?, front.page(Access::WRITE)?);
    work(&mut link, &page, &info).await?;
    drop(page);
    front.unsay("state").await?;
    front.back(&[State::Closed]).await?;
    drop(link);
    front.reset().await
}

/// Keeps a ring full for ever, with pages that stay mapped if they may.
pub(crate) async fn load(front: &Front) -> Outcome {
    front.reset().await?;
    let mut link = front.connect(front.can_keep().await?).await?;
    let info: Info = front.info().await?;
    let pages = (0..11 * SLOTS).map(|_| front.page(Access::WRITE)).collect::<Outcome<Vec<_>>>()?;
    let room = info.sectors / 88;
    let put = |link: &mut Link, id: u64, round: u64| {
        let list: Vec<_> =
            pages.iter().skip(11 * usize::try_from(id).unwrap_or(0)).take(11).map(whole).collect();
        let operation = if (id + round).is_multiple_of(3) { WRITE } else { READ };
        let mut one = request(operation, 88 * ((id + round) % room), &list, 11);
        one.id = id;
        link.put(&one);
    };
    (0..u64::from(SLOTS)).for_each(|id| put(&mut link, id, 0));
    link.show()?;
    for round in 0.. {
        let (id, _, status) = link.answer().await?;
        ensure(status == STATUS_OKAY, || format!("request {id}: status {status}"))?;
        put(&mut link, id, round);
        link.show()?;
        if round == u64::from(SLOTS) {
            println!("at work");
        }
    }
    Ok(())
}
