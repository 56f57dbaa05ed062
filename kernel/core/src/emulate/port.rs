//! Ports: who may use which.
//!
//! A guest may use a port where its virtual I/O privilege level admits the mode that runs, or where
//! its port bitmap is clear for every byte of the access; else it gets `#GP(0)`. Measured on Xen
//! 4.17: the kernel needs level 1 (0 with the assist for architectural IOPL), user mode level 3. The
//! bitmap holds for both modes, ends after the number of ports it was given with, and closes ports
//! where it can't be read.

use super::state::{Mode, PrivilegedState};
use super::width::Width;

/// The virtual I/O privilege level and what it is compared with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IoPrivilege {
    /// The level, 0 to 3.
    pub level: u8,
    /// Whether the guest's kernel counts as ring 0 (the assist for architectural IOPL) or ring 1.
    pub kernel_ring: KernelRing,
}

/// The ring a guest's kernel counts as.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KernelRing {
    /// With the assist for architectural IOPL.
    Ring0,
    /// Else.
    Ring1,
}

impl IoPrivilege {
    /// Whether the level admits a mode to all ports, and to `cli` and `sti`.
    #[must_use]
    pub const fn admits(self, mode: Mode) -> bool {
        let ring = match (mode, self.kernel_ring) {
            (Mode::User, _) => 3,
            (Mode::Kernel, KernelRing::Ring1) => 1,
            (Mode::Kernel, KernelRing::Ring0) => 0,
        };
        self.level >= ring
    }
}

/// Whether the guest may access these ports in the mode that runs.
pub fn may_access(state: &impl PrivilegedState, port: u16, width: Width) -> bool {
    state.io_privilege().admits(state.mode())
        || (0_u16..)
            .take(width.bytes())
            .all(|byte| port.checked_add(byte).is_some_and(|port| state.port_map_admits(port)))
}
