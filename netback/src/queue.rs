//! Both rings of a front end that is connected.

use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::task::Context;

use shared_ring::RingError;

use crate::device::Attachment;
use crate::guest::{Guest, Side};
use crate::nodes::{Parameters, Ports};
use crate::packet::{Packet, Pool};
use crate::rate::Credit;
use crate::rx::Rx;
use crate::switch::{Counters, Exit, Placed, PortId, Rest, Switch};
use crate::tx::Tx;

/// What a device does in one turn, each way, before the others have theirs.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Slots of a ring; exceeded by one packet at most. From 1 on.
    pub slots: usize,
    /// Bytes; exceeded by one packet at most. From 1 on.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { slots: 128, bytes: 512 << 10 }
    }
}

impl Limits {
    /// The same, with what cannot be put right.
    pub(crate) fn sound(self) -> Self {
        // Packets of a turn are counted in two bytes.
        Self { slots: self.slots.clamp(1, 4096), bytes: self.bytes.max(1) }
    }
}

/// Rings that are served.
pub(crate) struct Queue<G: Guest> {
    tx: Tx<G>,
    outlet: Rc<RefCell<Outlet<G>>>,
}

/// What packets to a front end need: its turn uses it, and those of who sends to it.
pub(crate) struct Outlet<G: Guest> {
    rx: Rx<G>,
    pub(crate) guest: G,
    /// Whether each ring has an event channel of its own.
    is_split: bool,
    /// The front end broke its ring in somebody else's turn.
    broken: Option<RingError>,
}

impl<G: Guest> Queue<G> {
    pub(crate) fn new(it: Attachment<G>, parameters: &Parameters) -> Result<Self, RingError> {
        let is_split = matches!(parameters.ports, Ports::Two { .. });
        let (tx, rx) = (Tx::new(it.tx)?, Rx::new(it.rx, parameters.notifies)?);
        let outlet = Outlet { rx, guest: it.guest, is_split, broken: None };
        Ok(Self { tx, outlet: Rc::new(RefCell::new(outlet)) })
    }

    /// Where packets to the front end go. It ends with the rings.
    pub(crate) fn exit(&self) -> Weak<RefCell<dyn Exit<G::Buffer>>> {
        let exit: Rc<RefCell<dyn Exit<G::Buffer>>> = self.outlet.clone();
        Rc::downgrade(&exit)
    }

    /// Serves what there is, up to the limits of a turn and what the front end may send. Returns
    /// whether there is more to do now, and when it may send again if it may not.
    ///
    /// # Errors
    /// [`RingError`]: the front end broke a ring, and nothing more may be done with them.
    pub(crate) fn turn<P: Pool<Buffer = G::Buffer>>(
        &mut self,
        switch: &mut Switch<P>,
        port: PortId,
        (limits, credit): (&Limits, &mut Option<Credit>),
        cx: &mut Context<'_>,
    ) -> Result<(bool, Option<u64>), RingError> {
        self.outlet.borrow_mut().guest.listen(cx);
        switch.listen(port, cx);
        let pause = match credit {
            Some(credit) => self.tx_within(switch, port, limits, credit)?,
            None => self.tx.turn(&self.outlet, switch, port, limits).map(|_| None)?,
        };
        let mut outlet = self.outlet.borrow_mut();
        let Outlet { rx, guest, is_split, broken } = &mut *outlet;
        broken.take().map_or(Ok(()), Err)?;
        rx.turn(guest, switch, port, limits)?;
        let (tx, rx_wants) = (self.tx.push(), rx.push());
        if tx || rx_wants && !*is_split {
            guest.notify(Side::Tx);
        }
        if rx_wants && *is_split {
            guest.notify(Side::Rx);
        }
        let more_tx = pause.is_none() && self.tx.is_more()?;
        Ok((rx.is_more(switch, port)? || more_tx, pause))
    }

    /// Takes what the front end may send; when it may send again if it has used that up.
    fn tx_within<P: Pool<Buffer = G::Buffer>>(
        &mut self,
        switch: &mut Switch<P>,
        port: PortId,
        limits: &Limits,
        credit: &mut Credit,
    ) -> Result<Option<u64>, RingError> {
        let now = self.outlet.borrow().guest.now();
        let left = match credit.left(now) {
            Ok(left) => left,
            Err(next) => return Ok(Some(next)),
        };
        let limits = Limits { bytes: limits.bytes.min(left), ..*limits };
        credit.spend(self.tx.turn(&self.outlet, switch, port, &limits)?);
        Ok(credit.left(now).err())
    }
}

impl<G: Guest> Exit<G::Buffer> for Outlet<G> {
    fn place(&mut self, packet: Packet<G::Buffer>, rest: Option<Rest<'_>>) -> Placed<G::Buffer> {
        let placed = match self.broken {
            None => self.rx.place_if_room(packet, rest),
            Some(error) => Err(error),
        };
        placed.unwrap_or_else(|error| {
            self.broken = Some(error);
            Placed::Broken
        })
    }

    fn finish(&mut self, counters: &mut Counters, failed: &mut Vec<u16>) {
        self.rx.deliver(&mut self.guest, &mut counters.to.errors, failed);
        if self.rx.push() {
            self.guest.notify(if self.is_split { Side::Rx } else { Side::Tx });
        }
    }
}
