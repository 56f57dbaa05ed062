//! The log and the one console it shares with the guests' output.
//!
//! Whatever reaches the console passes one lock, a whole line (or a whole piece of a guest's
//! output) at a time, so that no CPU's line is ever cut by another's. A panic waits a moment for
//! the lock and then writes without it: a late line is worth more than a tidy one.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use kernel_core::calls::mmu::GUEST;
use kernel_core::options::{LogLevel, Serial};
use spin::Mutex;

use crate::x86::uart::Uart;

static CONSOLE: Mutex<Uart> = Mutex::new(Uart::absent());
static PORT: AtomicU16 = AtomicU16::new(0);
static BAUD: AtomicU32 = AtomicU32::new(0);

/// Levels of the kernel's own lines, and of those about guests.
static LEVELS: Mutex<[log::LevelFilter; 2]> = Mutex::new([log::LevelFilter::Off; 2]);

/// How often a panic tries the lock before it goes on without.
const PANIC_TRIES: u32 = 1_000_000;

/// Opens the console and starts the `log` facade; a second call opens it elsewhere.
///
/// Without `serial`, what is printed is lost. Of the kernel's own lines those below `own` are dropped,
/// of those about what guests do (target [`GUEST`]) those below `guests`.
pub(crate) fn start(serial: Option<Serial>, own: LogLevel, guests: LogLevel) {
    let mut console = CONSOLE.lock();
    *console = serial.map_or(Uart::absent(), |Serial { port, baud }| {
        PORT.store(port, Ordering::Relaxed);
        BAUD.store(baud, Ordering::Relaxed);
        Uart::open(port, baud)
    });
    // Fails only when a logger is set already, which would be this one.
    let _ = log::set_logger(&Facade);
    let (own, guests) = (filter(own), filter(guests));
    *LEVELS.lock() = [own, guests];
    log::set_max_level(own.max(guests));
}

const fn filter(level: LogLevel) -> log::LevelFilter {
    match level {
        LogLevel::None => log::LevelFilter::Off,
        LogLevel::Error => log::LevelFilter::Error,
        LogLevel::Warning => log::LevelFilter::Warn,
        LogLevel::Info => log::LevelFilter::Info,
        LogLevel::Debug => log::LevelFilter::Debug,
        LogLevel::All => log::LevelFilter::Trace,
    }
}

/// Prints a line whatever the log level: refusals, the end of a guest, what an operator asked for.
pub(crate) fn always(message: fmt::Arguments<'_>) {
    line(&mut CONSOLE.lock(), "", message);
}

/// Sends a guest's output to the console as one piece, each line feed as CR LF.
pub(crate) fn guest_output(bytes: &[u8]) {
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
pub(crate) fn input(buffer: &mut [u8]) -> usize {
    CONSOLE.lock().receive(buffer)
}

/// Runs `body` with a printer of lines, at all costs: if another CPU (or this one, interrupted)
/// keeps the console's lock, without it.
pub(crate) fn emergency(body: impl FnOnce(&mut dyn FnMut(fmt::Arguments<'_>))) {
    for _ in 0..PANIC_TRIES {
        if let Some(mut console) = CONSOLE.try_lock() {
            return body(&mut |message| line(&mut console, "", message));
        }
        core::hint::spin_loop();
    }
    let mut console = match PORT.load(Ordering::Relaxed) {
        0 => Uart::absent(),
        port => Uart::open(port, BAUD.load(Ordering::Relaxed)),
    };
    console.send(b"\r\n");
    body(&mut |message| line(&mut console, "", message));
}

struct Facade;

impl log::Log for Facade {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        let [own, guests] = *LEVELS.lock();
        metadata.level() <= if metadata.target() == GUEST { guests } else { own }
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
