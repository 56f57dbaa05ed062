//! Pages of packets, which domains, devices and this program fill and read in turn.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::mem::ManuallyDrop;

use hypercall_abi::types::PAGE_SIZE;

use super::Buffer;

/// Where pages of packets come from: a limited number of them, which are used again and again.
#[derive(Clone, Debug)]
pub struct PacketPages(Rc<Free>);

#[derive(Debug)]
struct Free {
    spare: RefCell<Vec<Buffer>>,
    /// How many may still be made.
    left: Cell<usize>,
}

/// A page that nobody else has: its owner's references are the only ones. It goes back to where it
/// came from when it is dropped.
#[derive(Debug)]
pub struct PacketPage {
    memory: Buffer,
    from: Rc<Free>,
}

/// A page that a device may write. Dropped, it is lost: the device may write it for ever.
#[derive(Debug)]
pub struct Lent(ManuallyDrop<PacketPage>);

impl PacketPages {
    /// At most so many pages, none of which is made before it is needed.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self(Rc::new(Free { spare: RefCell::default(), left: Cell::new(most) }))
    }

    /// How many pages could be had, if there is memory.
    #[must_use]
    pub fn free(&self) -> usize {
        self.0.left.get() + self.0.spare.borrow().len()
    }
}

impl netback::Pool for PacketPages {
    type Buffer = PacketPage;

    fn buffer(&mut self) -> Option<PacketPage> {
        let spare = self.0.spare.borrow_mut().pop();
        let memory = match spare {
            Some(memory) => memory,
            None => {
                let left = self.0.left.get().checked_sub(1)?;
                let memory = Buffer::new(PAGE_SIZE, 0).ok()?;
                self.0.left.set(left);
                memory
            }
        };
        Some(PacketPage { memory, from: self.0.clone() })
    }

    fn left(&self) -> usize {
        self.free()
    }
}

impl PacketPage {
    /// The machine address of the first byte.
    #[must_use]
    pub fn machine(&self) -> u64 {
        self.memory.machine()
    }

    /// Lets a device have it.
    #[must_use]
    pub const fn lend(self) -> Lent {
        Lent(ManuallyDrop::new(self))
    }
}

impl Lent {
    /// The machine address of the first byte.
    #[must_use]
    pub fn machine(&self) -> u64 {
        self.0.machine()
    }

    /// Takes it back, which is to be when the device has said that it is done with it.
    #[must_use]
    pub fn take_back(self) -> PacketPage {
        ManuallyDrop::into_inner(self.0)
    }
}

impl netback::Buffer for PacketPage {
    fn bytes(&self) -> &[u8; PAGE_SIZE] {
        let first: *const [u8; PAGE_SIZE] = self.memory.words().as_ptr().cast();
        // SAFETY: a page of memory, which lives as long as `self`; any bytes are right. Nobody
        // writes it while it is borrowed: its one handle is here, not lent, and grant copies to it
        // take it mutably.
        unsafe { &*first }
    }

    fn bytes_mut(&mut self) -> &mut [u8; PAGE_SIZE] {
        let first: *mut [u8; PAGE_SIZE] = self.memory.words().as_ptr().cast_mut().cast();
        // SAFETY: as in `bytes`; the words are atomics, so they may be written, and `self` is
        // borrowed mutably, so that no other reference leads there.
        unsafe { &mut *first }
    }
}

impl Drop for PacketPage {
    fn drop(&mut self) {
        self.from.spare.borrow_mut().push(self.memory.clone());
    }
}
