//! The emulator's decoders against iced-x86: what we recognise, iced recognises as the same
//! instruction with the same operands and length; what iced takes for one of ours, we do not miss.

use std::cell::Cell;

use crate::random::Random;
use crate::reference;
use iced_x86::Instruction as Iced;
use kernel_core::emulate::code::{CodeSize, Fetch, MAX_LENGTH, NoDecode};
use kernel_core::emulate::memory_operand::SegmentBases;
use kernel_core::emulate::register::Gpr;
use kernel_core::emulate::table_operation::{Operation, Repeated};
use kernel_core::emulate::table_write::{self, Faulting};
use kernel_core::emulate::width::Width;
use kernel_core::emulate::{privileged, soft_interrupt};
use kernel_core::regs::GuestRegs;

const SIZES: [CodeSize; 3] = [CodeSize::Bits64, CodeSize::Bits32, CodeSize::Bits16];
const RIP: u64 = 0x1000;
const FS: u64 = 0x7000_1230;
const GS: u64 = 0xffff_8880_0000_0000;

/// Bytes of an instruction; checks that they are asked for in order, and not beyond 15.
struct Bytes<'a> {
    bytes: &'a [u8],
    asked: Cell<u8>,
}

impl<'a> Bytes<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, asked: Cell::new(0) }
    }
}

impl Fetch for Bytes<'_> {
    fn byte(&self, offset: u8) -> Option<u8> {
        assert_eq!(offset, self.asked.get());
        assert!(offset < MAX_LENGTH);
        self.asked.set(offset + 1);
        self.bytes.get(usize::from(offset)).copied()
    }
}

/// What the sweep has seen, so that it can't pass by seeing nothing.
#[derive(Debug, Default)]
struct Seen {
    privileged: u64,
    interrupts: u64,
    writes: u64,
}

impl Seen {
    const fn total(&self) -> u64 {
        self.privileged + self.interrupts + self.writes
    }
}

/// Compares all decoders on these bytes, which must be at least 16.
fn compare(size: CodeSize, bytes: &[u8], regs: &GuestRegs, seen: &mut Seen) {
    let iced = reference::iced(size, bytes, RIP);
    let context = || format!("{size:?} {bytes:02x?}: {iced:?}");

    let source = Bytes::new(bytes);
    let ours = privileged::decode(size, &source).ok();
    let expected = iced.as_ref().and_then(reference::privileged);
    assert_eq!(ours, expected, "{}", context());
    if let Some(decoded) = ours {
        assert_eq!(decoded.length, source.asked.get(), "{}", context());
        seen.privileged += 1;
    }

    let ours = soft_interrupt::decode(size, &Bytes::new(bytes)).ok();
    let expected = iced.as_ref().and_then(reference::soft_interrupt);
    assert_eq!(ours.map(|int| int.vector), expected, "{}", context());
    if let Some(int) = ours {
        assert_eq!(Some(usize::from(int.length)), iced.map(|iced| iced.len()), "{}", context());
        assert_eq!(int.error_code(), u32::from(int.vector) << 3 | 2);
        seen.interrupts += 1;
    }
    seen.writes += compare_write(size, bytes, regs, iced.as_ref());
}

/// Compares what is said about a write to memory. 1 if it is one.
fn compare_write(size: CodeSize, bytes: &[u8], regs: &GuestRegs, iced: Option<&Iced>) -> u64 {
    let context = || format!("{size:?} {bytes:02x?}: {iced:?}");
    let bases = SegmentBases { fs: FS, gs: GS };
    let Some(theirs) = iced.and_then(|iced| reference::table_write(size, iced, regs, FS, GS))
    else {
        let at = Faulting { size, regs, bases, address: 0 };
        let ours = table_write::recognise(&at, &Bytes::new(bytes)).ok();
        assert_eq!(ours, None, "{}", context());
        return 0;
    };
    let decode = |address| {
        table_write::decode(&Faulting { size, regs, bases, address }, &Bytes::new(bytes)).ok()
    };
    let ours = decode(theirs.address);
    if !writes(theirs.operation, regs) || !theirs.width.is_aligned(theirs.address) {
        assert_eq!(ours, None, "{}", context());
        return 0;
    }
    let ours = ours.unwrap_or_else(|| panic!("missed {theirs:?}: {}", context()));
    assert_eq!((ours.address, ours.width), (theirs.address, theirs.width), "{}", context());
    let old = 0x8123_4567_89ab_cdef;
    assert_eq!(
        ours.operation.effect(ours.width, old & ours.width.mask(), regs.rflags),
        theirs.operation.effect(theirs.width, old & theirs.width.mask(), regs.rflags),
        "{}",
        context()
    );
    let mut after = *regs;
    let _ = ours.retire(&mut after, &ours.apply(old));
    let repeats = matches!(theirs.operation, Operation::StoreString(_, _, Repeated::Yes));
    assert!(after.rip == RIP + theirs.length || repeats && after.rip == RIP, "{}", context());
    assert_eq!(decode(theirs.address ^ 8), None, "another address: {}", context());
    1
}

/// Whether the instruction writes at all: a string instruction may have no elements left.
fn writes(operation: Operation, regs: &GuestRegs) -> bool {
    match operation {
        Operation::StoreString(_, address, Repeated::Yes) => regs.rcx & address.mask() != 0,
        _ => true,
    }
}

/// Registers that are likely to give aligned addresses.
fn registers(random: &mut Random) -> GuestRegs {
    let mut regs =
        GuestRegs { rip: RIP, rflags: random.next() & 0xcd5 | 0x202, ..Default::default() };
    for number in 0..16 {
        let value = random.next() & random.pick(&[u64::MAX, !7, !7, 0xffff_fff8, 0x7f, 0]);
        Gpr::new(number).write(&mut regs, Width::B8, value);
    }
    regs
}

