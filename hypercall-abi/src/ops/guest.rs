//! Sub-ops that every guest uses: scheduling, events, grants, vCPUs, console, version.

sub_ops! { sched "SCHEDOP_" "Sub-ops of `sched_op`." {
    0 YIELD "yield" Any Done "Lets other vCPUs run.";
    1 BLOCK "block" Any Done "Unmasks events and waits for one.";
    2 SHUTDOWN "shutdown" Any Done "Ends the domain, for a reason.";
    3 POLL "poll" Any Done "Waits for one of some ports, or a time.";
    4 REMOTE_SHUTDOWN "remote_shutdown" Control Done "Ends another domain.";
    5 SHUTDOWN_CODE "shutdown_code" Any Done "Records the reason for a shutdown to come.";
    6 WATCHDOG "watchdog" Any Done "Ends the domain unless renewed in time.";
    7 PIN_OVERRIDE "pin_override" Privileged Done "Keeps this vCPU on one real CPU for a while.";
}}

sub_ops! { version "XENVER_" "Sub-ops of `xen_version`." {
    0 VERSION "version" Any Done "Returns the version: major in the upper half, minor in the lower.";
    1 EXTRAVERSION "extraversion" Any Done "Text that follows the version.";
    2 COMPILE_INFO "compile_info" Any Done "Who compiled, with what, where and when.";
    3 CAPABILITIES "capabilities" Any Done "Kinds of guests that can be run, as text.";
    4 CHANGESET "changeset" Any Done "Which source was compiled, as text.";
    5 PLATFORM_PARAMETERS "platform_parameters" Any Done "Where the hypervisor's addresses begin.";
    6 GET_FEATURES "get_features" Any Done "Which features are offered, as bits.";
    7 PAGESIZE "pagesize" Any Done "Returns the size of a page in bytes.";
    8 GUEST_HANDLE "guest_handle" Any Done "The domain's universal identity.";
    9 COMMANDLINE "commandline" Any Done "The hypervisor's command line; other guests than privileged ones read `<denied>`.";
    10 BUILD_ID "build_id" Any Done "The identity of the build, as bytes.";
}}

sub_ops! { console "CONSOLEIO_" "Sub-ops of `console_io`." {
    0 WRITE "write" Any Done "Prints text. Here for every domain; Xen allows the privileged one, and all if built for debugging.";
    1 READ "read" Privileged Done "Returns characters that were typed.";
}}

sub_ops! { segment "SEGBASE_" "What `set_segment_base` can set: its first argument." {
    0 FS "FS" Any Done "The base of `fs`.";
    1 GS_USER "GS_USER" Any Done "The base of `gs` in user mode.";
    2 GS_KERNEL "GS_KERNEL" Any Done "The base of `gs` in kernel mode.";
    3 GS_USER_SEL "GS_USER_SEL" Any Done "The selector of `gs` in user mode.";
}}

sub_ops! { vm_assist "VMASST_CMD_" "Sub-ops of `vm_assist`." {
    0 ENABLE "enable" Any Done "Switches a behaviour on.";
    1 DISABLE "disable" Any Done "Switches a behaviour off.";
}}

sub_ops! { callback "CALLBACKOP_" "Sub-ops of `callback_op`." {
    0 REGISTER "register" Any Done "Sets a callback of this vCPU.";
    1 UNREGISTER "unregister" Any Done "Removes a callback of this vCPU.";
}}

sub_ops! { nmi "XENNMI_" "Sub-ops of `nmi_op`." {
    0 REGISTER_CALLBACK "register_callback" Any Done "Sets the callback.";
    1 UNREGISTER_CALLBACK "unregister_callback" Any Done "Removes the callback.";
}}

