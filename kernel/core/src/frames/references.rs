//! Taking references to frames and putting them back.

use hypercall_abi::types::{DomId, Mfn};

use super::epoch::{DirtyCpus, FlushDue};
use super::table::{FrameInfo, FrameTable};
use super::token::{FrameRef, TypeRef};
use super::word::{FrameType, Outcome, Step, WordError};
use crate::cpu::CpuSet;
use crate::platform::Platform;

/// Why a reference can't be had.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FrameError {
    /// The frame is not the domain's: another's, free, or no memory.
    NotOwned,
    /// The frame is in use as something else.
    Conflict(FrameType),
    /// A count is at its limit.
    Overflow,
    /// The frame's pin or allocation is not as it would have to be.
    Flag,
}

impl From<WordError> for FrameError {
    fn from(error: WordError) -> Self {
        match error {
            WordError::Free => Self::NotOwned,
            WordError::Conflict(is) => Self::Conflict(is),
            WordError::Overflow => Self::Overflow,
            WordError::Busy | WordError::Flag => Self::Flag,
            WordError::Broken => broken("a frame's counts do not fit a reference"),
        }
    }
}

/// What the owner of frames is asked when a reference is taken.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// The domain.
    pub id: DomId,
    /// Where its addresses may be cached.
    pub dirty: &'a DirtyCpus,
}

/// Who keeps account of how many frames each domain has.
pub trait FrameOwners {
    /// The last reference to a frame of this domain went, and the frame is free.
    fn frame_freed(&self, owner: DomId);
}

/// A reference of a type, or the duty to make it one.
#[derive(Debug)]
#[must_use]
pub enum Begun {
    /// The frame is of the type.
    Held(TypeRef),
    /// The caller alone may look at the frame now: it checks the entries from `from` on.
    Validate {
        /// The frame, marked *busy* until [`Frames::commit`], [`Frames::suspend`] or
        /// [`Frames::finish`].
        busy: BusyFrame,
        /// The first entry that holds no reference yet.
        from: u16,
    },
}

/// Why [`Frames::join_type`] is refused.
#[derive(Debug)]
pub enum Joined {
    /// There is no reference.
    Error(FrameError),
    /// There is one, but the frame has just become another domain's: to be put back.
    Foreign(TypeRef),
}

/// The duty to give back what the entries of a table hold.
#[derive(Debug)]
#[must_use]
pub struct Undo {
    /// The frame, marked *busy* until [`Frames::suspend`] or [`Frames::finish`].
    pub busy: BusyFrame,
    /// The first entry that holds no reference.
    pub below: u16,
}

/// A frame that this CPU alone checks or undoes; others wait for it.
#[derive(Debug)]
#[must_use = "others wait until it is committed, suspended or finished"]
pub struct BusyFrame {
    mfn: Mfn,
    frame_type: FrameType,
}

impl BusyFrame {
    /// The frame.
    #[must_use]
    pub const fn mfn(&self) -> Mfn {
        self.mfn
    }

    /// What it is to be, or was.
    #[must_use]
    pub const fn frame_type(&self) -> FrameType {
        self.frame_type
    }
}

/// The frame table together with what its transitions need.
#[derive(Debug)]
pub struct Frames<'a, P, O> {
    platform: &'a P,
    owners: &'a O,
}

impl<P, O> Clone for Frames<'_, P, O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P, O> Copy for Frames<'_, P, O> {}

impl<'a, P: Platform, O: FrameOwners> Frames<'a, P, O> {
    /// The frames of `platform`; `owners` is told of freed ones.
    pub const fn new(platform: &'a P, owners: &'a O) -> Self {
        Self { platform, owners }
    }

