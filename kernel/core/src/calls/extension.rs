//! `extension` (hypercall 55): this system's own calls.

use hypercall_abi::errno::Errno;
use hypercall_abi::extension::{self as abi, Rings};

use crate::dispatch::{Answer, DONE, Reply, low_u32};
use crate::guest_memory;
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
/// - `set_rings`, `get_rings`: a record of each domain's, which whoever builds it makes, so that the
///   initial domain need not be the only one who knows. Nothing follows from it here: frames and ports
///   in it are judged when they are used.
///
/// # Errors
///
/// - `EPERM`: all but the version, for a domain that is not privileged.
/// - `EFAULT`: the argument can't be read, or the answer written.
/// - `EINVAL`: a field that must be 0 is not.
/// - `ESRCH`: there is no such domain.
/// - `ENOMEM`: there are not enough free frames in a row for the counts.
/// - `ENOSYS`: unknown sub-op.
pub fn extension<P: Platform>(cx: &Context<'_, P>, args: [u64; 6]) -> Answer {
    let [op, argument, ..] = args;
    match low_u32(op) {
        abi::VERSION => Ok(Reply::Value(abi::VERSION_NUMBER.into())),
        abi::AUDIT | abi::SET_RINGS | abi::GET_RINGS if !cx.domain.is_privileged() => {
            Err(Errno::EPERM)
        }
        op @ (abi::SET_RINGS | abi::GET_RINGS) => rings(cx, op == abi::SET_RINGS, argument),
        abi::AUDIT => match cx.system.alone(|| audit(cx)) {
            Some(found) => found.map(Reply::Value),
            // This CPU stands still for the other on its way out.
            None => Ok(Reply::Again(args)),
        },
        _ => Err(Errno::ENOSYS),
    }
}

fn rings<P: Platform>(cx: &Context<'_, P>, set: bool, argument: u64) -> Answer {
    let platform = &cx.system.platform;
    let asked: Rings = guest_memory::read(platform, argument)?;
    if (asked.pad, asked.pad1) != (0, 0) {
        return Err(Errno::EINVAL);
    }
    let domain = cx.system.domains.get(platform, asked.domain).ok_or(Errno::ESRCH)?;
    if set {
        *domain.rings.lock(platform) = asked;
    } else {
        let rings = *domain.rings.lock(platform);
        guest_memory::write(platform, argument, &rings)?;
    }
    DONE
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
