//! `sysctl`: what the machine has, what all domains are doing, and the hypervisor's own log and
//! counters, for the control domain.

use crate::types::DomId;

pub use crate::ops::sysctl::*;

/// What [`Sysctl::interface_version`] must be.
pub const INTERFACE_VERSION: u32 = 0x15;
/// Parts of a [`CpuTopology`] that are not known.
pub const INVALID_ID: u32 = !0;
/// [`PerfcOp::cmd`]: set every counter to 0.
pub const PERFC_RESET: u32 = 1;
/// [`PerfcOp::cmd`]: describe and return them.
pub const PERFC_QUERY: u32 = 2;

bitflags::bitflags! {
    /// What the machine and the hypervisor can do ([`PhysInfo::capabilities`]).
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct Capabilities: u32 {
        /// Guests virtualised by the hardware.
        const HVM = 1 << 0;
        /// PV guests.
        const PV = 1 << 1;
        /// Devices of guests.
        const DIRECTIO = 1 << 2;
        /// Paging virtualised by the hardware.
        const HAP = 1 << 3;
        /// Shadow tables.
        const SHADOW = 1 << 4;
        /// Tables shared with the I/O translation.
        const IOMMU_HAP_PT_SHARE = 1 << 5;
        /// Traces of vCPUs.
        const VMTRACE = 1 << 6;
        /// Virtual performance counters.
        const VPMU = 1 << 7;
        /// Grant tables of version 1.
        const GNTTAB_V1 = 1 << 8;
        /// Grant tables of version 2.
        const GNTTAB_V2 = 1 << 9;
    }
}

