//! The operator at the host: lines of JSON by the second serial port (`toolstack::operator::request`).
//!
//! One request is served at a time, in order. `console` is one that lasts: what the domain says comes
//! as lines `{"id":1,"text":"..."}`, what `input` requests say goes to domains meanwhile as ever, and
//! any other request ends it. So does it end `dump-core` without a partition, by which a core comes in
//! pieces `{"id":1,"at":0,"lz4":"..."}`: where in the file, and its bytes, packed, in base64. Pieces of
//! zeros do not come, but for a sign of life without bytes now and then.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use devices::hw::serial_port;
use devices::serial::Serial;
use embassy_futures::select::{Either, Either3, select, select3};
use pv_guest_sdk::device::physdev::Source;
use pv_guest_sdk::device::{DeviceError, Interrupt, Ports};
use serde_json::{Value, json};
use toolstack::core_file::Sink;
use toolstack::operator::request::{Frames, Request, answer};
use toolstack::operator::{show, verbs};

use super::Operator;
use super::verbs::with;
use crate::dump;

/// Where the second serial port is.
const PORT: u16 = 0x2f8;
/// Its interrupt.
const LINE: u32 = 3;
/// Where in a core zeros are told of, so that the host sees that it goes on. Unit: bytes.
const SIGN: u64 = 4 << 20;
/// How much of a long line is queued before others run. Unit: bytes.
const PIECE: usize = 4096;

/// The port and its interrupt.
pub(super) struct Port {
    serial: Serial<Ports>,
    interrupt: Interrupt,
}

/// Takes the port; `None` if there is none.
///
/// # Errors
/// If the hypervisor keeps the port or its interrupt.
pub(super) fn open() -> Result<Option<Port>, DeviceError> {
    let Some(serial) = Serial::new(serial_port(PORT)?) else { return Ok(None) };
    Ok(Some(Port { serial, interrupt: Interrupt::new(Source::Legacy(LINE))? }))
}

/// Serves requests for ever, or until the machine is to be powered off.
pub(super) async fn serve(operator: &Operator, port: Port) {
    let requests = async {
        let mut lines = Input { port: &port, frames: Frames::default(), bytes: Vec::new() };
        loop {
            let line = lines.next().await;
            obey(operator, &mut lines, &line).await;
            if operator.done.is_up() {
                port.serial.sent().await;
                return operator.world.finish();
            }
        }
    };
    let interrupts = async {
        loop {
            while port.serial.on_interrupt() {
                embassy_futures::yield_now().await;
            }
            if let Err(error) = port.interrupt.end() {
                let lost = format_args!("the control channel is lost: {error}");
                operator.world.screen.line(lost);
                return;
            }
            port.interrupt.notified().await;
        }
    };
    select(requests, async {
        interrupts.await;
        core::future::pending::<()>().await;
    })
    .await;
}

/// Requests, line by line.
struct Input<'a> {
    port: &'a Port,
    frames: Frames,
    /// What was received and not looked at yet, the next last.
    bytes: Vec<u8>,
}

impl Input<'_> {
    /// The next line; one that is too long is answered.
    async fn next(&mut self) -> Vec<u8> {
        loop {
            while let Some(byte) = self.bytes.pop() {
                match self.frames.feed(byte) {
                    Ok(Some(line)) => return line,
                    Ok(None) => {}
                    Err(answer) => self.say(&answer).await,
                }
            }
            self.bytes = self.port.serial.receive().await;
            self.bytes.reverse();
        }
    }

    /// Sends a line.
    async fn say(&self, line: &str) {
        say(self.port, line).await;
    }
}

async fn say(port: &Port, line: &str) {
    for piece in line.as_bytes().chunks(PIECE) {
        port.serial.send(piece).await;
        embassy_futures::yield_now().await;
    }
}

/// Does what a line says, and answers.
async fn obey(operator: &Operator, lines: &mut Input<'_>, line: &[u8]) {
    let mut next = Some(line.to_vec());
    while let Some(line) = next.take() {
        let request = match Request::parse(&line) {
            Ok(request) => request,
            Err(answer) => return lines.say(&answer).await,
        };
        if request.verb == "console" {
            next = console(operator, lines, &request).await;
            continue;
        }
        if request.verb == "dump-core" && request.args.len() == 1 {
            next = dump_core(operator, lines, &request).await;
            continue;
        }
        let result = operator.perform(&request.verb, &request.args).await;
        let result = result.map(|value| {
            if request.text { Value::from(show::text(&request.verb, &value)) } else { value }
        });
        lines.say(&answer(&request.id, &result)).await;
    }
}

