//! Two guests that carry data to each other: one answers (`netpair serve ip=10.9.0.1/24`), the other
//! asks, checks what comes, and measures (`netpair peer=10.9.0.1 ip=10.9.0.2/24`).
//!
//! There are round trips of small messages, data both ways with hashes, both at once, and bare
//! transfers that are timed; `host=A.B.C.D` is pinged as the peer is, `mib=N` is how much is
//! transferred, `segments=off` has no packets that are still to be cut.
#![no_std]
#![no_main]

extern crate alloc;

#[path = "../network.rs"]
mod network;

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::pin::{Pin, pin};
use core::task::Poll;

use network::{Connection, Outcome, Stack, socket, stack};
use pv_guest_sdk::net::ConnectionError;
use pv_guest_sdk::net::smoltcp::phy::ChecksumCapabilities;
use pv_guest_sdk::net::smoltcp::socket::icmp::{self, Endpoint};
use pv_guest_sdk::net::smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, IpEndpoint, Ipv4Address};
use pv_guest_sdk::shutdown::{Reason, shutdown};
use pv_guest_sdk::start::Start;
use pv_guest_sdk::task::Executor;
use pv_guest_sdk::time::{Duration, Instant};
use pv_guest_sdk::{BootInfo, entry, println, vary};
use sha2::{Digest, Sha256};

pv_guest_sdk::heap!();
entry!(main);

/// Where the one that answers listens.
const PORT: u16 = 7000;
/// Connections that it has at a time.
const CONNECTIONS: usize = 4;
/// A socket's buffers. Unit: bytes.
const BUFFER: usize = 512 << 10;
/// How much is read or written at once. Unit: bytes.
const PIECE: usize = 32 << 10;
/// How much is checked by hashes. Unit: bytes.
const CHECKED: usize = 2 << 20;
/// Round trips of messages, and of pings.
const TRIPS: usize = 500;

/// What is asked of the one that answers: the first byte, before how many bytes it is about.
const TAKE: u8 = 1;
const GIVE: u8 = 2;
const ECHO: u8 = 3;
const END: u8 = 4;
/// Added: the bytes are hashed.
const HASHED: u8 = 0x10;

type Asked = (u8, usize);

fn main(boot: &BootInfo<'static>) -> Outcome {
    let start = Start::new(boot, 2)?;
    let stack = stack(&start, boot, CONNECTIONS + 2)?;
    let stack = &*Box::leak(stack);
    let executor = Box::new(Executor::<Box<dyn Future<Output = ()>>>::default());
    let mut tasks: Vec<Box<dyn Future<Output = ()>>> = Vec::new();
    tasks.push(Box::new(async {
        println!("{}", stack.run().await);
        shutdown(Reason::Crash);
    }));
    tasks.push(Box::new(async move {
        let told = start.told_to_end().await;
        shutdown(told.unwrap_or(Reason::Crash));
    }));
    let address = |name| boot.argument(name).map(str::parse::<Ipv4Address>).transpose();
    match address("peer")? {
        None => (0..CONNECTIONS).for_each(|_| tasks.push(Box::new(serve(stack)))),
        Some(peer) => {
            let host = address("host")?;
            let mib = boot.argument("mib").map_or(Ok(16), str::parse::<usize>)?;
            tasks.push(Box::new(async move {
                let done = ask(stack, peer, host, mib << 20).await;
                if let Err(error) = &done {
                    println!("netpair: {error}");
                }
                println!(
                    "ran for {}",
                    vary!("time", format_args!("{:?}", start.vcpu.runstate().running))
                );
                shutdown(if done.is_ok() { Reason::Poweroff } else { Reason::Crash });
            }));
        }
    }
    for task in tasks {
        executor.spawn(Box::into_pin(task)).map_err(|_| "too many tasks")?;
    }
    executor.run();
    Ok(())
}

/// The bytes that are sent, the same again and again.
fn pattern() -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..PIECE).map(|_| next()).collect()
}

/// Sends so many bytes, and then their hash if they are hashed.
async fn give(connection: &Connection<'_>, (kind, count): Asked) -> Result<(), ConnectionError> {
    let (piece, mut hash, mut left) = (pattern(), Sha256::new(), count);
    while left > 0 {
        let now = &piece[..left.min(PIECE)];
        if kind & HASHED != 0 {
            hash.update(now);
        }
        connection.write(now).await?;
        left -= now.len();
    }
    if kind & HASHED != 0 {
        connection.write(&hash.finalize()).await?;
    }
    Ok(())
}

