//! Results and flags against the processor that runs the test: each instruction is executed on a
//! word of memory, with the same operands and flags.
#![allow(unsafe_code, reason = "executes the instructions under test")]

use std::arch::asm;

use kernel_core::emulate::code::CodeSize;
use kernel_core::emulate::memory_operand::SegmentBases;
use kernel_core::emulate::table_write::{self, Faulting};
use kernel_core::regs::GuestRegs;

use crate::random::Random;

/// CF, PF, AF, ZF, SF, OF.
const FLAGS: u64 = 0x8d5;

/// Registers and memory around an instruction: rax, rbx, rcx, rdx, flags, memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Machine {
    rax: u64,
    rbx: u64,
    rcx: u64,
    rdx: u64,
    rflags: u64,
    memory: u64,
}

/// Declares a function that executes an instruction with its memory operand at rdi.
macro_rules! on_processor {
    ($($name:ident: $instruction:literal,)*) => {
        $(
            fn $name(m: &mut Machine) {
                let mut memory = m.memory;
                let mut rbx = m.rbx;
                let mut rflags = m.rflags & FLAGS | 0x202;
                // SAFETY: the instruction accesses eight bytes at rdi, which is `memory`; rbx, which
                // the compiler keeps to itself, is swapped back; flags change only in the six
                // arithmetic ones.
                unsafe {
                    asm!(
                        "xchg {rbx}, rbx",
                        "push {rflags}",
                        "popfq",
                        $instruction,
                        "pushfq",
                        "pop {rflags}",
                        "xchg {rbx}, rbx",
                        rbx = inout(reg) rbx,
                        rflags = inout(reg) rflags,
                        in("rdi") &raw mut memory,
                        inout("rax") m.rax,
                        inout("rcx") m.rcx,
                        inout("rdx") m.rdx,
                    );
                }
                *m = Machine { rbx, memory, rflags: rflags & FLAGS, ..*m };
            }
        )*
    };
}

/// Declares the functions, and a table of them with the bytes of each instruction.
macro_rules! instructions {
    ($($name:ident: $instruction:literal = [$($byte:literal),*],)*) => {
        on_processor! { $($name: $instruction,)* }
        type Row = (&'static str, fn(&mut Machine), &'static [u8]);
        const TABLE: &[Row] = &[$(($instruction, $name, &[$($byte),*]),)*];
    };
}

