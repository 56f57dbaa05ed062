//! What the services share: the domains, the bundle, addresses, the executor.

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::error::Error;
use core::future::Future;

use embassy_futures::select::select;

use hypercall_abi::types::DomId;
use hypercall_abi::virq;
use pv_guest_sdk::event::Channel;
use pv_guest_sdk::grant::Grants;
use pv_guest_sdk::paging::Memory;
use pv_guest_sdk::task::Executor;
use pv_guest_sdk::time::{Duration, Instant};
use pv_guest_sdk::vcpu::Vcpu;
use pv_guest_sdk::{BootInfo, println};
use toolstack::archive::{self, File};
use toolstack::config::Config;

use crate::bell::Flag;
use crate::domain::{self, Born, Guest};
use crate::dump;
use crate::equipment::Equipment;
use crate::files::{self, Files};
use crate::net::{self, Network};
use crate::operator;
use crate::screen::Screen;
use crate::storage::Storage;
use crate::store;
use crate::window::{Window, Windows};

type Task = Box<dyn Future<Output = ()>>;

/// What the services share.
pub(crate) struct World {
    executor: Executor<Task>,
    /// This domain's memory.
    pub(crate) memory: Memory,
    /// Held by each back end that runs.
    pub(crate) back_ends: Rc<()>,
    pub(crate) windows: Rc<Windows>,
    /// To map pages of front ends.
    pub(crate) grants: Grants,
    /// The machine's disks.
    pub(crate) storage: Rc<Storage>,
    /// The switch, and what is at it.
    pub(crate) network: Network,
    /// The store.
    pub(crate) store: Rc<store::Service>,
    /// Configurations and kernels.
    pub(crate) files: Files,
    /// The partition for cores of domains that have ended.
    pub(crate) cores: Option<String>,
    /// The machine's console.
    pub(crate) screen: Rc<Screen>,
    guests: RefCell<Vec<Rc<Guest>>>,
    /// The names of domains that are being made or live.
    names: RefCell<Vec<String>>,
    /// Whether an operator rules, or everything ends with the last domain.
    is_ruled: bool,
    /// The operator wants an end: nothing is started any more.
    is_closing: Cell<bool>,
    /// Since when this runs.
    pub(crate) since: Instant,
    /// Domains that were started, that have ended for good, and that ended well.
    started: Cell<usize>,
    ended: Cell<usize>,
    well: Cell<usize>,
    /// Raised when there is nothing left to do.
    over: Flag,
}

/// Starts what the bundle configures, and serves it until nothing of it is left.
///
/// # Errors
/// If the bundle is wrong, or a domain did not end well.
pub(crate) fn run(
    boot: &BootInfo<'static>,
    vcpu: &Vcpu,
    memory: Memory,
) -> Result<(), Box<dyn Error>> {
    let bundle = match boot.ramdisk() {
        [] => Vec::new(),
        bundle => archive::files(bundle).collect::<Result<Vec<_>, _>>()?,
    };
    let (configs, later) = configs(&bundle, boot)?;
    let network = Network::default();
    let Equipment { disks, cards, lines } = Equipment::find(&network.pages());
    let world = World::new(boot, memory, bundle, (Storage::new(disks), network))?;
    net::start(&world, boot, cards)?;
    for config in configs {
        world.reserve(&config.name)?;
        world.start(config, None)?;
    }
    let ended = Channel::virq(virq::DOM_EXC, vcpu.id())?;
    world.background(watch(world.clone(), ended))?;
    for line in lines {
        let shown = world.screen.clone();
        world.background(async move {
            let Err(error) = line.serve().await;
            shown.line(format_args!("an interrupt is lost: {error}"));
        })?;
    }
    if world.is_ruled {
        operator::start(&world, vcpu)?;
        world.background(create_all(world.clone(), later))?;
    }
    world.executor.run();
    if world.is_ruled {
        // Behind the prompt.
        println!();
        return Ok(());
    }
    let (well, of) = (world.well.get(), world.started.get());
    println!("{well} of {of} domains ended well");
    if well == of { Ok(()) } else { Err("not all domains ended well".into()) }
}

