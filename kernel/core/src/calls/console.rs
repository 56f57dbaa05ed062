//! `console_io` (hypercall 18): the machine's console, for every domain to write to.
//!
//! Unlike a release build of Xen, which lets only the initial domain use it, every domain may write:
//! a guest under development prints from its first instruction on, before it has a console ring. What
//! is typed is the initial domain's alone, which hears of it by the virtual interrupt `CONSOLE`.

use hypercall_abi::console;
use hypercall_abi::errno::Errno;

use crate::dispatch::{Answer, DONE, Reply, low_u32};
use crate::guest_memory::GuestRange;
use crate::platform::Platform;
use crate::system::Context;

/// Bytes taken from the guest at a time.
const PIECE: usize = 128;
/// What such a piece costs of a slice: 32 KiB are the whole of it.
const COST: u32 = 16;

/// `console_io(cmd, count, buffer)`: writes `count` bytes, or reads at most that many.
///
/// Returns 0 for a write, the number of bytes for a read.
///
/// # Errors
///
/// - `EPERM`: anything else by a domain that is not the initial one: what is typed is for one reader.
/// - `EFAULT`: the buffer can't be read or written. What came before is written.
/// - `E2BIG`: a read of more than `i32::MAX` bytes.
/// - `ENOSYS`: unknown sub-op.
pub fn console_io<P: Platform>(
    cx: &mut Context<'_, P>,
    [cmd, count, buffer, ..]: [u64; 6],
) -> Answer {
    let count = low_u32(count);
    match low_u32(cmd) {
        console::WRITE => write(cx, buffer, count),
        _ if !cx.domain.is_privileged() => Err(Errno::EPERM),
        console::READ => read(cx, buffer, count),
        _ => Err(Errno::ENOSYS),
    }
}

fn write<P: Platform>(cx: &mut Context<'_, P>, buffer: u64, count: u32) -> Answer {
    let mut at = buffer;
    let mut left = count;
    while left > 0 {
        if left < count && cx.budget.is_spent() {
            return Ok(Reply::Again([u64::from(console::WRITE), u64::from(left), at, 0, 0, 0]));
        }
        let mut piece = [0; PIECE];
        let taken = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let piece = piece.get_mut(..taken).ok_or(Errno::EINVAL)?;
        cx.budget.charge(COST);
        cx.system.platform.read_guest(GuestRange::new(at, taken)?, piece)?;
        cx.system.platform.console_write(piece);
        let taken = u32::try_from(taken).unwrap_or(left);
        at = at.wrapping_add(u64::from(taken));
        left = left.saturating_sub(taken);
    }
    DONE
}

fn read<P: Platform>(cx: &Context<'_, P>, buffer: u64, count: u32) -> Answer {
    let count = i32::try_from(count).map_err(|_| Errno::E2BIG)?.cast_unsigned();
    let mut done: u32 = 0;
    while done < count {
        let mut piece = [0; PIECE];
        let wanted = usize::try_from(count.saturating_sub(done)).unwrap_or(PIECE).min(PIECE);
        let at = buffer.wrapping_add(u64::from(done));
        let room = piece.get_mut(..wanted).ok_or(Errno::EINVAL)?;
        let got = cx.system.platform.console_read(room);
        if got == 0 {
            break;
        }
        let bytes = room.get(..got).ok_or(Errno::EINVAL)?;
        cx.system.platform.write_guest(GuestRange::new(at, got)?, bytes)?;
        done = done.saturating_add(u32::try_from(got).unwrap_or(0));
    }
    Ok(Reply::Value(u64::from(done)))
}
