//! What is kept of a vCPU's registers while no CPU runs it, and the way from the machine and back.

use hypercall_abi::errno::Errno;
use hypercall_abi::types::Mfn;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::cpu::CpuId;
use crate::emulate::xcr0;
use crate::mm::Mode;
use crate::platform::{Platform, SegmentBase};
use crate::regs::GuestRegs;
use crate::system::DomainVcpu;

/// The registers of x87, SSE and AVX, as `xsave` writes them in its standard form; without AVX or `xsave`,
/// the first part of that.
#[derive(Clone, Debug, FromBytes, Immutable, IntoBytes)]
#[repr(C, align(64))]
pub struct FpuState {
    /// x87 and SSE, as `fxsave` writes them.
    legacy: [u8; Self::LEGACY],
    /// The parts that are not as at reset (XSTATE_BV).
    parts: u64,
    /// The rest of the header: to load anything but zeros would fault.
    zeros: [u64; 7],
    /// The upper halves of the AVX registers.
    upper: [u8; 256],
}

impl FpuState {
    /// Bytes of x87 and SSE.
    pub const LEGACY: usize = 512;

    /// The state a vCPU starts with: FCW 0x37f, MXCSR 0x1f80, registers empty.
    pub const INITIAL: Self = {
        let mut legacy = [0; Self::LEGACY];
        [legacy[0], legacy[1]] = [0x7f, 0x03];
        [legacy[24], legacy[25]] = [0x80, 0x1f];
        Self { legacy, parts: 0, zeros: [0; 7], upper: [0; 256] }
    };

    /// A state that a guest described, of x87 and SSE. Bits of MXCSR that no processor has are dropped: loading
    /// them would fault.
    #[must_use]
    pub fn from_guest(legacy: [u8; Self::LEGACY]) -> Self {
        Self { legacy, parts: xcr0::AT_FIRST, ..Self::INITIAL }.loadable()
    }

    /// x87 and SSE.
    #[must_use]
    pub const fn legacy(&self) -> &[u8; Self::LEGACY] {
        &self.legacy
    }

    /// Whether the header names the compacted form.
    pub(crate) const fn is_compact(&self) -> bool {
        let [form, ..] = self.zeros;
        form >> 63 != 0
    }

    /// The same, if all that the header names is of these parts, which are kept here: only then it can be loaded.
    ///
    /// # Errors
    ///
    /// - `EOPNOTSUPP`: the compacted form.
    /// - `EIO`: bits that must be 0.
    pub(crate) fn checked(self, parts: u64) -> Option<Result<Self, Errno>> {
        let [form, rest @ ..] = self.zeros;
        if self.parts & !parts != 0 {
            return None;
        }
        Some(match (form, rest) {
            (0, [0, 0, 0, 0, 0, 0]) => Ok(self.loadable()),
            (0, _) => Err(Errno::EIO),
            _ => Err(Errno::EOPNOTSUPP),
        })
    }

    /// Without what no processor could load.
    fn loadable(mut self) -> Self {
        self.legacy.iter_mut().skip(26).take(2).for_each(|byte| *byte = 0);
        self
    }
}

/// The data segment selectors.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Selectors {
    /// DS.
    pub ds: u16,
    /// ES.
    pub es: u16,
    /// FS.
    pub fs: u16,
    /// GS.
    pub gs: u16,
}

impl Selectors {
    /// Those that name a descriptor of the LDT.
    pub(crate) fn of_ldt(self) -> impl Iterator<Item = u16> {
        const LOCAL: u16 = 4;
        [self.ds, self.es, self.fs, self.gs].into_iter().filter(|selector| selector & LOCAL != 0)
    }
}

/// Registers of a vCPU that does not run. Its debug registers, CR4 and the like are in
/// [`crate::vcpu::State`] at all times.
#[derive(Debug)]
pub struct Saved {
    /// General registers.
    pub regs: GuestRegs,
    /// Data segments.
    pub selectors: Selectors,
    /// Bases of FS, of GS as the mode that is active sees it, and of the other mode's GS.
    pub bases: [u64; 3],
    /// Floating point.
    pub fpu: FpuState,
}

/// The bases in the order in which they are kept.
const BASES: [SegmentBase; 3] = [SegmentBase::Fs, SegmentBase::GsActive, SegmentBase::GsInactive];

impl Saved {
    /// All zero, but for the floating-point state that a vCPU starts with.
    #[must_use]
    pub fn new() -> Self {
        Self {
            regs: GuestRegs::default(),
            selectors: Selectors::default(),
            bases: [0; 3],
            fpu: FpuState::INITIAL,
        }
    }
}

impl Default for Saved {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Platform> DomainVcpu<P> {
    /// Keeps what this CPU's registers hold of the vCPU. They stay as they are.
    pub(crate) fn save(&self, platform: &P, regs: &GuestRegs) {
        let mut saved = self.vcpu.saved.lock(platform);
        saved.regs = *regs;
        saved.selectors = platform.data_selectors();
        saved.bases = BASES.map(|base| platform.segment_base(base));
        platform.save_fpu(&mut saved.fpu);
    }

    /// Gives this CPU all that belongs to the vCPU but its address space. False if a data selector could not be loaded: it
    /// is null then, and the guest is to be told.
    pub(crate) fn load(&self, platform: &P, cpu: CpuId, regs: &mut GuestRegs) -> bool {
        let vcpu = &self.vcpu;
        vcpu.set_last_cpu(Some(cpu));
        let state = vcpu.state.lock(platform);
        platform.load_window(vcpu.window);
        platform.load_ldt(vcpu.window, state.tables.ldt_entries());
        let saved = vcpu.saved.lock(platform);
        *regs = saved.regs;
        let loaded = platform.load_data_selectors(saved.selectors);
        for (base, value) in BASES.into_iter().zip(saved.bases) {
            platform.set_segment_base(base, value);
        }
        platform.load_fpu(&saved.fpu, state.xcr0);
        platform.set_task_switched(state.task_switched);
        platform.set_guest_cr4(state.cr4);
        platform.set_tsc_aux(state.tsc_aux);
        state.debug.load(platform);
        loaded
    }

    /// Makes the vCPU's address space this CPU's, of the mode it is in.
    pub(crate) fn load_address_space(&self, platform: &P) {
        self.vcpu.roots.resume(platform, &self.domain.memory, self.vcpu.mode());
    }

    /// The root of the page tables of the mode it is in.
    pub(crate) fn root(&self) -> Option<Mfn> {
        match self.vcpu.mode() {
            Mode::Kernel => self.vcpu.roots.kernel(),
            Mode::User => self.vcpu.roots.user(),
        }
    }
}

#[cfg(test)]
mod tests;
