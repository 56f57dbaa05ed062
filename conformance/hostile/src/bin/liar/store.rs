//! What is done to the store: too much of everything, what is no request, and a ring that cannot be.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::future::pending;

use hypercall_abi::xenstore::{
    CONTROL, DIRECTORY, ERROR, GET_PERMS, INTRODUCE, IS_DOMAIN_INTRODUCED, MKDIR, PAYLOAD_MAX,
    READ, RELEASE, RESET_WATCHES, RESUME, RING_SIZE, RM, SET_PERMS, SET_TARGET, TRANSACTION_END,
    TRANSACTION_START, UNWATCH, WATCH, WATCH_EVENT, WRITE,
};
use pv_guest_sdk::time::{Duration, sleep};
use pv_guest_sdk::{BootInfo, println};

use crate::wire::{Wire, Word};
use crate::{Outcome, ensure, same};

/// Everything there is.
pub(crate) async fn attack(boot: &BootInfo<'static>) -> Outcome {
    let mut wire = Wire::new(boot);
    sound(&mut wire).await?;
    refused(&mut wire).await?;
    println!("wrong requests are refused");
    nodes(&mut wire).await?;
    watches(&mut wire).await?;
    transactions(&mut wire).await?;
    println!("too much of anything is refused");
    silence(&mut wire).await?;
    halves(&mut wire).await?;
    println!("halves of messages and answers not taken wait");
    broken(&mut wire).await?;
    println!("a ring that cannot be ends the connection alone");
    // What it has open is left so, with half a message.
    let _watched = wire.ask(WATCH, 0, b"data\0token\0").await?;
    let _begun = wire.ask(TRANSACTION_START, 0, b"\0").await?;
    let half = wire.message(WRITE, 0, b"data/half\0value")?;
    wire.put_all(half.get(..20).unwrap_or_default()).await
}

/// Asks until the store takes no more, and never takes an answer.
pub(crate) async fn mute(boot: &BootInfo<'static>) -> Outcome {
    let mut wire = Wire::new(boot);
    let (mut rest, mut full) = (Vec::new(), 0);
    while full < 100 {
        if rest.is_empty() {
            rest = wire.message(READ, 0, b"name\0")?;
        }
        let done = wire.put(&rest)?;
        rest.drain(..done);
        if !rest.is_empty() {
            full += 1;
            sleep(Duration::from_millis(1)).await;
        }
    }
    println!("no answer is taken");
    pending().await
}

/// The connection works.
async fn sound(wire: &mut Wire) -> Outcome {
    let answer = wire.ask(READ, 0, b"name\0").await?;
    ensure(answer.is_ok(), || format!("the own name: {answer:?}"))
}

async fn expect(wire: &mut Wire, kind: u32, tx: u32, body: &[u8], error: &str) -> Outcome {
    let answer = wire.ask(kind, tx, body).await?;
    let shown = || {
        let body = body.get(..body.len().min(60)).unwrap_or_default();
        format!("request {kind} of {:?}", String::from_utf8_lossy(body))
    };
    same(
        &shown(),
        answer.map(|body| String::from_utf8_lossy(&body).into_owned()),
        Err(error.into()),
    )
}

