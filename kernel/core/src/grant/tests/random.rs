//! Random operations of three hostile domains, compared with a simple model, and everything counted
//! anew after each.
//!
//! `PARAVANE_SEED` repeats a run, `PARAVANE_SEQUENCES` says how long it is.

use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

use core::sync::atomic::Ordering;

use hypercall_abi::grant::{COPY_DEST_GREF, COPY_SOURCE_GREF, CopyPtr, GrantCopy};
use hypercall_abi::types::{DomId, GrantHandle, GrantRef, Mfn};

use super::world::*;
use crate::frames::FrameType;
use crate::grant::Unmap;
use crate::mm::{Budget, Entry, Level, Source};
use crate::platform::Platform;

const DOMAINS: usize = 3;
const FRAMES: usize = 48;
const REFERENCES: usize = 4;
const SLOTS: u64 = 5;
const STEPS: usize = 60;

const READING: u64 = 8;
const WRITING: u64 = 16;
const DEVICE: u32 = 1;
const HOST: u32 = 2;
const ONLY_READ: u32 = 4;
const BY_ENTRY: u32 = 16;

/// A small generator of numbers; its quality does not matter, its being repeatable does.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % below
    }

    fn index(&mut self, below: usize) -> usize {
        usize::try_from(self.next(below as u64)).unwrap()
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())]
    }

    fn chance(&mut self, of: u64) -> bool {
        self.next(of) == 0
    }
}

/// A mapping, in the model.
#[derive(Clone, Copy, Debug)]
struct Mapped {
    granter: usize,
    reference: u32,
    mfn: Mfn,
    flags: u32,
}

/// What the model knows: entries, and who has mapped what.
struct Model {
    words: [[u64; REFERENCES]; DOMAINS],
    mapped: [BTreeMap<GrantHandle, Mapped>; DOMAINS],
    dead: [bool; DOMAINS],
}

impl Model {
    fn word(&mut self, granter: usize, reference: u32) -> &mut u64 {
        &mut self.words[granter][usize::try_from(reference).unwrap()]
    }

    /// The mappings of an entry, and whose they are.
    fn of(&self, granter: usize, reference: u32) -> Vec<(usize, Mapped)> {
        let all = self.mapped.iter().enumerate();
        all.flat_map(|(by, mapped)| mapped.values().map(move |&mapped| (by, mapped)))
            .filter(|(_, mapped)| mapped.granter == granter && mapped.reference == reference)
            .collect()
    }

    /// The entry's flags after uses have ended, of which some could write.
    fn settle(&mut self, granter: usize, reference: u32, wrote: bool) {
        let left = self.of(granter, reference);
        let word = self.word(granter, reference);
        if wrote && left.iter().all(|(_, mapped)| mapped.flags & ONLY_READ != 0) {
            *word &= !WRITING;
        }
        if left.is_empty() {
            *word &= !READING;
        }
    }
}

struct Game {
    world: World,
    random: Random,
    known: Vec<Vec<Mfn>>,
    model: Model,
}

impl Game {
    fn new(seed: u64) -> Self {
        let world = World::new(FRAMES, u8::try_from(DOMAINS).unwrap());
        let known = (0..DOMAINS).map(|domain| (0..5).map(|_| world.frame(domain)).collect());
        let known = known.collect();
        let model = Model {
            words: [[0; REFERENCES]; DOMAINS],
            mapped: [const { BTreeMap::new() }; DOMAINS],
            dead: [false; DOMAINS],
        };
        Self { world, random: Random(seed | 1), known, model }
    }

    /// A frame: mostly one of the domain's own.
    fn frame(&mut self, domain: usize) -> Mfn {
        let whose = if self.random.chance(8) { self.random.index(DOMAINS) } else { domain };
        let index = self.random.index(self.known[whose].len());
        self.known[whose][index]
    }

    fn owns(&self, domain: usize, mfn: Mfn) -> bool {
        let frames = self.world.machine().frames();
        frames.owner(mfn) == Some(self.world.domains[domain].id)
    }

