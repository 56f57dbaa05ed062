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

/// An answer of which the rest is still to come.
pub(super) struct Answer {
    stream: TcpStream,
    head: String,
    body: Vec<u8>,
}

/// Connects to a port of the host that leads to a server.
///
/// # Errors
///
/// When nobody listens there.
pub(super) fn connect(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Connects, and asks; the beginning of the answer.
fn ask(port: u16, request: &str, body: &[u8]) -> Result<Answer> {
    ask_by(connect(port)?, request, body)
}

/// Asks by a connection; the beginning of the answer.
fn ask_by(mut stream: TcpStream, request: &str, body: &[u8]) -> Result<Answer> {
    let length = body.len();
    write!(stream, "{request} HTTP/1.1\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
    stream.write_all(body)?;
    let mut came = Vec::new();
    loop {
        if let Some(end) = came.windows(4).position(|four| four == b"\r\n\r\n") {
            let body = came.split_off(end + 4);
            let head = String::from_utf8_lossy(&came).into_owned();
            ensure!(head.starts_with("HTTP/1.1 200 "), "the answer is {head:?}");
            return Ok(Answer { stream, head, body });
        }
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece)?;
        ensure!(count > 0, "the answer is no HTTP");
        came.extend_from_slice(piece.get(..count).unwrap_or_default());
    }
}

impl Answer {
    /// What is answered, to its end.
    fn finish(mut self) -> Result<Vec<u8>> {
        self.stream.read_to_end(&mut self.body)?;
        let mut lines = self.head.lines();
        let length = lines.find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
        let count = self.body.len();
        ensure!(length == Some(count), "{count} bytes came, not {length:?}");
        Ok(self.body)
    }

    /// Compares the sum of so many bytes, which were asked for.
    ///
    /// # Errors
    ///
    /// When others come.
    pub(super) fn check(self, count: usize) -> Result<()> {
        let got = self.finish()?;
        ensure!(sum(&got) == sum(&vec![b'x'; count]), "of {count} bytes some are others");
        Ok(())
    }
}

/// Gets a page.
///
/// # Errors
///
/// When it does not come as a whole.
pub(super) fn get(port: u16, path: &str) -> Result<Vec<u8>> {
    ask(port, &format!("GET {path}"), &[])?.finish().with_context(|| path.to_owned())
}

/// Asks for so many bytes.
///
/// # Errors
///
/// When the server does not begin to answer.
pub(super) fn begin(port: u16, count: usize) -> Result<Answer> {
    ask(port, &format!("GET /bytes/{count}"), &[]).with_context(|| format!("/bytes/{count}"))
}

/// Gets bytes without end, or until somebody ends the connection.
///
/// # Errors
///
/// When that is so.
pub(super) fn drink(stream: TcpStream) -> Result<()> {
    ask_by(stream, "GET /bytes/10485760", &[])?.finish().map(drop)
}

/// Gets so many bytes, and compares their sum.
///
/// # Errors
///
/// When others come.
pub(super) fn download(port: u16, count: usize) -> Result<()> {
    begin(port, count)?.check(count)
}

/// Sends so many bytes, and compares the sum that is answered.
///
/// # Errors
///
/// When the server got others.
pub(super) fn upload(port: u16, count: usize) -> Result<()> {
    let bytes = noise(count);
    let theirs = ask(port, "POST /sum", &bytes)?.finish().context("/sum")?;
    ensure!(theirs == sum(&bytes).as_bytes(), "the server got other bytes than were sent");
    Ok(())
}
