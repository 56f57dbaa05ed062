//! Events, once: channels from their making to their end. It ends well if all of it went as expected.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::{boxed::Box, format};
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use core::{error::Error, fmt::Debug};

use pv_guest_sdk::abi::errno::Errno;
use pv_guest_sdk::abi::types::{DomId, Port, VcpuId};
use pv_guest_sdk::abi::virq;
use pv_guest_sdk::event::{Channel, State, port};
use pv_guest_sdk::paging::Memory;
use pv_guest_sdk::{BootInfo, Machine, entry, println, vcpu::Vcpu, wait};

entry!(main);
pv_guest_sdk::heap!();

type Outcome = Result<(), Box<dyn Error>>;

fn main(boot: &BootInfo<'static>) -> Outcome {
    let vcpu = Vcpu::start(boot)?;
    Memory::start(boot)?;
    vcpu.start_events()?;
    to_itself(vcpu)?;
    masked(vcpu)?;
    between_ports()?;
    refused(vcpu)
}

fn check<T: Debug + PartialEq>(what: &str, got: T, wanted: T) -> Outcome {
    println!("{what}: {got:?}");
    if got == wanted { Ok(()) } else { Err(format!("{what} should be {wanted:?}").into()) }
}

static HANDLED: AtomicU32 = AtomicU32::new(0);

fn count(_: Port) {
    HANDLED.fetch_add(1, SeqCst);
}

fn to_itself(vcpu: &Vcpu) -> Outcome {
    let channel = Channel::ipi(vcpu.id())?;
    channel.handle(&count);
    channel.send()?;
    check("an event to itself, handled", HANDLED.swap(0, SeqCst), 1)?;
    channel.wait();
    println!("it was remembered for who waits, too");
    vcpu.hold_events(true);
    channel.send()?;
    channel.send()?;
    check("handled while all are held back", HANDLED.swap(0, SeqCst), 0)?;
    vcpu.hold_events(false);
    check("handled afterwards, of two", HANDLED.swap(0, SeqCst), 1)?;
    check("status", channel.status()?.state, State::Ipi)
}

fn masked(vcpu: &Vcpu) -> Outcome {
    let channel = Channel::ipi(vcpu.id())?;
    channel.handle(&count);
    channel.mask();
    channel.send()?;
    check("pending at a masked port", channel.is_pending(), true)?;
    wait::poll(&Machine, &[channel.port()], None)?;
    check("handled until then", HANDLED.swap(0, SeqCst), 0)?;
    channel.unmask()?;
    check("handled when unmasked", HANDLED.swap(0, SeqCst), 1)?;
    channel.mask();
    channel.send()?;
    check("taken by itself", (channel.take_pending(), channel.take_pending()), (true, false))?;
    channel.unmask()?;
    check("handled after that", HANDLED.swap(0, SeqCst), 0)
}

fn between_ports() -> Outcome {
    let one = Channel::unbound(DomId::SELF)?;
    check("unbound", matches!(one.status()?.state, State::Unbound(_)), true)?;
    one.send()?;
    let other = Channel::connect(DomId::SELF, one.port())?;
    let connected = matches!(one.status()?.state, State::Interdomain(_, it) if it == other.port());
    check("connected", connected, true)?;
    other.wait();
    println!("it was signalled when it was connected");
    other.handle(&count);
    one.send()?;
    check("handled at the other end", HANDLED.swap(0, SeqCst), 1)?;
    let closed = other.port();
    drop(other);
    check("status behind a closed port", matches!(one.status()?.state, State::Unbound(_)), true)?;
    check("status of it", port::status(&Machine, closed)?.state, State::Closed)
}

fn refused(vcpu: &Vcpu) -> Outcome {
    let errno = |error: pv_guest_sdk::HypercallError| error.errno();
    let closed = Channel::ipi(vcpu.id())?.port();
    check(
        "send to a closed port",
        port::send(&Machine, closed).map_err(errno),
        Err(Some(Errno::EINVAL)),
    )?;
    let second = Channel::virq(virq::TIMER, vcpu.id()).map(drop);
    check("the timer bound twice", second.map_err(errno), Err(Some(Errno::EEXIST)))?;
    let nobody = Channel::ipi(VcpuId(1 << 20)).map(drop);
    check("a port of no virtual CPU", nobody.map_err(errno), Err(Some(Errno::ENOENT)))
}