    /// Whether a frame can't be mapped writable.
    fn conflicts(&self, mfn: Mfn) -> bool {
        let word = self.world.machine().frames().word(mfn);
        word.typed() > 0 && word.frame_type() != FrameType::Writable
    }

    fn write_entry(&mut self, domain: usize) {
        let reference = u32::try_from(self.random.index(REFERENCES)).unwrap();
        // Mostly it keeps its hands off an entry in use, as it should.
        if self.model.words[domain][reference as usize] & READING != 0 && !self.random.chance(4) {
            return;
        }
        let flags = self.random.one(&[0, 1, 1, 1, 1, 1, 1, 1, 5, 5, 2, 3, 0x101, 9, 0x1d, 0xe1]);
        let to = self.random.next(DOMAINS as u64) + 1;
        let value = flags | to << 16 | self.frame(domain).0 << 32;
        self.world.grant(domain, reference, value);
        *self.model.word(domain, reference) = value;
    }

    /// Any entry, but mostly one that names the domain.
    fn entry_for(&mut self, by: usize) -> (usize, u32) {
        let all: Vec<_> = (0..DOMAINS).flat_map(|d| (0..4).map(move |r| (d, r))).collect();
        let (words, to) = (&self.model.words, by as u64 + 1);
        let named = |&(d, r): &(usize, u32)| words[d][r as usize] >> 16 & 0xffff == to;
        let named: Vec<_> = all.iter().copied().filter(named).collect();
        let any = named.is_empty() || self.random.chance(4);
        self.random.one(if any { &all } else { &named })
    }

    /// What beginning a use comes to, by the model: which frame, or the status.
    fn begins(
        &mut self,
        by: usize,
        (granter, reference): (usize, u32),
        (writes, part): (bool, bool),
    ) -> Result<Mfn, i16> {
        let uses = self.model.of(granter, reference);
        let word = *self.model.word(granter, reference);
        let (flags, to) = (word & 0xffff, word >> 16 & 0xffff);
        let bits = if writes { READING | WRITING } else { READING };
        if let Some(&(user, first)) = uses.first() {
            let writers = uses.iter().any(|(_, mapped)| mapped.flags & ONLY_READ == 0);
            if user != by || writes && !writers && flags & 4 != 0 {
                return Err(-1);
            }
            if writes && !writers {
                *self.model.word(granter, reference) |= bits;
            }
            return Ok(first.mfn);
        }
        let kinds = if part { 3 } else { 0x103 };
        let admitted = flags & kinds == 1 && to == by as u64 + 1 && !(writes && flags & 4 != 0);
        if self.model.dead[granter] {
            return Err(-9);
        }
        if !admitted {
            return Err(-1);
        }
        let mfn = Mfn(word >> 32);
        if self.owns(granter, mfn) {
            *self.model.word(granter, reference) |= bits;
            return Ok(mfn);
        }
        self.model.settle(granter, reference, writes);
        Err(-9)
    }

    fn map(&mut self, by: usize) {
        let (granter, reference) = self.entry_for(by);
        let flags = self.random.one(&[HOST, HOST, HOST, DEVICE, DEVICE | HOST, 0])
            | self.random.one(&[0, ONLY_READ])
            | self.random.one(&[0, BY_ENTRY]);
        let (slot, bad) = (self.random.next(SLOTS), self.random.chance(12));
        let address = match flags & BY_ENTRY {
            0 => slot << 12 | u64::from(bad) << 39,
            _ => self.world.l1[by].address() + 8 * slot + u64::from(bad),
        };
        let writes = flags & ONLY_READ == 0;
        let expected = match flags & (HOST | DEVICE) {
            0 => Err(-3),
            _ => self.begins(by, (granter, reference), (writes, false)).and_then(|mfn| {
                let refused = writes && self.conflicts(mfn) || bad && flags & HOST != 0;
                if refused {
                    self.model.settle(granter, reference, writes);
                }
                if refused { Err(-1) } else { Ok(mfn) }
            }),
        };
        let whose = (u16::try_from(granter).unwrap() + 1, reference);
        let seen = self.world.map(by, whose, (flags, address));
        assert_eq!(seen.map(|(_, mfn)| mfn).map_err(|status| status.0), expected);
        let Ok((handle, mfn)) = seen else { return };
        let mapped = Mapped { granter, reference, mfn, flags };
        assert!(self.model.mapped[by].insert(handle, mapped).is_none(), "a handle given twice");
        if flags & HOST != 0 {
            let entry = self.world.slot(by, slot);
            assert!(entry.is_present() && entry.mfn() == mfn && entry.is_writable() == writes);
        }
    }

