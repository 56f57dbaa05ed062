//! The state of a virtual CPU, found through the kernel's base of `gs`.

use core::arch::asm;
use core::cell::Cell;
use core::sync::atomic::{AtomicBool, Ordering};

use hypercall_abi::call::Hypercall;
use hypercall_abi::errno::Errno;
use hypercall_abi::segment::{FS, GS_KERNEL, GS_USER};
use hypercall_abi::types::VcpuId;
use hypercall_abi::vcpu::{
    self as abi, REGISTER_VCPU_INFO, RegisterRunstateArea, RegisterVcpuInfo,
};

use super::gate::{Gate, Machine};
use super::memory::tables::{home, machine};
use super::memory::{Frame, pointer};
use super::request::{self, register_vcpu_info, set_segment_base};
use crate::boot::BootInfo;
use crate::error::{HypercallError, Site, perform};
use crate::paging::MemoryError;
use crate::shared::{RunstateArea, VCPU_LIMIT, VcpuInfo, shared};
use crate::vcpu::Vcpu;

/// What entry code uses, by offset from the base of `gs`.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Area {
    /// The address of this area.
    this: Cell<u64>,
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

static SLOTS: [Slot; VCPU_LIMIT] = {
    let mut slots = [const { Slot(Vcpu::new(0)) }; VCPU_LIMIT];
    let mut number = 0;
    while number < VCPU_LIMIT {
        #[expect(clippy::cast_possible_truncation, reason = "64 is a small number")]
        {
            slots[number].0.id = VcpuId(number as u32);
        }
        number += 1;
    }
    slots
};
static STARTED: AtomicBool = AtomicBool::new(false);

static GS_BASE: Site = Site::operation(
    Hypercall::SetSegmentBase,
    hypercall_abi::segment::OPS,
    GS_KERNEL,
    &[(Errno::EINVAL, "the address is not canonical")],
);

static REGISTER: Site = Site::operation(
    Hypercall::VcpuOp,
    abi::OPS,
    REGISTER_VCPU_INFO,
    &[(Errno::ENOENT, "there is no such virtual CPU")],
);
static RUNSTATE: Site = Site::operation(
    Hypercall::VcpuOp,
    abi::OPS,
    abi::REGISTER_RUNSTATE_MEMORY_AREA,
    &[(Errno::ENOENT, "there is no such virtual CPU")],
);
static USER_BASE: Site =
    Site::call(Hypercall::SetSegmentBase, &[(Errno::EINVAL, "the address is not canonical")]);

/// Gives the first virtual CPU its state, shared page, trap table and callbacks. Doing it again
/// sets the tables again.
pub(crate) fn start(
    gate: &impl Gate,
    boot: &BootInfo<'_>,
) -> Result<&'static Vcpu, HypercallError> {
    let shared = super::shared::shared_info(gate, boot)?;
    crate::shared::remember(shared);
    let vcpu = &SLOTS[0].0;
    let base = set_area(vcpu, &shared.vcpus[0]);
    // SAFETY: the base is the state of this vCPU, which lives as long as the program.
    let request = unsafe { set_segment_base(GS_KERNEL, base) };
    perform(gate, &GS_BASE, &request)?;
    STARTED.store(true, Ordering::Relaxed);
    super::trap::install(gate)?;
    Ok(vcpu)
}

/// Makes the area of a virtual CPU what entry code expects, and returns its address.
fn set_area(vcpu: &'static Vcpu, info: &'static VcpuInfo) -> u64 {
    let base = core::ptr::from_ref(vcpu).expose_provenance() as u64;
    vcpu.area.this.set(base);
    vcpu.info.set(Some(info));
    base
}

/// Gives another virtual CPU than the first its area and a place to share, with events held back.
/// Returns the address of the area.
///
/// # Safety
/// The virtual CPU must never have run, and nobody else may prepare it meanwhile.
pub(super) unsafe fn prepare(number: usize) -> Result<u64, MemoryError> {
    let shared = shared().ok_or(MemoryError::NotStarted)?;
    let vcpu = &SLOTS[number].0;
    let info = match shared.vcpus.get(number) {
        Some(info) => info,
        None => own_info(vcpu.id)?,
    };
    info.upcall_mask.store(1, Ordering::SeqCst);
    Ok(set_area(vcpu, info))
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
    area: &'static RunstateArea,
) -> Result<(), HypercallError> {
    let addr = core::ptr::from_ref(area).expose_provenance() as u64;
    let area = RegisterRunstateArea { addr };
    // SAFETY: the area consists of atomics and lives as long as the program.
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

/// The state of a virtual CPU.
///
/// # Safety
/// It must not run, and nobody else may have it.
pub(super) unsafe fn of(number: usize) -> &'static Vcpu {
    &SLOTS[number].0
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
