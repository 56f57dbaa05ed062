//! The state of a virtual CPU, found through the kernel's base of `gs`.

use core::arch::asm;
use core::cell::Cell;
use core::ops::Deref;
use core::sync::atomic::{AtomicBool, Ordering};

use hypercall_abi::call::Hypercall;
use hypercall_abi::errno::Errno;
use hypercall_abi::segment::{FS, GS_KERNEL, GS_USER};

use super::gate::Gate;
use super::request::set_segment_base;
use crate::boot::BootInfo;
use crate::error::{HypercallError, Site, perform};
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

/// The first virtual CPU's state.
struct First(Vcpu);

// SAFETY: only `start` and `current` lead to the state, and only on the first virtual CPU.
unsafe impl Sync for First {}

impl Deref for First {
    type Target = Vcpu;

    fn deref(&self) -> &Vcpu {
        &self.0
    }
}

static FIRST: First = First(Vcpu::new(0));
static STARTED: AtomicBool = AtomicBool::new(false);

static GS_BASE: Site = Site::operation(
    Hypercall::SetSegmentBase,
    hypercall_abi::segment::OPS,
    GS_KERNEL,
    &[(Errno::EINVAL, "the address is not canonical")],
);

static USER_BASE: Site =
    Site::call(Hypercall::SetSegmentBase, &[(Errno::EINVAL, "the address is not canonical")]);

/// Gives the first virtual CPU its state, shared page, trap table and callbacks. Doing it again
/// sets the tables again.
pub(crate) fn start(
    gate: &impl Gate,
    boot: &BootInfo<'_>,
) -> Result<&'static Vcpu, HypercallError> {
    let vcpu: &'static Vcpu = &FIRST;
    let base = core::ptr::from_ref(vcpu).expose_provenance() as u64;
    vcpu.area.this.set(base);
    vcpu.share(super::shared::shared_info(gate, boot)?);
    // SAFETY: the base is the state of this vCPU, which lives as long as the program.
    let request = unsafe { set_segment_base(GS_KERNEL, base) };
    perform(gate, &GS_BASE, &request)?;
    STARTED.store(true, Ordering::Relaxed);
    super::trap::install(gate)?;
    Ok(vcpu)
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
