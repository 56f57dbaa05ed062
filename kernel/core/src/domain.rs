//! A domain: one guest and what belongs to it.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use hypercall_abi::extension::Rings;
use hypercall_abi::layout::LEGACY_MAX_VCPUS;
use hypercall_abi::types::{DomId, Mfn, VcpuId};
use spin::Once;

use crate::calls::memory_map::ToldMap;
use crate::control::Ranges;
use crate::cpuid::Limits;
use crate::event::Ports;
use crate::grant::GrantTable;
use crate::irq::Pirqs;
use crate::lock::Lock;
use crate::mm::DomainMemory;
use crate::platform::Platform;
use crate::sched::Share;
use crate::vcpu::Vcpu;

/// What a domain may do beyond using what is its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Privilege {
    /// An ordinary domain.
    None,
    /// The initial domain: owns the devices and controls the other domains.
    Initial,
}

/// Why a domain no longer runs (ABI: `SHUTDOWN_*`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ShutdownReason(pub u32);

/// Whether a domain is being ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Life {
    /// It is not, though it may have shut down.
    Alive = 0,
    /// It is: nothing of it runs, and what it has is taken from it.
    Dying = 1,
    /// It has nothing left but frames that others still map.
    Dead = 2,
}

/// Lines about itself that a domain may cause in the log between two refills.
const LOG_LINES: u32 = 64;

/// Ranges of ports, and of interrupts, that a domain's rights are made of at most.
const FEW_RANGES: usize = 16;

/// vCPUs a domain can have: as many as have their information in the shared page from the start.
pub const MAX_VCPUS: usize = LEGACY_MAX_VCPUS;
/// The same number as vCPUs are counted.
#[expect(clippy::cast_possible_truncation, reason = "a small constant")]
pub const MOST_VCPUS: u32 = MAX_VCPUS as u32;

/// One guest.
pub struct Domain<P: Platform> {
    /// Its number.
    pub id: DomId,
    /// Its rights.
    pub privilege: Privilege,
    /// The frame it shares with the kernel (ABI: `shared_info`).
    pub shared_info: Mfn,
    /// Its memory.
    pub memory: DomainMemory,
    /// Its ports.
    pub ports: Ports<P>,
    /// What it grants, and what it has mapped of others.
    pub grants: GrantTable<P>,
    /// The name that the tools gave it, a UUID.
    pub handle: Lock<[u8; 16]>,
    /// Its security label, a number that only the tools understand.
    pub ssidref: u32,
    /// Ports of the machine that it may use.
    pub io_ports: Lock<Ranges<FEW_RANGES>>,
    /// Interrupts of the machine that it may use.
    pub irqs: Lock<Ranges<FEW_RANGES>>,
    /// Its numbers for interrupts.
    pub(crate) pirqs: Pirqs<P>,
    /// What it selected of PCI configuration space.
    pub(crate) selected: AtomicU32,
    /// What it selected of the clock.
    pub(crate) clock_selector: Lock<u8>,
    /// What it was connected to, as whoever built it says.
    pub(crate) rings: Lock<Rings>,
    /// How it is to see the time-stamp counter, which it sees as it is: mode, and incarnation.
    pub(crate) tsc: Lock<(u32, u32)>,
    /// What of the CPU it is shown at most.
    pub(crate) cpuid: Lock<Limits>,
    /// Whether it has ever been allowed to run.
    pub(crate) begun: AtomicBool,
    /// Nodes that its memory shall come from, as the tools say; 0: they have not said.
    pub(crate) nodes: AtomicU64,
    /// vCPUs it may have.
    pub max_vcpus: u32,
    /// The memory map that it is told of.
    pub memory_map: Lock<ToldMap<P>>,
    /// How often it is paused.
    pub(crate) pauses: Lock<u32>,
    /// [`Life`].
    pub(crate) life: AtomicU8,
    /// Who works on it from outside.
    pub(crate) visitors: AtomicU32,
    /// A CPU is at work to end it.
    pub(crate) ending: AtomicBool,
    vcpus: [Once<P::Arc<Vcpu>>; MAX_VCPUS],
    shutdown: Lock<Option<ShutdownReason>>,
    stopped: AtomicBool,
    pollers: AtomicU32,
    share: Share,
    log_lines: AtomicU32,
}

