//! `memory_op`, hypercall 12.

use core::marker::PhantomData;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Request, writable};

const MEMORY_OP: u64 = 12;
const MACHINE_MEMORY_MAP: u64 = 10;

/// One range of the machine's memory map, in the form of the ABI (20 bytes, not aligned).
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C, packed(4))]
pub struct MemoryRange {
    /// First address. Unit: bytes.
    pub start: u64,
    /// Unit: bytes.
    pub size: u64,
    /// 1 for RAM; others are the firmware's business.
    pub kind: u32,
}

/// Where a memory map is to be written: number of entries, then their address.
#[derive(Debug)]
#[repr(C)]
pub struct MemoryMapBuffer<'a> {
    entries: u32,
    capacity: u32,
    buffer: u64,
    borrowed: PhantomData<&'a mut [MemoryRange]>,
}

impl<'a> MemoryMapBuffer<'a> {
    /// A buffer over `ranges`.
    #[must_use]
    pub fn new(ranges: &'a mut [MemoryRange]) -> Self {
        let capacity = u32::try_from(ranges.len()).unwrap_or(u32::MAX);
        Self {
            entries: 0,
            capacity,
            buffer: writable(ranges),
            borrowed: PhantomData,
        }
    }

    /// After the call: how many entries were written.
    #[must_use]
    pub const fn entries(&self) -> u32 {
        self.entries
    }
}

/// Fills the buffer with the machine's memory map.
#[must_use]
pub fn machine_memory_map<'a>(map: &'a mut MemoryMapBuffer<'_>) -> Request<'a> {
    map.entries = map.capacity;
    // SAFETY: the hypervisor writes at most `entries` ranges, which are plain integers, to the
    // slice that `map` borrows, and their number to `map`, whose layout is the ABI's (the second
    // word is padding there, and not written).
    unsafe { Request::new(MEMORY_OP, [MACHINE_MEMORY_MAP, writable(map), 0, 0, 0, 0]) }
}
