//! The state of one frame in 64 bits, and the only function that changes it.
//!
//! | bits | content |
//! |---|---|
//! | 0-27 | general count: references of any kind |
//! | 28-47 | type count: references that need the frame to be of its type |
//! | 48-56 | partial index: entries below it hold their references |
//! | 57 | allocated: the owner's own reference, one of the general count |
//! | 58 | pinned: a reference of the type that the guest asked to keep |
//! | 59-60 | [`Validation`] |
//! | 61-63 | [`FrameType`] |
//!
//! Invariants of every reachable word:
//!
//! - the type count is at most the general count; the word is 0 when the general count is;
//! - the type can change only while the type count is 0, and it is kept then: what a CPU may have
//!   cached of the frame depends on what it was last;
//! - with a type count of 0 the validation is [`Validation::None`]; with a larger one than 1 it is
//!   [`Validation::Done`]. *Validating* and *partial* always mean a type count of exactly 1;
//! - the one count of a *partial* frame belongs to nobody but the state: whoever comes first may
//!   carry on from the index or undo it.

use core::sync::atomic::{AtomicU64, Ordering};

/// What a frame is used as. Zero is the type of memory that was never used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum FrameType {
    /// Fresh: not used as anything since it was allocated.
    None = 0,
    /// Mapped writable by a guest, or written by the kernel on its behalf.
    Writable = 1,
    /// Page table of level 1: its entries map pages.
    L1 = 2,
    /// Page table of level 2.
    L2 = 3,
    /// Page table of level 3.
    L3 = 4,
    /// Page table of level 4: a root.
    L4 = 5,
    /// Holds segment descriptors of a GDT or LDT.
    Descriptors = 6,
    /// Reserved for copy-on-write sharing between domains.
    Shared = 7,
}

impl FrameType {
    const ALL: [Self; 8] = [
        Self::None,
        Self::Writable,
        Self::L1,
        Self::L2,
        Self::L3,
        Self::L4,
        Self::Descriptors,
        Self::Shared,
    ];

    /// Whether entries of such a frame hold references to other frames.
    #[must_use]
    pub const fn is_table(self) -> bool {
        matches!(self, Self::L1 | Self::L2 | Self::L3 | Self::L4)
    }

    /// Whether the contents must be checked before the type is good.
    #[must_use]
    pub const fn has_contents(self) -> bool {
        self.is_table() || matches!(self, Self::Descriptors)
    }
}

/// How far a frame's contents have been checked for its type.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Validation {
    /// Not at all: nobody needs the type.
    None = 0,
    /// One CPU is at it, checking or undoing; others wait for it.
    Busy = 1,
    /// Begun or half undone, and left to whoever comes next.
    Partial = 2,
    /// The contents are good for the type.
    Done = 3,
}

/// Why a transition is refused. The word is unchanged then.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WordError {
    /// The frame is nobody's: free, or no memory at all.
    Free,
    /// The frame is in use as something else.
    Conflict(FrameType),
    /// Another CPU is checking or undoing this type at this moment; ask again.
    Busy,
    /// A count would not fit.
    Overflow,
    /// Already pinned; not pinned; not allocated; nothing partial: the flag is not as asked.
    Flag,
    /// The caller holds no such reference: an error in the kernel.
    Broken,
}

/// What to do to a word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// A frame from the pool gets its first reference; with `allocated` it is the owner's own.
    Allocate {
        /// Whether the reference is the owner's, to be given up by [`Step::Disown`].
        allocated: bool,
    },
    /// One more general reference.
    Take,
    /// One general reference less.
    Put,
    /// One more general reference that also needs the type.
    TakeType(FrameType),
    /// One more reference of the type, if the frame is good for it already.
    JoinType(FrameType),
    /// One reference of the type less.
    PutType(FrameType),
    /// Begins to undo a partial state of this type.
    Reclaim(FrameType),
    /// The contents are good: *busy* becomes *done*.
    Commit,
    /// Gives up for now: *busy* becomes *partial*, with the entries below the index held.
    Suspend(u16),
    /// Undone to the end, or never begun: the one reference of the type goes.
    Finish,
    /// A reference of the type becomes the pin.
    Pin,
    /// The pin becomes a reference of the type again.
    Unpin,
    /// The owner gives up its own reference.
    Disown,
    /// A general reference becomes the owner's own again.
    Own,
}

