//! The grant table in memory, pages of this guest that others may use, and pages of others.
//!
//! The rule of the memory module holds on: a granted page belongs to its [`Grant`], and to nobody
//! while it is in quarantine; references to its words are to atomics. A mapped page of a peer is
//! this program's for as long as the [`Mapping`] lives, whatever the peer does.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use hypercall_abi::grant::{self as abi, MapFlags, MapGrantRef, SetupTable, UnmapGrantRef};
use hypercall_abi::types::{DomId, GrantHandle, GrantRef, Mfn, PAGE_SIZE, Pfn};
use spin::Once;

use super::gate::Machine;
use super::memory::{Frame, hook, pointer, tables};
use super::request::{grant_operation, writable};
use crate::error::{Site, perform};
use crate::grant::{Entries, GrantError, Peer, Refusal, site};
use crate::paging::{Access, Entry, MemoryError, Mode, Page};

/// Where the table is mapped.
const BASE: u64 = 0xffff_e800_0000_0000;
/// The most frames that the SDK's table has.
const MOST: usize = 4;
/// Entries in one frame.
const PER_FRAME: usize = abi::ENTRIES_PER_FRAME as usize;
/// The words of a page that is shared.
type Words = [AtomicU32; PAGE_SIZE / 4];

static NOTES: [AtomicU64; MOST * PER_FRAME] = [const { AtomicU64::new(0) }; _];
static TABLE: Once<Entries<'static>> = Once::new();

static SETUP: Site = site(abi::SETUP_TABLE);
static MAP: Site = site(abi::MAP_GRANT_REF);
static UNMAP: Site = site(abi::UNMAP_GRANT_REF);

/// The machine frame behind a page.
pub(crate) fn machine(frame: &Frame) -> Result<Mfn, MemoryError> {
    tables::machine(frame.number())
}

/// This guest's grant table, after it was set up.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{abi::types::DomId, grant::{GrantError, Grants, Peer}, paging::{Access, Frame, Page}, println};
/// # fn example(theirs: Peer) -> Result<(), GrantError> {
/// let grants = Grants::start(1)?;
/// let grant = grants.share(Frame::new()?, DomId(1), Access::WRITE)?;
/// println!("domain 1 may map entry {}", grant.reference().0);
/// let mapping = grants.map(Page::fixed(0x1000_0000), theirs, Access::empty())?;
/// println!("a peer's page begins with {:#x}", mapping.load(0));
/// println!("{} pages came back meanwhile", grants.reclaim());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Grants(&'static Entries<'static>);

impl Grants {
    /// Sets the table up with `frames` frames, 1 to 4, each of which has 512 entries; the first
    /// eight are reserved. Memory must have been started. Again, it is the table as it was made.
    ///
    /// # Errors
    /// [`GrantError::Frames`] for another number, [`GrantError::Refused`] if the hypervisor gives
    /// no such table, [`GrantError::Memory`] if it cannot be mapped.
    pub fn start(frames: usize) -> Result<Self, GrantError> {
        Ok(Self(TABLE.try_call_once(|| map_table(frames))?))
    }

    /// Lets a domain use a page, to read or to write as well.
    ///
    /// # Errors
    /// [`GrantError::Exhausted`] if no entry is free, [`GrantError::Unreachable`] if the page is
    /// too far; the page is given back.
    pub fn share(self, frame: Frame, to: DomId, access: Access) -> Result<Grant, GrantError> {
        let reference = self.grant(frame.number(), to, access)?;
        Ok(Grant { entries: self.0, reference, frame: Some(frame) })
    }

    /// Lets a domain use a page that stays its owner's.
    pub(super) fn grant(
        self,
        page: Pfn,
        to: DomId,
        access: Access,
    ) -> Result<GrantRef, GrantError> {
        let machine = tables::machine(page)?;
        let reference = self.0.grant(to, machine, access);
        if reference != Err(GrantError::Exhausted) {
            return reference;
        }
        self.reclaim();
        self.0.grant(to, machine, access)
    }

    pub(super) const fn entries(self) -> &'static Entries<'static> {
        self.0
    }

    /// Takes back the pages in quarantine that peers no longer use. Returns how many they still do.
    pub fn reclaim(self) -> usize {
        // SAFETY: the page was a dropped grant's, and is mapped by its peer no more.
        self.0.sweep(|page| drop(unsafe { Frame::from_page(page) }))
    }

    /// Maps a peer's page in the kernel's address space.
    ///
    /// # Errors
    /// [`GrantError::Refused`] if the peer does not grant it so, [`GrantError::Memory`] if the page
    /// is taken or not for guests to use, or there is no room for tables.
    pub fn map(self, page: Page, peer: Peer, access: Access) -> Result<Mapping, GrantError> {
        if !page.is_free() {
            return Err(MemoryError::Reserved(page).into());
        }
        let writable = access.contains(Access::WRITE);
        let limit = if writable { MapFlags::empty() } else { MapFlags::READONLY };
        let mut map = MapGrantRef {
            host_addr: page.address(),
            flags: MapFlags::HOST_MAP.union(limit).bits(),
            grant_ref: peer.reference,
            dom: peer.domain,
            status: abi::GENERAL_ERROR,
            ..MapGrantRef::default()
        };
        hook(page, |_| {
            // SAFETY: nothing is mapped there.
            perform(&Machine, &MAP, &unsafe { grant_operation(abi::MAP_GRANT_REF, &mut map) })?;
            Refusal::check("map_grant_ref", map.status)?;
            let machine = Mfn(map.dev_bus_addr / PAGE_SIZE as u64);
            Ok(Mapping { page, machine, handle: Some(map.handle), writable })
        })
    }
}