    /// Unmaps up to three at once.
    fn unmap(&mut self, by: usize) {
        let count = self.random.index(3) + 1;
        let asked: Vec<Unmap> = (0..count).map(|_| self.wanted(by)).collect();
        let mut ended = Vec::new();
        // The model looks at the page table before the call, and keeps account itself.
        let mut slots: Vec<Entry> = (0..SLOTS).map(|slot| self.world.slot(by, slot)).collect();
        let expected: Vec<i16> =
            asked.iter().map(|asked| self.unmaps(by, asked, (&mut slots, &mut ended))).collect();
        assert_eq!(self.world.unmap(by, &asked), expected);
        for (slot, expected) in (0..).zip(slots) {
            assert_eq!(self.world.slot(by, slot), expected);
        }
        for (granter, reference, wrote) in ended {
            self.model.settle(granter, reference, wrote);
            // What CPUs may have cached of the page must not matter any more.
            if self.random.chance(3) && !self.model.dead[granter] {
                let mfn = Mfn(*self.model.word(granter, reference) >> 32);
                self.world.machine().on(granter);
                let _ = self.world.mm(granter).pin(mfn, Level::L1, &mut Budget::unlimited());
            }
        }
    }

    fn wanted(&mut self, by: usize) -> Unmap {
        let handles: Vec<_> = self.model.mapped[by].iter().map(|(h, m)| (*h, *m)).collect();
        let unknown = Mapped { granter: 0, reference: 0, mfn: Mfn(3), flags: HOST };
        let (handle, mapped) = match handles.len() {
            0 => (GrantHandle(0), unknown),
            _ if self.random.chance(12) => (GrantHandle(self.random.one(&[9, 256, !0])), unknown),
            _ => self.random.one(&handles),
        };
        let slots: Vec<u64> = (0..SLOTS)
            .filter(|&slot| self.world.slot(by, slot).mfn() == mapped.mfn)
            .chain([self.random.next(SLOTS)])
            .collect();
        let slot = self.random.one(&slots);
        let place = match mapped.flags & BY_ENTRY {
            0 => slot << 12 | 0x18,
            _ => self.world.l1[by].address() + 8 * slot,
        };
        let (bus, other) = (mapped.mfn.address(), (self.random.next(SLOTS) << 12) + 1);
        // Page 0 is not unmapped by address, so that addresses of 0 mean none.
        Unmap {
            handle,
            host_addr: self.random.one(&[0, place, place, place]),
            dev_bus_addr: self.random.one(&[0, 0, bus, bus, bus, bus + 8]),
            new_addr: self.random.one(&[0, 0, other]),
        }
    }

