//! Stores to page tables: where an entry can be reached, and whether a store to it faults.

use pv_guest_sdk::Machine;
use pv_guest_sdk::raw::shared::shared_info;

use super::memory::peek;
use super::pages_scratch::Page;
use super::{Code, Registers, run, trap};
use crate::case::{Test, Verdict, equal};
use crate::tables::{address_of, page_of};
use crate::traps::{install, remove};

/// The address at which the entry that maps a page can be read.
pub(crate) fn entry_at(window: Page) -> u64 {
    address_of(page_of(window.slot >> 12)) + (window.slot & 0xfff)
}

/// Runs a snippet; the error code of the page fault, if there was one.
pub(crate) fn attempt(code: Code, registers: &mut Registers) -> Result<Option<u64>, Verdict> {
    install(14, 0)?;
    trap::forget();
    run(code, registers);
    remove()?;
    Ok(trap::last().map(|(_, words)| words[2]))
}

/// Stores rax at an address; the error code of the page fault, if there was one.
pub(crate) fn store(code: Code, address: u64, rax: u64) -> Result<Option<u64>, Verdict> {
    let mut registers = Registers::new();
    (registers.rax, registers.rsi) = (rax, address);
    attempt(code, &mut registers)
}

/// Runs a snippet on the entry that maps a page; it must not fault.
pub(crate) fn carried_out(
    code: Code,
    window: Page,
    rax: u64,
    rbx: u64,
) -> Result<Registers, Verdict> {
    let mut registers = Registers::new();
    (registers.rax, registers.rbx, registers.rsi) = (rax, rbx, entry_at(window));
    equal("fault", attempt(code, &mut registers)?.is_some(), false)?;
    Ok(registers)
}

/// The address of the last page fault, as the hypervisor tells it.
pub(crate) fn fault_address(t: &Test<'_>) -> Result<u64, Verdict> {
    match shared_info(&Machine, t.boot) {
        Ok(page) => Ok(peek(core::ptr::from_ref(page).expose_provenance() as u64 + 16)),
        Err(_) => Err(Verdict::Skip("the shared page is not mapped")),
    }
}
