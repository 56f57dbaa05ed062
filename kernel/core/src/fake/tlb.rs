//! All that a CPU might have cached.
//!
//! A CPU may cache at any time what its tables say, speculatively, and keep it until it flushes. The
//! model assumes the worst: it caches everything reachable, at each step, and also what is reachable
//! through upper-level entries that it has cached and that are no longer there. Flushes of single
//! pages and root changes that keep global pages forget nothing, because the kernel's safety may not
//! depend on them.

use std::collections::HashSet;
use std::vec::Vec;

use core::sync::atomic::Ordering;

use hypercall_abi::types::Mfn;

use super::Machine;
use crate::frames::{FrameType, Validation};
use crate::mm::{Entry, Level};
use crate::platform::Platform;

/// What one CPU might have cached.
#[derive(Debug, Default)]
pub struct Tlb {
    root: Option<Mfn>,
    /// Frames taken for tables of a level.
    tables: HashSet<(Mfn, u8)>,
    /// Frames taken for pages, and whether writable.
    pages: HashSet<(Mfn, bool)>,
}

impl Tlb {
    pub(super) const fn root(&self) -> Option<Mfn> {
        self.root
    }

    pub(super) const fn set_root(&mut self, root: Mfn) {
        self.root = Some(root);
    }

    pub(super) fn forget_root(&mut self) {
        self.root = None;
        self.clear();
    }

    pub(super) fn clear(&mut self) {
        self.tables.clear();
        self.pages.clear();
    }

    /// Whether the frame is cached as anything.
    pub(super) fn knows(&self, mfn: Mfn) -> bool {
        self.pages.contains(&(mfn, false))
            || self.pages.contains(&(mfn, true))
            || (1..=4).any(|level| self.tables.contains(&(mfn, level)))
    }

    /// Caches all that is reachable.
    pub(super) fn fill(&mut self, machine: &Machine) {
        let Some(root) = self.root else { return };
        let mut todo: Vec<(Mfn, Level)> =
            self.tables.iter().map(|&(mfn, n)| (mfn, level(n))).collect();
        todo.push((root, Level::L4));
        let mut seen: HashSet<(Mfn, u8)> = HashSet::new();
        while let Some((table, at)) = todo.pop() {
            if !seen.insert((table, number(at))) {
                continue;
            }
            self.tables.insert((table, number(at)));
            for slot in machine.table(table) {
                let entry = Entry(slot.load(Ordering::Relaxed));
                if !entry.is_present() || machine.frames().is_device(entry.mfn()) {
                    continue;
                }
                match at.below() {
                    Some(below) => todo.push((entry.mfn(), below)),
                    None => _ = self.pages.insert((entry.mfn(), entry.is_writable())),
                }
            }
        }
    }

    /// Nothing that is cached may be used for something else. What a CPU is about to check may still be
    /// cached as what it was: it is flushed for first.
    pub(super) fn check(&self, machine: &Machine, cpu: usize) {
        for &(mfn, n) in &self.tables {
            let word = machine.frames().word(mfn);
            let used = word.typed() > 0 && word.validation() != Validation::Busy;
            let conflict = used && word.frame_type() != level(n).frame_type();
            assert!(!conflict, "cpu {cpu} takes frame {mfn:#x} for an L{n} table: {}", show(word));
        }
        for &(mfn, writable) in &self.pages {
            let word = machine.frames().word(mfn);
            let used = word.typed() > 0 && word.validation() != Validation::Busy;
            let conflict = writable && used && word.frame_type() != FrameType::Writable;
            assert!(!conflict, "cpu {cpu} can write frame {mfn:#x}: {}", show(word));
        }
    }
}

/// A word in words.
pub(super) fn show(word: crate::frames::word::Word) -> std::string::String {
    let partial = match word.validation() {
        Validation::Partial => std::format!(" up to {}", word.index()),
        _ => std::string::String::new(),
    };
    std::format!(
        "{:?}{}{}, {:?}{partial}, type count {}, general count {}",
        word.frame_type(),
        if word.is_allocated() { ", allocated" } else { "" },
        if word.is_pinned() { ", pinned" } else { "" },
        word.validation(),
        word.typed(),
        word.general(),
    )
}

const fn number(level: Level) -> u8 {
    match level {
        Level::L1 => 1,
        Level::L2 => 2,
        Level::L3 => 3,
        Level::L4 => 4,
    }
}

const fn level(number: u8) -> Level {
    match number {
        1 => Level::L1,
        2 => Level::L2,
        3 => Level::L3,
        _ => Level::L4,
    }
}