    fn unmaps(
        &mut self,
        by: usize,
        asked: &Unmap,
        (slots, ended): (&mut Vec<Entry>, &mut Vec<(usize, u32, bool)>),
    ) -> i16 {
        let Some(mapped) = self.model.mapped[by].get_mut(&asked.handle) else { return -4 };
        let mut gone = if asked.dev_bus_addr != 0 { mapped.flags & DEVICE } else { 0 };
        if gone != 0 && asked.dev_bus_addr != mapped.mfn.address() {
            return -6;
        }
        let writes = mapped.flags & ONLY_READ == 0;
        if asked.host_addr != 0 && mapped.flags & HOST != 0 {
            let by_entry = mapped.flags & BY_ENTRY != 0;
            let slot = if by_entry { asked.host_addr >> 3 & 0x1ff } else { asked.host_addr >> 12 };
            if asked.new_addr != 0 && by_entry {
                return -1;
            }
            let moved = match asked.new_addr {
                0 => Entry(0),
                new => core::mem::take(&mut slots[usize::try_from(new >> 12).unwrap()]),
            };
            let place = &mut slots[usize::try_from(slot).unwrap()];
            let fits = place.is_present() && place.mfn() == mapped.mfn;
            if !fits || place.is_writable() != writes {
                return -1;
            }
            *place = moved;
            gone |= HOST;
        }
        if gone != 0 {
            ended.push((mapped.granter, mapped.reference, writes));
        }
        mapped.flags &= !gone;
        if mapped.flags & (HOST | DEVICE) == 0 {
            self.model.mapped[by].remove(&asked.handle);
        }
        0
    }

    /// An end of a copy: what is asked, and which frame that is by the model.
    fn end(&mut self, by: usize, writes: bool) -> ((CopyPtr, bool), Result<Mfn, i16>) {
        let offset = 800 + 8 * u16::try_from(self.random.next(4)).unwrap();
        if self.random.chance(2) {
            let page = self.frame(by);
            let end = CopyPtr { page: page.0, domid: DomId::SELF, offset, pad: 0 };
            let found = if self.owns(by, page) { Ok(page) } else { Err(-9) };
            return ((end, false), found);
        }
        let (granter, reference) = self.entry_for(by);
        let domid = self.world.domains[granter].id;
        let end = CopyPtr { page: u64::from(reference), domid, offset, pad: 0 };
        let found = self.begins(by, (granter, reference), (writes, true));
        if found.is_ok() {
            self.model.settle(granter, reference, writes);
        }
        ((end, true), found)
    }

    fn copy(&mut self, by: usize) {
        let ((source, from_entry), from) = self.end(by, false);
        let words = self.model.words;
        let ((dest, to_entry), to) = self.end(by, true);
        if from.is_err() {
            self.model.words = words;
        }
        let flags = if from_entry { COPY_SOURCE_GREF } else { 0 };
        let flags = if to_entry { flags | COPY_DEST_GREF } else { flags };
        let asked = GrantCopy { source, dest, len: 8, flags, ..GrantCopy::default() };
        let word = |offset: u16| usize::from(offset / 8);
        let ends = from.and_then(|from| to.map(|to| (from, to)));
        let before = ends.map(|(from, _)| {
            let word = self.world.word(from, word(source.offset));
            word.store(self.random.next(1 << 40) << 1, Ordering::Relaxed);
            word.load(Ordering::Relaxed)
        });
        let expected = match ends {
            Ok((_, to)) if self.conflicts(to) => -1,
            Ok(_) => 0,
            Err(status) => status,
        };
        assert_eq!(self.world.copy(by, &[asked]), [expected]);
        if let (0, Ok((_, to)), Ok(before)) = (expected, ends, before) {
            let after = self.world.word(to, word(dest.offset)).load(Ordering::Relaxed);
            assert_eq!(after, before);
        }
    }

    fn swap(&mut self, by: usize) {
        let mut one = || u32::try_from(self.random.index(REFERENCES)).unwrap();
        let (a, b) = (one(), one());
        let used = |reference| !self.model.of(by, reference).is_empty();
        let expected = if a != b && (used(a) || used(b)) { -12 } else { 0 };
        let table = &self.world.domains[by].grants;
        let seen = table.swap(self.world.machine(), GrantRef(a), GrantRef(b));
        assert_eq!(crate::grant::Status::of(&seen), expected);
        if expected == 0 {
            self.model.words[by].swap(a as usize, b as usize);
        }
    }

