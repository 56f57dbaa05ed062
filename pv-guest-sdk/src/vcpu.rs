//! The virtual CPU that executes a program: its traps, its events, its user mode.

use core::cell::Cell;
use core::sync::atomic::Ordering;

use hypercall_abi::types::VcpuId;

use crate::boot::BootInfo;
use crate::error::HypercallError;
use crate::raw::gate::{Gate, Machine};
use crate::raw::vcpu::Area;
use crate::raw::{request, vcpu};
use crate::shared::{SharedInfo, VcpuInfo};
use crate::trap::{Handler, Observed, Resume, Trap, Vector};

/// The state of one virtual CPU. It stays with its CPU: a reference cannot be sent to another.
#[derive(Debug)]
#[repr(C)]
pub struct Vcpu {
    pub(crate) area: Area,
    id: VcpuId,
    info: Cell<Option<&'static VcpuInfo>>,
    handlers: [Cell<Option<Handler>>; Vector::COUNT],
    /// While an observer runs: the last trap it saw.
    observed: Cell<Option<Option<Observed>>>,
    /// The page tables of user mode that are loaded; machine frame, 0 for none.
    pub(crate) user_root: Cell<u64>,
}

impl Vcpu {
    pub(crate) const fn new(number: u32) -> Self {
        Self {
            area: Area::new(),
            id: VcpuId(number),
            info: Cell::new(None),
            handlers: [const { Cell::new(None) }; Vector::COUNT],
            observed: Cell::new(None),
            user_root: Cell::new(0),
        }
    }

    /// Starts the first virtual CPU: from now on its traps reach handlers, and a trap without a
    /// handler is reported before it ends the domain.
    ///
    /// # Errors
    /// [`HypercallError`] if the hypervisor refuses one of the tables.
    pub fn start(boot: &BootInfo<'_>) -> Result<&'static Self, HypercallError> {
        vcpu::start(&Machine, boot)
    }

    /// The virtual CPU that executes this; `None` before [`Vcpu::start`].
    #[must_use]
    pub fn current() -> Option<&'static Self> {
        vcpu::current()
    }

    /// Its number in the domain.
    #[must_use]
    pub const fn id(&self) -> VcpuId {
        self.id
    }

    /// Sets the handler of a vector and returns the one it had.
    ///
    /// It may run at any instruction, so it must not wait for a lock that the code it interrupts
    /// may hold (frames and heap have one each).
    pub fn handle(&self, vector: Vector, handler: Handler) -> Option<Handler> {
        self.handlers.get(vector.index())?.replace(Some(handler))
    }

    /// Takes a vector's handler away and returns it.
    pub fn forget(&self, vector: Vector) -> Option<Handler> {
        self.handlers.get(vector.index())?.take()
    }

    /// Does something, and returns beside its result the last trap that it caused. Traps that have
    /// no handler are answered by [`Resume::Skip`] meanwhile.
    pub fn observe<T>(&self, operation: impl FnOnce() -> T) -> (T, Option<Observed>) {
        let outer = self.observed.replace(Some(None));
        let result = operation();
        (result, self.observed.replace(outer).flatten())
    }

    /// What this CPU shares with the hypervisor.
    #[must_use]
    pub fn info(&self) -> Option<&'static VcpuInfo> {
        self.info.get()
    }

    /// Whether events are held back.
    #[must_use]
    pub fn events_held(&self) -> bool {
        self.info.get().is_none_or(|info| info.upcall_mask.load(Ordering::Relaxed) != 0)
    }

    /// Holds events back, or lets them come.
    pub fn hold_events(&self, hold: bool) {
        let Some(info) = self.info.get() else { return };
        info.upcall_mask.store(hold.into(), Ordering::SeqCst);
        if !hold && info.upcall_pending.load(Ordering::SeqCst) != 0 {
            // One that came meanwhile is delivered at the end of any call.
            Machine.call(&request::version());
        }
    }

    /// The address of the last page fault.
    pub(crate) fn fault_address(&self) -> u64 {
        self.info.get().map_or(0, |info| info.fault_address.load(Ordering::Relaxed))
    }

    /// Loads the bases of `fs` and of user mode's `gs`. What they are is not known before: user
    /// mode changes them by loading selectors.
    pub(crate) fn set_user_bases(&self, fs: u64, gs: u64) -> Result<(), HypercallError> {
        vcpu::set_user_bases(&Machine, fs, gs)
    }

    pub(crate) fn share(&self, shared: &'static SharedInfo) {
        let number = usize::try_from(self.id.0).unwrap_or(usize::MAX);
        self.info.set(shared.vcpus.get(number));
    }

    /// Runs the handler of a trap.
    pub(crate) fn dispatch(&self, trap: &Trap<'_>) -> Resume {
        let vector = trap.vector();
        match self.handlers.get(vector.index()).and_then(Cell::get) {
            Some(handler) => handler(trap),
            None if vector == Vector::EVENT => self.drop_event(),
            None if self.observed.get().is_some() => {
                let (error, address) = (trap.error(), trap.fault_address());
                self.observed.set(Some(Some(Observed { vector, error, address })));
                Resume::Skip
            }
            None => Resume::Unhandled,
        }
    }

    /// Without a handler for events, they are acknowledged and forgotten.
    fn drop_event(&self) -> Resume {
        if let Some(info) = self.info.get() {
            info.upcall_pending.store(0, Ordering::SeqCst);
        }
        Resume::Again
    }
}
