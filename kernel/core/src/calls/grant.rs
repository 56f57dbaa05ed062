//! `grant_table_op` (hypercall 20): letting another domain map or copy a page.

use hypercall_abi::errno::Errno;
use hypercall_abi::grant::{
    self, CacheFlush, GetStatusFrames, GetVersion, GrantCopy, MapGrantRef, QuerySize, SetVersion,
    SetupTable, SwapGrantRef, Transfer, UnmapGrantRef,
};
use hypercall_abi::memory::{
    AcquireResource, RESOURCE_GRANT_TABLE, RESOURCE_IOREQ_SERVER, RESOURCE_VMTRACE,
};
use hypercall_abi::types::{DomId, Mfn, PAGE_SIZE};
use zerocopy::{FromBytes, IntoBytes};

use crate::dispatch::{Answer, DONE, Reply, low_u32};
use crate::domain::Domain;
use crate::grant::{Copier, Grants, Peer, Removed, Status, Unmap};
use crate::guest_memory;
use crate::mm::{Budget, reservation};
use crate::platform::Platform;
use crate::system::Context;

/// The bits of the first argument that are the sub-op. Xen keeps in the others how far a call has
/// got that is continued.
const COMMAND: u32 = 0xfff;
/// The only version of tables.
const VERSION: u32 = 1;
/// Grants that are unmapped with one flush.
const UNMAPPED_AT_ONCE: u32 = 32;
/// What an operation costs of a slice, and a copy for every so many bytes. Unit: page-table entries.
const COST: u32 = 32;
const BYTES_PER_ENTRY: u16 = 128;

/// `grant_table_op(cmd, argument, count)`: `count` operations of one kind, each with a status of its
/// own; some sub-ops want exactly one.
///
/// # Errors
///
/// - `EINVAL`: the count is negative, or not the one that the sub-op wants;
/// - `EFAULT`: an argument can't be read, or its status not written; those before it are done;
/// - `ENOSYS`: the sub-op is unknown, or the version is one that tables don't have here.
pub fn grant_table_op<P: Platform>(
    cx: &mut Context<'_, P>,
    [cmd, argument, count, ..]: [u64; 6],
) -> Answer {
    let (cmd, count) = (low_u32(cmd), low_u32(count));
    if count.cast_signed() < 0 {
        return Err(Errno::EINVAL);
    }
    let batch = Batch { cmd, address: argument, count };
    let mut budget = core::mem::take(&mut cx.budget);
    let answer = operate(cx, batch, &mut budget);
    cx.budget = budget;
    answer
}

fn operate<P: Platform>(cx: &Context<'_, P>, batch: Batch, budget: &mut Budget) -> Answer {
    let Batch { cmd, address: argument, .. } = batch;
    match cmd & COMMAND {
        grant::CACHE_FLUSH => batch.cache_flush(cx, budget),
        _ if cmd & !COMMAND != 0 => Err(Errno::EINVAL),
        grant::MAP_GRANT_REF => batch.map(cx, budget),
        grant::UNMAP_GRANT_REF | grant::UNMAP_AND_REPLACE => batch.unmap(cx, budget),
        grant::COPY => batch.copy(cx, budget),
        grant::TRANSFER => batch.transfer(cx, budget),
        grant::SWAP_GRANT_REF => batch.swap(cx, budget),
        grant::SETUP_TABLE => batch.alone().and_then(|at| setup_table(cx, at)),
        grant::QUERY_SIZE => batch.alone().and_then(|at| query_size(cx, at)),
        grant::GET_STATUS_FRAMES => batch.alone().and_then(|at| status_frames(cx, at)),
        grant::SET_VERSION => set_version(cx, argument),
        grant::GET_VERSION => get_version(cx, argument),
        _ => Err(Errno::ENOSYS),
    }
}

/// Operations of one kind.
#[derive(Clone, Copy)]
struct Batch {
    cmd: u32,
    address: u64,
    count: u32,
}

impl Batch {
    /// The address of the only argument.
    const fn alone(self) -> Result<u64, Errno> {
        if self.count == 1 { Ok(self.address) } else { Err(Errno::EINVAL) }
    }

    /// Calls `one` for each argument in turn, with its address. What is left when the slice is used
    /// up comes later.
    fn each<P: Platform, T: FromBytes + IntoBytes>(
        self,
        cx: &Context<'_, P>,
        budget: &mut Budget,
        mut one: impl FnMut(T, u64, &mut Budget) -> Result<(), Errno>,
    ) -> Answer {
        if !guest_memory::may_begin_at(self.address) {
            return Err(Errno::EFAULT);
        }
        for done in 0..self.count {
            let rest = self.after::<T>(done);
            if done > 0 && budget.is_spent() {
                return rest.again();
            }
            budget.charge(COST);
            let asked = guest_memory::read(&cx.system.platform, rest.address)?;
            one(asked, rest.address, budget)?;
        }
        DONE
    }