    fn table(&self) -> &'a FrameTable {
        self.platform.frames()
    }

    /// Takes a reference to a frame of `owner`.
    ///
    /// # Errors
    ///
    /// - [`FrameError::NotOwned`]: the frame is not this domain's;
    /// - [`FrameError::Overflow`]: too many references.
    #[inline(always)]
    pub fn take(&self, mfn: Mfn, owner: DomId) -> Result<FrameRef, FrameError> {
        let info = self.owned(mfn, owner)?;
        let _ = info.change(Step::Take, self.table().epochs())?;
        let taken = FrameRef::new(mfn);
        // Between the two the frame may have become another's; not so from here on.
        if !info.is_owned_by(owner) {
            self.put(taken);
            return Err(FrameError::NotOwned);
        }
        Ok(taken)
    }

    /// Puts a reference back.
    #[inline(always)]
    pub fn put(&self, held: FrameRef) {
        self.settle(held.mfn(), self.table().change(held.mfn(), Step::Put));
    }

    /// Takes a reference to a frame of `owner` that is to be writable.
    ///
    /// # Errors
    ///
    /// As [`Frames::begin_type`].
    #[inline(always)]
    pub fn take_writable(&self, mfn: Mfn, owner: Owner<'_>) -> Result<TypeRef, FrameError> {
        let held = match self.begin_type(mfn, owner, FrameType::Writable)? {
            Begun::Held(held) => held,
            Begun::Validate { busy, .. } => self.commit(busy),
        };
        if self.is_owner(mfn, owner.id) {
            return Ok(held);
        }
        // A writable frame has no entries to undo.
        let _ = self.put_type(held);
        Err(FrameError::NotOwned)
    }

    /// Takes a reference of a type, or begins to. CPUs that may have cached what the frame was
    /// before have forgotten it when this returns. To be called without a lock held: it waits for
    /// other CPUs that are at work on the frame.
    ///
    /// In the moment before the reference was taken the frame may have become another domain's:
    /// the caller asks [`Frames::is_owner`] afterwards.
    ///
    /// # Errors
    ///
    /// - [`FrameError::NotOwned`]: the frame is not this domain's;
    /// - [`FrameError::Conflict`]: it is in use as another type;
    /// - [`FrameError::Overflow`]: too many references.
    #[inline(always)]
    pub fn begin_type(
        &self,
        mfn: Mfn,
        owner: Owner<'_>,
        want: FrameType,
    ) -> Result<Begun, FrameError> {
        let info = self.owned(mfn, owner.id)?;
        let begun = match self.wait_for(info, Step::TakeType(want))? {
            Outcome::Validate { from, flush } => {
                let busy = BusyFrame { mfn, frame_type: want };
                if flush {
                    self.due(mfn, owner.dirty.get()).spend(self.platform);
                }
                Begun::Validate { busy, from }
            }
            _ => Begun::Held(TypeRef::new(mfn, want)),
        };
        Ok(begun)
    }

    /// Takes a reference of a type that the frame of `owner` has already.
    ///
    /// # Errors
    ///
    /// - [`FrameError::NotOwned`]: the frame is not this domain's;
    /// - [`FrameError::Conflict`]: it is not of the type, or not fully checked;
    /// - [`FrameError::Overflow`]: too many references.
    #[inline]
    pub fn join_type(&self, mfn: Mfn, owner: DomId, want: FrameType) -> Result<TypeRef, Joined> {
        if !self.is_owner(mfn, owner) {
            return Err(Joined::Error(FrameError::NotOwned));
        }
        let _ = self.table().change(mfn, Step::JoinType(want)).map_err(Joined::Error)?;
        let held = TypeRef::new(mfn, want);
        if self.is_owner(mfn, owner) { Ok(held) } else { Err(Joined::Foreign(held)) }
    }

    /// Whether the frame belongs to `owner`; it stays so while the caller holds a reference.
    #[inline]
    #[must_use]
    pub fn is_owner(&self, mfn: Mfn, owner: DomId) -> bool {
        self.table().info(mfn).is_some_and(|info| info.is_owned_by(owner))
    }

    /// Puts a reference of a type back. If it was the last one of a page table, the caller has to
    /// give back what its entries hold.
    #[inline(always)]
    #[must_use]
    pub fn put_type(&self, held: TypeRef) -> Option<Undo> {
        let (mfn, frame_type) = (held.mfn(), held.frame_type());
        match self.table().change(mfn, Step::PutType(frame_type)) {
            Ok(Outcome::Devalidate { below }) => {
                Some(Undo { busy: BusyFrame { mfn, frame_type }, below })
            }
            result => {
                self.settle(mfn, result);
                None
            }
        }
    }

    /// Begins to undo a frame that was left half checked or half undone; `None` if it isn't so.
    #[must_use]
    pub fn reclaim(&self, mfn: Mfn) -> Option<Undo> {
        self.reclaim_as(mfn, self.table().word(mfn).frame_type())
    }

    /// [`Frames::reclaim`] of a frame of this type only; another CPU that is at work on one is waited for.
    #[must_use]
    pub fn reclaim_as(&self, mfn: Mfn, frame_type: FrameType) -> Option<Undo> {
        let info = self.table().info(mfn)?;
        match self.wait_for(info, Step::Reclaim(frame_type)) {
            Ok(Outcome::Devalidate { below }) => {
                Some(Undo { busy: BusyFrame { mfn, frame_type }, below })
            }
            _ => None,
        }
    }

    /// The frame is good for its type.
    #[inline]
    pub fn commit(&self, busy: BusyFrame) -> TypeRef {
        self.settle(busy.mfn, self.table().change(busy.mfn, Step::Commit));
        TypeRef::new(busy.mfn, busy.frame_type)
    }

    /// Leaves the frame as it is, for whoever comes next: the entries below `held` hold references.
    pub fn suspend(&self, busy: BusyFrame, held: u16) {
        self.settle(busy.mfn, self.table().change(busy.mfn, Step::Suspend(held)));
    }

    /// No entry of the frame holds a reference: it is no longer of its type.
    pub fn finish(&self, busy: BusyFrame) {
        self.settle(busy.mfn, self.table().change(busy.mfn, Step::Finish));
    }

    /// Turns a reference into a pin.
    ///
    /// # Errors
    ///
    /// The reference again, if the frame is pinned already.
    pub fn pin(&self, held: TypeRef) -> Result<(), TypeRef> {
        match self.table().change(held.mfn(), Step::Pin) {
            Ok(_) => Ok(()),
            Err(_) => Err(held),
        }
    }

    /// Turns a pin into a reference again; `None` if the frame isn't pinned. To be called with a
    /// reference to the frame held.
    #[must_use]
    pub fn unpin(&self, frame: &FrameRef) -> Option<TypeRef> {
        let mfn = frame.mfn();
        // The type can't change between the two: the pin keeps it.
        let _ = self.table().change(mfn, Step::Unpin).ok()?;
        Some(TypeRef::new(mfn, self.table().word(mfn).frame_type()))
    }

    /// The owner gives up its own reference to the frame.
    ///
    /// # Errors
    ///
    /// [`FrameError::Flag`] if it has none: given up already, or shared by the kernel.
    pub fn disown(&self, frame: &FrameRef) -> Result<(), FrameError> {
        let outcome = self.table().change(frame.mfn(), Step::Disown)?;
        self.settle(frame.mfn(), Ok(outcome));
        Ok(())
    }

    /// Undoes [`Frames::disown`]: the reference becomes the owner's own.
    pub fn own(&self, frame: FrameRef) {
        let mfn = frame.into_entry();
        self.settle(mfn, self.table().change(mfn, Step::Own));
    }

    /// Whether at this moment nobody refers to the frame but its owner, and the caller.
    #[must_use]
    pub fn is_alone(&self, frame: &FrameRef) -> bool {
        let word = self.table().word(frame.mfn());
        word.is_allocated() && word.general() == 2 && word.typed() == 0
    }

    #[inline(always)]
    fn owned(&self, mfn: Mfn, owner: DomId) -> Result<&'a FrameInfo, FrameError> {
        let info = self.table().info(mfn).ok_or(FrameError::NotOwned)?;
        if info.is_owned_by(owner) { Ok(info) } else { Err(FrameError::NotOwned) }
    }

    #[inline(always)]
    fn wait_for(&self, info: &FrameInfo, step: Step) -> Result<Outcome, FrameError> {
        loop {
            match info.change(step, self.table().epochs()) {
                Err(WordError::Busy) => self.platform.spin_wait(),
                result => return result.map_err(FrameError::from),
            }
        }
    }

    fn due(&self, mfn: Mfn, cpus: CpuSet) -> FlushDue {
        FlushDue::new(self.table().epochs().stale(cpus, self.table().epoch_of(mfn)))
    }

    /// Ends a transition that can't be refused.
    #[inline(always)]
    fn settle(&self, mfn: Mfn, result: Result<Outcome, FrameError>) {
        match result {
            Ok(Outcome::Freed) => self.free(mfn),
            Ok(_) => {}
            Err(_) => broken("a frame's state does not fit a reference"),
        }
    }
}

impl<P: Platform, O: FrameOwners> Frames<'_, P, O> {
    #[cold]
    fn free(&self, mfn: Mfn) {
        if let Some(owner) = self.table().give_back(self.platform, mfn) {
            self.owners.frame_freed(owner);
        }
    }
}

/// Ends everything: the counts are wrong, so no page table can be trusted any more.
#[cold]
#[track_caller]
#[expect(clippy::panic, reason = "reserved for a broken invariant")]
fn broken(what: &str) -> ! {
    panic!("{what}")
}
