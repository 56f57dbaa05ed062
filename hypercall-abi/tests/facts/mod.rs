//! Every number that this crate has in common with C's headers, as `(C expression, value)`.

use hypercall_abi::call::Hypercall;
use hypercall_abi::errno::Errno;
use hypercall_abi::mmu::EntryFlags;
use hypercall_abi::regs::GuestContextFlags;
use hypercall_abi::start::{ClockFlags, StartFlags};
use hypercall_abi::types::DomId;
use hypercall_abi::version::Features;
use hypercall_abi::{
    blkif, callback, cpuid, domctl, elfnote, event, grant, layout, memory, mmu, netif, physdev,
    platform, sched, start, sysctl, trap, vcpu, version, virq, vm_assist, xenstore,
};

/// A number as C sees it, and as Rust does; negative ones as their 64-bit pattern.
pub(crate) type Fact = (String, u64);

fn fact(name: &str, value: impl Into<i128>) -> Fact {
    let value: i128 = value.into();
    let bits = u64::try_from(value)
        .or_else(|_| i64::try_from(value).map(i64::cast_unsigned))
        .expect("a fact fits in 64 bits");
    (name.to_owned(), bits)
}

/// All of them.
pub(crate) fn all() -> Vec<Fact> {
    let mut all = calls();
    all.extend(Errno::ALL.iter().map(|e| fact(&format!("ALL_{}", e.name()), e.number())));
    all.extend(types_and_layout());
    all.extend(flags());
    all.extend(states());
    all.extend(control());
    all.extend(named());
    all.extend(limits());
    all.extend(rings());
    all
}

/// Hypercalls and sub-ops.
fn calls() -> Vec<Fact> {
    let mut all = Vec::new();
    for call in Hypercall::ALL {
        let name = match call {
            Hypercall::Mca => "arch_0",
            Hypercall::PagingDomctlCont => "arch_1",
            Hypercall::Extension => "arch_7",
            other => other.name(),
        };
        all.push(fact(&format!("__HYPERVISOR_{name}"), call.number()));
        let ours = *call == Hypercall::Extension;
        for op in call.sub_ops().iter().filter(|_| !ours) {
            all.push(fact(&format!("{}{}", op.c_prefix, op.name), op.number));
        }
    }
    all
}

/// Tables of named numbers.
fn named() -> Vec<Fact> {
    let mut all = Vec::new();
    for table in [
        virq::ALL,
        elfnote::ALL,
        sched::REASONS,
        event::STATUSES,
        vcpu::RUNSTATES,
        vm_assist::TYPES,
        xenstore::KINDS,
        xenstore::STATES,
        blkif::INFO,
        domctl::FRAME_KINDS,
        domctl::SCHEDULERS,
        domctl::SCHEDULER_COMMANDS,
    ] {
        all.extend(table.iter().map(|(name, value)| fact(name, *value)));
    }
    all.extend(blkif::OPERATIONS.iter().map(|(name, value)| fact(name, *value)));
    all.extend(
        [netif::TX_FLAGS, netif::RX_FLAGS]
            .into_iter()
            .flatten()
            .map(|(name, value)| fact(name, *value)),
    );
    all.extend(
        [netif::EXTRA_KINDS, netif::GSO_KINDS]
            .into_iter()
            .flatten()
            .map(|(name, value)| fact(name, *value)),
    );
    all.extend(netif::STATUSES.iter().map(|(name, value)| fact(name, *value)));
    all.extend(blkif::STATUSES.iter().map(|(name, value)| fact(name, *value)));
    all.extend(callback::TYPES.iter().map(|(name, value)| fact(name, *value)));
    all.extend(grant::RESULTS.iter().map(|(name, value)| fact(name, *value)));
    all.extend(physdev::MAP_KINDS.iter().map(|(name, value)| fact(name, *value)));
    all
}

