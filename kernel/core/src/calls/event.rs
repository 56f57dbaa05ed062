//! `event_channel_op` (hypercall 32): ports by which domains signal each other, in the two-level
//! form alone. The form with queues does not exist, and its calls answer as without it.

use hypercall_abi::errno::Errno;
use hypercall_abi::event::{
    self, AllocUnbound, BindInterdomain, BindIpi, BindPirq, BindVcpu, BindVirq, Close, EventStatus,
    Reset, Send, SetPriority, Unmask,
};
use hypercall_abi::types::DomId;

use crate::dispatch::{Answer, DONE, Reply, low_u32};
use crate::domain::Domain;
use crate::event::{Status, Swept};
use crate::guest_memory;
use crate::platform::Platform;
use crate::system::Context;

/// `event_channel_op(cmd, argument)`.
///
/// Who is not privileged can name no domain but itself, except to bind to a port of another.
///
/// # Errors
///
/// - `EFAULT`: the argument can't be read, or the result can't be written. A port that was made
///   stays.
/// - `ESRCH`: the domain named does not exist.
/// - `EPERM`: it is not the caller's to change or to look at.
/// - `ENOSYS`: unknown command, or one of the form with queues.
/// - `EAGAIN`: while all ports were closed, others were made.
/// - As the operation: [`System`](crate::system::System).
pub fn event_channel_op<P: Platform>(
    cx: &mut Context<'_, P>,
    [cmd, argument, ..]: [u64; 6],
) -> Answer {
    let (system, domain) = (cx.system, cx.domain);
    let platform = &system.platform;
    match low_u32(cmd) {
        event::SEND => {
            let send: Send = guest_memory::read(platform, argument)?;
            system.send_event(domain, send.port)?;
        }
        event::UNMASK => {
            let unmask: Unmask = guest_memory::read(platform, argument)?;
            system.unmask_port(domain, unmask.port)?;
        }
        event::CLOSE => {
            let close: Close = guest_memory::read(platform, argument)?;
            system.close_port(domain, close.port)?;
        }
        event::BIND_VCPU => {
            let bind: BindVcpu = guest_memory::read(platform, argument)?;
            system.bind_vcpu(domain, bind.port, bind.vcpu)?;
        }
        event::ALLOC_UNBOUND => alloc_unbound(cx, argument)?,
        event::BIND_INTERDOMAIN => {
            let mut bind: BindInterdomain = guest_memory::read(platform, argument)?;
            let remote = named(cx, bind.remote_dom)?;
            bind.local_port = system.bind_interdomain(domain, &remote, bind.remote_port)?;
            guest_memory::write(platform, argument, &bind)?;
        }
        event::BIND_VIRQ => {
            let mut bind: BindVirq = guest_memory::read(platform, argument)?;
            bind.port = system.bind_virq(domain, bind.virq, bind.vcpu)?;
            guest_memory::write(platform, argument, &bind)?;
        }
        event::BIND_IPI => {
            let mut bind: BindIpi = guest_memory::read(platform, argument)?;
            bind.port = system.bind_ipi(domain, bind.vcpu)?;
            guest_memory::write(platform, argument, &bind)?;
        }
        event::BIND_PIRQ => {
            // No interrupt is shared between domains, so it does not matter whether it may be.
            let mut bind: BindPirq = guest_memory::read(platform, argument)?;
            bind.port = system.bind_pirq(domain, bind.pirq)?;
            guest_memory::write(platform, argument, &bind)?;
        }
        event::STATUS => status(cx, argument)?,
        event::RESET => return reset(cx, argument),
        event::SET_PRIORITY => {
            let set: SetPriority = guest_memory::read(platform, argument)?;
            system.port_status(domain, set.port)?;
            return Err(Errno::ENOSYS);
        }
        _ => return Err(Errno::ENOSYS),
    }
    DONE
}

