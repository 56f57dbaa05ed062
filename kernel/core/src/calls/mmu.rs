//! Memory calls, and how their outcome becomes an answer: `mmu_update`, `mmuext_op`,
//! `update_va_mapping`, `update_descriptor`, `memory_op`.

use core::fmt;
use core::mem::offset_of;

use hypercall_abi::errno::Errno;
use hypercall_abi::memory;
use hypercall_abi::mmu::{MmuUpdate, MmuextOp};
use hypercall_abi::start::{ArchSharedInfo, SharedInfo};
use hypercall_abi::types::{DomId, VcpuId};

use crate::dispatch::{Answer, DONE, Reply, low_u32};
use crate::domain::Domain;
use crate::guest_memory;
use crate::life::Visit;
use crate::mm::reservation::{bad_continuation, continued, named_domain, sub_op};
use crate::mm::{Batch, DomainMemory, Mm, Progress, Refusal, Rights, Source, Why};
use crate::platform::Platform;
use crate::system::{Context, System};
use crate::trace::Kind;

/// Where the domain's number is in the argument of the calls about memory on demand. Unit: bytes.
const POD_DOMAIN: u64 = 32;

/// The domains that own devices and the hypervisor's frames, by name only: the frame table has no
/// frame of theirs, so whatever frame is said to be theirs is not.
static DEVICES: DomainMemory = DomainMemory::new(DomId::IO, 0);
static HYPERVISOR: DomainMemory = DomainMemory::new(DomId::XEN, 0);

/// `mmu_update(requests, count, done, domain)`: writes page-table entries and entries of the
/// machine-to-physical table.
///
/// # Errors
///
/// Of the first request that is refused; those before it are done. The log says why. A domain that
/// the caller may not name is refused by each request, one that there is not before them.
pub fn mmu_update<P: Platform>(
    cx: &mut Context<'_, P>,
    [address, count, done, domain, ..]: [u64; 6],
) -> Answer {
    let batch = Batch { address, count: low_u32(count), done };
    if batch.is_over() {
        return Ok(last_answer(domain));
    }
    if !batch.begins_in_guest() {
        return Err(Errno::EFAULT);
    }
    let tables = cx.tables(domain)?;
    let frames = match tables.as_ref().is_none_or(|tables| tables.vcpu(VcpuId(0)).is_some()) {
        true => cx.frames_of(domain),
        false => Err(Errno::EINVAL),
    };
    let frames = frames.inspect_err(|_| batch.tell_none(&cx.system.platform))?;
    let own = &**cx.domain;
    let memory = tables.as_ref().map_or(&own.memory, |tables| &tables.memory);
    let source = match frames.source() {
        Source::Own if tables.is_some() => Source::Foreign(&own.memory),
        Source::Foreign(same) if same.id() == memory.id() => Source::Own,
        source => source,
    };
    // Devices' frames anybody may name: whether he may map one is asked frame by frame.
    let may_name = own.is_privileged() || matches!(frames, Whose::Own | Whose::Devices);
    let pages = Some(source).filter(|_| may_name && tables.is_none());
    let entries = if own.is_privileged() { Some(source) } else { pages };
    let rights = Rights { entries, pages };
    let progress = cx.mm().on(memory).mmu_update(batch, rights, &mut cx.budget);
    cx.answer("mmu_update", progress, |done| {
        let rest = batch.after(done, size_of::<MmuUpdate>());
        [rest.address, u64::from(rest.count), rest.done, domain, 0, 0]
    })
}

