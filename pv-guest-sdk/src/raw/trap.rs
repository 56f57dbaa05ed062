//! The entry code for traps and callbacks, and the way back by the `iret` hypercall.
//!
//! What the hypervisor pushes ends, downwards, with rip, an error code for some exceptions, r11 and
//! rcx. Every stub makes of it the tail of a [`TrapFrame`]: rcx and r11 are taken back, a zero
//! stands for a missing error code, the vector follows. The common part saves all other registers.
//! The stack is then at a multiple of 16, because the hypervisor aligns it before it pushes and 22
//! words of 8 follow.
//!
//! On the way back the four words below rip become what `iret` expects there: rax, r11, rcx,
//! flags. Kernel code has no floating-point instructions, so that state is left alone.
//!
//! Code that waits holds events back as soon as it goes on. So the event that ends its waiting
//! returns with events held, which needs no hypercall: the processor's own instruction does it.

use core::arch::global_asm;

use hypercall_abi::call::Hypercall;
use hypercall_abi::callback::{
    CallbackRegister, MASK_EVENTS, TYPE_EVENT, TYPE_FAILSAFE, TYPE_SYSCALL,
};
use hypercall_abi::errno::Errno;
use hypercall_abi::layout::{FLAT_KERNEL_CS, FLAT_KERNEL_SS};
use hypercall_abi::regs::{GuestContextFlags, VcpuGuestContext};
use hypercall_abi::trap::TrapInfo;

use super::backtrace;
use super::gate::Gate;
use super::request::{register_callback, set_trap_table};
use crate::error::{HypercallError, Site, perform};
use crate::shutdown::{Reason, shutdown};
use crate::trap::{Resume, Trap, TrapFrame, Vector};
use crate::vcpu::Vcpu;

/// Bytes from one vector's stub to the next.
const STUB: u64 = 32;

global_asm!(
    ".pushsection .text.traps, \"ax\", @progbits",
    ".balign 32",
    ".globl __pv_trap_stubs",
    "__pv_trap_stubs:",
    ".set __pv_vector, 0",
    ".rept 256",
    ".balign 32",
    "pop rcx",
    "pop r11",
    ".if (__pv_vector < 32) && (({with_error} >> __pv_vector) & 1)",
    ".else",
    "push 0",
    ".endif",
    ".byte 0x68",
    ".long __pv_vector",
    "jmp __pv_trap_common",
    ".set __pv_vector, __pv_vector + 1",
    ".endr",
    ".balign 32",
    ".globl __pv_event_stub",
    "__pv_event_stub:",
    "pop rcx",
    "pop r11",
    "push 0",
    "push 256",
    "jmp __pv_trap_common",
    ".globl __pv_failsafe_stub",
    "__pv_failsafe_stub:",
    // Between r11 and rip are ds, es, fs and gs; what could not be loaded becomes null. The base
    // of gs is left alone by a hypervisor that restores selectors before bases.
    "pop rcx",
    "pop r11",
    "add rsp, 32",
    "push 0",
    "push 257",
    "jmp __pv_trap_common",
    ".globl __pv_syscall_stub",
    "__pv_syscall_stub:",
    "pop rcx",
    "pop r11",
    "push 0",
    "push 258",
    "__pv_trap_common:",
    "push r11",
    "push rax",
    "push rcx",
    "push rdi",
    "push rsi",
    "push rdx",
    "push r8",
    "push r9",
    "push r10",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "cld",
    "mov rdi, rsp",
    "test byte ptr [rsp + 8 * 18], 3",
    "jnz __pv_user_left",
    "call {dispatch}",
    ".globl __pv_trap_return",
    "__pv_trap_return:",
    // With 0 in al by the hypercall, else by `iretq`. What is popped leaves the flags alone.
    "test al, al",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rdx",
    "pop rsi",
    "pop rdi",
    "pop rcx",
    "jnz 2f",
    // The frame's vector and error words become rcx and flags.
    "mov [rsp + 16], rcx",
    "mov qword ptr [rsp + 24], 0",
    "mov eax, {iret}",
    "syscall",
    "ud2",
    "2:",
    "pop rax",
    "pop r11",
    "add rsp, 16",
    "iretq",
    ".popsection",
    with_error = const Vector::WITH_ERROR,
    dispatch = sym dispatch,
    iret = const Hypercall::Iret.number(),
);

unsafe extern "C" {
    static __pv_trap_stubs: u8;
    static __pv_event_stub: u8;
    static __pv_failsafe_stub: u8;
    static __pv_syscall_stub: u8;
    static __pv_fixups: [u64; 2];
    static __pv_fixups_end: [u64; 2];
}

static SET_TRAP_TABLE: Site =
    Site::call(Hypercall::SetTrapTable, &[(Errno::EINVAL, "an entry's address is not canonical")]);
static CALLBACK: Site =
    Site::call(Hypercall::CallbackOp, &[(Errno::EINVAL, "no such kind of callback")]);

