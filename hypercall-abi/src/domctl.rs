//! `domctl`: making, steering and ending domains, for the control domain.
//!
//! One envelope, [`Domctl`], carries every operation; the structures after it are what its payload
//! holds. Operations that have no structure here take nothing but the domain.

use crate::types::{DomId, VcpuId};

pub use crate::ops::domctl::*;

/// What [`Domctl::interface_version`] must be.
pub const INTERFACE_VERSION: u32 = 0x15;
/// [`CreateDomain::grant_opts`]: the bits that are the highest version of the grant table.
pub const GRANT_VERSION_MASK: u32 = 0xf;
/// [`DomainInfo::max_vcpu_id`]: there is no vCPU.
pub const INVALID_MAX_VCPU_ID: u32 = !0;
/// Where the reason of a shutdown is in [`DomainInfo::flags`].
pub const SHUTDOWN_SHIFT: u32 = 16;
/// The reason's bits, when shifted down.
pub const SHUTDOWN_MASK: u32 = 255;
/// [`TscInfo::tsc_mode`]: the counter itself, unless its rate is not what the domain counts on.
pub const TSC_DEFAULT: u32 = 0;
/// [`TscInfo::tsc_mode`]: a counter of the hypervisor's making.
pub const TSC_ALWAYS_EMULATE: u32 = 1;
/// [`TscInfo::tsc_mode`]: the counter itself.
pub const TSC_NEVER_EMULATE: u32 = 2;

bitflags::bitflags! {
    /// What a new domain shall be ([`CreateDomain::flags`]).
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct CreateFlags: u32 {
        /// Virtualised by the hardware.
        const HVM = 1 << 0;
        /// Its paging too.
        const HAP = 1 << 1;
        /// Its memory is verified at a sleep.
        const S3_INTEGRITY = 1 << 2;
        /// Shadow tables are never out of step.
        const OOS_OFF = 1 << 3;
        /// It runs the store.
        const XS_DOMAIN = 1 << 4;
        /// Devices may be assigned to it.
        const IOMMU = 1 << 5;
        /// It may run hypervisors.
        const NESTED_VIRT = 1 << 6;
        /// It sees performance counters.
        const VPMU = 1 << 7;
    }
}

bitflags::bitflags! {
    /// What a domain is doing ([`DomainInfo::flags`], but for the reason of its shutdown).
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct DomainFlags: u32 {
        /// It is being destroyed.
        const DYING = 1 << 0;
        /// It is virtualised by the hardware.
        const HVM_GUEST = 1 << 1;
        /// It has ended; the bits from [`SHUTDOWN_SHIFT`] on say why.
        const SHUTDOWN = 1 << 2;
        /// It is stopped by its controller.
        const PAUSED = 1 << 3;
        /// All vCPUs that are up wait for events.
        const BLOCKED = 1 << 4;
        /// Some vCPU runs on a real CPU.
        const RUNNING = 1 << 5;
        /// It has a debugger.
        const DEBUGGED = 1 << 6;
        /// It runs the store.
        const XS_DOMAIN = 1 << 7;
        /// Its paging is virtualised by the hardware.
        const HAP = 1 << 8;
    }
}

bitflags::bitflags! {
    /// Which sets of CPUs ([`VcpuAffinity::flags`]).
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct AffinityFlags: u32 {
        /// Where a vCPU may run.
        const HARD = 1 << 0;
        /// Where it would best run.
        const SOFT = 1 << 1;
        /// End a vCPU's own choice (`pin_override`).
        const FORCE = 1 << 2;
    }
}

