//! The registers a guest started with, as its first instructions saved them, and the counter.

use core::arch::asm;

/// The registers at the guest's first instruction.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{raw::registers::{EntryRegisters, at_entry}, println};
/// # fn example() {
/// let EntryRegisters { rsi, rsp, .. } = at_entry();
/// println!("start info at {rsi:#x}, stack at {rsp:#x}");
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
#[expect(missing_docs, reason = "the names of registers")]
pub struct EntryRegisters {
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rbx: u64,
    pub rsp: u64,
    pub rbp: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rflags: u64,
    pub cs: u64,
    pub ss: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
}

unsafe extern "C" {
    static __entry_registers: EntryRegisters;
}

/// The registers at the guest's first instruction.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{raw::registers, println};
/// # fn example() {
/// println!("{:#x}", registers::at_entry().rflags);
/// # }
/// ```
#[must_use]
pub fn at_entry() -> EntryRegisters {
    // SAFETY: written by the first instructions of the program only, before any Rust code; plain
    // integers.
    unsafe { __entry_registers }
}

/// The processor's counter, behind all instructions before this.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{raw::registers, println};
/// # fn example() {
/// let before = registers::counter();
/// println!("it took {} counts", registers::counter() - before);
/// # }
/// ```
#[must_use]
pub fn counter() -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: reads a register, which kernel mode may, by itself or through the hypervisor.
    unsafe {
        asm!("lfence", "rdtsc", out("rax") low, out("rdx") high,
            options(nomem, nostack, preserves_flags));
    }
    high << 32 | low
}