/// What is no request, what is not for this domain, and other domains' nodes.
async fn refused(wire: &mut Wire) -> Outcome {
    let long = |length: usize| [b"data/".to_vec(), vec![b'x'; length - 5], vec![0]].concat();
    let far = [b"/".to_vec(), vec![b'x'; 3072], vec![0]].concat();
    let deep = ["data", &"/x".repeat(300), "\0"].concat();
    let large = [b"data/x\0".to_vec(), vec![b'x'; 2049]].concat();
    let rows: [(u32, u32, &[u8], &str); 46] = [
        (CONTROL, 0, b"help\0", "EACCES"),
        (INTRODUCE, 0, b"1\x001\x001\0", "EACCES"),
        (INTRODUCE, 0, b"", "EACCES"),
        (RELEASE, 0, b"0\0", "EACCES"),
        (RESUME, 0, b"0\0", "EACCES"),
        (SET_TARGET, 0, b"0\x001\0", "EACCES"),
        (WATCH_EVENT, 0, b"data\0x\0", "ENOSYS"),
        (ERROR, 0, b"EINVAL\0", "ENOSYS"),
        (20, 0, b"\0", "ENOSYS"),
        (23, 0, b"\0", "ENOSYS"),
        (u32::MAX, 0, b"\0", "ENOSYS"),
        (READ, 0, b"", "EINVAL"),
        (READ, 0, b"name", "EINVAL"),
        (READ, 0, b"name\0name\0", "EINVAL"),
        (READ, 0, b"\0", "EINVAL"),
        (READ, 0, b"/a//b\0", "EINVAL"),
        (READ, 0, b"data/\0", "EINVAL"),
        (READ, 0, b"data/\xff\0", "EINVAL"),
        (READ, 0, b"data/../../0/name\0", "EINVAL"),
        (READ, 0, b"@releaseDomain\0", "EINVAL"),
        (READ, 0, &long(2049), "EINVAL"),
        (READ, 0, &far, "EINVAL"),
        (WRITE, 0, b"", "EINVAL"),
        (WRITE, 0, b"data/x", "EINVAL"),
        (WRITE, 0, &long(3000), "EINVAL"),
        (MKDIR, 0, deep.as_bytes(), "EINVAL"),
        (WRITE, 0, &large, "ENOSPC"),
        (RM, 0, b"/\0", "EACCES"),
        (UNWATCH, 0, b"data\0token\0", "ENOENT"),
        (UNWATCH, 0, b"data\0", "EINVAL"),
        (WATCH, 0, b"data\0", "EINVAL"),
        (SET_PERMS, 0, b"data\0", "EINVAL"),
        (SET_PERMS, 0, b"data\0x1\0", "EINVAL"),
        (SET_PERMS, 0, b"data\0n99999999\0", "EINVAL"),
        (TRANSACTION_END, 0, b"T\0", "ENOENT"),
        (TRANSACTION_END, 7, b"T\0", "ENOENT"),
        (TRANSACTION_END, 0, b"X\0", "EINVAL"),
        (READ, 7, b"name\0", "ENOENT"),
        (READ, u32::MAX, b"name\0", "ENOENT"),
        (IS_DOMAIN_INTRODUCED, 0, b"x\0", "EACCES"),
        (READ, 0, b"/local/domain/0/name\0", "EACCES"),
        (DIRECTORY, 0, b"/local/domain\0", "EACCES"),
        (GET_PERMS, 0, b"/tool\0", "EACCES"),
        (WRITE, 0, b"/local/domain/1/data/x\0y", "EACCES"),
        (RM, 0, b"/local/domain/0/backend\0", "EACCES"),
        (SET_PERMS, 0, b"/local/domain/0\0b0\0", "EACCES"),
    ];
    for (kind, tx, body, error) in rows {
        expect(wire, kind, tx, body, error).await?;
    }
    sound(wire).await
}

/// How often something can be done before it is refused, at most 2000 times.
async fn flood(
    wire: &mut Wire,
    kind: u32,
    tx: u32,
    body: impl Fn(u32) -> Vec<u8>,
) -> Outcome<(u32, String)> {
    for count in 0..2000 {
        if let Err(error) = wire.ask(kind, tx, &body(count)).await? {
            return Ok((count, error));
        }
    }
    Err(format!("request {kind} has no end").into())
}

async fn nodes(wire: &mut Wire) -> Outcome {
    let body = |number| format!("data/many{number}\0x").into_bytes();
    let (count, error) = flood(wire, WRITE, 0, body).await?;
    // Of 1000 nodes or of a directory's 2048 bytes.
    same("the end of nodes in one place", &*error, "ENOSPC")?;
    for number in 0..count {
        let gone = wire.ask(RM, 0, format!("data/many{number}\0").as_bytes()).await?;
        ensure(gone.is_ok(), || format!("node {number} cannot be removed: {gone:?}"))?;
    }
    let body = |number| format!("data/{}/{number}\0x", number % 40).into_bytes();
    let (count, error) = flood(wire, WRITE, 0, body).await?;
    same("the end of nodes", &*error, "ENOSPC")?;
    ensure((500..1000).contains(&count), || format!("{count} nodes were too many"))?;
    for number in 0..40 {
        let gone = wire.ask(RM, 0, format!("data/{number}\0").as_bytes()).await?;
        ensure(gone.is_ok(), || format!("nodes {number} cannot be removed: {gone:?}"))?;
    }
    sound(wire).await
}