fn types_and_layout() -> Vec<Fact> {
    vec![
        fact("DOMID_FIRST_RESERVED", DomId::FIRST_RESERVED.0),
        fact("DOMID_SELF", DomId::SELF.0),
        fact("DOMID_IO", DomId::IO.0),
        fact("DOMID_XEN", DomId::XEN.0),
        fact("DOMID_COW", DomId::COW.0),
        fact("DOMID_INVALID", DomId::INVALID.0),
        fact("DOMID_IDLE", DomId::IDLE.0),
        fact("HYPERVISOR_VIRT_START", layout::HYPERVISOR_VIRT_START),
        fact("HYPERVISOR_VIRT_END", layout::HYPERVISOR_VIRT_END),
        fact("MACH2PHYS_VIRT_START", layout::MACH2PHYS_VIRT_START),
        fact("MACH2PHYS_VIRT_END", layout::MACH2PHYS_VIRT_END),
        fact("MACH2PHYS_NR_ENTRIES", layout::MACH2PHYS_NR_ENTRIES),
        fact("FLAT_RING3_CS32", layout::FLAT_RING3_CS32),
        fact("FLAT_RING3_CS64", layout::FLAT_RING3_CS64),
        fact("FLAT_RING3_DS32", layout::FLAT_RING3_DS32),
        fact("FLAT_RING3_DS64", layout::FLAT_RING3_DS64),
        fact("FLAT_RING3_SS32", layout::FLAT_RING3_SS32),
        fact("FLAT_RING3_SS64", layout::FLAT_RING3_SS64),
        fact("FLAT_KERNEL_CS", layout::FLAT_KERNEL_CS),
        fact("FLAT_KERNEL_DS", layout::FLAT_KERNEL_DS),
        fact("FLAT_KERNEL_SS", layout::FLAT_KERNEL_SS),
        fact("FLAT_USER_CS", layout::FLAT_USER_CS),
        fact("FLAT_USER_DS", layout::FLAT_USER_DS),
        fact("FLAT_USER_SS", layout::FLAT_USER_SS),
        fact("FIRST_RESERVED_GDT_PAGE", layout::FIRST_RESERVED_GDT_PAGE),
        fact("FIRST_RESERVED_GDT_BYTE", layout::FIRST_RESERVED_GDT_BYTE),
        fact("FIRST_RESERVED_GDT_ENTRY", layout::FIRST_RESERVED_GDT_ENTRY),
        fact("XEN_LEGACY_MAX_VCPUS", layout::LEGACY_MAX_VCPUS as u64),
        fact("XEN_CPUID_FIRST_LEAF", cpuid::BASE),
        fact("XEN_CPUID_SIGNATURE_EBX", cpuid::SIGNATURE[0]),
        fact("XEN_CPUID_SIGNATURE_ECX", cpuid::SIGNATURE[1]),
        fact("XEN_CPUID_SIGNATURE_EDX", cpuid::SIGNATURE[2]),
        fact("XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD", cpuid::FEATURE_PRESERVE_AD),
        fact("XEN_CPUID_MACHINE_ADDRESS_WIDTH_MASK", cpuid::MACHINE_ADDRESS_WIDTH_MASK),
        fact("XEN_CPUID_LEAF(XEN_CPUID_MAX_NUM_LEAVES)", cpuid::LAST),
    ]
}

