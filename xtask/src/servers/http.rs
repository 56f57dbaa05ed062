//! A visit to `httpd`.

use std::io::{Read, Write};

use anyhow::{Context, Result, ensure};

use super::drive::{Visit, sum};

/// Bytes of the large page.
pub(super) const LARGE: usize = 1_000_000;

/// Fetches pages, and compares them, their sums and what the server has counted.
pub(super) fn visit(visit: &Visit<'_>) -> Result<()> {
    let start = page(visit, "/")?;
    ensure!(start.starts_with(b"Paravane\n"), "/ is {:?}", String::from_utf8_lossy(&start));
    let about = page(visit, "/about")?;
    ensure!(about.starts_with(b"A guest of a PV hypervisor"), "/about says something else");
    let large = page(visit, &format!("/bytes/{LARGE}"))?;
    let wanted = sum(&[b'x'; LARGE]);
    ensure!(sum(&large) == wanted, "the large page should have the sum {wanted}");
    ensure!(answer(visit, "/nothing")?.0 == 404, "/nothing is there");
    statistics(visit, 5)
}

/// Looks whether it began anew, and shows the same.
pub(super) fn again(visit: &Visit<'_>) -> Result<()> {
    let start = page(visit, "/")?;
    ensure!(start.starts_with(b"Paravane\n"), "/ is {:?}", String::from_utf8_lossy(&start));
    statistics(visit, 2)
}

/// Fetches a page that has to be there.
fn page(visit: &Visit<'_>, path: &str) -> Result<Vec<u8>> {
    let (status, body) = answer(visit, path)?;
    ensure!(status == 200, "{path}: the status is {status}");
    visit.say(format!("{path}: {} bytes, SHA-256 {}", body.len(), sum(&body)));
    Ok(body)
}

/// Checks that the server has counted so many requests, this one too.
fn statistics(visit: &Visit<'_>, requests: u32) -> Result<()> {
    let page = page(visit, "/stats")?;
    let text = String::from_utf8_lossy(&page);
    text.lines().for_each(|line| visit.say(format!("    {line}")));
    let line = format!("requests: {requests}");
    ensure!(text.lines().any(|it| it == line), "the statistics should say `{line}`:\n{text}");
    Ok(())
}

/// What is answered to a request: the status and the body.
fn answer(visit: &Visit<'_>, path: &str) -> Result<(u16, Vec<u8>)> {
    let mut stream = visit.connect()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).with_context(|| format!("{path}: no whole answer"))?;
    let end = all.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.with_context(|| format!("{path}: the answer is no HTTP"))?;
    let body = all.split_off(end + 4);
    let head = String::from_utf8_lossy(&all);
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
    ensure!(length == Some(body.len()), "{path}: {} bytes came, not {length:?}", body.len());
    Ok((status.context("the answer has no status")?, body))
}
