//! A handler of event upcalls that writes down what it was given and returns, and the snippets it
//! interrupts.

use core::arch::{global_asm, naked_asm};
use core::sync::atomic::{AtomicU64, Ordering};

use super::Code;
use super::trap_snippets::snippets;

/// Upcalls that are kept; of more only the last is.
pub(crate) const KEPT: usize = 4;
/// Words kept of each: where the frame lies, its seven words, the vCPU's first two words, and what
/// fills the rest of 128 bytes.
const WORDS: usize = 16;

// The handler keeps all registers; below the frame it uses the stack it was given. It forgets the
// pending upcall, as handlers do, but for the first `__upcall_keep`; if `__upcall_nest` is set, it
// then opens itself to the next and makes a call, behind which the next must come.
global_asm!(
    ".pushsection .text.upcall, \"ax\", @progbits",
    ".globl __upcall_handler",
    "__upcall_handler:",
    "push rax",
    "push rbx",
    "push rdx",
    "mov rbx, [rip + __upcall_count]",
    "lea rax, [rbx + 1]",
    "mov [rip + __upcall_count], rax",
    "cmp rbx, {last}",
    "jbe 1f",
    "mov ebx, {last}",
    "1:",
    "shl rbx, 7",
    "lea rax, [rip + __upcall_log]",
    "add rbx, rax",
    "lea rax, [rsp + 24]",
    "mov [rbx], rax",
    ".irp word, 0, 8, 16, 24, 32, 40, 48",
    "mov rax, [rsp + 24 + \\word]",
    "mov [rbx + 8 + \\word], rax",
    ".endr",
    "mov rax, [rip + __upcall_info]",
    "mov rdx, [rax]",
    "mov [rbx + 64], rdx",
    "mov rdx, [rax + 8]",
    "mov [rbx + 72], rdx",
    "mov rdx, [rip + __upcall_keep]",
    "test rdx, rdx",
    "jz 2f",
    "dec rdx",
    "mov [rip + __upcall_keep], rdx",
    "cmp qword ptr [rip + __upcall_nest], 0",
    "je 3f",
    "push rdi",
    "mov byte ptr [rax + 1], 0",
    "xor edi, edi",
    "mov eax, 17",
    "syscall",
    ".globl __upcall_nested",
    "__upcall_nested:",
    "pop rdi",
    "mov rax, [rip + __upcall_info]",
    "mov byte ptr [rax + 1], 1",
    "jmp 3f",
    "2:",
    "mov byte ptr [rax], 0",
    "3:",
    "pop rdx",
    "pop rbx",
    "pop rax",
    "pop rcx",
    "pop r11",
    "push 0",
    "push rcx",
    "push r11",
    "push rax",
    "mov eax, 23",
    "syscall",
    ".popsection",
    ".pushsection .bss.upcall, \"aw\", @nobits",
    ".balign 8",
    ".globl __upcall_info",
    "__upcall_info: .skip 8",
    ".globl __upcall_count",
    "__upcall_count: .skip 8",
    ".globl __upcall_keep",
    "__upcall_keep: .skip 8",
    ".globl __upcall_nest",
    "__upcall_nest: .skip 8",
    ".globl __upcall_log",
    "__upcall_log: .skip {size}",
    ".popsection",
    last = const KEPT - 1,
    size = const 8 * WORDS * KEPT,
);

unsafe extern "C" {
    static __upcall_info: AtomicU64;
    static __upcall_count: AtomicU64;
    static __upcall_keep: AtomicU64;
    static __upcall_nest: AtomicU64;
    static __upcall_log: [[AtomicU64; WORDS]; KEPT];
    fn __upcall_handler() -> !;
    fn __upcall_nested() -> !;
}

/// What an upcall's handler found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Upcall {
    /// Where its frame lies.
    pub(crate) at: u64,
    /// rcx, r11, rip, cs with the mask from bit 32 on, rflags, rsp, ss.
    pub(crate) frame: [u64; 7],
    /// The vCPU's bytes: pending upcall in the lowest, mask in the next.
    pub(crate) bytes: u64,
    /// The vCPU's selector.
    pub(crate) selector: u64,
}

/// The address of the handler.
pub(crate) fn handler() -> u64 {
    (__upcall_handler as *const ()).expose_provenance() as u64
}

/// The address behind the call that the handler makes if it nests.
pub(crate) fn nested() -> u64 {
    (__upcall_nested as *const ()).expose_provenance() as u64
}

/// Forgets all upcalls, and makes the handler ready: for the vCPU whose part of the shared page is
/// at `info`, to leave the first `keep` upcalls pending, and in them to open itself if `nest`.
pub(crate) fn arm(info: u64, keep: u64, nest: bool) {
    // SAFETY: defined above, zeroed, and atomics may change at any time.
    let cell = unsafe { &__upcall_info };
    cell.store(info, Ordering::Relaxed);
    forget();
    // SAFETY: as above.
    let cell = unsafe { &__upcall_keep };
    cell.store(keep, Ordering::Relaxed);
    // SAFETY: as above.
    let cell = unsafe { &__upcall_nest };
    cell.store(nest.into(), Ordering::Relaxed);
}

/// Forgets all upcalls.
pub(crate) fn forget() {
    count_cell().store(0, Ordering::Relaxed);
}

/// How many upcalls came since [`arm`] or [`forget`].
pub(crate) fn count() -> u64 {
    count_cell().load(Ordering::Relaxed)
}

/// What came with an upcall since [`arm`], of which there must have been so many.
pub(crate) fn upcall(number: usize) -> Upcall {
    // SAFETY: as in `arm`.
    let log = unsafe { &__upcall_log };
    let words = &log[number % KEPT];
    let [at, frame @ .., bytes, selector, _, _, _, _, _, _] =
        words.each_ref().map(|word| word.load(Ordering::Relaxed));
    Upcall { at, frame, bytes, selector }
}

fn count_cell() -> &'static AtomicU64 {
    // SAFETY: as in `arm`.
    unsafe { &__upcall_count }
}

snippets! {
    /// Writes bp (pending and mask of an upcall) to where rbx points, in three bytes; then a call.
    SET_CALL = "mov word ptr [rbx], bp", "syscall";
    /// The same, and a call of `xen_version` behind it.
    SET_CALL_CALL = "mov word ptr [rbx], bp", "syscall", "mov r13, rax", "mov eax, 17",
        "xor edi, edi", "syscall";
    /// A call, then opens the vCPU whose part rbx points to, and calls `xen_version`.
    CALL_OPEN_CALL = "syscall", "mov r13, rax", "mov byte ptr [rbx + 1], 0", "mov eax, 17",
        "xor edi, edi", "syscall";
    /// Counts r12 down, or until the upcalls' number is not 0.
    SPIN = "2:", "cmp qword ptr [rip + __upcall_count], 0", "jne 3f", "dec r12", "jnz 2b", "3:";
    /// Opens the vCPU whose part rbx points to; then as [`SPIN`].
    OPEN_SPIN = "mov byte ptr [rbx + 1], 0", "2:", "cmp qword ptr [rip + __upcall_count], 0",
        "jne 3f", "dec r12", "jnz 2b", "3:";
}
