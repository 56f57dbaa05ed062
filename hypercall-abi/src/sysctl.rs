//! `sysctl`: what the machine has, what all domains are doing, and the hypervisor's own log and
//! counters, for the control domain.

use crate::domctl::Bitmap;
use crate::types::DomId;

pub use crate::ops::sysctl::*;

/// What [`Sysctl::interface_version`] must be.
pub const INTERFACE_VERSION: u32 = 0x15;
/// Parts of a [`CpuTopology`] that are not known.
pub const INVALID_ID: u32 = !0;
/// What [`PciTopoInfo::nodes`] has for a device that the hypervisor was not told of.
pub const UNKNOWN_DEVICE: u32 = !1;
/// [`PerfcOp::cmd`]: set every counter to 0.
pub const PERFC_RESET: u32 = 1;
/// [`PerfcOp::cmd`]: describe and return them.
pub const PERFC_QUERY: u32 = 2;

/// [`CpuPoolOp::op`]: makes a pool.
pub const CPUPOOL_CREATE: u32 = 1;
/// [`CpuPoolOp::op`]: removes one.
pub const CPUPOOL_DESTROY: u32 = 2;
/// [`CpuPoolOp::op`]: tells of the first pool from a number on.
pub const CPUPOOL_INFO: u32 = 3;
/// [`CpuPoolOp::op`]: gives a pool a CPU that is in none.
pub const CPUPOOL_ADDCPU: u32 = 4;
/// [`CpuPoolOp::op`]: takes a CPU from one.
pub const CPUPOOL_RMCPU: u32 = 5;
/// [`CpuPoolOp::op`]: moves a domain to one.
pub const CPUPOOL_MOVEDOMAIN: u32 = 6;
/// [`CpuPoolOp::op`]: tells which CPUs are in none.
pub const CPUPOOL_FREEINFO: u32 = 7;
/// [`CpuPoolOp::cpu`] and [`CpuPoolOp::cpupool_id`]: whichever the hypervisor likes.
pub const CPUPOOL_ANY: u32 = !0;

/// [`SystemSchedulerOp::cmd`]: set the parameters.
pub const SCHEDULER_PUTINFO: u32 = 0;
/// [`SystemSchedulerOp::cmd`]: return them.
pub const SCHEDULER_GETINFO: u32 = 1;

/// [`SystemCpuPolicy::index`] and [`CpuFeatureset::index`]: what the machine has.
pub const POLICY_RAW: u32 = 0;
/// [`SystemCpuPolicy::index`] and [`CpuFeatureset::index`]: what the hypervisor uses of it.
pub const POLICY_HOST: u32 = 1;
/// [`SystemCpuPolicy::index`]: the most that a PV guest can have.
pub const POLICY_PV_MAX: u32 = 2;
/// [`SystemCpuPolicy::index`]: what a PV guest has if nobody says otherwise.
pub const POLICY_PV_DEFAULT: u32 = 4;
/// [`CpuFeatureset::index`]: what a PV guest has if nobody says otherwise.
pub const FEATURESET_PV: u32 = 2;
/// [`CpuFeatureset::index`]: the most that a PV guest can have.
pub const FEATURESET_PV_MAX: u32 = 4;
/// Both kinds of indices end below this one.
pub const POLICIES: u32 = 6;

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
    /// Payload of [`CPUPOOL_OP`].
    CpuPoolOp = "struct xen_sysctl_cpupool_op", size 40, align 8 {
        /// In: one of `CPUPOOL_*`.
        0 op: u32,
        /// In, and out of [`CPUPOOL_CREATE`] and [`CPUPOOL_INFO`]: which pool.
        4 cpupool_id: u32,
        /// One of `domctl`'s `SCHEDULERS`.
        8 sched_id: u32,
        /// In [`CPUPOOL_MOVEDOMAIN`]: which domain.
        12 domid: u32,
        /// In: which CPU.
        16 cpu: u32,
        /// Out: how many domains it has.
        20 n_dom: u32,
        /// Out: which CPUs.
        24 cpumap: Bitmap,
    }

    /// Payload of [`SCHEDULER_OP`], of which the union is 16 bytes.
    SystemSchedulerOp = "struct xen_sysctl_scheduler_op", size 32, align 8 {
        /// In: whose scheduler.
        0 cpupool_id: u32,
        /// In: one of `domctl`'s `SCHEDULERS`; must be the one in use.
        4 sched_id: u32,
        /// In: [`SCHEDULER_PUTINFO`] or [`SCHEDULER_GETINFO`].
        8 cmd: u32,
        /// No meaning.
        12 pad0: u32 = "",
        /// How long a vCPU runs at least; 0: no least. Unit: microseconds.
        16 ratelimit_us: u32 = "u.sched_credit2.ratelimit_us",
        /// Of other schedulers.
        20 pad1: u32 = "",
        /// Of other schedulers.
        24 pad2: u64 = "",
    }

    /// Payload of [`PCITOPOINFO`].
    PciTopoInfo = "struct xen_sysctl_pcitopoinfo", size 24, align 8 {
        /// In: length of the arrays. Out: how many were written.
        0 num_devs: u32,
        /// No meaning.
        4 pad: u32 = "",
        /// Guest address of an array of `physdev`'s `PciDevice`.
        8 devs: u64,
        /// Guest address of an array of `u32`: a node, [`INVALID_ID`] if it is near none, or
        /// [`UNKNOWN_DEVICE`].
        16 nodes: u64,
    }

    /// Payload of [`GET_CPU_LEVELLING_CAPS`].
    CpuLevellingCaps = "struct xen_sysctl_cpu_levelling_caps", size 4, align 4 {
        /// Out: which registers of CPUID can be masked for what runs without being emulated.
        0 caps: u32,
    }

    /// Payload of [`GET_CPU_FEATURESET`].
    CpuFeatureset = "struct xen_sysctl_cpu_featureset", size 16, align 8 {
        /// In: of what.
        0 index: u32,
        /// In: length of the array. Out: how many words were written, or could be.
        4 nr_features: u32,
        /// Guest address of an array of `u32`; 0 asks for the number.
        8 features: u64,
    }

    /// Payload of [`GET_CPU_POLICY`].
    SystemCpuPolicy = "struct xen_sysctl_cpu_policy", size 32, align 8 {
        /// In: of what.
        0 index: u32,
        /// In: length of `leaves`. Out: how many were written, or can be.
        4 nr_leaves: u32,
        /// In: length of `msrs`. Out: how many were written, or can be.
        8 nr_msrs: u32,
        /// Must be 0.
        12 rsvd: u32 = "_rsvd",
        /// Guest address of an array of `domctl`'s `CpuidLeaf`; 0 asks for the number.
        16 leaves: u64,
        /// Guest address of an array of `domctl`'s `MsrEntry`; 0 asks for the number.
        24 msrs: u64,
    }
}