    /// What is left after so many.
    const fn after<T>(self, done: u32) -> Self {
        let bytes = (size_of::<T>() as u64).wrapping_mul(done as u64);
        let (address, count) = (self.address.wrapping_add(bytes), self.count.saturating_sub(done));
        Self { address, count, ..self }
    }

    fn again(self) -> Answer {
        Ok(Reply::Again([u64::from(self.cmd), self.address, u64::from(self.count), 0, 0, 0]))
    }

    fn map<P: Platform>(self, cx: &Context<'_, P>, budget: &mut Budget) -> Answer {
        let (grants, mut peer) = (cx.grants(), Peer::none());
        self.each(cx, budget, |mut asked: MapGrantRef, at, _| {
            let mapped = grants.map(&mut peer, &asked);
            asked.status = Status::of(&mapped);
            if let Ok((handle, mfn)) = mapped {
                (asked.handle, asked.dev_bus_addr) = (handle, mfn.address());
            }
            Ok(guest_memory::write(&cx.system.platform, at, &asked)?)
        })
    }

    /// Both sub-ops: their arguments have the same form.
    fn unmap<P: Platform>(self, cx: &Context<'_, P>, budget: &mut Budget) -> Answer {
        if !guest_memory::may_begin_at(self.address) {
            return Err(Errno::EFAULT);
        }
        let mut peer = Peer::none();
        let mut rest = self;
        while rest.count > 0 {
            if budget.is_spent() {
                return rest.again();
            }
            let some = rest.count.min(UNMAPPED_AT_ONCE);
            budget.charge(COST.wrapping_mul(some));
            rest.unmap_some(cx, some, &mut peer)?;
            rest = rest.after::<UnmapGrantRef>(some);
        }
        DONE
    }

    fn unmap_some<P: Platform>(
        self,
        cx: &Context<'_, P>,
        some: u32,
        peer: &mut Peer<P>,
    ) -> Result<(), Errno> {
        let (grants, platform) = (cx.grants(), &cx.system.platform);
        let mut removed: heapless::Vec<Removed, { UNMAPPED_AT_ONCE as usize }> =
            heapless::Vec::new();
        let done = (0..some).try_for_each(|index| {
            let at = self.after::<UnmapGrantRef>(index).address;
            let asked: UnmapGrantRef = guest_memory::read(platform, at)?;
            let (dev_bus_addr, new_addr) = match self.cmd {
                grant::UNMAP_GRANT_REF => (asked.dev_bus_addr, 0),
                _ => (0, asked.dev_bus_addr),
            };
            let UnmapGrantRef { handle, host_addr, .. } = asked;
            let unmapped = grants.unmap(peer, Unmap { handle, host_addr, dev_bus_addr, new_addr });
            let status = Status::of(&unmapped);
            removed.extend(unmapped.ok().flatten());
            write_status(cx, at, core::mem::offset_of!(UnmapGrantRef, status), status)
        });
        if !removed.is_empty() {
            grants.flush_removed();
        }
        while let Some(removed) = removed.pop() {
            grants.finish(peer, removed);
        }
        done
    }

    fn copy<P: Platform>(self, cx: &Context<'_, P>, budget: &mut Budget) -> Answer {
        let mut copier = Copier::new(cx.grants());
        let answer = self.each(cx, budget, |asked: GrantCopy, at, budget| {
            budget.charge(u32::from(asked.len / BYTES_PER_ENTRY));
            let status = Status::of(&copier.copy(&asked));
            write_status(cx, at, core::mem::offset_of!(GrantCopy, status), status)
        });
        copier.finish();
        answer
    }

    /// Pages are not given away: each is answered as one that can't be, as pages in use are.
    fn transfer<P: Platform>(self, cx: &Context<'_, P>, budget: &mut Budget) -> Answer {
        self.each(cx, budget, |_: Transfer, at, _| {
            write_status(cx, at, core::mem::offset_of!(Transfer, status), grant::BAD_PAGE)
        })
    }

    fn swap<P: Platform>(self, cx: &Context<'_, P>, budget: &mut Budget) -> Answer {
        self.each(cx, budget, |asked: SwapGrantRef, at, _| {
            let table = &cx.domain.grants;
            let status = Status::of(&table.swap(&cx.system.platform, asked.ref_a, asked.ref_b));
            write_status(cx, at, core::mem::offset_of!(SwapGrantRef, status), status)
        })
    }

