//! `memory_op`: how much memory a domain has, and which frames.

use hypercall_abi::errno::Errno;
use hypercall_abi::layout::{MACH2PHYS_NR_ENTRIES, MACH2PHYS_VIRT_END, MACH2PHYS_VIRT_START};
use hypercall_abi::memory::{
    ACQUIRE_RESOURCE, ADD_TO_PHYSMAP, ADD_TO_PHYSMAP_BATCH, ADDRESS_BITS_MASK, AddToPhysmap,
    AddToPhysmapBatch, CLAIM_PAGES, CURRENT_RESERVATION, DECREASE_RESERVATION, DomainArg,
    EXACT_NODE, EXCHANGE, GET_SHARING_FREED_PAGES, GET_SHARING_SHARED_PAGES, GET_VNUMAINFO,
    INCREASE_RESERVATION, MACHPHYS_MAPPING, MAXIMUM_GPFN, MAXIMUM_RAM_PAGE, MAXIMUM_RESERVATION,
    MachphysMapping, POPULATE_ON_DEMAND, POPULATE_PHYSMAP, REMOVE_FROM_PHYSMAP, RemoveFromPhysmap,
    Reservation, VNODE, VnumaTopology,
};
use hypercall_abi::types::{DomId, Mfn, PAGE_SHIFT, Pfn};

use super::Mm;
use super::memory::DomainMemory;
use super::progress::{Budget, Progress};
use super::refusal::{Refusal, Why};
use crate::frames::{FrameOwners, FrameType};
use crate::guest_memory;
use crate::platform::Platform;

/// Where in the command the number of extents begins that are done already.
const DONE_SHIFT: u32 = 6;
/// The sub-op in the command.
const SUB_OP: u64 = 0x3f;
/// More extents than this can't be continued.
pub(crate) const MAX_EXTENTS: u64 = u32::MAX as u64 >> DONE_SHIFT;
/// Pages that are added at most to a translated guest.
const MAX_PAGES_ADDED: u64 = u16::MAX as u64;
/// Kinds of pages to add: a range of the guest's own, another domain's.
const SPACE_RANGE: u16 = 3;
const SPACE_FOREIGN: u32 = 4;
/// Orders that a domain without devices may ask for, and one with.
const MAX_ORDER: u32 = 9;
const MAX_ORDER_WITH_DEVICES: u32 = 12;
/// Nodes that a machine can have on Xen; this one has the first.
const MAX_NODES: u32 = 64;
/// What a frame costs of a slice: most of it is scrubbing.
const FRAME_COST: u32 = 64;

/// The command with which the call is executed again when `done` of its extents are done.
#[must_use]
pub const fn continued(command: u64, done: u64) -> u64 {
    command & SUB_OP | done.wrapping_shl(DONE_SHIFT)
}

/// How many extents a command says are done already.
#[must_use]
pub const fn begun(command: u64) -> u64 {
    command.wrapping_shr(DONE_SHIFT)
}

/// The sub-op of a command.
#[must_use]
pub fn sub_op(command: u64) -> u32 {
    // Six bits: it always fits.
    u32::try_from(command & SUB_OP).unwrap_or(0)
}

/// What is answered to a command that says how far it has got, if it can't have got there.
#[must_use]
pub fn bad_continuation(command: u64) -> Option<Errno> {
    match (sub_op(command), begun(command)) {
        (_, 0)
        | (INCREASE_RESERVATION | DECREASE_RESERVATION | POPULATE_PHYSMAP | ACQUIRE_RESOURCE, _)
        | (ADD_TO_PHYSMAP | ADD_TO_PHYSMAP_BATCH, 1..=MAX_PAGES_ADDED) => None,
        (ADD_TO_PHYSMAP | ADD_TO_PHYSMAP_BATCH, _) => Some(Errno::EDOM),
        (
            CLAIM_PAGES | EXCHANGE | MAXIMUM_RAM_PAGE | CURRENT_RESERVATION | MAXIMUM_RESERVATION
            | MAXIMUM_GPFN | REMOVE_FROM_PHYSMAP | GET_VNUMAINFO,
            _,
        ) => Some(Errno::EINVAL),
        _ => Some(Errno::ENOSYS),
    }
}

