//! `extension` (hypercall 55): this system's own calls.

use hypercall_abi::errno::Errno;
use hypercall_abi::extension as abi;

use crate::dispatch::{Answer, Reply, low_u32};
use crate::platform::Platform;
use crate::system::Context;

/// What of one audit is logged. Unit: lines.
const LOGGED: u64 = 16;

/// `extension(op)`.
///
/// - `version`: the version of these calls.
/// - `audit`: counts all references to all frames while all other CPUs stand still in ring 0, says on
///   the hypervisor's log what does not fit, and returns how many things do not. It takes as long as
///   that takes, with interrupts off on all CPUs: it is for tests.
///
/// # Errors
///
/// - `EPERM`: an audit for a domain that is not privileged.
/// - `ENOMEM`: there are not enough free frames in a row for the counts.
/// - `ENOSYS`: unknown sub-op.
pub fn extension<P: Platform>(cx: &Context<'_, P>, args: [u64; 6]) -> Answer {
    let [op, ..] = args;
    match low_u32(op) {
        abi::VERSION => Ok(Reply::Value(abi::VERSION_NUMBER.into())),
        abi::AUDIT if !cx.domain.is_privileged() => Err(Errno::EPERM),
        abi::AUDIT => match cx.system.alone(|| audit(cx)) {
            Some(found) => found.map(Reply::Value),
            // This CPU stands still for the other on its way out.
            None => Ok(Reply::Again(args)),
        },
        _ => Err(Errno::ENOSYS),
    }
}

fn audit<P: Platform>(cx: &Context<'_, P>) -> Result<u64, Errno> {
    let mut found: u64 = 0;
    let report = |imbalance| {
        found = found.saturating_add(1);
        if found <= LOGGED {
            log::error!("audit: {imbalance}");
        }
    };
    cx.system.audit(report).map_err(|_| Errno::ENOMEM)?;
    Ok(found)
}
