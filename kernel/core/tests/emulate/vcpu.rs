//! A virtual processor that records what is done to it.

use kernel_core::emulate::control::CR4_GUEST;
use kernel_core::emulate::msr::MachineCheck;
use kernel_core::emulate::port::{IoPrivilege, KernelRing};
use kernel_core::emulate::state::{BaseMsr, Facts, Mode, PrivilegedState, Refused, Vendor};
use kernel_core::emulate::width::Width;
use kernel_core::guest_memory::{GuestFault, GuestRange};

/// Where the mapped page begins.
pub(crate) const PAGE: u64 = 0x11_8000;

/// An initial domain's boot vCPU as Xen 4.17 shows it on an Intel processor with AVX.
pub(crate) struct Vcpu {
    pub(crate) facts: Facts,
    pub(crate) cr4_features: u64,
    pub(crate) xcr0_features: u64,
    pub(crate) mode: Mode,
    pub(crate) io: IoPrivilege,
    pub(crate) open_ports: Vec<u16>,
    /// A port with the first breakpoint.
    pub(crate) watched: Option<u16>,
    /// A port that reaches the machine.
    pub(crate) direct: Option<u16>,
    pub(crate) handles_faults: bool,
    pub(crate) task_switched: bool,
    pub(crate) fault_address: u64,
    pub(crate) root: u64,
    pub(crate) cr4: u64,
    pub(crate) debug: [u64; 8],
    pub(crate) xcr0: u64,
    pub(crate) bases: [u64; 3],
    pub(crate) tsc_aux: Option<u32>,
    pub(crate) machine_check: MachineCheck,
    pub(crate) write_backs: u32,
    /// Values written to ports; reads give ones.
    pub(crate) written: Vec<(u16, Width, u32)>,
    /// The one page that is mapped.
    pub(crate) page: [u8; 4096],
}

impl Default for Vcpu {
    fn default() -> Self {
        Self {
            facts: Facts { vendor: Vendor::Intel, microcode: 0x1_0000_0000, is_boot_vcpu: true },
            cr4_features: CR4_GUEST,
            xcr0_features: 0xe7,
            mode: Mode::Kernel,
            io: IoPrivilege { level: 1, kernel_ring: KernelRing::Ring1 },
            open_ports: Vec::new(),
            watched: None,
            direct: None,
            handles_faults: true,
            task_switched: false,
            fault_address: 0,
            root: 0x1ed3_d000,
            cr4: 0,
            debug: [0, 0, 0, 0, 0, 0, 0xffff_0ff0, 0x400],
            xcr0: 3,
            bases: [0; 3],
            tsc_aux: Some(0),
            machine_check: MachineCheck::default(),
            write_backs: 0,
            written: Vec::new(),
            page: [0; 4096],
        }
    }
}

impl Vcpu {
    fn offset(range: GuestRange) -> Result<std::ops::Range<usize>, GuestFault> {
        for byte in 0..u64::try_from(range.len()).unwrap() {
            let address = range.start() + byte;
            if !(PAGE..PAGE + 4096).contains(&address) {
                return Err(GuestFault { address });
            }
        }
        let start = usize::try_from(range.start() - PAGE).unwrap();
        Ok(start..start + range.len())
    }
}

const fn base_index(which: BaseMsr) -> usize {
    match which {
        BaseMsr::Fs => 0,
        BaseMsr::Gs => 1,
        BaseMsr::KernelGs => 2,
    }
}

impl PrivilegedState for Vcpu {
    fn facts(&self) -> Facts {
        self.facts
    }

    fn cr4_features(&self) -> u64 {
        self.cr4_features
    }

    fn xcr0_features(&self) -> u64 {
        self.xcr0_features
    }

    fn mode(&self) -> Mode {
        self.mode
    }

    fn is_task_switched(&self) -> bool {
        self.task_switched
    }

    fn set_task_switched(&mut self, set: bool) {
        self.task_switched = set;
    }

    fn fault_address(&self) -> u64 {
        self.fault_address
    }

    fn set_fault_address(&mut self, address: u64) {
        self.fault_address = address;
    }

    fn root(&self) -> u64 {
        self.root
    }

    fn set_root(&mut self, machine_address: u64) -> Result<(), Refused> {
        if machine_address == self.root { Ok(()) } else { Err(Refused) }
    }

    fn cr4(&self) -> u64 {
        self.cr4
    }

    fn set_cr4(&mut self, bits: u64) {
        self.cr4 = bits;
    }

    fn debug_register(&self, number: u8) -> u64 {
        self.debug[usize::from(number)]
    }

    fn set_debug_register(&mut self, number: u8, value: u64) -> Result<(), Refused> {
        if value == 0xdead {
            return Err(Refused);
        }
        self.debug[usize::from(number)] = value;
        Ok(())
    }

    fn xcr0(&self) -> u64 {
        self.xcr0
    }

    fn set_xcr0(&mut self, value: u64) {
        self.xcr0 = value;
    }

    fn segment_base(&self, which: BaseMsr) -> u64 {
        self.bases[base_index(which)]
    }

    fn set_segment_base(&mut self, which: BaseMsr, address: u64) {
        self.bases[base_index(which)] = address;
    }

    fn tsc_aux(&self) -> Option<u32> {
        self.tsc_aux
    }

    fn set_tsc_aux(&mut self, value: u32) {
        self.tsc_aux = Some(value);
    }

    fn fill_hypercall_page(&mut self, _mfn: hypercall_abi::types::Mfn) -> Result<(), Refused> {
        Err(Refused)
    }

    fn timestamp(&self) -> u64 {
        0x1_2345_6789
    }

    fn machine_check(&mut self) -> &mut MachineCheck {
        &mut self.machine_check
    }

    fn cpuid(&self, leaf: u32, subleaf: u32) -> [u32; 4] {
        [leaf, subleaf, !leaf, !subleaf]
    }

    fn write_back_caches(&mut self) {
        self.write_backs += 1;
    }

    fn io_privilege(&self) -> IoPrivilege {
        self.io
    }

    fn handles_protection_fault(&self) -> bool {
        self.handles_faults
    }

    fn port_breakpoints(&self, port: u16, width: Width) -> u64 {
        let ports = port..=port.saturating_add(u16::try_from(width.bytes()).unwrap() - 1);
        u64::from(self.watched.is_some_and(|watched| ports.contains(&watched)))
    }

    fn port_map_admits(&self, port: u16) -> bool {
        self.open_ports.contains(&port)
    }

    fn reaches_machine(&self, port: u16, _: Width) -> bool {
        self.direct == Some(port)
    }

    fn port_in(&mut self, _: u16, _: Width) -> u32 {
        u32::MAX
    }

    fn port_out(&mut self, port: u16, width: Width, value: u32) {
        self.written.push((port, width, value));
    }

    fn read_guest(&self, from: GuestRange, into: &mut [u8]) -> Result<(), GuestFault> {
        into.copy_from_slice(&self.page[Self::offset(from)?]);
        Ok(())
    }

    fn write_guest(&mut self, to: GuestRange, from: &[u8]) -> Result<(), GuestFault> {
        self.page[Self::offset(to)?].copy_from_slice(from);
        Ok(())
    }
}
