//! Every transition from every sound word with small and extreme counts, and pairs of CPUs.

#![allow(clippy::wildcard_imports, reason = "a test uses nearly everything")]

use std::vec::Vec;

use super::word::*;

const TYPES: [FrameType; 8] = [
    FrameType::None,
    FrameType::Writable,
    FrameType::L1,
    FrameType::L2,
    FrameType::L3,
    FrameType::L4,
    FrameType::Descriptors,
    FrameType::Shared,
];

/// All steps with all their arguments that differ.
fn steps() -> Vec<Step> {
    let mut steps = std::vec![
        Step::Allocate { allocated: true },
        Step::Allocate { allocated: false },
        Step::Take,
        Step::Put,
        Step::Commit,
        Step::Finish,
        Step::Pin,
        Step::Unpin,
        Step::Disown,
        Step::Own,
    ];
    steps.extend([0, 1, 511, 512, u16::MAX].map(Step::Suspend));
    for ty in TYPES {
        steps.extend([Step::TakeType(ty), Step::PutType(ty), Step::JoinType(ty)]);
        steps.push(Step::Reclaim(ty));
    }
    steps
}

/// The parts of a word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Parts {
    ty: FrameType,
    validation: Validation,
    pinned: bool,
    allocated: bool,
    index: u16,
    typed: u32,
    general: u32,
}

impl Parts {
    fn of(word: Word) -> Self {
        Self {
            ty: word.frame_type(),
            validation: word.validation(),
            pinned: word.is_pinned(),
            allocated: word.is_allocated(),
            index: word.index(),
            typed: word.typed(),
            general: word.general(),
        }
    }

    fn word(self) -> Word {
        Word(
            (self.ty as u64) << 61
                | (self.validation as u64) << 59
                | u64::from(self.pinned) << 58
                | u64::from(self.allocated) << 57
                | u64::from(self.index) << 48
                | u64::from(self.typed) << 28
                | u64::from(self.general),
        )
    }

    /// The invariants that the module promises.
    fn is_sound(self) -> bool {
        let spoken_for = self.typed + u32::from(self.allocated);
        let blank = self.word().0 == 0;
        let state = match self.validation {
            Validation::None => self.typed == 0,
            Validation::Busy => self.typed == 1,
            Validation::Partial => self.typed == 1 && self.ty.is_table(),
            Validation::Done => self.typed > 0,
        };
        (self.general > 0 || blank)
            && self.general >= spoken_for
            && state
            && (self.typed == 0 || self.ty != FrameType::None)
            && (self.index == 0 || self.validation == Validation::Partial)
            && (!self.pinned || self.ty.is_table() && self.validation == Validation::Done)
    }
}

/// All sound words with these counts.
fn sound_words() -> Vec<Word> {
    let mut words = Vec::new();
    let validations = [Validation::None, Validation::Busy, Validation::Partial, Validation::Done];
    for ty in TYPES {
        for validation in validations {
            for flags in 0..4 {
                for index in [0, 1, 511] {
                    for typed in [0, 1, 2, TYPED_MAX - 1, TYPED_MAX] {
                        for general in [0, 1, 2, 3, GENERAL_MAX - 1, GENERAL_MAX] {
                            let (pinned, allocated) = (flags & 1 != 0, flags & 2 != 0);
                            let parts =
                                Parts { ty, validation, pinned, allocated, index, typed, general };
                            if parts.is_sound() {
                                words.push(parts.word());
                            }
                        }
                    }
                }
            }
        }
    }
    words
}

/// Whether a step is one that somebody can rightly take: those who hold no reference, or who have
/// not made the frame busy, never ask.
fn is_legal(before: Parts, step: Step) -> bool {
    let unspoken = before.general > before.typed + u32::from(before.allocated);
    match step {
        Step::Put | Step::Own => unspoken,
        Step::PutType(_) => before.typed > u32::from(before.pinned),
        Step::Commit | Step::Suspend(_) | Step::Finish => before.validation == Validation::Busy,
        _ => true,
    }
}

