//! Every sub-op: the second half of the table in [`crate::call`].
//!
//! Each family is a module with one constant a row and the rows as data in `OPS`. The rows stand in
//! the files of this directory by who needs them: `guest` (all), `frames` (memory), `devices` (the
//! privileged domain), `control` (the rulers). Subject modules such as [`crate::sched`] re-export
//! theirs.

mod control;
mod devices;
mod frames;
mod guest;

pub use control::{argo, domctl, extension, hypfs, kexec, pmu, sysctl, xenoprof};
pub use devices::{physdev, platform};
pub use frames::{memory, mmu_update, mmuext};
pub use guest::{callback, console, event, grant, nmi, sched, segment, vcpu, version, vm_assist};
