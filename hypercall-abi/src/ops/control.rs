//! Sub-ops of those who rule: `sysctl`, `domctl`, and calls that a Xen may be built without.

sub_ops! { sysctl "XEN_SYSCTL_" "Sub-ops of `sysctl`." {
    1 READCONSOLE "readconsole" Control Done "Reads the hypervisor's log.";
    2 TBUF_OP "tbuf_op" Control Absent "Trace buffers.";
    3 PHYSINFO "physinfo" Control Done "CPUs, memory and abilities of the machine.";
    4 SCHED_ID "sched_id" Control Done "Which scheduler.";
    5 PERFC_OP "perfc_op" Control Absent "Performance counters.";
    6 GETDOMAININFOLIST "getdomaininfolist" Control Done "What all domains are doing.";
    7 DEBUG_KEYS "debug_keys" Control Absent "As if keys had been typed at the console.";
    8 GETCPUINFO "getcpuinfo" Control Done "How long real CPUs were idle.";
    9 AVAILHEAP "availheap" Control Done "How much memory is free.";
    10 GET_PMSTAT "get_pmstat" Control Absent "Statistics of power states.";
    11 CPU_HOTPLUG "cpu_hotplug" Control Absent "Starts and stops real CPUs.";
    12 PM_OP "pm_op" Control Absent "Settings of power states.";
    14 PAGE_OFFLINE_OP "page_offline_op" Control Absent "Takes bad memory out of use.";
    15 LOCKPROF_OP "lockprof_op" Control Absent "Profiles of locks.";
    16 CPUTOPOINFO "cputopoinfo" Control Done "Cores, sockets and nodes of real CPUs.";
    17 NUMAINFO "numainfo" Control Done "Memory and distances of nodes.";
    18 CPUPOOL_OP "cpupool_op" Control Done "Pools of real CPUs.";
    19 SCHEDULER_OP "scheduler_op" Control Done "Settings of the scheduler.";
    20 COVERAGE_OP "coverage_op" Control Absent "Coverage of the hypervisor's code.";
    21 PSR_CMT_OP "psr_cmt_op" Control Absent "Use of caches.";
    22 PCITOPOINFO "pcitopoinfo" Control Done "Nodes of devices.";
    23 PSR_ALLOC "psr_alloc" Control Absent "Shares of caches.";
    25 GET_CPU_LEVELLING_CAPS "get_cpu_levelling_caps" Control Done "Which CPU features can be hidden.";
    26 GET_CPU_FEATURESET "get_cpu_featureset" Control Done "Which CPU features there are.";
    27 LIVEPATCH_OP "livepatch_op" Control Absent "Changes the running hypervisor.";
    29 GET_CPU_POLICY "get_cpu_policy" Control Done "All that CPUID and registers say of a kind of guest.";
}}

