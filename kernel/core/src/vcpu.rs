//! A virtual CPU: what the kernel keeps of it besides the registers of the moment.

use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use hypercall_abi::layout::{FLAT_KERNEL_CS, FLAT_KERNEL_SS};
use hypercall_abi::start::{VcpuInfo, VcpuTimeInfo};
use hypercall_abi::trap::TrapInfo;
use hypercall_abi::types::{Mfn, PAGE_SHIFT, PAGE_SIZE, VcpuId};

use zerocopy::IntoBytes;

use crate::areas::Areas;
use crate::cpu::{CpuId, CpuSet};
use crate::debug::DebugRegisters;
use crate::descriptors::Tables;
use crate::emulate::msr::MachineCheck;
use crate::event::VirqPorts;
use crate::lock::Lock;
use crate::mm::{Mode, VcpuRoots};
use crate::nmi::Nmi;
use crate::platform::Platform;
use crate::poll::Poll;
use crate::saved::Saved;
use crate::sched::{Reasons, Scheduling};
use crate::timer::Deadlines;

/// Where a guest wants to be entered.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Handler {
    /// Address; 0: none.
    pub address: u64,
    /// Code segment, with ring 3's privilege bits.
    pub cs: u16,
    /// Starts with events masked.
    pub masks_events: bool,
    /// The highest ring whose `int n` may reach it: the guest's kernel counts as 1, user mode as 3.
    pub ring: u8,
}

impl Handler {
    /// A callback in the flat kernel segment.
    #[must_use]
    pub const fn callback(address: u64, masks_events: bool) -> Self {
        Self { address, cs: FLAT_KERNEL_CS, masks_events, ring: 0 }
    }

    /// Whether there is one.
    #[must_use]
    pub const fn is_set(&self) -> bool {
        self.address != 0
    }
}

/// The virtual interrupt table (ABI: `set_trap_table`), one handler per vector, packed: it is most of
/// what a vCPU takes.
#[derive(Debug)]
pub struct TrapTable {
    /// The address without the bits that follow from it being canonical; below it the code segment,
    /// with the ring that may reach the handler in place of its privilege bits.
    rows: [u64; 256],
    /// A bit for each vector whose handler starts with events masked.
    masks: [u64; 4],
}

/// Bits of a row below the address.
const ROW_CS: u32 = 16;

impl TrapTable {
    const EMPTY: Self = Self { rows: [0; 256], masks: [0; 4] };

    /// The handler of a vector.
    #[must_use]
    pub fn get(&self, vector: u8) -> Handler {
        let row = self.rows.get(usize::from(vector)).copied().unwrap_or(0);
        let [low, high, ..] = row.to_le_bytes();
        let (word, bit) = place(vector);
        let masks_events = self.masks.get(word).is_some_and(|word| word & bit != 0);
        let address = row.cast_signed().wrapping_shr(ROW_CS).cast_unsigned();
        // A row that was never set has no segment either.
        let privilege = if row == 0 { 0 } else { 3 };
        let cs = u16::from_le_bytes([low | privilege, high]);
        Handler { address, cs, masks_events, ring: low & TrapInfo::DPL_MASK }
    }

    /// Sets one row, whose address is canonical. The selector gets ring 3's privilege bits.
    pub fn set(&mut self, row: &TrapInfo) {
        let ring = u16::from(row.flags & TrapInfo::DPL_MASK);
        let (word, bit) = place(row.vector);
        if let (Some(packed), Some(masks)) =
            (self.rows.get_mut(usize::from(row.vector)), self.masks.get_mut(word))
        {
            *packed = row.address.wrapping_shl(ROW_CS) | u64::from(row.cs & !3 | ring);
            *masks &= !bit;
            *masks |= if row.flags & TrapInfo::MASK_EVENTS != 0 { bit } else { 0 };
        }
    }

    /// Removes every handler.
    pub fn clear(&mut self) {
        *self = Self::EMPTY;
    }
}

/// A vector's word and bit in a set of vectors.
const fn place(vector: u8) -> (usize, u64) {
    ((vector / 64) as usize, 1 << (vector % 64))
}