/// What the caller of a transition has to do next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Outcome {
    /// Nothing.
    Done,
    /// The last reference of the type went: from now on cached translations are stale.
    Untyped,
    /// The last reference of all went: the frame is to be given back to the pool.
    Freed,
    /// The caller has the frame *busy*: it must flush if `flush`, check the entries from `from`
    /// on, and then commit, suspend or undo.
    Validate {
        /// The first entry that holds no reference yet.
        from: u16,
        /// Whether CPUs may have cached what the frame was before.
        flush: bool,
    },
    /// The caller has the frame *busy*: it must give back the references of the entries below
    /// `below`, and then finish or suspend.
    Devalidate {
        /// The first entry that holds no reference.
        below: u16,
    },
}

impl Outcome {
    /// Whether cached translations of the frame become stale with this transition.
    #[must_use]
    pub const fn ends_use(self) -> bool {
        matches!(self, Self::Untyped | Self::Freed)
    }
}

/// The word.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Word(pub u64);

/// Where a word is kept: an atomic, of the machine or of a test that tries all interleavings.
pub(super) trait Cell {
    fn load(&self) -> u64;
    /// Stores `next` if the cell holds `now`; else says what it holds.
    fn exchange(&self, now: u64, next: u64) -> Result<u64, u64>;
}

impl Cell for AtomicU64 {
    #[inline]
    fn load(&self) -> u64 {
        self.load(Ordering::Acquire)
    }

    #[inline]
    fn exchange(&self, now: u64, next: u64) -> Result<u64, u64> {
        self.compare_exchange(now, next, Ordering::AcqRel, Ordering::Acquire)
    }
}

/// The compare-and-swap loop: the only place where a word is written after boot. `ends_use` is
/// called before the exchange, in each round, when the step would end the frame's use.
#[inline(always)]
pub(super) fn change(
    cell: &impl Cell,
    step: Step,
    mut ends_use: impl FnMut(),
) -> Result<Outcome, WordError> {
    let mut now = cell.load();
    loop {
        let (next, outcome) = Word(now).apply(step)?;
        if outcome.ends_use() {
            ends_use();
        }
        match cell.exchange(now, next.0) {
            Ok(_) => return Ok(outcome),
            Err(changed) => now = changed,
        }
    }
}

const GENERAL_BITS: u32 = 28;
const TYPED_BITS: u32 = 20;
const INDEX_BITS: u32 = 9;
const TYPED_SHIFT: u32 = GENERAL_BITS;
const INDEX_SHIFT: u32 = 48;
const ALLOCATED: u64 = 1 << 57;
const PINNED: u64 = 1 << 58;
const STATE_SHIFT: u32 = 59;
const TYPE_SHIFT: u32 = 61;

const GENERAL_ONE: u64 = 1;
const TYPED_ONE: u64 = 1 << TYPED_SHIFT;
const BOTH_ONE: u64 = GENERAL_ONE | TYPED_ONE;

/// The largest general count.
pub const GENERAL_MAX: u32 = (1 << GENERAL_BITS) - 1;
/// The largest type count.
pub const TYPED_MAX: u32 = (1 << TYPED_BITS) - 1;
/// Entries of a page table; also the index that says "all of them".
pub const ENTRIES: u16 = 512;

const _: () = assert!(TYPED_SHIFT + TYPED_BITS == INDEX_SHIFT && INDEX_SHIFT + INDEX_BITS == 57);

impl Word {
    /// References of any kind.
    #[must_use]
    pub const fn general(self) -> u32 {
        self.field(0, GENERAL_BITS)
    }

    /// References that need the type.
    #[must_use]
    pub const fn typed(self) -> u32 {
        self.field(TYPED_SHIFT, TYPED_BITS)
    }

    /// The partial index.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the field has nine bits")]
    pub const fn index(self) -> u16 {
        self.field(INDEX_SHIFT, INDEX_BITS) as u16
    }

    /// Whether the owner still has its own reference.
    #[must_use]
    pub const fn is_allocated(self) -> bool {
        self.0 & ALLOCATED != 0
    }

    /// Whether the guest has pinned the type.
    #[must_use]
    pub const fn is_pinned(self) -> bool {
        self.0 & PINNED != 0
    }

    /// The type: what the frame is, or last was when the type count is 0.
    #[must_use]
    pub fn frame_type(self) -> FrameType {
        FrameType::ALL.get((self.0 >> TYPE_SHIFT) as usize).copied().unwrap_or(FrameType::None)
    }

    /// How far the contents have been checked.
    #[must_use]
    pub const fn validation(self) -> Validation {
        match self.field(STATE_SHIFT, 2) {
            0 => Validation::None,
            1 => Validation::Busy,
            2 => Validation::Partial,
            _ => Validation::Done,
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "at most 28 bits are left by the mask")]
    const fn field(self, shift: u32, bits: u32) -> u32 {
        (self.0.wrapping_shr(shift) & (1_u64.wrapping_shl(bits)).wrapping_sub(1)) as u32
    }

