//! Writes to an entry, as measured on Xen 4.17 with a level-1 entry of a running guest: the entry's
//! new value, the registers and the flags.

use kernel_core::emulate::code::{CodeSize, NoDecode};
use kernel_core::emulate::execute::After;
use kernel_core::emulate::memory_operand::SegmentBases;
use kernel_core::emulate::table_write::{self, Faulting};
use kernel_core::regs::GuestRegs;

/// The entry's address, its value, and its value without RW.
const AT: u64 = 0x13_e8b8;
const OLD: u64 = 0x10_0000_1ed1_7067;
const READ_ONLY: u64 = OLD & !2;

/// Executes at an instruction pointer of 0, the destination in rdi. The entry's new value, and how
/// the guest continues.
fn write(size: CodeSize, regs: &mut GuestRegs, bytes: &[u8]) -> Result<(u64, After), NoDecode> {
    let source = |offset: u8| bytes.get(usize::from(offset)).copied();
    let at = Faulting { size, regs, bases: SegmentBases::default(), address: regs.rdi };
    let write = table_write::decode(&at, &source)?;
    assert_eq!(write.entry_address(), AT);
    let applied = write.apply(OLD);
    Ok((applied.new, write.retire(regs, &applied)))
}

/// The entry's new value and the registers, for a destination `offset` bytes into the entry.
fn at_offset(offset: u64, rax: u64, bytes: &[u8]) -> Option<(u64, GuestRegs)> {
    let mut regs = GuestRegs { rdi: AT + offset, rax, rflags: 0x202, ..GuestRegs::default() };
    let (new, after) = write(CodeSize::Bits64, &mut regs, bytes).ok()?;
    assert_eq!((after, regs.rip), (After::Continue, u64::try_from(bytes.len()).unwrap()));
    Some((new, regs))
}

#[test]
fn parts_of_an_entry() {
    let new = |offset, rax, bytes: &[u8]| at_offset(offset, rax, bytes).map(|(new, _)| new);
    assert_eq!(new(0, READ_ONLY, &[0x48, 0x89, 0x07]), Some(READ_ONLY));
    assert_eq!(new(0, READ_ONLY, &[0x89, 0x07]), Some(READ_ONLY));
    assert_eq!(new(0, READ_ONLY, &[0x66, 0x89, 0x07]), Some(READ_ONLY));
    assert_eq!(new(0, READ_ONLY, &[0x88, 0x07]), Some(READ_ONLY));
    assert_eq!(new(0, 0, &[0xc7, 0x07, 0, 0, 0, 0]), Some(0x10_0000_0000_0000));
    assert_eq!(new(0, 0, &[0x66, 0xc7, 0x07, 0, 0]), Some(0x10_0000_1ed1_0000));
    assert_eq!(new(0, 0, &[0xc6, 0x07, 0x65]), Some(READ_ONLY));
    assert_eq!(new(4, 0x8010_0000, &[0x89, 0x07]), Some(0x8010_0000_1ed1_7067));
    assert_eq!(new(6, 0x8000, &[0x66, 0x87, 0x07]), Some(0x8000_0000_1ed1_7067));
    assert_eq!(new(1, 0, &[0x88, 0x07]), Some(0x10_0000_1ed1_0067));
}

#[test]
fn unaligned_operands_are_refused() {
    for (offset, bytes) in [
        (1, &[0x48, 0x89, 0x07][..]),
        (4, &[0x48, 0x89, 0x07]),
        (1, &[0x66, 0x89, 0x07]),
        (6, &[0x89, 0x07]),
    ] {
        assert_eq!(at_offset(offset, 0, bytes), None, "{bytes:02x?}");
    }
}

