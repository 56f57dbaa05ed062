//! A client of `httpd`, with sockets of the host.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

/// How long a server may take for a part of an answer: long, for a host that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// The SHA-256 of bytes, in hexadecimal digits.
pub(super) fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes that look random, and are the same each time.
pub(super) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

/// Connects to a port of the host that leads to a server, and asks; what is answered.
fn ask(port: u16, request: &str, body: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let length = body.len();
    write!(stream, "{request} HTTP/1.1\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
    stream.write_all(body)?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all)?;
    let end = all.windows(4).position(|four| four == b"\r\n\r\n");
    let body = all.split_off(end.context("the answer is no HTTP")? + 4);
    let head = String::from_utf8_lossy(&all);
    ensure!(head.starts_with("HTTP/1.1 200 "), "the answer is {head:?}");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
    ensure!(length == Some(body.len()), "{} bytes came, not {length:?}", body.len());
    Ok(body)
}

/// Gets a page.
///
/// # Errors
///
/// When it does not come as a whole.
pub(super) fn get(port: u16, path: &str) -> Result<Vec<u8>> {
    ask(port, &format!("GET {path}"), &[]).with_context(|| path.to_owned())
}

/// Gets so many bytes, and compares their sum.
///
/// # Errors
///
/// When others come.
pub(super) fn download(port: u16, count: usize) -> Result<()> {
    let got = get(port, &format!("/bytes/{count}"))?;
    ensure!(sum(&got) == sum(&vec![b'x'; count]), "of {count} bytes some are others");
    Ok(())
}

/// Sends so many bytes, and compares the sum that is answered.
///
/// # Errors
///
/// When the server got others.
pub(super) fn upload(port: u16, count: usize) -> Result<()> {
    let bytes = noise(count);
    let theirs = ask(port, "POST /sum", &bytes).context("/sum")?;
    ensure!(theirs == sum(&bytes).as_bytes(), "the server got other bytes than were sent");
    Ok(())
}
