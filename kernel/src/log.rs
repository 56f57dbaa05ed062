//! The log and the one console it shares with the guests' output.
//!
//! Whatever reaches the console passes one lock, a whole line (or a whole piece of a guest's
//! output) at a time, so that no CPU's line is ever cut by another's. A panic waits a moment for
//! the lock and then writes without it: a late line is worth more than a tidy one.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use heapless::Deque;
use kernel_core::calls::mmu::GUEST;
use kernel_core::options::{LogLevel, Serial};
use spin::Mutex;

use crate::x86::uart::Uart;

static CONSOLE: Mutex<Console> = Mutex::new(Console {
    uart: Uart::absent(),
    kept: [0; KEPT as usize],
    end: 0,
    cleared: 0,
    typed: Deque::new(),
});
static PORT: AtomicU16 = AtomicU16::new(0);
static BAUD: AtomicU32 = AtomicU32::new(0);

/// Levels of the kernel's own lines, and of those about guests.
static LEVELS: Mutex<[log::LevelFilter; 2]> = Mutex::new([log::LevelFilter::Off; 2]);

/// Bytes of the log that are kept for whoever asks.
const KEPT: u32 = 16 * 1024;

/// Bytes that wait to be read; of more, the last are lost.
const TYPED: usize = 1024;
/// Bytes that are taken from the port at a time: as many as it holds.
const PIECE: usize = 16;

/// The serial port, and a ring of what went there last, without carriage returns.
struct Console {
    uart: Uart,
    kept: [u8; KEPT as usize],
    /// Bytes that were ever kept, and how many of them were cleared; modulo 2^32.
    end: u32,
    cleared: u32,
    /// What arrived and was not read yet.
    typed: Deque<u8, TYPED>,
}

impl Console {
    fn send(&mut self, bytes: &[u8]) {
        self.uart.send(bytes);
        for &byte in bytes.iter().filter(|&&byte| byte != b'\r') {
            self.kept[(self.end % KEPT) as usize] = byte;
            self.end = self.end.wrapping_add(1);
        }
    }

    /// Takes what the serial port has. The port is not read for ever, whatever it is.
    fn collect(&mut self) {
        for _ in 0..TYPED / PIECE {
            let mut piece = [0; PIECE];
            let count = self.uart.receive(&mut piece);
            for &byte in piece.iter().take(count) {
                let _ = self.typed.push_back(byte);
            }
            if count < PIECE {
                break;
            }
        }
    }

    fn line(&mut self, label: &str, message: fmt::Arguments<'_>) {
        line(&mut |bytes| self.send(bytes), label, message);
    }

    /// How many bytes from `from` on are still there.
    fn available(&self, from: u32) -> u32 {
        self.end.wrapping_sub(from).min(KEPT)
    }
}

/// How often a panic tries the lock before it goes on without.
const PANIC_TRIES: u32 = 1_000_000;

/// Opens the console and starts the `log` facade; a second call opens it elsewhere.
///
/// Without `serial`, what is printed is lost. Of the kernel's own lines those below `own` are dropped,
/// of those about what guests do (target [`GUEST`]) those below `guests`.
pub(crate) fn start(serial: Option<Serial>, own: LogLevel, guests: LogLevel) {
    let mut console = CONSOLE.lock();
    console.uart = serial.map_or(Uart::absent(), |Serial { port, baud }| {
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
    CONSOLE.lock().line("", message);
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
    let mut console = CONSOLE.lock();
    console.collect();
    let mut count = 0;
    for to in buffer {
        let Some(byte) = console.typed.pop_front() else { break };
        (*to, count) = (byte, count + 1);
    }
    count
}

/// Makes the serial port raise its interrupt when something is typed.
pub(crate) fn listen() {
    CONSOLE.lock().uart.listen();
}

/// The serial port's interrupt: takes what has arrived. Whether anything waits to be read.
pub(crate) fn arrived() -> bool {
    let mut console = CONSOLE.lock();
    console.collect();
    !console.typed.is_empty()
}

/// Copies from what was printed, from byte `from` of all, or from the first that is kept and not
/// cleared; how many bytes, and where to go on.
pub(crate) fn read(from: Option<u32>, into: &mut [u8]) -> (usize, u32) {
    let console = CONSOLE.lock();
    let first = console.end.wrapping_sub(console.available(console.cleared));
    // A place behind the end, or no longer kept, is none.
    let wanted =
        from.filter(|&from| console.end.wrapping_sub(from) <= console.end.wrapping_sub(first));
    let mut at = wanted.unwrap_or(first);
    let mut count = 0;
    for to in into {
        if at == console.end {
            break;
        }
        *to = console.kept[(at % KEPT) as usize];
        (at, count) = (at.wrapping_add(1), count + 1);
    }
    (count, at)
}

/// Reads that do not say where begin behind what has been printed so far.
pub(crate) fn clear() {
    let mut console = CONSOLE.lock();
    console.cleared = console.end;
}

/// Runs `body` with a printer of lines, at all costs: if another CPU (or this one, interrupted)
/// keeps the console's lock, without it.
pub(crate) fn emergency(body: impl FnOnce(&mut dyn FnMut(fmt::Arguments<'_>))) {
    for _ in 0..PANIC_TRIES {
        if let Some(mut console) = CONSOLE.try_lock() {
            return body(&mut |message| console.line("", message));
        }
        core::hint::spin_loop();
    }
    let mut uart = match PORT.load(Ordering::Relaxed) {
        0 => Uart::absent(),
        port => Uart::open(port, BAUD.load(Ordering::Relaxed)),
    };
    uart.send(b"\r\n");
    body(&mut |message| line(&mut |bytes| uart.send(bytes), "", message));
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
            CONSOLE.lock().line(label, *record.args());
        }
    }

    fn flush(&self) {}
}

/// Prints `message`, each of its lines behind the kernel's mark.
fn line(send: &mut dyn FnMut(&[u8]), label: &str, message: fmt::Arguments<'_>) {
    send(b"(PV) ");
    send(label.as_bytes());
    // The adapter's `write_str` never fails; a formatting trait that does loses the line's rest.
    let _ = Marked(send).write_fmt(message);
    send(b"\r\n");
}

/// Turns line feeds within a message into new marked lines.
struct Marked<'a>(&'a mut dyn FnMut(&[u8]));

impl Write for Marked<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut lines = text.split('\n');
        if let Some(first) = lines.next() {
            (self.0)(first.as_bytes());
        }
        for next in lines {
            (self.0)(b"\r\n(PV) ");
            (self.0)(next.as_bytes());
        }
        Ok(())
    }
}
