//! Both rings of a front end that is connected.

use core::task::Context;

use shared_ring::RingError;

use crate::device::Attachment;
use crate::guest::{Guest, Side};
use crate::nodes::{Parameters, Ports};
use crate::packet::Pool;
use crate::rate::Credit;
use crate::rx::Rx;
use crate::switch::{PortId, Switch};
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
    rx: Rx<G>,
    guest: G,
    /// Whether each ring has an event channel of its own.
    is_split: bool,
}

impl<G: Guest> Queue<G> {
    pub(crate) fn new(it: Attachment<G>, parameters: &Parameters) -> Result<Self, RingError> {
        let is_split = matches!(parameters.ports, Ports::Two { .. });
        let (tx, rx) = (Tx::new(it.tx)?, Rx::new(it.rx, parameters.notifies)?);
        Ok(Self { tx, rx, guest: it.guest, is_split })
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
        self.guest.listen(cx);
        switch.listen(port, cx);
        let pause = match credit {
            Some(credit) => self.tx_within(switch, port, limits, credit)?,
            None => self.tx.turn(&mut self.guest, switch, port, limits).map(|_| None)?,
        };
        self.rx.turn(&mut self.guest, switch, port, limits)?;
        let (tx, rx) = (self.tx.push(), self.rx.push());
        if tx || rx && !self.is_split {
            self.guest.notify(Side::Tx);
        }
        if rx && self.is_split {
            self.guest.notify(Side::Rx);
        }
        let more_tx = pause.is_none() && self.tx.is_more()?;
        Ok((self.rx.is_more(switch, port)? || more_tx, pause))
    }

    /// Takes what the front end may send; when it may send again if it has used that up.
    fn tx_within<P: Pool<Buffer = G::Buffer>>(
        &mut self,
        switch: &mut Switch<P>,
        port: PortId,
        limits: &Limits,
        credit: &mut Credit,
    ) -> Result<Option<u64>, RingError> {
        let now = self.guest.now();
        let left = match credit.left(now) {
            Ok(left) => left,
            Err(next) => return Ok(Some(next)),
        };
        let limits = Limits { bytes: limits.bytes.min(left), ..*limits };
        credit.spend(self.tx.turn(&mut self.guest, switch, port, &limits)?);
        Ok(credit.left(now).err())
    }
}
