//! The virtual processor that privileged instructions of a guest see: what [`crate::emulate`] asks
//! for, answered from the vCPU's state and the machine.

use core::sync::atomic::Ordering;

use hypercall_abi::layout::FORCED_EMULATION_PREFIX;
use hypercall_abi::types::{Mfn, PAGE_SHIFT};
use hypercall_abi::vm_assist::TYPE_ARCHITECTURAL_IOPL;

use crate::cpuid::{self, Viewer};
use crate::debug::Written;
use crate::descriptors;
use crate::domain::Domain;
use crate::emulate::code::{CodeSize, NoDecode};
use crate::emulate::control::{CR4_DE, CR4_OSXSAVE};
use crate::emulate::execute::{self, After, Fault, Outcome};
use crate::emulate::msr::MachineCheck;
use crate::emulate::port::{IoPrivilege, KernelRing};
use crate::emulate::privileged::Decoded;
use crate::emulate::state::{BaseMsr, Facts, Mode, PrivilegedState, Refused, Vendor};
use crate::emulate::width::Width;
use crate::emulate::{forced, privileged};
use crate::guest_memory::{self, GuestFault, GuestRange};
use crate::lock::Guard;
use crate::mm::{Budget, Mm, Stop};
use crate::platform::{Platform, SegmentBase};
use crate::system::{Context, System};
use crate::trap::GENERAL_PROTECTION;
use crate::vcpu::{State, Vcpu};
use domain_builder::hypercall_page::{STUB_COUNT, STUB_LEN, stub};

/// A vCPU while an instruction is executed on its behalf.
struct VirtualCpu<'a, P: Platform> {
    system: &'a System<P>,
    domain: &'a Domain<P>,
    vcpu: &'a Vcpu,
    machine_check: MachineCheck,
    /// The instruction has done only a part of a long piece of work, and is to be repeated.
    again: bool,
}

impl<P: Platform> Context<'_, P> {
    /// Executes the privileged instruction at RIP. False if it is none of those, and the fault is
    /// the guest's.
    pub(crate) fn privileged_instruction(&mut self) -> bool {
        let rip = self.regs.rip;
        let code = self.code_segment();
        match privileged::decode(code.size, &|offset: u8| self.fetch_byte(code, rip, offset)) {
            Ok(decoded) => self.execute(code.size, decoded),
            Err(NoDecode::Locked) => {
                self.inject(crate::trap::INVALID_OPCODE, None);
                true
            }
            // The code 0, of a read: Xen does not say more either.
            Err(NoDecode::Unreadable(offset @ 1..)) => {
                self.guest_page_fault(code.size.next(rip, offset), 0);
                true
            }
            Err(_) => false,
        }
    }

    /// Executes the instruction behind the forced-emulation prefix at RIP. False if there is none. Where
    /// not even a prefix can be read, that is the fault: measured on Xen 4.17.
    pub(crate) fn forced_instruction(&mut self) -> bool {
        let rip = self.regs.rip;
        let code = self.code_segment();
        let mut prefix = (0..).zip(FORCED_EMULATION_PREFIX);
        if let Some((offset, _)) = prefix.find(|&(at, _)| self.fetch_byte(code, rip, at).is_none())
        {
            self.guest_page_fault(code.size.next(rip, offset), 0);
            return true;
        }
        match forced::decode(&|offset: u8| self.fetch_byte(code, rip, offset)) {
            Ok(decoded) => self.execute(code.size, decoded),
            Err(_) => false,
        }
    }

    fn execute(&mut self, size: CodeSize, decoded: Decoded) -> bool {
        let platform = &self.system.platform;
        let machine_check = self.vcpu.state.lock(platform).machine_check;
        let (system, domain, vcpu) = (self.system, self.domain, self.vcpu);
        let mut cpu = VirtualCpu::<P> { system, domain, vcpu, machine_check, again: false };
        let outcome = execute::execute(&mut cpu, self.regs, size, decoded);
        self.vcpu.state.lock(platform).machine_check = cpu.machine_check;
        if cpu.again {
            return true;
        }
        match outcome {
            Outcome::NotOurs => return false,
            Outcome::Emulated(After::Continue) => {}
            Outcome::Emulated(After::DebugException(causes)) => self.debug_exception_of(causes),
            Outcome::Inject(Fault::InvalidOpcode) => self.inject(crate::trap::INVALID_OPCODE, None),
            Outcome::Inject(Fault::GeneralProtection) => self.general_protection(0),
            Outcome::Inject(Fault::Page { address, error_code }) => {
                self.guest_page_fault(address, error_code);
            }
        }
        true
    }
}

