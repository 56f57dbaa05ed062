#![expect(clippy::cast_possible_truncation, reason = "numbers in tests are small")]

use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};
use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use std::vec;
use std::vec::Vec;

use futures_util::future::join_all;

use super::super::queue::Places;
use super::super::queue::tests::Random;
use super::super::transport::VERSION_1;
use super::{Block, DiskError, Operation, QueueError, Transport, TransportError};
use crate::disk::Disk;
use crate::hw::model::{peek, poke};
use crate::hw::{Buffer, Piece};

/// What the device makes of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Manner {
    Right,
    Status(u8),
    /// It leaves the last byte of data out.
    Short,
    /// It says that it used another chain.
    Other(u32),
    /// It says that it wrote this much.
    Wrote(u32),
}

/// A block device in this process, which serves when it is told to.
pub(crate) struct Model {
    pub(crate) bytes: RefCell<Vec<u8>>,
    status: Cell<u8>,
    features: u64,
    places: Cell<Option<Places>>,
    size: u16,
    served: Cell<u16>,
    pub(crate) manner: Cell<Manner>,
    /// Kinds of the requests.
    pub(crate) log: RefCell<Vec<u32>>,
    is_stuck: Cell<bool>,
}

impl Model {
    fn new(features: u64) -> Rc<Self> {
        let bytes = (0..1_u32 << 20).map(|it| (it / 512 * 7 + it) as u8).collect();
        Rc::new(Self {
            bytes: RefCell::new(bytes),
            status: Cell::new(0),
            features: features | VERSION_1,
            places: Cell::new(None),
            size: 16,
            served: Cell::new(0),
            manner: Cell::new(Manner::Right),
            log: RefCell::default(),
            is_stuck: Cell::new(false),
        })
    }

    /// Serves a request, if there is one.
    pub(crate) fn serve(&self) -> bool {
        let Some(places) = self.places.get().filter(|_| self.status.get() & 4 != 0) else {
            return false;
        };
        let number = self.served.get();
        if u16::from_le_bytes(peek(places.driver + 2)) == number {
            return false;
        }
        self.served.set(number.wrapping_add(1));
        let place = u64::from(number % self.size);
        let head = u16::from_le_bytes(peek(places.driver + 4 + 2 * place));
        let (mut index, mut parts) = (head, Vec::new());
        loop {
            let bytes: [u8; 16] = peek(places.descriptors + 16 * u64::from(index));
            let flags = u16::from_le_bytes([bytes[12], bytes[13]]);
            let address = u64::from_le_bytes(bytes[..8].try_into().unwrap());
            parts.push((
                address,
                u32::from_le_bytes(bytes[8..12].try_into().unwrap()),
                flags & 2 != 0,
            ));
            if flags & 1 == 0 {
                break;
            }
            index = u16::from_le_bytes([bytes[14], bytes[15]]);
        }
        let wrote = self.carry_out(&parts);
        let (mut used, mut length) = (u32::from(head), wrote);
        match self.manner.get() {
            Manner::Other(other) => used = other,
            Manner::Wrote(other) => length = other,
            _ => {}
        }
        poke(places.device + 4 + 8 * place, &used.to_le_bytes());
        poke(places.device + 8 + 8 * place, &length.to_le_bytes());
        poke(places.device + 2, &number.wrapping_add(1).to_le_bytes());
        true
    }

    fn carry_out(&self, parts: &[(u64, u32, bool)]) -> u32 {
        let header: [u8; 16] = peek(parts[0].0);
        let kind = u32::from_le_bytes(header[..4].try_into().unwrap());
        let mut offset = 512 * u64::from_le_bytes(header[8..].try_into().unwrap()) as usize;
        self.log.borrow_mut().push(kind);
        let (status, data) = (parts.last().unwrap(), &parts[1..parts.len() - 1]);
        assert_eq!((parts[0].1, status.1, status.2), (16, 1, true));
        let mut wrote = 1;
        for &(address, length, writes) in data {
            assert_eq!(writes, kind == 0);
            let mut bytes = self.bytes.borrow_mut();
            let range = offset..offset + length as usize;
            match kind {
                0 => {
                    poke(address, &bytes[range]);
                    wrote += length;
                }
                1 => (0..length as usize).for_each(|it| {
                    [bytes[offset + it]] = peek(address + it as u64);
                }),
                _ => assert_eq!((kind, length), (11, 16)),
            }
            offset += length as usize;
        }
        let code = if let Manner::Status(code) = self.manner.get() { code } else { 0 };
        poke(status.0, &[code]);
        wrote - u32::from(self.manner.get() == Manner::Short)
    }
}

