//! Owned ports.

use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicU32, Ordering};
use core::task::{Context, Poll, Waker};

use hypercall_abi::types::{DomId, Port, VcpuId};

use super::port::{self, Status};
use super::scan::{Ports, place, take};
use super::signal::{self, Signal};
use crate::error::HypercallError;
use crate::lock::Held;
use crate::raw::gate::Machine;
use crate::shared::{SharedInfo, VCPU_LIMIT, shared};
use crate::task;
use crate::vcpu::Vcpu;

/// What is called when an event comes to a port.
pub type Handler = &'static (dyn Fn(Port) + Sync);

/// Who gets the events of a port.
struct Receiver {
    /// An event came that nobody waited for.
    arrived: bool,
    handler: Option<Handler>,
    waker: Option<Waker>,
}

impl Receiver {
    const NONE: Self = Self { arrived: false, handler: None, waker: None };
}

static RECEIVERS: [Held<Receiver>; hypercall_abi::event::TWO_LEVEL_PORTS as usize] =
    [const { Held::new(Receiver::NONE) }; hypercall_abi::event::TWO_LEVEL_PORTS as usize];
/// Which ports each virtual CPU serves.
static SERVED: [Ports; VCPU_LIMIT] = [const { Ports::new() }; VCPU_LIMIT];

fn receiver(port: Port) -> Option<&'static Held<Receiver>> {
    RECEIVERS.get(usize::try_from(port.0).ok()?)
}

/// Gives this virtual CPU's events to their receivers.
pub(crate) fn on_upcall(vcpu: &Vcpu) {
    if let (Some(shared), Some(info)) = (shared(), vcpu.info())
        && let Some(served) = SERVED.get(vcpu.index())
    {
        take(shared, info, served, deliver);
    }
}

fn deliver(port: Port) {
    let Some(receiver) = receiver(port) else { return };
    let (handler, waker) = {
        let mut receiver = receiver.lock();
        receiver.arrived = true;
        (receiver.handler, receiver.waker.take())
    };
    if let Some(handler) = handler {
        handler(port);
    }
    if let Some(waker) = waker {
        waker.wake();
    }
    signal::wake(port);
}

/// An open port. Dropping it closes the port; leaking it leaves the port open.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{HypercallError, abi::types::{DomId, VcpuId}, event::Channel, println};
/// # fn example() -> Result<(), HypercallError> {
/// let channel = Channel::ipi(VcpuId(0))?; // a port of its own
/// channel.handle(&|port| println!("an event at port {}", port.0));
/// channel.send()?;
/// channel.wait();
///
/// channel.mask();
/// channel.send()?;
/// assert!(channel.is_pending() && channel.take_pending());
/// channel.unmask()?;
///
/// let offered = Channel::unbound(DomId(1))?; // its number goes to the other domain
/// println!("port {}: {:?}", offered.port().0, offered.status()?.state);
/// offered.bind_vcpu(VcpuId(1))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Eq, PartialEq)]
pub struct Channel {
    port: Port,
}

impl Channel {
    /// Makes a port that `remote` may bind to. Virtual CPU 0 is notified.
    ///
    /// # Errors
    /// As of [`port::alloc_unbound`].
    pub fn unbound(remote: DomId) -> Result<Self, HypercallError> {
        Self::adopt(port::alloc_unbound(&Machine, remote)?, VcpuId(0))
    }

