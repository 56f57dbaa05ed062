//! Into user mode and back: a call that returns when user mode traps.
//!
//! The caller's registers are pushed, the place below them becomes the stack on which the
//! hypervisor enters from user mode, and the user's registers are loaded like those of an
//! interrupted program. The entry code then finds a frame of user mode exactly below that place,
//! copies it back and returns to the caller.

use core::arch::{asm, global_asm};

use hypercall_abi::call::Hypercall;
use hypercall_abi::layout::{FLAT_KERNEL_SS, FLAT_USER_CS, FLAT_USER_SS};

use crate::trap::TrapFrame;

global_asm!(
    ".pushsection .text.user, \"ax\", @progbits",
    ".globl __pv_user_enter",
    "__pv_user_enter:",
    "push rbp",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "push rdi",
    "cmp gs:[8], rsp",
    "je 2f",
    "mov gs:[8], rsp",
    "mov rbx, rdi",
    "mov edi, {ss}",
    "mov rsi, rsp",
    "mov eax, {stack_switch}",
    "syscall",
    "mov rdi, rbx",
    "2:",
    "mov rsi, rdi",
    "sub rsp, 8 * {words}",
    "mov rdi, rsp",
    "mov ecx, {words}",
    "rep movsq",
    // By the hypercall.
    "xor eax, eax",
    "jmp __pv_trap_return",
    ".globl __pv_user_left",
    "__pv_user_left:",
    "mov rsi, rsp",
    "mov rdi, [rsp + 8 * {words}]",
    "mov ecx, {words}",
    "rep movsq",
    "add rsp, 8 * {words} + 8",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
    "ret",
    ".popsection",
    ss = const FLAT_KERNEL_SS,
    stack_switch = const Hypercall::StackSwitch.number(),
    words = const size_of::<TrapFrame>() / 8,
);

unsafe extern "C" {
    /// # Safety
    /// The frame's segments must be those of user mode, this vCPU must have its state, its user
    /// page tables and its trap table.
    fn __pv_user_enter(frame: *mut TrapFrame);
}

/// The flags that user mode may have as it likes: the results of arithmetic, direction, single
/// step, alignment check, identification.
const USER_FLAGS: u64 = 0x0024_0dd5;
/// The flag that lets events come.
const INTERRUPT_FLAG: u64 = 1 << 9;

/// Runs user mode from `frame` on until it traps; the frame then says how.
///
/// The caller must have loaded page tables of user mode: without them the domain ends.
pub(crate) fn enter(frame: &mut TrapFrame) {
    frame.cs = FLAT_USER_CS.into();
    frame.ss = FLAT_USER_SS.into();
    frame.rflags = frame.rflags & USER_FLAGS | INTERRUPT_FLAG;
    // SAFETY: the segments are user mode's, so nothing in the frame can reach this program's
    // memory, which user page tables do not map for writing.
    unsafe { __pv_user_enter(frame) }
}

/// What is added to the number of a program's call. No hypercall has such a number: made in kernel
/// mode by mistake, the call is refused.
pub(crate) const USER_CALL: u64 = 1 << 32;

/// Asks the kernel for something, in user mode.
///
/// In kernel mode it returns -ENOSYS (-38).
pub fn call(number: u32, args: [u64; 3]) -> u64 {
    let [a, b, c] = args;
    let answer;
    // SAFETY: in user mode this enters the kernel, which by its own page tables cannot reach what
    // a program's references see but by `Space::read` and `Space::write`; `call_with` borrows what
    // they are told of. In kernel mode no hypercall has the number.
    unsafe {
        asm!("syscall", inlateout("rax") USER_CALL | u64::from(number) => answer,
            in("rdi") a, in("rsi") b, in("rdx") c, lateout("rcx") _, lateout("r11") _,
            options(nostack));
    }
    answer
}

/// Asks the kernel for something that concerns these bytes: their address and length are the first
/// two arguments.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{user};
/// # extern "C" fn program(_: u64) -> ! {
/// const WRITE: u32 = 1; // as this guest's kernel has it
/// user::call_with(WRITE, b"hello");
/// user::stop()
/// # }
/// ```
pub fn call_with(number: u32, bytes: &[u8]) -> u64 {
    call(number, [bytes.as_ptr().expose_provenance() as u64, bytes.len() as u64, 0])
}

/// Stops a program for good: each time it is run it traps at an invalid opcode.
pub fn stop() -> ! {
    // SAFETY: faults.
    unsafe { asm!("ud2", options(noreturn, nomem, nostack)) }
}