fn flags() -> Vec<Fact> {
    vec![
        fact("SIF_PRIVILEGED", StartFlags::PRIVILEGED.bits()),
        fact("SIF_INITDOMAIN", StartFlags::INITDOMAIN.bits()),
        fact("SIF_MULTIBOOT_MOD", StartFlags::MULTIBOOT_MOD.bits()),
        fact("SIF_MOD_START_PFN", StartFlags::MOD_START_PFN.bits()),
        fact("SIF_VIRT_P2M_4TOOLS", StartFlags::VIRT_P2M_4TOOLS.bits()),
        fact("SIF_PM_MASK", StartFlags::PM_MASK.bits()),
        fact("XEN_PVCLOCK_TSC_STABLE_BIT", ClockFlags::TSC_STABLE.bits()),
        fact("XEN_PVCLOCK_GUEST_STOPPED", ClockFlags::GUEST_STOPPED.bits()),
        fact("VGCF_i387_valid", GuestContextFlags::I387_VALID.bits()),
        fact("VGCF_in_kernel", GuestContextFlags::IN_KERNEL.bits()),
        fact("VGCF_failsafe_disables_events", GuestContextFlags::FAILSAFE_DISABLES_EVENTS.bits()),
        fact("VGCF_syscall_disables_events", GuestContextFlags::SYSCALL_DISABLES_EVENTS.bits()),
        fact("VGCF_online", GuestContextFlags::ONLINE.bits()),
        fact("VGCF_in_syscall", GuestContextFlags::IN_SYSCALL.bits()),
        fact("UVMF_NONE", mmu::UVMF_NONE),
        fact("UVMF_TLB_FLUSH", mmu::UVMF_TLB_FLUSH),
        fact("UVMF_INVLPG", mmu::UVMF_INVLPG),
        fact("UVMF_FLUSHTYPE_MASK", mmu::UVMF_FLUSHTYPE_MASK),
        fact("UVMF_MULTI", mmu::UVMF_MULTI),
        fact("UVMF_LOCAL", mmu::UVMF_LOCAL),
        fact("UVMF_ALL", mmu::UVMF_ALL),
        fact("CALLBACKF_mask_events", callback::MASK_EVENTS),
        fact("VCPU_SSHOTTMR_future", vcpu::SINGLESHOT_FUTURE),
        fact("XEN_RUNSTATE_UPDATE", vcpu::RUNSTATE_UPDATE),
        fact("XENIRQSTAT_needs_eoi", physdev::STATUS_NEEDS_EOI),
        fact("XENIRQSTAT_shared", physdev::STATUS_SHARED),
        fact("XEN_PCI_DEV_EXTFN", physdev::PCI_EXTFN),
        fact("XEN_PCI_DEV_VIRTFN", physdev::PCI_VIRTFN),
        fact("XEN_PCI_DEV_PXM", physdev::PCI_PXM),
        fact("XEN_PCI_MMCFG_RESERVED", physdev::MMCFG_RESERVED),
        fact("XENMEMF_address_bits(255)", memory::ADDRESS_BITS_MASK),
        fact("XENMEMF_populate_on_demand", memory::POPULATE_ON_DEMAND),
        fact("XENMEMF_exact_node_request", memory::EXACT_NODE),
        fact("XENMEMF_vnode", memory::VNODE),
        fact("GNTCOPY_source_gref", grant::COPY_SOURCE_GREF),
        fact("GNTCOPY_dest_gref", grant::COPY_DEST_GREF),
    ]
}

fn states() -> Vec<Fact> {
    let mut all = Vec::new();
    all.extend(Features::all().iter_names().map(|(name, bit)| {
        let name = match name {
            "ARM_SMCCC_SUPPORTED" => "ARM_SMCCC_supported".to_owned(),
            other => other.to_lowercase(),
        };
        fact(&format!("1 << XENFEAT_{name}"), bit.bits())
    }));
    let state = |name: &str, bits: grant::EntryState| fact(&format!("GTF_{name}"), bits.bits());
    all.extend([
        state("permit_access", grant::EntryState::PERMIT_ACCESS),
        state("accept_transfer", grant::EntryState::ACCEPT_TRANSFER),
        state("type_mask", grant::EntryState::TYPE_MASK),
        state("readonly", grant::EntryState::READONLY),
        state("reading", grant::EntryState::READING),
        state("writing", grant::EntryState::WRITING),
        state("PWT", grant::EntryState::PWT),
        state("PCD", grant::EntryState::PCD),
        state("PAT", grant::EntryState::PAT),
        state("sub_page", grant::EntryState::SUB_PAGE),
    ]);
    let map = |name: &str, bits: grant::MapFlags| fact(&format!("GNTMAP_{name}"), bits.bits());
    all.extend([
        map("device_map", grant::MapFlags::DEVICE_MAP),
        map("host_map", grant::MapFlags::HOST_MAP),
        map("readonly", grant::MapFlags::READONLY),
        map("application_map", grant::MapFlags::APPLICATION_MAP),
        map("contains_pte", grant::MapFlags::CONTAINS_PTE),
        map("guest_avail_mask", grant::MapFlags::GUEST_AVAIL_MASK),
    ]);
    all
}