numbers! {
    /// What a frame is used as: the upper four bits of an answer of [`GETPAGEFRAMEINFO3`].
    FRAME_KINDS: u32 {
        FRAME_NO_TABLE = 0, "XEN_DOMCTL_PFINFO_NOTAB", "No page table.";
        FRAME_L1 = 0x1000_0000, "XEN_DOMCTL_PFINFO_L1TAB", "A table of level 1.";
        FRAME_L2 = 0x2000_0000, "XEN_DOMCTL_PFINFO_L2TAB", "A table of level 2.";
        FRAME_L3 = 0x3000_0000, "XEN_DOMCTL_PFINFO_L3TAB", "A table of level 3.";
        FRAME_L4 = 0x4000_0000, "XEN_DOMCTL_PFINFO_L4TAB", "A table of level 4.";
        FRAME_PINNED = 0x8000_0000, "XEN_DOMCTL_PFINFO_LPINTAB", "With a table's level: pinned.";
        FRAME_BROKEN = 0xd000_0000, "XEN_DOMCTL_PFINFO_BROKEN", "Memory that failed.";
        FRAME_ALLOCATED = 0xe000_0000, "XEN_DOMCTL_PFINFO_XALLOC", "Only allocated.";
        FRAME_INVALID = 0xf000_0000, "XEN_DOMCTL_PFINFO_XTAB", "No frame of the domain's.";
    }
}

numbers! {
    /// Kinds of scheduler ([`SchedulerOp::sched_id`]).
    SCHEDULERS: u32 {
        SCHEDULER_CREDIT = 5, "XEN_SCHEDULER_CREDIT", "By credit.";
        SCHEDULER_CREDIT2 = 6, "XEN_SCHEDULER_CREDIT2", "By credit, second version.";
        SCHEDULER_ARINC653 = 7, "XEN_SCHEDULER_ARINC653", "By a fixed plan.";
        SCHEDULER_RTDS = 8, "XEN_SCHEDULER_RTDS", "By deadlines.";
        SCHEDULER_NULL = 9, "XEN_SCHEDULER_NULL", "One vCPU to a real CPU.";
    }
}

numbers! {
    /// What to do with parameters ([`SchedulerOp::cmd`]).
    SCHEDULER_COMMANDS: u32 {
        SCHEDULER_PUT = 0, "XEN_DOMCTL_SCHEDOP_putinfo", "Set the domain's.";
        SCHEDULER_GET = 1, "XEN_DOMCTL_SCHEDOP_getinfo", "Return the domain's.";
        SCHEDULER_PUT_VCPU = 2, "XEN_DOMCTL_SCHEDOP_putvcpuinfo", "Set those of vCPUs.";
        SCHEDULER_GET_VCPU = 3, "XEN_DOMCTL_SCHEDOP_getvcpuinfo", "Return those of vCPUs.";
    }
}

/// [`SendTrigger::trigger`]: a non-maskable interrupt.
pub const TRIGGER_NMI: u32 = 0;
/// [`SendTrigger::trigger`]: the button that switches a hardware-virtualised guest off.
pub const TRIGGER_POWER: u32 = 3;
/// [`SendTrigger::trigger`]: the button that puts one to sleep.
pub const TRIGGER_SLEEP: u32 = 4;

/// [`CpuidLeaf::subleaf`] of a leaf that has none.
pub const NO_SUBLEAF: u32 = !0;

