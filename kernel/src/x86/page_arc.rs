//! Shared owners of kernel objects, each in adjacent frames of its own.

use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering, fence};

use hypercall_abi::types::{Mfn, PAGE_SIZE};
use kernel_core::domain::Domain;
use kernel_core::platform::{NoMemory, Platform};
use kernel_core::vcpu::Vcpu;

use super::frame;
use super::platform::X86;

/// A counted reference to a `T` in frames of its own. The last one frees them.
#[derive(Debug)]
pub(crate) struct PageArc<T: Send + Sync + 'static> {
    shared: NonNull<Shared<T>>,
}

/// What lies at the start of the first frame.
#[derive(Debug)]
struct Shared<T> {
    references: AtomicUsize,
    frame: Mfn,
    value: T,
}

/// What an idle domain costs: one frame for it, one for its vCPU, one for its ports. A field too many
/// doubles that.
const _: () = assert!(PageArc::<Domain<X86>>::FRAMES == 1 && PageArc::<Vcpu>::FRAMES == 1);

// SAFETY: the value is shared by reference and dropped by whoever is last: it is Send and Sync.
unsafe impl<T: Send + Sync> Send for PageArc<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for PageArc<T> {}

impl<T: Send + Sync> PageArc<T> {
    const ALIGNED: () = assert!(align_of::<T>() <= PAGE_SIZE);
    const FRAMES: u64 = size_of::<Shared<T>>().div_ceil(PAGE_SIZE) as u64;

    /// Makes a value in frames of its own, for which there must be memory first.
    #[inline]
    pub(super) fn new(platform: &X86, make: impl FnOnce() -> T) -> Result<Self, NoMemory> {
        let () = Self::ALIGNED;
        let mfn = platform.frames().alloc_kernel(platform, Self::FRAMES)?;
        let shared = frame::place::<Shared<T>>(mfn);
        // SAFETY: the frames were free, are mapped writable, adjacent, page-aligned, and enough.
        unsafe {
            shared.write(Shared { references: AtomicUsize::new(1), frame: mfn, value: make() })
        };
        // SAFETY: addresses of the direct map are not null.
        Ok(Self { shared: unsafe { NonNull::new_unchecked(shared) } })
    }

    fn shared(&self) -> &Shared<T> {
        // SAFETY: initialised by `new`, and freed only with the last reference.
        unsafe { self.shared.as_ref() }
    }
}

impl<T: Send + Sync> Deref for PageArc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.shared().value
    }
}

impl<T: Send + Sync> Clone for PageArc<T> {
    fn clone(&self) -> Self {
        let before = self.shared().references.fetch_add(1, Ordering::Relaxed);
        assert!(before < usize::MAX / 2, "references of a kernel object ran over");
        Self { shared: self.shared }
    }
}

impl<T: Send + Sync> Drop for PageArc<T> {
    fn drop(&mut self) {
        if self.shared().references.fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        // Whatever other owners did to the value happened before it is dropped.
        fence(Ordering::Acquire);
        let frame = self.shared().frame;
        // SAFETY: this was the last reference, and nobody uses the value any more.
        unsafe { self.shared.drop_in_place() };
        super::guest::free_kernel_frames(frame, Self::FRAMES);
    }
}