/// Of `domctl` and `sysctl`.
fn control() -> Vec<Fact> {
    let case = |prefix: &str, name: &str| match (prefix, name) {
        ("XEN_VCPUAFFINITY_", _) => name.to_owned(),
        _ => name.to_lowercase(),
    };
    let mut all = vec![
        fact("XEN_DOMCTL_INTERFACE_VERSION", domctl::INTERFACE_VERSION),
        fact("XEN_DOMCTL_GRANT_version_mask", domctl::GRANT_VERSION_MASK),
        fact("XEN_INVALID_MAX_VCPU_ID", domctl::INVALID_MAX_VCPU_ID),
        fact("XEN_DOMINF_shutdownshift", domctl::SHUTDOWN_SHIFT),
        fact("XEN_DOMINF_shutdownmask", domctl::SHUTDOWN_MASK),
        fact("XEN_SYSCTL_INTERFACE_VERSION", sysctl::INTERFACE_VERSION),
        fact("XEN_INVALID_CORE_ID", sysctl::INVALID_ID),
        fact("XEN_SYSCTL_PERFCOP_reset", sysctl::PERFC_RESET),
        fact("XEN_SYSCTL_PERFCOP_query", sysctl::PERFC_QUERY),
    ];
    let mut flags = |prefix: &str, name: &str, bits: u32| {
        all.push(fact(&format!("{prefix}{}", case(prefix, name)), bits));
    };
    for (name, bit) in domctl::CreateFlags::all().iter_names() {
        flags("XEN_DOMCTL_CDF_", name, bit.bits());
    }
    for (name, bit) in domctl::DomainFlags::all().iter_names() {
        flags("XEN_DOMINF_", name, bit.bits());
    }
    for (name, bit) in domctl::AffinityFlags::all().iter_names() {
        flags("XEN_VCPUAFFINITY_", name, bit.bits());
    }
    for (name, bit) in sysctl::Capabilities::all().iter_names() {
        flags("XEN_SYSCTL_PHYSCAP_", name, bit.bits());
    }
    all
}

fn limits() -> Vec<Fact> {
    vec![
        fact("NR_VIRQS", virq::COUNT),
        fact("MAX_GUEST_CMDLINE", start::StartInfo::COMMAND_LINE as u64),
        fact("XEN_VGATYPE_TEXT_MODE_3", start::VGA_TEXT_MODE_3),
        fact("XEN_VGATYPE_VESA_LFB", start::VGA_VESA_LFB),
        fact("XEN_VGATYPE_EFI_LFB", start::VGA_EFI_LFB),
        fact("EVTCHN_2L_NR_CHANNELS", event::TWO_LEVEL_PORTS),
        fact("GNTTAB_NR_RESERVED_ENTRIES", grant::RESERVED_ENTRIES),
        fact("GNTTAB_RESERVED_CONSOLE", grant::RESERVED_CONSOLE.0),
        fact("GNTTAB_RESERVED_XENSTORE", grant::RESERVED_XENSTORE.0),
        fact("4096 / sizeof(grant_entry_v1_t)", grant::ENTRIES_PER_FRAME),
        fact("XENSTORE_RING_SIZE", xenstore::RING_SIZE),
        fact("XENSTORE_PAYLOAD_MAX", xenstore::PAYLOAD_MAX),
        fact("XENSTORE_ABS_PATH_MAX", xenstore::ABSOLUTE_PATH_MAX),
        fact("XENSTORE_REL_PATH_MAX", xenstore::RELATIVE_PATH_MAX),
        fact("BLKIF_MAX_SEGMENTS_PER_REQUEST", blkif::DIRECT_SEGMENTS),
        fact("BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST", blkif::INDIRECT_PAGES),
        fact("4096 / sizeof(struct blkif_request_segment)", blkif::SEGMENTS_PER_PAGE),
        fact("offsetof(struct blkif_sring, ring)", blkif::RING_HEADER),
        fact("sizeof(union blkif_sring_entry)", blkif::SLOT_SIZE),
        fact("offsetof(struct netif_tx_sring, ring)", netif::RING_HEADER),
        fact("sizeof(union netif_tx_sring_entry)", netif::TX_SLOT),
        fact("sizeof(union netif_rx_sring_entry)", netif::RX_SLOT),
        fact("__CONST_RING_SIZE(netif_tx, 4096)", netif::RING_SLOTS),
        fact("__CONST_RING_SIZE(netif_rx, 4096)", netif::RING_SLOTS),
        fact("XEN_NETIF_NR_SLOTS_MIN", netif::MIN_SLOTS),
        fact("XEN_NETIF_MAX_TX_SIZE", netif::MAX_TX_SIZE),
        fact("XEN_NETIF_EXTRA_FLAG_MORE", netif::EXTRA_MORE),
        fact("BLKIF_DISCARD_SECURE", blkif::DISCARD_SECURE),
        fact("XENPF_INTERFACE_VERSION", platform::INTERFACE_VERSION),
        fact("XEN_EXTRAVERSION_LEN", version::EXTRAVERSION_SIZE as u64),
        fact("XEN_CAPABILITIES_INFO_LEN", version::CAPABILITIES_SIZE as u64),
        fact("XEN_CHANGESET_INFO_LEN", version::CHANGESET_SIZE as u64),
        fact("sizeof(xen_commandline_t)", version::COMMANDLINE_SIZE as u64),
        fact("sizeof(xen_domain_handle_t)", version::HANDLE_SIZE as u64),
    ]
}