/// The domain that the structure at `argument` names; `None` if the sub-op has no such field, or it
/// can't be read.
#[must_use]
pub fn named_domain(platform: &impl Platform, command: u64, argument: u64) -> Option<DomId> {
    match sub_op(command) {
        INCREASE_RESERVATION | DECREASE_RESERVATION | POPULATE_PHYSMAP => {
            guest_memory::read(platform, argument).ok().map(|named: Reservation| named.domid)
        }
        EXCHANGE => {
            guest_memory::read(platform, argument).ok().map(|given: Reservation| given.domid)
        }
        CURRENT_RESERVATION | MAXIMUM_RESERVATION | MAXIMUM_GPFN => {
            guest_memory::read(platform, argument).ok().map(|named: DomainArg| named.domid)
        }
        ADD_TO_PHYSMAP => {
            guest_memory::read(platform, argument).ok().map(|named: AddToPhysmap| named.domid)
        }
        ADD_TO_PHYSMAP_BATCH => {
            guest_memory::read(platform, argument).ok().map(|named: AddToPhysmapBatch| named.domid)
        }
        REMOVE_FROM_PHYSMAP => {
            guest_memory::read(platform, argument).ok().map(|named: RemoveFromPhysmap| named.domid)
        }
        GET_VNUMAINFO => {
            guest_memory::read(platform, argument).ok().map(|named: VnumaTopology| named.domid)
        }
        _ => None,
    }
}

/// One array of extents, and what is wanted with it.
#[derive(Clone, Copy)]
pub(super) struct Extents {
    pub(super) list: u64,
    pub(super) count: u64,
    pub(super) order: u32,
    pub(super) address_bits: Option<u32>,
}

impl Extents {
    pub(super) fn of(reservation: &Reservation) -> Self {
        let bits = reservation.mem_flags & ADDRESS_BITS_MASK;
        Self {
            list: reservation.extent_start,
            count: reservation.nr_extents,
            order: reservation.extent_order,
            address_bits: Some(bits).filter(|&bits| bits != 0),
        }
    }

    pub(super) fn pages(self) -> u64 {
        1_u64.wrapping_shl(self.order)
    }

    /// Whether the list may begin with this extent, as far as that is looked at before.
    pub(super) fn may_begin_with(self, index: u64) -> bool {
        self.place(index).is_some_and(guest_memory::may_begin_at)
    }

    /// The guest address of an extent's frame number.
    fn place(self, index: u64) -> Option<u64> {
        index.checked_mul(8).and_then(|offset| self.list.checked_add(offset))
    }

    pub(super) fn read(self, platform: &impl Platform, index: u64) -> Option<u64> {
        guest_memory::read(platform, self.place(index)?).ok()
    }

    pub(super) fn write(self, platform: &impl Platform, index: u64, value: u64) -> Option<()> {
        guest_memory::write(platform, self.place(index)?, &value).ok()
    }
}