/// The entry points and privileges of a vCPU. Only the CPU that runs the vCPU changes them, or
/// whoever holds it stopped.
#[derive(Debug)]
pub struct State {
    /// Handlers of exceptions and `int n`.
    pub traps: TrapTable,
    /// Event upcall; always masks events.
    pub event: Handler,
    /// Entered when a selector can't be loaded on the way to the guest.
    pub failsafe: Handler,
    /// `syscall` in 64-bit user mode.
    pub syscall: Handler,
    /// `syscall` in 32-bit user mode.
    pub syscall32: Handler,
    /// `sysenter` in user mode.
    pub sysenter: Handler,
    /// The stack segment that the guest named for entries from user mode, with ring 3's privilege
    /// bits. Kept for whoever asks: in 64-bit code the entry uses the flat one.
    pub kernel_ss: u16,
    /// Stack pointer of entries from user mode.
    pub kernel_sp: u64,
    /// Virtual I/O privilege level, in the bits of RFLAGS where IOPL is.
    pub iopl: u64,
    /// Ports that user mode may use: guest address of a map with a clear bit for each, and how many
    /// ports it is about.
    pub port_map: (u64, u32),
    /// The guest's own bits of CR4.
    pub cr4: u64,
    /// The parts of the extended state that the guest has in use (XCR0); 0: it has not chosen.
    pub xcr0: u64,
    /// Those that it ever had.
    pub xcr0_ever: u64,
    /// What `rdtscp` shows.
    pub tsc_aux: u32,
    /// Its machine-check registers.
    pub machine_check: MachineCheck,
    /// Whether the guest set the virtual CR0.TS.
    pub task_switched: bool,
    /// Its debug registers.
    pub debug: DebugRegisters,
    /// Its descriptor tables.
    pub tables: Tables,
    /// The CPUs it may run on again when it is no longer kept on one (`sched_op` pin_override).
    pub before_pin: Option<CpuSet>,
}

/// One virtual CPU.
#[derive(Debug)]
pub struct Vcpu {
    /// Its number within its domain.
    pub id: VcpuId,
    /// Its page-table roots.
    pub roots: VcpuRoots,
    /// The number of its descriptor-table window.
    pub window: u32,
    /// How it is scheduled.
    pub scheduling: Scheduling,
    /// Its timers.
    pub deadlines: Lock<Deadlines>,
    /// Its registers while it does not run.
    pub saved: Lock<Saved>,
    /// What it waits for in `sched_op(poll)`.
    pub poll: Poll,
    /// Where the guest wants to read how long it did what, and the time; guest addresses, 0: nowhere.
    pub areas: Areas,
    /// Its periodic timer went off while it did not run.
    pub(crate) periodic_rests: AtomicBool,
    /// The time is not yet in its information.
    pub(crate) wants_clock: AtomicBool,
    kernel_mode: AtomicBool,
    up: AtomicBool,
    initialised: AtomicBool,
    info_moved: AtomicBool,
    claimed: AtomicBool,
    /// The CPU that ran it last, plus 1; 0: its registers are nowhere but in `saved`.
    last_cpu: AtomicU32,
    /// Machine address of its `vcpu_info`.
    info: AtomicU64,
    /// The virtual CR2: what the guest was told of its last page fault, or wrote.
    pub cr2: AtomicU64,
    /// Its non-maskable interrupts.
    pub nmi: Nmi,
    /// The ports of its virtual interrupts.
    pub virqs: VirqPorts,
    /// Everything the fast paths don't need.
    pub state: Lock<State>,
}

impl Vcpu {
    /// A vCPU in kernel mode that has no handlers, with its information at byte `info_offset` of
    /// frame `info`.
    #[must_use]
    pub fn new(
        id: VcpuId,
        roots: VcpuRoots,
        info: Mfn,
        info_offset: u64,
        window: u32,
        now: u64,
    ) -> Self {
        Self {
            id,
            roots,
            window,
            scheduling: Scheduling::new(Reasons::DOWN, now),
            deadlines: Lock::new(Deadlines::new()),
            saved: Lock::new(Saved::new()),
            poll: Poll::new(),
            areas: Areas::default(),
            periodic_rests: AtomicBool::new(true),
            wants_clock: AtomicBool::new(true),
            kernel_mode: AtomicBool::new(true),
            up: AtomicBool::new(false),
            initialised: AtomicBool::new(false),
            info_moved: AtomicBool::new(false),
            claimed: AtomicBool::new(false),
            last_cpu: AtomicU32::new(0),
            info: AtomicU64::new(info.0.wrapping_shl(PAGE_SHIFT) | info_offset),
            cr2: AtomicU64::new(0),
            nmi: Nmi::default(),
            virqs: VirqPorts::default(),
            state: Lock::new(State {
                traps: TrapTable::EMPTY,
                event: Handler::default(),
                failsafe: Handler::default(),
                syscall: Handler::default(),
                syscall32: Handler::default(),
                sysenter: Handler::default(),
                kernel_ss: FLAT_KERNEL_SS,
                kernel_sp: 0,
                iopl: 0,
                port_map: (0, 0),
                cr4: 0,
                xcr0: 0,
                xcr0_ever: 0,
                tsc_aux: 0,
                machine_check: MachineCheck::default(),
                task_switched: false,
                debug: DebugRegisters::default(),
                tables: Tables::default(),
                before_pin: None,
            }),
        }
    }