/// `mmuext_op(operations, count, done, domain)`: pins, roots, flushes, whole pages.
///
/// # Errors
///
/// Of the first operation that is refused; those before it are done. The log says why.
pub fn mmuext_op<P: Platform>(
    cx: &mut Context<'_, P>,
    [address, count, done, domain, ..]: [u64; 6],
) -> Answer {
    let batch = Batch { address, count: low_u32(count), done };
    if batch.is_over() {
        return Ok(last_answer(domain));
    }
    if !batch.begins_in_guest() {
        return Err(Errno::EFAULT);
    }
    let whose = cx.whose(domain)?;
    let vcpu = cx.vcpu;
    let roots = &vcpu.roots;
    let before = roots.kernel();
    let mut budget = core::mem::take(&mut cx.budget);
    let set_ldt = &mut |ldt| cx.set_ldt(ldt);
    let progress = cx.mm().mmuext_op(roots, batch, whose.memory(), set_ldt, &mut budget);
    cx.budget = budget;
    if roots.kernel() != before {
        cx.forget_ldt();
    }
    cx.answer("mmuext_op", progress, |done| {
        let rest = batch.after(done, size_of::<MmuextOp>());
        [rest.address, u64::from(rest.count), rest.done, domain, 0, 0]
    })
}

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
    let vcpu = cx.vcpu;
    let roots = &vcpu.roots;
    let write = (address, value, flags);
    let progress = cx.mm().update_va_mapping(roots, write, Source::Own, &mut cx.budget);
    cx.answer("update_va_mapping", progress, |_| [address, value, flags, 0, 0, 0])
}

/// `update_va_mapping_otherdomain(address, value, flags, domain)`: the same with another domain's
/// frame.
///
/// # Errors
///
/// - `ESRCH`: there is no such domain, or the caller may not map its frames.
/// - else as [`update_va_mapping`].
pub fn update_va_mapping_otherdomain<P: Platform>(
    cx: &mut Context<'_, P>,
    [address, value, flags, domain, ..]: [u64; 6],
) -> Answer {
    let vcpu = cx.vcpu;
    let roots = &vcpu.roots;
    let whose = cx.whose(domain)?;
    let write = (address, value, flags);
    let progress = cx.mm().update_va_mapping(roots, write, whose.source(), &mut cx.budget);
    cx.answer("update_va_mapping_otherdomain", progress, |_| [address, value, flags, domain, 0, 0])
}

/// `update_descriptor(address, descriptor)`: writes one descriptor, at a machine address.
///
/// # Errors
///
/// `EINVAL`: the address is not aligned, the frame not the domain's or in use as something that may
/// not be written, or the descriptor not one that a guest may have. The log says why.
pub fn update_descriptor<P: Platform>(
    cx: &mut Context<'_, P>,
    [address, descriptor, ..]: [u64; 6],
) -> Answer {
    match cx.mm().update_descriptor(address, descriptor) {
        Ok(()) => DONE,
        Err(refusal) => {
            cx.refused("update_descriptor", &refusal);
            Err(Errno::EINVAL)
        }
    }
}

/// `memory_op(cmd, argument)`: how much memory a domain has, and which.
///
/// # Errors
///
/// By sub-op; `ENOSYS` for unknown ones. Changes of the reservation never fail: they return how many
/// extents are done.
pub fn memory_op<P: Platform>(cx: &mut Context<'_, P>, [cmd, argument, ..]: [u64; 6]) -> Answer {
    if let Some(errno) = bad_continuation(cmd) {
        return Err(errno);
    }
    let named = named_domain(&cx.system.platform, cmd, argument);
    let other = named.filter(|&domain| domain != DomId::SELF && domain != cx.domain.id);
    let other = other.map(|domain| cx.visit(domain)).transpose();
    match sub_op(cmd) {
        memory::MACHINE_MEMORY_MAP => return super::memory_map::machine_memory_map(cx, argument),
        memory::MACHPHYS_MFN_LIST => return super::memory_map::machphys_frames(cx, argument),
        memory::ACQUIRE_RESOURCE => return super::grant::acquire_table(cx, cmd, argument),
        memory::MAXIMUM_GPFN => {
            named.ok_or(Errno::EFAULT)?;
            let domain = other?;
            let domain = domain.as_ref().map_or(cx.domain, |other| &**other);
            return Ok(Reply::Value(last_page(&cx.system.platform, domain)));
        }
        memory::MEMORY_MAP => return super::memory_map::memory_map(cx, argument),
        memory::SET_MEMORY_MAP => return super::memory_map::set_memory_map(cx, argument),
        memory::CLAIM_PAGES => return claim_pages(cx, argument),
        memory::SET_POD_TARGET | memory::GET_POD_TARGET => return Err(cx.no_pod(argument)),
        _ => {}
    }
    let own = &**cx.domain;
    let target = match &other {
        Ok(None) => Ok(&own.memory),
        Ok(Some(other)) => Ok(&other.memory),
        Err(Errno::EPERM) => Err(Why::Privilege),
        Err(_) => Err(Why::Domain(named.unwrap_or(DomId::INVALID))),
    };
    let progress = cx.mm().memory_op(target, cmd, argument, &mut cx.budget);
    cx.answer("memory_op", progress, |done| [continued(cmd, done), argument, 0, 0, 0, 0])
}

