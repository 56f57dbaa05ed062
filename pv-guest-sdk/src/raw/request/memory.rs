//! `memory_op`, hypercall 12.

use core::marker::PhantomData;

use hypercall_abi::call::Hypercall;
use hypercall_abi::memory::{E820Entry, MACHINE_MEMORY_MAP, MemoryMap};
#[cfg(target_os = "none")]
use hypercall_abi::memory::{EXCHANGE, Exchange};

use super::{Request, writable};

/// Where a memory map is to be written.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Gate, Machine, abi::memory::E820Entry, println, raw::request};
/// # fn example() {
/// let mut ranges = [E820Entry::default(); 64];
/// let mut buffer = request::MemoryMapBuffer::new(&mut ranges);
/// let answer = Machine.call(&request::machine_memory_map(&mut buffer));
/// println!("{answer}: {} ranges", buffer.entries());
/// # }
/// ```
#[derive(Debug)]
pub struct MemoryMapBuffer<'a> {
    map: MemoryMap,
    capacity: u32,
    borrowed: PhantomData<&'a mut [E820Entry]>,
}

impl<'a> MemoryMapBuffer<'a> {
    /// A buffer over `ranges`.
    #[must_use]
    pub fn new(ranges: &'a mut [E820Entry]) -> Self {
        let capacity = u32::try_from(ranges.len()).unwrap_or(u32::MAX);
        let map = MemoryMap { buffer: writable(ranges), ..MemoryMap::default() };
        Self { map, capacity, borrowed: PhantomData }
    }

    /// After the call: how many entries were written.
    #[must_use]
    pub const fn entries(&self) -> u32 {
        self.map.nr_entries
    }
}

/// Fills the buffer with the machine's memory map.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{Gate, Machine, println, raw::request};
/// # fn example(buffer: &mut request::MemoryMapBuffer<'_>) {
/// println!("{}", Machine.call(&request::machine_memory_map(buffer)));
/// # }
/// ```
#[must_use]
pub fn machine_memory_map<'a>(buffer: &'a mut MemoryMapBuffer<'_>) -> Request<'a> {
    buffer.map.nr_entries = buffer.capacity;
    let args = [MACHINE_MEMORY_MAP.into(), writable(&mut buffer.map), 0, 0, 0, 0];
    // SAFETY: the hypervisor writes at most `nr_entries` ranges, which are plain integers, to the
    // slice that `buffer` borrows, and their number to `map`.
    unsafe { Request::new(Hypercall::MemoryOp, args) }
}

/// Gives frames to the hypervisor and takes others.
///
/// # Safety
/// The lists in the argument must be borrowed for as long, and the frames given must be mapped
/// nowhere: what was in them is lost.
#[cfg(target_os = "none")]
#[must_use]
pub(in crate::raw) unsafe fn exchange(argument: &mut Exchange) -> Request<'_> {
    let args = [EXCHANGE.into(), writable(argument), 0, 0, 0, 0];
    // SAFETY: by this function's contract.
    unsafe { Request::new(Hypercall::MemoryOp, args) }
}
