//! The virtual CPUs that execute a program: their traps, their events, their user mode.
//!
//! The first one starts with the program, others by [`spawn`], which runs a closure on one:
//!
//! ```no_run
//! # use pv_guest_sdk::{abi::types::VcpuId, println, vcpu};
//! # fn example() -> Result<(), vcpu::SpawnError> {
//! let sum = vcpu::spawn(VcpuId(1), || (1..=10).sum::<u32>())?;
//! println!("{}", sum.join());
//! # Ok::<(), vcpu::SpawnError>(())
//! # }
//! ```
//!
//! The first has a stack of 256 KiB, each other one of 64 KiB, with unmapped pages below it; each has a trap table, callbacks, a timer and
//! handlers of its own. It has no descriptor table until it loads one (`Gdt::load`).

use core::cell::{Cell, RefCell};
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering, compiler_fence};

use hypercall_abi::call::Hypercall;
use hypercall_abi::errno::Errno;
use hypercall_abi::types::VcpuId;
use hypercall_abi::vcpu as abi;
use hypercall_abi::vm_assist::{self, ENABLE, TYPE_RUNSTATE_UPDATE_FLAG};

use crate::boot::BootInfo;
use crate::error::{HypercallError, Site, perform};
use crate::event;
use crate::paging::MemoryError;
use crate::raw::gate::{Gate, Machine};
use crate::raw::vcpu::Area;
use crate::raw::{request, vcpu};
use crate::shared::{VCPU_LIMIT, VcpuInfo};
use crate::time::queue::Queue;
use crate::time::{self, Duration, Instant};
use crate::trap::{Handler, Observed, Resume, Trap, Vector};

pub use crate::raw::start::{Running, spawn};

/// The state of one virtual CPU. It stays with its CPU: a reference cannot be sent to another.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{BootInfo, HypercallError, trap::{Resume, Trap, Vector}, vcpu::Vcpu, println};
/// # fn example(boot: &BootInfo<'_>) -> Result<(), HypercallError> {
/// fn on_breakpoint(_: &Trap<'_>) -> Resume {
///     Resume::Again
/// }
///
/// let vcpu = Vcpu::start(boot)?;
/// vcpu.handle(Vector::BREAKPOINT, on_breakpoint);
/// vcpu.start_events()?;
/// vcpu.hold_events(true);
/// assert!(vcpu.events_held());
/// vcpu.hold_events(false);
/// let (_, seen) = vcpu.observe(|| println!("what may trap"));
/// vcpu.forget(Vector::BREAKPOINT);
/// println!("{:?}: {:?}, {:?}", vcpu.id(), vcpu.runstate(), vcpu.info().is_some());
/// let from_anywhere = Vcpu::current();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[repr(C)]
pub struct Vcpu {
    pub(crate) area: Area,
    pub(crate) id: Cell<VcpuId>,
    pub(crate) info: Cell<Option<&'static VcpuInfo>>,
    handlers: [Cell<Option<Handler>>; Vector::COUNT],
    /// While an observer runs: the last trap it saw.
    observed: Cell<Option<Option<Observed>>>,
    /// It waits, and holds events back as soon as it goes on.
    waits: Cell<bool>,
    /// The page tables of user mode that are loaded; machine frame, 0 for none.
    pub(crate) user_root: Cell<u64>,
    /// Who waits for a time on it; used with events held back.
    pub(crate) timers: RefCell<Queue>,
    /// A `RunstateInfo`, which the hypervisor keeps up to date.
    runstate: [AtomicU64; 6],
}

