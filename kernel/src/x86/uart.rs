//! The debug serial port: a 16550 behind x86 port I/O.

use uart_16550::backend::PioBackend;
use uart_16550::spec::registers::IER;
use uart_16550::{BaudRate, Config, Uart16550};

/// One serial port. Without hardware behind it, everything written is lost and nothing arrives.
pub(crate) struct Uart(Option<Uart16550<PioBackend>>);

impl Uart {
    /// A port that is not there.
    pub(crate) const fn absent() -> Self {
        Self(None)
    }

    /// Programs the UART at `port` for `baud` bits per second, eight data bits, no parity.
    ///
    /// Calling it twice for one port is harmless: the panic path does so when it cannot wait for
    /// the lock that holds the other value.
    pub(crate) fn open(port: u16, baud: u32) -> Self {
        // SAFETY: `port` names a PC serial port; the eight registers behind it are a UART's or
        // nothing, and no access to them can touch memory.
        let Ok(mut uart) = (unsafe { Uart16550::new_port(port) }) else {
            return Self::absent();
        };
        let config = Config { baud_rate: BaudRate::from_integer(baud), ..Config::DEFAULT };
        Self(uart.init(config).is_ok().then_some(uart))
    }

    /// Sends `bytes` as they are, waiting for room.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        if let Some(uart) = &mut self.0 {
            uart.send_bytes_exact(bytes);
        }
    }

    /// Makes the port raise its interrupt when something arrives.
    pub(crate) fn listen(&mut self) {
        if let Some(uart) = &mut self.0 {
            uart.enable_interrupts(IER::DATA_READY);
        }
    }

    /// Takes what has arrived, without waiting; the number of bytes put into `buffer`.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> usize {
        self.0.as_mut().map_or(0, |uart| uart.receive_bytes(buffer))
    }
}