#[test]
fn sound_words_stay_sound() {
    let words = sound_words();
    assert!(words.len() > 500, "{}", words.len());
    for &word in &words {
        for step in steps() {
            let before = Parts::of(word);
            if !is_legal(before, step) {
                continue;
            }
            // Only tables are suspended, and descriptors and writable frames finish at once.
            let suspended = matches!(step, Step::Suspend(_)) && !before.ty.is_table();
            if let Ok((next, outcome)) = word.apply(step)
                && !suspended
            {
                let after = Parts::of(next);
                assert!(after.is_sound(), "{before:?} {step:?} -> {after:?}");
                check_counts(before, step, after, outcome);
            }
        }
    }
}

/// What each step does to the counts, said in another way than in the code.
fn check_counts(before: Parts, step: Step, after: Parts, outcome: Outcome) {
    let general = i64::from(after.general) - i64::from(before.general);
    let typed = i64::from(after.typed) - i64::from(before.typed);
    let expected = match step {
        Step::Allocate { .. } | Step::Take => (1, 0),
        Step::Put | Step::Disown => (-1, 0),
        Step::TakeType(_) if before.validation == Validation::Partial => (0, 0),
        Step::TakeType(_) | Step::JoinType(_) => (1, 1),
        Step::PutType(_) if after.validation == Validation::Busy => (0, 0),
        Step::PutType(_) | Step::Finish => (-1, -1),
        _ => (0, 0),
    };
    assert_eq!((general, typed), expected, "{before:?} {step:?} -> {after:?}");
    assert_eq!(outcome == Outcome::Freed, after.general == 0, "{before:?} {step:?}");
    if before.typed > 0 && after.typed > 0 {
        assert_eq!(before.ty, after.ty, "{before:?} {step:?} -> {after:?}");
    }
    let changed = after.ty != before.ty && after.general > 0 && before.general > 0;
    if changed && before.ty != FrameType::None {
        let flushed = matches!(outcome, Outcome::Validate { flush: true, .. });
        assert!(flushed, "{before:?} {step:?} changes the type without a flush");
    }
}

#[test]
fn counts_do_not_overflow() {
    for word in sound_words() {
        let parts = Parts::of(word);
        if parts.general == GENERAL_MAX {
            assert_eq!(word.apply(Step::Take), Err(WordError::Overflow));
        }
        let full = parts.general == GENERAL_MAX || parts.typed == TYPED_MAX;
        if full && parts.validation == Validation::Done {
            assert_eq!(word.apply(Step::TakeType(parts.ty)), Err(WordError::Overflow));
            assert_eq!(word.apply(Step::JoinType(parts.ty)), Err(WordError::Overflow));
        }
    }
}

#[test]
fn a_type_is_exclusive() {
    for word in sound_words().into_iter().filter(|word| word.typed() > 0) {
        for ty in TYPES.into_iter().filter(|&ty| ty != word.frame_type()) {
            assert_eq!(word.apply(Step::TakeType(ty)), Err(WordError::Conflict(word.frame_type())));
        }
    }
}

#[test]
fn what_is_taken_can_be_put_back() {
    for word in sound_words() {
        if let Ok((taken, _)) = word.apply(Step::Take) {
            assert_eq!(taken.apply(Step::Put).map(|(word, _)| word), Ok(word));
        }
        for ty in TYPES {
            if let Ok((taken, Outcome::Done)) = word.apply(Step::TakeType(ty))
                && word.typed() > 0
            {
                assert_eq!(taken.apply(Step::PutType(ty)).map(|(word, _)| word), Ok(word));
            }
        }
        if let Ok((unpinned, _)) = word.apply(Step::Unpin) {
            assert_eq!(unpinned.apply(Step::Pin).map(|(word, _)| word), Ok(word));
        }
        if let Ok((disowned, Outcome::Done)) =
            word.apply(Step::Take).and_then(|(word, _)| word.apply(Step::Disown))
        {
            assert_eq!(disowned.apply(Step::Own).map(|(word, _)| word), Ok(word));
        }
    }
}

#[test]
fn a_reference_that_nobody_holds_is_not_put_back() {
    for word in sound_words() {
        let parts = Parts::of(word);
        for step in steps() {
            if !is_legal(parts, step) {
                assert_eq!(word.apply(step), Err(WordError::Broken), "{parts:?} {step:?}");
            }
        }
    }
}