/// Takes so many bytes, and says whether their hash, if they are hashed, is the one behind them.
async fn take(connection: &Connection<'_>, (kind, count): Asked) -> Result<bool, ConnectionError> {
    let (mut hash, mut left) = (Sha256::new(), count);
    while left > 0 {
        let read = connection.read_with(|bytes| {
            let ours = &bytes[..bytes.len().min(left)];
            if kind & HASHED != 0 {
                hash.update(ours);
            }
            (ours.len(), ours.len())
        });
        left -= read.await?.ok_or(ConnectionError::Reset)?;
    }
    if kind & HASHED == 0 {
        return Ok(true);
    }
    let mut theirs = [0; 32];
    Ok(exactly(connection, &mut theirs).await? && theirs == *hash.finalize())
}

/// Fills all of it, or says that the other end has ended before.
async fn exactly(connection: &Connection<'_>, into: &mut [u8]) -> Result<bool, ConnectionError> {
    let mut done = 0;
    while done < into.len() {
        match connection.read(&mut into[done..]).await? {
            0 => return Ok(false),
            count => done += count,
        }
    }
    Ok(true)
}

/// Answers, one connection after the other.
async fn serve(stack: &Stack) {
    let connection = stack.connection(socket(BUFFER, BUFFER));
    while connection.accept(PORT).await.is_ok() {
        match answer(&connection).await {
            Ok(()) => connection.close().await,
            Err(_) => connection.abort(),
        }
    }
}

/// Does what is asked on a connection.
async fn answer(connection: &Connection<'_>) -> Result<(), ConnectionError> {
    let mut asked = [0; 9];
    while exactly(connection, &mut asked).await? {
        let [kind, count @ ..] = asked;
        let asked = (kind, usize::try_from(u64::from_be_bytes(count)).unwrap_or(0));
        match kind & !HASHED {
            TAKE => {
                let right = take(connection, asked).await?;
                connection.write(&[u8::from(right)]).await?;
            }
            GIVE => give(connection, asked).await?,
            ECHO => {
                let mut bytes = vec![0; asked.1.min(PIECE)];
                if exactly(connection, &mut bytes).await? {
                    connection.write(&bytes).await?;
                }
            }
            END => {
                connection.write(&[1]).await?;
                connection.close().await;
                shutdown(Reason::Poweroff);
            }
            _ => return Err(ConnectionError::Invalid),
        }
    }
    Ok(())
}

/// Asks for something.
async fn request(connection: &Connection<'_>, (kind, count): Asked) -> Result<(), ConnectionError> {
    let mut bytes = [kind; 9];
    bytes[1..].copy_from_slice(&(count as u64).to_be_bytes());
    connection.write(&bytes).await
}

/// Sends so many bytes, which the other end has when this is done.
async fn upload(connection: &Connection<'_>, kind: u8, count: usize) -> Outcome {
    request(connection, (kind, count)).await?;
    give(connection, (kind, count)).await?;
    let mut right = [0];
    exactly(connection, &mut right).await?;
    if right == [1] { Ok(()) } else { Err("what was sent is not what came".into()) }
}

/// Has so many bytes sent.
async fn download(connection: &Connection<'_>, kind: u8, count: usize) -> Outcome {
    request(connection, (kind, count)).await?;
    let right = take(connection, (kind, count)).await?;
    if right { Ok(()) } else { Err("what came is not what was sent".into()) }
}

