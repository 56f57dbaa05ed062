//! The page the hypervisor shares with a domain: pending events, clocks, masks.

use core::mem::offset_of;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

use hypercall_abi::start;
use spin::Once;
use zerocopy::FromZeros;

/// How many virtual CPUs have their state in the shared page.
pub const VCPUS: usize = hypercall_abi::layout::LEGACY_MAX_VCPUS;

/// How many virtual CPUs the SDK can run.
pub const VCPU_LIMIT: usize = 64;

static SHARED: Once<&'static SharedInfo> = Once::new();

/// The page that is shared, once `Vcpu::start` has mapped it.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{shared, println};
/// # fn example() {
/// use core::sync::atomic::Ordering;
///
/// if let Some(page) = shared::shared() {
///     println!("wall clock version {}", page.wall_clock_version.load(Ordering::Acquire));
/// }
/// # }
/// ```
pub fn shared() -> Option<&'static SharedInfo> {
    SHARED.get().copied()
}

/// Remembers where the page is.
#[cfg(target_os = "none")]
pub(crate) fn remember(page: &'static SharedInfo) {
    SHARED.call_once(|| page);
}

/// What the hypervisor and one virtual CPU tell each other.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{shared::VcpuInfo};
/// # fn example(info: &VcpuInfo) -> bool {
/// use core::sync::atomic::Ordering;
///
/// info.upcall_pending.load(Ordering::Acquire) != 0
/// # }
/// ```
#[derive(Debug, FromZeros)]
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
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{shared::VcpuTime, time::Scale};
/// # fn example(time: &VcpuTime, counter: fn() -> u64) {
/// let (scale, now) = Scale::read(time, counter);
/// # }
/// ```
#[derive(Debug, FromZeros)]
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
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{shared::SharedInfo};
/// # fn example(page: &SharedInfo) -> bool {
/// use core::sync::atomic::Ordering;
///
/// // Whether an event waits at port 5.
/// page.pending[0].load(Ordering::Acquire) & 1 << 5 != 0
/// # }
/// ```
#[derive(Debug, FromZeros)]
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

const _: () = assert!(size_of::<SharedInfo>() == 4096);

/// Refuses to compile unless a field lies where the ABI's form of it does.
macro_rules! same_place {
    ($($ours:ident.$field:ident = $abi:ident.$name:ident;)*) => {
        $(const _: () = assert!(offset_of!($ours, $field) == offset_of!(start::$abi, $name));)*
    };
}

same_place! {
    VcpuInfo.upcall_pending = VcpuInfo.evtchn_upcall_pending;
    VcpuInfo.upcall_mask = VcpuInfo.evtchn_upcall_mask;
    VcpuInfo.pending_words = VcpuInfo.evtchn_pending_sel;
    VcpuInfo.fault_address = VcpuInfo.cr2;
    VcpuInfo.time = VcpuInfo.time;
    VcpuTime.version = VcpuTimeInfo.version;
    VcpuTime.tsc_timestamp = VcpuTimeInfo.tsc_timestamp;
    VcpuTime.system_time = VcpuTimeInfo.system_time;
    VcpuTime.tsc_to_system_mul = VcpuTimeInfo.tsc_to_system_mul;
    VcpuTime.tsc_shift = VcpuTimeInfo.tsc_shift;
    VcpuTime.flags = VcpuTimeInfo.flags;
    SharedInfo.vcpus = SharedInfo.vcpu_info;
    SharedInfo.pending = SharedInfo.evtchn_pending;
    SharedInfo.mask = SharedInfo.evtchn_mask;
    SharedInfo.wall_clock_version = SharedInfo.wc_version;
    SharedInfo.wall_clock_seconds = SharedInfo.wc_sec;
    SharedInfo.wall_clock_nanoseconds = SharedInfo.wc_nsec;
    SharedInfo.wall_clock_seconds_high = SharedInfo.wc_sec_hi;
    SharedInfo.max_pfn = SharedInfo.arch;
}
