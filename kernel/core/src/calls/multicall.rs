//! `multicall` (hypercall 13): several calls for the price of one entry.

use core::mem::offset_of;

use hypercall_abi::call::Hypercall;
use hypercall_abi::errno::Errno;
use hypercall_abi::multicall::MulticallEntry;

use crate::dispatch::{Answer, DONE, Reply, low_u32};
use crate::guest_memory;
use crate::platform::Platform;
use crate::system::Context;

/// What a call costs beside its own work: so many of those that cost nothing else are made before
/// the batch is continued. Unit: page-table entries.
const COST: u32 = 64;
/// Bytes of an entry.
const ENTRY: u64 = size_of::<MulticallEntry>() as u64;

/// `multicall(entries, count)`: executes the calls in order and stores each result in its entry. A
/// call that fails does not stop the batch; one that leaves kernel mode (`iret`) ends it.
///
/// # Errors
///
/// - `EFAULT`: an entry can't be read or written. The calls before it were executed.
/// - Within a batch, another `multicall` answers `EINVAL`.
pub fn multicall<P: Platform>(cx: &mut Context<'_, P>, [entries, count, ..]: [u64; 6]) -> Answer {
    let count = low_u32(count);
    // Where the list begins is looked at even if it is empty; where it ends, when that is reached.
    if !guest_memory::may_begin_at(entries) {
        return Err(Errno::EFAULT);
    }
    let mut at = entries;
    for done in 0..count {
        let again = Ok(Reply::Again([at, u64::from(count.wrapping_sub(done)), 0, 0, 0, 0]));
        // The entry's budget is that of all its calls; the first finds it whole. In a domain that has
        // stopped no vCPU goes on: one that does after all, as it is resumed, goes on with the rest.
        let stopped = cx.domain.shutdown_reason(&cx.system.platform).is_some();
        if cx.budget.is_spent() || stopped && done > 0 {
            return again;
        }
        cx.budget.charge(COST);
        let entry: MulticallEntry = guest_memory::read(&cx.system.platform, at)?;
        let result = match one(cx, &entry) {
            Ok(Reply::Value(value)) => value,
            Ok(Reply::Registers) => return Ok(Reply::Registers),
            Ok(Reply::Again(args)) => {
                let behind = at.wrapping_add(offset_of!(MulticallEntry, args) as u64);
                guest_memory::write(&cx.system.platform, behind, &args)?;
                return again;
            }
            Err(errno) => errno.to_raw().cast_unsigned(),
        };
        let field = at.wrapping_add(offset_of!(MulticallEntry, result) as u64);
        guest_memory::write(&cx.system.platform, field, &result)?;
        at = at.wrapping_add(ENTRY);
    }
    DONE
}

fn one<P: Platform>(cx: &mut Context<'_, P>, entry: &MulticallEntry) -> Answer {
    if entry.op == u64::from(Hypercall::Multicall.number()) {
        return Err(Errno::EINVAL);
    }
    cx.call_traced(entry.op, entry.args, true)
}