impl<P: Platform> Domain<P> {
    /// A domain that runs nothing yet.
    #[must_use]
    pub fn new(id: DomId, privilege: Privilege, shared_info: Mfn, memory: DomainMemory) -> Self {
        // The first line is the machine's timer, which nobody gets.
        let (rights, irqs) = match privilege {
            Privilege::Initial => (Ranges::ALL, Ranges::FROM_1),
            Privilege::None => (Ranges::NONE, Ranges::NONE),
        };
        Self {
            id,
            privilege,
            shared_info,
            memory,
            ports: Ports::new(),
            grants: GrantTable::new(),
            handle: Lock::new([0; 16]),
            ssidref: 0,
            io_ports: Lock::new(rights),
            irqs: Lock::new(irqs),
            pirqs: Pirqs::new(),
            selected: AtomicU32::new(0),
            clock_selector: Lock::new(0),
            rings: Lock::new(Rings { domain: id, ..Rings::default() }),
            tsc: Lock::new((0, 1)),
            cpuid: Lock::new(Limits::NONE),
            begun: AtomicBool::new(false),
            nodes: AtomicU64::new(0),
            max_vcpus: MOST_VCPUS,
            memory_map: Lock::new(ToldMap::NONE),
            pauses: Lock::new(0),
            life: AtomicU8::new(Life::Alive as u8),
            visitors: AtomicU32::new(0),
            ending: AtomicBool::new(false),
            vcpus: [const { Once::new() }; MAX_VCPUS],
            shutdown: Lock::new(None),
            stopped: AtomicBool::new(false),
            pollers: AtomicU32::new(0),
            share: Share::new(),
            log_lines: AtomicU32::new(LOG_LINES),
        }
    }

    /// Whether this is the initial domain.
    #[must_use]
    pub fn is_privileged(&self) -> bool {
        self.privilege == Privilege::Initial
    }

    /// Whether it is being ended.
    #[must_use]
    pub fn life(&self) -> Life {
        match self.life.load(Ordering::SeqCst) {
            0 => Life::Alive,
            1 => Life::Dying,
            _ => Life::Dead,
        }
    }

    /// How often the tools have paused it; it runs at 0.
    pub fn pauses(&self, platform: &P) -> u32 {
        *self.pauses.lock(platform)
    }

    /// Notes why the domain will have stopped. The first reason stays.
    pub fn set_shutdown_reason(&self, platform: &P, reason: ShutdownReason) -> ShutdownReason {
        *self.shutdown.lock(platform).get_or_insert(reason)
    }

    /// Notes that the domain runs no more, and why; returns the reason that stays, and whether it ran
    /// until now.
    pub fn stop(&self, platform: &P, reason: ShutdownReason) -> (ShutdownReason, bool) {
        let reason = self.set_shutdown_reason(platform, reason);
        (reason, !self.stopped.swap(true, Ordering::AcqRel))
    }

    /// The domain has not stopped after all.
    pub(crate) fn restart(&self, platform: &P) {
        *self.shutdown.lock(platform) = None;
        self.stopped.store(false, Ordering::Release);
    }

    /// One more of its vCPUs polls ports.
    pub(crate) fn poller_comes(&self) {
        self.pollers.fetch_add(1, Ordering::SeqCst);
    }

    /// One less of its vCPUs polls ports.
    pub(crate) fn poller_goes(&self) {
        self.pollers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether any of its vCPUs polls ports.
    #[inline]
    pub(crate) fn has_pollers(&self) -> bool {
        self.pollers.load(Ordering::SeqCst) != 0
    }

    /// What its vCPUs may have of the CPUs.
    #[must_use]
    pub fn share(&self) -> &Share {
        &self.share
    }

    /// Why the domain stopped, once it has.
    pub fn shutdown_reason(&self, platform: &P) -> Option<ShutdownReason> {
        if self.stopped.load(Ordering::Acquire) { *self.shutdown.lock(platform) } else { None }
    }

    /// The vCPU with this number.
    #[inline]
    #[must_use]
    pub fn vcpu(&self, id: VcpuId) -> Option<&P::Arc<Vcpu>> {
        self.vcpus.get(usize::try_from(id.0).ok()?)?.get()
    }

    /// All its vCPUs, in the order of their numbers.
    pub fn vcpus(&self) -> impl Iterator<Item = &P::Arc<Vcpu>> {
        self.vcpus.iter().map_while(Once::get)
    }

    /// Gives the domain a vCPU, under the vCPU's own number; the numbers below are taken.
    pub fn add_vcpu(&self, vcpu: P::Arc<Vcpu>) {
        let place = usize::try_from(vcpu.id.0).ok().and_then(|at| self.vcpus.get(at));
        if let Some(place) = place {
            place.call_once(|| vcpu);
        }
    }

    /// Takes one of the lines the domain may cause in the log. A guest must not be able to flood it.
    pub fn may_log(&self) -> bool {
        self.log_lines
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok()
    }
}

impl<P: Platform> fmt::Debug for Domain<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Domain").field("id", &self.id).finish_non_exhaustive()
    }
}
