//! The first instructions of a guest, and the ELF notes that lead a loader to them.
//!
//! The loader enters with `rsi` = address of the start-of-day page and a stack of one page that
//! has the page tables directly below it, so the first thing is a stack of our own. `.bss` arrives
//! zeroed.

use core::arch::global_asm;

use super::gate::Machine;
use super::registers::EntryRegisters;
use crate::boot::BootInfo;
use crate::shutdown::{Reason, shutdown};

/// Size of the stack a guest starts on. Unit: bytes.
const STACK_SIZE: usize = 256 * 1024;

// Registers are saved first, in the order of `EntryRegisters`. The stack lies in `.pages`: page-aligned and not part of the file. A frame pointer of 0 ends
// backtraces; the `call` leaves the stack as a function expects it at entry (16n + 8).
global_asm!(
    ".pushsection .text.entry, \"ax\", @progbits",
    ".globl _start",
    ".type _start, @function",
    "_start:",
    "mov [rip + __entry_registers + 0], rax",
    "mov [rip + __entry_registers + 8], rcx",
    "mov [rip + __entry_registers + 16], rdx",
    "mov [rip + __entry_registers + 24], rbx",
    "mov [rip + __entry_registers + 32], rsp",
    "mov [rip + __entry_registers + 40], rbp",
    "mov [rip + __entry_registers + 48], rsi",
    "mov [rip + __entry_registers + 56], rdi",
    "mov [rip + __entry_registers + 64], r8",
    "mov [rip + __entry_registers + 72], r9",
    "mov [rip + __entry_registers + 80], r10",
    "mov [rip + __entry_registers + 88], r11",
    "mov [rip + __entry_registers + 96], r12",
    "mov [rip + __entry_registers + 104], r13",
    "mov [rip + __entry_registers + 112], r14",
    "mov [rip + __entry_registers + 120], r15",
    "lea rsp, [rip + __boot_stack_end]",
    "pushfq",
    "pop qword ptr [rip + __entry_registers + 128]",
    "mov eax, cs",
    "mov [rip + __entry_registers + 136], rax",
    "mov eax, ss",
    "mov [rip + __entry_registers + 144], rax",
    "mov eax, ds",
    "mov [rip + __entry_registers + 152], rax",
    "mov eax, es",
    "mov [rip + __entry_registers + 160], rax",
    "mov eax, fs",
    "mov [rip + __entry_registers + 168], rax",
    "mov eax, gs",
    "mov [rip + __entry_registers + 176], rax",
    "cld",
    "xor ebp, ebp",
    "mov rdi, rsi",
    "call {enter}",
    "ud2",
    ".popsection",
    ".pushsection .bss.entry, \"aw\", @nobits",
    ".balign 8",
    ".globl __entry_registers",
    "__entry_registers:",
    ".skip {registers}",
    ".popsection",
    ".pushsection .pages.stack, \"aw\", @nobits",
    ".balign 4096",
    ".globl __boot_guard",
    "__boot_guard:",
    ".skip 4096",
    ".globl __boot_stack",
    "__boot_stack:",
    ".skip {stack}",
    ".globl __boot_stack_end",
    "__boot_stack_end:",
    ".popsection",
    enter = sym enter,
    stack = const STACK_SIZE,
    registers = const size_of::<EntryRegisters>(),
);

// Notes: number, then value. FEATURES is empty (nothing is insisted on); SUPPORTED_FEATURES has
// bit 11, "may be the initial domain".
global_asm!(
    ".macro xen_note number:req, value:vararg",
    ".balign 4",
    ".long 4",
    ".long 9f - 8f",
    ".long \\number",
    ".asciz \"Xen\"",
    "8: \\value",
    "9: .balign 4",
    ".endm",
    ".pushsection .note.Xen, \"a\", @note",
    "xen_note 1, .quad __pv_entry",
    "xen_note 3, .quad 0xffffffff80000000",
    "xen_note 4, .quad 0",
    "xen_note 5, .asciz \"xen-3.0\"",
    "xen_note 6, .asciz \"Paravane SDK\"",
    "xen_note 8, .asciz \"generic\"",
    "xen_note 10, .asciz \"\"",
    "xen_note 17, .quad 0x800",
    ".popsection",
    ".purgem xen_note",
);

unsafe extern "Rust" {
    /// What `entry!` made of the guest's `main`.
    safe fn __pv_guest_main(boot: &BootInfo<'static>) -> !;
}

/// Continues in Rust on the guest's own stack.
extern "C" fn enter(start: u64) -> ! {
    // SAFETY: this runs once, first of all, with the address the loader passed.
    let boot = unsafe { super::boot::boot_info(start) };
    if let Err(error) = super::guard::unmap(&Machine) {
        crate::println!("warning: the stack's end is not guarded: {error}");
    }
    match boot {
        Ok(boot) => {
            super::console::find(&boot);
            __pv_guest_main(&boot)
        }
        Err(error) => {
            crate::println!("error: {error}");
            shutdown(Reason::Crash)
        }
    }
}
