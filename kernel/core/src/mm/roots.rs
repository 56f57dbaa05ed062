//! The page-table roots of a vCPU.

use core::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::types::Mfn;

use super::Mm;
use super::entry::Level;
use super::memory::DomainMemory;
use super::progress::{Budget, Stop};
use super::refusal::{Refusal, Why};
use crate::platform::Platform;

/// The two roots of a vCPU: one for the guest's kernel, and one for its user mode, if it has one.
/// Each holds a reference to its frame as an L4 table. Only the CPU that runs the vCPU changes them,
/// or whoever holds it stopped.
#[derive(Debug)]
pub struct VcpuRoots {
    /// Frame number plus 1; 0: none.
    kernel: AtomicU64,
    user: AtomicU64,
}

impl VcpuRoots {
    /// A vCPU that has no address space yet.
    #[must_use]
    pub const fn none() -> Self {
        Self { kernel: AtomicU64::new(0), user: AtomicU64::new(0) }
    }

    /// The roots of a domain's first vCPU, whose tables the builder wrote: checks them all, and
    /// pins the root as a guest would find it pinned.
    ///
    /// # Errors
    ///
    /// The refusal of one of the tables.
    pub fn first<P: Platform>(
        platform: &P,
        memory: &DomainMemory,
        root: Mfn,
    ) -> Result<Self, Refusal> {
        let mm = Mm::new(platform, memory, memory);
        let roots = Self::none();
        let taken = mm
            .pin(root, Level::L4, &mut Budget::unlimited())
            .and_then(|()| mm.take_table(root, Level::L4, &mut Budget::unlimited()));
        match taken {
            Ok(held) => {
                mm.show_m2p(root);
                roots.kernel.store(held.into_entry().0.wrapping_add(1), Ordering::Relaxed);
                Ok(roots)
            }
            Err(Stop::Refused(refusal)) => Err(refusal),
            Err(Stop::Again) => Err(Refusal::new(Why::NoMemory)),
        }
    }

    /// The root for the guest's kernel.
    #[inline]
    #[must_use]
    pub fn kernel(&self) -> Option<Mfn> {
        get(&self.kernel)
    }

    /// The root for the guest's user mode.
    #[inline]
    #[must_use]
    pub fn user(&self) -> Option<Mfn> {
        get(&self.user)
    }

    /// The vCPU, which this CPU runs, goes from user mode to its kernel. User pages are global and
    /// the same in both, so what is cached of them stays.
    #[inline]
    pub fn enter_kernel(&self, platform: &impl Platform) {
        if let Some(root) = self.kernel() {
            platform.load_root(root, false);
        }
    }

    /// The vCPU goes from its kernel to user mode; `false` if it has no root for that, and nothing
    /// changes.
    #[inline]
    #[must_use]
    pub fn enter_user(&self, platform: &impl Platform) -> bool {
        let root = self.user();
        if let Some(root) = root {
            platform.load_root(root, false);
        }
        root.is_some()
    }

    /// This CPU begins to run the vCPU, in the mode it was left in; what it had cached goes.
    pub fn resume(&self, platform: &impl Platform, memory: &DomainMemory, mode: Mode) {
        memory.dirty().enter(platform.cpu());
        let root = match mode {
            Mode::Kernel => self.kernel(),
            Mode::User => self.user(),
        };
        match root {
            Some(root) => load_afresh(platform, root),
            // None that has a state. Whatever comes, it does not run on another's tables.
            None => unload(platform),
        }
    }

    /// Sets the kernel's root; returns the one there was. Both carry their reference.
    pub(super) fn replace_kernel(&self, root: Option<Mfn>) -> Option<Mfn> {
        replace(&self.kernel, root)
    }

    /// Sets the user mode's root; returns the one there was. Both carry their reference.
    pub(super) fn replace_user(&self, root: Option<Mfn>) -> Option<Mfn> {
        replace(&self.user, root)
    }
}

/// Which half of a guest runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Its kernel.
    Kernel,
    /// Its user mode.
    User,
}

/// Loads a root and forgets everything.
pub(super) fn load_afresh(platform: &impl Platform, root: Mfn) {
    let epochs = platform.frames().epochs();
    let begun = epochs.begin_flush();
    platform.load_root(root, true);
    epochs.end_flush(platform.cpu(), begun);
}

/// Leaves this CPU without a guest's address space, and forgets everything.
pub(crate) fn unload(platform: &impl Platform) {
    let epochs = platform.frames().epochs();
    let begun = epochs.begin_flush();
    platform.load_no_root();
    epochs.end_flush(platform.cpu(), begun);
}

#[inline]
fn get(root: &AtomicU64) -> Option<Mfn> {
    root.load(Ordering::Relaxed).checked_sub(1).map(Mfn)
}

fn replace(root: &AtomicU64, new: Option<Mfn>) -> Option<Mfn> {
    let value = new.map_or(0, |mfn| mfn.0.wrapping_add(1));
    root.swap(value, Ordering::Relaxed).checked_sub(1).map(Mfn)
}
