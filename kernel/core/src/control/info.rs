//! What domains and vCPUs are doing.

use hypercall_abi::domctl::{
    DomainFlags, DomainInfo, FRAME_INVALID, FRAME_L1, FRAME_L2, FRAME_L3, FRAME_L4, FRAME_NO_TABLE,
    FRAME_PINNED, GetPageFrameInfo3, GetVcpuInfo, INVALID_MAX_VCPU_ID, SHUTDOWN_SHIFT, SendTrigger,
    TRIGGER_NMI, TRIGGER_POWER, TRIGGER_SLEEP,
};
use hypercall_abi::errno::Errno;
use hypercall_abi::types::Mfn;
use hypercall_abi::vcpu::RUNNING;

use super::{Payload, get, put};
use crate::domain::{Domain, Life};
use crate::frames::FrameType;
use crate::guest_memory;
use crate::platform::Platform;
use crate::sched::Reasons;
use crate::system::{DomainVcpu, System};

/// Frames that one call looks at.
const MOST_FRAMES: u64 = 1024;
/// Xen's code of a domain that did not shut down.
const NO_REASON: u32 = u32::MAX;

/// What a domain with the machine's devices has emulated: the ports of its timer.
const EMULATED_TIMER: u32 = 1 << 8;

impl<P: Platform> System<P> {
    /// What a domain is doing at this moment.
    pub(crate) fn domain_info(&self, domain: &P::Arc<Domain<P>>) -> DomainInfo {
        let platform = &self.platform;
        let mut info = DomainInfo {
            domain: domain.id,
            max_vcpu_id: INVALID_MAX_VCPU_ID,
            tot_pages: domain.memory.pages(),
            max_pages: domain.memory.max_pages().min(u32::MAX.into()),
            shared_info_frame: domain.shared_info.0,
            ssidref: domain.ssidref,
            gpaddr_bits: address_bits(platform),
            handle: *domain.handle.lock(platform),
            ..DomainInfo::default()
        };
        if domain.is_privileged() {
            info.arch_config.emulation_flags = EMULATED_TIMER;
        }
        let mut flags = DomainFlags::BLOCKED;
        self.for_vcpus(domain, |target| {
            info.max_vcpu_id = target.vcpu.id.0;
            info.cpu_time = info.cpu_time.wrapping_add(self.time_used(target));
            let reasons = target.vcpu.scheduling.reasons();
            if !reasons.contains(Reasons::DOWN) {
                info.nr_online_vcpus = info.nr_online_vcpus.saturating_add(1);
                if !reasons.contains(Reasons::WAITING) {
                    flags.remove(DomainFlags::BLOCKED);
                }
                flags.set(
                    DomainFlags::RUNNING,
                    flags.contains(DomainFlags::RUNNING) | target.runs(),
                );
            }
        });
        if info.nr_online_vcpus == 0 {
            flags = DomainFlags::empty();
        }
        flags.set(DomainFlags::DYING, domain.life() == Life::Dead);
        let ended = domain.shutdown_reason(platform);
        flags.set(DomainFlags::SHUTDOWN, ended.is_some());
        flags.set(DomainFlags::PAUSED, domain.pauses(platform) != 0);
        let code = ended.map_or(NO_REASON, |reason| reason.0);
        info.flags = flags.bits() | code.wrapping_shl(SHUTDOWN_SHIFT);
        info
    }

    /// `getvcpuinfo`.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: the domain can't have that vCPU.
    /// - `ESRCH`: it has not got it.
    pub(crate) fn vcpu_info(
        &self,
        domain: &P::Arc<Domain<P>>,
        payload: &mut Payload,
    ) -> Result<(), Errno> {
        let asked: GetVcpuInfo = get(payload);
        let target = find::<P>(domain, asked.vcpu.0)?;
        let reasons = target.vcpu.scheduling.reasons();
        let answer = GetVcpuInfo {
            online: (!reasons.contains(Reasons::DOWN)).into(),
            blocked: reasons.contains(Reasons::WAITING).into(),
            running: target.runs().into(),
            cpu_time: self.time_used(&target),
            cpu: target.vcpu.scheduling.cpu().number().into(),
            ..asked
        };
        put(payload, &answer);
        Ok(())
    }

