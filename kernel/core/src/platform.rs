//! What the kernel's decisions need of a machine, as one trait.
//!
//! The ring-0 binary implements it with real page tables and real instructions, the host tests with
//! memory they can inspect. Everything takes `&self`: a platform is shared by all CPUs and does its
//! own synchronisation where a method needs any. The trait is always monomorphised, never `dyn`, so
//! in the release binary the seam costs nothing.
//!
//! The platform obeys; it does not decide. A frame number that reaches it has been checked against
//! the frame table, a guest range against the address space's layout.

use core::ops::Deref;
use core::sync::atomic::{AtomicU8, AtomicU64};

use hypercall_abi::types::{Mfn, Pfn};

use crate::cpu::{CpuId, CpuSet};
use crate::emulate::width::Width;
use crate::frames::FrameTable;
use crate::guest_memory::{GuestFault, GuestRange};
use crate::irq::{Interrupts, Message, Route};
use crate::saved::{FpuState, Selectors};
use crate::trace::Record;

/// One page-table frame. Entries are atomic: the guest's CPUs read them, set their accessed and
/// dirty bits, and other CPUs of the kernel change them.
pub type Table = [AtomicU64; 512];

/// One frame that a guest shares with the kernel, byte by byte.
pub type Bytes = [AtomicU8; 4096];

/// There is no memory left for an object of the kernel's own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NoMemory;

/// What a CPU must forget of its cached translations.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flush {
    /// One page of the current address space, global or not, at this linear address.
    Page(u64),
    /// Every translation of guest addresses, global ones and paging structures included.
    All,
}

/// Why the machine stops running guests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MachineEnd {
    /// The initial domain asked for power-off: the machine is switched off, with success.
    PowerOff,
    /// The initial domain asked for a reboot: the machine is reset.
    Reboot,
    /// The initial domain crashed or was ended: reported as failure.
    GuestFailed,
    /// The kernel was given an image, module or option it can't use: reported as refusal.
    InputRefused,
}

/// Which hidden segment base of the running guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SegmentBase {
    /// FS, the same in guest kernel and guest user mode.
    Fs,
    /// GS as the mode that is active now sees it.
    GsActive,
    /// GS of the other mode: what `swapgs` exchanges with the active one.
    GsInactive,
}

