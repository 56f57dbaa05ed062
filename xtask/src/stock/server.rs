//! A server outside the machine, which its guests reach at the address of QEMU's user network.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use anyhow::{Context, Result};

/// Serves `bytes` to whoever asks for anything, until this program ends; the port.
///
/// # Errors
///
/// When there is no port to be had.
pub(super) fn start(bytes: Vec<u8>) -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port for a server")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away sees for itself that something is missing.
            let _gone = answer(stream, &bytes);
        }
    });
    Ok(port)
}

fn answer(stream: TcpStream, bytes: &[u8]) -> Result<()> {
    let mut request = BufReader::new(stream);
    let mut line = String::new();
    // An empty line ends it.
    while request.read_line(&mut line)? > 2 {
        line.clear();
    }
    let mut stream = request.into_inner();
    write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len())?;
    Ok(stream.write_all(bytes)?)
}
