//! `scheduler_op`: a domain's share of the machine, in the terms of the credit scheduler.

use hypercall_abi::domctl::{SCHEDULER_CREDIT2, SCHEDULER_GET, SCHEDULER_PUT, SchedulerOp};
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
}
