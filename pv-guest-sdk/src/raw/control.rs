//! Other domains, and their frames.
//!
//! A [`Domain`] is one that this guest has made, and so never itself: nothing that is done to it
//! changes this program's memory. A frame of it that is mapped here is read and written by atomics.

use core::sync::atomic::{AtomicU8, Ordering};

use hypercall_abi::domctl::{
    self as abi, AffinityFlags, Bitmap, CreateDomain, DomainInfo, Domctl, VcpuAffinity, VcpuContext,
};
use hypercall_abi::event::AllocUnbound;
use hypercall_abi::grant::{self, SetupTable};
use hypercall_abi::memory::{self, E820Entry, ForeignMemoryMap, MemoryMap, Reservation};
use hypercall_abi::mmu::{MmuextOp, mmuext};
use hypercall_abi::regs::VcpuGuestContext;
use hypercall_abi::types::{DomId, Mfn, PAGE_SIZE, Port, VcpuId};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::gate::Machine;
use super::memory::{hook, pointer, tables};
use super::request::{self, event_channel, grant_operation, writable};
use crate::console::ring::{Bytes, Ring, Words};
use crate::control::{ControlError, Payload, Plain, site};
use crate::error::perform;
use crate::grant::Refusal;
use crate::paging::{Access, Entry, MemoryError, Mode, Page};

/// Frames that are cleared in one call.
const BATCH: usize = 64;
/// Pages in a row that get frames in a row, 2 MiB, and the binary logarithm of that.
const ROW: usize = 1 << ROW_ORDER;
const ROW_ORDER: u32 = 9;

/// A domain that this one has made. Dropping it leaves the domain as it is.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{abi::{regs::VcpuGuestContext, types::{DomId, Mfn, VcpuId}}, control::{ControlError, CreateDomain, Domain, Plain}, paging::Page, println};
/// # fn example(context: &mut VcpuGuestContext) -> Result<(), ControlError> {
/// let domain = Domain::create(DomId(1), &CreateDomain::default())?;
/// let mut frames: [u64; 4] = [0, 1, 2, 3]; // its pages, and then the machine's frames
/// domain.populate(&mut frames)?;
/// domain.clear(&frames)?;
/// domain.set_memory_map(&mut [])?;
/// println!("its store will have port {}", domain.unbound()?.0);
/// domain.map(Page::fixed(0x1000_0000), Mfn(frames[0]))?.write(0, b"its first page");
/// let table = domain.grant_table()?;
/// domain.pin(Mfn(frames[3]))?;
/// domain.set_affinity(VcpuId(0), 0b1)?;
/// domain.set_context(VcpuId(0), context)?;
/// domain.context(VcpuId(0), context)?;
/// domain.control(Plain::Unpause)?;
/// println!("domain {}: {:?}", domain.id().0, domain.info()?);
/// domain.reset(VcpuId(1))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Eq, PartialEq)]
pub struct Domain(DomId);

/// Makes one operation; the answer is in the payload.
///
/// # Safety
/// As of [`request::domctl`].
unsafe fn operate<P: FromBytes + IntoBytes + Immutable>(
    domain: DomId,
    operation: u32,
    payload: &mut P,
) -> Result<DomId, ControlError> {
    const { assert!(size_of::<P>() <= 128, "a payload has 128 bytes") };
    let mut envelope = Domctl {
        cmd: operation,
        interface_version: abi::INTERFACE_VERSION,
        domain,
        ..Domctl::default()
    };
    if let Some(to) = envelope.payload.as_mut_bytes().get_mut(..size_of::<P>()) {
        to.copy_from_slice(payload.as_bytes());
    }
    // SAFETY: by this function's contract.
    perform(&Machine, site(operation), &unsafe { request::domctl(&mut envelope) })?;
    if let Ok((answer, _)) = P::read_from_prefix(envelope.payload.as_bytes()) {
        *payload = answer;
    }
    Ok(envelope.domain)
}

impl Domain {
    /// Makes a domain: without memory and virtual CPUs, and paused. `wanted` is its number, or 0
    /// for the next that is free.
    ///
    /// # Errors
    /// EPERM (1) if this is no control domain, EEXIST (17) if the number is taken, EINVAL (22) for
    /// settings that do not go together, ENOMEM (12) without memory for it.
    pub fn create(wanted: DomId, settings: &CreateDomain) -> Result<Self, ControlError> {
        let mut settings = *settings;
        // SAFETY: no guest addresses; the domain does not exist yet.
        unsafe { operate(wanted, abi::CREATEDOMAIN, &mut settings) }.map(Self)
    }

