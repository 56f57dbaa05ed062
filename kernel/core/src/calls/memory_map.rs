//! What `memory_op` tells of the machine: its memory map, the frames of the machine-to-physical table.

use core::sync::atomic::Ordering;

use hypercall_abi::errno::Errno;
use hypercall_abi::layout::MACH2PHYS_VIRT_START;
use hypercall_abi::memory::{self, E820Entry, ForeignMemoryMap, MachphysMfnList};
use hypercall_abi::mmu::EntryFlags;
use hypercall_abi::types::{DomId, Mfn};

use crate::dispatch::{Answer, DONE};
use crate::guest_memory;
use crate::mm::{Entry, Level};
use crate::platform::Platform;
use crate::system::Context;

/// Lines of a memory map.
pub const MAP_LINES: usize = 128;

/// A memory map.
pub type MemoryMap = heapless::Vec<E820Entry, MAP_LINES>;

/// Lines of a domain's memory map that need no memory of their own: what the tools give.
const FEW: usize = 4;

/// The memory map that a domain was told.
pub enum ToldMap<P: Platform> {
    /// Perhaps of no lines: it was told none.
    Few(heapless::Vec<E820Entry, FEW>),
    /// Of more than a few.
    Many(P::Arc<MemoryMap>),
}

impl<P: Platform> ToldMap<P> {
    /// None.
    pub(crate) const NONE: Self = Self::Few(heapless::Vec::new());

    pub(crate) fn lines(&self) -> &[E820Entry] {
        match self {
            Self::Few(lines) => lines,
            Self::Many(lines) => lines,
        }
    }
}

impl<P: Platform> Clone for ToldMap<P> {
    fn clone(&self) -> Self {
        match self {
            Self::Few(lines) => Self::Few(lines.clone()),
            Self::Many(lines) => Self::Many(lines.clone()),
        }
    }
}

/// `memory_op(machine_memory_map, argument)`: the firmware's memory map, with what the kernel keeps; `nr_entries`
/// becomes the number of its lines. Without a buffer they are counted alone.
///
/// # Errors
///
/// - `EPERM`: the caller is not the privileged domain.
/// - `EFAULT`: the argument can't be read, or it or the buffer can't be written.
/// - `EINVAL`: there is not room for all lines and one more.
pub fn machine_memory_map<P: Platform>(cx: &Context<'_, P>, argument: u64) -> Answer {
    let platform = &cx.system.platform;
    if !cx.domain.is_privileged() {
        return Err(Errno::EPERM);
    }
    let mut map: memory::MemoryMap = guest_memory::read(platform, argument)?;
    let lines = &cx.system.memory_map;
    let count = u32::try_from(lines.len()).unwrap_or(u32::MAX);
    let counted = map.buffer == 0;
    if map.nr_entries <= count && !counted {
        return Err(Errno::EINVAL);
    }
    map.nr_entries = count;
    tell(platform, argument, map, if counted { &[] } else { lines })
}

/// Writes as many lines as `map` says, and the map itself.
fn tell<P: Platform>(
    platform: &P,
    argument: u64,
    map: memory::MemoryMap,
    lines: &[E820Entry],
) -> Answer {
    for (line, at) in lines.iter().zip(entries(map)) {
        guest_memory::write(platform, at, line)?;
    }
    guest_memory::write(platform, argument, &map)?;
    DONE
}

/// Guest addresses of the lines of a map.
fn entries(map: memory::MemoryMap) -> impl Iterator<Item = u64> {
    let size = size_of::<E820Entry>() as u64;
    let at = move |line: u32| map.buffer.wrapping_add(u64::from(line).wrapping_mul(size));
    (0..map.nr_entries).map(at)
}

/// `memory_op(memory_map, argument)`: the map that the tools gave the caller; `nr_entries` becomes
/// the number of lines, of those there is room for.
///
/// # Errors
///
/// - `ENOSYS`: they gave it none.
/// - `EFAULT`: the argument can't be read, or it or the buffer can't be written.
pub fn memory_map<P: Platform>(cx: &Context<'_, P>, argument: u64) -> Answer {
    let platform = &cx.system.platform;
    let mut map: memory::MemoryMap = guest_memory::read(platform, argument)?;
    let told = cx.domain.memory_map.lock(platform).clone();
    let lines = told.lines();
    if lines.is_empty() {
        return Err(Errno::ENOSYS);
    }
    map.nr_entries = map.nr_entries.min(u32::try_from(lines.len()).unwrap_or(0));
    tell(platform, argument, map, lines)
}

