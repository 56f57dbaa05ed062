//! The memory maps of `memory_op`: the machine's, and a domain's own.

use hypercall_abi::errno::Errno;
use hypercall_abi::memory::{E820Entry, MemoryMap};

use crate::dispatch::{Answer, DONE};
use crate::guest_memory;
use crate::platform::Platform;
use crate::system::Context;

/// Lines of a machine's memory map.
pub const MAP_LINES: usize = 128;

/// `memory_op(machine_memory_map, argument)`: the firmware's memory map, as many lines of it as the
/// caller has room for; `nr_entries` becomes their number.
///
/// # Errors
///
/// - `EPERM`: the caller is not the privileged domain.
/// - `EFAULT`: the argument can't be read, or it or the buffer can't be written.
/// - `EINVAL`: there is no room for a single line.
pub fn machine_memory_map<P: Platform>(cx: &Context<'_, P>, argument: u64) -> Answer {
    let platform = &cx.system.platform;
    if !cx.domain.is_privileged() {
        return Err(Errno::EPERM);
    }
    let mut map: MemoryMap = guest_memory::read(platform, argument)?;
    if map.nr_entries == 0 {
        return Err(Errno::EINVAL);
    }
    let room = usize::try_from(map.nr_entries).unwrap_or(usize::MAX);
    let mut at = map.buffer;
    let mut written = 0;
    for line in cx.system.memory_map.iter().take(room) {
        guest_memory::write(platform, at, line)?;
        at = at.wrapping_add(size_of::<E820Entry>() as u64);
        written = u32::wrapping_add(written, 1);
    }
    map.nr_entries = written;
    guest_memory::write(platform, argument, &map)?;
    DONE
}