instructions! {
    mov8: "mov byte ptr [rdi], bh" = [0x88, 0x3f],
    mov16: "mov word ptr [rdi], bx" = [0x66, 0x89, 0x1f],
    mov32: "mov dword ptr [rdi], ebx" = [0x89, 0x1f],
    mov64: "mov qword ptr [rdi], rbx" = [0x48, 0x89, 0x1f],
    mov_imm: "mov qword ptr [rdi], -2" = [0x48, 0xc7, 0x07, 0xfe, 0xff, 0xff, 0xff],
    movnti: "movnti qword ptr [rdi], rbx" = [0x48, 0x0f, 0xc3, 0x1f],
    xchg8: "xchg byte ptr [rdi], ah" = [0x86, 0x27],
    xchg16: "xchg word ptr [rdi], cx" = [0x66, 0x87, 0x0f],
    xchg32: "xchg dword ptr [rdi], ecx" = [0x87, 0x0f],
    xchg64: "xchg qword ptr [rdi], rdx" = [0x48, 0x87, 0x17],
    and8: "lock and byte ptr [rdi], bl" = [0xf0, 0x20, 0x1f],
    and64: "lock and qword ptr [rdi], rbx" = [0xf0, 0x48, 0x21, 0x1f],
    and_imm: "and byte ptr [rdi], 0xfd" = [0x80, 0x27, 0xfd],
    or16: "or word ptr [rdi], bx" = [0x66, 0x09, 0x1f],
    or64: "lock or qword ptr [rdi], 0x20" = [0xf0, 0x48, 0x83, 0x0f, 0x20],
    xor32: "xor dword ptr [rdi], ebx" = [0x31, 0x1f],
    xor64: "lock xor qword ptr [rdi], rbx" = [0xf0, 0x48, 0x31, 0x1f],
    add8: "add byte ptr [rdi], bl" = [0x00, 0x1f],
    add16: "add word ptr [rdi], bx" = [0x66, 0x01, 0x1f],
    add32: "add dword ptr [rdi], ebx" = [0x01, 0x1f],
    add64: "add qword ptr [rdi], rbx" = [0x48, 0x01, 0x1f],
    adc8: "adc byte ptr [rdi], bl" = [0x10, 0x1f],
    adc64: "adc qword ptr [rdi], rbx" = [0x48, 0x11, 0x1f],
    sub8: "sub byte ptr [rdi], bl" = [0x28, 0x1f],
    sub64: "sub qword ptr [rdi], rbx" = [0x48, 0x29, 0x1f],
    sbb16: "sbb word ptr [rdi], bx" = [0x66, 0x19, 0x1f],
    sbb64: "sbb qword ptr [rdi], rbx" = [0x48, 0x19, 0x1f],
    inc8: "inc byte ptr [rdi]" = [0xfe, 0x07],
    inc64: "inc qword ptr [rdi]" = [0x48, 0xff, 0x07],
    dec8: "dec byte ptr [rdi]" = [0xfe, 0x0f],
    dec32: "dec dword ptr [rdi]" = [0xff, 0x0f],
    not64: "not qword ptr [rdi]" = [0x48, 0xf7, 0x17],
    neg8: "neg byte ptr [rdi]" = [0xf6, 0x1f],
    neg64: "neg qword ptr [rdi]" = [0x48, 0xf7, 0x1f],
    bts: "lock bts qword ptr [rdi], 5" = [0xf0, 0x48, 0x0f, 0xba, 0x2f, 0x05],
    btr: "lock btr qword ptr [rdi], 1" = [0xf0, 0x48, 0x0f, 0xba, 0x37, 0x01],
    btc: "btc word ptr [rdi], 9" = [0x66, 0x0f, 0xba, 0x3f, 0x09],
    cmpxchg8: "lock cmpxchg byte ptr [rdi], bl" = [0xf0, 0x0f, 0xb0, 0x1f],
    cmpxchg16: "cmpxchg word ptr [rdi], bx" = [0x66, 0x0f, 0xb1, 0x1f],
    cmpxchg32: "lock cmpxchg dword ptr [rdi], ebx" = [0xf0, 0x0f, 0xb1, 0x1f],
    cmpxchg64: "lock cmpxchg qword ptr [rdi], rbx" = [0xf0, 0x48, 0x0f, 0xb1, 0x1f],
    cmpxchg8b: "lock cmpxchg8b qword ptr [rdi]" = [0xf0, 0x0f, 0xc7, 0x0f],
    xadd8: "xadd byte ptr [rdi], ch" = [0x0f, 0xc0, 0x2f],
    xadd32: "xadd dword ptr [rdi], ecx" = [0x0f, 0xc1, 0x0f],
    xadd64: "lock xadd qword ptr [rdi], rcx" = [0xf0, 0x48, 0x0f, 0xc1, 0x0f],
}

/// The same instruction by the emulator.
fn emulate(machine: Machine, bytes: &[u8]) -> Machine {
    let Machine { rax, rbx, rcx, rdx, rflags, memory } = machine;
    let mut regs = GuestRegs { rax, rbx, rcx, rdx, rflags, rdi: 0x7000, ..GuestRegs::default() };
    let at = Faulting {
        size: CodeSize::Bits64,
        regs: &regs,
        bases: SegmentBases::default(),
        address: 0x7000,
    };
    let source = |offset: u8| bytes.get(usize::from(offset)).copied();
    let write = table_write::decode(&at, &source).unwrap();
    let applied = write.apply(memory);
    let _ = write.retire(&mut regs, &applied);
    assert_eq!(regs.rip, u64::try_from(bytes.len()).unwrap());
    let GuestRegs { rax, rbx, rcx, rdx, rflags, .. } = regs;
    Machine { rax, rbx, rcx, rdx, rflags, memory: applied.new }
}

/// Operands near each other and near the edges, so that carries and equal operands are common.
fn operand(random: &mut Random) -> u64 {
    const EDGES: [u64; 10] =
        [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0x7fff_ffff, 0x8000_0000, u64::MAX];
    match random.byte() & 3 {
        0 => random.next(),
        1 => random.pick(&EDGES),
        2 => random.pick(&EDGES).wrapping_neg(),
        _ => 1 << (random.byte() & 63),
    }
}

#[test]
fn results_and_flags_are_the_processors() {
    let mut random = Random::new(5);
    for &(name, on_processor, bytes) in TABLE {
        for _ in 0..4_000 {
            let mut machine = Machine {
                rax: operand(&mut random),
                rbx: operand(&mut random),
                rcx: operand(&mut random),
                rdx: operand(&mut random),
                rflags: random.next() & FLAGS,
                memory: operand(&mut random),
            };
            if random.byte() & 1 == 0 {
                machine.memory = machine.rdx << 32 | machine.rax & 0xffff_ffff;
            }
            let ours = emulate(machine, bytes);
            let before = machine;
            on_processor(&mut machine);
            assert_eq!(ours, machine, "{name} on {before:x?}");
        }
    }
}