abi_structs! {
    /// The envelope of every operation.
    Sysctl = "struct xen_sysctl", size 136, align 8 {
        /// The sub-op.
        0 cmd: u32,
        /// [`INTERFACE_VERSION`].
        4 interface_version: u32,
        /// The sub-op's structure; 128 bytes.
        8 payload: [u64; 16] = "u",
    }

    /// Payload of [`READCONSOLE`].
    ReadConsole = "struct xen_sysctl_readconsole", size 24, align 8 {
        /// In: 1: forget what was read.
        0 clear: u8,
        /// In: 1: begin at `index`.
        1 incremental: u8,
        /// No meaning.
        2 pad: [u8; 2] = "",
        /// In: where to begin. Out: where it ended.
        4 index: u32,
        /// Guest address of a buffer.
        8 buffer: u64,
        /// In: its length. Out: bytes written. Unit: bytes.
        16 count: u32,
        /// No meaning.
        20 pad1: u32 = "",
    }

    /// Payload of [`PHYSINFO`]: all of it is out.
    PhysInfo = "struct xen_sysctl_physinfo", size 112, align 8 {
        /// Threads of a core.
        0 threads_per_core: u32,
        /// Cores of a socket.
        4 cores_per_socket: u32,
        /// Real CPUs that are up.
        8 nr_cpus: u32,
        /// The highest number a real CPU can have.
        12 max_cpu_id: u32,
        /// Nodes that are up.
        16 nr_nodes: u32,
        /// The highest number a node can have.
        20 max_node_id: u32,
        /// Unit: kHz.
        24 cpu_khz: u32,
        /// See [`Capabilities`].
        28 capabilities: u32,
        /// Of other architectures.
        32 arch_capabilities: u32,
        /// No meaning.
        36 pad: u32,
        /// Pages of the machine.
        40 total_pages: u64,
        /// Pages that are free.
        48 free_pages: u64,
        /// Pages that will be free once cleaned.
        56 scrub_pages: u64,
        /// Pages that are reserved.
        64 outstanding_pages: u64,
        /// The highest frame.
        72 max_mfn: u64,
        /// CPU features, as registers of CPUID.
        80 hw_cap: [u32; 8],
    }

    /// Payload of [`SCHED_ID`].
    SchedId = "struct xen_sysctl_sched_id", size 4, align 4 {
        /// Out: one of `domctl`'s `SCHEDULERS`.
        0 sched_id: u32,
    }

    /// Describes one counter of [`PERFC_OP`].
    PerfcDesc = "struct xen_sysctl_perfc_desc", size 84, align 4 {
        /// Its name, ended by a NUL.
        0 name: [u8; 80],
        /// How many values it has.
        80 nr_vals: u32,
    }

    /// Payload of [`PERFC_OP`].
    PerfcOp = "struct xen_sysctl_perfc_op", size 32, align 8 {
        /// In: [`PERFC_RESET`] or [`PERFC_QUERY`].
        0 cmd: u32,
        /// Out: how many counters.
        4 nr_counters: u32,
        /// Out: how many values.
        8 nr_vals: u32,
        /// No meaning.
        12 pad: u32 = "",
        /// Guest address of an array of [`PerfcDesc`], or 0.
        16 desc: u64,
        /// Guest address of an array of `u32`, or 0.
        24 val: u64,
    }

    /// Payload of [`GETDOMAININFOLIST`].
    GetDomainInfoList = "struct xen_sysctl_getdomaininfolist", size 24, align 8 {
        /// In: the lowest of interest.
        0 first_domain: DomId,
        /// No meaning.
        2 pad0: u16 = "",
        /// In: length of the array.
        4 max_domains: u32,
        /// Guest address of an array of `domctl`'s `DomainInfo`.
        8 buffer: u64,
        /// Out: how many were written.
        16 num_domains: u32,
        /// No meaning.
        20 pad1: u32 = "",
    }

    /// Payload of [`DEBUG_KEYS`].
    DebugKeys = "struct xen_sysctl_debug_keys", size 16, align 8 {
        /// Guest address of the characters.
        0 keys: u64,
        /// How many.
        8 nr_keys: u32,
        /// No meaning.
        12 pad: u32 = "",
    }

    /// Element of what [`GETCPUINFO`] writes.
    CpuIdle = "struct xen_sysctl_cpuinfo", size 8, align 8 {
        /// How long the real CPU was idle. Unit: nanoseconds.
        0 idletime: u64,
    }

    /// Payload of [`GETCPUINFO`].
    GetCpuInfo = "struct xen_sysctl_getcpuinfo", size 24, align 8 {
        /// In: length of the array.
        0 max_cpus: u32,
        /// No meaning.
        4 pad0: u32 = "",
        /// Guest address of an array of [`CpuIdle`].
        8 info: u64,
        /// Out: how many were written.
        16 nr_cpus: u32,
        /// No meaning.
        20 pad1: u32 = "",
    }

    /// Payload of [`AVAILHEAP`].
    AvailHeap = "struct xen_sysctl_availheap", size 24, align 8 {
        /// In: the least width of an address; 0: any. Unit: bits.
        0 min_bitwidth: u32,
        /// In: the greatest; 0: any. Unit: bits.
        4 max_bitwidth: u32,
        /// In: from which node; -1: all.
        8 node: i32,
        /// No meaning.
        12 pad: u32 = "",
        /// Out: what is free. Unit: bytes.
        16 avail_bytes: u64,
    }

    /// Element of what [`CPUTOPOINFO`] writes: where a real CPU is, or [`INVALID_ID`].
    CpuTopology = "struct xen_sysctl_cputopo", size 12, align 4 {
        /// Its core.
        0 core: u32,
        /// Its socket.
        4 socket: u32,
        /// Its node.
        8 node: u32,
    }

    /// Payload of [`CPUTOPOINFO`].
    CpuTopoInfo = "struct xen_sysctl_cputopoinfo", size 16, align 8 {
        /// In: length of the array. Out: how many were written, or would be with room for all.
        0 num_cpus: u32,
        /// No meaning.
        4 pad: u32 = "",
        /// Guest address of an array of [`CpuTopology`]; 0 asks how many there are.
        8 cputopo: u64,
    }

    /// Element of what [`NUMAINFO`] writes: a node's memory.
    MemInfo = "struct xen_sysctl_meminfo", size 16, align 8 {
        /// What it spans. Unit: bytes.
        0 memsize: u64,
        /// What is free of it. Unit: bytes.
        8 memfree: u64,
    }

    /// Payload of [`NUMAINFO`].
    NumaInfo = "struct xen_sysctl_numainfo", size 24, align 8 {
        /// In: length of the arrays. Out: how many nodes.
        0 num_nodes: u32,
        /// No meaning.
        4 pad: u32 = "",
        /// Guest address of an array of [`MemInfo`], or 0.
        8 meminfo: u64,
        /// Guest address of an array of `u32`, by two nodes; or 0.
        16 distance: u64,
    }
}