impl Transport for Rc<Model> {
    fn status(&self) -> u8 {
        self.status.get()
    }

    fn set_status(&self, status: u8) {
        if status == 0 && !self.is_stuck.get() {
            self.places.set(None);
        }
        if status != 0 || !self.is_stuck.get() {
            self.status.set(status);
        }
    }

    fn offered(&self) -> u64 {
        self.features
    }

    fn accept(&self, features: u64) {
        assert_eq!(features & !self.features, 0);
    }

    fn is_legacy(&self) -> bool {
        false
    }

    fn queue_size(&self, queue: u16) -> u16 {
        if queue == 0 { self.size } else { 0 }
    }

    fn set_queue(&self, _: u16, size: u16, places: Places) -> Result<(), TransportError> {
        assert_eq!(size, self.size);
        self.places.set(Some(places));
        Ok(())
    }

    fn notify(&self, _: u16) {}

    fn take_interrupt(&self) -> bool {
        true
    }

    fn config8(&self, _: u64) -> u8 {
        0
    }

    fn config32(&self, offset: u64) -> u32 {
        match offset {
            0 => (self.bytes.borrow().len() / 512) as u32,
            8 => 1024,
            12 => 3,
            36 => 4,
            _ => 0,
        }
    }

    fn generation(&self) -> u8 {
        0
    }
}

fn start(features: u64) -> (Rc<Model>, Rc<Block>, Disk) {
    let model = Model::new(features);
    let block = Rc::new(Block::start(Box::new(model.clone())).expect("a device"));
    (model, block.clone(), Disk::virtio(block))
}

/// A device that takes three pieces of 1024 bytes, and discards four sectors at once.
pub(crate) fn started() -> (Rc<Model>, Rc<Block>, Disk) {
    start(super::SIZE_MAX | super::SEG_MAX | super::DISCARD | super::FLUSH)
}

/// Runs a future, with the device serving one request whenever nothing else is to be done.
fn run<F: Future>(model: &Model, block: &Block, future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        assert!(model.serve(), "it waits for nothing");
        block.on_interrupt();
    }
}

fn piece(buffer: &Buffer, sector: u64, sectors: u32) -> Piece {
    buffer.piece(512 * sector, 512 * sectors).unwrap()
}

#[test]
fn requests_at_once_read_what_others_wrote() {
    // More than there are descriptors, and than there are slots.
    let (model, block, disk) = start(super::SIZE_MAX | super::SEG_MAX);
    let (from, to) = (Buffer::new(1 << 18, 0).unwrap(), Buffer::new(1 << 18, 0).unwrap());
    let mut random = Random(3);
    let words: Vec<u64> = (0..from.length() / 8).map(|_| random.below(u64::MAX)).collect();
    from.write(0, &words);
    let disk = &disk;
    let all = async |operation, buffer: &Buffer| {
        let requests = (0..100_u64).map(|it| async move {
            let list = [piece(buffer, 4 * it, 1), piece(buffer, 4 * it + 1, 3)];
            disk.transfer(operation, 1000 + 4 * it, &list).await
        });
        join_all(requests).await.into_iter().collect::<Result<(), _>>()
    };
    run(&model, &block, all(Operation::Write, &from)).unwrap();
    run(&model, &block, all(Operation::Read, &to)).unwrap();
    let mut read = vec![0; words.len()];
    to.read(0, &mut read);
    assert_eq!(read[..25_600], words[..25_600]);
    assert_eq!(read[25_600..], vec![0; words.len() - 25_600]);
}