/// The machine under the kernel.
pub trait Platform: Sized + Send + Sync + 'static {
    /// Shared owner of one kernel object, in whole pages of its own.
    type Arc<T: Send + Sync + 'static>: Clone + Deref<Target = T> + Send + Sync;

    /// Moves `value` into memory of its own.
    ///
    /// # Errors
    ///
    /// [`NoMemory`] when no free frame is left.
    fn arc<T: Send + Sync + 'static>(&self, value: T) -> Result<Self::Arc<T>, NoMemory> {
        self.arc_with(|| value)
    }

    /// Makes a value in memory of its own: large ones are not built on the stack first. Nothing is
    /// made if there is no memory.
    ///
    /// # Errors
    ///
    /// As of [`Platform::arc`].
    fn arc_with<T: Send + Sync + 'static>(
        &self,
        make: impl FnOnce() -> T,
    ) -> Result<Self::Arc<T>, NoMemory>;

    /// The frame table of this machine.
    fn frames(&self) -> &FrameTable;

    /// What domains have of this machine's interrupts.
    fn interrupts(&self) -> &Interrupts<Self>;

    // --- Contents of frames ---

    /// The frame as a page table.
    fn table(&self, mfn: Mfn) -> &Table;
    /// The frame as bytes that a guest may change at any time.
    fn bytes(&self, mfn: Mfn) -> &Bytes;
    /// Fills the frame with zeros.
    fn zero_frame(&self, mfn: Mfn);
    /// Copies a whole frame.
    fn copy_frame(&self, to: Mfn, from: Mfn);
    /// Copies `len` bytes from an offset in a frame to one in another, or the same; stops at the first
    /// end of one.
    fn copy_part(&self, to: (Mfn, usize), from: (Mfn, usize), len: usize);
    /// Reads bytes of a frame; stops at the frame's end.
    fn read_frame(&self, mfn: Mfn, offset: usize, into: &mut [u8]);
    /// Writes bytes of a frame; stops at the frame's end.
    fn write_frame(&self, mfn: Mfn, offset: usize, from: &[u8]);
    /// Writes the frame's entry of the machine-to-physical table.
    fn set_m2p(&self, mfn: Mfn, pfn: Pfn);
    /// Reads the frame's entry of the machine-to-physical table.
    fn m2p(&self, mfn: Mfn) -> Pfn;
    /// Copies the hypervisor's entries into the slots of a new L4 that belong to it.
    fn fill_hypervisor_slots(&self, l4: &Table);

    // --- The guest's addresses, as the current address space of this CPU maps them ---

    /// Copies from the guest. On a fault, what was copied before it is lost.
    ///
    /// # Errors
    ///
    /// [`GuestFault`] with the address that can't be read.
    fn read_guest(&self, from: GuestRange, into: &mut [u8]) -> Result<(), GuestFault>;
    /// Copies to the guest. On a fault, bytes before the faulting one may have been written.
    ///
    /// # Errors
    ///
    /// [`GuestFault`] with the address that can't be written.
    fn write_guest(&self, to: GuestRange, from: &[u8]) -> Result<(), GuestFault>;

    // --- CPUs ---

    /// The CPU that executes this.
    fn cpu(&self) -> CpuId;
    /// One round of a waiting loop: pauses, and serves flush requests of other CPUs, without which
    /// two CPUs could wait for each other for ever. Called with no lock held that a flush needs.
    fn spin_wait(&self);
    /// A lock is going to be taken, or something be done that another CPU may do first: where a test
    /// lets it. A machine has nothing to do here.
    #[inline]
    fn about_to_race(&self) {}
    /// Sleeps until this CPU was interrupted.
    fn wait_for_interrupt(&self);
    /// Interrupts another CPU, so that it asks its scheduler.
    fn poke(&self, cpu: CpuId);
    /// Lets this CPU be interrupted once, this many nanoseconds from now or a little earlier; what
    /// was set before is forgotten. A delay beyond what the timer can do is cut short.
    fn set_alarm(&self, delay: u64);
    /// Makes the kernel's own tables this CPU's, instead of a guest's, and forgets everything of
    /// guests.
    fn load_no_root(&self);
    /// Forgets translations on this CPU.
    fn flush_local(&self, flush: Flush);
    /// Forgets translations on other CPUs and waits until they have; this CPU's bit is ignored.
    fn flush_remote(&self, cpus: CpuSet, flush: Flush);
    /// Makes `l4` this CPU's root. Forgets all but global translations of guest addresses, and those
    /// too with `and_globals`.
    fn load_root(&self, l4: Mfn, and_globals: bool);
    /// Exchanges the active and the inactive GS base.
    fn swap_gs(&self);
    /// Writes a segment base of the running guest; `base` is canonical.
    fn set_segment_base(&self, which: SegmentBase, base: u64);
    /// Reads a segment base of the running guest.
    fn segment_base(&self, which: SegmentBase) -> u64;
    /// Loads a selector as the inactive GS, with the base its descriptor has; one that can't be
    /// loaded becomes the null selector.
    fn load_inactive_gs(&self, selector: u16);
    /// The data segment selectors of the running guest.
    fn data_selectors(&self) -> Selectors;
    /// Loads data segment selectors. One that can't be loaded becomes null, and the answer false.
    fn load_data_selectors(&self, selectors: Selectors) -> bool;
    /// Copies the floating-point registers of the running guest, whatever CR0.TS is; CR0.TS is
    /// clear afterwards.
    fn save_fpu(&self, into: &mut FpuState);
    /// Loads the floating-point registers and XCR0, which is 0 or valid ([`crate::emulate::xcr0`]), with CR0.TS
    /// clear afterwards.
    fn load_fpu(&self, from: &FpuState, xcr0: u64);
    /// Sets XCR0 to a valid value.
    fn set_xcr0(&self, xcr0: u64);
    /// Sets or clears CR0.TS: while it is set, the guest's use of the FPU faults.
    fn set_task_switched(&self, set: bool);
    /// Sets one of the four breakpoint addresses; it is one of guest memory.
    fn set_breakpoint(&self, number: u8, address: u64);
    /// Sets DR7; it watches no port and does not fault on access.
    fn set_debug_control(&self, control: u64);
    /// Linear address of a vCPU's descriptor-table window.
    fn window_base(&self, window: u32) -> u64;
    /// Makes the kernel's own tables for a window that is new.
    ///
    /// # Errors
    ///
    /// [`NoMemory`].
    fn make_window(&self, window: u32) -> Result<(), NoMemory>;
    /// Makes a window this CPU's descriptor table.
    fn load_window(&self, window: u32);
    /// Puts a frame into a page of a window, or nothing; this CPU sees it at once, others when they
    /// load the window.
    fn set_window_page(&self, window: u32, page: u8, frame: Option<Mfn>);
    /// Makes the second half of a window this CPU's LDT, with so many descriptors; 0: none.
    fn load_ldt(&self, window: u32, entries: u32);
    /// Revision of the processor's microcode, as `MSR_BIOS_SIGN_ID` has it.
    fn microcode(&self) -> u64;
    /// Sets those bits of CR4 that belong to the running guest: TSD, DE and FSGSBASE.
    fn set_guest_cr4(&self, bits: u64);
    /// Sets what `rdtscp` shows.
    fn set_tsc_aux(&self, value: u32);
    /// Writes back and empties this CPU's caches.
    fn write_back_caches(&self);
    /// Reads an I/O port of 1, 2 or 4 bytes.
    fn port_in(&self, port: u16, width: Width) -> u32;
    /// Writes an I/O port of 1, 2 or 4 bytes.
    fn port_out(&self, port: u16, width: Width, value: u32);
    /// Reads 1, 2 or 4 bytes of PCI configuration space, from a byte of the selected register on.
    fn pci_in(&self, selected: u32, byte: u8, width: Width) -> u32;
    /// Writes 1, 2 or 4 bytes of PCI configuration space.
    fn pci_out(&self, selected: u32, byte: u8, width: Width, value: u32);
    /// Reads a 32-bit register of a device in memory, at a machine address.
    fn device_read(&self, address: u64) -> u32;
    /// Writes a 32-bit register of a device in memory. The core has checked that it is no memory.
    fn device_write(&self, address: u64, value: u32);
    /// Programs an input of the I/O APICs, counted over all of them; `None` masks it.
    fn set_line(&self, pin: u32, route: Option<Route>);
    /// A register of the I/O APIC at a machine address, and the first input it has. `None`: none is there.
    fn io_apic(&self, address: u64, register: u8) -> Option<(u32, u32)>;
    /// The write by which a device raises a vector on a CPU.
    fn message(&self, cpu: CpuId, vector: u8) -> Message;
    /// The numbers of a CPU's local APIC, and of its processor in ACPI's tables.
    fn cpu_numbers(&self, cpu: CpuId) -> [u32; 2];
    /// The time-stamp counter.
    fn tsc(&self) -> u64;
    /// Executes CPUID: eax, ebx, ecx, edx.
    fn cpuid(&self, leaf: u32, subleaf: u32) -> [u32; 4];

    // --- Records, for who looks for a mistake ---

    /// Whether calls are looked at closely: records are kept, or the stack is poisoned.
    fn is_tracing(&self) -> bool {
        false
    }
    /// Leaves a mark on the stack below, for who looks for bytes of it in what guests are given; only with
    /// [`Self::is_tracing`].
    fn poison_stack(&self) {}
    /// Keeps a record, if records are kept, and says where.
    fn trace(&self, _record: &Record) -> u64 {
        0
    }
    /// Keeps a record in the place of one that [`Self::trace`] has kept, if that is still there.
    fn trace_again(&self, _place: u64, _record: &Record) {}

    // --- Console and end ---

    /// Writes bytes to the console as they are, but for a carriage return before each line feed.
    fn console_write(&self, bytes: &[u8]);
    /// Takes received bytes from the console; returns how many.
    fn console_read(&self, into: &mut [u8]) -> usize;
    /// Copies from the hypervisor's log, from byte `from` of all that was ever printed, or from the
    /// first that is kept and has not been cleared. Returns how many bytes, and where to go on.
    fn log_read(&self, from: Option<u32>, into: &mut [u8]) -> (usize, u32);
    /// Whoever does not say where to begin reads only what is printed from now on.
    fn log_clear(&self);
    /// Ends the machine.
    fn end(&self, end: MachineEnd) -> !;
}
