//! A serial port, a 16550, by which lines go to and from the host.
//!
//! Nothing waits for the port: what is to be sent stays in a queue until the port's interrupt says that
//! it takes more, and what arrives stays in one until somebody reads. Both are bounded.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::cell::RefCell;

use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::signal::Signal;
use pv_guest_sdk::device::Registers;

/// What waits to be read at most; what comes then is lost. Unit: bytes.
const RECEIVED: usize = 256 << 10;
/// What waits to be sent at most. Unit: bytes.
const SENDING: usize = 64 << 10;
/// How much the port takes at once when it is empty. Unit: bytes.
const FIFO: usize = 16;
/// Rounds in which one interrupt is served at most.
const ROUNDS: usize = 1024;

/// Registers.
const DATA: u64 = 0;
const ENABLE: u64 = 1;
const IDENTIFY: u64 = 2;
const LINE_CONTROL: u64 = 3;
const MODEM_CONTROL: u64 = 4;
const LINE_STATUS: u64 = 5;
const SCRATCH: u64 = 7;

const ON_RECEIVED: u8 = 1;
const ON_EMPTY: u8 = 2;
const NO_INTERRUPT: u8 = 1;
const IS_RECEIVED: u8 = 1;
const IS_EMPTY: u8 = 1 << 5;

/// A port.
pub struct Serial<R> {
    registers: R,
    queues: RefCell<Queues>,
    arrived: Signal<NoopRawMutex, ()>,
    left: Signal<NoopRawMutex, ()>,
}

#[derive(Default)]
struct Queues {
    received: VecDeque<u8>,
    sending: VecDeque<u8>,
    /// The port is to tell when it is empty.
    wants_room: bool,
}

impl<R: Registers> Serial<R> {
    /// Programs the port for 115,200 bits per second, eight data bits, no parity. `None` if none is
    /// there.
    pub fn new(registers: R) -> Option<Self> {
        for probe in [0x5a, 0xa5] {
            registers.write8(SCRATCH, probe);
            if registers.read8(SCRATCH) != probe {
                return None;
            }
        }
        registers.write8(ENABLE, 0);
        // The divisor 1, then eight bits; queues on and empty, told from 8 bytes on.
        registers.write8(LINE_CONTROL, 0x80);
        registers.write8(DATA, 1);
        registers.write8(ENABLE, 0);
        registers.write8(LINE_CONTROL, 3);
        registers.write8(IDENTIFY, 0x87);
        // Ready, and the interrupt is let through.
        registers.write8(MODEM_CONTROL, 0x0b);
        registers.write8(ENABLE, ON_RECEIVED);
        let (arrived, left) = (Signal::new(), Signal::new());
        Some(Self { registers, queues: RefCell::default(), arrived, left })
    }

    /// Serves the port's interrupt. Whether there is more to do: then it is to be called again, as
    /// an interrupt that is on comes once.
    pub fn on_interrupt(&self) -> bool {
        for _ in 0..ROUNDS {
            self.exchange();
            if self.registers.read8(IDENTIFY) & NO_INTERRUPT != 0 {
                return false;
            }
        }
        true
    }

    fn exchange(&self) {
        let mut queues = self.queues.borrow_mut();
        let status = self.registers.read8(LINE_STATUS);
        if status & IS_RECEIVED != 0 {
            let byte = self.registers.read8(DATA);
            if queues.received.len() < RECEIVED {
                queues.received.push_back(byte);
            }
            self.arrived.signal(());
        }
        if status & IS_EMPTY != 0 && !queues.sending.is_empty() {
            let count = queues.sending.len().min(FIFO);
            let mut bytes = [0; FIFO];
            bytes.iter_mut().zip(queues.sending.drain(..count)).for_each(|(to, from)| *to = from);
            self.registers.write8s(DATA, bytes.get(..count).unwrap_or_default());
            self.left.signal(());
        }
        let more = if queues.sending.is_empty() { 0 } else { ON_EMPTY };
        // Each access costs as much as many bytes.
        if core::mem::replace(&mut queues.wants_room, more != 0) != (more != 0) {
            self.registers.write8(ENABLE, ON_RECEIVED | more);
        }
    }

    /// What has arrived, once something has. One may wait.
    pub async fn receive(&self) -> Vec<u8> {
        loop {
            let bytes: Vec<u8> = self.queues.borrow_mut().received.drain(..).collect();
            if !bytes.is_empty() {
                return bytes;
            }
            self.arrived.wait().await;
        }
    }