/// What Linux uses to clear and to protect entries, and where else registers change.
#[test]
fn registers_and_flags() {
    let (new, regs) = at_offset(0, 0, &[0x48, 0x87, 0x07]).unwrap();
    assert_eq!((new, regs.rax, regs.rflags), (0, OLD, 0x202));
    let (new, regs) = at_offset(0, 0, &[0xf0, 0x80, 0x27, 0xfd]).unwrap();
    assert_eq!((new, regs.rflags), (READ_ONLY, 0x206));
    let (new, regs) = at_offset(0, 1, &[0xf0, 0x48, 0x0f, 0xb3, 0x07]).unwrap();
    assert_eq!((new, regs.rflags), (READ_ONLY, 0x203));
    let (new, regs) = at_offset(0, OLD ^ 1, &[0xf0, 0x48, 0x0f, 0xb1, 0x1f]).unwrap();
    assert_eq!((new, regs.rax, regs.rflags), (OLD, OLD, 0x297));
    let (new, regs) = at_offset(0, OLD, &[0xf0, 0x48, 0x0f, 0xb1, 0x1f]).unwrap();
    assert_eq!((new, regs.rax, regs.rflags), (0, OLD, 0x246));
    let (new, regs) = at_offset(0, 0x200, &[0xf0, 0x48, 0x0f, 0xc1, 0x07]).unwrap();
    assert_eq!((new, regs.rax), (OLD ^ 0x200, OLD));
}

/// A bit number beyond the operand moves the operand, in both directions.
#[test]
fn bit_strings() {
    for (number, operand_at) in [(-63_i64, -8_i64), (65, 8), (1, 0), (128 + 1, 16)] {
        let rdi = AT.wrapping_sub(operand_at.cast_unsigned());
        let regs = GuestRegs { rdi, rax: number.cast_unsigned(), ..GuestRegs::default() };
        let decode = |address| {
            let (size, bases) = (CodeSize::Bits64, SegmentBases::default());
            let bytes = [0x48, 0x0f, 0xb3, 0x07];
            let source = |offset: u8| bytes.get(usize::from(offset)).copied();
            table_write::decode(&Faulting { size, regs: &regs, bases, address }, &source)
        };
        assert_eq!(decode(AT).map(|write| write.apply(OLD).new), Ok(READ_ONLY), "bit {number}");
        assert_eq!(decode(AT + 8), Err(NoDecode::NotOurs));
    }
}

#[test]
fn string_stores_go_element_by_element() {
    let rep_stosq = [0xf3, 0x48, 0xab];
    let mut regs = GuestRegs { rdi: AT, rcx: 2, rflags: 0x202, ..GuestRegs::default() };
    assert_eq!(write(CodeSize::Bits64, &mut regs, &rep_stosq), Ok((0, After::Continue)));
    assert_eq!((regs.rip, regs.rdi, regs.rcx), (0, AT + 8, 1));
    let mut regs = GuestRegs { rdi: AT, rcx: 1, rflags: 0x602, ..GuestRegs::default() };
    assert_eq!(write(CodeSize::Bits64, &mut regs, &rep_stosq), Ok((0, After::Continue)));
    assert_eq!((regs.rip, regs.rdi, regs.rcx), (3, AT - 8, 0));
}

#[test]
fn single_steps() {
    let mut regs = GuestRegs { rdi: AT, rflags: 0x1_0302, ..GuestRegs::default() };
    let stepped = write(CodeSize::Bits64, &mut regs, &[0x48, 0x89, 0x07]);
    assert_eq!(stepped, Ok((0, After::DebugException(1 << 14))));
    assert_eq!((regs.rip, regs.rflags), (3, 0x302));
    let mut regs = GuestRegs { rdi: AT, rcx: 2, rflags: 0x302, ..GuestRegs::default() };
    let stepped = write(CodeSize::Bits64, &mut regs, &[0xf3, 0x48, 0xab]);
    assert_eq!(stepped, Ok((0, After::DebugException(1 << 14))));
    assert_eq!(regs.rip, 0);
}

#[test]
fn code_of_32_bits() {
    let mut regs = GuestRegs { rdi: AT, rax: READ_ONLY, rip: 0xffff_fffd, ..GuestRegs::default() };
    let written = write(CodeSize::Bits32, &mut regs, &[0x66, 0x87, 0x07]);
    assert_eq!(written, Ok((READ_ONLY, After::Continue)));
    assert_eq!((regs.rax, regs.rip), (READ_ONLY & !0xffff | OLD & 0xffff, 0));
}