    /// Makes a port that is connected to another domain's unbound one. Virtual CPU 0 is notified,
    /// at once for the first time: events that were sent before went nowhere.
    ///
    /// # Errors
    /// As of [`port::bind_interdomain`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use pv_guest_sdk::{HypercallError, abi::types::{DomId, Port}, event::Channel};
    /// # async fn example() -> Result<(), HypercallError> {
    /// let channel = Channel::connect(DomId(1), Port(5))?; // that domain offers port 5
    /// channel.notified().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn connect(remote: DomId, port: Port) -> Result<Self, HypercallError> {
        Self::adopt(port::bind_interdomain(&Machine, remote, port)?, VcpuId(0))
    }

    /// Makes a port by which virtual CPUs signal `vcpu`.
    ///
    /// # Errors
    /// As of [`port::bind_ipi`].
    pub fn ipi(vcpu: VcpuId) -> Result<Self, HypercallError> {
        Self::adopt(port::bind_ipi(&Machine, vcpu)?, vcpu)
    }

    /// Makes a port of a virtual interrupt, with a number of [`hypercall_abi::virq`], on `vcpu`.
    ///
    /// # Errors
    /// As of [`port::bind_virq`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use pv_guest_sdk::{HypercallError, abi::{types::VcpuId, virq}, event::Channel};
    /// # fn example() -> Result<(), HypercallError> {
    /// let console = Channel::virq(virq::CONSOLE, VcpuId(0))?;
    /// console.wait(); // somebody has typed something
    /// # Ok(())
    /// # }
    /// ```
    pub fn virq(virq: u32, vcpu: VcpuId) -> Result<Self, HypercallError> {
        Self::adopt(port::bind_virq(&Machine, virq, vcpu)?, vcpu)
    }

    /// Makes a port of a device's interrupt, on virtual CPU 0.
    ///
    /// # Errors
    /// As of [`port::bind_pirq`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use pv_guest_sdk::{HypercallError, event::{Channel, port::Share}};
    /// # fn example(pirq: u32) -> Result<(), HypercallError> {
    /// let interrupt = Channel::pirq(pirq, Share::Shared)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn pirq(pirq: u32, share: port::Share) -> Result<Self, HypercallError> {
        Self::adopt(port::bind_pirq(&Machine, pirq, share)?, VcpuId(0))
    }

    /// Owns a port that was just made. It may have been signalled already, and whoever had the
    /// number before may have left it masked.
    pub(crate) fn adopt(port: Port, vcpu: VcpuId) -> Result<Self, HypercallError> {
        let channel = Self { port };
        if let Some(receiver) = receiver(port) {
            *receiver.lock() = Receiver::NONE;
        }
        serve(port, vcpu);
        channel.unmask()?;
        Ok(channel)
    }

    /// Its number.
    #[must_use]
    pub const fn port(&self) -> Port {
        self.port
    }

    /// Signals the other end. Nobody hears it if there is none yet.
    ///
    /// # Errors
    /// EINVAL (22) for a port that cannot be signalled, a virtual interrupt's.
    pub fn send(&self) -> Result<(), HypercallError> {
        port::send(&Machine, self.port)
    }

    /// What the port is connected to.
    ///
    /// # Errors
    /// [`HypercallError`] if the hypervisor has lost it.
    pub fn status(&self) -> Result<Status, HypercallError> {
        port::status(&Machine, self.port)
    }

    /// Sets the handler, in place of the one before.
    pub fn handle(&self, handler: Handler) {
        if let Some(receiver) = receiver(self.port) {
            receiver.lock().handler = Some(handler);
        }
    }

    /// Holds this port's events back. One that comes stays pending.
    pub fn mask(&self) {
        if let Some((shared, word, bit)) = self.place() {
            shared.mask[word].fetch_or(bit, Ordering::SeqCst);
        }
    }

    /// Lets this port's events come, one that is pending at once.
    ///
    /// # Errors
    /// [`HypercallError`] if the hypervisor has lost the port.
    pub fn unmask(&self) -> Result<(), HypercallError> {
        let Some((shared, word, bit)) = self.place() else { return Ok(()) };
        shared.mask[word].fetch_and(!bit, Ordering::SeqCst);
        if shared.pending[word].load(Ordering::SeqCst) & bit == 0 {
            // The next event finds the port unmasked.
            return Ok(());
        }
        // The hypervisor notifies for a pending event only if it is who unmasks the port.
        shared.mask[word].fetch_or(bit, Ordering::SeqCst);
        port::unmask(&Machine, self.port)
    }

    /// Whether an event is pending, which the upcall has not taken (yet, or because the port is
    /// masked).
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.place().is_some_and(|(shared, word, bit)| {
            shared.pending[word].load(Ordering::SeqCst) & bit != 0
        })
    }

    /// Takes a pending event in place of the upcall, and says whether there was one.
    pub fn take_pending(&self) -> bool {
        self.place().is_some_and(|(shared, word, bit)| {
            shared.pending[word].fetch_and(!bit, Ordering::SeqCst) & bit != 0
        })
    }

    /// Chooses the virtual CPU that is notified, of an event that is pending too.
    ///
    /// # Errors
    /// ENOENT (2) if there is no such virtual CPU; EINVAL (22) for a port that stays with its
    /// virtual CPU.
    pub fn bind_vcpu(&self, vcpu: VcpuId) -> Result<(), HypercallError> {
        self.mask();
        let bound = port::bind_vcpu(&Machine, self.port, vcpu);
        if bound.is_ok() {
            serve(self.port, vcpu);
        }
        self.unmask()?;
        bound
    }

    /// Completes when an event has come since the last time. If several wait, one is told.
    pub const fn notified(&self) -> Notified<'_> {
        Notified(self)
    }

    /// Waits until an event has come since the last time.
    ///
    /// # Panics
    /// If this virtual CPU holds events back, as in a handler.
    pub fn wait(&self) {
        task::block_on(self.notified());
    }

    fn place(&self) -> Option<(&'static SharedInfo, usize, u64)> {
        let (word, bit) = place(self.port)?;
        Some((shared()?, word, bit))
    }
}