impl<P: Platform> VirtualCpu<'_, P> {
    fn platform(&self) -> &P {
        &self.system.platform
    }

    fn state(&self) -> Guard<'_, State> {
        self.vcpu.state.lock(self.platform())
    }
}

impl<P: Platform> PrivilegedState for VirtualCpu<'_, P> {
    fn facts(&self) -> Facts {
        let [_, ebx, ..] = self.platform().cpuid(0, 0);
        Facts {
            vendor: match &ebx.to_le_bytes() {
                b"Genu" => Vendor::Intel,
                b"Auth" | b"Hygo" => Vendor::Amd,
                _ => Vendor::Other,
            },
            microcode: self.platform().microcode(),
            is_boot_vcpu: self.vcpu.id.0 == 0,
        }
    }

    fn cr4_features(&self) -> u64 {
        self.system.cr4_features(self.domain)
    }

    fn xcr0_features(&self) -> u64 {
        self.system.xcr0_features(self.domain)
    }

    fn mode(&self) -> Mode {
        if self.vcpu.in_kernel_mode() { Mode::Kernel } else { Mode::User }
    }

    fn handles_protection_fault(&self) -> bool {
        self.state().traps.get(GENERAL_PROTECTION).is_set()
    }

    fn is_task_switched(&self) -> bool {
        self.state().task_switched
    }

    fn set_task_switched(&mut self, set: bool) {
        self.state().task_switched = set;
        self.platform().set_task_switched(set);
    }

    fn fault_address(&self) -> u64 {
        self.vcpu.cr2.load(Ordering::Relaxed)
    }

    fn set_fault_address(&mut self, address: u64) {
        self.vcpu.set_cr2(self.platform(), address);
    }

    fn root(&self) -> u64 {
        self.vcpu.roots.kernel().map_or(0, |root| root.0.wrapping_shl(PAGE_SHIFT))
    }

    fn set_root(&mut self, machine_address: u64) -> Result<(), Refused> {
        let memory = &self.domain.memory;
        let mm = Mm::new(self.platform(), memory, self.system);
        let (mfn, budget) = (Mfn(machine_address >> PAGE_SHIFT), &mut Budget::new());
        let pending = mm.finish_pending(budget);
        match pending.and_then(|()| mm.new_root(&self.vcpu.roots, mfn, budget)) {
            Ok(()) => {
                descriptors::forget_ldt(self.system, self.domain, self.vcpu);
                Ok(())
            }
            Err(Stop::Again) => {
                self.again = true;
                Err(Refused)
            }
            Err(Stop::Refused(_)) => Err(Refused),
        }
    }

    fn cr4(&self) -> u64 {
        self.state().cr4
    }

    fn set_cr4(&mut self, bits: u64) {
        self.state().cr4 = bits;
        self.platform().set_guest_cr4(bits);
    }

    fn debug_register(&self, number: u8) -> u64 {
        let state = self.state();
        state.debug.get(u64::from(number), state.cr4).unwrap_or(0)
    }

    fn set_debug_register(&mut self, number: u8, value: u64) -> Result<(), Refused> {
        let mut state = self.state();
        let cr4 = state.cr4;
        let written = state.debug.set(u64::from(number), value, cr4);
        drop(state);
        written.map_err(|_| Refused)?.apply(self.platform());
        Ok(())
    }

    fn xcr0(&self) -> u64 {
        self.state().xcr0
    }

    fn set_xcr0(&mut self, value: u64) {
        let mut state = self.state();
        state.xcr0 = value;
        state.xcr0_ever |= value;
        drop(state);
        self.platform().set_xcr0(value);
    }

    fn segment_base(&self, which: BaseMsr) -> u64 {
        self.platform().segment_base(base(which))
    }

    fn set_segment_base(&mut self, which: BaseMsr, address: u64) {
        self.platform().set_segment_base(base(which), address);
    }

    fn tsc_aux(&self) -> Option<u32> {
        /// CPUID 0x80000001, edx: `rdtscp`.
        const RDTSCP: u32 = 1 << 27;
        let [_, _, _, edx] = self.platform().cpuid(0x8000_0001, 0);
        (edx & RDTSCP != 0).then(|| self.state().tsc_aux)
    }

    fn set_tsc_aux(&mut self, value: u32) {
        self.state().tsc_aux = value;
        self.platform().set_tsc_aux(value);
    }

    fn fill_hypercall_page(&mut self, mfn: Mfn) -> Result<(), Refused> {
        let memory = &self.domain.memory;
        let mm = Mm::new(self.platform(), memory, self.system);
        let held = mm.frames.take_writable(mfn, memory.as_owner()).map_err(|_| Refused)?;
        for number in 0..STUB_COUNT {
            let at = usize::from(number).wrapping_mul(STUB_LEN);
            self.platform().write_frame(mfn, at, &stub(number));
        }
        // A writable frame has nothing to undo.
        let _ = mm.frames.put_type(held);
        Ok(())
    }

    fn timestamp(&self) -> u64 {
        self.platform().tsc()
    }

    fn machine_check(&mut self) -> &mut MachineCheck {
        &mut self.machine_check
    }

    fn cpuid(&self, leaf: u32, subleaf: u32) -> [u32; 4] {
        let viewer = match self.mode() {
            _ if !self.domain.is_privileged() => Viewer::Other,
            Mode::Kernel => Viewer::InitialKernel,
            Mode::User => Viewer::InitialUser,
        };
        let limits = *self.domain.cpuid.lock(self.platform());
        let registers = cpuid::policy(self.system, viewer, &limits, (leaf, subleaf));
        // As on Xen, a kernel is told OSXSAVE even before it sets the bit: Linux relies on that.
        let on = self.mode() == Mode::Kernel || self.cr4() & CR4_OSXSAVE != 0;
        cpuid::as_it_runs(self.platform(), (leaf, subleaf), registers, on)
    }

    fn write_back_caches(&mut self) {
        if self.domain.is_privileged() {
            self.platform().write_back_caches();
        }
    }

    fn io_privilege(&self) -> IoPrivilege {
        let level = (self.state().iopl >> 12) & 3;
        let architectural = self.domain.memory.has_assist(TYPE_ARCHITECTURAL_IOPL);
        IoPrivilege {
            level: u8::try_from(level).unwrap_or(0),
            kernel_ring: if architectural { KernelRing::Ring0 } else { KernelRing::Ring1 },
        }
    }

    fn port_map_admits(&self, port: u16) -> bool {
        let (map, ports) = self.state().port_map;
        if u32::from(port) >= ports {
            return false;
        }
        // The map is where the kernel has it, whoever runs.
        let (roots, platform) = (&self.vcpu.roots, self.platform());
        let in_user_mode = self.mode() == Mode::User;
        if in_user_mode {
            roots.enter_kernel(platform);
        }
        let bits = guest_memory::read::<u8>(platform, map.wrapping_add(u64::from(port >> 3)));
        if in_user_mode {
            // It has a root: it runs on it.
            let _ = roots.enter_user(platform);
        }
        bits.is_ok_and(|bits| bits.wrapping_shr(u32::from(port & 7)) & 1 == 0)
    }

    fn reaches_machine(&self, port: u16, width: Width) -> bool {
        self.system.has_ports(self.domain, port, width)
    }

    fn port_in(&mut self, port: u16, width: Width) -> u32 {
        self.system.port_in(self.domain, port, width)
    }

    fn port_out(&mut self, port: u16, width: Width, value: u32) {
        self.system.port_out(self.domain, port, width, value);
    }

    fn port_breakpoints(&self, port: u16, width: Width) -> u64 {
        let state = self.state();
        if state.cr4 & CR4_DE == 0 { 0 } else { state.debug.on_port(port, width) }
    }

    fn read_guest(&self, from: GuestRange, into: &mut [u8]) -> Result<(), GuestFault> {
        self.platform().read_guest(from, into)
    }

    fn write_guest(&mut self, to: GuestRange, from: &[u8]) -> Result<(), GuestFault> {
        self.platform().write_guest(to, from)
    }
}

/// Where the processor keeps the base that an MSR names.
const fn base(which: BaseMsr) -> SegmentBase {
    match which {
        BaseMsr::Fs => SegmentBase::Fs,
        BaseMsr::Gs => SegmentBase::GsActive,
        BaseMsr::KernelGs => SegmentBase::GsInactive,
    }
}

impl Written {
    /// Tells the processor.
    pub(crate) fn apply(self, platform: &impl Platform) {
        match self {
            Self::Address { number, address } => platform.set_breakpoint(number, address),
            Self::Control(control) => platform.set_debug_control(control),
            Self::Status => {}
        }
    }
}