/// Why no domain is made any more.
pub(crate) const CLOSING: &str = "the machine is about to be powered off";

/// The word on the command line that makes dom0 serve an operator.
const RULED: &str = "operator";

fn is_ruled(boot: &BootInfo<'_>) -> bool {
    boot.arguments().any(|word| word == RULED)
}

/// The configurations that the command line names, or all; with an operator those alone that it names.
/// What it names that is not in the bundle comes behind, if a disk may have it.
fn configs(
    files: &[File<'_>],
    boot: &BootInfo<'_>,
) -> Result<(Vec<Config>, Vec<String>), Box<dyn Error>> {
    let is_other = |word: &&str| {
        let others = [net::WORD, files::WORD, dump::WORD];
        *word != RULED && !others.iter().any(|other| word.starts_with(other))
    };
    let named = || boot.arguments().filter(is_other);
    let all = named().next().is_none() && !is_ruled(boot);
    let mut configs: Vec<Config> = Vec::new();
    for file in files.iter().filter(|file| file.name.ends_with(".cfg")) {
        let config = match files::parse(file.name, file.bytes) {
            Ok(config) => config,
            // An operator is told when the file is used.
            Err(_) if is_ruled(boot) => continue,
            Err(error) => return Err(error.into()),
        };
        if !is_ruled(boot) && configs.iter().any(|other| other.name == config.name) {
            return Err(format!("{}: there is another domain `{}`", file.name, config.name).into());
        }
        configs.push(config);
    }
    let missing = |name: &&str| configs.iter().all(|it| it.name != *name);
    let later: Vec<_> = named().filter(missing).map(ToString::to_string).collect();
    let may_come = is_ruled(boot) && boot.argument("from").is_some();
    if let Some(name) = later.first().filter(|_| !may_come) {
        return Err(format!("no configuration is of a domain `{name}`").into());
    }
    configs.retain(|config| all || named().any(|name| name == config.name));
    if configs.is_empty() && !is_ruled(boot) {
        Err("the bundle has no configuration (*.cfg)".into())
    } else {
        Ok((configs, later))
    }
}

/// Makes domains of configurations that may be on a disk, one after the other, and tells what is wrong.
async fn create_all(world: Rc<World>, names: Vec<String>) {
    for name in names {
        let created = match world.files.config(&name).await {
            Ok(config) => world.create(config).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = created {
            world.screen.line(format_args!("{error}"));
        }
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
    /// A world without domains.
    ///
    /// # Errors
    /// If a grant table can't be had.
    fn new(
        boot: &BootInfo<'static>,
        memory: Memory,
        bundle: Vec<File<'static>>,
        (storage, network): (Rc<Storage>, Network),
    ) -> Result<Rc<Self>, Box<dyn Error>> {
        // What is made of a file needs memory too.
        let most = usize::try_from(boot.pages() * 4096 / 4)?;
        let screen = Rc::<Screen>::default();
        Ok(Rc::new(Self {
            executor: Executor::default(),
            memory,
            back_ends: Rc::default(),
            windows: Rc::default(),
            grants: Grants::start(1)?,
            cores: boot.argument("cores").map(ToString::to_string),
            files: Files::new(bundle, boot.argument("from"), storage.clone(), most),
            storage,
            network,
            store: Rc::new(store::Service::new(screen.clone())),
            screen,
            guests: RefCell::default(),
            names: RefCell::default(),
            is_ruled: is_ruled(boot),
            is_closing: Cell::new(false),
            since: Instant::now(),
            started: Cell::new(0),
            ended: Cell::new(0),
            well: Cell::new(0),
            over: Flag::default(),
        }))
    }

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

    /// Runs a task that ends when there is nothing left to do.
    ///
    /// # Errors
    /// If there are too many.
    pub(crate) fn background(
        self: &Rc<Self>,
        task: impl Future<Output = ()> + 'static,
    ) -> Result<(), Box<dyn Error>> {
        let world = self.clone();
        self.spawn(async move {
            select(world.over.raised(), task).await;
        })
    }

    /// Whether an operator rules.
    pub(crate) const fn is_ruled(&self) -> bool {
        self.is_ruled
    }

    /// Whether the end was asked for.
    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing.get()
    }

    /// Starts no domain any more.
    pub(crate) fn close(&self) {
        self.is_closing.set(true);
    }

    /// Ends all tasks in the background.
    pub(crate) fn finish(&self) {
        self.over.raise();
    }

    /// Takes a name for a domain.
    fn reserve(&self, name: &str) -> Result<(), String> {
        let mut names = self.names.borrow_mut();
        if names.iter().any(|other| other == name) {
            return Err(format!("there is a domain `{name}` already"));
        }
        names.push(name.to_string());
        Ok(())
    }

    /// Makes a domain and lets it run. Its number, and how long it took to make it.
    ///
    /// # Errors
    /// Why it cannot be made, as a sentence; then nothing of it is left.
    pub(crate) async fn create(
        self: &Rc<Self>,
        config: Config,
    ) -> Result<(DomId, Duration), String> {
        if self.is_closing() {
            return Err(CLOSING.into());
        }
        let name = config.name.clone();
        self.reserve(&name)?;
        let born = Rc::new(Born::new());
        if let Err(error) = self.start(config, Some(born.clone())) {
            self.names.borrow_mut().retain(|other| *other != name);
            return Err(error.to_string());
        }
        born.wait().await.map_err(|error| format!("{name}: {error}"))
    }

    /// Starts a domain, whose name was taken.
    fn start(
        self: &Rc<Self>,
        config: Config,
        born: Option<Rc<Born>>,
    ) -> Result<(), Box<dyn Error>> {
        let world = self.clone();
        self.spawn(async move {
            let config = Rc::new(config);
            let well = domain::live(world.clone(), config.clone(), born).await;
            world.names.borrow_mut().retain(|name| *name != config.name);
            world.well.set(world.well.get() + usize::from(well));
            world.ended.set(world.ended.get() + 1);
            if !world.is_ruled && world.ended.get() == world.started.get() {
                world.over.raise();
            }
        })?;
        self.started.set(self.started.get() + 1);
        Ok(())
    }

    /// How many tasks there are.
    pub(crate) fn tasks(&self) -> usize {
        self.executor.tasks()
    }

    /// All domains.
    pub(crate) fn guests(&self) -> Vec<Rc<Guest>> {
        self.guests.borrow().clone()
    }

    /// A domain by its name or number.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn guest(&self, name: &str) -> Result<Rc<Guest>, String> {
        let guests = self.guests.borrow();
        let number = name.parse().ok().map(DomId);
        let named = guests.iter().find(|guest| guest.config.name == name);
        let guest = named.or_else(|| guests.iter().find(|guest| Some(guest.id()) == number));
        guest.cloned().ok_or_else(|| match name {
            "0" | "Domain-0" => "Domain-0 rules the others: `poweroff` ends it".to_string(),
            _ => format!("there is no domain `{name}`"),
        })
    }

    /// Takes a page of addresses.
    ///
    /// # Errors
    /// If all are in use.
    pub(crate) fn window(&self) -> Result<Window, Box<dyn Error>> {
        self.windows.take().ok_or_else(|| "no address is left to map a frame".into())
    }

    pub(crate) fn add(&self, guest: &Rc<Guest>) {
        self.guests.borrow_mut().push(guest.clone());
    }

    pub(crate) fn remove(&self, id: DomId) {
        self.guests.borrow_mut().retain(|guest| guest.id() != id);
    }
}
