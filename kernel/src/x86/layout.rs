//! Where everything lies in the address space: the one place that fixes virtual addresses.
//!
//! The ABI gives the hypervisor the L4 slots 256 to 271 of every address space and the guest all
//! others. Each of the sixteen slots has its L3 table from boot on and keeps it for ever, so that a
//! new L4 is made by copying sixteen entries and never needs to be brought up to date.
//!
//! | slot | what | guest may |
//! |---|---|---|
//! | 256 | machine-to-physical table, 2 MiB pages | read the first 256 GiB |
//! | 257 | descriptor-table windows, one per vCPU | nothing |
//! | 258 | frame table | nothing |
//! | 261 | kernel image, and the per-CPU areas 1 GiB above it | nothing |
//! | 262 | registers of interrupt controllers; a page for each CPU to reach other devices | nothing |
//! | 264-271 | direct map of all memory | nothing |

/// First L4 slot that belongs to the hypervisor.
pub(crate) const FIRST_SLOT: usize = 256;
/// How many L4 slots belong to the hypervisor.
pub(crate) const SLOTS: usize = 16;

/// The machine-to-physical table (ABI: `MACH2PHYS_VIRT_START`), one `u64` per machine frame.
pub(crate) const M2P_BASE: u64 = 0xffff_8000_0000_0000;
/// Descriptor-table windows: [`WINDOW_PAGES`] pages per vCPU.
pub(crate) const WINDOWS_BASE: u64 = 0xffff_8080_0000_0000;
/// Pages of one window: 16 for the GDT (14 of them the guest's), 16 for the LDT.
pub(crate) const WINDOW_PAGES: u64 = 32;
/// The frame table, 16 bytes per machine frame.
pub(crate) const FRAMES_BASE: u64 = 0xffff_8100_0000_0000;
/// Kernel image: physical address plus this constant.
pub(crate) const IMAGE_BASE: u64 = 0xffff_8280_0000_0000;
/// Per-CPU areas. Within 2 GiB of the image, so that entry code reaches them relative to RIP.
pub(crate) const PERCPU_BASE: u64 = 0xffff_8280_4000_0000;
/// Distance between two CPUs' areas, also their alignment: the area's base is the stack pointer
/// rounded down to it.
pub(crate) const PERCPU_STRIDE: u64 = 128 * 1024;
/// The most CPUs the kernel starts; further ones stay parked.
pub(crate) const MAX_CPUS: usize = 64;
/// Direct map of all memory: machine address plus this constant.
pub(crate) const DIRECT_BASE: u64 = 0xffff_8400_0000_0000;
/// Bytes the direct map can cover.
pub(crate) const DIRECT_SIZE: u64 = 4 << 40;
/// Registers of the devices ring 0 programs itself: interrupt controllers.
pub(crate) const DEVICES_BASE: u64 = 0xffff_8300_0000_0000;
/// One page for each CPU, through which it reaches registers of other devices.
pub(crate) const PEEPHOLES_BASE: u64 = 0xffff_8300_4000_0000;

/// A linear address as the number a pointer is made from: both have 64 bits on this machine.
#[expect(clippy::cast_possible_truncation, reason = "the kernel is built for 64 bits alone")]
pub(crate) const fn pointer(address: u64) -> usize {
    address as usize
}