    /// What a guest does with its page table and frames otherwise.
    fn memory(&mut self, by: usize) {
        let mm_frame = self.frame(by);
        self.world.machine().on(by);
        let mm = self.world.mm(by);
        let budget = &mut Budget::unlimited();
        match self.random.next(6) {
            0 | 1 => {
                let ptr = self.world.l1[by].address() + 8 * self.random.next(SLOTS);
                let flags = self.random.one(&[0, P, P | RW, P | RW]);
                let val = if flags == 0 { 0 } else { mm_frame.address() | flags };
                let request = hypercall_abi::mmu::MmuUpdate { ptr, val };
                let _ = mm.one_update(request, Source::Own, budget);
            }
            2 => _ = mm.pin(mm_frame, Level::L1, budget),
            3 | 4 => {
                if let Ok(frame) = mm.frames.take(mm_frame, self.world.domains[by].id) {
                    if let Some(held) = mm.frames.unpin(&frame) {
                        mm.drop_table(held, budget);
                    }
                    mm.frames.put(frame);
                }
            }
            _ if self.random.chance(2) => {
                let _ = mm.take_away(mm_frame);
            }
            _ if self.world.machine().frames().free_count() > 4 => {
                let mfn = self.world.frame(by);
                self.known[by].push(mfn);
            }
            _ => {}
        }
    }

    fn die(&mut self, domain: usize) {
        self.model.dead[domain] = true;
        let mapped = core::mem::take(&mut self.model.mapped[domain]);
        for mapped in mapped.values() {
            let writes = mapped.flags & ONLY_READ == 0;
            self.model.settle(mapped.granter, mapped.reference, writes);
        }
        self.world.end(domain);
    }

    fn step(&mut self) {
        let domain = self.random.index(DOMAINS);
        if self.model.dead[domain] {
            let mapped = self.model.mapped.iter().flat_map(BTreeMap::values);
            let used = mapped.filter(|mapped| mapped.granter == domain).count() > 0;
            assert_eq!(self.world.grants(domain).end_table(), !used);
        } else {
            match self.random.next(120) {
                0..=26 => self.write_entry(domain),
                27..=62 => self.map(domain),
                63..=82 if !self.model.mapped[domain].is_empty() => self.unmap(domain),
                63..=94 => self.copy(domain),
                95 | 96 => self.swap(domain),
                97..=118 => self.memory(domain),
                _ => self.die(domain),
            }
        }
        self.check();
    }

    fn check(&self) {
        self.world.check();
        for domain in 0..DOMAINS {
            if self.world.domains[domain].grants.frame(0).is_none() {
                continue;
            }
            for (reference, &word) in (0..).zip(&self.model.words[domain]) {
                let seen = self.world.shared(domain, reference).load(Ordering::Relaxed);
                assert_eq!(seen, word, "entry {reference} of domain {domain}");
            }
        }
    }

    /// When all domains are dead, nothing is left of them.
    fn finish(mut self) {
        let alive: Vec<_> = (0..DOMAINS).filter(|&domain| !self.model.dead[domain]).collect();
        for domain in alive {
            self.die(domain);
        }
        assert_eq!(
            vec![true; DOMAINS],
            (0..DOMAINS).map(|d| self.world.grants(d).end_table()).collect::<Vec<_>>()
        );
        self.world.check();
        assert_eq!(self.world.machine().frames().free_count(), FRAMES as u64 - 1);
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn random_operations_do_what_the_model_does() {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let first = number(
        "PARAVANE_SEED",
        u64::from(time.subsec_nanos()) << 32 | time.as_secs() & 0xffff_ffff,
    );
    let count = number("PARAVANE_SEQUENCES", if cfg!(debug_assertions) { 120 } else { 5_000 });
    for sequence in 0..count {
        let seed = first.wrapping_add(sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let played = std::panic::catch_unwind(|| {
            let mut game = Game::new(seed);
            (0..STEPS).for_each(|_| game.step());
            game.finish();
        });
        assert!(played.is_ok(), "PARAVANE_SEED={seed} PARAVANE_SEQUENCES=1 repeats this");
    }
}
