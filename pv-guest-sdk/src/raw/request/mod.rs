//! Requests that safe code may make, each with the argument why it is harmless.
//!
//! Addresses of buffers are exposed (`expose_provenance`), so the compiler knows that the
//! hypervisor may use them.

use super::gate::Request;

mod console;
#[cfg(target_os = "none")]
mod control;
mod event;
mod grant;
#[cfg(target_os = "none")]
mod mapping;
mod memory;
mod physdev;
mod sched;
#[cfg(target_os = "none")]
mod segment;
#[cfg(target_os = "none")]
mod trap;
mod vcpu;
mod version;

pub use console::{console_read, console_write};
#[cfg(target_os = "none")]
pub(super) use control::{domctl, memory_operation, sysctl};
pub(crate) use event::event_channel;
pub use grant::grant_copy;
#[cfg(target_os = "none")]
pub(super) use grant::grant_operation;
#[cfg(target_os = "none")]
pub(super) use mapping::{extended, map_shared_info, set_page, unmap_page, update_entries};
#[cfg(target_os = "none")]
pub(super) use memory::exchange;
pub use memory::{MemoryMapBuffer, machine_memory_map};
pub(crate) use physdev::device;
#[cfg(target_os = "none")]
pub(super) use physdev::note_ends;
pub use sched::{PortList, block, poll, shutdown, yield_now};
#[cfg(target_os = "none")]
pub(super) use segment::{set_gdt, update_descriptor};
#[cfg(target_os = "none")]
pub use trap::{fpu_taskswitch, set_iopl, vm_assist};
#[cfg(target_os = "none")]
pub(super) use trap::{register_callback, set_segment_base, set_trap_table};
pub use vcpu::{down, is_up, set_singleshot_timer, stop_periodic_timer, up};
#[cfg(target_os = "none")]
pub(super) use vcpu::{initialise, register_runstate, register_vcpu_info};
pub use version::{
    capabilities, changeset, compile_info, extra_version, features, guest_handle,
    hypervisor_command_line, page_size, platform_parameters, version,
};

/// The address the hypervisor gets for memory it may read while the borrow lasts.
fn readable<T: ?Sized>(value: &T) -> u64 {
    core::ptr::from_ref(value).cast::<u8>().expose_provenance() as u64
}

/// The address the hypervisor gets for memory it may write while the borrow lasts.
pub(super) fn writable<T: ?Sized>(value: &mut T) -> u64 {
    core::ptr::from_mut(value).cast::<u8>().expose_provenance() as u64
}