/// `memory_op(claim_pages, argument)`: free frames are kept for a domain that is being built.
///
/// # Errors
///
/// - `EFAULT`: the argument can't be read.
/// - `EINVAL`: it has a list, flags or larger extents; no such domain; else as [`DomainMemory::claim`].
/// - `EPERM`: the caller is not the control domain.
/// - `ENOMEM`: there are not enough.
fn claim_pages<P: Platform>(cx: &Context<'_, P>, argument: u64) -> Answer {
    let platform = &cx.system.platform;
    let asked: memory::Reservation = guest_memory::read(platform, argument)?;
    let domain = cx.system.domains.get(platform, asked.domid);
    if (asked.extent_start, asked.extent_order, asked.mem_flags) != (0, 0, 0) || domain.is_none() {
        return Err(Errno::EINVAL);
    }
    if !cx.domain.is_privileged() {
        return Err(Errno::EPERM);
    }
    // One that is being ended gets nothing more.
    let domain = cx.system.visit(asked.domid).ok_or(Errno::EINVAL)?;
    domain.memory.claim(platform.frames(), asked.nr_extents)?;
    DONE
}

/// Whose frames a call means.
enum Whose<P: Platform> {
    /// The caller's.
    Own,
    /// What is no memory.
    Devices,
    /// The kernel's own.
    Hypervisor,
    /// Another domain's.
    Other(Visit<P>),
}

impl<P: Platform> Whose<P> {
    /// The memory of the domain, if it is not the caller.
    fn memory(&self) -> Option<&DomainMemory> {
        match self {
            Self::Own => None,
            Self::Devices => Some(&DEVICES),
            Self::Hypervisor => Some(&HYPERVISOR),
            Self::Other(domain) => Some(&domain.memory),
        }
    }

    fn source(&self) -> Source<'_> {
        match self {
            Self::Devices => Source::Devices,
            _ => self.memory().map_or(Source::Own, Source::Foreign),
        }
    }
}

/// The answer of a batch that is over: it stands in the place of the domain.
const fn last_answer(domain: u64) -> Reply {
    let [a, b, c, d, ..] = domain.to_le_bytes();
    Reply::Value((i32::from_le_bytes([a, b, c, d]) as i64).cast_unsigned())
}

/// The highest page number that a guest says it has.
fn last_page<P: Platform>(platform: &P, domain: &Domain<P>) -> u64 {
    let mut count = [0; 8];
    let at = offset_of!(SharedInfo, arch).wrapping_add(offset_of!(ArchSharedInfo, max_pfn));
    platform.read_frame(domain.shared_info, at, &mut count);
    u64::from_le_bytes(count).saturating_sub(1)
}

/// Target of log lines about what a guest did.
pub const GUEST: &str = "guest";

