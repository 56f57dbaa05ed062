//! Serves a few pages over HTTP on port 80, until the domain is told to end.
//!
//! `/` and `/about` are text, `/stats` says what this guest has done and used, `/bytes/N` are N bytes,
//! `/disk` is the SHA-256 of what its disk begins with, if it has one, and what is posted to `/sum` is
//! answered with its SHA-256.
//! Its address is DHCP's, or `ip=A.B.C.D/N gw=A.B.C.D` on the command line.
#![no_std]
#![no_main]

extern crate alloc;

#[path = "../network.rs"]
mod network;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;

use network::{Connection, Outcome, Stack, socket, stack};
use pv_guest_sdk::block::{self, Disk};
use pv_guest_sdk::grant::Grants;
use pv_guest_sdk::net::ConnectionError;
use pv_guest_sdk::shutdown::{Reason, shutdown};
use pv_guest_sdk::start::Start;
use pv_guest_sdk::task::{Executor, block_on};
use pv_guest_sdk::time::{Duration, Instant};
use pv_guest_sdk::vcpu::Vcpu;
use pv_guest_sdk::{BootInfo, entry, println, vary};
use sha2::{Digest, Sha256};

pv_guest_sdk::heap!();
entry!(main);

/// Connections at a time, with those that wait for their turn.
const CONNECTIONS: usize = 60;
/// The longest head of a request. Unit: bytes.
const HEAD: usize = 4096;
/// How much of a disk is looked at. Unit: bytes.
const LOOKED_AT: usize = 256 << 10;
/// The most of `/bytes`.
const MOST: usize = 64 << 20;

/// What all connections use.
struct Server<'s> {
    stack: &'s Stack,
    vcpu: &'static Vcpu,
    start: Instant,
    pages: u64,
    requests: Cell<u64>,
    disk: Option<Disk<'static, Grants>>,
}

fn main(boot: &BootInfo<'static>) -> Outcome {
    let start = Start::new(boot, 2)?;
    let stack = stack(&start, boot, CONNECTIONS + 2)?;
    let disk = match start.first("vbd") {
        Ok(device) => {
            let open = Disk::open(device, start.grants, block::Options::default());
            Some(block_on(Box::pin(open))?)
        }
        Err(_) => None,
    };
    let server = Server {
        disk,
        stack: &stack,
        vcpu: start.vcpu,
        start: Instant::now(),
        pages: boot.pages(),
        requests: Cell::new(0),
    };
    let server = &server;
    let executor = Box::new(Executor::<Box<dyn Future<Output = ()> + '_>>::default());
    let mut tasks: Vec<Box<dyn Future<Output = ()> + '_>> = Vec::new();
    tasks.push(Box::new(async {
        println!("{}", server.stack.run().await);
        shutdown(Reason::Crash);
    }));
    tasks.push(Box::new(async {
        let address = server.stack.configured().await;
        println!("serving at {}", vary!("address", address));
    }));
    tasks.push(Box::new(async move {
        let told = start.told_to_end().await;
        println!("{} requests", vary!("count", server.requests.get()));
        shutdown(told.unwrap_or(Reason::Crash));
    }));
    for _ in 0..CONNECTIONS {
        tasks.push(Box::new(serve(server)));
    }
    for task in tasks {
        executor.spawn(Box::into_pin(task)).map_err(|_| "too many tasks")?;
    }
    executor.run();
    Ok(())
}

/// One connection after the other.
async fn serve(server: &Server<'_>) {
    let connection = server.stack.connection(socket(16 << 10, 16 << 10));
    connection.keep_alive(Duration::from_secs(10), Duration::from_secs(30));
    while connection.accept(80).await.is_ok() {
        match exchange(server, &connection).await {
            Ok(()) => connection.close().await,
            Err(ConnectionError::Reset | ConnectionError::Invalid) => connection.abort(),
        }
    }
}

/// Answers the requests of a connection.
async fn exchange(server: &Server<'_>, connection: &Connection<'_>) -> Result<(), ConnectionError> {
    let mut head = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            let mut bytes = [0; 512];
            let count = connection.read(&mut bytes).await?;
            if count == 0 {
                return Ok(());
            }
            if head.len() + count > HEAD {
                let too_long = response(431, "the request's head is too long\n".into(), false);
                return connection.write(&too_long).await;
            }
            head.extend_from_slice(&bytes[..count]);
        };
        server.requests.set(server.requests.get() + 1);
        let request = String::from_utf8_lossy(&head[..end]).into_owned();
        head.drain(..end);
        if !answer(server, connection, &request, &mut head).await? {
            return Ok(());
        }
    }
}

