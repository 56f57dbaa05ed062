//! All cases, one file per area.

mod block;
mod callback;
mod clock;
mod compat;
mod console;
mod control;
mod control_more;
mod cpu;
mod cpuid;
mod crash;
mod debug;
mod debug_ports;
mod device;
mod emulation;
mod event_bind;
pub(crate) mod event_calls;
mod event_close;
mod event_delivery;
mod event_ports;
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
mod ipi;
mod iret;
mod layout;
mod ldt;
mod mapping;
mod memory;
mod memory_exchange;
mod memory_order;
mod memory_query;
mod memory_reservation;
mod mmu_batch;
mod mmu_bits;
mod mmu_order;
mod mmu_target;
mod mmu_upper;
mod mmu_va;
mod multicall;
mod pair_copy;
mod pair_event;
mod pair_grant;
mod pair_memory;
mod pair_rights;
mod physdev;
mod pin_levels;
mod pin_types;
mod pirq;
mod platform;
pub(crate) mod poll;
mod port_devices;
mod preserve;
mod ptwr;
mod registers;
mod rest;
mod rulers;
mod runstate;
mod sched;
mod segments;
mod shared;
mod timer;
mod toolstack;
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
mod vcpu_entry;
mod vcpu_info;
mod vcpu_run;
mod vcpu_start;
mod version;
mod watchdog;
mod xsave;

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
    control::CASES,
    control_more::CASES,
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
    debug_ports::CASES,
    device::CASES,
    fpu::CASES,
    xsave::CASES,
    trap_control::CASES,
    emulation::CASES,
    trap_ports::CASES,
    port_devices::CASES,
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
    mmu_order::CASES,
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
    memory_order::CASES,
    event_ports::CALLS,
    event_ports::CASES,
    event_bind::INTERDOMAINS,
    event_bind::VIRQS,
    event_bind::VCPUS,
    event_close::CASES,
    event_close::SENDS,
    event_close::RESETS,
    event_delivery::CASES,
    poll::CASES,
    poll::TIMERS,
    clock::CASES,
    timer::CASES,
    runstate::CASES,
    vcpu_start::CONTEXTS,
    vcpu_start::CASES,
    vcpu_entry::CASES,
    vcpu_info::CASES,
    ipi::CASES,
    vcpu_run::CASES,
    block::CASES,
    block::TIMERS,
    watchdog::CASES,
    watchdog::ENDS,
    compat::CASES,
    grant_table::CASES,
    grant_entry::CASES,
    grant_map::CASES,
    grant_unmap::CHANGED,
    grant_unmap::CASES,
    grant_replace::CASES,
    grant_copy::ENTRIES,
    grant_copy::CASES,
    grant_batch::CASES,
    physdev::CASES,
    pirq::CASES,
    platform::SUB_OPS,
    platform::CASES,
    rulers::DOMAINS,
    rulers::MACHINE,
    rulers::CASES,
    toolstack::POOLS,
    toolstack::CLAIMS,
    toolstack::POLICIES,
    rest::CALLS,
    rest::MEMORY,
];

/// Those of two domains.
const PAIRS: &[&[Case]] = &[
    pair_event::CASES,
    pair_grant::CASES,
    pair_copy::CASES,
    pair_rights::CASES,
    pair_memory::CASES,
];

/// All cases of two domains, in the order of their numbers.
pub(crate) fn pairs() -> impl Iterator<Item = &'static Case> + Clone {
    PAIRS.iter().copied().flatten()
}

/// All cases of one domain, in the order of their numbers.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> + Clone {
    AREAS.iter().copied().flatten()
}
