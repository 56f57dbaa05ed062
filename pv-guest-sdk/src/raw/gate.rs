//! The way to the hypervisor: one hypercall, or one forced-emulation CPUID.
//!
//! A wild hypercall can break memory safety (it can map a page table over the stack), so a
//! [`Request`] can be made in safe code only by functions of this fence, each of which argues why
//! its request is harmless. Carrying a request out is then safe, whoever does it: the processor
//! ([`Machine`]), or a kernel in the same process in tests.

use core::marker::PhantomData;

use hypercall_abi::call::Hypercall;
#[cfg(not(target_os = "none"))]
use hypercall_abi::errno::Errno;

/// A hypercall that breaks no promise of Rust when it is carried out.
///
/// It borrows the memory it names for as long as it lives.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{raw::{gate::Request, request}, println};
/// # fn example() {
/// let request: Request<'_> = request::version();
/// println!("hypercall {} with {:x?}", request.number(), request.args());
/// # }
/// ```
#[derive(Debug)]
pub struct Request<'a> {
    number: u64,
    args: [u64; 6],
    memory: PhantomData<&'a mut [u8]>,
}

impl Request<'_> {
    /// Makes a request of a hypercall and its arguments, unused ones zero.
    ///
    /// # Safety
    /// Carrying it out, once or more often, must read only memory that is initialised and write
    /// only memory that is borrowed for the request's lifetime, must not change what any live
    /// Rust reference sees, and must not make the processor run other code with the state of this
    /// program.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use pv_guest_sdk::{abi::call::Hypercall, raw::gate::Request};
    /// # fn example() {
    /// // SAFETY: the call reads and writes no memory, and stops nothing.
    /// let request = unsafe { Request::new(Hypercall::XenVersion, [7, 0, 0, 0, 0, 0]) };
    /// # }
    /// ```
    #[must_use]
    pub const unsafe fn new(call: Hypercall, args: [u64; 6]) -> Self {
        let number = call.number() as u64;
        // SAFETY: by this function's own contract.
        unsafe { Self::with_number(number, args) }
    }

    /// Makes a request of any number, known to the ABI or not.
    ///
    /// # Safety
    /// As of [`Request::new`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use pv_guest_sdk::{raw::gate::Request};
    /// # fn example() {
    /// // SAFETY: no call has this number.
    /// let request = unsafe { Request::with_number(63, [0; 6]) };
    /// # }
    /// ```
    #[must_use]
    pub const unsafe fn with_number(number: u64, args: [u64; 6]) -> Self {
        Self { number, args, memory: PhantomData }
    }

    /// The hypercall's number.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The six arguments, in the order of the registers rdi, rsi, rdx, r10, r8, r9.
    #[must_use]
    pub const fn args(&self) -> [u64; 6] {
        self.args
    }
}

/// What a CPUID leaf answers, as eax, ebx, ecx, edx.
pub type CpuidAnswer = [u32; 4];

/// Whoever carries hypercalls out.
///
/// The SDK never trusts an answer with memory safety, so this is a safe trait: a gate may be the
/// real hypervisor, a kernel in the same process, or a test that records what was asked.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Gate, Machine, raw::request, println};
/// # fn example(gate: &impl Gate) {
/// println!("version {:#x}, leaf 0: {:x?}", gate.call(&request::version()), gate.cpuid(0, 0));
/// # }
/// ```
pub trait Gate {
    /// Carries out one hypercall. Returns what the hypervisor leaves in `rax`: negative values are
    /// error numbers, all others results.
    fn call(&self, request: &Request<'_>) -> i64;

    /// Asks the hypervisor, not the processor, for a CPUID leaf.
    fn cpuid(&self, leaf: u32, subleaf: u32) -> CpuidAnswer;
}

/// The hypervisor this guest runs on, by `syscall`.
///
/// Built for a host (where no hypervisor listens), it answers every call with -ENOSYS (-38) and
/// every CPUID leaf with zeros.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Machine, version, println};
/// # fn example() {
/// // Whatever asks the hypervisor takes a gate; this one is the real one.
/// if let Ok(version) = version::version(&Machine) {
///     println!("{}.{}", version.major, version.minor);
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Machine;

#[cfg(target_os = "none")]
impl Gate for Machine {
    fn call(&self, request: &Request<'_>) -> i64 {
        let [a, b, c, d, e, f] = request.args();
        let result;
        // SAFETY: `syscall` from a PV guest's kernel is a hypercall; it preserves everything but
        // rax, rcx, r11 and, at the hypervisor's choice, the argument registers. What it does to
        // memory is harmless by the contract of `Request::new`; the default of `asm!` tells the
        // compiler that any memory it can reach may have been read or written.
        unsafe {
            core::arch::asm!(
                "syscall",
                inlateout("rax") request.number() => result,
                inlateout("rdi") a => _,
                inlateout("rsi") b => _,
                inlateout("rdx") c => _,
                inlateout("r10") d => _,
                inlateout("r8") e => _,
                inlateout("r9") f => _,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack),
            );
        }
        result
    }

    fn cpuid(&self, leaf: u32, subleaf: u32) -> CpuidAnswer {
        let (eax, ebx, ecx, edx);
        // SAFETY: the five bytes before `cpuid` are the prefix by which a PV hypervisor knows that
        // it should answer the instruction after it; it writes the four registers and nothing
        // else. rbx belongs to the compiler and is kept in another register meanwhile.
        unsafe {
            core::arch::asm!(
                "mov {keep:r}, rbx",
                "ud2",
                ".byte 0x78, 0x65, 0x6e",
                "cpuid",
                "xchg {keep:r}, rbx",
                keep = out(reg) ebx,
                inlateout("eax") leaf => eax,
                inlateout("ecx") subleaf => ecx,
                lateout("edx") edx,
                options(nomem, nostack, preserves_flags),
            );
        }
        [eax, ebx, ecx, edx]
    }
}

#[cfg(not(target_os = "none"))]
impl Gate for Machine {
    fn call(&self, _request: &Request<'_>) -> i64 {
        Errno::ENOSYS.to_raw()
    }

    fn cpuid(&self, _leaf: u32, _subleaf: u32) -> CpuidAnswer {
        [0; 4]
    }
}
