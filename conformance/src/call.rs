//! Hypercalls with any number and any arguments.

use crate::raw::{Registers, run, snippets};

pub(crate) const SET_TRAP_TABLE: u64 = 0;
pub(crate) const MMU_UPDATE: u64 = 1;
pub(crate) const STACK_SWITCH: u64 = 3;
pub(crate) const SET_DEBUGREG: u64 = 8;
pub(crate) const GET_DEBUGREG: u64 = 9;
pub(crate) const MULTICALL: u64 = 13;
pub(crate) const VM_ASSIST: u64 = 21;
pub(crate) const VCPU_OP: u64 = 24;
pub(crate) const SET_SEGMENT_BASE: u64 = 25;
pub(crate) const CALLBACK_OP: u64 = 30;
pub(crate) const MEMORY_OP: u64 = 12;
pub(crate) const UPDATE_VA_MAPPING: u64 = 14;
pub(crate) const XEN_VERSION: u64 = 17;
pub(crate) const CONSOLE_IO: u64 = 18;
pub(crate) const GRANT_TABLE_OP: u64 = 20;
pub(crate) const MMUEXT_OP: u64 = 26;
pub(crate) const SCHED_OP: u64 = 29;

pub(crate) const EPERM: i64 = -1;
pub(crate) const EFAULT: i64 = -14;
pub(crate) const EBUSY: i64 = -16;
pub(crate) const ENODEV: i64 = -19;
pub(crate) const EINVAL: i64 = -22;
pub(crate) const ENOSYS: i64 = -38;

/// Registers that make a hypercall.
pub(crate) fn registers(number: u64, args: &[u64]) -> Registers {
    let mut registers = Registers::new();
    registers.rax = number;
    let arg = |index: usize| args.get(index).copied().unwrap_or(0);
    registers.rdi = arg(0);
    registers.rsi = arg(1);
    registers.rdx = arg(2);
    registers.high[2] = arg(3);
    registers.high[0] = arg(4);
    registers.high[1] = arg(5);
    registers
}

/// Makes a hypercall. Arguments not given are zero.
pub(crate) fn hypercall(number: u64, args: &[u64]) -> i64 {
    let mut registers = registers(number, args);
    run(snippets::SYSCALL, &mut registers);
    registers.rax.cast_signed()
}
