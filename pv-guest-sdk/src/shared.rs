//! The page the hypervisor shares with a domain: pending events, clocks, masks.

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

/// How many virtual CPUs have their state in the shared page.
pub const VCPUS: usize = 32;

/// What the hypervisor and one virtual CPU tell each other.
#[derive(Debug)]
#[repr(C)]
pub struct VcpuInfo {
    /// Not 0 if an event waits.
    pub upcall_pending: AtomicU8,
    /// Not 0 while events are held back.
    pub upcall_mask: AtomicU8,
    reserved: [AtomicU8; 6],
    /// One bit for each word of [`SharedInfo::pending`] that has a bit set.
    pub pending_words: AtomicU64,
    /// The address of the last page fault.
    pub fault_address: AtomicU64,
    reserved_24: AtomicU64,
    /// How to make time of the processor's counter.
    pub time: VcpuTime,
}

/// How one virtual CPU makes time of the processor's counter. Read it again when `version` was odd
/// or has changed meanwhile.
#[derive(Debug)]
#[repr(C)]
pub struct VcpuTime {
    /// Odd while the hypervisor writes.
    pub version: AtomicU32,
    reserved: AtomicU32,
    /// The counter at `system_time`.
    pub tsc_timestamp: AtomicU64,
    /// Time since the system's start. Unit: ns.
    pub system_time: AtomicU64,
    /// Factor from the shifted counter to ns. Unit: 2^-32.
    pub tsc_to_system_mul: AtomicU32,
    /// Shift of the counter's difference, left if positive (a signed value in 8 bits).
    pub tsc_shift: AtomicU8,
    /// Properties of the clock.
    pub flags: AtomicU8,
    reserved_30: [AtomicU8; 2],
}

/// The page the hypervisor shares with this domain. Both sides write, so everything is atomic.
#[derive(Debug)]
#[repr(C)]
pub struct SharedInfo {
    /// One entry per virtual CPU.
    pub vcpus: [VcpuInfo; VCPUS],
    /// A bit per port: an event waits.
    pub pending: [AtomicU64; 64],
    /// A bit per port: held back.
    pub mask: [AtomicU64; 64],
    /// Odd while the hypervisor writes the wall clock.
    pub wall_clock_version: AtomicU32,
    /// Wall clock at system time 0. Unit: s, lower half.
    pub wall_clock_seconds: AtomicU32,
    /// Wall clock at system time 0. Unit: ns.
    pub wall_clock_nanoseconds: AtomicU32,
    /// Wall clock at system time 0. Unit: 2^32 s.
    pub wall_clock_seconds_high: AtomicU32,
    /// Written by the guest: the number of its pages.
    pub max_pfn: AtomicU64,
    /// Written by the guest: where its list of frames begins.
    pub frame_list_list: AtomicU64,
    /// Why a non-maskable interrupt came.
    pub nmi_reason: AtomicU64,
    rest: [AtomicU64; 123],
}

const _: () = assert!(size_of::<VcpuInfo>() == 64);
const _: () = assert!(core::mem::offset_of!(VcpuInfo, time) == 32);
const _: () = assert!(core::mem::offset_of!(SharedInfo, pending) == 2048);
const _: () = assert!(core::mem::offset_of!(SharedInfo, wall_clock_version) == 3072);
const _: () = assert!(core::mem::offset_of!(SharedInfo, max_pfn) == 3088);
const _: () = assert!(size_of::<SharedInfo>() == 4096);
