//! The ways from a guest into ring 0 and back, in assembly.
//!
//! There is one kernel stack per CPU, at the top of the CPU's area. Whichever way a guest enters,
//! its registers end up as one [`GuestRegs`] at the very top of that stack, a Rust function handles
//! the entry, and one exit path goes back with whatever the registers say by then.
//!
//! - `syscall` does not switch stacks. Each CPU has its own stub that saves RSP to its own area and
//!   loads its own stack by constants, so ring 0 never needs GS: both GS bases stay the guest's.
//! - Exceptions and interrupts from a guest switch to the same stack by the TSS.
//! - #DB, NMI, #MC and #DF have stacks of their own (IST), because they can strike where RSP is still
//!   the guest's: a breakpoint armed by the guest fires on the first instruction after `syscall`.
//!   When they interrupted a guest, the frame moves to the ordinary stack and goes the ordinary way.
//! - A fault on the `iretq` that returns to a guest (a bad selector, say) is a fault of the guest:
//!   it is turned into one of the context that was about to run.
//!
//! Interrupts stay off in ring 0, but for the idle loop.

use core::arch::global_asm;

use hypercall_abi::layout::{FLAT_RING3_CS32, FLAT_RING3_CS64, FLAT_RING3_DS};
use kernel_core::regs::GuestRegs;
use x86_64::VirtAddr;
use x86_64::registers::model_specific::{LStar, Msr, SFMask};
use x86_64::registers::rflags::RFlags;

use super::gdt;
use super::layout::{MAX_CPUS, PERCPU_STRIDE};
use super::percpu::{self, SAVED_RSP_OFFSET};

unsafe extern "C" {
    /// The `iretq` that returns to guests.
    static return_by_iretq: u8;
    /// The `iretq` that returns from an interrupt with a stack of its own, or from one in ring 0.
    static return_from_ist: u8;
    /// First `syscall` stub; the stub of CPU n is n times [`SYSCALL_STUB_SIZE`] behind it.
    static syscall_stubs: u8;
    /// The same for `syscall` in 32-bit code.
    static syscall32_stubs: u8;
    /// Where `sysenter` enters.
    static sysenter_entry: u8;
    /// Where it has saved the flags.
    static sysenter_flags_saved: u8;
    /// First exception stub; the stub of vector n is n times [`VECTOR_STUB_SIZE`] behind it.
    static vector_stubs: u8;

    /// Continues with the guest registers at the top of this CPU's stack as if that guest had
    /// raised the exception they describe.
    pub(super) fn reenter_as_guest_trap(top: *mut GuestRegs) -> !;
    /// Runs the guest whose registers are at the top of this CPU's stack.
    pub(super) fn resume_guest(top: *mut GuestRegs) -> !;
}

/// Distance between two `syscall` stubs.
const SYSCALL_STUB_SIZE: usize = 64;
/// Where `syscall` in 32-bit code leads.
const CSTAR: u32 = 0xc000_0083;
/// The registers of `sysenter`: code segment, stack pointer, instruction pointer.
const SYSENTER: [u32; 3] = [0x174, 0x175, 0x176];
/// Distance between two vector stubs.
const VECTOR_STUB_SIZE: usize = 32;

/// Makes `syscall` on this CPU enter through its stub, with these flags cleared: interrupts and
/// single-stepping must be off on a stack that is still the guest's, string instructions go up, and
/// the rest is what a return by `iretq` or SMAP would stumble over.
pub(crate) fn enable_syscall() {
    let stub = (percpu::current().id() * SYSCALL_STUB_SIZE) as u64;
    LStar::write(VirtAddr::new((&raw const syscall_stubs).addr() as u64 + stub));
    // SAFETY: a stub that saves the registers as the 64-bit one does.
    unsafe { Msr::new(CSTAR).write((&raw const syscall32_stubs).addr() as u64 + stub) };
    let stack = percpu::current().main_stack_top();
    let entry = (&raw const sysenter_entry).addr() as u64;
    for (register, value) in SYSENTER.into_iter().zip([u64::from(gdt::KERNEL_CS), stack, entry]) {
        // SAFETY: ring 0's code segment, this CPU's stack, and an entry that needs nothing else.
        unsafe { Msr::new(register).write(value) };
    }
    SFMask::write(
        RFlags::TRAP_FLAG
            | RFlags::INTERRUPT_FLAG
            | RFlags::DIRECTION_FLAG
            | RFlags::NESTED_TASK
            | RFlags::RESUME_FLAG
            | RFlags::ALIGNMENT_CHECK,
    );
}