/// `event_channel_op_compat(argument)` (hypercall 16): the older form, with the command in front of
/// the argument.
///
/// # Errors
///
/// - `EFAULT`: the argument, as long as the longest of them, can't be read.
/// - `ENOSYS`: the command is none of the old ones.
/// - As [`event_channel_op`].
pub fn event_channel_op_compat<P: Platform>(
    cx: &mut Context<'_, P>,
    [argument, ..]: [u64; 6],
) -> Answer {
    let [cmd, ..]: [u32; COMPAT_WORDS] = guest_memory::read(&cx.system.platform, argument)?;
    if cmd > event::UNMASK {
        return Err(Errno::ENOSYS);
    }
    let behind = argument.wrapping_add(size_of::<u32>() as u64);
    event_channel_op(cx, [u64::from(cmd), behind, 0, 0, 0, 0])
}

/// Length of the older form's argument. Unit: words of 32 bits.
const COMPAT_WORDS: usize = 1 + size_of::<EventStatus>() / size_of::<u32>();

/// The domain that the caller named.
fn named<P: Platform>(cx: &Context<'_, P>, id: DomId) -> Result<P::Arc<Domain<P>>, Errno> {
    if id == DomId::SELF || id == cx.domain.id {
        return Ok(cx.domain.clone());
    }
    cx.system.domains.get(&cx.system.platform, id).ok_or(Errno::ESRCH)
}

/// Whether the caller may change or look at a domain's ports.
fn permitted<P: Platform>(cx: &Context<'_, P>, domain: &Domain<P>) -> Result<(), Errno> {
    if cx.domain.is_privileged() || domain.id == cx.domain.id { Ok(()) } else { Err(Errno::EPERM) }
}

fn alloc_unbound<P: Platform>(cx: &Context<'_, P>, argument: u64) -> Result<(), Errno> {
    let platform = &cx.system.platform;
    let mut alloc: AllocUnbound = guest_memory::read(platform, argument)?;
    let owner = named(cx, alloc.dom)?;
    permitted(cx, &owner)?;
    let remote = match alloc.remote_dom {
        DomId::SELF => cx.domain.id,
        other => other,
    };
    alloc.port = cx.system.alloc_unbound(&owner, remote)?;
    Ok(guest_memory::write(platform, argument, &alloc)?)
}

fn status<P: Platform>(cx: &Context<'_, P>, argument: u64) -> Result<(), Errno> {
    let platform = &cx.system.platform;
    let mut told: EventStatus = guest_memory::read(platform, argument)?;
    let owner = named(cx, told.dom)?;
    let (status, vcpu) = cx.system.port_status(&owner, told.port)?;
    permitted(cx, &owner)?;
    // A domain's number fills the lower half; what a kind of port has not stays as it was.
    let with = |remote: DomId| told.detail & 0xffff_0000 | u32::from(remote.0);
    match status {
        Status::Closed => told.status = event::STATUS_CLOSED,
        Status::Unbound(remote) => {
            (told.status, told.detail) = (event::STATUS_UNBOUND, with(remote));
        }
        Status::Interdomain(remote, port) => {
            (told.status, told.detail) = (event::STATUS_INTERDOMAIN, with(remote));
            told.remote_port = port;
        }
        Status::Virq(number) => (told.status, told.detail) = (event::STATUS_VIRQ, number),
        Status::Pirq(number) => (told.status, told.detail) = (event::STATUS_PIRQ, number),
        Status::Ipi => told.status = event::STATUS_IPI,
    }
    told.vcpu = vcpu;
    Ok(guest_memory::write(platform, argument, &told)?)
}

fn reset<P: Platform>(cx: &Context<'_, P>, argument: u64) -> Answer {
    let platform = &cx.system.platform;
    let reset: Reset = guest_memory::read(platform, argument)?;
    let owner = named(cx, reset.dom)?;
    permitted(cx, &owner)?;
    // Another domain's are closed only while it is paused.
    if owner.id != cx.domain.id && owner.pauses(platform) == 0 {
        return Err(Errno::EINVAL);
    }
    match cx.system.close_ports(&owner) {
        Swept::All => DONE,
        Swept::Some => Ok(Reply::Again([u64::from(event::RESET), argument, 0, 0, 0, 0])),
        Swept::Raced => Err(Errno::EAGAIN),
    }
}