sub_ops! { domctl "XEN_DOMCTL_" "Sub-ops of `domctl`." {
    1 CREATEDOMAIN "createdomain" Control Done "Makes a domain, empty and paused.";
    2 DESTROYDOMAIN "destroydomain" Control Done "Ends a domain and frees what it has.";
    3 PAUSEDOMAIN "pausedomain" Control Done "Stops a domain's vCPUs.";
    4 UNPAUSEDOMAIN "unpausedomain" Control Done "Lets them run.";
    5 GETDOMAININFO "getdomaininfo" Control Done "What a domain is doing.";
    9 SETVCPUAFFINITY "setvcpuaffinity" Control Done "Which real CPUs a vCPU may run on.";
    10 SHADOW_OP "shadow_op" Control Absent "Which pages a domain has written.";
    11 MAX_MEM "max_mem" Control Done "How much memory a domain may have.";
    12 SETVCPUCONTEXT "setvcpucontext" Control Done "Sets a vCPU's state.";
    13 GETVCPUCONTEXT "getvcpucontext" Control Done "Returns a vCPU's state.";
    14 GETVCPUINFO "getvcpuinfo" Control Done "What a vCPU is doing.";
    15 MAX_VCPUS "max_vcpus" Control Done "Makes the vCPUs.";
    16 SCHEDULER_OP "scheduler_op" Control Done "A domain's weight and cap.";
    17 SETDOMAINHANDLE "setdomainhandle" Control Done "Sets a domain's universal identity.";
    18 SETDEBUGGING "setdebugging" Control Absent "Sends a domain's debug exceptions to its debugger.";
    19 IRQ_PERMISSION "irq_permission" Control Done "Which interrupts a domain may use.";
    20 IOMEM_PERMISSION "iomem_permission" Control Done "Which device memory a domain may use.";
    21 IOPORT_PERMISSION "ioport_permission" Control Done "Which ports a domain may use.";
    22 HYPERCALL_INIT "hypercall_init" Control Done "Fills a domain's hypercall page.";
    24 SETTIMEOFFSET "settimeoffset" Control Done "A domain's difference from the wall clock.";
    25 GETVCPUAFFINITY "getvcpuaffinity" Control Done "Which real CPUs a vCPU may run on.";
    26 REAL_MODE_AREA "real_mode_area" Control Absent "Of another architecture.";
    27 RESUMEDOMAIN "resumedomain" Control Done "Lets a domain go on that has shut down.";
    28 SENDTRIGGER "sendtrigger" Control Done "Sends a button press or a non-maskable interrupt.";
    29 SUBSCRIBE "subscribe" Control Absent "By which port to tell of a suspend.";
    33 GETHVMCONTEXT "gethvmcontext" Control Refused(EINVAL) "Of hardware-virtualised guests.";
    34 SETHVMCONTEXT "sethvmcontext" Control Refused(EINVAL) "Of hardware-virtualised guests.";
    35 SET_ADDRESS_SIZE "set_address_size" Control Done "Makes a domain a 32-bit one.";
    36 GET_ADDRESS_SIZE "get_address_size" Control Done "Returns 32 or 64.";
    37 ASSIGN_DEVICE "assign_device" Control Absent "Gives a domain a device.";
    38 BIND_PT_IRQ "bind_pt_irq" Control Refused(EINVAL) "Of hardware-virtualised guests.";
    39 MEMORY_MAPPING "memory_mapping" Control Done "Of translated guests.";
    40 IOPORT_MAPPING "ioport_mapping" Control Refused(EOPNOTSUPP) "Of hardware-virtualised guests.";
    42 SET_EXT_VCPUCONTEXT "set_ext_vcpucontext" Control Absent "Sets more of a vCPU's state.";
    43 GET_EXT_VCPUCONTEXT "get_ext_vcpucontext" Control Absent "Returns more of a vCPU's state.";
    44 SET_OPT_FEATURE "set_opt_feature" Control Absent "Of another architecture.";
    45 TEST_ASSIGN_DEVICE "test_assign_device" Control Absent "Whether a device could be given.";
    46 SET_TARGET "set_target" Control Refused(EOPNOTSUPP) "Lets a domain rule one other.";
    47 DEASSIGN_DEVICE "deassign_device" Control Absent "Takes a device back.";
    48 UNBIND_PT_IRQ "unbind_pt_irq" Control Refused(EINVAL) "Of hardware-virtualised guests.";
    50 GET_DEVICE_GROUP "get_device_group" Control Refused(EOPNOTSUPP) "Devices that must be given together.";
    54 DEBUG_OP "debug_op" Control Absent "Single steps.";
    55 GETHVMCONTEXT_PARTIAL "gethvmcontext_partial" Control Refused(EINVAL) "Of hardware-virtualised guests.";
    56 VM_EVENT_OP "vm_event_op" Control Absent "Of watching hardware-virtualised guests.";
    57 MEM_SHARING_OP "mem_sharing_op" Control Absent "Of sharing pages.";
    59 GETTSCINFO "gettscinfo" Control Done "How a domain sees the time-stamp counter.";
    60 SETTSCINFO "settscinfo" Control Done "How a domain shall see the time-stamp counter.";
    61 GETPAGEFRAMEINFO3 "getpageframeinfo3" Control Done "What frames are used as.";
    62 SETVCPUEXTSTATE "setvcpuextstate" Control Done "Sets a vCPU's extended registers.";
    63 GETVCPUEXTSTATE "getvcpuextstate" Control Done "Returns a vCPU's extended registers.";
    64 SET_ACCESS_REQUIRED "set_access_required" Control Absent "Of watching a guest's accesses.";
    65 AUDIT_P2M "audit_p2m" Control Absent "Checks frame lists.";
    66 SET_VIRQ_HANDLER "set_virq_handler" Control Absent "Sends a virtual interrupt of the system to a domain.";
    67 SET_BROKEN_PAGE_P2M "set_broken_page_p2m" Control Absent "Of bad memory.";
    68 SETNODEAFFINITY "setnodeaffinity" Control Done "From which nodes a domain gets memory.";
    69 GETNODEAFFINITY "getnodeaffinity" Control Done "From which nodes a domain gets memory.";
    71 CACHEFLUSH "cacheflush" Control Absent "Of another architecture.";
    72 GET_VCPU_MSRS "get_vcpu_msrs" Control Absent "Returns a vCPU's machine registers.";
    73 SET_VCPU_MSRS "set_vcpu_msrs" Control Absent "Sets a vCPU's machine registers.";
    74 SETVNUMAINFO "setvnumainfo" Control Absent "A domain's virtual nodes.";
    75 PSR_CMT_OP "psr_cmt_op" Control Absent "A domain's use of caches.";
    77 MONITOR_OP "monitor_op" Control Absent "Of watching hardware-virtualised guests.";
    78 PSR_ALLOC "psr_alloc" Control Absent "A domain's share of caches.";
    79 SOFT_RESET "soft_reset" Control Absent "Resets a domain but keeps its memory.";
    81 VUART_OP "vuart_op" Control Absent "Of another architecture.";
    82 GET_CPU_POLICY "get_cpu_policy" Control Done "All that CPUID and registers say to a domain.";
    83 SET_CPU_POLICY "set_cpu_policy" Control Done "What they shall say to a domain.";
    84 VMTRACE_OP "vmtrace_op" Control Absent "Of hardware-virtualised guests.";
    85 GET_PAGING_MEMPOOL_SIZE "get_paging_mempool_size" Control Absent "Memory for a domain's shadow tables.";
    86 SET_PAGING_MEMPOOL_SIZE "set_paging_mempool_size" Control Absent "Memory for a domain's shadow tables.";
    1000 GDBSX_GUESTMEMIO "gdbsx_guestmemio" Control Absent "A debugger reads and writes a domain's memory.";
    1001 GDBSX_PAUSEVCPU "gdbsx_pausevcpu" Control Absent "A debugger stops a vCPU.";
    1002 GDBSX_UNPAUSEVCPU "gdbsx_unpausevcpu" Control Absent "A debugger lets a vCPU run.";
    1003 GDBSX_DOMSTATUS "gdbsx_domstatus" Control Absent "A debugger asks what happened.";
}}

