//! Starting virtual CPUs: a stack, a first state, and something to do.
//!
//! Each has a place of its own in the address space: unmapped pages, a stack, one page through
//! which what it is to do comes and the result goes. Who has moved its state from `IDLE` owns that
//! page; at `BUSY` the virtual CPU does, until it says `DONE`.

use core::arch::global_asm;
use core::marker::PhantomData;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use hypercall_abi::errno::Errno;
use hypercall_abi::layout::{FLAT_KERNEL_CS, FLAT_KERNEL_SS};
use hypercall_abi::regs::{GuestContextFlags, VcpuGuestContext};
use hypercall_abi::types::{PAGE_SIZE, VcpuId};
use hypercall_abi::vcpu as abi;
use zerocopy::FromZeros;

use super::gate::{Gate, Machine};
use super::memory::{map_kept, pointer, root};
use super::request;
use crate::error::{Site, perform};
use crate::lock::Waiters;
use crate::paging::MemoryError;
use crate::shared::VCPU_LIMIT;
use crate::vcpu::{NO_VCPU, SpawnError, Vcpu, is_up, site, up};
use crate::wait::yield_now;

/// Where the stacks begin; nothing else is ever mapped in this slot of the top table.
const BASE: usize = 0xffff_e080_0000_0000;
/// From one virtual CPU's place to the next. Unit: bytes.
const SPACING: usize = 1 << 20;
/// Unit: bytes.
const STACK_SIZE: usize = 64 << 10;

/// It has nothing to do.
const IDLE: u8 = 0;
/// Something is being prepared for it, or its result taken.
const OWNED: u8 = 1;
/// It has something to do.
const BUSY: u8 = 2;
/// It has done it.
const DONE: u8 = 3;

/// What a virtual CPU is to do.
struct Work {
    state: AtomicU8,
    /// Whether it has all it needs.
    ready: AtomicBool,
    /// The address of `perform_work`, for the types of what it is to do.
    code: AtomicUsize,
    /// Who waits until it is done.
    waiters: Waiters,
}

static WORK: [Work; VCPU_LIMIT] = [const {
    Work {
        state: AtomicU8::new(IDLE),
        ready: AtomicBool::new(false),
        code: AtomicUsize::new(0),
        waiters: Waiters::new(),
    }
}; VCPU_LIMIT];

static INITIALISE: Site =
    site(abi::INITIALISE, &[NO_VCPU, (Errno::EEXIST, "it has a state already")]);

global_asm!(
    ".pushsection .text.vcpu, \"ax\", @progbits",
    ".globl __pv_vcpu_enter",
    "__pv_vcpu_enter:",
    "cld",
    "xor ebp, ebp",
    "call {run}",
    "ud2",
    ".popsection",
    run = sym run,
);

unsafe extern "C" {
    static __pv_vcpu_enter: u8;
}

/// The stack of a virtual CPU that was started by another.
pub(super) fn stack_of(number: usize) -> Range<usize> {
    let end = BASE + (number + 1) * SPACING - PAGE_SIZE;
    end - STACK_SIZE..end
}

/// What a virtual CPU does, again and again.
extern "C" fn run() -> ! {
    loop {
        if let Some(vcpu) = Vcpu::current() {
            let work = &WORK[vcpu.index()];
            if work.state.load(Ordering::SeqCst) == BUSY {
                let code = core::ptr::with_exposed_provenance(work.code.load(Ordering::SeqCst));
                // SAFETY: `spawn` has put the address of a `perform_work` there, and nothing else.
                let code = unsafe { core::mem::transmute::<*const (), unsafe fn(usize)>(code) };
                vcpu.hold_events(false);
                // SAFETY: at `BUSY` this virtual CPU owns its page, in which the closure is.
                unsafe { code(stack_of(vcpu.index()).end) };
                vcpu.hold_events(true);
                work.state.store(DONE, Ordering::SeqCst);
                work.waiters.wake_all();
            }
            Machine.call(&request::down(vcpu.id()));
        }
    }
}

/// Takes a closure out of a page, calls it, and leaves its result there.
///
/// # Safety
/// There must be an `F` at the beginning of the page, and the caller must own the page.
unsafe fn perform_work<F: FnOnce() -> T, T>(page: usize) {
    let closure: *mut F = pointer(page as u64);
    // SAFETY: by this function's contract.
    let closure = unsafe { closure.read() };
    let value = closure();
    let place: *mut T = pointer(page as u64);
    // SAFETY: the closure was moved out, and `spawn` has checked that a `T` fits into the page.
    unsafe { place.write(value) };
}

