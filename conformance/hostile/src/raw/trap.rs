//! Handlers for all that may come: what traps is given up, and what can go on goes on.
//!
//! A wild operation says in `__h_back` where to go on if it traps, with which stack in `__h_rsp`.
//! Every other register stays as it was. A trap while nothing wild is done ends the guest.

use core::arch::global_asm;

use hypercall_abi::callback::{
    CallbackRegister, MASK_EVENTS, REGISTER, TYPE_EVENT, TYPE_FAILSAFE, TYPE_NMI, TYPE_SYSCALL,
    TYPE_SYSCALL32, TYPE_SYSENTER,
};
use hypercall_abi::layout::FLAT_KERNEL_CS;

use super::memory::{poke, put};

/// Bytes from one handler to the next.
const HANDLER: u64 = 16;

global_asm!(
    ".pushsection .text.hostile, \"ax\", @progbits",
    ".balign 16",
    ".globl __h_handlers, __h_debug, __h_event, __h_failsafe, __h_park",
    "__h_handlers:",
    ".set __h_number, 0",
    ".rept 264",
    ".balign 16",
    ".byte 0x68",
    ".long __h_number",
    "jmp __h_caught",
    ".set __h_number, __h_number + 1",
    ".endr",
    "__h_caught:",
    "mov [rip + __h_rax], rax",
    "pop rax",
    "mov [rip + __h_vector], rax",
    "inc qword ptr [rip + __h_count]",
    "cmp qword ptr [rip + __h_back], 0",
    "je 2f",
    "mov rsp, [rip + __h_rsp]",
    "mov rax, [rip + __h_rax]",
    "push qword ptr [rip + __h_back]",
    "mov qword ptr [rip + __h_back], 0",
    "ret",
    // Nobody was to trap: an instruction that does not exist, without a handler, is the end.
    "2:",
    "mov rdi, rax",
    "mov rsi, rsp",
    "and rsp, -16",
    "call {unexpected}",
    // A breakpoint: on, past it.
    ".balign 16",
    "__h_debug:",
    "inc qword ptr [rip + __h_count]",
    "mov rcx, [rsp]",
    "mov r11, [rsp + 8]",
    "add rsp, 16",
    "or dword ptr [rsp + 16], 0x10000",
    "and dword ptr [rsp + 16], 0xfffffeff",
    // In a frame the kernel's code has privilege 0, which `iretq` does not return to.
    "or dword ptr [rsp + 8], 3",
    "iretq",
    // An event or an NMI: on.
    ".balign 16",
    "__h_event:",
    "inc qword ptr [rip + __h_events]",
    "mov rcx, [rsp]",
    "mov r11, [rsp + 8]",
    "add rsp, 16",
    "or dword ptr [rsp + 8], 3",
    "iretq",
    // Selectors that mean nothing any more become null.
    ".balign 16",
    "__h_failsafe:",
    "inc qword ptr [rip + __h_count]",
    "xor ecx, ecx",
    "mov ds, ecx",
    "mov es, ecx",
    "mov fs, ecx",
    "mov gs, ecx",
    "mov rcx, [rsp]",
    "mov r11, [rsp + 8]",
    "add rsp, 48",
    "or dword ptr [rsp + 8], 3",
    "iretq",
    // A vCPU that takes itself down whenever it is brought up, and whenever anything comes to it. Its
    // number is in rbx, its stack in r12.
    ".balign 16",
    "__h_park:",
    "mov rsp, r12",
    "mov eax, 24",
    "mov edi, 2",
    "mov rsi, rbx",
    "xor edx, edx",
    "syscall",
    "lock inc qword ptr [rip + __h_parked]",
    "jmp __h_park",
    ".popsection",
    ".pushsection .bss.hostile, \"aw\", @nobits",
    ".balign 8",
    ".globl __h_rsp, __h_back, __h_vector, __h_count",
    "__h_rsp: .skip 8",
    "__h_back: .skip 8",
    "__h_rax: .skip 8",
    "__h_vector: .skip 8",
    "__h_count: .skip 8",
    "__h_events: .skip 8",
    "__h_parked: .skip 8",
    ".popsection",
    unexpected = sym unexpected,
);

use core::sync::atomic::{AtomicU64, Ordering};

unsafe extern "C" {
    static __h_handlers: u8;
    static __h_debug: u8;
    static __h_event: u8;
    static __h_failsafe: u8;
    static __h_park: u8;
    static __h_vector: AtomicU64;
    static __h_count: AtomicU64;
}

extern "C" fn unexpected(vector: u64, frame: u64) -> ! {
    let words = [0, 8, 16, 24, 32, 40, 48].map(|at| super::load(frame + at).unwrap_or(0));
    pv_guest_sdk::println!("unexpected trap {vector}: {words:x?}");
    pv_guest_sdk::shutdown::shutdown(pv_guest_sdk::shutdown::Reason::Crash)
}

fn at(symbol: *const u8) -> u64 {
    symbol.expose_provenance() as u64
}

/// The handler of a vector that gives up; those from 256 on are no vector's.
pub fn give_up(number: u64) -> u64 {
    at(&raw const __h_handlers) + HANDLER * number
}

/// The code of a vCPU that takes itself down.
pub fn park() -> u64 {
    at(&raw const __h_park)
}

/// The handlers of callbacks: events, failsafe.
pub fn callbacks() -> [u64; 2] {
    [at(&raw const __h_event), at(&raw const __h_failsafe)]
}

/// The handler of a vector.
pub fn handler(vector: u64) -> u64 {
    match vector {
        1 => at(&raw const __h_debug),
        2 => at(&raw const __h_event),
        _ => give_up(vector),
    }
}

/// How many traps were given up so far.
pub fn count() -> u64 {
    // SAFETY: defined above, zeroed, and an atomic.
    unsafe { &__h_count }.load(Ordering::Relaxed)
}

/// The vector of the last trap that was given up; 256 and more for callbacks.
pub fn last() -> u64 {
    // SAFETY: as above.
    unsafe { &__h_vector }.load(Ordering::Relaxed)
}

/// A row of the trap table: vector, least privileged caller, selector; address.
pub fn row(vector: u64) -> [u64; 2] {
    [vector | 3 << 8 | u64::from(FLAT_KERNEL_CS) << 16, handler(vector)]
}

/// Registers all handlers, with their description at an address that has room for 33 rows.
pub fn register(scratch: u64) {
    // The vectors of exceptions; `int n` for the others is a fault then.
    for vector in 0..32 {
        put(scratch + 16 * vector, &row(vector));
    }
    put(scratch + 16 * 32, &[0, 0]);
    super::call(0, [scratch, 0, 0, 0, 0, 0]);
    register_callbacks(scratch);
}

/// Registers the callbacks alone.
pub fn register_callbacks(scratch: u64) {
    let [event, failsafe] = callbacks();
    for (kind, address) in [
        (TYPE_EVENT, event),
        (TYPE_FAILSAFE, failsafe),
        (TYPE_NMI, event),
        (TYPE_SYSCALL, give_up(258)),
        (TYPE_SYSCALL32, give_up(259)),
        (TYPE_SYSENTER, give_up(260)),
    ] {
        let flags = if kind == TYPE_FAILSAFE { MASK_EVENTS } else { 0 };
        let callback = CallbackRegister { kind, flags, address, ..CallbackRegister::default() };
        let words = [u64::from(callback.kind) | u64::from(callback.flags) << 16, callback.address];
        poke(scratch, words[0]);
        poke(scratch + 8, words[1]);
        super::call(30, [u64::from(REGISTER), scratch, 0, 0, 0, 0]);
    }
}
