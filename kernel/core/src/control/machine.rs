//! What the machine has, and what all domains are doing.

use core::sync::atomic::Ordering;

use hypercall_abi::errno::Errno;
use hypercall_abi::sysctl::{
    AvailHeap, Capabilities, CpuIdle, CpuTopoInfo, CpuTopology, GetCpuInfo, GetDomainInfoList,
    INVALID_ID, MemInfo, NumaInfo, PhysInfo, ReadConsole,
};
use hypercall_abi::types::{DomId, PAGE_SHIFT};

use super::{Payload, get, put};
use crate::cpu::CpuId;
use crate::guest_memory::{self, GuestRange};
use crate::platform::Platform;
use crate::system::{Context, System};

/// The highest number that a node can have on Xen.
const MAX_NODE: u32 = 63;
/// The distance of a node to itself.
const NEAR: u32 = 10;
/// Bytes of the log that are copied at a time.
const PIECE: usize = 128;

impl<P: Platform> Context<'_, P> {
    /// `physinfo`.
    pub(crate) fn phys_info(&self, payload: &mut Payload) {
        let system = self.system;
        let platform = &system.platform;
        let frames = platform.frames();
        let cpus = system.cpu_set();
        let [_, threads_and_cores, ecx1, edx1] = platform.cpuid(1, 0);
        let [_, _, ecx81, edx81] = platform.cpuid(0x8000_0001, 0);
        let [_, ebx7, ecx7, _] = platform.cpuid(7, 0);
        let [_, _, _, edx87] = platform.cpuid(0x8000_0007, 0);
        let [eax_d, ..] = platform.cpuid(0xd, 1);
        let [threads, cores] = topology(platform, threads_and_cores);
        let info = PhysInfo {
            threads_per_core: threads.min(cpus.bits().count_ones()),
            cores_per_socket: cores.min(cpus.bits().count_ones()).max(1),
            nr_cpus: cpus.bits().count_ones(),
            max_cpu_id: system.cpu_count().saturating_sub(1),
            nr_nodes: 1,
            max_node_id: MAX_NODE,
            cpu_khz: u32::try_from(system.clock.tsc_khz()).unwrap_or(u32::MAX),
            capabilities: (Capabilities::PV | Capabilities::GNTTAB_V1).bits(),
            total_pages: system.total_pages(),
            free_pages: frames.free_count(),
            outstanding_pages: frames.claimed_count(),
            max_mfn: frames.len().saturating_sub(1),
            hw_cap: [edx1, ecx1, edx81, ecx81, eax_d, ebx7, ecx7, edx87],
            ..PhysInfo::default()
        };
        put(payload, &info);
    }

    /// `getdomaininfolist`.
    ///
    /// # Errors
    ///
    /// `EFAULT`: the array can't be written.
    pub(crate) fn domain_list(&self, payload: &mut Payload) -> Result<(), Errno> {
        let mut asked: GetDomainInfoList = get(payload);
        let platform = &self.system.platform;
        let mut first = asked.first_domain;
        asked.num_domains = 0;
        while asked.num_domains < asked.max_domains
            && let Some(domain) = self.system.domains.from(platform, first)
        {
            let info = self.system.domain_info(&domain);
            write_at(platform, asked.buffer, asked.num_domains, &info)?;
            asked.num_domains = asked.num_domains.saturating_add(1);
            let Some(next) = domain.id.0.checked_add(1) else { break };
            first = DomId(next);
        }
        put(payload, &asked);
        Ok(())
    }

    /// `readconsole`: the hypervisor's log.
    ///
    /// # Errors
    ///
    /// `EFAULT`: the buffer can't be written; what came before has been.
    pub(crate) fn read_log(&self, payload: &mut Payload) -> Result<(), Errno> {
        let mut asked: ReadConsole = get(payload);
        let platform = &self.system.platform;
        let mut from = if asked.incremental == 0 { None } else { Some(asked.index) };
        let mut done: u32 = 0;
        loop {
            let mut piece = [0; PIECE];
            let room =
                usize::try_from(asked.count.saturating_sub(done)).unwrap_or(PIECE).min(PIECE);
            let into = piece.get_mut(..room).unwrap_or_default();
            let (got, next) = platform.log_read(from, into);
            from = Some(next);
            let bytes = into.get(..got).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            let at = asked.buffer.wrapping_add(u64::from(done));
            platform.write_guest(GuestRange::new(at, got)?, bytes)?;
            done = done.saturating_add(u32::try_from(got).unwrap_or(0));
        }
        if asked.clear != 0 {
            platform.log_clear();
        }
        (asked.count, asked.index) = (done, from.unwrap_or(0));
        put(payload, &asked);
        Ok(())
    }

    /// `getcpuinfo`.
    ///
    /// # Errors
    ///
    /// `EFAULT`: the array can't be written.
    pub(crate) fn cpu_info(&self, payload: &mut Payload) -> Result<(), Errno> {
        let asked: GetCpuInfo = get(payload);
        let nr_cpus = asked.max_cpus.min(self.system.cpu_count());
        for number in 0..nr_cpus {
            let cpu = u8::try_from(number).ok().and_then(CpuId::new);
            let state = cpu.and_then(|cpu| self.system.cpus.get(cpu));
            let idletime = state.map_or(0, |state| state.idle_time.load(Ordering::Relaxed));
            write_at(&self.system.platform, asked.info, number, &CpuIdle { idletime })?;
        }
        put(payload, &GetCpuInfo { nr_cpus, ..asked });
        Ok(())
    }

    /// `availheap`.
    pub(crate) fn avail_heap(&self, payload: &mut Payload) {
        let asked: AvailHeap = get(payload);
        // What is negative as a signed number is as none.
        let bits = |bits: u32| bits.saturating_sub(PAGE_SHIFT).cast_signed().max(0).cast_unsigned();
        // A bound of n bits is a frame number: the first that has one bit more.
        let from = match bits(asked.min_bitwidth) {
            0 => 0,
            width => width.saturating_add(1),
        };
        let to = if asked.max_bitwidth == 0 { u32::MAX } else { bits(asked.max_bitwidth) };
        let frames = self.system.platform.frames();
        let count = if matches!(asked.node, -1 | 0) { frames.free_of_widths(from, to) } else { 0 };
        put(payload, &AvailHeap { avail_bytes: count.wrapping_shl(PAGE_SHIFT), ..asked });
    }

    /// `cputopoinfo`: of as many CPUs as there is room for; without an array, how many there are.
    ///
    /// # Errors
    ///
    /// `EFAULT`: the array can't be written.
    pub(crate) fn cpu_topology(&self, payload: &mut Payload) -> Result<(), Errno> {
        let asked: CpuTopoInfo = get(payload);
        let platform = &self.system.platform;
        let room = if asked.cputopo == 0 { u32::MAX } else { asked.num_cpus };
        let num_cpus = self.system.cpu_count().min(room);
        put(payload, &CpuTopoInfo { num_cpus, ..asked });
        if asked.cputopo == 0 {
            return Ok(());
        }
        let [_, ebx, ..] = platform.cpuid(1, 0);
        let [threads, cores] = topology(platform, ebx);
        let socket = threads.saturating_mul(cores).max(1);
        for number in 0..num_cpus {
            let cpu = u8::try_from(number).ok().and_then(CpuId::new);
            let here = cpu.is_some_and(|cpu| self.system.cpus.get(cpu).is_some());
            let place = |divisor: u32| number.checked_div(divisor).filter(|_| here);
            let core = place(threads).and_then(|core| core.checked_rem(cores.max(1)));
            let topology = CpuTopology {
                core: core.unwrap_or(INVALID_ID),
                socket: place(socket).unwrap_or(INVALID_ID),
                node: if here { 0 } else { INVALID_ID },
            };
            write_at(platform, asked.cputopo, number, &topology)?;
        }
        Ok(())
    }

    /// `numainfo`: one node.
    ///
    /// # Errors
    ///
    /// As [`Self::cpu_topology`].
    pub(crate) fn numa_info(&self, payload: &mut Payload) -> Result<(), Errno> {
        let asked: NumaInfo = get(payload);
        let platform = &self.system.platform;
        let room = if (asked.meminfo, asked.distance) == (0, 0) { 1 } else { asked.num_nodes };
        put(payload, &NumaInfo { num_nodes: room.min(1), ..asked });
        if room == 0 {
            return Ok(());
        }
        if asked.meminfo != 0 {
            let frames = platform.frames();
            let info = MemInfo {
                memsize: frames.len().wrapping_shl(PAGE_SHIFT),
                memfree: frames.free_count().wrapping_shl(PAGE_SHIFT),
            };
            write_at(platform, asked.meminfo, 0, &info)?;
        }
        if asked.distance != 0 {
            write_at(platform, asked.distance, 0, &NEAR)?;
        }
        Ok(())
    }
}