    /// Sends bytes; returns when all are in the queue. One may wait.
    pub async fn send(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = SENDING.saturating_sub(self.queues.borrow().sending.len());
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.queues.borrow_mut().sending.extend(now);
            bytes = later;
            // The port tells that it is empty once, and it may have been for long.
            self.exchange();
            if !bytes.is_empty() {
                self.left.wait().await;
            }
        }
    }

    /// Waits until everything was taken by the port. One may wait.
    pub async fn sent(&self) {
        while !self.queues.borrow().sending.is_empty() {
            self.left.wait().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::VecDeque;
    use alloc::vec::Vec;
    use core::cell::{Cell, RefCell};
    use core::future::Future;
    use core::pin::pin;
    use core::task::{Context, Poll, Waker};

    use pv_guest_sdk::device::Registers;

    use super::{RECEIVED, SENDING, Serial};

    /// A port with a peer.
    #[derive(Default)]
    struct Port {
        scratch: Cell<u8>,
        enabled: Cell<u8>,
        line: Cell<u8>,
        arriving: RefCell<VecDeque<u8>>,
        sent: RefCell<Vec<u8>>,
        /// Bytes until the port is full.
        room: Cell<usize>,
    }

    impl Registers for &Port {
        fn length(&self) -> u64 {
            8
        }
        fn read8(&self, offset: u64) -> u8 {
            match offset {
                0 => self.arriving.borrow_mut().pop_front().unwrap_or(0),
                2 => {
                    let received = !self.arriving.borrow().is_empty();
                    let is_on = self.enabled.get() & 2 != 0 && self.room.get() > 0;
                    u8::from(!received && !is_on)
                }
                5 => {
                    u8::from(!self.arriving.borrow().is_empty())
                        | u8::from(self.room.get() > 0) << 5
                }
                7 => self.scratch.get(),
                _ => 0,
            }
        }
        fn write8(&self, offset: u64, value: u8) {
            match offset {
                0 if self.line.get() & 0x80 != 0 => assert_eq!(value, 1, "the divisor"),
                0 => {
                    self.room.set(self.room.get().saturating_sub(1));
                    self.sent.borrow_mut().push(value);
                }
                1 => self.enabled.set(value),
                3 => self.line.set(value),
                7 => self.scratch.set(value),
                _ => {}
            }
        }
        fn read16(&self, _: u64) -> u16 {
            unreachable!("registers are bytes")
        }
        fn read32(&self, _: u64) -> u32 {
            unreachable!("registers are bytes")
        }
        fn write16(&self, _: u64, _: u16) {
            unreachable!("registers are bytes")
        }
        fn write32(&self, _: u64, _: u32) {
            unreachable!("registers are bytes")
        }
    }

    fn poll<F: Future>(future: F) -> Poll<F::Output> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn what_arrives_is_received_up_to_a_bound() {
        let port = Port::default();
        let serial = Serial::new(&port).unwrap();
        assert!(poll(serial.receive()).is_pending());
        port.arriving.borrow_mut().extend(b"hello");
        serial.on_interrupt();
        assert_eq!(poll(serial.receive()), Poll::Ready(b"hello".to_vec()));
        port.arriving.borrow_mut().extend(core::iter::repeat_n(b'x', RECEIVED + 5000));
        while !port.arriving.borrow().is_empty() {
            serial.on_interrupt();
        }
        assert_eq!(poll(serial.receive()), Poll::Ready(alloc::vec![b'x'; RECEIVED]));
    }

    #[test]
    fn a_port_that_takes_nothing_holds_nobody_but_the_sender() {
        let port = Port::default();
        let serial = Serial::new(&port).unwrap();
        let text = alloc::vec![b'y'; SENDING + 20];
        let mut send = pin!(serial.send(&text));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(send.as_mut().poll(&mut cx).is_pending());
        assert_eq!(port.enabled.get(), 3, "it waits for the port");
        port.room.set(usize::MAX);
        while serial.on_interrupt() {}
        assert!(send.as_mut().poll(&mut cx).is_ready());
        while serial.on_interrupt() {}
        assert!(poll(serial.sent()).is_ready());
        assert_eq!((&*port.sent.borrow(), port.enabled.get()), (&text, 1));
    }

    #[test]
    fn where_no_port_is_there_is_none() {
        struct Nothing;
        impl Registers for Nothing {
            fn length(&self) -> u64 {
                8
            }
            fn read8(&self, _: u64) -> u8 {
                0xff
            }
            fn read16(&self, _: u64) -> u16 {
                0xffff
            }
            fn read32(&self, _: u64) -> u32 {
                u32::MAX
            }
            fn write8(&self, _: u64, _: u8) {}
            fn write16(&self, _: u64, _: u16) {}
            fn write32(&self, _: u64, _: u32) {}
        }
        assert!(Serial::new(Nothing).is_none());
    }
}