impl Signal for Channel {
    fn notify(&self) {
        // The other end may be gone, which its state tells.
        let _is_open = port::send(&Machine, self.port);
    }

    fn listen(&self, waker: &Waker) {
        signal::listen(self.port, waker);
    }

    fn wake(&self) {
        signal::wake(self.port);
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        SERVED.iter().for_each(|served| served.remove(self.port));
        if let Some(receiver) = receiver(self.port) {
            *receiver.lock() = Receiver::NONE;
        }
        let _is_open = port::close(&Machine, self.port);
        signal::wake(self.port);
    }
}

/// Makes a virtual CPU the one that serves a port.
fn serve(port: Port, vcpu: VcpuId) {
    SERVED.iter().for_each(|served| served.remove(port));
    if let Some(served) = usize::try_from(vcpu.0).ok().and_then(|number| SERVED.get(number)) {
        served.add(port);
    }
}

/// What [`Channel::notified`] returns.
///
/// # Examples
///
/// ```no_run
/// # use pv_guest_sdk::{event::Channel};
/// # async fn example(channel: &Channel) {
/// let notified = channel.notified();
/// // What is to have an answer is sent here.
/// notified.await;
/// # }
/// ```
#[derive(Debug)]
#[must_use = "does nothing unless it is awaited"]
pub struct Notified<'a>(&'a Channel);

impl Future for Notified<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(receiver) = receiver(self.0.port) else { return Poll::Pending };
        let mut receiver = receiver.lock();
        if core::mem::take(&mut receiver.arrived) {
            return Poll::Ready(());
        }
        let before = receiver.waker.replace(context.waker().clone());
        drop(receiver);
        if let Some(other) = before.filter(|waker| !waker.will_wake(context.waker())) {
            // It waits again, and so is not forgotten.
            other.wake();
        }
        Poll::Pending
    }
}

/// The ports by which virtual CPUs wake each other; 0: none.
static KICKS: [AtomicU32; VCPU_LIMIT] = [const { AtomicU32::new(0) }; VCPU_LIMIT];

/// Makes the port that ends a virtual CPU's waiting.
pub(crate) fn prepare(vcpu: &Vcpu) -> Result<(), HypercallError> {
    let channel = Channel::ipi(vcpu.id())?;
    KICKS[vcpu.index()].store(channel.port.0, Ordering::SeqCst);
    core::mem::forget(channel);
    Ok(())
}

/// Makes a virtual CPU look again at what it waits for.
pub(crate) fn kick(number: usize) {
    let itself = Vcpu::current().is_some_and(|vcpu| vcpu.index() == number);
    if let Some(kick) = KICKS.get(number).filter(|_| !itself) {
        // Port 0 is nobody's: who has none does not wait.
        let _is_open = port::send(&Machine, Port(kick.load(Ordering::SeqCst)));
    }
}
