//! What the book's pages about guests show, at work: each of their blocks of code is a passage of this file.
//! As the initial domain it does what needs no device; with the word `devices` on its command line it is a
//! domain with a disk and a network card, uses the disk, and answers port 7 by what it hears.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::{boxed::Box, format, string::ToString, vec};
use core::error::Error;
use core::fmt::Debug;
use core::sync::atomic::{AtomicU32, Ordering, Ordering::SeqCst};

use pv_guest_sdk::abi::types::{DomId, GrantRef, VcpuId};
use pv_guest_sdk::block::{Disk, Options};
use pv_guest_sdk::event::Channel;
use pv_guest_sdk::grant::{Destination, Grants, PageCopy, Peer, Source, copy};
use pv_guest_sdk::net::smoltcp::iface::{SocketSet, SocketStorage};
use pv_guest_sdk::net::smoltcp::socket::tcp::{Socket, SocketBuffer};
use pv_guest_sdk::net::{self, Address, Card, Port, Stack};
use pv_guest_sdk::paging::{Access, Frame, Memory, Page, Space};
use pv_guest_sdk::start::Start;
use pv_guest_sdk::task::{Executor, block_on};
use pv_guest_sdk::time::{Duration, sleep};
use pv_guest_sdk::trap::{Resume, Trap, Vector};
use pv_guest_sdk::user::{self, Exit, User};
use pv_guest_sdk::vcpu::{self, Vcpu};
use pv_guest_sdk::xenbus::Device;
use pv_guest_sdk::xenstore::{Permission, Rights, Store};
use pv_guest_sdk::{BootInfo, Machine, entry, println};

entry!(main);
pv_guest_sdk::heap!();

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Events that came.
static COUNT: AtomicU32 = AtomicU32::new(0);

fn main(boot: &BootInfo<'static>) -> Outcome {
    if boot.arguments().any(|word| word == "devices") {
        return devices(boot);
    }
    let vcpu = traps(boot)?;
    let memory = Memory::start(boot)?;
    vcpu.start_events()?;
    map(vcpu, memory)?;
    events(vcpu)?;
    wait()?;
    grants()?;
    run()?;
    if vcpu::count(&Machine) > 1 {
        several()?;
    }
    Ok(())
}

fn check<T: Debug + PartialEq>(what: &str, got: T, wanted: T) -> Outcome {
    println!("{what}: {got:x?}");
    if got == wanted { Ok(()) } else { Err(format!("{what} should be {wanted:x?}").into()) }
}

