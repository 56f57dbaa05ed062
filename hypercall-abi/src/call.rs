//! Every hypercall: number, name, who may call it, and how far this system is with it.
//!
//! The table at the end is the only place where a hypercall is declared. The status columns, here
//! and in [`crate::ops`], say what *this* system's kernel does: change a row when the kernel
//! changes, then regenerate the pages under `docs/src/abi` with
//! `UPDATE_GOLDEN=1 cargo test -p hypercall-abi`.

use crate::errno::Errno;
use crate::ops;

/// The highest hypercall number, and one more. Numbers from here on are unknown to everybody.
pub const NUMBERS: u32 = 64;

/// Who may make a call. What a caller may do *with* it can be narrower.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Caller {
    /// Every domain.
    Any,
    /// The domain that has the machine's devices.
    Privileged,
    /// A domain that builds and rules others.
    Control,
}

impl Caller {
    /// The word used in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Privileged => "privileged",
            Self::Control => "control",
        }
    }
}

/// How far this system is with a call.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Status {
    /// Does what Xen does.
    Done,
    /// Known, and deliberately answered with this error, as a Xen built without it would.
    Refused(Errno),
    /// Answered with `ENOSYS`, as an unknown call is.
    Absent,
}

/// One sub-op of a hypercall: the values its first argument (or its first field) can have.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct SubOp {
    /// The value that selects it.
    pub number: u32,
    /// Its name in traces.
    pub name: &'static str,
    /// What precedes the name in C.
    pub c_prefix: &'static str,
    /// Who may use it.
    pub caller: Caller,
    /// How far this system is with it.
    pub status: Status,
    /// What it does, in one line.
    pub about: &'static str,
}

macro_rules! hypercalls {
    ($($number:literal $variant:ident $name:literal $caller:ident
       $status:ident $(($errno:ident))? [$($family:ident)?] $doc:literal;)*) => {
        /// A hypercall that exists in Xen 4.17's interface for 64-bit PV guests, or is ours.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        #[repr(u8)]
        pub enum Hypercall {
            $(#[doc = $doc] $variant = $number,)*
        }

        impl Hypercall {
            /// Every hypercall, by number.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The hypercall with this number. The whole register counts: no bits are dropped.
            #[must_use]
            pub const fn from_number(number: u64) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }

            /// The name in traces; in C it is preceded by `__HYPERVISOR_`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it does, in one line.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => $doc,)* }
            }

            /// Who may call it. Sub-ops can be narrower.
            #[must_use]
            pub const fn caller(self) -> Caller {
                match self { $(Self::$variant => Caller::$caller,)* }
            }

            /// How far this system is with the call itself. If it has sub-ops, each has its own
            /// status, and this one tells what an unknown sub-op is answered.
            #[must_use]
            pub const fn status(self) -> Status {
                match self { $(Self::$variant => Status::$status $((Errno::$errno))?,)* }
            }

            /// Its sub-ops, or nothing if it has none.
            #[must_use]
            pub fn sub_ops(self) -> &'static [SubOp] {
                match self { $(Self::$variant => hypercalls!(@ops $($family)?),)* }
            }
        }
    };
    (@ops $family:ident) => { ops::$family::OPS };
    (@ops) => { &[] };
}

impl Hypercall {
    /// The value that a guest puts in `rax`.
    #[must_use]
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// The sub-op that `number` selects.
    #[must_use]
    pub fn sub_op(self, number: u32) -> Option<&'static SubOp> {
        self.sub_ops().iter().find(|op| op.number == number)
    }
}

