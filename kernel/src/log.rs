//! The log and the one console it shares with the guests' output.
//!
//! Whatever reaches the console passes one lock, a whole line (or a whole piece of a guest's
//! output) at a time, so that no CPU's line is ever cut by another's. A panic waits a moment for
//! the lock and then writes without it: a late line is worth more than a tidy one.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use spin::Mutex;

use crate::x86::uart::Uart;

static CONSOLE: Mutex<Uart> = Mutex::new(Uart::absent());
static PORT: AtomicU16 = AtomicU16::new(0);
static BAUD: AtomicU32 = AtomicU32::new(0);

/// How often a panic tries the lock before it goes on without.
const PANIC_TRIES: u32 = 1_000_000;

/// Opens the console on the serial port at I/O address `port` and starts the `log` facade.
///
/// Lines below `level` are dropped from now on.
pub fn start(port: u16, baud: u32, level: log::LevelFilter) {
    PORT.store(port, Ordering::Relaxed);
    BAUD.store(baud, Ordering::Relaxed);
    *CONSOLE.lock() = Uart::open(port, baud);
    // Fails only when a logger is set already, which would be this one.
    let _ = log::set_logger(&Facade);
    log::set_max_level(level);
}

/// Prints a line whatever the log level: refusals, the end of a guest, what an operator asked for.
pub fn always(message: fmt::Arguments<'_>) {
    line(&mut CONSOLE.lock(), "", message);
}

/// Sends a guest's output to the console as one piece, each line feed as CR LF.
pub fn guest_output(bytes: &[u8]) {
    let mut console = CONSOLE.lock();
    for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
        match piece.split_last() {
            Some((b'\n', text)) => {
                console.send(text);
                console.send(b"\r\n");
            }
            _ => console.send(piece),
        }
    }
}

/// Takes what was typed on the console, without waiting; the number of bytes put into `buffer`.
pub fn input(buffer: &mut [u8]) -> usize {
    CONSOLE.lock().receive(buffer)
}

/// Runs `body` with a printer of lines, at all costs: if another CPU (or this one, interrupted)
/// keeps the console's lock, without it.
pub fn emergency(body: impl FnOnce(&mut dyn FnMut(fmt::Arguments<'_>))) {
    for _ in 0..PANIC_TRIES {
        if let Some(mut console) = CONSOLE.try_lock() {
            return body(&mut |message| line(&mut console, "", message));
        }
        core::hint::spin_loop();
    }
    let mut console = Uart::open(PORT.load(Ordering::Relaxed), BAUD.load(Ordering::Relaxed));
    console.send(b"\r\n");
    body(&mut |message| line(&mut console, "", message));
}

struct Facade;

impl log::Log for Facade {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let label = match record.level() {
                log::Level::Error => "error: ",
                log::Level::Warn => "warning: ",
                log::Level::Info | log::Level::Debug | log::Level::Trace => "",
            };
            line(&mut CONSOLE.lock(), label, *record.args());
        }
    }

    fn flush(&self) {}
}

/// Prints `message`, each of its lines behind the kernel's mark.
fn line(console: &mut Uart, label: &str, message: fmt::Arguments<'_>) {
    console.send(b"(PV) ");
    console.send(label.as_bytes());
    // The adapter's `write_str` never fails; a formatting trait that does loses the line's rest.
    let _ = Marked(console).write_fmt(message);
    console.send(b"\r\n");
}

/// Turns line feeds within a message into new marked lines.
struct Marked<'a>(&'a mut Uart);

impl Write for Marked<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut lines = text.split('\n');
        if let Some(first) = lines.next() {
            self.0.send(first.as_bytes());
        }
        for next in lines {
            self.0.send(b"\r\n(PV) ");
            self.0.send(next.as_bytes());
        }
        Ok(())
    }
}
