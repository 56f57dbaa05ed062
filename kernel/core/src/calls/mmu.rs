//! Page-table calls of a domain on itself, and how their outcome becomes an answer.

use core::fmt;

use hypercall_abi::types::DomId;

use crate::dispatch::{Answer, Reply};
use crate::mm::{DomainMemory, Mm, Progress, Refusal, Source};
use crate::platform::Platform;
use crate::system::Context;

/// `update_va_mapping(address, value, flags)`: writes the L1 entry for an address.
///
/// # Errors
///
/// - `EINVAL`: the address has no L1 table, or the entry is refused. The log says why.
/// - `EFAULT`: the set of vCPUs to flush can't be read. The entry is written.
pub fn update_va_mapping<P: Platform>(
    cx: &mut Context<'_, P>,
    [address, value, flags, ..]: [u64; 6],
) -> Answer {
    let roots = &cx.vcpu.roots;
    let progress = cx.mm().update_va_mapping(roots, (address, value, flags), Source::Own);
    cx.answer("update_va_mapping", progress, |_| [address, value, flags, 0, 0, 0])
}

impl<'a, P: Platform> Context<'a, P> {
    /// The memory of the calling domain.
    #[inline]
    pub(crate) fn mm(&self) -> Mm<'a, P, DomainMemory> {
        let memory = &self.domain.memory;
        Mm::new(&self.system.platform, memory, memory)
    }

    /// Turns what became of an operation into the call's answer; `again` gives the arguments with
    /// which the call goes on after so many of its parts.
    pub(crate) fn answer(
        &self,
        call: &str,
        progress: Progress,
        again: impl FnOnce(u64) -> [u64; 6],
    ) -> Answer {
        match progress {
            Progress::Done(value) => Ok(Reply::Value(value)),
            Progress::Again { done } => Ok(Reply::Again(again(done))),
            Progress::Refused { refusal, .. } => Err(self.refused(call, &refusal)),
        }
    }

    /// Says in the log why something was refused, and gives the error for it.
    pub(crate) fn refused(&self, call: &str, refusal: &Refusal) -> hypercall_abi::errno::Errno {
        self.explain(format_args!("{call}: {refusal}"));
        refusal.errno()
    }

    /// Logs a line that the guest has caused, as long as it may cause any.
    pub(crate) fn explain(&self, why: fmt::Arguments<'_>) {
        let DomId(domain) = self.domain.id;
        if self.domain.may_log() {
            log::info!("domain {domain} at {:#x}: {why}", self.regs.rip);
        }
    }

    /// Whether the guest has switched on an assist (ABI: `VMASST_TYPE_*`).
    pub(crate) fn has_assist(&self, number: u32) -> bool {
        self.domain.memory.has_assist(number)
    }
}
