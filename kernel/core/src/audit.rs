//! All references to all frames, counted from scratch and compared with what the frame table says.
//!
//! Nobody else may work on frames meanwhile: with other domains paused and the caller alone on its
//! CPU, whatever differs is an error of the kernel's.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::types::{DomId, Mfn};

use crate::domain::{Domain, Life};
use crate::frames::word::Word;
use crate::frames::{FrameType, Validation};
use crate::mm::{Entry, Level, Place};
use crate::platform::{NoMemory, Platform};
use crate::system::System;

/// Who needs a frame to be of a type.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Holder {
    /// An entry of a page table.
    Entry(Place),
    /// The frame's pin, or its being half checked.
    Itself,
    /// The kernel: a root, a frame it shares or reads descriptors from.
    Kernel,
}

/// What does not fit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Imbalance {
    /// The frame is marked *busy*, and nobody is at work on it.
    Busy(Mfn),
    /// The frame is not what somebody needs it to be.
    Type(Mfn, FrameType, Holder),
    /// There are so many references of a type, and of any kind, to the frame.
    Counts(Mfn, u32, u32, Word),
    /// Of this domain there are so many frames, and it is said to have so many.
    Pages(DomId, u64, u64),
}

impl fmt::Display for Imbalance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy(mfn) => write!(f, "frame {mfn:#x} was left busy"),
            Self::Type(mfn, needed, holder) => {
                write!(f, "{holder:?} needs frame {mfn:#x} as {needed:?}")
            }
            Self::Counts(mfn, typed, general, word) => write!(
                f,
                "frame {mfn:#x} has {typed} references of a type and {general} of any; \
                 its type count is {}, its general count {}, it is {:?} and {:?}",
                word.typed(),
                word.general(),
                word.frame_type(),
                word.validation()
            ),
            Self::Pages(domain, there, said) => {
                write!(f, "domain {domain} has {there} frames, not {said}")
            }
        }
    }
}

/// A count. `count` says where that of a frame is kept, at first 0: references of any kind in the low
/// half, of a type in the high one. `report` is told what does not fit.
pub struct Recount<'a, P, C, R> {
    platform: &'a P,
    count: C,
    report: R,
}

/// One reference of any kind.
const ONE: u64 = 1;
/// One of a type, which is also one of any kind.
const ONE_TYPED: u64 = ONE | 1 << 32;