impl<'a, P: Platform> Context<'a, P> {
    /// The memory of the calling domain.
    #[inline]
    pub(crate) fn mm(&self) -> Mm<'a, P, System<P>> {
        Mm::new(&self.system.platform, &self.domain.memory, self.system)
    }

    /// Another domain, for the caller to change.
    ///
    /// # Errors
    ///
    /// - `ESRCH`: there is none with that number, or it is being ended.
    /// - `EPERM`: the caller is not privileged.
    pub(crate) fn visit(&self, id: DomId) -> Result<Visit<P>, Errno> {
        let visit = self.system.visit(id).ok_or(Errno::ESRCH)?;
        if self.domain.is_privileged() { Ok(visit) } else { Err(Errno::EPERM) }
    }

    /// Whose tables `mmu_update` writes, which is the upper half of its domain argument: the number
    /// plus 1, or 0 for the caller.
    fn tables(&self, domain: u64) -> Result<Option<Visit<P>>, Errno> {
        let [.., low, high, _, _, _, _] = domain.to_le_bytes();
        let tables = u16::from_le_bytes([low, high]).checked_sub(1).map(DomId);
        let other = tables.filter(|&tables| tables != self.domain.id);
        other.map(|tables| self.system.visit(tables).ok_or(Errno::ESRCH)).transpose()
    }

    /// Whose frames a call means: the low half of its domain argument. The caller's own number does
    /// not mean the caller: measured on Xen 4.17. Whether the caller may touch them is not asked.
    fn frames_of(&self, domain: u64) -> Result<Whose<P>, Errno> {
        let [low, high, ..] = domain.to_le_bytes();
        match DomId(u16::from_le_bytes([low, high])) {
            DomId::SELF => Ok(Whose::Own),
            DomId::IO => Ok(Whose::Devices),
            DomId::XEN => Ok(Whose::Hypervisor),
            id if id == self.domain.id => Err(Errno::ESRCH),
            id => self.system.visit(id).map(Whose::Other).ok_or(Errno::ESRCH),
        }
    }

    /// The same, for whoever may touch them.
    fn whose(&self, domain: u64) -> Result<Whose<P>, Errno> {
        match self.frames_of(domain)? {
            Whose::Own => Ok(Whose::Own),
            _ if !self.domain.is_privileged() => Err(Errno::EPERM),
            whose => Ok(whose),
        }
    }

    /// Why memory on demand is refused: it is not for PV guests, whoever asks.
    fn no_pod(&self, argument: u64) -> Errno {
        let domain = argument.wrapping_add(POD_DOMAIN);
        match guest_memory::read::<DomId>(&self.system.platform, domain) {
            Ok(domain) if domain == DomId::SELF || domain == self.domain.id => Errno::EINVAL,
            Ok(domain) if self.system.visit(domain).is_none() => Errno::ESRCH,
            Ok(_) => Errno::EINVAL,
            Err(_) => Errno::EFAULT,
        }
    }

    /// Turns what became of an operation into the call's answer; `again` gives the arguments with
    /// which the call goes on after so many of its parts.
    fn answer(
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
    pub(crate) fn refused(&self, call: &str, refusal: &Refusal) -> Errno {
        self.explain(format_args!("{call}: {refusal}"));
        refusal.errno()
    }

    /// Logs a line that the guest has caused, as long as it may cause any.
    pub(crate) fn explain(&self, why: fmt::Arguments<'_>) {
        if self.system.platform.is_tracing() {
            self.trace_text(Kind::Refusal, why);
        }
        let DomId(domain) = self.domain.id;
        if self.domain.may_log() {
            log::warn!(target: GUEST, "domain {domain} at {:#x}: {why}", self.regs.rip);
        }
    }

    /// Whether the guest has switched on an assist (ABI: `VMASST_TYPE_*`).
    pub(crate) fn has_assist(&self, number: u32) -> bool {
        self.domain.memory.has_assist(number)
    }
}
