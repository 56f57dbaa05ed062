//! A domain's share of the machine, in the terms of the credit scheduler, and how it sees the counter.

use hypercall_abi::domctl::{
    SCHEDULER_CREDIT2, SCHEDULER_GET, SCHEDULER_PUT, SchedulerOp, TSC_ALWAYS_EMULATE, TSC_DEFAULT,
    TSC_NEVER_EMULATE, TscInfo,
};
use hypercall_abi::errno::Errno;

use super::{Payload, get, put};
use crate::domain::Domain;
use crate::platform::Platform;
use crate::system::System;

impl<P: Platform> System<P> {
    /// `scheduler_op`. Of a domain's vCPUs, none has parameters of its own.
    ///
    /// # Errors
    ///
    /// `EINVAL`: another scheduler, or a command it has not got; a cap beyond what the domain's vCPUs
    /// could use.
    pub(crate) fn scheduler_op(
        &self,
        domain: &P::Arc<Domain<P>>,
        payload: &mut Payload,
    ) -> Result<(), Errno> {
        let mut asked: SchedulerOp = get(payload);
        let share = domain.share();
        match (asked.sched_id, asked.cmd) {
            (SCHEDULER_CREDIT2, SCHEDULER_GET) => {
                asked.credit2.weight = u16::try_from(share.weight()).unwrap_or(u16::MAX);
                asked.credit2.cap = u16::try_from(share.cap()).unwrap_or(u16::MAX);
                put(payload, &asked);
            }
            (SCHEDULER_CREDIT2, SCHEDULER_PUT) => {
                if usize::from(asked.credit2.cap) > domain.vcpus().count().saturating_mul(100) {
                    return Err(Errno::EINVAL);
                }
                if asked.credit2.weight != 0 {
                    share.set_weight(asked.credit2.weight.into());
                }
                share.set_cap(&self.platform, asked.credit2.cap.into(), self.now());
                self.for_vcpus(domain, |vcpu| self.apply(self.scheduler.reconsider(vcpu)));
            }
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    /// `gettscinfo`.
    pub(crate) fn tsc_info(&self, domain: &Domain<P>) -> TscInfo {
        let (tsc_mode, incarnation) = *domain.tsc.lock(&self.platform);
        let info = TscInfo { tsc_mode, incarnation, ..TscInfo::default() };
        if tsc_mode == TSC_NEVER_EMULATE {
            return info;
        }
        let gtsc_khz = u32::try_from(self.clock.tsc_khz()).unwrap_or(u32::MAX);
        TscInfo { gtsc_khz, elapsed_nsec: self.now(), ..info }
    }

    /// `settscinfo`. Whatever is asked for, domains see the counter as it is: a rate and a beginning
    /// of their own are passed over.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: no such mode.
    /// - `EOPNOTSUPP`: a counter that is always emulated.
    pub(crate) fn set_tsc_info(&self, domain: &Domain<P>, payload: &Payload) -> Result<(), Errno> {
        let asked: TscInfo = get(payload);
        match asked.tsc_mode {
            TSC_DEFAULT | TSC_NEVER_EMULATE => {}
            TSC_ALWAYS_EMULATE => return Err(Errno::EOPNOTSUPP),
            _ => return Err(Errno::EINVAL),
        }
        let incarnation = asked.incarnation.wrapping_add(1);
        *domain.tsc.lock(&self.platform) = (asked.tsc_mode, incarnation);
        Ok(())
    }
}