impl<'a, P: Platform, C: Fn(Mfn) -> Option<&'a AtomicU64>, R: FnMut(Imbalance)>
    Recount<'a, P, C, R>
{
    /// Nothing counted yet.
    pub const fn new(platform: &'a P, count: C, report: R) -> Self {
        Self { platform, count, report }
    }

    /// Counts a reference of no type.
    pub fn general(&self, mfn: Mfn) {
        self.add(mfn, ONE);
    }

    /// Counts a reference of a type.
    pub fn typed(&mut self, mfn: Mfn, frame_type: FrameType, holder: Holder) {
        let word = self.platform.frames().word(mfn);
        if word.frame_type() != frame_type || word.typed() == 0 {
            (self.report)(Imbalance::Type(mfn, frame_type, holder));
        }
        self.add(mfn, ONE_TYPED);
    }

    fn add(&self, mfn: Mfn, what: u64) {
        if let Some(count) = (self.count)(mfn) {
            count.fetch_add(what, Ordering::Relaxed);
        }
    }

    fn all(&self) -> impl Iterator<Item = Mfn> + use<P, C, R> {
        (0..self.platform.frames().len()).map(Mfn)
    }

    /// When all that is held elsewhere has been counted: counts what the frames' own words stand for
    /// and what page tables hold, and compares.
    pub fn finish(&mut self) {
        self.all().for_each(|mfn| self.count_frame(mfn));
        self.all().for_each(|mfn| self.compare(mfn));
    }

    fn count_frame(&mut self, mfn: Mfn) {
        let word = self.platform.frames().word(mfn);
        let is = word.frame_type();
        if word.is_allocated() {
            self.general(mfn);
        }
        if word.is_pinned() {
            self.typed(mfn, is, Holder::Itself);
        }
        let valid = match word.validation() {
            Validation::Partial => {
                self.typed(mfn, is, Holder::Itself);
                word.index()
            }
            Validation::Done => 512,
            Validation::Busy => return (self.report)(Imbalance::Busy(mfn)),
            Validation::None => 0,
        };
        if let Some(level) = Level::of(is) {
            for index in (0..valid).filter(|&index| !level.is_hypervisor_slot(index)) {
                self.count_entry(Place { level, table: mfn, index });
            }
        }
    }

    fn count_entry(&mut self, place: Place) {
        let slot = self.platform.table(place.table).get(usize::from(place.index));
        let entry = slot.map_or(Entry(0), |slot| Entry(slot.load(Ordering::Relaxed)));
        if !entry.is_present() {
            return;
        }
        let (mfn, holder) = (entry.mfn(), Holder::Entry(place));
        match place.level.below() {
            Some(below) => self.typed(mfn, below.frame_type(), holder),
            None if self.platform.frames().is_device(mfn) => {}
            None if entry.is_writable() => self.typed(mfn, FrameType::Writable, holder),
            None => self.general(mfn),
        }
    }

    fn compare(&mut self, mfn: Mfn) {
        let frames = self.platform.frames();
        let word = frames.word(mfn);
        let count = (self.count)(mfn).map_or(0, |count| count.load(Ordering::Relaxed));
        let said = u64::from(word.general()) | u64::from(word.typed()) << 32;
        // What the kernel has for itself it refers to once, and nobody says so.
        let own = count == 0 && said == ONE && frames.owner(mfn).is_none();
        let whole = word.typed() <= 1 || word.validation() == Validation::Done;
        if count != said && !own || !whole {
            let [typed, general] = [count >> 32, count & u64::from(u32::MAX)];
            let [typed, general] = [typed, general].map(|n| u32::try_from(n).unwrap_or(u32::MAX));
            (self.report)(Imbalance::Counts(mfn, typed, general, word));
        }
    }

    /// Compares how many frames a domain has with how many it is said to have.
    pub fn pages(&mut self, domain: DomId, said: u64) {
        let frames = self.platform.frames();
        let there = self.all().filter(|&mfn| frames.owner(mfn) == Some(domain)).count() as u64;
        if there != said {
            (self.report)(Imbalance::Pages(domain, there, said));
        }
    }

    /// Counts everything of all domains, and compares.
    pub fn all_of(&mut self, system: &System<P>) {
        let mut next = DomId(0);
        while let Some(domain) = system.domains.from(self.platform, next) {
            next = DomId(domain.id.0.saturating_add(1));
            let shared = self.domain(&domain).saturating_add(self.grants(system, &domain));
            self.pages(domain.id, domain.memory.pages().saturating_add(shared));
        }
        self.finish();
    }

    /// Counts what grants hold; how many frames the domain's own table has.
    fn grants(&mut self, system: &System<P>, domain: &Domain<P>) -> u64 {
        domain.grants.each_use(self.platform, |_, _, mfn, _| self.general(mfn));
        for (granter, reference) in domain.grants.for_devices(self.platform) {
            let granter = system.domains.get(self.platform, granter);
            let frame = granter.and_then(|by| by.grants.used_frame(self.platform, reference));
            if let Some(mfn) = frame {
                self.typed(mfn, FrameType::Writable, Holder::Kernel);
            }
        }
        let mut shared = 0_u64;
        for frame in domain.grants.shared_frames() {
            self.typed(frame, FrameType::Writable, Holder::Kernel);
            shared = shared.saturating_add(1);
        }
        shared
    }

    /// Counts what the kernel holds for a domain; how many of its frames it shares with it.
    fn domain(&mut self, domain: &Domain<P>) -> u64 {
        let mut shared = 0;
        if domain.life() != Life::Dead {
            self.typed(domain.shared_info, FrameType::Writable, Holder::Kernel);
            shared = 1;
        }
        match domain.pirqs.eoi_map.load(Ordering::Acquire) {
            0 => {}
            map => self.typed(Mfn(map), FrameType::Writable, Holder::Kernel),
        }
        for vcpu in domain.vcpus() {
            let roots = [vcpu.roots.kernel(), vcpu.roots.user()];
            for root in roots.into_iter().flatten() {
                self.typed(root, FrameType::L4, Holder::Kernel);
            }
            for frame in vcpu.state.lock(self.platform).tables.frames() {
                self.typed(frame, FrameType::Descriptors, Holder::Kernel);
            }
            if let Some(frame) = vcpu.moved_info() {
                self.typed(frame, FrameType::Writable, Holder::Kernel);
            }
        }
        shared
    }
}

impl<P: Platform> System<P> {
    /// Counts everything of all domains, and tells what does not fit.
    ///
    /// # Errors
    ///
    /// [`NoMemory`]: counting takes 8 bytes for each frame of the machine, in one piece.
    pub fn audit(&self, report: impl FnMut(Imbalance)) -> Result<(), NoMemory> {
        let platform = &self.platform;
        let length = platform.frames().len().div_ceil(512);
        let first = platform.frames().alloc_kernel(platform, length)?;
        let count = |Mfn(mfn)| {
            let place = usize::try_from(mfn % 512).ok()?;
            platform.table(Mfn(first.0.wrapping_add(mfn / 512))).get(place)
        };
        Recount::new(platform, count, report).all_of(self);
        platform.frames().free_kernel(first, length);
        Ok(())
    }
}
