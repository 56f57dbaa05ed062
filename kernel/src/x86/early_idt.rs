//! Exceptions in ring 0 before the real interrupt table exists: report registers, then panic.

use core::arch::global_asm;

use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::tables::lidt;
use x86_64::registers::control::Cr2;
use x86_64::structures::DescriptorTablePointer;

use super::stop;

global_asm!(include_str!("early_idt.s"));

unsafe extern "C" {
    /// 32 entry stubs, [`STUB_SIZE`] bytes apart.
    fn early_stubs();
    /// Ignores an interrupt that nobody asked for.
    fn early_interrupt();
}

const STUB_SIZE: u64 = 16;
const KERNEL_CS64: u64 = 0xe008;
const NMI: u64 = 2;

static TABLE: Once<[[u64; 2]; 256]> = Once::new();

/// Registers at an exception, as `early_idt.s` pushes them.
#[repr(C)]
struct Frame {
    r: [u64; 15],
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

/// Loads the early table on this CPU.
pub(crate) fn load() {
    let table = TABLE.call_once(|| {
        core::array::from_fn(|vector| match u64::try_from(vector) {
            Ok(vector @ 0..32) => gate(early_stubs as *const () as u64 + vector * STUB_SIZE),
            _ => gate(early_interrupt as *const () as u64),
        })
    });
    let pointer = DescriptorTablePointer { limit: 0xfff, base: VirtAddr::from_ptr(table) };
    // SAFETY: the table is complete, static, and its handlers keep every register.
    unsafe { lidt(&pointer) };
}

/// An interrupt gate of ring 0 to `handler`.
fn gate(handler: u64) -> [u64; 2] {
    let low = handler & 0xffff | KERNEL_CS64 << 16 | 0x8e00 << 32 | (handler >> 16 & 0xffff) << 48;
    [low, handler >> 32]
}

#[unsafe(no_mangle)]
#[expect(clippy::panic, reason = "an exception in ring 0 is a broken invariant")]
extern "C" fn early_exception(frame: &Frame) {
    if frame.vector == NMI {
        if stop::requested() {
            stop::halt();
        }
        return;
    }
    stop::disable_interrupts();
    crate::log::emergency(|print| {
        print(format_args!(
            "exception {} error {:#x} in ring 0 at {:#x}, cs {:x}, flags {:#x}, rsp {:x}:{:#x}, cr2 {:#x}",
            frame.vector,
            frame.error,
            frame.rip,
            frame.cs,
            frame.rflags,
            frame.ss,
            frame.rsp,
            Cr2::read_raw(),
        ));
        let names = [
            "r15", "r14", "r13", "r12", "r11", "r10", "r9", "r8", "rbp", "rdi", "rsi", "rdx",
            "rcx", "rbx", "rax",
        ];
        for (names, values) in names.chunks(3).zip(frame.r.chunks(3)) {
            print(format_args!(
                "  {:>3} {:#018x}  {:>3} {:#018x}  {:>3} {:#018x}",
                names[0], values[0], names[1], values[1], names[2], values[2],
            ));
        }
    });
    panic!("exception {} in ring 0 at {:#x}", frame.vector, frame.rip);
}
