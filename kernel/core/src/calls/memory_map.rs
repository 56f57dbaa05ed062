//! The memory maps of `memory_op`: the machine's, and a domain's own.

use hypercall_abi::errno::Errno;
use hypercall_abi::memory::{E820Entry, MemoryMap};

use crate::dispatch::{Answer, DONE};
use crate::guest_memory;
use crate::platform::Platform;
use crate::system::Context;

/// Lines of a machine's memory map.
pub const MAP_LINES: usize = 128;

/// `memory_op(machine_memory_map, argument)`: the firmware's memory map; `nr_entries` becomes the
/// number of its lines.
///
/// # Errors
///
/// - `EPERM`: the caller is not the privileged domain.
/// - `EFAULT`: the argument can't be read, or it or the buffer can't be written.
/// - `EINVAL`: there is not room for all lines.
pub fn machine_memory_map<P: Platform>(cx: &Context<'_, P>, argument: u64) -> Answer {
    let platform = &cx.system.platform;
    if !cx.domain.is_privileged() {
        return Err(Errno::EPERM);
    }
    let mut map: MemoryMap = guest_memory::read(platform, argument)?;
    let lines = &cx.system.memory_map;
    let count = u32::try_from(lines.len()).unwrap_or(u32::MAX);
    if map.nr_entries < count {
        return Err(Errno::EINVAL);
    }
    let mut at = map.buffer;
    for line in lines {
        guest_memory::write(platform, at, line)?;
        at = at.wrapping_add(size_of::<E820Entry>() as u64);
    }
    map.nr_entries = count;
    guest_memory::write(platform, argument, &map)?;
    DONE
}
