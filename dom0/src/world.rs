//! What the services share: the domains, the bundle, addresses, the executor.

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::error::Error;
use core::future::{Future, poll_fn};
use core::task::{Poll, Waker};

use embassy_futures::select::select;

use hypercall_abi::types::DomId;
use hypercall_abi::virq;
use pv_guest_sdk::event::Channel;
use pv_guest_sdk::grant::Grants;
use pv_guest_sdk::task::Executor;
use pv_guest_sdk::vcpu::Vcpu;
use pv_guest_sdk::{BootInfo, println};
use toolstack::archive::{File, files};
use toolstack::config::Config;

use crate::domain::{self, Guest};
use crate::storage::Storage;
use crate::store;
use crate::window::{Window, Windows};

type Task = Box<dyn Future<Output = ()>>;

/// What the services share.
pub(crate) struct World {
    executor: Executor<Task>,
    pub(crate) windows: Rc<Windows>,
    /// To map pages of front ends.
    pub(crate) grants: Grants,
    /// The machine's disks.
    pub(crate) storage: Rc<Storage>,
    /// The store.
    pub(crate) store: Rc<store::Service>,
    files: Vec<File<'static>>,
    guests: RefCell<Vec<Rc<Guest>>>,
    /// Domains that were started, that have ended for good, and that ended well.
    started: Cell<usize>,
    ended: Cell<usize>,
    well: Cell<usize>,
    /// Tasks that end with the last domain.
    background: RefCell<Vec<Waker>>,
}

/// Starts what the bundle configures, and serves it until nothing of it is left.
///
/// # Errors
/// If the bundle is wrong, or a domain did not end well.
pub(crate) fn run(boot: &BootInfo<'static>, vcpu: &Vcpu) -> Result<(), Box<dyn Error>> {
    let files = files(boot.ramdisk()).collect::<Result<Vec<_>, _>>()?;
    let configs = configs(&files, boot)?;
    let (storage, lines) = Storage::new();
    let world = Rc::new(World {
        executor: Executor::default(),
        windows: Rc::default(),
        grants: Grants::start(1)?,
        storage,
        store: Rc::default(),
        files,
        guests: RefCell::default(),
        started: Cell::new(0),
        ended: Cell::new(0),
        well: Cell::new(0),
        background: RefCell::default(),
    });
    for config in configs {
        world.start(config)?;
    }
    let ended = Channel::virq(virq::DOM_EXC, vcpu.id())?;
    world.background(watch(world.clone(), ended))?;
    for line in lines {
        world.background(async move {
            let Err(error) = line.serve().await;
            println!("an interrupt is lost: {error}");
        })?;
    }
    world.executor.run();
    let (well, of) = (world.well.get(), world.started.get());
    println!("{well} of {of} domains ended well");
    if well == of { Ok(()) } else { Err("not all domains ended well".into()) }
}

/// The configurations that the command line names, or all.
fn configs(files: &[File<'_>], boot: &BootInfo<'_>) -> Result<Vec<Config>, Box<dyn Error>> {
    let all = boot.arguments().next().is_none();
    let mut configs: Vec<Config> = Vec::new();
    for file in files.iter().filter(|file| file.name.ends_with(".cfg")) {
        let text =
            core::str::from_utf8(file.bytes).map_err(|_| format!("{}: no text", file.name))?;
        let config = Config::parse(file.name, text)?;
        if configs.iter().any(|other| other.name == config.name) {
            return Err(format!("{}: there is another domain `{}`", file.name, config.name).into());
        }
        configs.push(config);
    }
    if let Some(name) = boot.arguments().find(|name| configs.iter().all(|it| it.name != *name)) {
        return Err(format!("no configuration is of a domain `{name}`").into());
    }
    configs.retain(|config| all || boot.arguments().any(|name| name == config.name));
    if configs.is_empty() {
        Err("the bundle has no configuration (*.cfg)".into())
    } else {
        Ok(configs)
    }
}

/// Looks at all domains when one has ended.
async fn watch(world: Rc<World>, channel: Channel) {
    loop {
        channel.notified().await;
        world.guests.borrow().iter().for_each(|guest| guest.look());
    }
}

impl World {
    /// Runs a task beside the others.
    ///
    /// # Errors
    /// If there are too many.
    pub(crate) fn spawn(
        &self,
        task: impl Future<Output = ()> + 'static,
    ) -> Result<(), Box<dyn Error>> {
        let task: Task = Box::new(task);
        self.executor.spawn(Box::into_pin(task)).map_err(|_| "too many tasks".into())
    }

    /// Runs a task that ends when no domain is left.
    ///
    /// # Errors
    /// If there are too many.
    fn background(
        self: &Rc<Self>,
        task: impl Future<Output = ()> + 'static,
    ) -> Result<(), Box<dyn Error>> {
        let world = self.clone();
        let over = poll_fn(move |cx| {
            if world.is_over() {
                return Poll::Ready(());
            }
            world.background.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        });
        self.spawn(async move {
            select(over, task).await;
        })
    }

    fn is_over(&self) -> bool {
        self.ended.get() == self.started.get()
    }

    /// Starts a domain.
    fn start(self: &Rc<Self>, config: Config) -> Result<(), Box<dyn Error>> {
        self.started.set(self.started.get() + 1);
        let world = self.clone();
        self.spawn(async move {
            let well = domain::live(world.clone(), Rc::new(config)).await;
            world.well.set(world.well.get() + usize::from(well));
            world.ended.set(world.ended.get() + 1);
            if world.is_over() {
                world.background.take().into_iter().for_each(Waker::wake);
            }
        })
    }

    /// Takes a page of addresses.
    ///
    /// # Errors
    /// If all are in use.
    pub(crate) fn window(&self) -> Result<Window, Box<dyn Error>> {
        self.windows.take().ok_or_else(|| "no address is left to map a frame".into())
    }

    /// A file of the bundle.
    ///
    /// # Errors
    /// If there is none of this name.
    pub(crate) fn file(&self, name: &str) -> Result<&'static [u8], Box<dyn Error>> {
        let file = self.files.iter().find(|file| file.name == name);
        Ok(file.ok_or_else(|| format!("no file `{name}` in the bundle"))?.bytes)
    }

    pub(crate) fn add(&self, guest: &Rc<Guest>) {
        self.guests.borrow_mut().push(guest.clone());
    }

    pub(crate) fn remove(&self, id: DomId) {
        self.guests.borrow_mut().retain(|guest| guest.id() != id);
    }
}
