//! User mode: a program in an address space of its own, run until it needs the kernel.
//!
//! A program is a function of the guest itself. Its code and constants are mapped in every
//! [`Space`], for running and reading; the guest's variables are not, so a program that touches
//! one faults. It asks the kernel by [`call`]:
//!
//! ```no_run,ignore-gnu
//! # use pv_guest_sdk::{paging::{MemoryError, Space}, println, user::{self, Exit, User}};
//! # fn example() -> Result<(), MemoryError> {
//! const WRITE: u32 = 1; // as this guest has it
//! const EXIT: u32 = 2;
//!
//! extern "C" fn program(number: u64) -> ! {
//!     user::call(WRITE, [number, 0, 0]);
//!     user::call(EXIT, [0; 3]);
//!     user::stop()
//! }
//!
//! let mut user = User::new(Space::new()?, program, 7)?;
//! loop {
//!     match user.run()? {
//!         Exit::Call(call, [number, ..]) if call == WRITE.into() => user.answer(number),
//!         Exit::Call(..) => break,
//!         Exit::Trap(trap) => println!("{} at {:#x}", trap.vector, trap.address),
//!         Exit::Event => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`User::run`] returns whenever user mode is left, so that a kernel schedules its programs by an
//! ordinary loop. Traps of user mode cannot reach the kernel's own trap handlers.

use hypercall_abi::types::PAGE_SIZE;

use crate::paging::{Access, Frame, MemoryError, Page, Space};
use crate::raw::fpu::FpuState;
use crate::raw::user::USER_CALL;
use crate::trap::{ErrorCode, Trap, TrapFrame, Vector};
use crate::vcpu::Vcpu;

pub use crate::raw::user::{call, call_with, stop};

/// A program: it gets one argument and never returns.
pub type Program = extern "C" fn(u64) -> !;

/// The address behind a program's stack.
pub const STACK_END: u64 = 0x7fff_ffff_f000;
/// How large a program's stack is. Unit: pages.
pub const STACK_PAGES: u64 = 4;

/// Why user mode was left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// The program asked for something: a number and three arguments. It goes on with what
    /// [`User::answer`] says.
    Call(u64, [u64; 3]),
    /// The program did what it must not do. Running it again repeats that.
    Trap(UserTrap),
    /// An event came; its handler has run.
    Event,
}

/// A trap of user mode.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{user::{Exit, UserTrap}, println};
/// # fn example(exit: Exit) {
/// if let Exit::Trap(UserTrap { vector, rip, .. }) = exit {
///     println!("it ends by {vector} at {rip:#x}");
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UserTrap {
    /// What happened.
    pub vector: Vector,
    /// The processor's error code.
    pub error: ErrorCode,
    /// Of a page fault: the address that was accessed.
    pub address: u64,
    /// The instruction that did it, or the next one.
    pub rip: u64,
}

/// A program in user mode, between two runs.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{paging::{MemoryError, Space}, user::{self, Exit, User}, println};
/// # fn example() -> Result<(), MemoryError> {
/// extern "C" fn program(_: u64) -> ! {
///     user::stop()
/// }
///
/// let mut user = User::new(Space::new()?, program, 7)?;
/// user.set_bases(0, 0); // of `fs` and `gs`
/// match user.run()? {
///     Exit::Call(number, _) => user.answer(number),
///     _ => println!("{:#x}", user.registers().rip),
/// }
/// println!("{}", user.space().walk(pv_guest_sdk::paging::Page::fixed(0x1000)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct User {
    space: Space,
    frame: TrapFrame,
    fpu: FpuState,
    fs_base: u64,
    gs_base: u64,
}

impl User {
    /// A program that is about to start, with a stack.
    ///
    /// # Errors
    /// [`MemoryError::Exhausted`] without room for the stack.
    pub fn new(mut space: Space, program: Program, argument: u64) -> Result<Self, MemoryError> {
        for page in 1..=STACK_PAGES {
            let address = STACK_END - page * PAGE_SIZE as u64;
            let page = Page::at(address).ok_or(MemoryError::Address(address))?;
            space.map(page, Frame::new()?, Access::WRITE)?;
        }
        let frame = TrapFrame {
            rip: (program as *const ()).expose_provenance() as u64,
            rdi: argument,
            // As after a call: a multiple of 16, less a return address, which is 0.
            rsp: STACK_END - 8,
            ..TrapFrame::default()
        };
        Ok(Self { space, frame, fpu: FpuState::initial(), fs_base: 0, gs_base: 0 })
    }

    /// Runs the program until it leaves user mode.
    ///
    /// # Errors
    /// [`MemoryError::NotStarted`] before [`Vcpu::start`], [`MemoryError::Refused`] if the
    /// hypervisor does not load the address space.
    pub fn run(&mut self) -> Result<Exit, MemoryError> {
        let vcpu = Vcpu::current().ok_or(MemoryError::NotStarted)?;
        let held = vcpu.events_held();
        vcpu.set_user_bases(self.fs_base, self.gs_base)?;
        self.fpu.load();
        self.space.run(vcpu, &mut self.frame)?;
        self.fpu = FpuState::save();
        let trap = Trap::new(&self.frame, vcpu.fault_address());
        let exit = match trap.vector() {
            Vector::SYSCALL => {
                let TrapFrame { rax, rdi, rsi, rdx, .. } = self.frame;
                Exit::Call(rax ^ USER_CALL, [rdi, rsi, rdx])
            }
            Vector::EVENT => {
                vcpu.dispatch(&trap);
                Exit::Event
            }
            vector => Exit::Trap(UserTrap {
                vector,
                error: trap.error(),
                address: trap.fault_address(),
                rip: self.frame.rip,
            }),
        };
        vcpu.hold_events(held);
        Ok(exit)
    }

    /// What the program's last [`call`] returns when it goes on.
    pub const fn answer(&mut self, value: u64) {
        self.frame.rax = value;
    }

    /// Its address space.
    pub const fn space(&mut self) -> &mut Space {
        &mut self.space
    }

    /// What the processor holds for it. All of it is the kernel's to change: user mode is in its
    /// own address space whatever its registers are.
    pub const fn registers(&mut self) -> &mut TrapFrame {
        &mut self.frame
    }

    /// Sets the bases of `fs` and `gs` that it has in user mode.
    pub const fn set_bases(&mut self, fs: u64, gs: u64) {
        self.fs_base = fs;
        self.gs_base = gs;
    }
}
