//! Any bytes as instructions.

use core::arch::global_asm;

use super::memory::put_bytes;

// Everything callee-saved goes to the stack. The code ends with a jump to `__h_ran`, or traps.
global_asm!(
    ".pushsection .text.hostile, \"ax\", @progbits",
    ".globl __h_run",
    "__h_run:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "pushfq",
    "mov [rip + __h_rsp], rsp",
    "lea rax, [rip + 2f]",
    "mov [rip + __h_back], rax",
    "lea rax, [rip + 3f]",
    "mov [rip + __h_ran], rax",
    "mov [rip + __h_code], rdi",
    "mov rax, [rsi]",
    "mov rbx, [rsi + 8]",
    "mov rcx, [rsi + 16]",
    "mov rdx, [rsi + 24]",
    "mov rdi, [rsi + 40]",
    "mov rsi, [rsi + 32]",
    "jmp [rip + __h_code]",
    "2: mov eax, 1",
    "jmp 4f",
    "3: xor eax, eax",
    "4: mov rsp, [rip + __h_rsp]",
    "mov qword ptr [rip + __h_back], 0",
    "popfq",
    "cld",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    ".popsection",
    ".pushsection .bss.hostile, \"aw\", @nobits",
    ".balign 8",
    ".globl __h_ran",
    "__h_ran: .skip 8",
    "__h_code: .skip 8",
    ".popsection",
);

unsafe extern "C" {
    fn __h_run(code: u64, registers: *const [u64; 6]) -> u64;
    static __h_ran: u8;
}

/// The instruction that ends code: a jump to where `__h_ran` says, by its address as a displacement.
fn end() -> [u8; 7] {
    let address = (&raw const __h_ran).expose_provenance() as u64;
    let [a, b, c, d, ..] = address.to_le_bytes();
    [0xff, 0x24, 0x25, a, b, c, d]
}

/// Writes code to a page that is mapped for writing and executing, with its end behind it.
pub fn write(page: u64, code: &[u8]) {
    put_bytes(page, code);
    put_bytes(page + code.len() as u64, &end());
}

/// Executes code at an address, with rax, rbx, rcx, rdx, rsi, rdi. Whether it came to its end;
/// otherwise it trapped.
pub fn at(address: u64, registers: [u64; 6]) -> bool {
    // SAFETY: the routine keeps the calling convention whatever the code does to registers; what it
    // does to memory is harmless by this crate's rule.
    unsafe { __h_run(address, &raw const registers) == 0 }
}

/// Writes code to a page and executes it.
pub fn code(page: u64, bytes: &[u8], registers: [u64; 6]) -> bool {
    write(page, bytes);
    at(page, registers)
}
