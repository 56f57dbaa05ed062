//! All cases, one file per area.

mod callback;
mod console;
mod cpu;
mod cpuid;
mod crash;
mod debug;
mod device;
mod emulation;
mod ext_base;
mod ext_flush;
mod fpu;
mod gdt;
mod grant_batch;
mod grant_copy;
mod grant_entry;
mod grant_map;
mod grant_replace;
mod grant_table;
mod grant_unmap;
mod info;
mod iret;
mod layout;
mod ldt;
mod mapping;
mod memory;
mod memory_exchange;
mod memory_query;
mod memory_reservation;
mod mmu_batch;
mod mmu_bits;
mod mmu_target;
mod mmu_upper;
mod mmu_va;
mod multicall;
mod pin_levels;
mod pin_types;
mod preserve;
mod ptwr;
mod registers;
mod sched;
mod segments;
mod shared;
mod trap_control;
mod trap_edge;
mod trap_frame;
mod trap_ldt;
mod trap_msr;
mod trap_ports;
mod trap_soft;
mod trap_stack;
mod trap_stage;
mod trap_syscall;
mod trap_table;
mod traps;
mod truncation;
mod unknown;
mod version;

use crate::case::Case;

const AREAS: &[&[Case]] = &[
    registers::CASES,
    info::CASES,
    layout::CASES,
    shared::CASES,
    version::CASES,
    unknown::CASES,
    truncation::CASES,
    console::CASES,
    sched::CASES,
    preserve::CASES,
    cpuid::CASES,
    traps::CASES,
    cpu::CASES,
    mapping::CASES,
    memory::CASES,
    trap_table::CASES,
    trap_soft::CASES,
    trap_frame::CASES,
    iret::CASES,
    callback::CASES,
    trap_syscall::CASES,
    segments::CASES,
    debug::CASES,
    device::CASES,
    fpu::CASES,
    trap_control::CASES,
    emulation::CASES,
    trap_ports::CASES,
    multicall::CASES,
    trap_edge::CASES,
    trap_ldt::CASES,
    trap_msr::CASES,
    trap_stack::CASES,
    crash::CASES,
    mmu_batch::CASES,
    mmu_target::CASES,
    mmu_bits::CASES,
    mmu_upper::BITS,
    mmu_upper::CASES,
    pin_types::CASES,
    pin_levels::CASES,
    mmu_va::CASES,
    ext_flush::CASES,
    ext_base::CASES,
    ext_base::PAGES,
    ptwr::INSTRUCTIONS,
    ptwr::CASES,
    gdt::DESCRIPTORS,
    gdt::CASES,
    ldt::CASES,
    memory_reservation::CASES,
    memory_exchange::CASES,
    memory_query::CASES,
    grant_table::CASES,
    grant_entry::CASES,
    grant_map::CASES,
    grant_unmap::CHANGED,
    grant_unmap::CASES,
    grant_replace::CASES,
    grant_copy::ENTRIES,
    grant_copy::CASES,
    grant_batch::CASES,
];

/// All cases, in the order of their numbers.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    AREAS.iter().copied().flatten()
}