sub_ops! { vcpu "VCPUOP_" "Sub-ops of `vcpu_op`." {
    0 INITIALISE "initialise" Any Done "Gives a vCPU its first state.";
    1 UP "up" Any Done "Lets a vCPU run.";
    2 DOWN "down" Any Done "Stops a vCPU.";
    3 IS_UP "is_up" Any Done "Returns whether a vCPU is up.";
    4 GET_RUNSTATE_INFO "get_runstate_info" Any Done "What a vCPU is doing, and how long it did what.";
    5 REGISTER_RUNSTATE_MEMORY_AREA "register_runstate_memory_area" Any Done "Keeps that up to date in the guest's memory.";
    6 SET_PERIODIC_TIMER "set_periodic_timer" Any Done "Starts the periodic timer.";
    7 STOP_PERIODIC_TIMER "stop_periodic_timer" Any Done "Stops the periodic timer.";
    8 SET_SINGLESHOT_TIMER "set_singleshot_timer" Any Done "Starts the one-shot timer of the calling vCPU.";
    9 STOP_SINGLESHOT_TIMER "stop_singleshot_timer" Any Done "Stops the one-shot timer of the calling vCPU.";
    10 REGISTER_VCPU_INFO "register_vcpu_info" Any Done "Moves a vCPU's part of the shared page to a page of the guest.";
    11 SEND_NMI "send_nmi" Any Done "Sends a non-maskable interrupt.";
    12 GET_PHYSID "get_physid" Privileged Done "The real CPU that a vCPU is pinned to.";
    13 REGISTER_VCPU_TIME_MEMORY_AREA "register_vcpu_time_memory_area" Any Done "Keeps a second copy of the clock up to date.";
}}

sub_ops! { event "EVTCHNOP_" "Sub-ops of `event_channel_op`." {
    0 BIND_INTERDOMAIN "bind_interdomain" Any Done "Connects a new port to another domain's unbound one.";
    1 BIND_VIRQ "bind_virq" Any Done "Binds a new port to a virtual interrupt.";
    2 BIND_PIRQ "bind_pirq" Any Done "Binds a new port to a physical interrupt.";
    3 CLOSE "close" Any Done "Frees a port.";
    4 SEND "send" Any Done "Signals the other end.";
    5 STATUS "status" Any Done "What a port is connected to.";
    6 ALLOC_UNBOUND "alloc_unbound" Any Done "Makes a port that another domain may bind to.";
    7 BIND_IPI "bind_ipi" Any Done "Makes a port by which vCPUs signal one of them.";
    8 BIND_VCPU "bind_vcpu" Any Done "Chooses the vCPU that a port notifies.";
    9 UNMASK "unmask" Any Done "Clears a port's mask, and notifies if an event waited.";
    10 RESET "reset" Any Done "Closes all ports.";
    11 INIT_CONTROL "init_control" Any Refused(ENOSYS) "Starts the FIFO form of events. Guests fall back to two levels.";
    12 EXPAND_ARRAY "expand_array" Any Refused(ENOSYS) "Adds event words to the FIFO form.";
    13 SET_PRIORITY "set_priority" Any Done "Sets a port's priority in the FIFO form.";
}}

sub_ops! { grant "GNTTABOP_" "Sub-ops of `grant_table_op`." {
    0 MAP_GRANT_REF "map_grant_ref" Any Done "Maps granted pages.";
    1 UNMAP_GRANT_REF "unmap_grant_ref" Any Done "Unmaps them.";
    2 SETUP_TABLE "setup_table" Any Done "Returns the frames of the table, and makes it longer.";
    3 DUMP_TABLE "dump_table" Control Refused(ENOSYS) "Prints the table on the console.";
    4 TRANSFER "transfer" Any Done "Gives pages away; each is answered as one that can't be.";
    5 COPY "copy" Any Done "Copies between pages, granted or own.";
    6 QUERY_SIZE "query_size" Any Done "How long the table is and may become.";
    7 UNMAP_AND_REPLACE "unmap_and_replace" Any Done "Unmaps a page and moves another mapping to its place.";
    8 SET_VERSION "set_version" Any Done "Chooses the form of the entries; only version 1 exists here.";
    9 GET_STATUS_FRAMES "get_status_frames" Any Done "Returns the frames of version 2's status.";
    10 GET_VERSION "get_version" Any Done "Returns the form of the entries.";
    11 SWAP_GRANT_REF "swap_grant_ref" Any Done "Exchanges two entries.";
    12 CACHE_FLUSH "cache_flush" Any Done "Writes back or discards a page's cache lines.";
}}