abi_structs! {
    /// The envelope of every operation.
    Domctl = "struct xen_domctl", size 144, align 8 {
        /// The sub-op.
        0 cmd: u32,
        /// [`INTERFACE_VERSION`].
        4 interface_version: u32,
        /// Which domain; of [`CREATEDOMAIN`] also out.
        8 domain: DomId,
        /// No meaning.
        10 pad: [u16; 3] = "_pad",
        /// The sub-op's structure; 128 bytes.
        16 payload: [u64; 16] = "u",
    }

    /// What the architecture adds to a new domain.
    ArchDomainConfig = "struct xen_arch_domainconfig", size 8, align 4 {
        /// Devices that are emulated; 0 for a PV domain.
        0 emulation_flags: u32,
        /// Bit 0: unknown machine registers read as 0.
        4 misc_flags: u32,
    }

    /// Payload of [`CREATEDOMAIN`].
    CreateDomain = "struct xen_domctl_createdomain", size 64, align 4 {
        /// Label of the security policy; 0: none.
        0 ssidref: u32,
        /// The domain's universal identity; its controller's to choose.
        4 handle: [u8; 16],
        /// See [`CreateFlags`].
        20 flags: u32,
        /// Bit 0: tables are not shared with the I/O translation.
        24 iommu_opts: u32,
        /// vCPUs it may have; at least 1.
        28 max_vcpus: u32,
        /// The highest port it may use.
        32 max_evtchn_port: u32,
        /// Frames of its grant table; negative: the default.
        36 max_grant_frames: i32,
        /// Frames of its table of mapped grants; negative: the default.
        40 max_maptrack_frames: i32,
        /// See [`GRANT_VERSION_MASK`].
        44 grant_opts: u32,
        /// Trace buffer of each vCPU. Unit: bytes.
        48 vmtrace_size: u32,
        /// Pool of real CPUs; 0 is the first.
        52 cpupool_id: u32,
        /// What the architecture adds.
        56 arch: ArchDomainConfig,
    }

    /// Payload of [`GETDOMAININFO`]; also an element of what `sysctl` `getdomaininfolist` writes.
    DomainInfo = "struct xen_domctl_getdomaininfo", size 112, align 8 {
        /// Which domain.
        0 domain: DomId,
        /// No meaning.
        2 pad1: u16,
        /// See [`DomainFlags`] and [`SHUTDOWN_SHIFT`].
        4 flags: u32,
        /// Pages it has.
        8 tot_pages: u64,
        /// Pages it may have.
        16 max_pages: u64,
        /// Pages that are reserved for it.
        24 outstanding_pages: u64,
        /// Pages it shares copy-on-write.
        32 shr_pages: u64,
        /// Pages that are swapped out.
        40 paged_pages: u64,
        /// The machine frame of its shared-info page.
        48 shared_info_frame: u64,
        /// What its vCPUs have used. Unit: nanoseconds.
        56 cpu_time: u64,
        /// vCPUs that are up.
        64 nr_online_vcpus: u32,
        /// The highest, or [`INVALID_MAX_VCPU_ID`].
        68 max_vcpu_id: u32,
        /// Label of the security policy.
        72 ssidref: u32,
        /// Its universal identity.
        76 handle: [u8; 16],
        /// Pool of real CPUs.
        92 cpupool: u32,
        /// Width of its addresses. Unit: bits.
        96 gpaddr_bits: u8,
        /// No meaning.
        97 pad2: [u8; 7],
        /// What the architecture adds.
        104 arch_config: ArchDomainConfig,
    }

    /// A set of CPUs, or of other small numbers, in the caller's memory.
    Bitmap = "struct xenctl_bitmap", size 16, align 8 {
        /// Guest address of the bytes; bit 0 of the first is number 0.
        0 bitmap: u64,
        /// Length. Unit: bits.
        8 nr_bits: u32,
        /// No meaning.
        12 pad: u32 = "",
    }

    /// Payload of [`GETPAGEFRAMEINFO3`].
    GetPageFrameInfo3 = "struct xen_domctl_getpageframeinfo3", size 16, align 8 {
        /// In: length of the array.
        0 num: u64,
        /// Guest address of an array of `u64`. In: frames. Out: one of [`FRAME_KINDS`], which
        /// takes the place of the whole number.
        8 array: u64,
    }

    /// Payload of [`SETVCPUAFFINITY`] and [`GETVCPUAFFINITY`].
    VcpuAffinity = "struct xen_domctl_vcpuaffinity", size 40, align 8 {
        /// In: which vCPU.
        0 vcpu: VcpuId,
        /// In: see [`AffinityFlags`].
        4 flags: u32,
        /// In: where it shall run. Out: where it can.
        8 cpumap_hard: Bitmap,
        /// In: where it would best run. Out: what is left of it.
        24 cpumap_soft: Bitmap,
    }

    /// One leaf of a [`CpuPolicy`].
    CpuidLeaf = "struct xen_cpuid_leaf", size 24, align 4 {
        /// Its number.
        0 leaf: u32,
        /// Its sub-leaf, or [`NO_SUBLEAF`].
        4 subleaf: u32,
        /// EAX.
        8 a: u32,
        /// EBX.
        12 b: u32,
        /// ECX.
        16 c: u32,
        /// EDX.
        20 d: u32,
    }

    /// One machine register of a [`CpuPolicy`].
    MsrEntry = "struct xen_msr_entry", size 16, align 8 {
        /// Its number.
        0 idx: u32,
        /// Must be 0.
        4 flags: u32,
        /// What it holds.
        8 val: u64,
    }

    /// Payload of [`GET_CPU_POLICY`] and [`SET_CPU_POLICY`].
    CpuPolicy = "struct xen_domctl_cpu_policy", size 40, align 8 {
        /// In: length of `leaves`. Out: how many were written, or can be.
        0 nr_leaves: u32,
        /// In: length of `msrs`. Out: how many were written, or can be.
        4 nr_msrs: u32,
        /// Guest address of an array of [`CpuidLeaf`]; 0 asks for the number.
        8 leaves: u64,
        /// Guest address of an array of [`MsrEntry`]; 0 asks for the number.
        16 msrs: u64,
        /// Out: the leaf that [`SET_CPU_POLICY`] refuses; all ones: none.
        24 err_leaf: u32,
        /// Out: its sub-leaf.
        28 err_subleaf: u32,
        /// Out: the register that it refuses; all ones: none.
        32 err_msr: u32,
        /// No meaning.
        36 pad: u32 = "",
    }

    /// Payload of [`GETTSCINFO`] and [`SETTSCINFO`].
    TscInfo = "struct xen_domctl_tsc_info", size 24, align 8 {
        /// One of `TSC_*`.
        0 tsc_mode: u32,
        /// The rate that the domain counts on; 0: the machine's. Unit: kHz.
        4 gtsc_khz: u32,
        /// How often it has been set, or restored.
        8 incarnation: u32,
        /// No meaning.
        12 pad: u32 = "",
        /// What the counter shows. Unit: nanoseconds.
        16 elapsed_nsec: u64,
    }

    /// Payload of [`MAX_MEM`].
    MaxMem = "struct xen_domctl_max_mem", size 8, align 8 {
        /// Memory it may have. Unit: KiB.
        0 max_memkb: u64,
    }

    /// Payload of [`SETVCPUCONTEXT`] and [`GETVCPUCONTEXT`].
    VcpuContext = "struct xen_domctl_vcpucontext", size 16, align 8 {
        /// In: which vCPU.
        0 vcpu: VcpuId,
        /// No meaning.
        4 pad: u32 = "",
        /// Guest address of a `VcpuGuestContext`; 0 in [`SETVCPUCONTEXT`] resets the vCPU.
        8 ctxt: u64,
    }

    /// Payload of [`SETVCPUEXTSTATE`] and [`GETVCPUEXTSTATE`].
    VcpuExtState = "struct xen_domctl_vcpuextstate", size 32, align 8 {
        /// In: which vCPU.
        0 vcpu: VcpuId,
        /// No meaning.
        4 pad: u32 = "",
        /// The parts of the extended state that are kept on this machine. Only read in [`GETVCPUEXTSTATE`].
        8 xfeature_mask: u64,
        /// Unit: bytes.
        16 size: u64,
        /// Guest address of XCR0, of the parts ever in use, and of them as `xsave` writes them; 0 asks for
        /// the other two.
        24 buffer: u64,
    }

    /// Payload of [`GETVCPUINFO`].
    GetVcpuInfo = "struct xen_domctl_getvcpuinfo", size 24, align 8 {
        /// In: which vCPU.
        0 vcpu: VcpuId,
        /// Out: 1 if it is up.
        4 online: u8,
        /// Out: 1 if it waits for an event.
        5 blocked: u8,
        /// Out: 1 if it runs on a real CPU.
        6 running: u8,
        /// No meaning.
        7 pad0: u8 = "",
        /// Out: what it has used. Unit: nanoseconds.
        8 cpu_time: u64,
        /// Out: its real CPU.
        16 cpu: u32,
        /// No meaning.
        20 pad1: u32 = "",
    }

    /// Payload of [`MAX_VCPUS`].
    MaxVcpus = "struct xen_domctl_max_vcpus", size 4, align 4 {
        /// As [`CreateDomain::max_vcpus`].
        0 max: u32,
    }

    /// A domain's parameters in the credit schedulers, of both versions.
    Credit2 = "struct xen_domctl_sched_credit2", size 4, align 2 {
        /// Its share against others'; 0 in [`SCHEDULER_PUT`]: as it is.
        0 weight: u16,
        /// What it may use at most; 0: all. Unit: percent of a CPU.
        2 cap: u16,
    }

    /// Payload of [`SCHEDULER_OP`], of which the union is 16 bytes.
    SchedulerOp = "struct xen_domctl_scheduler_op", size 24, align 8 {
        /// One of [`SCHEDULERS`]; must be the one in use.
        0 sched_id: u32,
        /// One of [`SCHEDULER_COMMANDS`].
        4 cmd: u32,
        /// In or out: the parameters.
        8 credit2: Credit2 = "u.credit2",
        /// Of other schedulers and commands.
        12 pad0: u32 = "",
        /// Of other schedulers and commands.
        16 pad1: u64 = "",
    }

    /// Payload of [`SETDOMAINHANDLE`].
    SetDomainHandle = "struct xen_domctl_setdomainhandle", size 16, align 1 {
        /// The domain's universal identity.
        0 handle: [u8; 16],
    }

    /// Payload of [`IRQ_PERMISSION`].
    IrqPermission = "struct xen_domctl_irq_permission", size 8, align 4 {
        /// The interrupt.
        0 pirq: u32,
        /// 1: it may; 0: it may not.
        4 allow_access: u8,
        /// No meaning.
        5 pad: [u8; 3],
    }

    /// Payload of [`IOMEM_PERMISSION`].
    IomemPermission = "struct xen_domctl_iomem_permission", size 24, align 8 {
        /// The first frame.
        0 first_mfn: u64,
        /// At least 1.
        8 nr_mfns: u64,
        /// 1: it may; 0: it may not.
        16 allow_access: u8,
        /// No meaning.
        17 pad: [u8; 7] = "",
    }

    /// Payload of [`MEMORY_MAPPING`].
    MemoryMapping = "struct xen_domctl_memory_mapping", size 32, align 8 {
        /// The first of the domain's own numbers.
        0 first_gfn: u64,
        /// The first frame.
        8 first_mfn: u64,
        /// At least 1.
        16 nr_mfns: u64,
        /// 1: it is mapped; 0: it is not.
        24 add_mapping: u32,
        /// No meaning.
        28 padding: u32,
    }

    /// Payload of [`SENDTRIGGER`].
    SendTrigger = "struct xen_domctl_sendtrigger", size 8, align 4 {
        /// One of `TRIGGER_*`.
        0 trigger: u32,
        /// To which vCPU.
        4 vcpu: VcpuId,
    }

    /// Payload of [`SET_TARGET`].
    SetTarget = "struct xen_domctl_set_target", size 2, align 2 {
        /// The domain to be ruled.
        0 target: DomId,
    }

    /// Payload of [`IOPORT_PERMISSION`].
    IoportPermission = "struct xen_domctl_ioport_permission", size 12, align 4 {
        /// The first port.
        0 first_port: u32,
        /// How many.
        4 nr_ports: u32,
        /// 1: it may; 0: it may not.
        8 allow_access: u8,
        /// No meaning.
        9 pad: [u8; 3] = "",
    }

    /// Payload of [`HYPERCALL_INIT`].
    HypercallInit = "struct xen_domctl_hypercall_init", size 8, align 8 {
        /// The frame to be filled with stubs.
        0 gmfn: u64,
    }

    /// Payload of [`SETTIMEOFFSET`].
    SetTimeOffset = "struct xen_domctl_settimeoffset", size 8, align 8 {
        /// Added to the wall clock. Unit: seconds.
        0 time_offset_seconds: i64,
    }

    /// Payload of [`SET_ADDRESS_SIZE`] and [`GET_ADDRESS_SIZE`].
    AddressSize = "struct xen_domctl_address_size", size 4, align 4 {
        /// 32 or 64. Unit: bits.
        0 size: u32,
    }
}
