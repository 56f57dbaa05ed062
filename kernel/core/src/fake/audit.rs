//! All counts of all frames, counted from scratch.

use std::vec::Vec;

use core::sync::atomic::AtomicU64;

use hypercall_abi::types::{DomId, Mfn};

use super::Machine;
use crate::audit::{Holder, Recount};
use crate::frames::FrameType;
use crate::platform::Platform;
use crate::system::System;

/// References that are held outside page tables and frame words.
#[derive(Clone, Debug, Default)]
pub struct Holders {
    /// References of a type: roots, mappings for devices.
    pub typed: Vec<(Mfn, FrameType)>,
    /// Frames that the kernel shares with a domain: they are writable, and not counted as owned.
    pub shared: Vec<Mfn>,
    /// References of no type.
    pub general: Vec<Mfn>,
}

/// Counts everything of all domains of a system of this machine.
///
/// # Panics
///
/// If anything differs.
pub fn audit_system(system: &System<Machine>) {
    let counts = system.platform.counts();
    let count = |Mfn(mfn)| counts.get(usize::try_from(mfn).unwrap());
    Recount::new(&system.platform, count, |imbalance| panic!("{imbalance}")).all_of(system);
}

impl Machine {
    fn counts(&self) -> Vec<AtomicU64> {
        self.memory.iter().map(|_| AtomicU64::new(0)).collect()
    }

    /// Counts all references and compares with the frame table. `pages` says how many frames each
    /// domain is said to own.
    ///
    /// # Panics
    ///
    /// If anything differs.
    pub fn audit(&self, holders: &Holders, pages: &[(DomId, u64)]) {
        let counts = self.counts();
        let count = |Mfn(mfn)| counts.get(usize::try_from(mfn).unwrap());
        let mut recount = Recount::new(self, count, |imbalance| panic!("{imbalance}"));
        for &(mfn, frame_type) in &holders.typed {
            recount.typed(mfn, frame_type, Holder::Kernel);
        }
        for &mfn in &holders.shared {
            recount.typed(mfn, FrameType::Writable, Holder::Kernel);
        }
        for &mfn in &holders.general {
            recount.general(mfn);
        }
        recount.finish();
        for &(domain, count) in pages {
            let shared = |mfn: &&Mfn| self.frames().owner(**mfn) == Some(domain);
            let shared = holders.shared.iter().filter(shared).count() as u64;
            recount.pages(domain, count + shared);
        }
    }
}