    /// Memory is cached write-back and devices see what is cached: there is nothing to do but to say
    /// what may not be asked.
    fn cache_flush<P: Platform>(self, cx: &Context<'_, P>, budget: &mut Budget) -> Answer {
        // Xen keeps there which entry of another's table to look at next. Here all are looked at.
        let mut begun = self.cmd & !COMMAND != 0;
        self.each(cx, budget, |asked: CacheFlush, _, budget| {
            budget.charge(u32::MAX);
            let end = usize::from(asked.offset).saturating_add(usize::from(asked.length));
            let unknown = asked.op & !(CLEAN | DISCARD) != 0;
            if usize::from(asked.offset) >= PAGE_SIZE || end > PAGE_SIZE || unknown {
                return Err(Errno::EINVAL);
            }
            let begun = core::mem::take(&mut begun);
            if asked.length == 0 || asked.op == 0 {
                return if begun { Err(Errno::EILSEQ) } else { Ok(()) };
            }
            cx.may_flush_cache(Mfn::containing(asked.target))?;
            if asked.op == DISCARD { Err(Errno::EOPNOTSUPP) } else { Ok(()) }
        })
    }
}

/// [`CacheFlush::op`]: write back.
const CLEAN: u32 = 1;
/// [`CacheFlush::op`]: discard.
const DISCARD: u32 = 2;

fn write_status<P: Platform>(
    cx: &Context<'_, P>,
    at: u64,
    offset: usize,
    status: i16,
) -> Result<(), Errno> {
    let offset = u64::try_from(offset).unwrap_or(0);
    Ok(guest_memory::write(&cx.system.platform, at.wrapping_add(offset), &status)?)
}

/// The table's frames, and more of them if asked.
fn setup_table<P: Platform>(cx: &Context<'_, P>, at: u64) -> Answer {
    let platform = &cx.system.platform;
    let asked: SetupTable = guest_memory::read(platform, at)?;
    if !guest_memory::may_begin_at(asked.frame_list) {
        return Err(Errno::EFAULT);
    }
    let result = cx.named(asked.dom).and_then(|domain| {
        // It does not end meanwhile, and no other gets its number.
        let _visit = cx.system.visit(domain.id).ok_or(Status(grant::GENERAL_ERROR))?;
        let table = &domain.grants;
        let frames = crate::frames::Frames::new(platform, cx.system);
        let grown = table.grow(frames, platform, &domain.memory, asked.nr_frames);
        grown.map_err(|_| Status(grant::GENERAL_ERROR))?;
        let mut written = Ok(());
        for number in 0..asked.nr_frames {
            let place = asked.frame_list.wrapping_add(u64::from(number).wrapping_mul(8));
            let mfn = table.frame(number).unwrap_or_default();
            if guest_memory::write(platform, place, &mfn.0).is_err() {
                written = Err(Status(grant::BAD_VIRT_ADDR));
            }
        }
        written
    });
    let status = core::mem::offset_of!(SetupTable, status);
    write_status(cx, at, status, Status::of(&result))?;
    DONE
}

/// `memory_op(acquire_resource, argument)`: frames of another domain's grant table, for the caller to
/// map in that domain's name. Nothing else of a PV domain can be acquired.
///
/// # Errors
///
/// - `EFAULT`: the argument or the list can't be read or written.
/// - `EPERM`: the caller's own table, or the caller is not privileged.
/// - `ESRCH`: there is no such domain.
/// - `EINVAL`: another resource; no frames, or beyond the table that the domain may have.
/// - `EOPNOTSUPP`: an unknown resource, of which it is not asked how long it is: Xen takes the error
///   for the length then.
/// - `ENOMEM`.
pub(super) fn acquire_table<P: Platform>(cx: &Context<'_, P>, cmd: u64, argument: u64) -> Answer {
    let platform = &cx.system.platform;
    let mut asked: AcquireResource = guest_memory::read(platform, argument)?;
    let first = u32::try_from(asked.frame).ok();
    let end = first.and_then(|first| first.checked_add(asked.nr_frames));
    let (Some(first), Some(end), 0) = (first, end, asked.pad) else { return Err(Errno::EINVAL) };
    if asked.domid == cx.domain.id {
        return Err(Errno::EPERM);
    }
    let domain = cx.visit(asked.domid)?;
    let table = &domain.grants;
    let all = match (asked.kind, asked.id) {
        (RESOURCE_GRANT_TABLE, 0) => table.limit(),
        (RESOURCE_IOREQ_SERVER..=RESOURCE_VMTRACE, _) => return Err(Errno::EINVAL),
        _ => low_u32(Errno::EOPNOTSUPP.to_raw().cast_unsigned()),
    };
    let begun = reservation::begun(cmd);
    if asked.frame_list == 0 && asked.nr_frames == 0 && begun == 0 {
        asked.nr_frames = all;
        guest_memory::write(platform, argument, &asked)?;
        return DONE;
    }
    let too_many = u64::from(asked.nr_frames) > reservation::MAX_EXTENTS;
    if asked.frame_list == 0 || begun >= u64::from(asked.nr_frames) || too_many {
        return Err(Errno::EINVAL);
    }
    if asked.kind != RESOURCE_GRANT_TABLE {
        return Err(Errno::EOPNOTSUPP);
    }
    if end > table.limit() {
        return Err(Errno::EINVAL);
    }
    let frames = crate::frames::Frames::new(platform, cx.system);
    table.grow(frames, platform, &domain.memory, end).map_err(|_| Errno::ENOMEM)?;
    let begun = usize::try_from(begun).unwrap_or(usize::MAX);
    for (index, number) in (0_u64..).zip(first..end).skip(begun) {
        let mfn = table.frame(number).unwrap_or_default();
        guest_memory::write(
            platform,
            asked.frame_list.wrapping_add(index.wrapping_mul(8)),
            &mfn.0,
        )?;
    }
    DONE
}