const PREFIXES: [&[u8]; 32] = [
    &[],
    &[0x66],
    &[0x67],
    &[0xf0],
    &[0xf2],
    &[0xf3],
    &[0x64],
    &[0x65],
    &[0x2e],
    &[0x40],
    &[0x41],
    &[0x42],
    &[0x44],
    &[0x48],
    &[0x4f],
    &[0x66, 0x48],
    &[0x48, 0x66],
    &[0x67, 0x4d],
    &[0x66, 0x67],
    &[0xf0, 0x48],
    &[0xf0, 0x44],
    &[0x66, 0xf0],
    &[0xf3, 0x48],
    &[0xf3, 0x66],
    &[0xf2, 0x67],
    &[0xf2, 0xf3],
    &[0xf3, 0xf2],
    &[0xf2, 0xf0, 0x48],
    &[0x64, 0x3e],
    &[0x65, 0x64, 0x41],
    &[0x26, 0x36, 0x47],
    &[0x4c, 0x40],
];

/// Every opcode of one and two bytes behind every prefix of the list: those of our instructions
/// with every ModRM byte, others with a twentieth of them.
fn sweep(size: CodeSize, seed: u64) -> Seen {
    let mut random = Random::new(seed);
    let mut seen = Seen::default();
    for opcode in 0..512_u16 {
        let [escape, low] = opcode.to_be_bytes();
        let opcode: &[u8] = if escape == 0 { &[low] } else { &[0x0f, low] };
        let mut every = 13;
        for modrm in (0..=255_u8).chain(0..=255) {
            if modrm % every != 0 {
                continue;
            }
            let regs = registers(&mut random);
            let before = seen.total();
            for prefixes in PREFIXES {
                let mut bytes = [prefixes, opcode, &[modrm]].concat();
                bytes.resize_with(20, || random.byte() & random.pick(&[0xff, 0xf8, 0x0f]));
                compare(size, &bytes, &regs, &mut seen);
            }
            if seen.total() != before {
                every = 1;
            }
        }
    }
    seen
}

#[test]
fn opcodes_64() {
    let seen = sweep(CodeSize::Bits64, 1);
    assert!(
        seen.privileged > 10_000 && seen.interrupts > 1_000 && seen.writes > 50_000,
        "{seen:?}"
    );
}

#[test]
fn opcodes_32() {
    let seen = sweep(CodeSize::Bits32, 2);
    assert!(
        seen.privileged > 10_000 && seen.interrupts > 1_000 && seen.writes > 50_000,
        "{seen:?}"
    );
}

#[test]
fn opcodes_16() {
    let seen = sweep(CodeSize::Bits16, 3);
    assert!(seen.privileged > 10_000 && seen.interrupts > 1_000 && seen.writes > 2_000, "{seen:?}");
}

/// Bytes that are often prefixes and our opcodes, in any order and number.
#[test]
fn random_bytes() {
    const LIKELY: [u8; 40] = [
        0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x2e, 0x64, 0x65, 0x48, 0x41, 0x4c, 0x0f, 0x0f, 0x0f, 0x01,
        0x06, 0x09, 0x20, 0x22, 0x30, 0x32, 0xa2, 0xd1, 0xec, 0x6d, 0xfa, 0xcd, 0xce, 0xf1, 0x87,
        0x89, 0xc7, 0x21, 0x81, 0x83, 0xb3, 0xba, 0xb1, 0xc1, 0xab,
    ];
    let mut random = Random::new(4);
    let mut seen = Seen::default();
    for _ in 0..150_000 {
        let regs = registers(&mut random);
        let mut bytes = [0; 20];
        for byte in &mut bytes {
            let any = random.byte();
            *byte = random.pick(&LIKELY);
            if random.byte() < 0x30 {
                *byte = any;
            }
        }
        compare(random.pick(&SIZES), &bytes, &regs, &mut seen);
    }
    assert!(seen.privileged > 1_000 && seen.interrupts > 1_000 && seen.writes > 1_000, "{seen:?}");
}

/// An instruction of 15 bytes is one, of 16 not.
#[test]
fn at_most_fifteen_bytes() {
    let mut bytes = vec![0x66; 14];
    bytes.extend([0xfa, 0]);
    let decode = |bytes: &[u8]| privileged::decode(CodeSize::Bits64, &Bytes::new(bytes));
    assert_eq!(decode(&bytes).unwrap().length, 15);
    bytes.insert(0, 0x66);
    assert_eq!(decode(&bytes), Err(NoDecode::TooLong));
}

/// Where bytes end, the decoders say which byte they missed.
#[test]
fn unreadable_byte_is_named() {
    let regs = GuestRegs { rdi: 0x5000, ..Default::default() };
    let at = Faulting {
        size: CodeSize::Bits64,
        regs: &regs,
        bases: SegmentBases::default(),
        address: 0x5000,
    };
    let write = [0x48, 0x81, 0x27, 0, 0xf0, 0xff, 0xff];
    for length in 0..write.len() {
        let missing = NoDecode::Unreadable(u8::try_from(length).unwrap());
        assert_eq!(table_write::decode(&at, &Bytes::new(&write[..length])), Err(missing));
    }
    assert!(table_write::decode(&at, &Bytes::new(&write)).is_ok());
    let missing = privileged::decode(CodeSize::Bits64, &Bytes::new(&[0x0f]));
    assert_eq!(missing, Err(NoDecode::Unreadable(1)));
}
