//! `console_io`: what is written, what is read, and every kind of bad buffer.

use crate::call::{CONSOLE_IO, EFAULT, ENOSYS, hypercall};
use crate::case::{Case, Outcome, case, equal, equal_at};
use crate::raw::memory::{ARENA, arena_address, fill_arena, get, poke, put};
use crate::tables::{M2P, mapped_end};

const WRITE: u64 = 0;
const READ: u64 = 1;

pub(crate) const CASES: &[Case] = &[
    case("console/write", "A write answers 0, not the number of bytes.", |_| {
        put(0, b"# a line\n");
        equal("answer", hypercall(CONSOLE_IO, &[WRITE, 9, arena_address()]), 0)
    }),
    case("console/write_nothing", "A write of no bytes answers 0.", |_| {
        equal("answer", hypercall(CONSOLE_IO, &[WRITE, 0, arena_address()]), 0)
    }),
    case("console/write_nothing_nowhere", "A write of no bytes ignores its pointer.", |_| {
        for pointer in [0, 0x1000, M2P, u64::MAX] {
            let answer = hypercall(CONSOLE_IO, &[WRITE, 0, pointer]);
            equal_at("answer for", pointer, answer, 0)?;
        }
        Ok(())
    }),
    case("console/write_unmapped", "A write from unmapped memory answers -EFAULT.", |_| {
        refused(0x1000, 1)
    }),
    case("console/write_null", "A write from null answers -EFAULT.", |_| refused(0, 1)),
    case("console/write_hypervisor", "A write from the hypervisor answers -EFAULT.", |_| {
        refused(0xffff_8300_0000_0000, 1)
    }),
    case("console/write_m2p", "A write from the hypervisor's readable part is refused.", |_| {
        refused(M2P, 8)
    }),
    case("console/write_non_canonical", "A write from no address answers -EFAULT.", |_| {
        refused(0x8000_0000_0000, 1)
    }),
    case("console/write_wrapping", "A write that wraps around answers -EFAULT.", |_| {
        refused(u64::MAX - 3, 8)
    }),
    case("console/write_huge", "A write of the most bytes there can be answers -EFAULT.", |_| {
        for count in [0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
            refused(0x1000, count)?;
        }
        Ok(())
    }),
    case("console/write_straddling", "A write that runs into unmapped memory is refused.", |t| {
        let end = mapped_end(t.boot);
        poke(end - 8, u64::from_le_bytes(*b"# edge \n"));
        refused(end - 8, 9)
    }),
    case("console/write_up_to_edge", "A write up to the last mapped byte answers 0.", |t| {
        let end = mapped_end(t.boot);
        poke(end - 8, u64::from_le_bytes(*b"# edge \n"));
        equal("answer", hypercall(CONSOLE_IO, &[WRITE, 8, end - 8]), 0)
    }),
    case("console/write_long", "A write of more bytes than the hypervisor copies at once.", |_| {
        fill_arena(b'.');
        put(0, b"# ");
        put(1023, b"\n");
        equal("answer", hypercall(CONSOLE_IO, &[WRITE, 1024, arena_address()]), 0)
    }),
    case("console/write_binary", "Any bytes may be written.", |_| {
        put(0, b"# \x01\x7f\x80\xff\n");
        equal("answer", hypercall(CONSOLE_IO, &[WRITE, 7, arena_address()]), 0)
    }),
    case("console/write_zero_byte", "A zero among the bytes is no error.", |_| {
        put(0, b"# a\0b\n");
        equal("answer", hypercall(CONSOLE_IO, &[WRITE, 6, arena_address()]), 0)
    }),
    case("console/read_nothing", "With nothing typed a read answers 0.", |_| {
        equal("answer", hypercall(CONSOLE_IO, &[READ, 64, arena_address()]), 0)
    }),
    case("console/read_writes_nothing", "With nothing typed a read writes nothing.", |_| {
        fill_arena(0xaa);
        equal("answer", hypercall(CONSOLE_IO, &[READ, ARENA as u64, arena_address()]), 0)?;
        equal("first byte", get::<1>(0)[0], 0xaa)
    }),
    case("console/read_no_room", "A read of no bytes answers 0.", |_| {
        equal("answer", hypercall(CONSOLE_IO, &[READ, 0, arena_address()]), 0)
    }),
    case("console/read_nowhere", "With nothing typed a read ignores its pointer.", |_| {
        for pointer in [0, 0x1000, M2P, u64::MAX] {
            let answer = hypercall(CONSOLE_IO, &[READ, 64, pointer]);
            equal_at("answer for", pointer, answer, 0)?;
        }
        Ok(())
    }),
    case(
        "console/read_huge",
        "A read of 2 GiB or more is refused: its answer has no sign.",
        |_| {
            equal("2 GiB", hypercall(CONSOLE_IO, &[READ, 0x8000_0000, arena_address()]), -7)?;
            equal("4 GiB", hypercall(CONSOLE_IO, &[READ, 0xffff_ffff, arena_address()]), -7)
        },
    ),
    case("console/read_most", "A read of one byte less than 2 GiB is taken.", |_| {
        equal("answer", hypercall(CONSOLE_IO, &[READ, 0x7fff_ffff, arena_address()]), 0)
    }),
    case("console/unknown", "Unknown commands answer -ENOSYS.", |_| {
        for command in [2, 3, 255, 1 << 31, 0xffff_ffff] {
            let answer = hypercall(CONSOLE_IO, &[command, 1, arena_address()]);
            equal_at("answer of", command, answer, ENOSYS)?;
        }
        Ok(())
    }),
    case("console/unknown_first", "An unknown command is refused before its buffer is.", |_| {
        equal("answer", hypercall(CONSOLE_IO, &[2, 1, 0x1000]), ENOSYS)
    }),
];

fn refused(pointer: u64, count: u64) -> Outcome {
    equal_at("answer for", count, hypercall(CONSOLE_IO, &[WRITE, count, pointer]), EFAULT)
}