    const fn with(self, shift: u32, bits: u32, value: u64) -> Self {
        let mask = 1_u64.wrapping_shl(bits).wrapping_sub(1).wrapping_shl(shift);
        Self(self.0 & !mask | value.wrapping_shl(shift) & mask)
    }

    const fn with_state(self, state: Validation) -> Self {
        self.with(STATE_SHIFT, 2, state as u64)
    }

    /// What becomes of this word by `step`, and what the caller has to do then.
    ///
    /// # Errors
    ///
    /// [`WordError`], and nothing changes.
    #[inline(always)]
    pub fn apply(self, step: Step) -> Result<(Self, Outcome), WordError> {
        match step {
            Step::Allocate { allocated } => self.allocate(allocated),
            Step::Take => self.take(),
            Step::Put => self.put(),
            Step::TakeType(want) => self.take_type(want),
            Step::JoinType(want) => self.join_type(want),
            Step::PutType(held) => self.put_type(held),
            Step::Reclaim(held) => self.reclaim(held),
            Step::Commit => self.busy()?.done(Validation::Done),
            Step::Suspend(index) => self.busy()?.suspend(index),
            Step::Finish => self.busy()?.drop_type(),
            Step::Pin => self.pin(),
            Step::Unpin => self.unpin(),
            Step::Disown => self.disown(),
            Step::Own => self.own(),
        }
    }

    const fn allocate(self, allocated: bool) -> Result<(Self, Outcome), WordError> {
        if self.0 != 0 {
            return Err(WordError::Broken);
        }
        Ok((Self(if allocated { ALLOCATED | GENERAL_ONE } else { GENERAL_ONE }), Outcome::Done))
    }

    const fn take(self) -> Result<(Self, Outcome), WordError> {
        match self.general() {
            0 => Err(WordError::Free),
            GENERAL_MAX => Err(WordError::Overflow),
            _ => Ok((Self(self.0.wrapping_add(GENERAL_ONE)), Outcome::Done)),
        }
    }

    /// One general reference less. The last one can't be any of those that the type count or the
    /// allocated flag stand for.
    const fn put(self) -> Result<(Self, Outcome), WordError> {
        let general = self.general();
        let spoken_for = self.typed().wrapping_add(self.is_allocated() as u32);
        if general == 0 || general <= spoken_for {
            return Err(WordError::Broken);
        }
        Ok(self.dropped(Self(self.0.wrapping_sub(GENERAL_ONE)), Outcome::Done))
    }

    /// The outcome of having dropped a reference: a frame without any is blank and freed.
    const fn dropped(self, next: Self, outcome: Outcome) -> (Self, Outcome) {
        if next.general() == 0 { (Self(0), Outcome::Freed) } else { (next, outcome) }
    }

    #[inline]
    fn take_type(self, want: FrameType) -> Result<(Self, Outcome), WordError> {
        let is = self.frame_type();
        if self.typed() == 0 {
            return self.first_of_type(is, want);
        }
        if is != want {
            return Err(WordError::Conflict(is));
        }
        match self.validation() {
            Validation::Done => self.another_of_type(),
            Validation::Partial => {
                Ok((self.resumed(), Outcome::Validate { from: self.index(), flush: false }))
            }
            Validation::Busy | Validation::None => Err(WordError::Busy),
        }
    }

    /// A type with contents is busy until they are checked. A plain writable use is busy only while
    /// what CPUs have cached of the frame's former use is flushed.
    #[inline]
    fn first_of_type(self, is: FrameType, want: FrameType) -> Result<(Self, Outcome), WordError> {
        if self.general() == 0 {
            return Err(WordError::Free);
        }
        if self.general() == GENERAL_MAX {
            return Err(WordError::Overflow);
        }
        if matches!(want, FrameType::None) {
            return Err(WordError::Broken);
        }
        let flush = is != want && !matches!(is, FrameType::None);
        let counted = Self(self.0.wrapping_add(BOTH_ONE)).with(TYPE_SHIFT, 3, want as u64).with(
            INDEX_SHIFT,
            INDEX_BITS,
            0,
        );
        if flush || want.has_contents() {
            let outcome = Outcome::Validate { from: 0, flush };
            Ok((counted.with_state(Validation::Busy), outcome))
        } else {
            Ok((counted.with_state(Validation::Done), Outcome::Done))
        }
    }