/// Sends a domain's core, until it is whole or there is another request, which is returned.
async fn dump_core(
    operator: &Operator,
    lines: &mut Input<'_>,
    request: &Request,
) -> Option<Vec<u8>> {
    let name = request.args.first().map_or("", |name| name);
    let guest = operator.world.guest(name);
    let mut core = Core { port: lines.port, id: &request.id, at: 0, sent: 0 };
    let dumped = async { dump::dump(&operator.world, guest?.as_ref(), &mut core).await };
    let (result, next) = match select(lines.next(), dumped).await {
        Either::First(line) => (Err("another request has ended it".into()), Some(line)),
        Either::Second(result) => (result, None),
    };
    if next.is_some() {
        // A piece may have been cut off.
        lines.say("\n").await;
    }
    let result = result.map(|value| {
        if request.text {
            return Value::from(show::text(&request.verb, &value));
        }
        // By that the host knows that none was lost.
        with(value, "sent", core.sent)
    });
    lines.say(&answer(&request.id, &result)).await;
    next
}

/// A core that goes to the host.
struct Core<'a> {
    port: &'a Port,
    id: &'a Value,
    at: u64,
    /// Pieces.
    sent: u64,
}

impl Sink for Core<'_> {
    async fn begin(&mut self, _length: u64) -> Result<(), String> {
        // The host knows when it writes.
        Ok(())
    }

    async fn put(&mut self, piece: &[u8]) -> Result<(), String> {
        if piece.iter().any(|byte| *byte != 0) {
            let packed = BASE64_STANDARD.encode(lz4_flex::compress_prepend_size(piece));
            let line = json!({ "id": self.id, "at": self.at, "lz4": packed });
            say(self.port, &format!("{line}\n")).await;
            self.sent += 1;
        } else if self.at.is_multiple_of(SIGN) {
            say(self.port, &format!("{}\n", json!({ "id": self.id, "at": self.at }))).await;
        }
        self.at += piece.len() as u64;
        Ok(())
    }
}

/// Sends what a domain says, until it is gone or there is another request, which is returned.
async fn console(operator: &Operator, lines: &mut Input<'_>, request: &Request) -> Option<Vec<u8>> {
    let found = verbs::find("console", request.args.len());
    let name = request.args.first().map_or("", |name| name);
    let guest = match found.and_then(|_| operator.world.guest(name)) {
        Ok(guest) => guest,
        Err(error) => {
            lines.say(&answer(&request.id, &Err(error))).await;
            return None;
        }
    };
    let console = &guest.console;
    let (mut from, id) = (0, &request.id);
    loop {
        let (said, next) = console.said(from, PIECE);
        from = next;
        if !said.is_empty() {
            let text = String::from_utf8_lossy(&said);
            let line = json!({ "id": id, "text": text });
            lines.say(&(format!("{line}\n"))).await;
        }
        let more = console.end() > from;
        let waiting = async {
            if !more {
                console.beyond(from).await;
            }
        };
        match select3(lines.next(), waiting, guest.gone.raised()).await {
            Either3::First(line) => match input(operator, &line).await {
                Either::First(answer) => lines.say(&answer).await,
                Either::Second(()) => {
                    lines.say(&answer(id, &Ok(json!({ "next": from })))).await;
                    return Some(line);
                }
            },
            Either3::Second(()) => {}
            Either3::Third(()) if console.end() > from => {}
            Either3::Third(()) => {
                lines.say(&answer(id, &Ok(json!({ "next": from, "gone": true })))).await;
                return None;
            }
        }
    }
}

/// Serves a request that may come while a console is attached; it is no other one.
async fn input(operator: &Operator, line: &[u8]) -> Either<String, ()> {
    match Request::parse(line) {
        Ok(request) if request.verb == "input" => {
            let result = operator.perform(&request.verb, &request.args).await;
            Either::First(answer(&request.id, &result))
        }
        Ok(_) => Either::Second(()),
        Err(answer) => Either::First(answer),
    }
}
