//! Making domains and their vCPUs.

use hypercall_abi::domctl::{
    CreateDomain, CreateFlags, Domctl, GRANT_VERSION_MASK, HypercallInit, MaxMem, MaxVcpus,
};
use hypercall_abi::errno::Errno;
use hypercall_abi::types::{DomId, Mfn};

use super::{Payload, get};
use crate::domain::Domain;
use crate::life::NewDomain;
use crate::mm::{Mm, VcpuRoots};
use crate::platform::Platform;
use crate::sched::Reasons;
use crate::system::{Context, System};
use domain_builder::hypercall_page::{STUB_COUNT, STUB_LEN, stub};

/// Frames a grant table and a table of mapped grants can have; also what they have by default.
const MOST_GRANT_FRAMES: u32 = 64;
const MOST_MAPTRACK_FRAMES: u32 = 1024;

impl<P: Platform> System<P> {
    /// `createdomain`.
    ///
    /// # Errors
    ///
    /// - `EEXIST`: the number is taken.
    /// - `EINVAL`: flags that are unknown or of other kinds of domain; no vCPU, or too many; larger
    ///   tables than there can be; another version of grants.
    /// - `EOPNOTSUPP`: devices that are emulated.
    /// - `ESRCH`: no such pool of CPUs.
    /// - `ENOMEM`: no memory, or too many domains.
    pub(crate) fn create(&self, op: &mut Domctl) -> Result<(), Errno> {
        let asked: CreateDomain = get(&op.payload);
        let wanted = Some(op.domain).filter(|id| id.0 != 0 && id.is_domain());
        if wanted.is_some_and(|id| self.domains.get(&self.platform, id).is_some()) {
            return Err(Errno::EEXIST);
        }
        let known = CreateFlags::XS_DOMAIN | CreateFlags::OOS_OFF;
        let frames = |asked: i32, most: u32| match u32::try_from(asked) {
            Ok(frames) if frames > most => Err(Errno::EINVAL),
            asked => Ok(asked.unwrap_or(most)),
        };
        let versions = asked.grant_opts & GRANT_VERSION_MASK;
        if asked.flags & !known.bits() != 0
            || asked.grant_opts & !GRANT_VERSION_MASK != 0
            || (asked.iommu_opts, asked.vmtrace_size) != (0, 0)
            || asked.arch.misc_flags & !1 != 0
            || !(1..=2).contains(&versions)
        {
            return Err(Errno::EINVAL);
        }
        if asked.arch.emulation_flags != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let config = NewDomain {
            handle: asked.handle,
            ssidref: asked.ssidref,
            max_vcpus: asked.max_vcpus,
            max_port: asked.max_evtchn_port,
            max_grant_frames: frames(asked.max_grant_frames, MOST_GRANT_FRAMES)?,
            max_maptrack_frames: frames(asked.max_maptrack_frames, MOST_MAPTRACK_FRAMES)?,
        };
        if config.max_grant_frames == 0 {
            return Err(Errno::EINVAL);
        }
        if asked.cpupool_id != 0 {
            return Err(Errno::ESRCH);
        }
        op.domain = self.create_domain(wanted, config)?.id;
        Ok(())
    }

    /// `max_vcpus`: makes the vCPUs that the domain was created for. Those that were made when an
    /// error occurs stay, and the rest can be asked for again.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: another number than at its creation.
    /// - `ENOMEM`.
    pub(crate) fn make_vcpus(
        &self,
        domain: &P::Arc<Domain<P>>,
        payload: &Payload,
    ) -> Result<(), Errno> {
        let MaxVcpus { max } = get(payload);
        if max != domain.max_vcpus {
            return Err(Errno::EINVAL);
        }
        // One `domctl` at a time: nobody else makes any. They are down until they get a state.
        let count = u32::try_from(domain.vcpus().count()).unwrap_or(max);
        for _ in count..max {
            self.add_vcpu(domain, VcpuRoots::none()).map_err(|_| Errno::ENOMEM)?;
        }
        let against = [
            (Reasons::PAUSED, domain.pauses(&self.platform) != 0),
            (Reasons::STOPPED, domain.shutdown_reason(&self.platform).is_some()),
        ];
        for (reason, _) in against.into_iter().filter(|&(_, holds)| holds) {
            self.for_vcpus(domain, |vcpu| self.hold(vcpu, reason));
        }
        Ok(())
    }

    /// `max_mem`: a domain that has more keeps it.
    pub(crate) fn set_max_memory(domain: &Domain<P>, payload: &Payload) {
        let MaxMem { max_memkb } = get(payload);
        domain.memory.set_max_pages((max_memkb >> 2).min(u32::MAX.into()));
    }
}

impl<P: Platform> Context<'_, P> {
    /// `hypercall_init`: fills a frame of a domain with stubs.
    ///
    /// # Errors
    ///
    /// `EINVAL`: the frame is not the domain's, or is in use as a table.
    pub(crate) fn fill_stubs(&self, domain: &Domain<P>, payload: &Payload) -> Result<(), Errno> {
        let HypercallInit { gmfn } = get(payload);
        let platform = &self.system.platform;
        let mm = Mm::new(platform, &domain.memory, self.system);
        let held = mm.frames.take_writable(Mfn(gmfn), domain.memory.as_owner());
        let held = held.map_err(|_| Errno::EINVAL)?;
        for number in 0..STUB_COUNT {
            let at = usize::from(number).saturating_mul(STUB_LEN);
            platform.write_frame(held.mfn(), at, &stub(number));
        }
        // A writable frame has no entries to undo.
        let _ = mm.frames.put_type(held);
        Ok(())
    }

    /// Whether a domain is the caller's.
    pub(crate) fn is_own(&self, id: DomId) -> bool {
        self.domain.id == id
    }
}
