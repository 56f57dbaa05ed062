//! The machine's memory, as far as a privileged guest may see it.

use hypercall_abi::call::Hypercall;
use hypercall_abi::errno::Errno;
use hypercall_abi::memory::{self as abi, E820Entry};

use crate::error::{HypercallError, Site, perform};
use crate::raw::gate::Gate;
use crate::raw::request::{self, MemoryMapBuffer};

static MACHINE_MEMORY_MAP: Site = Site::operation(
    Hypercall::MemoryOp,
    abi::OPS,
    abi::MACHINE_MEMORY_MAP,
    &[
        (Errno::EPERM, "only a privileged domain may see the machine's memory map"),
        (Errno::EINVAL, "the buffer has no room for the whole map"),
        (Errno::ENOBUFS, "the buffer has no room for the whole map"),
    ],
);

/// Reads the machine's memory map into `ranges`, and returns the part that was filled.
///
/// # Errors
/// EPERM (1) for a domain without privileges, ENOBUFS (105) if the map is longer than `ranges`.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, Machine, abi::memory::E820Entry, memory, println};
/// # fn example() -> Result<(), HypercallError> {
/// let mut ranges = [E820Entry::default(); 64];
/// for range in memory::machine_memory_map(&Machine, &mut ranges)? {
///     println!("{range:x?}");
/// }
/// # Ok(())
/// # }
/// ```
pub fn machine_memory_map<'a>(
    gate: &impl Gate,
    ranges: &'a mut [E820Entry],
) -> Result<&'a [E820Entry], HypercallError> {
    let mut buffer = MemoryMapBuffer::new(ranges);
    perform(gate, &MACHINE_MEMORY_MAP, &request::machine_memory_map(&mut buffer))?;
    let filled = usize::try_from(buffer.entries()).unwrap_or(usize::MAX);
    Ok(ranges.get(..filled).unwrap_or(ranges))
}

#[cfg(test)]
mod tests {
    use hypercall_abi::memory::E820Entry;

    use super::machine_memory_map;
    use crate::raw::gate::{CpuidAnswer, Gate, Machine, Request};

    /// Says yes and writes nothing.
    struct Yes;

    impl Gate for Yes {
        fn call(&self, request: &Request<'_>) -> i64 {
            assert_eq!((request.number(), request.args()[0]), (12, 10));
            0
        }

        fn cpuid(&self, _leaf: u32, _subleaf: u32) -> CpuidAnswer {
            [0; 4]
        }
    }

    #[test]
    fn a_map_is_as_long_as_the_hypervisor_leaves_the_number_it_was_given() {
        let mut ranges = [E820Entry::default(); 3];
        assert_eq!(machine_memory_map(&Yes, &mut ranges).unwrap().len(), 3);
        assert_eq!(machine_memory_map(&Machine, &mut ranges).unwrap_err().name(), "ENOSYS");
    }
}
