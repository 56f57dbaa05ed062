//! Two CPUs on one frame, in every order in which their instructions can come.

use std::sync::Arc;
use std::vec::Vec;

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use shuttle::sync::atomic::AtomicBool;
use shuttle::thread;

use super::word::{self, Cell, FrameType, Outcome, Step, Word, WordError};

/// A word before each exchange of which the other CPU may come in between. That is enough: a load
/// that comes too early only makes the exchange fail.
struct Contended {
    word: AtomicU64,
    between: AtomicBool,
}

impl Cell for Contended {
    fn load(&self) -> u64 {
        self.word.load(Ordering::SeqCst)
    }

    fn exchange(&self, now: u64, next: u64) -> Result<u64, u64> {
        let _ = self.between.load(Ordering::SeqCst);
        self.word.compare_exchange(now, next, Ordering::SeqCst, Ordering::SeqCst)
    }
}

/// A frame, and who believes what of it.
struct Shared {
    word: Contended,
    /// CPUs that have the frame busy.
    busy: AtomicU32,
    /// CPUs that hold a reference of a type, by type.
    holders: [AtomicU32; 8],
    freed: AtomicU32,
}

/// What one CPU does with the frame.
#[derive(Clone, Copy, Debug)]
enum Script {
    /// Takes a general reference and puts it back.
    General,
    /// Takes a reference of a type, checks the contents if it has to, and puts it back.
    Typed(FrameType),
    /// The same, but stops in the middle of checking and leaves the frame partial.
    Interrupted(FrameType),
    /// Takes a table and pins it, then unpins it.
    Pinned(FrameType),
    /// The owner gives the frame up.
    Disowned,
}

const SCRIPTS: [Script; 9] = [
    Script::General,
    Script::Typed(FrameType::Writable),
    Script::Typed(FrameType::L1),
    Script::Typed(FrameType::L2),
    Script::Typed(FrameType::Descriptors),
    Script::Interrupted(FrameType::L1),
    Script::Interrupted(FrameType::L2),
    Script::Pinned(FrameType::L1),
    Script::Disowned,
];

impl Shared {
    fn step(&self, step: Step) -> Result<Outcome, WordError> {
        let outcome = word::change(&self.word, step, || {});
        if outcome == Ok(Outcome::Freed) {
            self.freed.fetch_add(1, Ordering::SeqCst);
        }
        outcome
    }

    fn must(&self, step: Step) -> Outcome {
        self.step(step).unwrap_or_else(|error| panic!("{step:?}: {error:?}"))
    }

    fn does(&self, step: Step) {
        let _ = self.must(step);
    }

    /// Ends the part in which this CPU alone may look at the frame.
    fn alone_until(&self, step: Step) {
        assert_eq!(self.busy.fetch_add(1, Ordering::SeqCst), 0, "two CPUs have the frame busy");
        self.does(step);
        self.busy.fetch_sub(1, Ordering::SeqCst);
    }

    fn hold(&self, ty: FrameType) {
        self.holders[ty as usize].fetch_add(1, Ordering::SeqCst);
        let types = self.holders.iter().filter(|count| count.load(Ordering::SeqCst) > 0).count();
        assert_eq!(types, 1, "a frame of two types at once");
    }

    fn put_type(&self, ty: FrameType) {
        self.holders[ty as usize].fetch_sub(1, Ordering::SeqCst);
        if let Outcome::Devalidate { .. } = self.must(Step::PutType(ty)) {
            self.alone_until(Step::Finish);
        }
    }

    /// Takes a reference of a type; false if the frame is something else, busy, or gone.
    fn take_type(&self, ty: FrameType, interrupted: bool) -> bool {
        match self.step(Step::TakeType(ty)) {
            Ok(Outcome::Validate { .. }) => {
                if interrupted {
                    self.alone_until(Step::Suspend(5));
                    return false;
                }
                self.alone_until(Step::Commit);
            }
            Ok(_) => {}
            Err(WordError::Conflict(_) | WordError::Busy | WordError::Free) => return false,
            Err(error) => panic!("{error:?}"),
        }
        self.hold(ty);
        true
    }

    fn play(&self, script: Script) {
        match script {
            Script::General => {
                if self.step(Step::Take).is_ok() {
                    self.does(Step::Put);
                }
            }
            Script::Typed(ty) => {
                if self.take_type(ty, false) {
                    self.put_type(ty);
                }
            }
            Script::Interrupted(ty) => {
                if self.take_type(ty, true) {
                    self.put_type(ty);
                }
            }
            Script::Pinned(ty) => {
                if self.take_type(ty, false) {
                    if self.step(Step::Pin).is_ok() {
                        self.does(Step::Unpin);
                    }
                    self.put_type(ty);
                }
            }
            Script::Disowned => {
                if self.step(Step::Take).is_ok() {
                    let _ = self.step(Step::Disown);
                    self.does(Step::Put);
                }
            }
        }
    }
}

/// Both CPUs play; then what is partial is undone, and the frame must be as it was, or free.
fn both(first: Script, second: Script, allocated: Word) {
    let shared = Arc::new(Shared {
        word: Contended { word: AtomicU64::new(allocated.0), between: AtomicBool::new(false) },
        busy: AtomicU32::new(0),
        holders: std::array::from_fn(|_| AtomicU32::new(0)),
        freed: AtomicU32::new(0),
    });
    let threads: Vec<_> = [first, second]
        .into_iter()
        .map(|script| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.play(script))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let left = Word(shared.word.load()).frame_type();
    if let Ok(Outcome::Devalidate { .. }) = shared.step(Step::Reclaim(left)) {
        shared.does(Step::Finish);
    }
    let word = Word(shared.word.load());
    let gone = matches!(first, Script::Disowned) || matches!(second, Script::Disowned);
    assert_eq!(word.general(), u32::from(!gone), "{first:?} {second:?}: {word:?}");
    assert_eq!(word.typed(), 0, "{first:?} {second:?}: {word:?}");
    assert_eq!(shared.freed.load(Ordering::SeqCst), u32::from(gone), "{first:?} {second:?}");
}

/// Orders tried of each pair, at random and systematically from the first on.
const RANDOM: usize = 150;
const SYSTEMATIC: usize = 150;

#[test]
fn all_pairs_of_two_cpus() {
    let (allocated, _) = Word(0).apply(Step::Allocate { allocated: true }).unwrap();
    for first in SCRIPTS {
        for second in SCRIPTS {
            shuttle::check_random(move || both(first, second, allocated), RANDOM);
            shuttle::check_dfs(move || both(first, second, allocated), Some(SYSTEMATIC));
        }
    }
}