/// Runs a closure on another virtual CPU, which has nothing to do so far.
///
/// # Errors
/// [`SpawnError::Busy`] if it is doing something or is the first one, [`SpawnError::Number`] from
/// 64 on, [`SpawnError::Memory`] without memory for its stack, before `Memory::start`, or if the
/// hypervisor refuses: with ENOENT (2) if there is no such virtual CPU. After another error than
/// that and `Busy` it may not be had any more.
pub fn spawn<F, T>(vcpu: VcpuId, closure: F) -> Result<Running<T>, SpawnError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    const {
        assert!(size_of::<F>() <= PAGE_SIZE && align_of::<F>() <= PAGE_SIZE, "a large closure");
        assert!(size_of::<T>() <= PAGE_SIZE && align_of::<T>() <= PAGE_SIZE, "a large result");
    }
    let number = usize::try_from(vcpu.0).map_err(|_| SpawnError::Number)?;
    let work = WORK.get(number).ok_or(SpawnError::Number)?;
    let claim = work.state.compare_exchange(IDLE, OWNED, Ordering::SeqCst, Ordering::SeqCst);
    if number == 0 || claim.is_err() {
        return Err(SpawnError::Busy);
    }
    let ready = make_ready(vcpu, number, work);
    ready.inspect_err(|_| work.state.store(IDLE, Ordering::SeqCst))?;
    let page = stack_of(number).end;
    let place: *mut F = pointer(page as u64);
    // SAFETY: the page is mapped, this function owns it, and a closure fits, as checked above.
    unsafe { place.write(closure) };
    let code = (perform_work::<F, T> as *const ()).expose_provenance();
    work.code.store(code, Ordering::SeqCst);
    work.state.store(BUSY, Ordering::SeqCst);
    let running = Running { vcpu, result: PhantomData };
    if let Err(refused) = up(&Machine, vcpu) {
        // It has a state, so that this is no answer of a hypervisor that keeps to the ABI: what it
        // does is left to it.
        core::mem::forget(running);
        return Err(refused.into());
    }
    Ok(running)
}

/// Waits until a virtual CPU that was done is down, or gives a new one all it needs.
fn make_ready(id: VcpuId, number: usize, work: &Work) -> Result<(), SpawnError> {
    while is_up(&Machine, id)? {
        yield_now();
    }
    if !work.ready.load(Ordering::SeqCst) {
        let (stack, length) = (stack_of(number), STACK_SIZE + PAGE_SIZE);
        if map_kept(stack.start as u64, length, length)? < length {
            return Err(MemoryError::Exhausted.into());
        }
        // SAFETY: it has no state, so that it never ran, and `OWNED` is for one.
        let vcpu = unsafe { super::vcpu::prepare(id, number)? };
        vcpu.prepare_events()?;
        let state = first_state(vcpu.area.this.get(), stack.end as u64)?;
        // SAFETY: the state was made for this virtual CPU, with its stack and its area.
        let request = unsafe { request::initialise(id, &state) };
        perform(&Machine, &INITIALISE, &request)?;
        work.ready.store(true, Ordering::SeqCst);
    }
    Ok(())
}

/// The state in which a virtual CPU begins.
fn first_state(area: u64, stack: u64) -> Result<VcpuGuestContext, MemoryError> {
    let mut state = VcpuGuestContext::new_zeroed();
    super::trap::describe(&mut state);
    state.flags |= GuestContextFlags::IN_KERNEL.bits();
    state.user_regs.rip = (&raw const __pv_vcpu_enter).expose_provenance() as u64;
    state.user_regs.rsp = stack;
    state.user_regs.rflags = 1 << 9;
    state.user_regs.cs = FLAT_KERNEL_CS;
    state.user_regs.ss = FLAT_KERNEL_SS;
    state.kernel_ss = FLAT_KERNEL_SS.into();
    state.kernel_sp = stack;
    state.ctrlreg[3] = root()?.address();
    state.gs_base_kernel = area;
    Ok(state)
}

/// Something that a virtual CPU does. Dropping this waits until it is done; forgetting it leaves
/// the virtual CPU without anything else to do, for ever.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{vcpu::Running, println};
/// # fn example(running: Running<u32>) {
/// if !running.is_done() {
///     println!("it takes its time");
/// }
/// println!("the result is {}", running.join());
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping it waits"]
pub struct Running<T> {
    vcpu: VcpuId,
    result: PhantomData<T>,
}

impl<T> Running<T> {
    fn work(&self) -> &'static Work {
        &WORK[self.vcpu.0 as usize]
    }

    /// Whether it is done.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.work().state.load(Ordering::SeqCst) == DONE
    }

    /// Waits until it is done, and returns the result.
    ///
    /// # Panics
    /// If this virtual CPU holds events back, as in a handler.
    pub fn join(self) -> T {
        let running = core::mem::ManuallyDrop::new(self);
        running.result()
    }

    /// Waits until it is done, takes the result, and makes the virtual CPU idle.
    fn result(&self) -> T {
        self.work().waiters.wait(|| self.is_done());
        let place: *mut T = pointer(stack_of(self.vcpu.0 as usize).end as u64);
        // SAFETY: after `DONE` the page is this value's, and its result is there. It is taken
        // once: `join` and `drop`, the only callers, end this value.
        let result = unsafe { place.read() };
        self.work().state.store(IDLE, Ordering::SeqCst);
        result
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        drop(self.result());
    }
}