/// Answers a request, behind whose head some bytes may have come already, and says whether there may
/// be another.
async fn answer(
    server: &Server<'_>,
    connection: &Connection<'_>,
    request: &str,
    behind: &mut Vec<u8>,
) -> Result<bool, ConnectionError> {
    let mut words = request.lines().next().unwrap_or_default().split(' ');
    let (method, path, version) = (words.next(), words.next(), words.next());
    let closes = request.lines().any(|line| {
        let line = line.to_ascii_lowercase();
        line.strip_prefix("connection:").is_some_and(|value| value.trim() == "close")
    });
    let stays = version == Some("HTTP/1.1") && !closes;
    let (Some(method), Some(path), Some("HTTP/1.0" | "HTTP/1.1")) = (method, path, version) else {
        connection.write(&response(400, "this is no request of HTTP/1.1\n".into(), false)).await?;
        return Ok(false);
    };
    if let ("POST", "/sum", Some(length)) = (method, path, length(request)) {
        let sum = sum(connection, behind, length).await?;
        connection.write(&response(200, sum, stays)).await?;
        return Ok(stays);
    }
    if !matches!(method, "GET" | "HEAD") {
        // A body that may follow is not read.
        connection.write(&response(405, "there are GET and HEAD\n".into(), false)).await?;
        return Ok(false);
    }
    let count = path.strip_prefix("/bytes/").and_then(|count| count.parse::<usize>().ok());
    if let Some(count) = count.filter(|&count| count <= MOST) {
        connection.write(head(200, count, stays).as_bytes()).await?;
        let piece = [b'x'; 4096];
        let mut left = if method == "HEAD" { 0 } else { count };
        while left > 0 {
            let now = left.min(piece.len());
            connection.write(&piece[..now]).await?;
            left -= now;
        }
        return Ok(stays);
    }
    let (status, text) = match path {
        "/" => (200, "Paravane\n\n/about\n/stats\n/bytes/1000000\n".into()),
        "/about" => (200, "A guest of a PV hypervisor, in Rust.\n".into()),
        "/stats" => (200, server.statistics()),
        "/disk" => match server.beginning().await {
            Some(sum) => (200, sum),
            None => (404, "there is no disk that can be read\n".into()),
        },
        _ => (404, format!("there is no {path} here\n")),
    };
    let mut bytes = response(status, text, stays);
    if method == "HEAD" {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(0);
        bytes.truncate(end + 4);
    }
    connection.write(&bytes).await?;
    Ok(stays)
}

/// How long the body of a request is.
fn length(request: &str) -> Option<usize> {
    request.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    })
}

/// The SHA-256 of a body of so many bytes, of which some may have come already.
async fn sum(
    connection: &Connection<'_>,
    behind: &mut Vec<u8>,
    length: usize,
) -> Result<String, ConnectionError> {
    let mut hash = Sha256::new();
    let came: Vec<u8> = behind.drain(..behind.len().min(length)).collect();
    hash.update(&came);
    let mut left = length - came.len();
    while left > 0 {
        let read = connection.read_with(|bytes| {
            let ours = &bytes[..bytes.len().min(left)];
            hash.update(ours);
            (ours.len(), ours.len())
        });
        left -= read.await?.ok_or(ConnectionError::Reset)?;
    }
    Ok(digits(hash))
}

fn digits(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn head(status: u16, length: usize, stays: bool) -> String {
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        _ => "Request Header Fields Too Large",
    };
    let connection = if stays { "keep-alive" } else { "close" };
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {length}\r\nConnection: {connection}\r\n\r\n"
    )
}

fn response(status: u16, text: String, stays: bool) -> Vec<u8> {
    (head(status, text.len(), stays) + &text).into_bytes()
}

impl Server<'_> {
    /// The SHA-256 of what the disk begins with.
    async fn beginning(&self) -> Option<String> {
        let mut bytes = vec![0; LOOKED_AT];
        self.disk.as_ref()?.read(0, &mut bytes).await.ok()?;
        let mut hash = Sha256::new();
        hash.update(&bytes);
        Some(digits(hash))
    }

    fn statistics(&self) -> String {
        let (counts, wrong) = self.stack.counts();
        let times = self.vcpu.runstate();
        format!(
            "uptime: {:?}\nmemory: {} pages\nrequests: {}\n\
             sent: {} packets, {} bytes, {} refused\n\
             received: {} packets, {} bytes, {} faulty, {wrong} with a wrong checksum\n\
             ran: {:?}\nstolen: {:?}\nidle: {:?}\n",
            self.start.elapsed(),
            self.pages,
            self.requests.get(),
            counts.sent,
            counts.sent_bytes,
            counts.refused,
            counts.received,
            counts.received_bytes,
            counts.faulty,
            times.running,
            times.runnable,
            times.blocked,
        )
    }
}
