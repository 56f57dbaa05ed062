//! The hypercalls, one file per subject.

pub mod assist;
pub mod console;
pub mod control;
pub mod cpu;
pub mod event;
pub mod extension;
pub mod grant;
pub mod memory_map;
pub mod mmu;
pub mod multicall;
pub mod physdev;
pub mod platform;
pub mod sched;
#[cfg(test)]
mod tests;
pub mod traps;
pub mod vcpu;
pub mod version;