    /// Whether the guest's kernel runs, not its user mode.
    #[inline]
    #[must_use]
    pub fn in_kernel_mode(&self) -> bool {
        self.kernel_mode.load(Ordering::Relaxed)
    }

    /// Which half of the guest runs.
    #[must_use]
    pub fn mode(&self) -> Mode {
        if self.in_kernel_mode() { Mode::Kernel } else { Mode::User }
    }

    /// Whether the guest has it up.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::SeqCst)
    }

    /// Notes whether the guest has it up; whether it had before.
    pub fn set_up(&self, up: bool) -> bool {
        self.up.swap(up, Ordering::SeqCst)
    }

    /// Whether it has registers to start with.
    #[must_use]
    pub fn is_initialised(&self) -> bool {
        self.initialised.load(Ordering::Acquire)
    }

    /// Notes whether it has registers to start with.
    pub fn set_initialised(&self, initialised: bool) {
        self.initialised.store(initialised, Ordering::Release);
    }

    /// The right to give it a state, to take that from it, or to let it go: each depends on whether it
    /// has one, and two CPUs may want it at once. `None`: another CPU has the right.
    pub(crate) fn claim(&self) -> Option<Claim<'_>> {
        let taken = self.claimed.swap(true, Ordering::Acquire);
        (!taken).then(|| Claim(&self.claimed))
    }

    /// Notes which CPU has its registers; `None`: they have changed meanwhile.
    pub fn set_last_cpu(&self, cpu: Option<CpuId>) {
        let value = cpu.map_or(0, |cpu| u32::from(cpu.number()).wrapping_add(1));
        self.last_cpu.store(value, Ordering::Relaxed);
    }

    /// Whether this CPU ran it last.
    #[must_use]
    pub fn last_ran_on(&self, cpu: CpuId) -> bool {
        self.last_cpu.load(Ordering::Relaxed) == u32::from(cpu.number()).wrapping_add(1)
    }

    /// Notes which mode runs; who calls it also changes the root table and GS.
    pub fn set_kernel_mode(&self, kernel: bool) {
        self.kernel_mode.store(kernel, Ordering::Relaxed);
    }

    /// Whether the vCPU's information is no longer where it was at first.
    pub(crate) fn info_is_moved(&self) -> bool {
        self.info_moved.load(Ordering::Relaxed)
    }

    /// Moves the vCPU's information, as it is, to a byte of a frame, for good.
    pub(crate) fn move_info(&self, platform: &impl Platform, frame: Mfn, offset: u64) {
        let mut info = [0; size_of::<VcpuInfo>()];
        let old = self.info(platform);
        platform.read_frame(old.frame, old.offset, &mut info);
        let at = usize::try_from(offset).unwrap_or(0);
        platform.write_frame(frame, at, &info);
        self.info_moved.store(true, Ordering::Relaxed);
        self.info.store(frame.0.wrapping_shl(PAGE_SHIFT) | offset, Ordering::Release);
    }

    /// The frame that its information was moved to, if it was.
    pub(crate) fn moved_info(&self) -> Option<Mfn> {
        let at = self.info.load(Ordering::Acquire);
        self.info_is_moved().then_some(Mfn(at.wrapping_shr(PAGE_SHIFT)))
    }

    /// Takes the vCPU's information back to `first`, the frame it was in at first; the frame that it
    /// was moved to, if it was.
    pub(crate) fn take_info_back(&self, first: Mfn) -> Option<Mfn> {
        if !self.info_moved.swap(false, Ordering::Relaxed) {
            return None;
        }
        let place = u64::from(self.id.0).wrapping_mul(size_of::<VcpuInfo>() as u64);
        let old = self.info.swap(first.0.wrapping_shl(PAGE_SHIFT) | place, Ordering::AcqRel);
        Some(Mfn(old.wrapping_shr(PAGE_SHIFT)))
    }

    /// Sets the virtual CR2, and tells the guest in its information.
    pub fn set_cr2<P: Platform>(&self, platform: &P, address: u64) {
        self.cr2.store(address, Ordering::Relaxed);
        self.info(platform).set_cr2(address);
    }

    /// The address that [`Self::set_cr2`] was last given.
    pub(crate) fn cr2(&self) -> u64 {
        self.cr2.load(Ordering::Relaxed)
    }

    /// The information that vCPU and kernel share.
    #[inline]
    pub fn info<'a, P: Platform>(&self, platform: &'a P) -> VcpuInfoPage<'a, P> {
        let at = self.info.load(Ordering::Acquire);
        VcpuInfoPage {
            platform,
            frame: Mfn(at.wrapping_shr(PAGE_SHIFT)),
            offset: usize::try_from(at).unwrap_or(0) % PAGE_SIZE,
        }
    }
}