/// `memory_op(set_memory_map, argument)`: gives a domain its map; one of no lines takes it away.
///
/// # Errors
///
/// - `EFAULT`: the argument or a line can't be read.
/// - `EINVAL`: more lines than [`MAP_LINES`].
/// - `ESRCH`: there is no such domain, or it is being ended.
/// - `EPERM`: it is another than the caller, which is not privileged.
/// - `ENOMEM`.
pub fn set_memory_map<P: Platform>(cx: &Context<'_, P>, argument: u64) -> Answer {
    let platform = &cx.system.platform;
    let asked: ForeignMemoryMap = guest_memory::read(platform, argument)?;
    if usize::try_from(asked.map.nr_entries).is_ok_and(|lines| lines > MAP_LINES) {
        return Err(Errno::EINVAL);
    }
    let other = match asked.domid {
        id if id == DomId::SELF || id == cx.domain.id => None,
        id => Some(cx.visit(id)?),
    };
    let domain = other.as_ref().map_or(cx.domain, |other| &**other);
    let mut map = MemoryMap::new();
    for at in entries(asked.map) {
        // There is room: checked above.
        let _ = map.push(guest_memory::read(platform, at)?);
    }
    let map = match heapless::Vec::from_slice(&map) {
        Ok(few) => ToldMap::Few(few),
        Err(_) => ToldMap::Many(platform.arc_with(|| map).map_err(|_| Errno::ENOMEM)?),
    };
    let old = core::mem::replace(&mut *domain.memory_map.lock(platform), map);
    drop(old);
    DONE
}

/// The machine-to-physical table is told of in parts of this size. Unit: bytes.
const PART: u64 = 2 << 20;
/// What an entry of level 3 maps if it maps memory. Unit: bytes.
const HUGE: u64 = 1 << 30;

/// `memory_op(machphys_mfn_list, argument)`: the frames of the machine-to-physical table, the first
/// of each 2 MiB.
///
/// # Errors
///
/// `EFAULT`: the argument can't be read, or it or the list can't be written.
pub fn machphys_frames<P: Platform>(cx: &Context<'_, P>, argument: u64) -> Answer {
    let platform = &cx.system.platform;
    let mut list: MachphysMfnList = guest_memory::read(platform, argument)?;
    let parts = platform.frames().len().saturating_mul(8).div_ceil(PART);
    let wanted = parts.min(u64::from(list.max_extents));
    let (mut at, mut count) = (list.extent_start, 0_u32);
    for part in 0..wanted {
        let address = MACH2PHYS_VIRT_START.wrapping_add(part.wrapping_mul(PART));
        let frame = cx.vcpu.roots.kernel().and_then(|l4| part_at(platform, l4, address));
        let Some(Mfn(frame)) = frame else { break };
        guest_memory::write(platform, at, &frame)?;
        (at, count) = (at.wrapping_add(8), count.wrapping_add(1));
    }
    list.nr_extents = count;
    guest_memory::write(platform, argument, &list)?;
    DONE
}

/// The first frame of 2 MiB that the kernel maps at an address, by the tables under `l4`.
fn part_at(platform: &impl Platform, l4: Mfn, address: u64) -> Option<Mfn> {
    let mut table = l4;
    for level in [Level::L4, Level::L3, Level::L2] {
        let slot = platform.table(table).get(usize::from(level.index(address)))?;
        let entry = Entry(slot.load(Ordering::Acquire));
        if !entry.is_present() {
            return None;
        }
        if entry.0 & EntryFlags::PSE.bits() != 0 {
            let within = if level == Level::L3 { address % HUGE } else { 0 };
            return Some(Mfn(entry.mfn().0.wrapping_add(within >> 12)));
        }
        table = entry.mfn();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Machine;

    #[test]
    fn parts_are_found_in_pages_of_both_sizes() {
        let machine = Machine::new(8, 1);
        let [l4, l3, l2] = [(); 3].map(|()| machine.frames().alloc_kernel(&machine, 1).unwrap());
        let set = |table: Mfn, index: usize, value: u64| {
            machine.table(table)[index].store(value, Ordering::Relaxed);
        };
        set(l4, 256, l3.address() | 7);
        set(l3, 0, l2.address() | 7);
        set(l3, 1, 0x1_4000_0000 | 0x85);
        set(l2, 3, 0x60_0000 | 0x85);
        let at = |offset| part_at(&machine, l4, MACH2PHYS_VIRT_START + offset);
        assert_eq!(at(3 * PART), Some(Mfn(0x600)));
        assert_eq!(at(4 * PART), None);
        assert_eq!(at(HUGE + 5 * PART), Some(Mfn(0x14_0a00)));
        assert_eq!(at(2 * HUGE), None);
    }
}