fn traps(boot: &BootInfo<'static>) -> Outcome<&'static Vcpu> {
    fn on_page_fault(trap: &Trap<'_>) -> Resume {
        println!("{} at {:#x}", trap.error().explain(trap.vector()), trap.fault_address());
        Resume::Skip
    }

    let vcpu = Vcpu::start(boot)?;
    vcpu.handle(Vector::PAGE_FAULT, on_page_fault);
    Ok(vcpu)
}

fn map(vcpu: &Vcpu, memory: Memory) -> Outcome {
    // What a handler takes, nobody observes.
    let handler = vcpu.forget(Vector::PAGE_FAULT);

    const AT: Page = Page::fixed(0x1000_0000);
    let mut mapping = memory.map(AT, Frame::new()?, Access::WRITE)?;
    mapping.store(0, 42)?;
    mapping.protect(Access::empty())?;
    let (result, trap) = vcpu.observe(|| mapping.store(0, 43)); // a page fault
    let frame = mapping.unmap()?; // 42 is in its first word
    check("stored where it may not", result.is_err(), true)?;
    check("a trap was seen", trap.is_some(), true)?;
    check("the first byte", frame.bytes()[0], 42)?;

    vcpu.handle(Vector::PAGE_FAULT, handler.ok_or("no handler")?);
    let mapping = memory.map(AT, frame, Access::empty())?;
    check("stored again", mapping.store(0, 43).is_err(), true)
}

fn events(vcpu: &Vcpu) -> Outcome {
    let channel = Channel::ipi(vcpu.id())?; // unbound, connect, ipi, virq
    channel.handle(&|_port| {
        COUNT.fetch_add(1, SeqCst);
    });
    channel.send()?;
    channel.wait(); // or channel.notified().await
    check("events", COUNT.load(SeqCst), 1)
}

fn wait() -> Outcome {
    let executor = Executor::default();
    let task = async { sleep(Duration::from_millis(10)).await };
    executor.spawn(Box::pin(task)).map_err(|_| "it has 255 tasks")?;
    executor.run(); // until all have ended
    Ok(())
}

fn several() -> Outcome {
    let sum = vcpu::spawn(VcpuId(1), || (1..=10).sum::<u32>())?;
    println!("{}", sum.join());
    Ok(())
}

fn grants() -> Outcome {
    // This domain is both sides.
    let peer = DomId(0);
    let told = core::cell::Cell::new(GrantRef(0));
    let tell = |reference| told.set(reference);
    let (mut frame, other) = (Frame::new()?, Frame::new()?);

    let grants = Grants::start(1)?;
    let grant = grants.share(Frame::new()?, peer, Access::WRITE)?;
    tell(grant.reference());
    grant.words()[0].store(42, Ordering::Release);

    let theirs = Peer { domain: peer, reference: told.get() };
    let mut copies = [
        PageCopy::new(Source::peer(theirs, 0), Destination::frame(&mut frame, 0)?, 1500),
        PageCopy::new(Source::frame(&other, 64)?, Destination::peer(theirs, 2048), 200),
    ];
    copy(&Machine, &mut copies)?;
    copies[1].result()?;
    copies[0].result()?;
    check("copied", frame.bytes()[0], 42)
}

/// System calls.
const WRITE: u32 = 1;
const EXIT: u32 = 2;

fn run() -> Outcome {
    extern "C" fn program(number: u64) -> ! {
        user::call_with(WRITE, b"hello");
        user::call(EXIT, [number, 0, 0]);
        user::stop()
    }

    let mut user = User::new(Space::new()?, program, 7)?;
    let status = loop {
        match user.run()? {
            Exit::Call(call, [address, 5, _]) if call == WRITE.into() => {
                let mut text = [0; 5];
                user.space().read(address, &mut text)?;
                println!("{}", text.escape_ascii());
                user.answer(5);
            }
            Exit::Call(_, [status, ..]) => break status,
            Exit::Trap(trap) => return Err(format!("{trap:?}").into()),
            Exit::Event => {}
        }
    };
    check("the program ended with", status, 7)
}

fn devices(boot: &BootInfo<'static>) -> Outcome {
    let start = Start::new(boot, 2)?;
    block_on(tell(start.store, DomId(0)))?;
    disk(&start)?;
    serve(boot, &start)
}

async fn tell(store: Store<'_>, peer: DomId) -> Outcome {
    let me = DomId(u16::try_from(store.read_number("domid").await?)?);
    let channel = Channel::unbound(peer)?;
    store.write("data/port", channel.port().0.to_string().as_bytes()).await?;
    let own = Permission { domain: me, rights: Rights::None };
    let theirs = Permission { domain: peer, rights: Rights::Read };
    store.set_permissions("data/port", &[own, theirs]).await?;
    println!("offered a port to domain {}", peer.0);
    Ok(())
}

#[inline(never)]
fn disk(start: &Start) -> Outcome {
    let device = block_on(Device::find(start.store, "vbd", 51712))?;
    let disk = block_on(Disk::open(device, start.grants, Options::default()))?;
    let mut data = vec![0; 1 << 20];
    block_on(disk.read(0, &mut data))?;
    block_on(disk.write(2048, &data))?;
    block_on(disk.flush())?;
    println!("copied {} bytes of the disk", data.len());
    block_on(disk.close())?;
    Ok(())
}

#[inline(never)]
fn serve(boot: &BootInfo<'static>, start: &Start) -> Outcome {
    let open = Card::open(start.first("vif")?, start.grants, net::Options::default());
    let card = block_on(Box::pin(open))?;
    let mut receive = vec![0; 65_535];
    let mut storage = [SocketStorage::EMPTY; 3];
    let sockets = SocketSet::new(&mut storage[..]);
    let (mut heard, mut said) = ([0; 2048], [0; 2048]);
    let socket = Socket::new(SocketBuffer::new(&mut heard[..]), SocketBuffer::new(&mut said[..]));

    let address =
        Address::parse(boot.argument("ip"), boot.argument("gw")).ok_or("what address?")?;
    let stack = Stack::new(Port::new(card, &mut receive), sockets, address);
    let server = async {
        println!("serving at {}", stack.configured().await);
        let connection = stack.connection(socket);
        while connection.accept(7).await.is_ok() {
            let mut bytes = [0; 512];
            while let Ok(count @ 1..) = connection.read(&mut bytes).await {
                let Ok(()) = connection.write(&bytes[..count]).await else { break };
            }
            connection.close().await;
        }
    };
    let executor = Executor::<Box<dyn Future<Output = ()> + '_>>::default();
    let network = async { println!("{}", stack.run().await) };
    executor.spawn(Box::pin(network)).map_err(|_| "it is full")?;
    executor.spawn(Box::pin(server)).map_err(|_| "it is full")?;
    executor.run();
    Ok(())
}