fn query_size<P: Platform>(cx: &Context<'_, P>, at: u64) -> Answer {
    let mut asked: QuerySize = guest_memory::read(&cx.system.platform, at)?;
    let domain = cx.named(asked.dom);
    if let Ok(domain) = &domain {
        (asked.nr_frames, asked.max_nr_frames) = (domain.grants.len(), domain.grants.limit());
    }
    asked.status = Status::of(&domain);
    guest_memory::write(&cx.system.platform, at, &asked)?;
    DONE
}

/// There are none in a table of version 1.
fn status_frames<P: Platform>(cx: &Context<'_, P>, at: u64) -> Answer {
    let asked: GetStatusFrames = guest_memory::read(&cx.system.platform, at)?;
    if !guest_memory::may_begin_at(asked.frame_list) {
        return Err(Errno::EFAULT);
    }
    let all = if asked.nr_frames == 0 { Ok(()) } else { Err(Status(grant::GENERAL_ERROR)) };
    let result = cx.named(asked.dom).and(all);
    let status = core::mem::offset_of!(GetStatusFrames, status);
    write_status(cx, at, status, Status::of(&result))?;
    DONE
}

fn set_version<P: Platform>(cx: &Context<'_, P>, at: u64) -> Answer {
    let asked: SetVersion = guest_memory::read(&cx.system.platform, at)?;
    guest_memory::write(&cx.system.platform, at, &SetVersion { version: VERSION })?;
    match asked.version {
        VERSION => DONE,
        2 => Err(Errno::ENOSYS),
        _ => Err(Errno::EINVAL),
    }
}

fn get_version<P: Platform>(cx: &Context<'_, P>, at: u64) -> Answer {
    let asked: GetVersion = guest_memory::read(&cx.system.platform, at)?;
    match cx.named(asked.dom) {
        Ok(_) => {}
        Err(Status(grant::BAD_DOMAIN)) => return Err(Errno::ESRCH),
        Err(_) => return Err(Errno::EPERM),
    }
    let field = at.wrapping_add(core::mem::offset_of!(GetVersion, version) as u64);
    guest_memory::write(&cx.system.platform, field, &VERSION)?;
    DONE
}

impl<'a, P: Platform> Context<'a, P> {
    /// The calling domain, as who maps and copies.
    pub(crate) fn grants(&self) -> Grants<'a, P> {
        Grants { system: self.system, domain: self.domain, roots: &self.vcpu.roots }
    }

    /// The domain whose table a call names.
    fn named(&self, id: DomId) -> Result<P::Arc<Domain<P>>, Status> {
        if id == DomId::SELF || id == self.domain.id {
            return Ok(self.domain.clone());
        }
        let domain = self.system.domains.get(&self.system.platform, id);
        let domain = domain.ok_or(Status(grant::BAD_DOMAIN))?;
        if self.domain.is_privileged() { Ok(domain) } else { Err(Status(grant::PERMISSION_DENIED)) }
    }

    /// Whether the caller may flush caches of a frame: of its own, and those it was granted and uses.
    fn may_flush_cache(&self, mfn: Mfn) -> Result<(), Errno> {
        let platform = &self.system.platform;
        if platform.frames().is_device(mfn) {
            return Err(Errno::EINVAL);
        }
        let owner = platform.frames().owner(mfn).ok_or(Errno::EPERM)?;
        if owner == self.domain.id {
            return Ok(());
        }
        let owner = self.system.domains.get(platform, owner).ok_or(Errno::EPERM)?;
        match owner.grants.has_use(platform, self.domain.id, mfn) {
            true => Ok(()),
            false => Err(Errno::EINVAL),
        }
    }
}
