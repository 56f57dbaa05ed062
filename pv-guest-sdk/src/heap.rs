//! A heap behind `alloc`, for guests that ask for one.
//!
//! ```no_run,ignore-gnu
//! extern crate alloc;
//! pv_guest_sdk::heap!();
//! ```
//!
//! It takes frames from the pool of [`crate::paging`], a mebibyte at a time, and so works
//! once [`crate::paging::Memory::start`] was called; an allocation before that, or when memory is
//! used up, fails. Trap handlers must not allocate.

pub use crate::raw::heap::Heap;

/// Makes a heap the allocator of this program.
#[macro_export]
macro_rules! heap {
    () => {
        #[global_allocator]
        static __PV_HEAP: $crate::heap::Heap = $crate::heap::Heap::empty();
    };
}