/// How many slots a ring has by its number of pages.
fn rings() -> Vec<Fact> {
    let blocks = blkif::RING_SLOTS.iter().zip(0..);
    blocks
        .map(|(slots, n)| fact(&format!("__CONST_RING_SIZE(blkif, 4096u << {n})"), *slots))
        .collect()
}

/// Numbers that are the machine's or our own, which no header of Xen has.
#[allow(dead_code, reason = "of the golden file alone")]
pub(crate) fn ours() -> Vec<Fact> {
    let mut all = vec![
        fact("cpuid::EXTENSION_BASE", cpuid::EXTENSION_BASE),
        fact("cpuid::EXTENSION_SIGNATURE ebx", cpuid::EXTENSION_SIGNATURE[0]),
        fact("cpuid::EXTENSION_SIGNATURE ecx", cpuid::EXTENSION_SIGNATURE[1]),
        fact("cpuid::EXTENSION_SIGNATURE edx", cpuid::EXTENSION_SIGNATURE[2]),
        fact("cpuid::EXTENSION_VERSION_NUMBER", cpuid::EXTENSION_VERSION_NUMBER),
        fact("cpuid::HYPERCALL_PAGE_MSR", cpuid::HYPERCALL_PAGE_MSR),
        fact("layout::HYPERCALL_PAGE_SLOT", layout::HYPERCALL_PAGE_SLOT as u64),
        fact("layout::HYPERVISOR_FIRST_SLOT", layout::HYPERVISOR_FIRST_SLOT as u64),
        fact("layout::HYPERVISOR_SLOTS", layout::HYPERVISOR_SLOTS as u64),
        fact("layout::INVALID_M2P_ENTRY", layout::INVALID_M2P_ENTRY),
        fact("layout::SHARED_M2P_ENTRY", layout::SHARED_M2P_ENTRY),
        fact("layout::MAX_LDT_ENTRIES", layout::MAX_LDT_ENTRIES),
        fact("memory::E820_RAM", memory::E820_RAM),
        fact("trap::TrapInfo::MASK_EVENTS", trap::TrapInfo::MASK_EVENTS),
        fact("version::NUMBER", version::NUMBER),
    ];
    all.extend(
        EntryFlags::all()
            .iter_names()
            .map(|(name, bit)| fact(&format!("mmu::EntryFlags::{name}"), bit.bits())),
    );
    all
}
