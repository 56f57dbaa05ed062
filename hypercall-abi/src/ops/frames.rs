//! Sub-ops about memory and page tables.

sub_ops! { mmu_update "MMU_" "Commands of `mmu_update`: the low two bits of an update's address." {
    0 NORMAL_PT_UPDATE "NORMAL_PT_UPDATE" Any Done "Writes a page-table entry.";
    1 MACHPHYS_UPDATE "MACHPHYS_UPDATE" Any Done "Writes an entry of the machine-to-physical table.";
    2 PT_UPDATE_PRESERVE_AD "PT_UPDATE_PRESERVE_AD" Any Done "Writes an entry, but keeps its accessed and dirty bits.";
    3 PT_UPDATE_NO_TRANSLATE "PT_UPDATE_NO_TRANSLATE" Privileged Done "Writes an entry whose frame number is a machine's even if the domain is translated.";
}}

sub_ops! { mmuext "MMUEXT_" "Commands of `mmuext_op`." {
    0 PIN_L1_TABLE "PIN_L1_TABLE" Any Done "Keeps a frame a checked level-1 table.";
    1 PIN_L2_TABLE "PIN_L2_TABLE" Any Done "Keeps a frame a checked level-2 table.";
    2 PIN_L3_TABLE "PIN_L3_TABLE" Any Done "Keeps a frame a checked level-3 table.";
    3 PIN_L4_TABLE "PIN_L4_TABLE" Any Done "Keeps a frame a checked level-4 table.";
    4 UNPIN_TABLE "UNPIN_TABLE" Any Done "Ends that.";
    5 NEW_BASEPTR "NEW_BASEPTR" Any Done "Loads page tables for kernel mode.";
    6 TLB_FLUSH_LOCAL "TLB_FLUSH_LOCAL" Any Done "Flushes all translations of this vCPU.";
    7 INVLPG_LOCAL "INVLPG_LOCAL" Any Done "Flushes one page's translation of this vCPU.";
    8 TLB_FLUSH_MULTI "TLB_FLUSH_MULTI" Any Done "Flushes all translations of some vCPUs.";
    9 INVLPG_MULTI "INVLPG_MULTI" Any Done "Flushes one page's translation of some vCPUs.";
    10 TLB_FLUSH_ALL "TLB_FLUSH_ALL" Any Done "Flushes all translations of all vCPUs.";
    11 INVLPG_ALL "INVLPG_ALL" Any Done "Flushes one page's translation of all vCPUs.";
    12 FLUSH_CACHE "FLUSH_CACHE" Privileged Done "Writes back and discards this CPU's caches.";
    13 SET_LDT "SET_LDT" Any Done "Sets the local descriptor table.";
    15 NEW_USER_BASEPTR "NEW_USER_BASEPTR" Any Done "Sets page tables for user mode.";
    16 CLEAR_PAGE "CLEAR_PAGE" Any Done "Clears a frame.";
    17 COPY_PAGE "COPY_PAGE" Any Done "Copies a frame.";
    18 FLUSH_CACHE_GLOBAL "FLUSH_CACHE_GLOBAL" Privileged Done "Writes back and discards all CPUs' caches.";
    19 MARK_SUPER "MARK_SUPER" Any Absent "Gone from Xen: of large pages.";
    20 UNMARK_SUPER "UNMARK_SUPER" Any Absent "Gone from Xen: of large pages.";
}}

sub_ops! { memory "XENMEM_" "Sub-ops of `memory_op`." {
    0 INCREASE_RESERVATION "increase_reservation" Any Done "Adds memory at frames the hypervisor chooses.";
    1 DECREASE_RESERVATION "decrease_reservation" Any Done "Gives memory back.";
    2 MAXIMUM_RAM_PAGE "maximum_ram_page" Any Done "Returns the machine's highest frame of memory.";
    3 CURRENT_RESERVATION "current_reservation" Any Done "Returns how many pages a domain has.";
    4 MAXIMUM_RESERVATION "maximum_reservation" Any Done "Returns how many pages a domain may have.";
    5 MACHPHYS_MFN_LIST "machphys_mfn_list" Any Done "The frames of the machine-to-physical table.";
    6 POPULATE_PHYSMAP "populate_physmap" Any Done "Adds memory at the caller's own frame numbers.";
    7 ADD_TO_PHYSMAP "add_to_physmap" Any Refused(EACCES) "Of translated guests.";
    9 MEMORY_MAP "memory_map" Any Done "The domain's memory map.";
    10 MACHINE_MEMORY_MAP "machine_memory_map" Privileged Done "The machine's memory map.";
    11 EXCHANGE "exchange" Any Done "Exchanges frames, for instance for contiguous ones.";
    12 MACHPHYS_MAPPING "machphys_mapping" Any Done "Where the machine-to-physical table is.";
    13 SET_MEMORY_MAP "set_memory_map" Control Done "Sets a domain's memory map.";
    14 MAXIMUM_GPFN "maximum_gpfn" Any Done "Returns a domain's highest frame number.";
    15 REMOVE_FROM_PHYSMAP "remove_from_physmap" Any Refused(EACCES) "Of translated guests.";
    16 SET_POD_TARGET "set_pod_target" Control Refused(EINVAL) "Of memory given on demand.";
    17 GET_POD_TARGET "get_pod_target" Control Refused(EINVAL) "Of memory given on demand.";
    18 GET_SHARING_FREED_PAGES "get_sharing_freed_pages" Any Done "Returns pages saved by sharing.";
    19 GET_SHARING_SHARED_PAGES "get_sharing_shared_pages" Any Done "Returns pages that are shared.";
    20 PAGING_OP "paging_op" Control Absent "Of paging guests out.";
    21 ACCESS_OP "access_op" Control Absent "Of watching a guest's accesses.";
    22 SHARING_OP "sharing_op" Control Absent "Of sharing pages.";
    23 ADD_TO_PHYSMAP_BATCH "add_to_physmap_batch" Any Refused(EACCES) "Of translated guests.";
    24 CLAIM_PAGES "claim_pages" Control Done "Sets memory aside for a domain to be built.";
    25 MACHPHYS_COMPAT_MFN_LIST "machphys_compat_mfn_list" Any Absent "Of 32-bit guests.";
    26 GET_VNUMAINFO "get_vnumainfo" Any Refused(EOPNOTSUPP) "The domain's virtual nodes.";
    27 RESERVED_DEVICE_MEMORY_MAP "reserved_device_memory_map" Any Absent "Memory that devices need at fixed places.";
    28 ACQUIRE_RESOURCE "acquire_resource" Control Done "Maps what belongs to a domain but is not its memory.";
}}