sub_ops! { kexec "KEXEC_CMD_" "Sub-ops of `kexec_op`." {
    0 KEXEC "kexec" Privileged Absent "Starts the kernel that is loaded.";
    1 KEXEC_LOAD_V1 "kexec_load_v1" Privileged Absent "Loads a kernel; the older form.";
    2 KEXEC_UNLOAD_V1 "kexec_unload_v1" Privileged Absent "Unloads it; the older form.";
    3 KEXEC_GET_RANGE "kexec_get_range" Privileged Absent "Where things are in memory.";
    4 KEXEC_LOAD "kexec_load" Privileged Absent "Loads a kernel.";
    5 KEXEC_UNLOAD "kexec_unload" Privileged Absent "Unloads it.";
    6 KEXEC_STATUS "kexec_status" Privileged Absent "Whether one is loaded.";
}}

sub_ops! { pmu "XENPMU_" "Sub-ops of `xenpmu_op`." {
    0 MODE_GET "mode_get" Control Absent "Returns the mode of virtual counters.";
    1 MODE_SET "mode_set" Control Absent "Sets it.";
    2 FEATURE_GET "feature_get" Control Absent "Returns what counters may do.";
    3 FEATURE_SET "feature_set" Control Absent "Sets it.";
    4 INIT "init" Any Absent "Starts counters of a vCPU.";
    5 FINISH "finish" Any Absent "Ends them.";
    6 LVTPC_SET "lvtpc_set" Any Absent "Sets their interrupt.";
    7 FLUSH "flush" Any Absent "Writes cached registers to the machine.";
}}

