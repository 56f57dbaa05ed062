//! Makes a domain of a kernel: memory, contents, rings, grants, a first virtual CPU.

use alloc::vec::Vec;
use core::fmt;

use domain_builder::build::{Contents, Target, address, copy, describe};
use domain_builder::plan::{Connections, Extent, Kind, Plan, PlanError, Request};
use embassy_futures::{block_on, yield_now};
use hypercall_abi::grant::{EntryState, RESERVED_CONSOLE, RESERVED_XENSTORE};
use hypercall_abi::layout::{FLAT_KERNEL_CS, FLAT_KERNEL_SS};
use hypercall_abi::memory::{E820_RAM, E820Entry};
use hypercall_abi::regs::{GuestContextFlags, VcpuGuestContext};
use hypercall_abi::types::{DomId, GrantRef, Mfn, PAGE_SIZE, Pfn, Port, VcpuId};
use pv_guest_sdk::control::{ControlError, CreateDomain, Domain, Foreign, MaxMem, MaxVcpus, Plain};
use pv_guest_sdk::paging::Page;
use pv_guest_sdk::{Machine, extension};

use crate::kernel::{Kernel, KernelError};
use crate::unpack::PIECE;

/// Memory that a domain may have beside what it is given. Unit: KiB.
const SLACK: u64 = 1024;
/// Memory that a domain is given at once. Unit: pages.
const PART: usize = 512;
/// The highest port a domain may use.
const LAST_PORT: u32 = 1023;
/// Where the masks of virtual CPUs are in the shared page, from one to the next. Unit: bytes.
const VCPU_INFO: usize = 64;
const UPCALL_MASK: usize = 1;
/// Virtual CPUs that have a place there.
const PLACES: usize = 32;
/// Of the floating-point state: where control words are, and what they begin with.
const FCW: (usize, u16) = (0, 0x37f);
const MXCSR: (usize, u16) = (24, 0x1f80);

/// What a domain shall be.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// The kernel's file, packed or not.
    pub image: &'a [u8],
    /// The ramdisk, empty for none.
    pub ramdisk: &'a [u8],
    /// The command line.
    pub command_line: &'a str,
    /// Memory. Unit: pages of 4 KiB.
    pub pages: u64,
    /// Virtual CPUs, at least one.
    pub vcpus: u32,
}