    /// Its number.
    #[must_use]
    pub const fn id(&self) -> DomId {
        self.0
    }

    /// Makes one of the operations that take nothing but the domain.
    ///
    /// # Errors
    /// As the hypervisor says: ESRCH (3) if the domain is gone.
    pub fn control(&self, operation: Plain) -> Result<(), ControlError> {
        loop {
            // SAFETY: nothing is in the payload, and the domain is another.
            match unsafe { operate(self.0, operation as u32, &mut [0_u8; 0]) } {
                // What takes long is to be asked for again.
                Err(ControlError::Refused(error)) if error.name() == "ERESTART" => {}
                done => return done.map(drop),
            }
        }
    }

    /// Makes the operation that the payload's type says; its answer is in the payload.
    ///
    /// # Errors
    /// As the hypervisor says.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use pv_guest_sdk::{control::{ControlError, Domain, MaxMem}};
    /// # fn example(domain: &Domain) -> Result<(), ControlError> {
    /// domain.apply(&mut MaxMem { max_memkb: 16 << 10 })?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn apply<P: Payload>(&self, payload: &mut P) -> Result<(), ControlError> {
        // SAFETY: a `Payload` has no guest addresses, and the domain is another.
        unsafe { operate(self.0, P::OPERATION, payload) }.map(drop)
    }

    /// What the domain is doing.
    ///
    /// # Errors
    /// ESRCH (3) if the domain is gone.
    pub fn info(&self) -> Result<DomainInfo, ControlError> {
        let mut info = DomainInfo::default();
        self.apply(&mut info)?;
        // For a domain that is gone, Xen answers with the next one.
        if info.domain == self.0 { Ok(info) } else { Err(ControlError::Gone) }
    }

    /// Sets a virtual CPU's state.
    ///
    /// # Errors
    /// EINVAL (22) if the hypervisor does not take the state, or the virtual CPU is not there.
    pub fn set_context(
        &self,
        vcpu: VcpuId,
        context: &mut VcpuGuestContext,
    ) -> Result<(), ControlError> {
        let mut payload = VcpuContext { vcpu, ctxt: writable(context), ..VcpuContext::default() };
        // SAFETY: the context is borrowed, mutably; the domain is another.
        unsafe { operate(self.0, abi::SETVCPUCONTEXT, &mut payload) }.map(drop)
    }

    /// Takes a virtual CPU's state from it: it is down, and can be given another.
    ///
    /// # Errors
    /// EINVAL (22) if the virtual CPU is not there.
    pub fn reset(&self, vcpu: VcpuId) -> Result<(), ControlError> {
        let mut payload = VcpuContext { vcpu, ..VcpuContext::default() };
        // SAFETY: no address is named; the domain is another.
        unsafe { operate(self.0, abi::SETVCPUCONTEXT, &mut payload) }.map(drop)
    }

    /// Returns a virtual CPU's state.
    ///
    /// # Errors
    /// EINVAL (22) if the virtual CPU is not there, ENODATA (61) if it has no state.
    pub fn context(
        &self,
        vcpu: VcpuId,
        context: &mut VcpuGuestContext,
    ) -> Result<(), ControlError> {
        let mut payload = VcpuContext { vcpu, ctxt: writable(context), ..VcpuContext::default() };
        // SAFETY: as above; the structure takes any bytes.
        unsafe { operate(self.0, abi::GETVCPUCONTEXT, &mut payload) }.map(drop)
    }

    /// Lets a virtual CPU run on these real CPUs alone, one a bit. Returns those of them that there
    /// are.
    ///
    /// # Errors
    /// EINVAL (22) if there is none of them, or no such virtual CPU.
    pub fn set_affinity(&self, vcpu: VcpuId, cpus: u64) -> Result<u64, ControlError> {
        let mut set = cpus.to_le_bytes();
        let bitmap = Bitmap { bitmap: writable(&mut set), nr_bits: u64::BITS, ..Bitmap::default() };
        let mut payload = VcpuAffinity {
            vcpu,
            flags: AffinityFlags::HARD.bits(),
            cpumap_hard: bitmap,
            ..VcpuAffinity::default()
        };
        // SAFETY: the set, of so many bits, is borrowed; the domain is another.
        unsafe { operate(self.0, abi::SETVCPUAFFINITY, &mut payload) }?;
        Ok(u64::from_le_bytes(set))
    }

    /// Gives the domain memory: one frame for each page in `frames`, whose numbers become those of
    /// the machine's frames. Pages in a row get frames in a row while there are such.
    ///
    /// # Errors
    /// [`ControlError::Memory`] with the number of frames it got, if not all.
    pub fn populate(&self, frames: &mut [u64]) -> Result<(), ControlError> {
        let (mut got, mut rows) = (0, true);
        for part in frames.chunks_mut(ROW) {
            rows &= part.len() == ROW && part.is_sorted_by(|one, next| one + 1 == *next);
            let mut first = [part[0]];
            rows = rows && self.extents(&mut first, ROW_ORDER)? == 1;
            if rows {
                part.iter_mut().zip(first[0]..).for_each(|(frame, number)| *frame = number);
            }
            let some = if rows { ROW as u64 } else { self.extents(part, 0)? };
            got += some;
            if some < part.len() as u64 {
                return Err(ControlError::Memory(got));
            }
        }
        Ok(())
    }

    /// Gives the domain memory in extents of `1 << order` pages. The number of extents it got.
    fn extents(&self, extents: &mut [u64], order: u32) -> Result<u64, ControlError> {
        let mut argument = Reservation {
            extent_start: writable(extents),
            nr_extents: extents.len() as u64,
            extent_order: order,
            domid: self.0,
            ..Reservation::default()
        };
        let operation = memory::POPULATE_PHYSMAP;
        // SAFETY: `extents` is borrowed, and has so many words.
        let request = unsafe { request::memory_operation(operation, &mut argument) };
        Ok(perform(&Machine, &crate::control::POPULATE, &request)?)
    }

    /// Sets the memory map that the domain can ask for.
    ///
    /// # Errors
    /// As the hypervisor says.
    pub fn set_memory_map(&self, ranges: &mut [E820Entry]) -> Result<(), ControlError> {
        let nr_entries = u32::try_from(ranges.len()).unwrap_or(u32::MAX);
        let map = MemoryMap { nr_entries, buffer: writable(ranges), ..MemoryMap::default() };
        let mut argument = ForeignMemoryMap { domid: self.0, map, ..ForeignMemoryMap::default() };
        let operation = memory::SET_MEMORY_MAP;
        // SAFETY: the ranges are borrowed; the map is another domain's.
        let request = unsafe { request::memory_operation(operation, &mut argument) };
        perform(&Machine, &crate::control::SET_MAP, &request)?;
        Ok(())
    }

    /// Fills frames of the domain with zeros.
    ///
    /// # Errors
    /// EINVAL (22) if one is not the domain's.
    pub fn clear(&self, frames: &[u64]) -> Result<(), ControlError> {
        for batch in frames.chunks(BATCH) {
            let mut operations = [MmuextOp::default(); BATCH];
            for (operation, &frame) in operations.iter_mut().zip(batch) {
                *operation = tables::operation(mmuext::CLEAR_PAGE, frame);
            }
            let operations = operations.get(..batch.len()).unwrap_or_default();
            // SAFETY: frames of another domain; here they are mapped as atomics at most.
            unsafe { tables::operate_of(operations, self.0)? };
        }
        Ok(())
    }

    /// Makes a frame of the domain a checked table of level 4 for good.
    ///
    /// # Errors
    /// EINVAL (22) if it cannot be one.
    pub fn pin(&self, frame: Mfn) -> Result<(), ControlError> {
        let operation = tables::operation(mmuext::PIN_L4_TABLE, frame.0);
        // SAFETY: tables of another domain map nothing here.
        Ok(unsafe { tables::operate_of(&[operation], self.0) }?)
    }

    /// Makes a port of the domain's that this one may bind to.
    ///
    /// # Errors
    /// ENOSPC (28) if the domain has no port that is free.
    pub fn unbound(&self) -> Result<Port, ControlError> {
        let mut argument =
            AllocUnbound { dom: self.0, remote_dom: DomId::SELF, ..AllocUnbound::default() };
        let request = event_channel(&mut argument);
        perform(&Machine, &crate::control::UNBOUND, &request)?;
        Ok(argument.port)
    }

    /// The frame of the domain's grant table; the table gets it if it has none.
    ///
    /// # Errors
    /// [`ControlError::Grant`] if the hypervisor makes none.
    pub fn grant_table(&self) -> Result<Mfn, ControlError> {
        let mut list = [0_u64];
        let mut setup = SetupTable {
            dom: self.0,
            nr_frames: 1,
            status: grant::GENERAL_ERROR,
            frame_list: writable(&mut list),
            ..SetupTable::default()
        };
        // SAFETY: the list, of one word, is borrowed for longer than this.
        let request = unsafe { grant_operation(grant::SETUP_TABLE, &mut setup) };
        perform(&Machine, &crate::control::SETUP, &request)?;
        Refusal::check("setup_table", setup.status)?;
        Ok(Mfn(list[0]))
    }

    /// Maps a frame of the domain in the kernel's address space.
    ///
    /// # Errors
    /// [`MemoryError::Reserved`] or [`MemoryError::Taken`] if the page is not free,
    /// [`MemoryError::Refused`] if the frame is not the domain's or not to be written.
    pub fn map(&self, page: Page, frame: Mfn) -> Result<Foreign, MemoryError> {
        self.map_for(page, frame, Access::WRITE)
    }

    /// Copies what is in a frame of the domain, which is mapped at `page` meanwhile: page tables too, and
    /// other frames that nobody may write.
    ///
    /// # Errors
    /// [`MemoryError::Reserved`] or [`MemoryError::Taken`] if the page is not free,
    /// [`MemoryError::Refused`] if the frame is not the domain's.
    ///
    /// # Examples
    /// ```no_run
    /// # use pv_guest_sdk::{abi::types::Mfn, control::Domain, paging::{MemoryError, Page}};
    /// # fn example(domain: &Domain, page: Page, root: Mfn) -> Result<(), MemoryError> {
    /// let mut table = [0; 4096];
    /// domain.read(page, root, &mut table)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn read(
        &self,
        page: Page,
        frame: Mfn,
        into: &mut [u8; PAGE_SIZE],
    ) -> Result<(), MemoryError> {
        let foreign = self.map_for(page, frame, Access::empty())?;
        for (to, word) in into.as_chunks_mut().0.iter_mut().zip(foreign.words()) {
            *to = word.load(Ordering::Relaxed).to_le_bytes();
        }
        Ok(())
    }

    fn map_for(&self, page: Page, frame: Mfn, access: Access) -> Result<Foreign, MemoryError> {
        if !page.is_free() {
            return Err(MemoryError::Reserved(page));
        }
        hook(page, |slot| {
            let entry = Entry::page(frame, access, Mode::Kernel);
            // SAFETY: nothing was mapped there, and a frame of another domain is no page here.
            unsafe { slot.write_of(entry, self.0)? };
            Ok(Foreign { page, slot })
        })
    }
}

