//! The interrupt descriptor table, one for all CPUs.

use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::tables::lidt;
use x86_64::structures::DescriptorTablePointer;

use super::entry;

/// Interrupt gate, present.
const GATE: u64 = 0x8e00;
/// Ring 3 may raise it with `int n`.
const FROM_RING_3: u64 = 3 << 13;
/// Bytes of the table, minus 1.
const LIMIT: u16 = 256 * 16 - 1;
/// Selector of ring 0's code.
const KERNEL_CS: u64 = 0xe008;

/// The vectors with stacks of their own, and the number of the stack (IST).
const OWN_STACKS: [(u8, u64); 4] = [(1, 1), (2, 2), (18, 3), (8, 4)];
/// The vectors a guest may raise by an instruction: `int3`, `into`, and `int 0x80`, which 32-bit
/// system calls use often enough to deserve the short way. Any other `int n` faults and is decoded.
const SOFT: [u8; 3] = [3, 4, 0x80];

static IDT: Once<[[u64; 2]; 256]> = Once::new();

/// Loads the table on this CPU.
pub(crate) fn load() {
    let table = IDT.call_once(build);
    let pointer = DescriptorTablePointer { limit: LIMIT, base: VirtAddr::from_ptr(table) };
    // SAFETY: the table is static, complete, and its gates lead to the stubs of `entry`.
    unsafe { lidt(&pointer) };
}

fn build() -> [[u64; 2]; 256] {
    let mut table = [[0; 2]; 256];
    for (vector, gate) in (0..=u8::MAX).zip(table.iter_mut()) {
        *gate = build_gate(vector);
    }
    table
}

fn build_gate(vector: u8) -> [u64; 2] {
    let address = entry::vector_stub(vector);
    let ist = OWN_STACKS.iter().find(|(own, _)| *own == vector).map_or(0, |(_, ist)| *ist);
    let rights = if SOFT.contains(&vector) { GATE | FROM_RING_3 } else { GATE };
    let low =
        address & 0xffff | KERNEL_CS << 16 | (ist | rights) << 32 | (address >> 16 & 0xffff) << 48;
    [low, address >> 32]
}