    const fn another_of_type(self) -> Result<(Self, Outcome), WordError> {
        if self.general() == GENERAL_MAX || self.typed() == TYPED_MAX {
            return Err(WordError::Overflow);
        }
        Ok((Self(self.0.wrapping_add(BOTH_ONE)), Outcome::Done))
    }

    #[inline]
    fn join_type(self, want: FrameType) -> Result<(Self, Outcome), WordError> {
        let is = self.frame_type();
        if self.typed() > 0 && is == want && matches!(self.validation(), Validation::Done) {
            self.another_of_type()
        } else {
            Err(WordError::Conflict(is))
        }
    }

    fn put_type(self, held: FrameType) -> Result<(Self, Outcome), WordError> {
        if self.frame_type() != held || !matches!(self.validation(), Validation::Done) {
            return Err(WordError::Broken);
        }
        match self.typed() {
            0 => Err(WordError::Broken),
            1 if self.is_pinned() => Err(WordError::Broken),
            1 if held.is_table() => {
                Ok((self.with_state(Validation::Busy), Outcome::Devalidate { below: ENTRIES }))
            }
            1 => self.drop_type(),
            _ => Ok((Self(self.0.wrapping_sub(BOTH_ONE)), Outcome::Done)),
        }
    }

    /// Takes away the last reference of the type; keeps the type itself.
    const fn drop_type(self) -> Result<(Self, Outcome), WordError> {
        if self.typed() != 1 || self.general() <= self.is_allocated() as u32 {
            return Err(WordError::Broken);
        }
        let next = Self(self.0.wrapping_sub(BOTH_ONE)).with_state(Validation::None).with(
            INDEX_SHIFT,
            INDEX_BITS,
            0,
        );
        Ok(self.dropped(next, Outcome::Untyped))
    }

    /// Of another type it is not even waited for: who waits with a table of his own in hand waits for
    /// tables of lower levels alone.
    fn reclaim(self, held: FrameType) -> Result<(Self, Outcome), WordError> {
        match self.validation() {
            _ if self.frame_type() != held => Err(WordError::Flag),
            Validation::Partial => {
                Ok((self.resumed(), Outcome::Devalidate { below: self.index() }))
            }
            Validation::Busy => Err(WordError::Busy),
            Validation::None | Validation::Done => Err(WordError::Flag),
        }
    }

    /// *Partial* becomes *busy*: the caller knows the index from now on.
    const fn resumed(self) -> Self {
        self.with_state(Validation::Busy).with(INDEX_SHIFT, INDEX_BITS, 0)
    }

    const fn busy(self) -> Result<Self, WordError> {
        match self.validation() {
            Validation::Busy if self.typed() == 1 => Ok(self),
            _ => Err(WordError::Broken),
        }
    }

    const fn done(self, state: Validation) -> Result<(Self, Outcome), WordError> {
        Ok((self.with_state(state).with(INDEX_SHIFT, INDEX_BITS, 0), Outcome::Done))
    }

    const fn suspend(self, index: u16) -> Result<(Self, Outcome), WordError> {
        if index >= ENTRIES {
            return Err(WordError::Broken);
        }
        let next = self.with_state(Validation::Partial).with(INDEX_SHIFT, INDEX_BITS, index as u64);
        Ok((next, Outcome::Done))
    }

    fn pin(self) -> Result<(Self, Outcome), WordError> {
        if self.is_pinned() {
            return Err(WordError::Flag);
        }
        let held = self.typed() > 0 && matches!(self.validation(), Validation::Done);
        if held && self.frame_type().is_table() {
            Ok((Self(self.0 | PINNED), Outcome::Done))
        } else {
            Err(WordError::Broken)
        }
    }

    const fn unpin(self) -> Result<(Self, Outcome), WordError> {
        if self.is_pinned() {
            Ok((Self(self.0 & !PINNED), Outcome::Done))
        } else {
            Err(WordError::Flag)
        }
    }

    const fn own(self) -> Result<(Self, Outcome), WordError> {
        if self.is_allocated() || self.general() <= self.typed() {
            return Err(WordError::Broken);
        }
        Ok((Self(self.0 | ALLOCATED), Outcome::Done))
    }

    const fn disown(self) -> Result<(Self, Outcome), WordError> {
        if !self.is_allocated() {
            return Err(WordError::Flag);
        }
        if self.general() <= self.typed() {
            return Err(WordError::Broken);
        }
        let next = Self((self.0 & !ALLOCATED).wrapping_sub(GENERAL_ONE));
        Ok(self.dropped(next, Outcome::Done))
    }
}