/// A frame of another domain, mapped here. Dropping it unmaps it.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{control::Foreign, println};
/// # fn example(page: &Foreign) {
/// use core::sync::atomic::Ordering;
///
/// page.write(8, b"text");
/// let first = page.words()[0].load(Ordering::Acquire);
/// println!("{first:#x}, then {}", page.bytes()[8].load(Ordering::Relaxed));
/// let mut said = [0; 80];
/// page.console().take(&mut said); // if it is the page of its console
/// # }
/// ```
#[derive(Debug)]
pub struct Foreign {
    page: Page,
    slot: tables::Slot,
}

impl Foreign {
    /// What is in the frame. The domain may write at any time.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        // SAFETY: mapped while this value lives, and any bytes are atomics; who gets the value may write.
        unsafe { &*pointer(self.page.address()) }
    }

    /// The same, by words.
    #[must_use]
    pub fn words(&self) -> &Words {
        // SAFETY: as of `bytes`.
        unsafe { &*pointer(self.page.address()) }
    }

    /// The console's ring in it.
    #[must_use]
    pub fn console(&self) -> Ring<'_> {
        Ring::new(self.bytes(), self.words())
    }

    /// Writes bytes from `offset` on, up to the page's end. Unit: bytes.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        let places: &[AtomicU8] = self.bytes().get(offset..).unwrap_or_default();
        let bytes = bytes.get(..places.len()).unwrap_or(bytes);
        // Whole words where there are some: four times fewer stores.
        let (head, body) = bytes.split_at(bytes.len().min(offset.wrapping_neg() % 4));
        for (place, &byte) in places.iter().zip(head) {
            place.store(byte, Ordering::Relaxed);
        }
        let words = self.words().get((offset + head.len()) / 4..).unwrap_or_default();
        let (body, tail) = body.as_chunks();
        for (word, &bytes) in words.iter().zip(body) {
            word.store(u32::from_le_bytes(bytes), Ordering::Relaxed);
        }
        let places = places.get(head.len() + 4 * body.len()..).unwrap_or_default();
        for (place, &byte) in places.iter().zip(tail) {
            place.store(byte, Ordering::Relaxed);
        }
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // SAFETY: the page is this value's.
        let unmapped = unsafe { self.slot.write(Entry::ABSENT) };
        let _address_is_lost = unmapped.and_then(|()| Ok(tables::flush(self.page)?));
    }
}