fn map_table(frames: usize) -> Result<Entries<'static>, GrantError> {
    let mut list = [0; MOST];
    let list = list.get_mut(..frames).filter(|list| !list.is_empty());
    let list = list.ok_or(GrantError::Frames(frames))?;
    let mut setup = SetupTable {
        dom: DomId::SELF,
        nr_frames: u32::try_from(frames).unwrap_or(u32::MAX),
        status: abi::GENERAL_ERROR,
        frame_list: writable(list),
        ..SetupTable::default()
    };
    // SAFETY: `list`, of `nr_frames` words, is borrowed for longer than this.
    perform(&Machine, &SETUP, &unsafe { grant_operation(abi::SETUP_TABLE, &mut setup) })?;
    Refusal::check("setup_table", setup.status)?;
    for (address, &frame) in (BASE..).step_by(PAGE_SIZE).zip(&*list) {
        let page = Page::at(address).ok_or(MemoryError::Address(address))?;
        let entry = Entry::page(Mfn(frame), Access::WRITE, Mode::Kernel);
        // SAFETY: nothing was mapped there, and a frame of the table is no page of this guest's.
        hook(page, |slot| unsafe { slot.write(entry) })?;
    }
    let first: *const AtomicU64 = pointer(BASE);
    // SAFETY: so many frames are mapped from there on, for ever, and any bytes are atomics.
    let shared = unsafe { core::slice::from_raw_parts(first, frames * PER_FRAME) };
    Ok(Entries::new(shared, &NOTES))
}

/// A page of this guest that a domain may use. Dropping it ends that; if the domain uses it now,
/// the page goes to quarantine.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{grant::Grant, println};
/// # fn example(grant: Grant) {
/// use core::sync::atomic::Ordering;
///
/// grant.words()[0].store(42, Ordering::Release);
/// println!("entry {} is in use: {}", grant.reference().0, grant.is_used());
/// match grant.end() {
///     Ok(frame) => println!("{} is in it", frame.bytes()[0]),
///     Err(grant) => drop(grant), // in use still: it goes to quarantine
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Grant {
    entries: &'static Entries<'static>,
    reference: GrantRef,
    /// The page; nobody borrows it while it is here.
    frame: Option<Frame>,
}

impl Grant {
    /// What the peer is told.
    #[must_use]
    pub const fn reference(&self) -> GrantRef {
        self.reference
    }

    /// Whether the peer has it mapped, or copies from or to it, right now.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.entries.is_used(self.reference)
    }

    /// What is in the page. The peer may write at any time.
    #[must_use]
    pub fn words(&self) -> &Words {
        let page = self.frame.as_ref().map(Frame::number).unwrap_or_default();
        // SAFETY: a page of this value is at its home, writable and mapped; any bytes are atomics,
        // and no other references lead there.
        unsafe { &*pointer(tables::home(page)) }
    }

    /// Ends the grant and returns the page.
    ///
    /// # Errors
    /// The grant, unchanged, if the peer uses the page.
    pub fn end(mut self) -> Result<Frame, Self> {
        match self.frame.take() {
            Some(frame) if self.entries.revoke(self.reference) => Ok(frame),
            frame => {
                self.frame = frame;
                Err(self)
            }
        }
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        let Some(frame) = self.frame.take() else { return };
        if !self.entries.revoke(self.reference) {
            self.entries.park(self.reference, frame.into_page());
        }
    }
}

/// A peer's page in this guest's address space. Dropping it unmaps it.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{grant::{GrantError, Mapping}, println};
/// # fn example(mapping: Mapping) -> Result<(), GrantError> {
/// use core::sync::atomic::Ordering;
///
/// println!("{} is frame {:#x}: {}", mapping.page(), mapping.machine().0, mapping.load(0));
/// if let Some(words) = mapping.words() {
///     words[0].store(42, Ordering::Release); // mapped for writing
/// }
/// mapping.unmap()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Mapping {
    page: Page,
    machine: Mfn,
    /// The hypervisor's name for it, while it is mapped.
    handle: Option<GrantHandle>,
    writable: bool,
}

impl Mapping {
    /// Where it is.
    #[must_use]
    pub const fn page(&self) -> Page {
        self.page
    }

    /// The machine's frame that is mapped.
    #[must_use]
    pub const fn machine(&self) -> Mfn {
        self.machine
    }

    /// Loads a word of 4 bytes; `word` is its number.
    ///
    /// # Panics
    /// If `word` is 1024 or more.
    #[must_use]
    pub fn load(&self, word: usize) -> u32 {
        self.atomics()[word].load(Ordering::Acquire)
    }

    /// What is in the page, if it is mapped to be written. The peer may write at any time.
    #[must_use]
    pub fn words(&self) -> Option<&Words> {
        Some(self.atomics()).filter(|_| self.writable)
    }

    fn atomics(&self) -> &Words {
        // SAFETY: mapped while this value lives, and any bytes are atomics; those of a page that is
        // mapped read-only are only loaded.
        unsafe { &*pointer(self.page.address()) }
    }

    /// Unmaps the page.
    ///
    /// # Errors
    /// [`GrantError::Refused`] if the hypervisor refuses; the address is lost then.
    pub fn unmap(mut self) -> Result<(), GrantError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), GrantError> {
        let Some(handle) = self.handle.take() else { return Ok(()) };
        let mut unmap = UnmapGrantRef {
            host_addr: self.page.address(),
            handle,
            status: abi::GENERAL_ERROR,
            ..UnmapGrantRef::default()
        };
        // SAFETY: this value's own mapping, which nobody borrows.
        perform(&Machine, &UNMAP, &unsafe { grant_operation(abi::UNMAP_GRANT_REF, &mut unmap) })?;
        Ok(Refusal::check("unmap_grant_ref", unmap.status)?)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let _address_is_lost = self.end();
    }
}