/// Why a domain cannot be built.
#[derive(Debug)]
pub enum BuildError {
    /// The kernel is none.
    Kernel(KernelError),
    /// It does not fit.
    Plan(PlanError),
    /// The hypervisor refused something, or there is no memory.
    Control(ControlError),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel(error) => write!(f, "{error}"),
            Self::Plan(error) => write!(f, "{error}"),
            Self::Control(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for BuildError {}

impl From<KernelError> for BuildError {
    fn from(error: KernelError) -> Self {
        Self::Kernel(error)
    }
}

impl<E: Into<ControlError>> From<E> for BuildError {
    fn from(error: E) -> Self {
        Self::Control(error.into())
    }
}

/// A domain that is ready to run, and what its back ends need.
#[derive(Debug)]
pub struct Built {
    /// The domain, paused.
    pub domain: Domain,
    /// The frame of its console's ring.
    pub console: Mfn,
    /// Its console's port, which waits for this domain.
    pub console_port: Port,
    /// The frame of its store's ring.
    pub store: Mfn,
    /// Its store's port, which waits for this domain.
    pub store_port: Port,
}

/// [`gradually`], all at once.
///
/// # Errors
/// As of [`gradually`].
pub fn domain(settings: &Settings<'_>, window: Page) -> Result<Built, BuildError> {
    block_on(gradually(settings, window))
}

/// Builds a domain, which is left paused. Its frames are mapped at `window`, one at a time. Between
/// pieces of the work (2 MiB of memory that are given to it, 64 KiB that are copied) other tasks get
/// their turn.
///
/// # Errors
/// [`BuildError`]; what was made of the domain is destroyed.
pub async fn gradually(settings: &Settings<'_>, window: Page) -> Result<Built, BuildError> {
    let kernel = Kernel::open(settings.image).await.map_err(BuildError::Kernel)?;
    let ramdisk_len = settings.ramdisk.len() as u64;
    let request = Request { kind: Kind::Toolstack, nr_pages: settings.pages, ramdisk_len };
    let plan = Plan::new(&kernel.image, &request).map_err(BuildError::Plan)?;
    let domain = Domain::create(
        DomId(0),
        &CreateDomain {
            max_vcpus: settings.vcpus,
            max_evtchn_port: LAST_PORT,
            max_grant_frames: -1,
            max_maptrack_frames: -1,
            grant_opts: 1,
            ..CreateDomain::default()
        },
    )?;
    let filled = fill(&domain, settings, &kernel, &plan, window).await;
    match filled.and_then(|rings| record(&domain, rings)) {
        Ok((console, console_port, store, store_port)) => {
            Ok(Built { domain, console, console_port, store, store_port })
        }
        Err(error) => {
            let _is_gone = domain.control(Plain::Destroy);
            Err(error)
        }
    }
}

type Rings = (Mfn, Port, Mfn, Port);

/// Has it recorded what the domain is connected to, where that can be.
fn record(domain: &Domain, rings: Rings) -> Result<Rings, BuildError> {
    let (console, console_port, store, store_port) = rings;
    let known = extension::Rings {
        domain: domain.id(),
        store_port: store_port.0,
        store_frame: store.0,
        console_frame: console.0,
        console_port: console_port.0,
        ..extension::Rings::default()
    };
    extension::set_rings(&Machine, known).map_err(ControlError::from)?;
    Ok(rings)
}

async fn fill(
    domain: &Domain,
    settings: &Settings<'_>,
    kernel: &Kernel<'_>,
    plan: &Plan,
    window: Page,
) -> Result<Rings, BuildError> {
    domain.apply(&mut MaxVcpus { max: settings.vcpus })?;
    domain.apply(&mut MaxMem { max_memkb: 4 * settings.pages + SLACK })?;
    let ram = E820Entry {
        addr: 0.into(),
        size: (settings.pages * PAGE_SIZE as u64).into(),
        kind: E820_RAM.into(),
    };
    domain.set_memory_map(&mut [ram])?;
    let frames = populate(domain, settings.pages).await?;
    let (store_port, console_port) = (domain.unbound()?, domain.unbound()?);
    let shared_info = Mfn(domain.info()?.shared_info_frame);
    let contents = Contents {
        image: kernel.head(),
        ramdisk: settings.ramdisk,
        command_line: settings.command_line.as_bytes(),
        shared_info,
        connections: Connections { store: store_port, console: console_port, video: None },
    };
    let mut memory = Memory { domain, frames: &frames, window, mapped: None };
    for segment in kernel.image.segments(kernel.head()) {
        let bytes = kernel.head().get(segment.file).unwrap_or_default();
        memory.fill(plan, segment.offset, bytes).await?;
    }
    if let Some(part) = plan.ramdisk {
        memory.fill(plan, address(part.pfn), settings.ramdisk).await?;
    }
    kernel
        .unpack(|at, bytes| copy(plan, at, bytes, &mut memory).map_err(BuildError::Control))
        .await?;
    describe(plan, &contents, &mut memory)?;
    yield_now().await;
    // A frame that is mapped for writing is no page table.
    memory.mapped = None;
    let frame = |part: Option<Extent>| part.map_or(Mfn(0), |part| memory.machine_frame(part.pfn));
    let (console, store) = (frame(plan.console), frame(plan.store));
    seed_grants(domain, window, console, store)?;
    hold_events(domain, window, shared_info)?;
    let root = memory.machine_frame(plan.tables.pfn);
    domain.pin(root)?;
    domain.set_context(VcpuId(0), &mut first_state(plan, root))?;
    Ok((console, console_port, store, store_port))
}

/// Gives a domain memory, which is zero. Its frames.
async fn populate(domain: &Domain, pages: u64) -> Result<Vec<u64>, BuildError> {
    let mut frames: Vec<u64> = Vec::new();
    let count = usize::try_from(pages).unwrap_or(usize::MAX);
    // The list is this domain's, whose memory may be short too.
    frames.try_reserve_exact(count).map_err(|_| ControlError::Memory(0))?;
    frames.extend(0..pages);
    // Our own hypervisor gives frames that are zero.
    let is_dirty = extension::version(&Machine).is_none();
    for (part, before) in frames.chunks_mut(PART).zip((0..).step_by(PART)) {
        domain.populate(part).map_err(|error| match error {
            ControlError::Memory(got) => ControlError::Memory(before + got),
            other => other,
        })?;
        if is_dirty {
            domain.clear(part)?;
        }
        yield_now().await;
    }
    Ok(frames)
}

/// A domain's memory, a frame of which is mapped.
struct Memory<'a> {
    domain: &'a Domain,
    frames: &'a [u64],
    window: Page,
    mapped: Option<(Pfn, Foreign)>,
}

impl Memory<'_> {
    /// Writes bytes from pseudo-physical address `at` on.
    async fn fill(&mut self, plan: &Plan, at: u64, bytes: &[u8]) -> Result<(), ControlError> {
        for (piece, at) in bytes.chunks(PIECE).zip((at..).step_by(PIECE)) {
            copy(plan, at, piece, self)?;
            yield_now().await;
        }
        Ok(())
    }
}

