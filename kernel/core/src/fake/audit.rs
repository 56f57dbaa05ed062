//! All counts of all frames, counted from scratch.

use std::vec;
use std::vec::Vec;

use core::sync::atomic::Ordering;

use hypercall_abi::types::{DomId, Mfn};

use super::Machine;
use super::tlb::show;
use crate::frames::{FrameType, Validation};
use crate::mm::{Entry, Level};
use crate::platform::Platform;

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

#[derive(Clone, Copy, Default)]
struct Count {
    general: u32,
    typed: u32,
}

struct Audit<'a> {
    machine: &'a Machine,
    counts: Vec<Count>,
}

impl Machine {
    /// Counts all references and compares with the frame table. `pages` says how many frames each
    /// domain is said to own.
    ///
    /// # Panics
    ///
    /// If anything differs.
    pub fn audit(&self, holders: &Holders, pages: &[(DomId, u64)]) {
        let mut audit = Audit { machine: self, counts: vec![Count::default(); self.memory.len()] };
        for &(mfn, frame_type) in &holders.typed {
            audit.typed(mfn, frame_type, "a holder");
        }
        for &mfn in &holders.shared {
            audit.typed(mfn, FrameType::Writable, "the kernel, which shares it,");
        }
        for &mfn in &holders.general {
            audit.counts[index(mfn)].general += 1;
        }
        for mfn in self.all() {
            audit.count_frame(mfn);
        }
        for mfn in self.all() {
            audit.compare(mfn);
        }
        for &(domain, count) in pages {
            let own = |&mfn: &Mfn| {
                self.frames().owner(mfn) == Some(domain) && !holders.shared.contains(&mfn)
            };
            let owned = self.all().filter(own).count() as u64;
            assert_eq!(owned, count, "domain {domain} owns {owned} frames, not {count}");
        }
    }

    fn all(&self) -> impl Iterator<Item = Mfn> + use<> {
        (0..self.memory.len() as u64).map(Mfn)
    }
}

impl Audit<'_> {
    /// What the frame's own word stands for, and what its entries hold.
    fn count_frame(&mut self, mfn: Mfn) {
        let word = self.machine.frames().word(mfn);
        let is = word.frame_type();
        assert_ne!(word.validation(), Validation::Busy, "frame {mfn:#x} was left busy");
        if word.is_allocated() {
            self.counts[index(mfn)].general += 1;
        }
        if word.is_pinned() {
            self.typed(mfn, is, "its pin");
        }
        let valid = match word.validation() {
            Validation::Partial => {
                self.typed(mfn, is, "its partial state");
                word.index()
            }
            Validation::Done => 512,
            _ => 0,
        };
        if let Some(level) = Level::of(is) {
            for slot in 0..valid {
                self.count_entry(mfn, level, slot);
            }
        }
    }

    fn count_entry(&mut self, table: Mfn, level: Level, slot: u16) {
        let entry = Entry(self.machine.table(table)[usize::from(slot)].load(Ordering::Relaxed));
        let frames = self.machine.frames();
        if level.is_hypervisor_slot(slot) || !entry.is_present() {
            return;
        }
        let holder = std::format!("{level} entry {slot} of frame {table:#x}");
        match level.below() {
            Some(below) => self.typed(entry.mfn(), below.frame_type(), &holder),
            None if frames.is_device(entry.mfn()) => {}
            None if entry.is_writable() => self.typed(entry.mfn(), FrameType::Writable, &holder),
            None => self.counts[index(entry.mfn())].general += 1,
        }
    }

    fn typed(&mut self, mfn: Mfn, frame_type: FrameType, holder: &str) {
        let word = self.machine.frames().word(mfn);
        let good = word.frame_type() == frame_type && word.typed() > 0;
        assert!(good, "{holder} needs frame {mfn:#x} as {frame_type:?}: {}", show(word));
        self.counts[index(mfn)].general += 1;
        self.counts[index(mfn)].typed += 1;
    }

    fn compare(&self, mfn: Mfn) {
        let word = self.machine.frames().word(mfn);
        let Count { general, typed } = self.counts[index(mfn)];
        assert!(
            (general, typed) == (word.general(), word.typed()),
            "frame {mfn:#x} has type count {typed} and general count {general}: {}",
            show(word),
        );
        assert!(
            typed <= 1 || word.validation() == Validation::Done,
            "frame {mfn:#x}: {}",
            show(word)
        );
    }
}

fn index(mfn: Mfn) -> usize {
    usize::try_from(mfn.0).unwrap()
}