    /// `sendtrigger`: a non-maskable interrupt for a vCPU.
    ///
    /// # Errors
    ///
    /// - `ESRCH`: the domain has not got the vCPU.
    /// - `EINVAL`: a button of hardware-virtualised guests.
    /// - `ENOSYS`: anything else.
    pub(crate) fn send_trigger(
        &self,
        domain: &P::Arc<Domain<P>>,
        payload: &Payload,
    ) -> Result<(), Errno> {
        let SendTrigger { trigger, vcpu } = get(payload);
        let target = find::<P>(domain, vcpu.0).map_err(|_| Errno::ESRCH)?;
        match trigger {
            TRIGGER_NMI => self.send_nmi(&target),
            TRIGGER_POWER | TRIGGER_SLEEP => return Err(Errno::EINVAL),
            _ => return Err(Errno::ENOSYS),
        }
        Ok(())
    }

    /// How long a vCPU ran. Unit: nanoseconds.
    fn time_used(&self, target: &DomainVcpu<P>) -> u64 {
        let at = usize::try_from(RUNNING).unwrap_or(0);
        self.runstate(&target.vcpu).time.get(at).copied().unwrap_or(0)
    }

    /// `getpageframeinfo3`: what a domain uses frames as.
    ///
    /// # Errors
    ///
    /// - `E2BIG`: more than 1024.
    /// - `EFAULT`: the list can't be read or written; what came before has been.
    pub(crate) fn frame_info(&self, domain: &Domain<P>, payload: &Payload) -> Result<(), Errno> {
        let asked: GetPageFrameInfo3 = get(payload);
        if asked.num > MOST_FRAMES {
            return Err(Errno::E2BIG);
        }
        for number in 0..asked.num {
            let at = asked.array.wrapping_add(number.wrapping_mul(size_of::<u64>() as u64));
            let mfn = Mfn(guest_memory::read(&self.platform, at)?);
            guest_memory::write(&self.platform, at, &u64::from(self.frame_kind(domain, mfn)))?;
        }
        Ok(())
    }

    fn frame_kind(&self, domain: &Domain<P>, mfn: Mfn) -> u32 {
        let frames = self.platform.frames();
        // What changes meanwhile is as if it had been asked earlier or later.
        if frames.owner(mfn) != Some(domain.id) || mfn == domain.shared_info {
            return FRAME_INVALID;
        }
        let word = frames.word(mfn);
        let kind = match word.frame_type() {
            FrameType::L1 => FRAME_L1,
            FrameType::L2 => FRAME_L2,
            FrameType::L3 => FRAME_L3,
            FrameType::L4 => FRAME_L4,
            FrameType::None | FrameType::Writable | FrameType::Descriptors | FrameType::Shared => {
                FRAME_NO_TABLE
            }
        };
        if word.is_pinned() { kind | FRAME_PINNED } else { kind }
    }
}

impl<P: Platform> DomainVcpu<P> {
    /// Whether a CPU runs it.
    fn runs(&self) -> bool {
        self.vcpu.scheduling.is_on_cpu()
    }
}

/// Width of a machine address. Unit: bits.
pub(super) fn address_bits(platform: &impl Platform) -> u8 {
    let [max, ..] = platform.cpuid(0x8000_0000, 0);
    let [eax, ..] = if max >= 0x8000_0008 { platform.cpuid(0x8000_0008, 0) } else { [36; 4] };
    let [bits, ..] = eax.to_le_bytes();
    bits
}

/// A vCPU of a domain.
///
/// # Errors
///
/// - `EINVAL`: the domain can't have it.
/// - `ESRCH`: it has not got it.
pub(super) fn find<P: Platform>(
    domain: &P::Arc<Domain<P>>,
    number: u32,
) -> Result<DomainVcpu<P>, Errno> {
    if number >= domain.max_vcpus {
        return Err(Errno::EINVAL);
    }
    let vcpu = domain.vcpu(hypercall_abi::types::VcpuId(number)).ok_or(Errno::ESRCH)?.clone();
    Ok(DomainVcpu { domain: domain.clone(), vcpu })
}
