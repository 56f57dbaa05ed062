//! The state of a virtual CPU, found through the kernel's base of `gs`.

use core::arch::asm;
use core::cell::Cell;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hypercall_abi::call::Hypercall;
use hypercall_abi::errno::Errno;
use hypercall_abi::segment::{FS, GS_KERNEL, GS_USER};
use hypercall_abi::types::VcpuId;
use hypercall_abi::vcpu::{self as abi, RegisterRunstateArea, RegisterVcpuInfo};

use super::gate::{Gate, Machine};
use super::memory::tables::{home, machine};
use super::memory::{Frame, pointer};
use super::request::{self, register_vcpu_info, set_segment_base};
use crate::boot::BootInfo;
use crate::error::{HypercallError, Site, perform};
use crate::paging::MemoryError;
use crate::shared::{VCPU_LIMIT, VcpuInfo, shared};
use crate::vcpu::{NO_VCPU, Vcpu, site};

/// What entry code uses, by offset from the base of `gs`.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Area {
    /// The address of this area.
    pub(super) this: Cell<u64>,
    /// The stack on which the hypervisor enters from user mode; 0: not set.
    pub(super) kernel_stack: Cell<u64>,
}

impl Area {
    pub(crate) const fn new() -> Self {
        Self { this: Cell::new(0), kernel_stack: Cell::new(0) }
    }
}

/// The state of one virtual CPU.
struct Slot(Vcpu);

// SAFETY: `current` leads a virtual CPU to its own state alone. `start` and `prepare` touch another
// one's only before it runs, and once.
unsafe impl Sync for Slot {}

static SLOTS: [Slot; VCPU_LIMIT] = [const { Slot(Vcpu::new()) }; VCPU_LIMIT];
static STARTED: AtomicBool = AtomicBool::new(false);

static GS_BASE: Site = Site::operation(
    Hypercall::SetSegmentBase,
    hypercall_abi::segment::OPS,
    GS_KERNEL,
    &[(Errno::EINVAL, "the address is not canonical")],
);

static REGISTER: Site = site(abi::REGISTER_VCPU_INFO, &[NO_VCPU]);
static RUNSTATE: Site = site(abi::REGISTER_RUNSTATE_MEMORY_AREA, &[NO_VCPU]);
static USER_BASE: Site =
    Site::call(Hypercall::SetSegmentBase, &[(Errno::EINVAL, "the address is not canonical")]);

/// Gives the first virtual CPU its state, shared page, trap table and callbacks. Doing it again
/// sets the tables again; others have theirs.
pub(crate) fn start(
    gate: &impl Gate,
    boot: &BootInfo<'_>,
) -> Result<&'static Vcpu, HypercallError> {
    if let Some(other) = current().filter(|vcpu| vcpu.index() != 0) {
        return Ok(other);
    }
    let shared = super::shared::shared_info(gate, boot)?;
    crate::shared::remember(shared);
    let vcpu = &SLOTS[0].0;
    vcpu.area.this.set(core::ptr::from_ref(vcpu).expose_provenance() as u64);
    vcpu.info.set(Some(&shared.vcpus[0]));
    // SAFETY: the base is the state of this vCPU, which lives as long as the program.
    let request = unsafe { set_segment_base(GS_KERNEL, vcpu.area.this.get()) };
    perform(gate, &GS_BASE, &request)?;
    STARTED.store(true, Ordering::Relaxed);
    super::trap::install(gate)?;
    Ok(vcpu)
}

/// The state of another virtual CPU than the first, with an area, and a place to share in which
/// events are held back.
///
/// # Safety
/// It must never have run, and nobody else may have its state meanwhile.
pub(super) unsafe fn prepare(id: VcpuId, number: usize) -> Result<&'static Vcpu, MemoryError> {
    let shared = shared().ok_or(MemoryError::NotStarted)?;
    let vcpu = &SLOTS[number].0;
    let info = match shared.vcpus.get(number) {
        Some(info) => info,
        None => own_info(id)?,
    };
    info.upcall_mask.store(1, Ordering::SeqCst);
    vcpu.id.set(id);
    vcpu.info.set(Some(info));
    vcpu.area.this.set(core::ptr::from_ref(vcpu).expose_provenance() as u64);
    Ok(vcpu)
}

/// A page for a virtual CPU that has no place in the shared page.
fn own_info(vcpu: VcpuId) -> Result<&'static VcpuInfo, MemoryError> {
    let page = Frame::new()?.into_page();
    let info: *const VcpuInfo = pointer(home(page));
    // SAFETY: a zeroed page that was given up for this, for ever; the other side uses atomics too.
    let info = unsafe { &*info };
    let place = RegisterVcpuInfo { mfn: machine(page)?.0, offset: 0, rsvd: 0 };
    // SAFETY: as before.
    let request = unsafe { register_vcpu_info(vcpu, &place) };
    perform(&Machine, &REGISTER, &request)?;
    Ok(info)
}

/// Keeps the area of a virtual CPU up to date.
pub(crate) fn register_runstate(
    gate: &impl Gate,
    vcpu: VcpuId,
    area: &'static [AtomicU64; 6],
) -> Result<(), HypercallError> {
    let addr = core::ptr::from_ref(area).expose_provenance() as u64;
    let area = RegisterRunstateArea { addr };
    // SAFETY: the area is 48 bytes of atomics and lives as long as the program.
    let request = unsafe { request::register_runstate(vcpu, &area) };
    perform(gate, &RUNSTATE, &request).map(drop)
}

/// Loads the bases of `fs` and of user mode's `gs`.
pub(crate) fn set_user_bases(gate: &impl Gate, fs: u64, gs: u64) -> Result<(), HypercallError> {
    for (which, base) in [(FS, fs), (GS_USER, gs)] {
        // SAFETY: kernel mode uses neither.
        let request = unsafe { set_segment_base(which, base) };
        perform(gate, &USER_BASE, &request)?;
    }
    Ok(())
}

/// The state of the virtual CPU that executes this; `None` before [`start`].
pub(crate) fn current() -> Option<&'static Vcpu> {
    if !STARTED.load(Ordering::Relaxed) {
        return None;
    }
    let address: usize;
    // SAFETY: every vCPU that runs Rust code after `start` has its state at the base of `gs`,
    // which nothing else changes in kernel mode, and the state's first word is its own address.
    unsafe {
        asm!("mov {}, gs:[0]", out(reg) address, options(nostack, readonly, preserves_flags));
    }
    let vcpu: *const Vcpu = core::ptr::with_exposed_provenance(address);
    // SAFETY: as before; the state lives as long as the program and is used on this vCPU alone.
    Some(unsafe { &*vcpu })
}
