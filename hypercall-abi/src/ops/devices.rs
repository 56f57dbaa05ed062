//! Sub-ops about the real machine and its devices.

sub_ops! { physdev "PHYSDEVOP_" "Sub-ops of `physdev_op`." {
    4 IRQ_UNMASK_NOTIFY "IRQ_UNMASK_NOTIFY" Any Done "Does nothing; of old guests.";
    5 IRQ_STATUS_QUERY "irq_status_query" Any Done "How an interrupt is to be handled.";
    6 SET_IOPL "set_iopl" Any Done "Sets the virtual I/O privilege level.";
    7 SET_IOBITMAP "set_iobitmap" Any Done "Says which ports user mode may use.";
    8 APIC_READ "apic_read" Privileged Done "Reads a register of an I/O APIC.";
    9 APIC_WRITE "apic_write" Privileged Done "Writes a register of an I/O APIC.";
    10 ALLOC_IRQ_VECTOR "alloc_irq_vector" Privileged Done "Checks an interrupt; the vector has no meaning.";
    11 FREE_IRQ_VECTOR "free_irq_vector" Privileged Absent "Does nothing.";
    12 EOI "eoi" Any Done "Reports that an interrupt was handled.";
    13 MAP_PIRQ "map_pirq" Control Done "Gives a wired interrupt or a message a number.";
    14 UNMAP_PIRQ "unmap_pirq" Control Done "Takes the number back.";
    15 MANAGE_PCI_ADD "manage_pci_add" Privileged Done "Reports a device; the oldest form.";
    16 MANAGE_PCI_REMOVE "manage_pci_remove" Privileged Done "Reports a device gone; the oldest form.";
    17 PIRQ_EOI_GMFN_V1 "pirq_eoi_gmfn_v1" Any Done "Keeps a bit map of interrupts that need their end reported, and unmasks on it.";
    19 RESTORE_MSI "restore_msi" Privileged Done "Sets a device's messages again after sleep; the older form.";
    20 MANAGE_PCI_ADD_EXT "manage_pci_add_ext" Privileged Done "Reports a device; the older form.";
    21 SETUP_GSI "setup_gsi" Privileged Done "Sets trigger and polarity of a wired interrupt.";
    23 GET_FREE_PIRQ "get_free_pirq" Any Done "Returns a number that is free.";
    24 PCI_MMCFG_RESERVED "pci_mmcfg_reserved" Privileged Refused(ENODEV) "Reports a range of PCI configuration space.";
    25 PCI_DEVICE_ADD "pci_device_add" Privileged Done "Reports a device.";
    26 PCI_DEVICE_REMOVE "pci_device_remove" Privileged Done "Reports a device gone.";
    27 RESTORE_MSI_EXT "restore_msi_ext" Privileged Done "Sets a device's messages again after sleep.";
    28 PIRQ_EOI_GMFN_V2 "pirq_eoi_gmfn_v2" Any Done "Keeps a bit map of interrupts that need their end reported.";
    29 DBGP_OP "dbgp_op" Privileged Done "Of a USB debug port.";
    30 PREPARE_MSIX "prepare_msix" Privileged Done "Prepares a device's table of messages.";
    31 RELEASE_MSIX "release_msix" Privileged Done "Ends that.";
}}

sub_ops! { platform "XENPF_" "Sub-ops of `platform_op`." {
    17 SETTIME32 "settime32" Privileged Absent "Sets the wall clock until 2106.";
    31 ADD_MEMTYPE "add_memtype" Privileged Absent "Sets the memory type of a range.";
    32 DEL_MEMTYPE "del_memtype" Privileged Absent "Removes it.";
    33 READ_MEMTYPE "read_memtype" Privileged Absent "Reads it.";
    35 MICROCODE_UPDATE "microcode_update" Privileged Absent "Loads microcode.";
    39 PLATFORM_QUIRK "platform_quirk" Privileged Absent "Reports a fault of the machine.";
    48 GET_CPU_VERSION "get_cpu_version" Privileged Done "A real CPU's family, model and stepping.";
    49 EFI_RUNTIME_CALL "efi_runtime_call" Privileged Absent "Calls the EFI firmware.";
    50 FIRMWARE_INFO "firmware_info" Privileged Absent "What the firmware said at boot.";
    51 ENTER_ACPI_SLEEP "enter_acpi_sleep" Privileged Absent "Puts the machine to sleep or switches it off.";
    52 CHANGE_FREQ "change_freq" Privileged Absent "Reports a real CPU's new frequency.";
    53 GETIDLETIME "getidletime" Privileged Absent "How long real CPUs were idle.";
    54 SET_PROCESSOR_PMINFO "set_processor_pminfo" Privileged Absent "Passes on what ACPI says of power states.";
    55 GET_CPUINFO "get_cpuinfo" Privileged Done "Which real CPUs there are.";
    56 CPU_ONLINE "cpu_online" Privileged Absent "Starts a real CPU.";
    57 CPU_OFFLINE "cpu_offline" Privileged Absent "Stops a real CPU.";
    58 CPU_HOTADD "cpu_hotadd" Privileged Absent "Adds a real CPU.";
    59 MEM_HOTADD "mem_hotadd" Privileged Absent "Adds memory to the machine.";
    60 CORE_PARKING "core_parking" Privileged Absent "Keeps real CPUs idle.";
    61 RESOURCE_OP "resource_op" Privileged Absent "Reads and writes some machine registers.";
    62 SETTIME64 "settime64" Privileged Absent "Sets the wall clock.";
    63 GET_SYMBOL "get_symbol" Privileged Absent "A symbol of the hypervisor.";
}}
