//! What execution needs to know of the vCPU, and does to it.

use hypercall_abi::types::Mfn;

use crate::guest_memory::{GuestFault, GuestRange};

use super::msr::MachineCheck;
use super::port::IoPrivilege;
use super::width::Width;

/// Which half of a guest runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Its kernel.
    Kernel,
    /// Its user processes.
    User,
}

/// A hidden segment base, by the MSR it is read and written with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BaseMsr {
    /// `FS_BASE`.
    Fs,
    /// `GS_BASE`: of the mode that runs.
    Gs,
    /// `KERNEL_GS_BASE`: of the other mode.
    KernelGs,
}

/// Whose processor it is, as far as registers depend on it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Vendor {
    /// Intel.
    Intel,
    /// AMD, Hygon.
    Amd,
    /// Anyone else.
    Other,
}

/// Facts that don't change while a vCPU runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Facts {
    /// Maker of the processor.
    pub vendor: Vendor,
    /// Content of `MSR_BIOS_SIGN_ID`.
    pub microcode: u64,
    /// Whether this vCPU is the one the domain booted on.
    pub is_boot_vcpu: bool,
}

/// A value the guest may not have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refused;

/// The virtual processor behind the instructions.
///
/// Values given to the setters have been checked where a method does not say that it may refuse.
pub trait PrivilegedState {
    /// Facts about the vCPU.
    fn facts(&self) -> Facts;
    /// Bits of CR4 the guest may set: of TSD, DE, FSGSBASE and OSXSAVE those that work.
    fn cr4_features(&self) -> u64;
    /// Bits of XCR0 the guest may set; 0 if XSAVE is hidden.
    fn xcr0_features(&self) -> u64;
    /// Which half runs.
    fn mode(&self) -> Mode;

    /// Whether the guest has a handler for `#GP`.
    fn handles_protection_fault(&self) -> bool;
    /// Whether CR0.TS is set for the guest.
    fn is_task_switched(&self) -> bool;
    /// Sets or clears CR0.TS for the guest.
    fn set_task_switched(&mut self, set: bool);
    /// CR2.
    fn fault_address(&self) -> u64;
    /// Sets CR2.
    fn set_fault_address(&mut self, address: u64);
    /// Machine address of the kernel's level-4 table.
    fn root(&self) -> u64;
    /// Makes the frame with this machine address (a multiple of 4096) the kernel's level-4 table
    /// and runs on it.
    ///
    /// # Errors
    ///
    /// [`Refused`] if the frame can't be the domain's level-4 table.
    fn set_root(&mut self, machine_address: u64) -> Result<(), Refused>;
    /// The bits of CR4 that are the guest's own, within [`Self::cr4_features`].
    fn cr4(&self) -> u64;
    /// Sets the guest's own bits of CR4, in the processor too.
    fn set_cr4(&mut self, bits: u64);
    /// Debug register 0 to 3, 6 or 7.
    fn debug_register(&self, number: u8) -> u64;
    /// Sets debug register 0 to 3, 6 or 7.
    ///
    /// # Errors
    ///
    /// [`Refused`] if the guest may not have that value.
    fn set_debug_register(&mut self, number: u8, value: u64) -> Result<(), Refused>;
    /// XCR0.
    fn xcr0(&self) -> u64;
    /// Sets XCR0 to a valid value.
    fn set_xcr0(&mut self, value: u64);

    /// A hidden segment base.
    fn segment_base(&self, which: BaseMsr) -> u64;
    /// Sets a hidden segment base to a canonical address.
    fn set_segment_base(&mut self, which: BaseMsr, address: u64);
    /// `TSC_AUX`; `None` if `rdtscp` and `rdpid` are hidden.
    fn tsc_aux(&self) -> Option<u32>;
    /// Sets `TSC_AUX`.
    fn set_tsc_aux(&mut self, value: u32);
    /// Fills a frame of the domain with stubs of hypercalls.
    ///
    /// # Errors
    ///
    /// [`Refused`] if the frame is not the domain's, or in use as something that may not be written.
    fn fill_hypercall_page(&mut self, mfn: Mfn) -> Result<(), Refused>;
    /// The time-stamp counter as the guest sees it.
    fn timestamp(&self) -> u64;
    /// The virtual machine-check registers.
    fn machine_check(&mut self) -> &mut MachineCheck;
    /// What CPUID shows: eax, ebx, ecx, edx.
    fn cpuid(&self, leaf: u32, subleaf: u32) -> [u32; 4];
    /// Writes back the caches if the domain has devices; nothing else notices.
    fn write_back_caches(&mut self);

    /// The virtual I/O privilege level.
    fn io_privilege(&self) -> IoPrivilege;
    /// Whether the guest's own port bitmap opens a port; not if that part of it can't be read.
    fn port_map_admits(&self, port: u16) -> bool;
    /// Whether an access to a port is one to the machine's, as it is.
    fn reaches_machine(&self, port: u16, width: Width) -> bool;
    /// Reads a port of 1, 2 or 4 bytes; all ones where the domain has no such port.
    fn port_in(&mut self, port: u16, width: Width) -> u32;
    /// Writes a port of 1, 2 or 4 bytes; nothing happens where the domain has no such port.
    fn port_out(&mut self, port: u16, width: Width, value: u32);

    /// The causes in DR6 of breakpoints on these ports.
    fn port_breakpoints(&self, port: u16, width: Width) -> u64;

    /// Copies from guest memory with the rights of the mode that runs.
    ///
    /// # Errors
    ///
    /// [`GuestFault`] with the address of the first byte that can't be read.
    fn read_guest(&self, from: GuestRange, into: &mut [u8]) -> Result<(), GuestFault>;
    /// Copies to guest memory with the rights of the mode that runs.
    ///
    /// # Errors
    ///
    /// [`GuestFault`] with the address of the first byte that can't be written.
    fn write_guest(&mut self, to: GuestRange, from: &[u8]) -> Result<(), GuestFault>;
}