/// Asks for all there is, checks and measures it.
async fn ask(stack: &Stack, peer: Ipv4Address, host: Option<Ipv4Address>, count: usize) -> Outcome {
    stack.configured().await;
    let connections = [(); 2].map(|()| stack.connection(socket(BUFFER, BUFFER)));
    for connection in &connections {
        while connection.connect(IpEndpoint::new(peer.into(), PORT)).await.is_err() {
            // It is not there yet, or has no address.
            pv_guest_sdk::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let [one, other] = &connections;
    let mut pings = ping(stack);
    for (name, address) in [("peer", Some(peer)), ("host", host)] {
        if let Some(address) = address {
            let each = pings.trips(address).await?;
            println!("ping of the {name}: {} ns", vary!("time", each));
        }
    }
    let (start, bytes) = (Instant::now(), pattern());
    for number in 0..TRIPS {
        let message = &bytes[..1 + number % 200];
        request(one, (ECHO, message.len())).await?;
        one.write(message).await?;
        let mut back = vec![0; message.len()];
        if !exactly(one, &mut back).await? || back != message {
            return Err("a message came back as another one".into());
        }
    }
    let each = start.elapsed().as_nanos() / TRIPS as u128;
    println!("{TRIPS} messages there and back: {} ns each", vary!("time", each));
    upload(one, TAKE | HASHED, CHECKED).await?;
    download(one, GIVE | HASHED, CHECKED).await?;
    println!("{CHECKED} bytes each way with the right hashes");
    both(upload(one, TAKE | HASHED, CHECKED), download(other, GIVE | HASHED, CHECKED)).await?;
    println!("{CHECKED} bytes each way at once with the right hashes");
    for (name, upwards) in [("sent", true), ("received", false)] {
        let start = Instant::now();
        match upwards {
            true => upload(one, TAKE, count).await?,
            false => download(one, GIVE, count).await?,
        }
        let rate = 8000 * count as u128 / start.elapsed().as_nanos().max(1);
        println!("{count} bytes {name}: {} Mbit/s", vary!("rate", rate));
    }
    request(one, (END, 0)).await?;
    exactly(one, &mut [0]).await?;
    one.close().await;
    let (counts, wrong) = stack.counts();
    println!(
        "{wrong} packets with a wrong checksum, {} refused or faulty",
        counts.refused + counts.faulty
    );
    Ok(())
}

/// Completes when both do.
async fn both(one: impl Future<Output = Outcome>, other: impl Future<Output = Outcome>) -> Outcome {
    let (one, other) = (pin!(one), pin!(other));
    let mut futures: [Option<Pin<&mut dyn Future<Output = Outcome>>>; 2] = [Some(one), Some(other)];
    poll_fn(|context| {
        for slot in &mut futures {
            if let Some(future) = slot
                && let Poll::Ready(outcome) = future.as_mut().poll(context)
            {
                *slot = None;
                if outcome.is_err() {
                    return Poll::Ready(outcome);
                }
            }
        }
        if futures.iter().all(Option::is_none) { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

/// A socket of ICMP.
struct Pings<'s> {
    stack: &'s Stack,
    handle: pv_guest_sdk::net::smoltcp::iface::SocketHandle,
    number: u16,
}

/// A socket for pings.
fn ping(stack: &Stack) -> Pings<'_> {
    let buffer = || {
        icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 4].leak(), vec![0; 1024].leak())
    };
    let mut socket = icmp::Socket::new(buffer(), buffer());
    let _it_is_fresh = socket.bind(Endpoint::Ident(7));
    let handle = stack.with(|_, sockets| sockets.add(socket));
    Pings { stack, handle, number: 0 }
}

impl Pings<'_> {
    /// Pings an address again and again, and returns how long one takes. Unit: nanoseconds.
    async fn trips(&mut self, address: Ipv4Address) -> Outcome<u128> {
        // The first one finds out where that is.
        self.trip(address).await?;
        let start = Instant::now();
        for _ in 0..TRIPS {
            self.trip(address).await?;
        }
        Ok(start.elapsed().as_nanos() / TRIPS as u128)
    }

    async fn trip(&mut self, address: Ipv4Address) -> Outcome {
        self.number = self.number.wrapping_add(1);
        let echo = Icmpv4Repr::EchoRequest { ident: 7, seq_no: self.number, data: &[0x55; 56] };
        self.stack.with(|_, sockets| {
            let socket = sockets.get_mut::<icmp::Socket<'_>>(self.handle);
            let bytes = socket.send(echo.buffer_len(), address.into())?;
            echo.emit(&mut Icmpv4Packet::new_unchecked(bytes), &ChecksumCapabilities::default());
            Ok::<_, icmp::SendError>(())
        })?;
        poll_fn(|context| {
            self.stack.look(|sockets| {
                let socket = sockets.get_mut::<icmp::Socket<'_>>(self.handle);
                while let Ok((bytes, from)) = socket.recv() {
                    // Identifier and number.
                    let number = bytes.get(6..8).map(|it| [it[0], it[1]]);
                    if from == address.into() && number == Some(self.number.to_be_bytes()) {
                        return Poll::Ready(Ok(()));
                    }
                }
                socket.register_recv_waker(context.waker());
                Poll::Pending
            })
        })
        .await
    }
}
