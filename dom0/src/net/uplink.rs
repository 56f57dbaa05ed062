//! A card at the switch.

use alloc::rc::Rc;
use core::future::poll_fn;
use core::task::Poll;

use devices::virtio::Net;
use netback::PortId;

use crate::world::World;

/// Packets in a turn each way, before others have theirs.
const TURN: usize = 64;

/// Carries packets between a card and the switch for as long as the card keeps to the rules.
pub(super) async fn serve(world: Rc<World>, number: usize, card: Rc<Net>, port: PortId) {
    let switch = &world.network.switch;
    switch.borrow_mut().connect(port, card.takes());
    let fault = poll_fn(|cx| {
        card.listen(cx);
        let mut switch = switch.borrow_mut();
        switch.listen(port, cx);
        let came = switch.send_all(port, (0..TURN).map_while(|_| card.receive()));
        let mut went = 0;
        while went < TURN && switch.next(port).is_some() && card.has_room() {
            let Some(packet) = switch.take(port) else { break };
            card.send(packet);
            went += 1;
        }
        card.tell();
        if came == TURN || went == TURN {
            cx.waker().wake_by_ref();
        }
        card.fault().map_or(Poll::Pending, Poll::Ready)
    })
    .await;
    world.screen.line(format_args!("card {number} is not used any more: {fault}"));
    switch.borrow_mut().disconnect(port);
}