impl Target for Memory<'_> {
    type Error = ControlError;

    fn machine_frame(&self, pfn: Pfn) -> Mfn {
        let index = usize::try_from(pfn.0).unwrap_or(usize::MAX);
        Mfn(self.frames.get(index).copied().unwrap_or_default())
    }

    fn write(&mut self, pfn: Pfn, offset: usize, bytes: &[u8]) -> Result<(), ControlError> {
        if self.mapped.as_ref().is_none_or(|(mapped, _)| *mapped != pfn) {
            // The window must be free before it is used again.
            self.mapped = None;
            let foreign = self.domain.map(self.window, self.machine_frame(pfn))?;
            self.mapped = Some((pfn, foreign));
        }
        if let Some((_, foreign)) = &self.mapped {
            foreign.write(offset, bytes);
        }
        Ok(())
    }

    fn set_entry(&mut self, table: Pfn, slot: u16, entry: u64) -> Result<(), ControlError> {
        self.write(table, 8 * usize::from(slot), &entry.to_le_bytes())
    }
}

/// Lets this domain use the two rings by grants too, as back ends do that are other domains.
fn seed_grants(
    domain: &Domain,
    window: Page,
    console: Mfn,
    store: Mfn,
) -> Result<(), ControlError> {
    let table = domain.map(window, domain.grant_table()?)?;
    for (GrantRef(entry), frame) in [(RESERVED_CONSOLE, console), (RESERVED_XENSTORE, store)] {
        let at = 8 * entry as usize;
        // The peer, 0, is this domain; flags come last, as they make the entry valid.
        let frame = u32::try_from(frame.0).unwrap_or(u32::MAX);
        table.write(at + 4, &frame.to_le_bytes());
        table.write(at, &EntryState::PERMIT_ACCESS.bits().to_le_bytes());
    }
    Ok(())
}

/// Makes every virtual CPU begin with events held back.
fn hold_events(domain: &Domain, window: Page, shared_info: Mfn) -> Result<(), ControlError> {
    let page = domain.map(window, shared_info)?;
    for vcpu in 0..PLACES {
        page.write(vcpu * VCPU_INFO + UPCALL_MASK, &[1]);
    }
    Ok(())
}

/// The state in which the first virtual CPU begins.
fn first_state(plan: &Plan, root: Mfn) -> VcpuGuestContext {
    let mut state = VcpuGuestContext::default();
    let flags = GuestContextFlags::IN_KERNEL | GuestContextFlags::ONLINE;
    state.flags = (flags | GuestContextFlags::I387_VALID).bits();
    for (at, value) in [FCW, MXCSR] {
        if let Some(place) = state.fpu_ctxt.get_mut(at..at + 2) {
            place.copy_from_slice(&value.to_le_bytes());
        }
    }
    let registers = &mut state.user_regs;
    registers.rip = plan.entry;
    registers.rsp = plan.stack_top;
    registers.rsi = plan.start_info.va.unwrap_or_default();
    registers.rflags = 1 << 9;
    registers.cs = FLAT_KERNEL_CS;
    registers.ss = FLAT_KERNEL_SS;
    state.kernel_ss = FLAT_KERNEL_SS.into();
    state.kernel_sp = plan.stack_top;
    state.ctrlreg[3] = root.address();
    state
}