#[test]
fn what_is_too_much_at_once_is_cut() {
    let (model, block, disk) =
        start(super::SIZE_MAX | super::SEG_MAX | super::DISCARD | super::FLUSH);
    let buffer = Buffer::new(1 << 14, 0).unwrap();
    // Seven pieces of at most 1024 bytes, three to a request.
    let list = [piece(&buffer, 0, 11), piece(&buffer, 11, 1)];
    run(&model, &block, disk.transfer(Operation::Read, 5, &list)).unwrap();
    assert_eq!(model.log.take(), [0, 0, 0]);
    let mut words = [0; 768];
    buffer.read(0, &mut words);
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    assert_eq!(bytes, model.bytes.borrow()[5 * 512..17 * 512]);
    run(&model, &block, disk.discard(0, 10)).unwrap();
    run(&model, &block, disk.flush()).unwrap();
    assert_eq!(model.log.take(), [11, 11, 11, 4]);
}

#[test]
fn errors_of_the_device_are_errors() {
    let (model, block, disk) = start(0);
    let buffer = Buffer::new(4096, 0).unwrap();
    let list = [piece(&buffer, 0, 1)];
    for (manner, error) in [
        (Manner::Status(1), DiskError::Failed),
        (Manner::Status(2), DiskError::Unsupported),
        (Manner::Status(255), DiskError::Status(255)),
        (Manner::Short, DiskError::Short(512)),
    ] {
        model.manner.set(manner);
        let done = run(&model, &block, disk.transfer(Operation::Read, 0, &list));
        assert_eq!(done, Err(error));
    }
    model.manner.set(Manner::Right);
    assert_eq!(run(&model, &block, disk.transfer(Operation::Read, 0, &list)), Ok(()));
    assert_eq!(run(&model, &block, disk.discard(0, 1)), Err(DiskError::Unsupported));
    assert_eq!(run(&model, &block, disk.flush()), Ok(()), "a device that keeps nothing back");
    let (model, block, disk) = start(super::READ_ONLY);
    let done = run(&model, &block, disk.transfer(Operation::Write, 0, &list));
    assert_eq!(done, Err(DiskError::ReadOnly));
}

#[test]
fn a_device_that_breaks_the_rules_is_stopped_and_all_that_waits_fails() {
    for (manner, error) in [
        (Manner::Other(7), QueueError::Chain(7)),
        (Manner::Other(u32::MAX), QueueError::Chain(u32::MAX)),
        (Manner::Wrote(514), QueueError::Length(514)),
    ] {
        let (model, block, disk) = start(0);
        model.manner.set(manner);
        model.is_stuck.set(manner == Manner::Other(7));
        let buffer = Buffer::new(4096, 0).unwrap();
        let requests = (0..8)
            .map(|_| async { disk.transfer(Operation::Read, 0, &[piece(&buffer, 0, 1)]).await });
        let done = run(&model, &block, join_all(requests));
        assert!(done.contains(&Err(DiskError::Queue(error))), "{done:?}");
        assert!(done.iter().all(Result::is_err), "{done:?}");
        let list = [piece(&buffer, 0, 1)];
        let after = run(&model, &block, disk.transfer(Operation::Read, 0, &list));
        assert_eq!(after, Err(DiskError::Broken));
        assert_eq!(model.places.get().is_none(), !model.is_stuck.get());
    }
}

#[test]
fn pieces_stay_until_the_device_is_done_whoever_goes_away() {
    let (model, block, disk) = start(0);
    let buffer = Buffer::new(4096, 0).unwrap();
    let list = [piece(&buffer, 0, 1)];
    {
        let mut request = pin!(disk.transfer(Operation::Read, 9, &list));
        assert!(request.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    drop(list);
    assert_eq!(buffer.holders(), 2, "the device has it");
    assert!(model.serve());
    block.on_interrupt();
    assert_eq!(buffer.holders(), 1);
    let mut word = [0];
    buffer.read(0, &mut word);
    assert_ne!(word, [0], "the device was told to, and did");
    // All slots and descriptors are free again.
    assert_eq!(block.state.borrow().free.len(), usize::from(super::SLOTS));
    assert_eq!(block.state.borrow().queue.room(), 16);
}
