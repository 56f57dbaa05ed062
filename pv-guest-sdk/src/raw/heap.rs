//! A heap at addresses of its own, which grows by pages of the pool.

use core::alloc::{GlobalAlloc, Layout};
use core::fmt;
use core::ptr::{NonNull, null_mut};

use hypercall_abi::types::PAGE_SIZE;
use linked_list_allocator::Heap as FreeList;

use super::memory::map_kept;
use crate::lock::Yielding;
use crate::paging::MemoryError;

/// Where the heap begins; nothing else is ever mapped in this slot of the top table.
const BASE: u64 = 0xffff_e000_0000_0000;
/// How much it grows by at least. Unit: bytes.
const STEP: usize = 1 << 20;
/// What a growth needs beside what is asked for. Unit: bytes.
const OVERHEAD: usize = 64;

/// A heap. [`crate::heap!`] makes one the program's allocator.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{heap::Heap, println};
/// # fn example(heap: &Heap) {
/// static HEAP: Heap = Heap::empty(); // what `heap!` makes
///
/// println!("{} of {} bytes are in use", heap.used(), heap.size());
/// # }
/// ```
pub struct Heap(Yielding<FreeList>);

impl Heap {
    /// An empty heap. A program has at most one that allocates.
    #[doc(hidden)]
    #[must_use]
    pub const fn empty() -> Self {
        Self(Yielding::new(FreeList::empty()))
    }

    /// How much is allocated, with what keeping it costs. Unit: bytes.
    #[must_use]
    pub fn used(&self) -> usize {
        self.0.lock().used()
    }

    /// How much memory it has, which only grows. Unit: bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.lock().size()
    }
}

impl fmt::Debug for Heap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Heap")
    }
}

/// Makes the heap longer by at least `bytes`, unless fewer are free.
fn grow(heap: &mut FreeList, bytes: usize) -> Result<(), MemoryError> {
    let end = BASE + heap.size() as u64;
    let wanted = bytes.max(STEP).next_multiple_of(PAGE_SIZE);
    let length = map_kept(end, wanted, bytes)?;
    if heap.size() == 0 {
        // SAFETY: the bytes from the base on were just mapped, for ever and for this alone.
        unsafe { heap.init(super::memory::pointer(BASE), length) };
    } else {
        // SAFETY: the bytes behind the heap's end were just mapped.
        unsafe { heap.extend(length) };
    }
    Ok(())
}

// SAFETY: the free list hands every range out once, aligned as asked, until it comes back.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut heap = self.0.lock();
        let mut first = heap.allocate_first_fit(layout);
        let needed = layout.size().saturating_add(layout.align() + OVERHEAD);
        if first.is_err() && grow(&mut heap, needed).is_ok() {
            first = heap.allocate_first_fit(layout);
        }
        first.map_or(null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        let Some(start) = NonNull::new(start) else { return };
        // SAFETY: by this trait's contract the range came from `alloc` with this layout.
        unsafe { self.0.lock().deallocate(start, layout) };
    }
}
