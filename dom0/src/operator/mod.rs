//! Rule by an operator: verbs, typed at the machine's console or sent as lines of JSON by the second
//! serial port.
//!
//! [`verbs`] does what they say and [`lists`] answers questions; [`terminal`] is the console and
//! [`channel`] the port. What is pure about them is in `toolstack::operator`.

mod channel;
mod counts;
mod lists;
mod terminal;
mod verbs;

use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::RefCell;
use core::error::Error;

use hypercall_abi::virq;
use pv_guest_sdk::event::Channel;
use pv_guest_sdk::println;
use pv_guest_sdk::vcpu::Vcpu;

use crate::bell::Flag;
use crate::world::World;

/// What both ways of ruling share.
pub(crate) struct Operator {
    world: Rc<World>,
    /// When `top` looked last, and what each domain had used by then.
    top: RefCell<lists::Usage>,
    /// Raised when all domains have ended for the machine to be powered off.
    done: Flag,
}

/// Starts serving operators.
///
/// # Errors
/// If the hypervisor gives no input, or there are too many tasks.
pub(crate) fn start(world: &Rc<World>, vcpu: &Vcpu) -> Result<(), Box<dyn Error>> {
    let operator =
        Rc::new(Operator { world: world.clone(), top: RefCell::default(), done: Flag::default() });
    let input = Channel::virq(virq::CONSOLE, vcpu.id())?;
    let terminal = operator.clone();
    world.background(async move { terminal::serve(&terminal, &input).await })?;
    match channel::open() {
        Ok(None) => {}
        Ok(Some(port)) => world.background(async move { channel::serve(&operator, port).await })?,
        Err(error) => println!("no control channel: {error}"),
    }
    Ok(())
}