/// Address of the stub of a vector, for the IDT.
pub(super) fn vector_stub(vector: u8) -> u64 {
    (&raw const vector_stubs).addr() as u64 + (usize::from(vector) * VECTOR_STUB_SIZE) as u64
}

/// Whether this is the address of an instruction that returns to guests; they may fault.
pub(super) fn is_return(rip: u64) -> bool {
    [&raw const return_by_iretq, &raw const return_from_ist]
        .iter()
        .any(|at| at.addr() as u64 == rip)
}

/// Whether a `sysenter` is under way whose flags are still to be saved: those of the guest.
pub(super) fn has_guest_flags(rip: u64) -> bool {
    let [first, behind] = [&raw const sysenter_entry, &raw const sysenter_flags_saved];
    (first.addr() as u64..behind.addr() as u64).contains(&rip)
}

global_asm!(
    // The general registers of GuestRegs.
    ".macro save_registers",
    "push rdi",
    "push rsi",
    "push rdx",
    "push rcx",
    "push rax",
    "push r8",
    "push r9",
    "push r10",
    "push r11",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    ".endm",
    ".macro restore_registers",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "pop r11",
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rax",
    "pop rcx",
    "pop rdx",
    "pop rsi",
    "pop rdi",
    ".endm",
    // --- syscall: two stubs per CPU, for 64-bit and for 32-bit code ----------------------------
    ".section .text.entry, \"ax\"",
    ".macro syscall_stub cpu, cs, vector",
    ".balign {syscall_stub_size}",
    "mov [rip + __percpu + \\cpu * {stride} + {saved_rsp}], rsp",
    "lea rsp, [rip + __percpu + \\cpu * {stride} + {stride}]",
    "push {ss}",
    "push qword ptr [rip + __percpu + \\cpu * {stride} + {saved_rsp}]",
    "push r11",
    "push \\cs",
    "push rcx",
    "sub rsp, 8",
    "mov dword ptr [rsp + 4], \\vector",
    "jmp syscall_common",
    ".endm",
    ".balign {syscall_stub_size}",
    "syscall_stubs:",
    ".set number, 0",
    ".rept {max_cpus}",
    "syscall_stub number, {cs}, {syscall_vector}",
    ".set number, number + 1",
    ".endr",
    ".balign {syscall_stub_size}",
    "syscall32_stubs:",
    ".set number, 0",
    ".rept {max_cpus}",
    "syscall_stub number, {cs32}, {syscall32_vector}",
    ".set number, number + 1",
    ".endr",
    ".balign {syscall_stub_size}",
    // sysenter loads this CPU's stack, and forgets where the guest was. It clears IF, but no other
    // flag.
    "sysenter_entry:",
    "push {ss}",
    "push 0",
    "pushfq",
    "sysenter_flags_saved:",
    "or dword ptr [rsp], 0x200",
    "push 3",
    "push 0",
    "push 2",
    "popfq",
    "sub rsp, 8",
    "mov dword ptr [rsp + 4], {sysenter_vector}",
    // Builds the rest of GuestRegs. RCX and R11 are saved as the processor left them, as the ABI
    // has it: they hold RIP and RFLAGS.
    "syscall_common:",
    "mov dword ptr [rsp], 0",
    "save_registers",
    "mov rdi, rsp",
    "xor ebp, ebp",
    "sub rsp, 8", // GuestRegs is 8 modulo 16 bytes long; calls want the stack aligned.
    "call {on_syscall}",
    "add rsp, 8",
    "test al, al",
    "jz leave_by_iretq",
    // sysretq: RIP is canonical and the selectors are the flat ones, or `on_syscall` says no.
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "add rsp, 8", // R11 gets RFLAGS below.
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rax",
    "add rsp, 8", // RCX gets RIP below.
    "pop rdx",
    "pop rsi",
    "pop rdi",
    "mov rcx, [rsp + 8]",
    "mov r11, [rsp + 24]",
    "mov rsp, [rsp + 32]",
    "sysretq",
    // --- exceptions and interrupts -------------------------------------------------------------
    ".balign {vector_stub_size}",
    "vector_stubs:",
    ".set vector, 0",
    ".rept 256",
    ".balign {vector_stub_size}",
    // The processor pushes an error code for #DF #TS #NP #SS #GP #PF #AC #CP.
    // Without one it is no exception, but an interrupt message that somebody sent with this vector:
    // the processor pushes from a 16-byte boundary, so the stack pointer tells.
    ".if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21",
    "test spl, 8",
    "jnz misdirected",
    ".else",
    "push 0",
    ".endif",
    "mov dword ptr [rsp + 4], vector",
    "jmp vector_common",
    ".set vector, vector + 1",
    ".endr",
    ".balign {vector_stub_size}",
    "misdirected:",
    "push 0",
    "mov dword ptr [rsp + 4], {misdirected}",
    "vector_common:",
    "save_registers",
    "cld",
    "vector_clac:", // Patched to CLAC where SMAP is on: a guest may have set AC.
    "nop dword ptr [rax]",
    "test byte ptr [rsp + {cs_offset}], 3",
    "jz from_ring_0",
    "cmp byte ptr [rsp + {vector_offset}], 8",
    "je from_ring_0", // #DF is ours whoever ran.
    // On an IST stack (#DB, NMI, #MC): Rust moves the frame and comes back to guest_trap.
    "cmp byte ptr [rsp + {vector_offset}], 1",
    "je from_ist",
    "cmp byte ptr [rsp + {vector_offset}], 2",
    "je from_ist",
    "cmp byte ptr [rsp + {vector_offset}], 18",
    "je from_ist",
    "guest_trap:",
    "mov rdi, rsp",
    "xor ebp, ebp",
    "sub rsp, 8",
    "call {on_guest_trap}",
    "add rsp, 8",
    "leave_by_iretq:",
    "restore_registers",
    "add rsp, 8",
    "return_by_iretq:",
    "iretq",
    "from_ist:",
    "mov rdi, rsp",
    "mov rbx, rsp",
    "xor ebp, ebp",
    "and rsp, -16",
    "call {on_ist_trap}",
    "jmp back_where_it_came_from",
    "from_ring_0:",
    "mov rdi, rsp",
    "mov rbx, rsp",
    "and rsp, -16",
    "call {on_ring_0_trap}",
    "back_where_it_came_from:",
    "mov rsp, rbx",
    "restore_registers",
    "add rsp, 8",
    "return_from_ist:",
    "iretq",
    // --- entered from Rust ---------------------------------------------------------------------
    "reenter_as_guest_trap:",
    "mov rsp, rdi",
    "jmp guest_trap",
    "resume_guest:",
    "mov rsp, rdi",
    "jmp leave_by_iretq",
    ".global return_from_ist, syscall_stubs, syscall32_stubs, sysenter_entry, sysenter_flags_saved, vector_stubs, return_by_iretq, reenter_as_guest_trap, resume_guest",
    ".global vector_clac",
    max_cpus = const MAX_CPUS,
    stride = const PERCPU_STRIDE,
    saved_rsp = const SAVED_RSP_OFFSET,
    syscall_stub_size = const SYSCALL_STUB_SIZE,
    vector_stub_size = const VECTOR_STUB_SIZE,
    ss = const FLAT_RING3_DS,
    cs = const FLAT_RING3_CS64,
    cs32 = const FLAT_RING3_CS32,
    syscall32_vector = const GuestRegs::SYSCALL_32,
    sysenter_vector = const GuestRegs::SYSENTER,
    misdirected = const super::interrupt::MISDIRECTED,
    syscall_vector = const GuestRegs::SYSCALL,
    cs_offset = const core::mem::offset_of!(GuestRegs, cs),
    vector_offset = const core::mem::offset_of!(GuestRegs, entry_vector),
    on_syscall = sym super::guest::on_syscall,
    on_guest_trap = sym super::guest::on_trap,
    on_ist_trap = sym super::trap::on_ist_trap,
    on_ring_0_trap = sym super::trap::on_ring_0_trap,
);
