//! `XENMEM_exchange`: frames for other frames, of another order or with shorter addresses.

use core::mem::offset_of;

use hypercall_abi::layout::INVALID_M2P_ENTRY;
use hypercall_abi::memory::Exchange;
use hypercall_abi::types::{Mfn, Pfn};

use super::Mm;
use super::memory::DomainMemory;
use super::progress::{Budget, Progress};
use super::refusal::{Refusal, Why};
use super::reservation::{ANY, Extents};
use crate::frames::{FrameOwners, FrameRef};
use crate::guest_memory;
use crate::platform::Platform;

/// Frames that are exchanged as one: the largest extent there may be.
const LARGEST: usize = 1 << 9;
/// What a frame costs of a slice.
const FRAME_COST: u32 = 96;

/// The two sides, cut into pieces that are exchanged as one.
struct Sides {
    given: Extents,
    taken: Extents,
    /// log2 of the frames in a piece: the larger of both orders.
    order: u32,
    pieces: u64,
}

impl Sides {
    fn new(asked: &Exchange, max_order: u32) -> Result<Self, Why> {
        let (given, taken) = (Extents::of(&asked.given), Extents::of(&asked.taken));
        let order = given.order.max(taken.order);
        if order > max_order || 1_usize.wrapping_shl(order) > LARGEST {
            return Err(Why::Privilege);
        }
        let frames = |side: Extents| side.count.checked_mul(side.pages());
        let same = frames(given).filter(|_| frames(given) == frames(taken));
        let same = same.ok_or(Why::Count(asked.taken.nr_extents))?;
        let whole = same.is_multiple_of(1_u64.wrapping_shl(order));
        let named_same = asked.given.domid == asked.taken.domid;
        if !whole || !named_same || asked.nr_exchanged > given.count {
            return Err(Why::Count(asked.nr_exchanged));
        }
        Ok(Self { given, taken, order, pieces: same.wrapping_shr(order) })
    }

    /// Extents of a side in one piece.
    fn in_piece(&self, side: Extents) -> u64 {
        1_u64.wrapping_shl(self.order.saturating_sub(side.order))
    }
}

/// Frames that are about to be given away: still the domain's, but no longer allocated to it.
type Leaving = heapless::Vec<FrameRef, LARGEST>;

