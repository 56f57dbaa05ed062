//! The initial domain: built by ring 0 from two boot modules, before anything else runs.

use core::fmt;
use core::mem::offset_of;

use hypercall_abi::layout::{FLAT_KERNEL_CS, FLAT_KERNEL_SS, LEGACY_MAX_VCPUS};
use hypercall_abi::start::{VcpuInfo, VgaConsoleText};
use hypercall_abi::types::{DomId, Mfn, PAGE_SHIFT, Pfn, VcpuId};

use crate::bounce::rflags;
use crate::domain::{Domain, Privilege};
use crate::mm::{DomainMemory, Refusal, VcpuRoots};
use crate::options::{Amount, DomainMemory as Amounts};
use crate::platform::{NoMemory, Platform};
use crate::regs::GuestRegs;
use crate::sched::Reasons;
use crate::system::{DomainVcpu, System};
use domain_builder::build::{self, Contents, Target};
use domain_builder::image::{Image, ImageError};
use domain_builder::plan::{COMMAND_LINE_MAX, Connections, Kind, Plan, PlanError, Request};

/// Number of the initial domain.
const ID: DomId = DomId(0);
/// Frames that the kernel keeps for itself, at most, if the operator does not say: 128 MiB.
const KEPT: u64 = 128 << (20 - PAGE_SHIFT);
/// Frames that the domain may have in the end, if the operator does not say: as many as there are.
const UNLIMITED: u64 = u32::MAX as u64;
/// Pieces of memory the domain may be put together from.
const RUNS: usize = 32;

/// What the initial domain is made of.
#[derive(Clone, Copy, Debug)]
pub struct Ingredients<'a> {
    /// The kernel: module 0.
    pub image: &'a [u8],
    /// The ramdisk: module 1; empty if there is none.
    pub ramdisk: &'a [u8],
    /// The kernel's command line: that of module 0.
    pub command_line: &'a [u8],
    /// What is appended to it: the hypervisor's own command line, behind `--`.
    pub more_command_line: &'a str,
    /// How much memory it gets.
    pub memory: Amounts,
    /// How many virtual CPUs.
    pub vcpus: u32,
    /// The text screen it may go on with.
    pub screen: Option<VgaConsoleText>,
}

/// Why there is no initial domain. Its `Display` is a sentence for whoever booted the machine.
#[derive(Debug)]
pub enum InitialError {
    /// Module 0 is not an image that can be started.
    Image(ImageError),
    /// The image does not fit the domain.
    Plan(PlanError),
    /// The machine has less memory than the domain is to get. Unit: frames.
    Memory {
        /// Wanted.
        wanted: u64,
        /// Free.
        free: u64,
    },
    /// The page tables that the plan describes are refused: an error in the planner.
    Tables(Refusal),
}

impl fmt::Display for InitialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(error) => write!(f, "module 0: {error}"),
            Self::Plan(error) => write!(f, "initial domain: {error}"),
            Self::Memory { wanted, free } => write!(
                f,
                "initial domain: {} MiB of memory are wanted and {} MiB are free; \
                 give the machine more memory or the domain less (dom0_mem=)",
                mib(*wanted),
                mib(*free)
            ),
            Self::Tables(refusal) => write!(f, "initial domain: its page tables: {refusal}"),
        }
    }
}

impl From<NoMemory> for InitialError {
    fn from(_: NoMemory) -> Self {
        Self::Memory { wanted: 1, free: 0 }
    }
}

const fn mib(frames: u64) -> u64 {
    frames >> 8
}

/// The domain's frames: adjacent where memory allows, in a few runs where it does not.
struct Frames<'a, P> {
    platform: &'a P,
    runs: heapless::Vec<(Pfn, Mfn, u64), RUNS>,
}

impl<P: Platform> Frames<'_, P> {
    /// Takes `pages` frames for the initial domain, in the largest runs there are.
    fn take(&mut self, pages: u64) -> Result<(), InitialError> {
        let table = self.platform.frames();
        let short = InitialError::Memory { wanted: pages, free: table.free_count() };
        if pages > table.free_count() {
            return Err(short);
        }
        let mut next = 0;
        let mut size = pages;
        while next < pages {
            size = size.min(pages.saturating_sub(next));
            match table.alloc_run(self.platform, ID, size) {
                Ok(start) => {
                    if self.runs.push((Pfn(next), start, size)).is_err() {
                        return Err(short);
                    }
                    next = next.saturating_add(size);
                }
                Err(NoMemory) if size > 1 => size = size.div_ceil(2),
                Err(NoMemory) => return Err(short),
            }
        }
        Ok(())
    }

    fn publish(&self) {
        for &(pfn, mfn, count) in &self.runs {
            for at in 0..count {
                let (pfn, mfn) = (pfn.0.wrapping_add(at), mfn.0.wrapping_add(at));
                self.platform.set_m2p(Mfn(mfn), Pfn(pfn));
            }
        }
    }
}