impl<P: Platform> System<P> {
    /// One more than the highest number of a CPU.
    pub(crate) fn cpu_count(&self) -> u32 {
        u64::BITS.saturating_sub(self.cpu_set().bits().leading_zeros())
    }

    /// Frames that are memory.
    fn total_pages(&self) -> u64 {
        self.platform.frames().memory_count()
    }
}

/// Threads of a core and cores of a socket, from leaf 1's EBX where nothing says more.
fn topology(platform: &impl Platform, ebx: u32) -> [u32; 2] {
    let [_, _, _, logical] = ebx.to_le_bytes().map(u32::from);
    let [max, ..] = platform.cpuid(0, 0);
    let [eax, ..] = if max >= 4 { platform.cpuid(4, 0) } else { [0; 4] };
    let cores = (eax >> 26).saturating_add(1);
    let threads = logical.max(1).checked_div(cores).unwrap_or(1).max(1);
    [threads, cores]
}

/// Writes an element of an array in the caller's memory.
pub(super) fn write_at<T: zerocopy::IntoBytes + zerocopy::Immutable>(
    platform: &impl Platform,
    array: u64,
    number: u32,
    value: &T,
) -> Result<(), Errno> {
    let offset = u64::from(number).wrapping_mul(size_of::<T>() as u64);
    Ok(guest_memory::write(platform, array.wrapping_add(offset), value)?)
}

/// Reads an element of an array in the caller's memory.
pub(super) fn read_at<T: zerocopy::FromBytes + zerocopy::IntoBytes>(
    platform: &impl Platform,
    array: u64,
    number: u32,
) -> Result<T, Errno> {
    let offset = u64::from(number).wrapping_mul(size_of::<T>() as u64);
    Ok(guest_memory::read(platform, array.wrapping_add(offset))?)
}