impl<P: Platform, O: FrameOwners> Mm<'_, P, O> {
    /// Exchanges frames of the caller. Each piece is exchanged or not as a whole; the structure in
    /// guest memory says how many extents are done, also when the call is continued.
    pub(super) fn exchange(
        &self,
        target: Result<&DomainMemory, Why>,
        argument: u64,
        budget: &mut Budget,
    ) -> Progress {
        let refused = |why| Progress::Refused { done: 0, refusal: Refusal::new(why) };
        if self.finish_pending(budget).is_err() {
            return Progress::Again { done: 0 };
        }
        let asked = match guest_memory::read::<Exchange>(self.platform, argument) {
            Ok(asked) => asked,
            Err(fault) => return refused(Why::Fault(fault.address)),
        };
        let sides = match Sides::new(&asked, self.max_order()) {
            Ok(sides) => sides,
            Err(why) => return refused(why),
        };
        if asked.nr_exchanged == sides.given.count {
            return Progress::Done(0);
        }
        let per_piece = sides.in_piece(sides.given);
        let mut piece = asked.nr_exchanged.checked_div(per_piece).unwrap_or(0);
        let first_taken = piece.wrapping_mul(sides.in_piece(sides.taken));
        for (side, first) in [(sides.given, asked.nr_exchanged), (sides.taken, first_taken)] {
            if !side.may_begin_with(first) {
                return refused(Why::Fault(side.list));
            }
        }
        if !self.node_fits(asked.taken.mem_flags) {
            return refused(Why::Count(asked.taken.mem_flags.into()));
        }
        let target = match target {
            Ok(target) => self.on(target),
            Err(why) => return refused(why),
        };
        let mut end = Progress::Done(0);
        while piece < sides.pieces {
            if budget.is_spent() {
                end = Progress::Again { done: 0 };
                break;
            }
            budget.charge(FRAME_COST.wrapping_shl(sides.order));
            if let Err(why) = target.exchange_piece(&sides, piece) {
                end = refused(why);
                break;
            }
            piece = piece.saturating_add(1);
        }
        let told = piece.wrapping_mul(per_piece);
        let field = u64::try_from(offset_of!(Exchange, nr_exchanged)).unwrap_or(0);
        let told = guest_memory::write(self.platform, argument.wrapping_add(field), &told);
        match told {
            Ok(()) => end,
            Err(fault) => refused(Why::Fault(fault.address)),
        }
    }

    /// Exchanges one piece. The new frames are allocated first, then the old ones leave: from then
    /// on nothing can be refused.
    fn exchange_piece(&self, sides: &Sides, piece: u64) -> Result<(), Why> {
        let mut leaving = Leaving::new();
        if let Err(why) = self.leave(sides, piece, &mut leaving) {
            self.stay(&mut leaving);
            return Err(why);
        }
        let count = sides.in_piece(sides.taken);
        let mut new = heapless::Vec::<Mfn, LARGEST>::new();
        for _ in 0..count {
            let (order, bits) = (sides.taken.order, sides.taken.address_bits);
            let frames = self.platform.frames();
            match frames.alloc_for(self.platform, self.memory.id(), order, bits) {
                Ok(start) => drop(new.push(start)),
                Err(_) => {
                    new.iter().for_each(|&start| self.discard(start, sides.taken.pages()));
                    self.stay(&mut leaving);
                    return Err(Why::NoMemory);
                }
            }
        }
        self.memory.add(1_u64.wrapping_shl(sides.order));
        while let Some(old) = leaving.pop() {
            self.platform.set_m2p(old.mfn(), Pfn(INVALID_M2P_ENTRY));
            self.frames.put(old);
        }
        let first = piece.wrapping_mul(count);
        let mut result = Ok(());
        for (index, &start) in (first..).zip(&new) {
            let told = sides.taken.read(self.platform, index).and_then(|pfn| {
                self.name_extent(start, pfn, sides.taken.pages());
                sides.taken.write(self.platform, index, start.0)
            });
            result = result.and(told.ok_or(Why::Fault(sides.taken.list)));
        }
        result
    }

    /// Collects the frames of a piece: each must be the domain's, and referred to by nobody.
    fn leave(&self, sides: &Sides, piece: u64, leaving: &mut Leaving) -> Result<(), Why> {
        let count = sides.in_piece(sides.given);
        let first = piece.wrapping_mul(count);
        for index in first..first.wrapping_add(count) {
            let start = sides.given.read(self.platform, index);
            let start = start.ok_or(Why::Fault(sides.given.list))?;
            for at in 0..sides.given.pages() {
                let mfn = Mfn(start.wrapping_add(at));
                let frame = self.frames.take(mfn, self.memory.id());
                let frame = frame.map_err(|error| Refusal::frame(mfn, ANY, error).why)?;
                if self.frames.is_alone(&frame) && self.frames.disown(&frame).is_ok() {
                    // As many as there is room for: the order is bounded.
                    if let Err(frame) = leaving.push(frame) {
                        self.frames.put(frame);
                    }
                } else {
                    self.frames.put(frame);
                    return Err(Why::TooMany(mfn));
                }
            }
        }
        Ok(())
    }

    /// The frames stay with their owner after all.
    fn stay(&self, leaving: &mut Leaving) {
        while let Some(frame) = leaving.pop() {
            self.frames.own(frame);
        }
    }

    /// Gives back frames that nobody has seen yet.
    fn discard(&self, start: Mfn, pages: u64) {
        self.memory.add(pages);
        for at in 0..pages {
            if let Ok(frame) = self.frames.take(Mfn(start.0.wrapping_add(at)), self.memory.id()) {
                let _ = self.frames.disown(&frame);
                self.frames.put(frame);
            }
        }
    }
}