impl Vcpu {
    pub(crate) const fn new() -> Self {
        Self {
            area: Area::new(),
            id: Cell::new(VcpuId(0)),
            info: Cell::new(None),
            handlers: [const { Cell::new(None) }; Vector::COUNT],
            observed: Cell::new(None),
            waits: Cell::new(false),
            user_root: Cell::new(0),
            timers: RefCell::new(Queue::new()),
            runstate: [const { AtomicU64::new(0) }; 6],
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

    /// Lets events come, and makes what waiting needs: the port by which others wake this virtual
    /// CPU, its timer, its runstate. [`spawn`] does so for all but the first.
    ///
    /// # Errors
    /// [`HypercallError`] if the hypervisor refuses; EEXIST (17) if the timer is bound already.
    pub fn start_events(&'static self) -> Result<(), HypercallError> {
        self.prepare_events()?;
        self.hold_events(false);
        Ok(())
    }

    pub(crate) fn prepare_events(&'static self) -> Result<(), HypercallError> {
        time::prepare(self.id())?;
        event::prepare(self)?;
        perform(&Machine, &ASSIST, &request::vm_assist(ENABLE, TYPE_RUNSTATE_UPDATE_FLAG))?;
        vcpu::register_runstate(&Machine, self.id(), &self.runstate)
    }

    /// The virtual CPU that executes this; `None` before [`Vcpu::start`].
    #[must_use]
    pub fn current() -> Option<&'static Self> {
        vcpu::current()
    }

    /// Its number in the domain.
    #[must_use]
    pub fn id(&self) -> VcpuId {
        self.id.get()
    }

    pub(crate) fn index(&self) -> usize {
        usize::try_from(self.id().0).unwrap_or(usize::MAX)
    }

    /// Sets the handler of a vector and returns the one it had.
    ///
    /// It may run at any instruction, so it must not wait for a lock that the code it interrupts
    /// may hold (frames and heap have one each).
    pub fn handle(&self, vector: Vector, handler: Handler) -> Option<Handler> {
        self.quietly(|| self.handlers.get(vector.index())?.replace(Some(handler)))
    }

    /// Takes a vector's handler away and returns it.
    pub fn forget(&self, vector: Vector) -> Option<Handler> {
        self.quietly(|| self.handlers.get(vector.index())?.take())
    }

    /// Does something, and returns beside its result the last trap that it caused. Traps that have
    /// no handler are answered by [`Resume::Skip`] meanwhile.
    pub fn observe<T>(&self, operation: impl FnOnce() -> T) -> (T, Option<Observed>) {
        let outer = self.quietly(|| self.observed.replace(Some(None)));
        let result = operation();
        (result, self.quietly(|| self.observed.replace(outer)).flatten())
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
        // Handlers and what they interrupt share memory, in the order of the program.
        compiler_fence(Ordering::SeqCst);
        info.upcall_mask.store(hold.into(), Ordering::SeqCst);
        compiler_fence(Ordering::SeqCst);
        if !hold && info.upcall_pending.load(Ordering::SeqCst) != 0 {
            // One that came meanwhile is delivered at the end of any call.
            Machine.call(&request::version());
        }
    }

    /// As [`Vcpu::hold_events`]; returns whether events were held back before.
    pub(crate) fn exchange_hold(&self, hold: bool) -> bool {
        let before = self.events_held();
        if before != hold {
            self.hold_events(hold);
        }
        before
    }

    /// Waits for an event, as the code that calls this holds events back. It still does then.
    pub(crate) fn wait(&self) {
        self.waits.set(true);
        // An event that came since is pending, and ends this at once.
        Machine.call(&request::block());
        self.hold_events(true);
        self.waits.set(false);
    }

    /// Whether the event that is being delivered has ended the waiting. Only the first one has: code
    /// that it interrupted in a handler wants events to be as they were.
    pub(crate) fn ends_wait(&self) -> bool {
        self.waits.replace(false)
    }

    /// Does something that a handler must not come between, as it changes the same memory.
    pub(crate) fn quietly<T>(&self, operation: impl FnOnce() -> T) -> T {
        let held = self.exchange_hold(true);
        let result = operation();
        self.exchange_hold(held);
        result
    }

    /// What this virtual CPU got of the processors so far, once events were started.
    #[must_use]
    pub fn runstate(&self) -> Runstate {
        loop {
            let words = self.runstate.each_ref().map(|word| word.load(Ordering::SeqCst));
            let [state, since, times @ ..] = words;
            let again = self.runstate[1].load(Ordering::SeqCst);
            if since & abi::RUNSTATE_UPDATE == 0 && again == since {
                let [running, runnable, blocked, offline] = times.map(Duration::from_nanos);
                let (state, since) = (state & 0xffff_ffff, Instant::from_nanoseconds(since));
                return Runstate { state, since, running, runnable, blocked, offline };
            }
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

    /// Runs the handler of a trap.
    pub(crate) fn dispatch(&self, trap: &Trap<'_>) -> Resume {
        let vector = trap.vector();
        match self.handlers.get(vector.index()).and_then(Cell::get) {
            Some(handler) => handler(trap),
            None if vector == Vector::EVENT => {
                event::on_upcall(self);
                Resume::Again
            }
            None if self.observed.get().is_some() => {
                let (error, address) = (trap.error(), trap.fault_address());
                self.observed.set(Some(Some(Observed { vector, error, address })));
                Resume::Skip
            }
            None => Resume::Unhandled,
        }
    }
}

/// Where an operation of virtual CPUs is made, and why it is refused.
pub(crate) const fn site(operation: u32, causes: &'static [(Errno, &'static str)]) -> Site {
    Site::operation(Hypercall::VcpuOp, abi::OPS, operation, causes)
}

static ASSIST: Site = Site::operation(
    Hypercall::VmAssist,
    vm_assist::OPS,
    ENABLE,
    &[(Errno::ENOSYS, "runstate is not marked while it is written")],
);

pub(crate) const NO_VCPU: (Errno, &str) = (Errno::ENOENT, "there is no such virtual CPU");
const NO_STATE: (Errno, &str) = (Errno::EINVAL, "the virtual CPU was never given a state");

static UP: Site = site(abi::UP, &[NO_VCPU, NO_STATE]);
static DOWN: Site = site(abi::DOWN, &[NO_VCPU]);
static IS_UP: Site = site(abi::IS_UP, &[NO_VCPU]);

/// Lets a virtual CPU run on from where it is; one that is up does so anyway.
///
/// # Errors
/// ENOENT (2) if there is no such virtual CPU, EINVAL (22) for one that has no state yet.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, abi::types::VcpuId, vcpu};
/// # fn example() -> Result<(), HypercallError> {
/// vcpu::up(&Machine, VcpuId(1))?; // its state was set before
/// # Ok(())
/// # }
/// ```
pub fn up(gate: &impl Gate, vcpu: VcpuId) -> Result<(), HypercallError> {
    perform(gate, &UP, &request::up(vcpu)).map(drop)
}

/// Stops a virtual CPU where it is, until [`up`]. The last one that is stopped ends the domain.
///
/// # Errors
/// ENOENT (2) if there is no such virtual CPU.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, abi::types::VcpuId, vcpu};
/// # fn example() -> Result<(), HypercallError> {
/// vcpu::down(&Machine, VcpuId(1))?;
/// # Ok(())
/// # }
/// ```
pub fn down(gate: &impl Gate, vcpu: VcpuId) -> Result<(), HypercallError> {
    perform(gate, &DOWN, &request::down(vcpu)).map(drop)
}

/// Whether a virtual CPU is up.
///
/// # Errors
/// ENOENT (2) if there is no such virtual CPU.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, abi::types::VcpuId, vcpu};
/// # fn example() -> Result<(), HypercallError> {
/// let runs = vcpu::is_up(&Machine, VcpuId(1))?;
/// # Ok(())
/// # }
/// ```
pub fn is_up(gate: &impl Gate, vcpu: VcpuId) -> Result<bool, HypercallError> {
    perform(gate, &IS_UP, &request::is_up(vcpu)).map(|up| up != 0)
}

/// How many virtual CPUs the domain may have, as far as the SDK can run them.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Machine, vcpu, println};
/// # fn example() {
/// println!("{} virtual CPUs", vcpu::count(&Machine));
/// # }
/// ```
pub fn count(gate: &impl Gate) -> u32 {
    let limit = u32::try_from(VCPU_LIMIT).unwrap_or(u32::MAX);
    (0..limit).find(|&id| is_up(gate, VcpuId(id)).is_err()).unwrap_or(limit)
}

/// What a virtual CPU got of the processors.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{vcpu::Runstate, println};
/// # fn example(state: Runstate) {
/// println!("{:?} without anything to do", state.blocked);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Runstate {
    /// What it does, of [`hypercall_abi::vcpu::RUNSTATES`]: whoever reads its own, runs.
    pub state: u64,
    /// Since when.
    pub since: Instant,
    /// How long it ran, until `since`.
    pub running: Duration,
    /// How long it waited for a processor.
    pub runnable: Duration,
    /// How long it waited for an event.
    pub blocked: Duration,
    /// How long it was down or stopped.
    pub offline: Duration,
}

/// Why a virtual CPU cannot be given something to do.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{abi::types::VcpuId, vcpu::{self, SpawnError}, println};
/// # fn example() {
/// if let Err(SpawnError::Busy) = vcpu::spawn(VcpuId(1), || ()) {
///     println!("it has something to do");
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SpawnError {
    /// It does something already, or is the first one.
    Busy,
    /// The SDK cannot run one of this number.
    Number,
    /// There is no memory for its stack, or the hypervisor refuses.
    Memory(MemoryError),
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("the virtual CPU has something to do already"),
            Self::Number => f.write_str("no virtual CPU has this number"),
            Self::Memory(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for SpawnError {}

impl<E: Into<MemoryError>> From<E> for SpawnError {
    fn from(error: E) -> Self {
        Self::Memory(error.into())
    }
}