impl<P: Platform, O: FrameOwners> Mm<'_, P, O> {
    /// `memory_op(command, argument)` on `target`'s memory, for the caller, whose memory this is.
    /// `target` is what [`named_domain`] means, or why the caller may not touch it.
    ///
    /// The calls that change the reservation never fail: they return how many extents are done. When
    /// they stop early, [`Progress::Again`] has the number that [`continued`] takes.
    pub fn memory_op(
        &self,
        target: Result<&DomainMemory, Why>,
        command: u64,
        argument: u64,
        budget: &mut Budget,
    ) -> Progress {
        let op = sub_op(command);
        let refused = |why| Progress::Refused { done: 0, refusal: Refusal::new(why) };
        match op {
            INCREASE_RESERVATION | DECREASE_RESERVATION | POPULATE_PHYSMAP => {
                self.reserve(target, command, argument, budget)
            }
            EXCHANGE => self.exchange(target, argument, budget),
            MAXIMUM_RAM_PAGE => Progress::Done(self.platform.frames().len()),
            CURRENT_RESERVATION | MAXIMUM_RESERVATION | ADD_TO_PHYSMAP | ADD_TO_PHYSMAP_BATCH
            | REMOVE_FROM_PHYSMAP | GET_VNUMAINFO => {
                if named_domain(self.platform, command, argument).is_none() {
                    return refused(Why::Fault(argument));
                }
                match target {
                    // Before it is known whether there is such a domain.
                    _ if let Some(why) = self.senseless(op, argument) => refused(why),
                    // PV guests keep their own list of frames, whoever asks.
                    Ok(_) | Err(Why::Privilege)
                        if matches!(
                            op,
                            ADD_TO_PHYSMAP | ADD_TO_PHYSMAP_BATCH | REMOVE_FROM_PHYSMAP
                        ) =>
                    {
                        refused(Why::OwnList)
                    }
                    Err(why) => refused(why),
                    Ok(target) if op == CURRENT_RESERVATION => Progress::Done(target.pages()),
                    Ok(target) if op == MAXIMUM_RESERVATION => Progress::Done(target.max_pages()),
                    // Nobody was given nodes.
                    Ok(_) => refused(Why::Gone(op)),
                }
            }
            MACHPHYS_MAPPING => {
                let mapping = self.machphys_mapping();
                match guest_memory::write(self.platform, argument, &mapping) {
                    Ok(()) => Progress::Done(0),
                    Err(fault) => refused(Why::Fault(fault.address)),
                }
            }
            // No frame is shared copy-on-write.
            GET_SHARING_FREED_PAGES | GET_SHARING_SHARED_PAGES => Progress::Done(0),
            _ => refused(Why::Command(u64::from(op))),
        }
    }

    /// What is wrong with a request in itself.
    fn senseless(&self, op: u32, argument: u64) -> Option<Why> {
        let platform = self.platform;
        let (is_wrong, why) = match op {
            GET_VNUMAINFO => {
                let asked = guest_memory::read(platform, argument);
                (asked.is_ok_and(|asked: VnumaTopology| asked.pad != 0), Why::Set(argument))
            }
            ADD_TO_PHYSMAP => {
                let asked = guest_memory::read(platform, argument);
                let foreign = asked.is_ok_and(|asked: AddToPhysmap| asked.space == SPACE_FOREIGN);
                (foreign, Why::Command(op.into()))
            }
            ADD_TO_PHYSMAP_BATCH => {
                let asked = guest_memory::read(platform, argument);
                let range = asked.is_ok_and(|asked: AddToPhysmapBatch| asked.space == SPACE_RANGE);
                (range, Why::Gone(op))
            }
            _ => return None,
        };
        Some(why).filter(|_| is_wrong)
    }

    fn machphys_mapping(&self) -> MachphysMapping {
        let frames = match self.memory.has_devices() {
            true => self.platform.frames().len(),
            false => MACH2PHYS_NR_ENTRIES,
        };
        MachphysMapping {
            v_start: MACH2PHYS_VIRT_START,
            v_end: MACH2PHYS_VIRT_END,
            max_mfn: frames.saturating_sub(1),
        }
    }

    pub(super) fn max_order(&self) -> u32 {
        if self.memory.has_devices() { MAX_ORDER_WITH_DEVICES } else { MAX_ORDER }
    }

    /// Increase, decrease and populate.
    fn reserve(
        &self,
        target: Result<&DomainMemory, Why>,
        command: u64,
        argument: u64,
        budget: &mut Budget,
    ) -> Progress {
        let start = begun(command);
        let target = match target {
            _ if self.finish_pending(budget).is_err() => {
                return Progress::Again { done: start };
            }
            Ok(target) => self.on(target),
            Err(_) => return Progress::Done(start),
        };
        let Ok(reservation) = guest_memory::read::<Reservation>(self.platform, argument) else {
            return Progress::Done(start);
        };
        let extents = Extents::of(&reservation);
        let options = reservation.mem_flags;
        let bits_fit = extents.address_bits.is_none_or(|bits| bits > PAGE_SHIFT);
        // Nobody was given virtual nodes: where they are meant, none is.
        let fits = bits_fit && (options & VNODE != 0 || self.node_fits(options));
        let fits = fits && extents.may_begin_with(start);
        if extents.count > MAX_EXTENTS || extents.order > self.max_order() || !fits {
            return Progress::Done(start);
        }
        let on_demand = options & POPULATE_ON_DEMAND != 0;
        let mut done = start;
        while done < extents.count {
            if budget.is_spent() {
                return Progress::Again { done };
            }
            budget.charge(FRAME_COST.wrapping_shl(extents.order));
            let one = match sub_op(command) {
                INCREASE_RESERVATION => target.increase(extents, done),
                DECREASE_RESERVATION => target.decrease(extents, done),
                // No domain's own business, and nothing that a PV domain has.
                _ if on_demand => Some(()).filter(|()| target.memory.id() != self.memory.id()),
                _ => target.populate(extents, done),
            };
            if one.is_none() {
                break;
            }
            done = done.saturating_add(1);
        }
        Progress::Done(done)
    }

    /// Whether there is memory of the node that the options name, or of another if they allow that.
    /// A node that no machine can have has none. Who has no devices can't tell nodes.
    pub(super) fn node_fits(&self, options: u32) -> bool {
        let [_, node, ..] = options.to_le_bytes();
        let exact = options & EXACT_NODE != 0;
        let most = if exact { 1 } else { MAX_NODES };
        if self.memory.has_devices() { u32::from(node) <= most } else { node == 0 || !exact }
    }

    /// Gives the domain one extent, at frames of the kernel's choice.
    fn increase(&self, extents: Extents, index: u64) -> Option<()> {
        let start = self.give_extent(extents)?;
        if extents.list == 0 { Some(()) } else { extents.write(self.platform, index, start.0) }
    }

    /// Gives the domain one extent for frame numbers of its own choice.
    fn populate(&self, extents: Extents, index: u64) -> Option<()> {
        let pfn = extents.read(self.platform, index)?;
        let start = self.give_extent(extents)?;
        self.name_extent(start, pfn, extents.pages());
        extents.write(self.platform, index, start.0)
    }

    pub(super) fn give_extent(&self, extents: Extents) -> Option<Mfn> {
        let pages = extents.pages();
        if !self.memory.grow(pages) {
            return None;
        }
        let (id, bits) = (self.memory.id(), extents.address_bits);
        let frames = self.platform.frames();
        let start = self.memory.take_claimed(frames, pages, || {
            frames.alloc_for(self.platform, id, extents.order, bits).ok()
        });
        if start.is_none() {
            self.memory.shrink(pages);
        }
        start
    }

    /// Enters an extent into the machine-to-physical table.
    pub(super) fn name_extent(&self, start: Mfn, pfn: u64, pages: u64) {
        for at in 0..pages {
            let (mfn, pfn) = (start.0.wrapping_add(at), pfn.wrapping_add(at));
            self.platform.set_m2p(Mfn(mfn), Pfn(pfn));
        }
    }

    /// Takes one extent from the domain. Frames that are still referred to become free when that
    /// ends.
    fn decrease(&self, extents: Extents, index: u64) -> Option<()> {
        let start = extents.read(self.platform, index)?;
        (0..extents.pages()).try_for_each(|at| self.take_away(Mfn(start.checked_add(at)?)))
    }

    /// Takes one frame from the domain. It keeps its number until it is free.
    pub(crate) fn take_away(&self, mfn: Mfn) -> Option<()> {
        let frame = self.frames.take(mfn, self.memory.id()).ok()?;
        let _ = self.frames.disown(&frame);
        // Taken away already and still referred to, or the kernel's to share: nothing to do.
        self.frames.put(frame);
        Some(())
    }
}

/// What is said of a frame that is wanted for nothing in particular.
pub(super) const ANY: FrameType = FrameType::None;
