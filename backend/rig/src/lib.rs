//! What a back end's device stands among in tests: an owner that does what it asks for, nodes, the
//! pages of a ring, and numbers at random. What must not happen panics.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use backend::{Effect, Nodes};
use shared_ring::{PAGE_WORDS, Words};

/// xorshift64*. The seed is not 0.
pub struct Random(pub u64);

impl Random {
    /// Any number.
    pub const fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below a limit, which is from 1 on.
    pub fn below<N: TryFrom<u64> + TryInto<u64>>(&mut self, limit: N) -> N {
        let number = limit.try_into().ok().map(|limit| (self.next() >> 11) % limit);
        let number = number.and_then(|number| N::try_from(number).ok());
        number.expect("a limit is not negative, and what is below it is of its type")
    }

    /// One of two.
    pub fn flip(&mut self) -> bool {
        self.below(2) == 0
    }

    /// So many bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// A page of a ring. A clone is the same page.
#[derive(Clone, Debug)]
pub struct Page(pub Rc<[AtomicU32; PAGE_WORDS]>);

impl Page {
    /// One that is all zero.
    #[must_use]
    pub fn zeroed() -> Self {
        Self(Rc::new([const { AtomicU32::new(0) }; PAGE_WORDS]))
    }
}

impl Words for Page {
    fn words(&self) -> &[AtomicU32; PAGE_WORDS] {
        &self.0
    }
}

/// The directories of both ends.
#[derive(Default)]
pub struct Store {
    /// The front end's nodes.
    pub front: BTreeMap<String, String>,
    /// The back end's nodes.
    pub back: BTreeMap<String, String>,
}

impl Nodes for Store {
    fn front(&self, name: &str) -> Option<String> {
        self.front.get(name).cloned()
    }

    fn back(&self, name: &str) -> Option<String> {
        self.back.get(name).cloned()
    }
}

/// Whether a device is to be polled.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A device's owner, and what it has seen of the device. `P`: how a front end wants to be served.
pub struct Owner<P> {
    /// Both directories.
    pub store: Store,
    /// Every state of the back end, in order.
    pub states: Vec<String>,
    /// Every error that was reported.
    pub reports: Vec<String>,
    /// What rings were to be attached.
    pub attached: Vec<P>,
    /// Whether the device is gone.
    pub removed: bool,
    /// What the hypervisor says to the next rings.
    pub refuse: Option<String>,
    flag: Arc<Flag>,
}

impl<P> Default for Owner<P> {
    /// Of a device that the toolstack wants.
    fn default() -> Self {
        let mut store = Store::default();
        store.back.insert("online".to_owned(), "1".to_owned());
        Self {
            store,
            states: Vec::new(),
            reports: Vec::new(),
            attached: Vec::new(),
            removed: false,
            refuse: None,
            flag: Arc::default(),
        }
    }
}

impl<P> Owner<P> {
    /// Writes a node of the front end's.
    pub fn set(&mut self, name: &str, value: &str) {
        self.store.front.insert(name.to_owned(), value.to_owned());
    }

    /// What a node of the back end's says, or nothing.
    #[must_use]
    pub fn back(&self, name: &str) -> &str {
        self.store.back.get(name).map_or("", String::as_str)
    }

    /// Does what the device asks for. If rings are to be attached, says whether they can be.
    pub fn obey(&mut self, effect: Effect<P>) -> Option<Result<(), String>> {
        match effect {
            Effect::Write(name, value) => {
                if name == "state" {
                    self.states.push(value.clone());
                }
                self.store.back.insert(name.to_owned(), value);
            }
            Effect::Report(error) => self.reports.push(error),
            Effect::Remove => self.removed = true,
            Effect::Attach(parameters) => {
                self.attached.push(parameters);
                return Some(self.refuse.take().map_or(Ok(()), Err));
            }
        }
        None
    }

    /// Whether the device is to be polled.
    #[must_use]
    pub fn is_awake(&self) -> bool {
        self.flag.0.load(Ordering::SeqCst)
    }

    /// The device is to be polled, as after a change.
    pub fn wake(&self) {
        self.flag.clone().wake();
    }

    /// From now on the device sleeps, until it is woken.
    pub fn rest(&self) {
        self.flag.0.store(false, Ordering::SeqCst);
    }

    /// Polls the device, whose task is woken through the owner.
    pub fn poll(&self, poll: impl FnOnce(&mut Context<'_>) -> Poll<()>) -> Poll<()> {
        poll(&mut Context::from_waker(&Waker::from(self.flag.clone())))
    }
}