sub_ops! { hypfs "XEN_HYPFS_OP_" "Sub-ops of `hypfs_op`." {
    0 GET_VERSION "get_version" Control Absent "Returns the version of the interface.";
    1 READ "read" Control Absent "Reads a file or directory.";
    2 WRITE_CONTENTS "write_contents" Control Absent "Writes a file.";
}}

sub_ops! { argo "XEN_ARGO_OP_" "Sub-ops of `argo_op`." {
    1 REGISTER_RING "register_ring" Any Absent "Offers a ring for messages.";
    2 UNREGISTER_RING "unregister_ring" Any Absent "Withdraws it.";
    3 SENDV "sendv" Any Absent "Sends a message.";
    4 NOTIFY "notify" Any Absent "Asks to be told of free room.";
}}

sub_ops! { xenoprof "XENOPROF_" "Sub-ops of `xenoprof_op`." {
    0 INIT "init" Any Absent "Starts a session.";
    1 RESET_ACTIVE_LIST "reset_active_list" Privileged Absent "Clears the domains that profile themselves.";
    2 RESET_PASSIVE_LIST "reset_passive_list" Privileged Absent "Clears the domains that are profiled.";
    3 SET_ACTIVE "set_active" Privileged Absent "Adds a domain that profiles itself.";
    4 SET_PASSIVE "set_passive" Privileged Absent "Adds a domain that is profiled.";
    5 RESERVE_COUNTERS "reserve_counters" Privileged Absent "Takes the counters.";
    6 COUNTER "counter" Privileged Absent "Sets a counter.";
    7 SETUP_EVENTS "setup_events" Privileged Absent "Programs the counters.";
    8 ENABLE_VIRQ "enable_virq" Any Absent "Lets samples interrupt.";
    9 START "start" Privileged Absent "Starts counting.";
    10 STOP "stop" Privileged Absent "Stops counting.";
    11 DISABLE_VIRQ "disable_virq" Any Absent "Samples no longer interrupt.";
    12 RELEASE_COUNTERS "release_counters" Privileged Absent "Gives the counters back.";
    13 SHUTDOWN "shutdown" Any Absent "Ends the session.";
    14 GET_BUFFER "get_buffer" Any Absent "Maps the buffer of samples.";
    15 SET_BACKTRACE "set_backtrace" Privileged Absent "How many callers a sample records.";
    16 GET_IBS_CAPS "get_ibs_caps" Any Absent "What instruction sampling can do.";
    17 IBS_COUNTER "ibs_counter" Privileged Absent "Sets instruction sampling.";
}}

sub_ops! { extension "PARAVANE_" "Sub-ops of this system's own hypercall." {
    0 VERSION "version" Any Done "The version of this system's own calls, major in the upper half.";
    1 AUDIT "audit" Privileged Done "Counts all references to all frames from scratch; returns how many do not fit.";
    2 SET_RINGS "set_rings" Privileged Done "Records where a domain's store and console are.";
    3 GET_RINGS "get_rings" Privileged Done "Where a domain's store and console are.";
}}
