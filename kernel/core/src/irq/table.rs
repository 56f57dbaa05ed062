//! Who has which interrupt.

use core::sync::atomic::{AtomicBool, AtomicU64};

use hypercall_abi::types::Port;

use super::device::{Devices, Source};
use super::line::Lines;
use crate::cpu::CpuId;
use crate::domain::Domain;
use crate::lock::Lock;
use crate::platform::Platform;

/// Numbers that a domain can give to interrupts: as many as Xen has for it on a PC with one CPU.
pub const PIRQS: u32 = 208;
/// The vector of the first place.
const FIRST_VECTOR: u8 = 0x30;
/// The vector behind the last place; from here on vectors are the kernel's own.
const END_VECTOR: u8 = 0xf0;
/// The vector that is no interrupt's: guests raise it by `int 0x80`.
const SYSTEM_CALL: u8 = 0x80;
/// Places, one of which stays empty.
pub(super) const PLACES: usize = (END_VECTOR - FIRST_VECTOR) as usize;

/// An interrupt that a domain has.
pub(super) struct Mapped<P: Platform> {
    pub(super) domain: P::Arc<Domain<P>>,
    pub(super) pirq: u32,
    pub(super) source: Source,
    /// The port that it raises. `None`: it is masked.
    pub(super) port: Option<Port>,
    /// Where it is raised.
    pub(super) cpu: CpuId,
    /// It is masked until the guest reports its end.
    pub(super) in_service: bool,
}

/// A place for an interrupt.
pub(super) type Place<P> = Lock<Option<Mapped<P>>>;

/// All interrupts that domains have. The machine keeps it, where there is room: it is some 20 KiB.
pub struct Interrupts<P: Platform> {
    /// Held by whoever changes what is mapped or bound: what is known of PCI devices.
    pub(super) setup: Lock<Devices>,
    /// The machine's lines.
    pub lines: Lines,
    places: [Place<P>; PLACES],
}

impl<P: Platform> Interrupts<P> {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            setup: Lock::new(Devices::new()),
            lines: Lines::new(),
            places: [const { Lock::new(None) }; PLACES],
        }
    }

    /// The place of a vector.
    pub(super) fn at_vector(&self, vector: u8) -> Option<&Place<P>> {
        self.places.get(usize::from(vector.checked_sub(FIRST_VECTOR)?))
    }

    /// A place.
    pub(super) fn place(&self, at: u8) -> Option<&Place<P>> {
        self.places.get(usize::from(at))
    }

    /// All places, with their numbers.
    pub(super) fn places(&self) -> impl Iterator<Item = (u8, &Place<P>)> {
        (0_u8..).zip(&self.places)
    }

    /// An empty place. It stays empty as long as `setup` is held.
    pub(super) fn empty(&self, platform: &P) -> Option<(u8, &Place<P>)> {
        self.places()
            .find(|(at, place)| vector_of(*at) != SYSTEM_CALL && place.lock(platform).is_none())
    }
}

impl<P: Platform> Default for Interrupts<P> {
    fn default() -> Self {
        Self::new()
    }
}

/// The vector of a place.
pub(super) const fn vector_of(place: u8) -> u8 {
    FIRST_VECTOR.wrapping_add(place)
}

/// What a domain's number for an interrupt stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Pirq {
    /// Nothing.
    Free,
    /// Nothing yet: it was asked for.
    Reserved,
    /// The interrupt in a place.
    Mapped(u8),
    /// An interrupt that was taken back while a port was bound to it; the port is still there.
    Lost(u32),
}

/// A domain's numbers for interrupts.
#[derive(Debug)]
pub struct Pirqs {
    pub(super) numbers: Lock<[Pirq; PIRQS as usize]>,
    /// The frame in which it is told which interrupts need their end reported; 0: none.
    pub(crate) eoi_map: AtomicU64,
    /// Reporting an end unmasks the port.
    pub(crate) unmasks: AtomicBool,
}

impl Pirqs {
    /// No interrupt.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            numbers: Lock::new([Pirq::Free; PIRQS as usize]),
            eoi_map: AtomicU64::new(0),
            unmasks: AtomicBool::new(false),
        }
    }

    /// What a number stands for. `None`: no interrupt can have it.
    pub(super) fn get(&self, platform: &impl Platform, pirq: u32) -> Option<Pirq> {
        self.numbers.lock(platform).get(usize::try_from(pirq).ok()?).copied()
    }

    pub(super) fn set(&self, platform: &impl Platform, pirq: u32, to: Pirq) {
        let at = usize::try_from(pirq).unwrap_or(usize::MAX);
        if let Some(number) = self.numbers.lock(platform).get_mut(at) {
            *number = to;
        }
    }

    /// The number under which an interrupt was taken back, as long as its port is there.
    pub(super) fn lost(&self, platform: &impl Platform, irq: u32) -> Option<u32> {
        let at =
            self.numbers.lock(platform).iter().position(|number| *number == Pirq::Lost(irq))?;
        u32::try_from(at).ok()
    }
}

impl Default for Pirqs {
    fn default() -> Self {
        Self::new()
    }
}