/// The row of a vector: its stub, with events held back.
fn row(vector: u8) -> TrapInfo {
    let first = (&raw const __pv_trap_stubs).expose_provenance() as u64;
    TrapInfo {
        vector,
        flags: Vector::software_ring(vector) | TrapInfo::MASK_EVENTS,
        cs: FLAT_KERNEL_CS,
        pad: 0,
        address: first + STUB * u64::from(vector),
    }
}

/// Writes the trap table and the callbacks into the first state of a virtual CPU.
pub(super) fn describe(state: &mut VcpuGuestContext) {
    for (place, vector) in state.trap_ctxt.iter_mut().zip(0..=u8::MAX) {
        *place = row(vector);
    }
    let [event, failsafe, syscall] = callbacks().map(|(_, address)| address);
    state.event_callback_eip = event;
    state.failsafe_callback_eip = failsafe;
    state.syscall_callback_eip = syscall;
    let flags =
        GuestContextFlags::FAILSAFE_DISABLES_EVENTS | GuestContextFlags::SYSCALL_DISABLES_EVENTS;
    state.flags |= flags.bits();
}

/// The kinds of callbacks and their entry code.
fn callbacks() -> [(u16, u64); 3] {
    [
        (TYPE_EVENT, &raw const __pv_event_stub),
        (TYPE_FAILSAFE, &raw const __pv_failsafe_stub),
        (TYPE_SYSCALL, &raw const __pv_syscall_stub),
    ]
    .map(|(kind, stub)| (kind, stub.expose_provenance() as u64))
}

/// Sends every vector and callback of this vCPU to the code here.
pub(super) fn install(gate: &impl Gate) -> Result<(), HypercallError> {
    // The hypervisor takes the table in pieces as well, each ended by a row without address.
    let mut table = [TrapInfo::default(); 65];
    for piece in 0..4_u8 {
        for (place, number) in table.iter_mut().take(64).zip(0_u8..) {
            *place = row(piece * 64 + number);
        }
        // SAFETY: the stubs above are laid out at this distance and take what the hypervisor
        // pushes for their vector.
        let request = unsafe { set_trap_table(&table) };
        perform(gate, &SET_TRAP_TABLE, &request)?;
    }
    for (kind, address) in callbacks() {
        let callback = CallbackRegister { kind, flags: MASK_EVENTS, pad: 0, address };
        // SAFETY: each stub takes what the hypervisor pushes for its callback.
        let request = unsafe { register_callback(&callback) };
        perform(gate, &CALLBACK, &request)?;
    }
    Ok(())
}

/// What the entry code calls for traps of kernel code. When it returns, the frame is resumed; if it
/// returns true, with events held back as they are now.
extern "C" fn dispatch(frame: &mut TrapFrame) -> bool {
    let vcpu = Vcpu::current();
    let ends_wait = frame.vector() == Vector::EVENT && vcpu.is_some_and(Vcpu::ends_wait);
    let fault_address = vcpu.map_or(0, Vcpu::fault_address);
    let trap = Trap::new(frame, fault_address);
    let resume = vcpu.map_or(Resume::Unhandled, |vcpu| vcpu.dispatch(&trap));
    match resume {
        Resume::Again => {}
        Resume::Skip if trap.vector().is_behind() => {}
        Resume::Skip => match fixup(frame.rip) {
            Some(fixup) => frame.rip = fixup,
            None => unhandled(&trap),
        },
        Resume::Unhandled => unhandled(&trap),
    }
    if frame.vector() == Vector::DEBUG {
        // A single step is over; who wants another one sets the flag again.
        frame.rflags &= !(1 << 8);
    }
    if ends_wait {
        // The processor wants the selectors that it uses, not those that the hypervisor shows.
        (frame.cs, frame.ss) = (FLAT_KERNEL_CS.into(), FLAT_KERNEL_SS.into());
    }
    ends_wait
}

/// Where an operation that trapped at `address` gives up, if it is one that may.
fn fixup(address: u64) -> Option<u64> {
    let mut row = &raw const __pv_fixups;
    while row < &raw const __pv_fixups_end {
        // SAFETY: between the linker's two marks are pairs of addresses, which never change.
        let [at, to] = unsafe { row.read() };
        if at == address {
            return Some(to);
        }
        row = row.wrapping_add(1);
    }
    None
}

/// Says what is known, and ends the domain.
fn unhandled(trap: &Trap<'_>) -> ! {
    let (vector, frame) = (trap.vector(), trap.frame());
    crate::println!("unhandled trap: {vector} at {:#x}", frame.rip);
    if vector == Vector::PAGE_FAULT {
        let address = trap.fault_address();
        crate::println!("{}, at {address:#x}", trap.error().explain(vector));
    } else if trap.error().bits() != 0 {
        crate::println!("{}", trap.error().explain(vector));
    }
    crate::print!("{frame}");
    crate::println!("  #0 {:#x}", frame.rip);
    for (number, address) in backtrace::frames_from(frame.rbp).take(32).enumerate() {
        crate::println!("  #{} {address:#x}", number + 1);
    }
    shutdown(Reason::Crash)
}