impl<P: Platform> Target for Frames<'_, P> {
    type Error = core::convert::Infallible;

    fn machine_frame(&self, pfn: Pfn) -> Mfn {
        let run = self.runs.iter().rev().find(|(first, ..)| first.0 <= pfn.0);
        let (first, start, _) = run.copied().unwrap_or((pfn, Mfn(0), 0));
        Mfn(start.0.wrapping_add(pfn.0.wrapping_sub(first.0)))
    }

    fn write(&mut self, pfn: Pfn, offset: usize, bytes: &[u8]) -> Result<(), Self::Error> {
        self.platform.write_frame(self.machine_frame(pfn), offset, bytes);
        Ok(())
    }

    fn set_entry(&mut self, table: Pfn, slot: u16, entry: u64) -> Result<(), Self::Error> {
        let offset = usize::from(slot).wrapping_mul(size_of::<u64>());
        self.write(table, offset, &entry.to_le_bytes())
    }
}

impl<P: Platform> System<P> {
    /// Builds the initial domain. Returns its first vCPU, which the scheduler has been given.
    ///
    /// # Errors
    ///
    /// [`InitialError`]. Nothing can be started then; what was allocated is not given back.
    pub fn build_initial(&self, parts: &Ingredients<'_>) -> Result<DomainVcpu<P>, InitialError> {
        let image = Image::parse(parts.image).map_err(InitialError::Image)?;
        let request = Request {
            kind: Kind::Initial,
            nr_pages: pages(parts.memory, self.platform.frames().free_count()),
            ramdisk_len: u64::try_from(parts.ramdisk.len()).unwrap_or(u64::MAX),
        };
        let plan = Plan::new(&image, &request).map_err(InitialError::Plan)?;
        let mut frames = Frames { platform: &self.platform, runs: heapless::Vec::new() };
        frames.take(plan.nr_pages)?;
        let shared = self.platform.frames().alloc_shared(&self.platform, ID)?.into_entry();
        let command_line = joined(parts.command_line, parts.more_command_line.as_bytes());
        let contents = Contents {
            image: parts.image,
            ramdisk: parts.ramdisk,
            command_line: &command_line,
            shared_info: shared,
            connections: Connections { video: parts.screen, ..Connections::default() },
        };
        let Ok(()) = build::build(&plan, &image, &contents, &mut frames);
        frames.publish();
        let memory = DomainMemory::new(ID, plan.nr_pages).with_devices();
        memory.set_max_pages(parts.memory.max.map_or(UNLIMITED, |_| plan.nr_pages));
        let root = frames.machine_frame(plan.root());
        let roots =
            VcpuRoots::first(&self.platform, &memory, root).map_err(InitialError::Tables)?;
        self.mask_upcalls(shared);
        self.clock.publish_wall_clock(&self.platform, shared);
        let domain =
            self.platform.arc_with(|| Domain::new(ID, Privilege::Initial, shared, memory))?;
        self.add_vcpu(&domain, roots)?;
        for _ in 1..parts.vcpus {
            self.add_vcpu(&domain, VcpuRoots::none())?;
        }
        // The first domain's number is free.
        let _ = self.domains.add(&self.platform, domain.clone());
        let first = domain.vcpu(VcpuId(0)).cloned().ok_or(NoMemory)?;
        first.saved.lock(&self.platform).regs = first_registers(&plan);
        first.set_initialised(true);
        first.set_up(true);
        let vcpu = DomainVcpu { domain, vcpu: first };
        self.wake(&vcpu, Reasons::DOWN);
        Ok(vcpu)
    }

    /// Every vCPU starts with upcalls masked.
    pub(crate) fn mask_upcalls(&self, shared_info: Mfn) {
        for vcpu in 0..LEGACY_MAX_VCPUS {
            let info = vcpu.wrapping_mul(size_of::<VcpuInfo>());
            let at = info.wrapping_add(offset_of!(VcpuInfo, evtchn_upcall_mask));
            self.platform.write_frame(shared_info, at, &[1]);
        }
    }
}

/// Both parts of the command line, with a space between them; as much as a guest can be told.
fn joined(first: &[u8], more: &[u8]) -> heapless::Vec<u8, COMMAND_LINE_MAX> {
    let space: &[u8] = if first.is_empty() || more.is_empty() { b"" } else { b" " };
    [first, space, more].into_iter().flatten().copied().take(COMMAND_LINE_MAX).collect()
}

/// Frames the initial domain gets of those that are free: what was asked for, and without being
/// asked all but what the kernel keeps for itself.
fn pages(share: Amounts, free: u64) -> u64 {
    let bytes = free.wrapping_shl(PAGE_SHIFT);
    let in_pages = |amount: Amount| amount.of(bytes) >> PAGE_SHIFT;
    let kept = (free / 16).min(KEPT);
    let wanted = share.initial.map_or(free.saturating_sub(kept), in_pages);
    let least = share.min.map_or(0, in_pages);
    let most = share.max.map_or(u64::MAX, in_pages);
    wanted.max(least).min(most)
}

/// Registers at the guest's first instruction.
fn first_registers(plan: &Plan) -> GuestRegs {
    GuestRegs {
        rip: plan.entry,
        cs: u64::from(FLAT_KERNEL_CS),
        rflags: rflags::IF | 1 << 1,
        rsp: plan.stack_top,
        ss: u64::from(FLAT_KERNEL_SS),
        rsi: plan.start_info.va.unwrap_or(0),
        ..GuestRegs::default()
    }
}