/// What [`Vcpu::claim`] gives; it ends when this is dropped.
pub(crate) struct Claim<'a>(&'a AtomicBool);

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// The fields of `vcpu_info` that the kernel reads and writes, in a page the guest writes too.
#[derive(Debug)]
pub struct VcpuInfoPage<'a, P: Platform> {
    platform: &'a P,
    frame: Mfn,
    offset: usize,
}

/// The last place of a page where a `vcpu_info` fits.
pub(crate) const LAST_INFO_OFFSET: u64 = PAGE_SIZE as u64 - size_of::<VcpuInfo>() as u64;
/// What a `vcpu_info` is aligned to.
pub(crate) const INFO_ALIGNMENT: u64 = align_of::<VcpuInfo>() as u64;
/// Offsets in `vcpu_info`. ABI: `struct vcpu_info`.
const UPCALL_PENDING: usize = 0;
const UPCALL_MASK: usize = 1;
const SELECTOR: usize = 8;
const CR2: usize = 16;

impl<P: Platform> VcpuInfoPage<'_, P> {
    /// The guest's mask of upcalls, its interrupt flag inverted: 0 if they are let through.
    #[inline]
    #[must_use]
    pub fn mask(&self) -> u8 {
        self.byte(UPCALL_MASK)
    }

    /// Sets the guest's mask of upcalls.
    #[inline]
    pub fn set_mask(&self, mask: u8) {
        if let Some(byte) = self.cell(UPCALL_MASK) {
            byte.store(mask, Ordering::Relaxed);
        }
    }

    /// Whether an upcall is to be delivered now.
    #[inline]
    #[must_use]
    pub fn wants_upcall(&self) -> bool {
        self.byte(UPCALL_PENDING) != 0 && self.mask() == 0
    }

    /// Sets the flag of a pending upcall; whether it was clear before.
    #[inline]
    pub(crate) fn set_upcall_pending(&self) -> bool {
        let flag = self.cell(UPCALL_PENDING);
        flag.is_some_and(|flag| flag.fetch_or(1, Ordering::SeqCst) & 1 == 0)
    }

    /// Sets bits of the selector, which says what words of pending bits to look at; whether one of
    /// them was clear before. The information is aligned to words.
    #[inline]
    pub(crate) fn select(&self, words: u64) -> bool {
        let at = self.offset.saturating_add(SELECTOR).wrapping_shr(3);
        let selector = self.platform.table(self.frame).get(at);
        selector.is_some_and(|bits| bits.fetch_or(words, Ordering::SeqCst) & words != words)
    }

    /// Gives the guest its clock, which is good for ever.
    pub fn set_clock(&self, clock: &VcpuTimeInfo) {
        let at = self.offset.saturating_add(offset_of!(VcpuInfo, time));
        self.platform.write_frame(self.frame, at, clock.as_bytes());
    }

    /// Tells the guest the address of a page fault.
    pub fn set_cr2(&self, address: u64) {
        let at = self.offset.saturating_add(CR2);
        self.platform.write_frame(self.frame, at, &address.to_le_bytes());
    }

    #[inline]
    fn byte(&self, field: usize) -> u8 {
        self.cell(field).map_or(0, |byte| byte.load(Ordering::Relaxed))
    }

    #[inline]
    fn cell(&self, field: usize) -> Option<&core::sync::atomic::AtomicU8> {
        self.platform.bytes(self.frame).get(self.offset.saturating_add(field))
    }
}