async fn watches(wire: &mut Wire) -> Outcome {
    let body = |number| format!("data\0token{number}\0").into_bytes();
    same("watches", flood(wire, WATCH, 0, body).await?, (129, "E2BIG".into()))?;
    expect(wire, WATCH, 0, b"data\0token5\0", "EEXIST").await?;
    // Each change is an event for each of them, none of which is taken meanwhile.
    let (before, many) = (wire.events, 300);
    for number in 0..many {
        let write = wire.message(WRITE, 0, format!("data/{}\0x", number % 50).as_bytes())?;
        if wire.put(&write)? < write.len() {
            // The rest is put when there is room.
            break;
        }
    }
    wire.reconnect().await?;
    sound(wire).await?;
    same("events behind a new start", wire.events - before, 0)?;
    let reset = wire.ask(RESET_WATCHES, 0, b"\0").await?;
    ensure(reset.is_ok(), || format!("watches are not reset: {reset:?}"))?;
    for number in 0..50 {
        let _may_not_be_there = wire.ask(RM, 0, format!("data/{number}\0").as_bytes()).await?;
    }
    Ok(())
}

async fn transactions(wire: &mut Wire) -> Outcome {
    let begun = flood(wire, TRANSACTION_START, 0, |_| b"\0".to_vec()).await?;
    same("transactions", begun, (11, "ENOSPC".into()))?;
    let body = |number: u32| format!("data/no{number}\0").into_bytes();
    let mut seen = 0;
    while let Err(error) = wire.ask(READ, 1, &body(seen)).await? {
        if error != "ENOENT" {
            same("the end of a transaction", &*error, "ENOSPC")?;
            break;
        }
        seen += 1;
    }
    ensure((900..=1024).contains(&seen), || format!("a transaction has looked at {seen} nodes"))?;
    expect(wire, TRANSACTION_END, 1, b"T\0", "ENOSPC").await?;
    for number in 2..=11 {
        let ended = wire.ask(TRANSACTION_END, number, b"F\0").await?;
        ensure(ended.is_ok(), || format!("transaction {number} does not end: {ended:?}"))?;
    }
    sound(wire).await
}

/// Asks and asks without taking answers; then takes them.
async fn silence(wire: &mut Wire) -> Outcome {
    let (first, mut asked) = (wire.last + 1, 0);
    let mut rest = Vec::new();
    // Until nothing is taken any more, which a bell that was heard without effect shows.
    while rest.is_empty() {
        let message = wire.message(READ, 0, b"name\0")?;
        asked += 1;
        let done = wire.put(&message)?;
        rest = message.get(done..).unwrap_or_default().to_vec();
        if asked > 500 {
            return Err("the store takes more and more".into());
        }
    }
    for number in 0..asked {
        if number > 0 && !rest.is_empty() {
            let done = wire.put(&rest)?;
            rest.drain(..done);
        }
        let (id, answer) = wire.answer().await?;
        same("the number of an answer that waited", id, first + number)?;
        ensure(answer.is_ok(), || format!("an answer that waited: {answer:?}"))?;
    }
    sound(wire).await
}

/// Sends a message byte by byte, and one in two halves.
async fn halves(wire: &mut Wire) -> Outcome {
    for step in [1, 5, 20] {
        let message = wire.message(READ, 0, b"name\0")?;
        for piece in message.chunks(step) {
            wire.put_all(piece).await?;
        }
        let (id, answer) = wire.answer().await?;
        same("the number of a message in pieces", id, wire.last)?;
        ensure(answer.is_ok(), || format!("a message in pieces: {answer:?}"))?;
    }
    Ok(())
}

/// Breaks the ring in each way, and begins again.
async fn broken(wire: &mut Wire) -> Outcome {
    for round in 0..20 {
        let rows: [(Word, u32, u32); 6] = [
            (Word::Asked, RING_SIZE + 1, 2),
            (Word::Asked, 1 << 31, 2),
            (Word::Asked, u32::MAX, 2),
            (Word::Read, 1, 2),
            (Word::Read, 1 << 31, 2),
            (Word::Read, 0_u32.wrapping_sub(RING_SIZE + 1), 2),
        ];
        for (word, step, error) in rows {
            wire.set(word, wire.get(word).wrapping_add(step));
            wire.ring()?;
            wire.until(|it| it.get(Word::Error) != 0).await;
            same("why the store gave up", wire.get(Word::Error), error)?;
            wire.reconnect().await?;
            same("the error behind a new start", wire.get(Word::Error), 0)?;
            sound(wire).await.map_err(|error| format!("round {round}: {word:?}: {error}"))?;
        }
        let mut long = wire.message(WRITE, 0, b"data/x\0")?;
        let length = PAYLOAD_MAX + 1 + round * 0x0100_0000;
        long.splice(12..16, length.to_le_bytes());
        wire.put_all(&long).await?;
        wire.until(|it| it.get(Word::Error) != 0).await;
        same("why the store gave up a long message", wire.get(Word::Error), 3)?;
        wire.reconnect().await?;
        sound(wire).await?;
    }
    Ok(())
}