hypercalls! {
    // number, variant, name, caller, status, [sub-ops], what it does
    0 SetTrapTable "set_trap_table" Any Done [] "Says where this vCPU's exceptions are delivered.";
    1 MmuUpdate "mmu_update" Any Absent [mmu_update] "Changes page-table entries or the machine-to-physical table, in a batch.";
    2 SetGdt "set_gdt" Any Done [] "Sets the frames and length of this vCPU's descriptor table.";
    3 StackSwitch "stack_switch" Any Done [] "Sets the kernel stack for entries from user mode.";
    4 SetCallbacks "set_callbacks" Any Done [] "Sets the event, failsafe and syscall callbacks; the older form of `callback_op`.";
    5 FpuTaskswitch "fpu_taskswitch" Any Done [] "Sets or clears the virtual task-switched flag.";
    6 SchedOpCompat "sched_op_compat" Any Done [] "The older form of `sched_op`: yield, block and shutdown.";
    7 PlatformOp "platform_op" Privileged Absent [platform] "Settings of the machine.";
    8 SetDebugreg "set_debugreg" Any Done [] "Sets a debug register.";
    9 GetDebugreg "get_debugreg" Any Done [] "Returns a debug register.";
    10 UpdateDescriptor "update_descriptor" Any Done [] "Changes one descriptor.";
    12 MemoryOp "memory_op" Any Absent [memory] "How much memory a domain has, and which frames.";
    13 Multicall "multicall" Any Done [] "Makes several hypercalls.";
    14 UpdateVaMapping "update_va_mapping" Any Done [] "Changes the entry that maps a virtual address.";
    15 SetTimerOp "set_timer_op" Any Done [] "Sets this vCPU's one-shot timer.";
    16 EventChannelOpCompat "event_channel_op_compat" Any Done [] "The older form of `event_channel_op`, with the sub-op in the structure.";
    17 XenVersion "xen_version" Any Absent [version] "What the hypervisor is and offers.";
    18 ConsoleIo "console_io" Any Absent [console] "The hypervisor's own console.";
    19 PhysdevOpCompat "physdev_op_compat" Any Done [] "The older form of `physdev_op`, with the sub-op in the structure.";
    20 GrantTableOp "grant_table_op" Any Absent [grant] "Letting another domain map or copy a page.";
    21 VmAssist "vm_assist" Any Absent [vm_assist] "Switches behaviours on and off.";
    22 UpdateVaMappingOtherdomain "update_va_mapping_otherdomain" Any Done [] "Like `update_va_mapping`, to a frame of another domain.";
    23 Iret "iret" Any Done [] "Returns from an exception, and from kernel to user mode.";
    24 VcpuOp "vcpu_op" Any Absent [vcpu] "vCPUs, their timers and their information.";
    25 SetSegmentBase "set_segment_base" Any Refused(EINVAL) [segment] "Sets the base of `fs` or `gs`.";
    26 MmuextOp "mmuext_op" Any Absent [mmuext] "Pins and loads page tables, flushes translations, in a batch.";
    27 XsmOp "xsm_op" Any Absent [] "Security policy. Xen has it if built with one.";
    28 NmiOp "nmi_op" Any Absent [nmi] "The older form of `callback_op` for non-maskable interrupts.";
    29 SchedOp "sched_op" Any Absent [sched] "Giving up the CPU, waiting, and ending.";
    30 CallbackOp "callback_op" Any Absent [callback] "Says where the guest is entered.";
    31 XenoprofOp "xenoprof_op" Any Absent [xenoprof] "System-wide profiling. Xen has it if built with it.";
    32 EventChannelOp "event_channel_op" Any Absent [event] "Ports by which domains signal each other.";
    33 PhysdevOp "physdev_op" Any Absent [physdev] "Interrupts, ports and devices of the real machine.";
    34 HvmOp "hvm_op" Any Absent [] "Of hardware-virtualised guests.";
    35 Sysctl "sysctl" Control Absent [sysctl] "What the whole machine is and does.";
    36 Domctl "domctl" Control Absent [domctl] "Builds and rules domains.";
    37 KexecOp "kexec_op" Privileged Absent [kexec] "Loads and starts a kernel in place of the hypervisor.";
    38 TmemOp "tmem_op" Any Absent [] "Gone from Xen: a pool of memory for pages a guest can do without.";
    39 ArgoOp "argo_op" Any Absent [argo] "Messages between domains. Xen has it if built with it.";
    40 XenpmuOp "xenpmu_op" Any Absent [pmu] "Virtual performance counters.";
    41 DmOp "dm_op" Control Absent [] "Of device models for hardware-virtualised guests.";
    42 HypfsOp "hypfs_op" Control Absent [hypfs] "The hypervisor's parameters as files.";
    48 Mca "mca" Privileged Absent [] "Machine checks. Called `arch_0` in the headers.";
    49 PagingDomctlCont "paging_domctl_cont" Control Absent [] "Continues a long `domctl`; made by Xen itself. Called `arch_1` in the headers.";
    55 Extension "extension" Any Absent [] "Reserved for this system's own calls; none exists. Called `arch_7` in the headers.";
}
