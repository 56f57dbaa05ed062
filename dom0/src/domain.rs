//! A domain's life: it is built, served, watched, and buried.
//!
//! A life is a task ([`live`]); who wants something of a domain finds it as a [`Guest`] of the world.
//! Whatever goes wrong, what was made of the domain is taken back: rings, ports, nodes of the store,
//! claims of disks, memory.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::error::Error;

use embassy_futures::select::{Either, Either4, select, select4};
use embassy_futures::yield_now;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::signal::Signal;
use hypercall_abi::domctl::{Credit2, SCHEDULER_CREDIT2, SCHEDULER_PUT, SchedulerOp};
use hypercall_abi::types::{DomId, VcpuId};
use pv_guest_sdk::control::{Domain, Plain, survey};
use pv_guest_sdk::time::{Duration, Instant, wall_clock};
use toolstack::build::{self, Built, Settings};
use toolstack::config::{Config, Disk, Mac, Then, Vif};
use toolstack::end::End;
use toolstack::nodes::{self, Described};

use crate::bell::Flag;
use crate::console::Console;
use crate::net::{BRIDGE, vif};
use crate::storage::Claim;
use crate::store;
use crate::world::{CLOSING, World};
use crate::{block, complaints, dump};

/// Pages in a MiB.
const PAGES_PER_MIB: u64 = 256;

/// A domain that runs, or has ended and is preserved.
pub(crate) struct Guest {
    /// What it is.
    pub(crate) config: Rc<Config>,
    /// The domain.
    pub(crate) domain: Domain,
    /// Its console.
    pub(crate) console: Console,
    /// Since when it runs.
    pub(crate) since: Instant,
    /// Raised when nothing of it is left.
    pub(crate) gone: Flag,
    /// Told when it has ended.
    ended: Signal<NoopRawMutex, End>,
    /// Told when it is to be destroyed.
    doomed: Signal<NoopRawMutex, ()>,
}

impl Guest {
    /// Its number.
    pub(crate) const fn id(&self) -> DomId {
        self.domain.id()
    }

    /// Looks whether it has ended, and tells who waits for that.
    pub(crate) fn look(&self) {
        // One that is gone was destroyed by somebody else.
        let end = self.domain.info().map_or(Some(End::Dying), |info| End::of(&info));
        end.into_iter().for_each(|end| self.ended.signal(end));
    }

    /// Ends it, and waits until nothing of it is left.
    pub(crate) async fn destroy(&self) {
        self.doomed.signal(());
        self.gone.raised().await;
    }
}

/// Who waits for a domain to run: its number, and how long it took to make it.
pub(crate) type Born = Signal<NoopRawMutex, Result<(DomId, Duration), String>>;

/// Lets a domain live, again and again if it is to be restarted. What goes wrong with the first of its
/// lives is told to `born` if somebody waits there; else it is said. The answer is whether it ended
/// well.
pub(crate) async fn live(world: Rc<World>, config: Rc<Config>, born: Option<Rc<Born>>) -> bool {
    let mut born = born;
    // It stays when the domain begins anew, as xl's does, and with it the addresses made of it.
    let uuid = uuid();
    loop {
        match once(&world, &config, &uuid, born.as_deref()).await {
            Ok((_, Then::Restart)) if !world.is_closing() => born = None,
            Ok((end, _)) => return end.is_success(),
            Err(error) => {
                match born.filter(|born| !born.signaled()) {
                    Some(born) => born.signal(Err(error.to_string())),
                    None => world.screen.line(format_args!("{}: {error}", config.name)),
                }
                return false;
            }
        }
    }
}

/// One life; how it ended, and what is to be done then.
async fn once(
    world: &Rc<World>,
    config: &Rc<Config>,
    uuid: &str,
    born: Option<&Born>,
) -> Result<(End, Then), Box<dyn Error>> {
    let (begun, disks) = (Instant::now(), open(world, config).await?);
    let built = make(world, config).await?;
    let (console, store) = ((built.console, built.console_port), (built.store, built.store_port));
    let guest = match adopt(world, config, built.domain, console) {
        Ok(guest) => Rc::new(guest),
        Err((domain, error)) => {
            let _is_gone = domain.control(Plain::Destroy);
            return Err(error);
        }
    };
    let id = guest.id();
    let described = Described { id, uuid, config, store, console };
    world.store.make(&nodes::of_domain(&described));
    world.add(&guest);
    let served = disks.into_iter().map(|(disk, claim)| connect(world, id, &disk, claim));
    let mut devices: Vec<_> = served.collect();
    for (number, vif) in (0..).zip(&config.vifs) {
        devices.push(plug(world, id, number, vif, uuid));
    }
    let end = serve(world, &guest, store, (born, begun)).await;
    guest.console.close();
    world.store.ended(id);
    let then = end.as_ref().map_or(Then::Destroy, |(end, doomed)| what_then(config, *end, *doomed));
    if then == Then::Preserve && world.is_ruled() {
        let how = end.as_ref().map_or(End::Dying, |(end, _)| *end);
        world.screen.line(format_args!("{}: {how}; it is preserved", config.name));
        guest.doomed.wait().await;
    }
    let doomed_late = then.has_core() && !keep_core(world, &guest).await;
    for device in devices.into_iter().flatten() {
        device.stop.signal(());
        device.stopped.wait().await;
    }
    world.remove(id);
    clear(world, id, uuid);
    let info = guest.domain.info();
    let buried = guest.domain.control(Plain::Destroy);
    guest.gone.raise();
    // That may have taken long.
    yield_now().await;
    let (end, doomed) = end?;
    let ran = Duration::from_nanos(info?.cpu_time);
    if doomed {
        world.screen.line(format_args!("{}: destroyed after {ran:?}", config.name));
    } else {
        world.screen.line(format_args!("{}: {end} after {ran:?}", config.name));
    }
    buried?;
    Ok((end, if doomed_late { Then::Destroy } else { then.after_core() }))
}

/// Removes what the store has of a domain that is gone.
fn clear(world: &World, id: DomId, uuid: &str) {
    world.store.gone(id);
    world.store.remove(&nodes::home(id));
    world.store.remove(&format!("/vm/{uuid}"));
    for class in ["vbd", "vif"] {
        let back_ends = format!("/local/domain/0/backend/{class}/{}", id.0);
        world.store.remove(&complaints::place(&back_ends));
        world.store.remove(&back_ends);
    }
}

/// Writes the core of a domain that has ended to where cores are kept, and tells of it; not so if the
/// domain is to be destroyed meanwhile: then the answer is false.
async fn keep_core(world: &World, guest: &Guest) -> bool {
    let Some(cores) = &world.cores else { return true };
    let name = &guest.config.name;
    match select(dump::to_partition(world, guest, cores), guest.doomed.wait()).await {
        Either::First(Ok(_)) => {
            world.screen.line(format_args!("{name}: its core is at {cores}"));
        }
        Either::First(Err(error)) => world.screen.line(format_args!("{name}: no core: {error}")),
        Either::Second(()) => return false,
    }
    true
}

/// What is to be done with a domain that has ended so, or was to be destroyed.
fn what_then(config: &Config, end: End, doomed: bool) -> Then {
    match end {
        _ if doomed => Then::Destroy,
        End::Shutdown(hypercall_abi::sched::REASON_POWEROFF) => config.on_poweroff,
        End::Shutdown(hypercall_abi::sched::REASON_REBOOT) => config.on_reboot,
        End::Shutdown(_) => config.on_crash,
        End::Dying => Then::Destroy,
    }
}

/// Connects to a domain's console; gives the domain back if that fails.
fn adopt(
    world: &World,
    config: &Rc<Config>,
    domain: Domain,
    console: Ring,
) -> Result<Guest, (Domain, Box<dyn Error>)> {
    let connected = world.window().and_then(|window| {
        let (screen, limited) = (world.screen.clone(), world.is_ruled());
        Ok(Console::new(&config.name, &domain, console, window, screen, limited)?)
    });
    match connected {
        Ok(console) => Ok(Guest {
            config: config.clone(),
            domain,
            console,
            since: Instant::now(),
            gone: Flag::default(),
            ended: Signal::new(),
            doomed: Signal::new(),
        }),
        Err(error) => Err((domain, error)),
    }
}

type Ring = (hypercall_abi::types::Mfn, hypercall_abi::types::Port);

/// A back end that runs as a task.
struct BackEnd {
    /// To be told that the domain is gone.
    stop: Signal<NoopRawMutex, ()>,
    /// Told when it is done.
    stopped: Signal<NoopRawMutex, ()>,
}

/// Opens a domain's disks, if there is a place for its core too where one is wanted.
async fn open(world: &World, config: &Config) -> Result<Vec<(Disk, Claim)>, Box<dyn Error>> {
    if config.has_core() && world.cores.is_none() {
        let word = dump::WORD;
        return Err(format!(
            "a core can't be kept without `{word}PARTITION` on dom0's command line"
        )
        .into());
    }
    let mut disks = Vec::new();
    for disk in &config.disks {
        let file = |name: &str| world.files.bundled(name);
        let claim = world.storage.open(&disk.target, disk.readonly, file).await?;
        disks.push((disk.clone(), claim));
    }
    Ok(disks)
}

/// Offers a disk to a domain, and serves it from now on.
fn connect(world: &World, id: DomId, disk: &Disk, claim: Claim) -> Option<Rc<BackEnd>> {
    world.store.make(&nodes::of_disk(id, disk));
    let served = block::Served {
        domain: id,
        front: nodes::front_end("vbd", id, disk.number()),
        back: nodes::back_end("vbd", id, disk.number()),
        disk: claim.disk.clone(),
        grants: world.grants,
        windows: world.windows.clone(),
    };
    let end = Rc::new(BackEnd { stop: Signal::new(), stopped: Signal::new() });
    let (task, store, running) = (end.clone(), world.store.clone(), world.back_ends.clone());
    let spawned = world.spawn(async move {
        block::serve(served, store, &task.stop).await;
        drop((claim, running));
        task.stopped.signal(());
    });
    if let Err(error) = &spawned {
        world.screen.line(format_args!("{}: {error}", disk.vdev));
    }
    spawned.is_ok().then_some(end)
}

/// Offers a network interface to a domain, and serves it from now on.
fn plug(world: &Rc<World>, id: DomId, number: u32, vif: &Vif, uuid: &str) -> Option<Rc<BackEnd>> {
    let mac = vif.mac.unwrap_or_else(|| made_up(uuid, number));
    world.store.make(&nodes::of_vif(id, number, vif, mac));
    let served = vif::Served {
        domain: id,
        number,
        bridge: vif.bridge.clone().unwrap_or_else(|| BRIDGE.to_string()),
        mac: netback::Mac(mac.0),
        front: nodes::front_end("vif", id, number),
        back: nodes::back_end("vif", id, number),
    };
    let end = Rc::new(BackEnd { stop: Signal::new(), stopped: Signal::new() });
    let (task, shared, running) = (end.clone(), world.clone(), world.back_ends.clone());
    let spawned = world.spawn(async move {
        vif::serve(&shared, served, &task.stop).await;
        drop(running);
        task.stopped.signal(());
    });
    if let Err(error) = &spawned {
        world.screen.line(format_args!("vif {number}: {error}"));
    }
    spawned.is_ok().then_some(end)
}

/// An address for an interface that was given none: of Xen's, and the domain's and its number.
fn made_up(uuid: &str, number: u32) -> Mac {
    let mut sum = crc32fast::Hasher::new();
    sum.update(uuid.as_bytes());
    sum.update(&number.to_le_bytes());
    let [a, b, c, _] = sum.finalize().to_le_bytes();
    Mac([0x00, 0x16, 0x3e, a, b, c])
}

/// Runs a domain that was built, with what it needs, to its end; and whether that was forced.
async fn serve(
    world: &World,
    guest: &Guest,
    store: Ring,
    (born, begun): (Option<&Born>, Instant),
) -> Result<(End, bool), Box<dyn Error>> {
    let domain = &guest.domain;
    let store = store::serve(&world.store, domain, store, world.window()?);
    let took = begun.elapsed();
    domain.control(Plain::Unpause)?;
    if let Some(born) = born {
        born.signal(Ok((guest.id(), took)));
    }
    match select4(guest.ended.wait(), guest.doomed.wait(), guest.console.serve(), store).await {
        Either4::First(end) => Ok((end, false)),
        Either4::Second(()) | Either4::Third(()) => Ok((End::Dying, true)),
        Either4::Fourth(served) => Err(served.err().unwrap_or_else(|| "its store is gone".into())),
    }
}

/// The name of a domain in the store for all time.
fn uuid() -> String {
    let time = wall_clock().as_nanos() & 0xffff_ffff_ffff_ffff_ffff;
    format!(
        "{:08x}-{:04x}-4000-8000-{:012x}",
        time >> 48 & 0xffff_ffff,
        time >> 32 & 0xffff,
        (time & 0xffff_ffff) << 16
    )
}

/// Builds a domain as it is configured, paused.
async fn make(world: &World, config: &Config) -> Result<Built, Box<dyn Error>> {
    let image = world.files.get(&config.kernel, &config.beside).await?;
    let ramdisk = match &config.ramdisk {
        Some(name) => world.files.get(name, &config.beside).await?,
        None => Cow::default(),
    };
    let settings = Settings {
        image: &image,
        ramdisk: &ramdisk,
        command_line: &config.extra,
        pages: config.memory * PAGES_PER_MIB,
        vcpus: config.vcpus,
    };
    let (wanted, free) = (config.memory, survey::machine()?.free_pages / PAGES_PER_MIB);
    if wanted > free {
        return Err(format!("{wanted} MiB of memory are wanted, and {free} MiB are free").into());
    }
    let window = world.window()?;
    let built = build::gradually(&settings, window.page())
        .await
        .map_err(|error| format!("it can't be built: {error}"))?;
    // Meanwhile an end may have been asked for.
    let shared = match world.is_closing() {
        true => Err(CLOSING.into()),
        false => share(&built.domain, config),
    };
    if let Err(error) = shared {
        let _is_gone = built.domain.control(Plain::Destroy);
        return Err(error);
    }
    Ok(built)
}

/// Sets what share of the CPUs a domain has.
fn share(domain: &Domain, config: &Config) -> Result<(), Box<dyn Error>> {
    let credit2 = Credit2 { weight: config.cpu_weight, cap: config.cap };
    let (sched_id, cmd) = (SCHEDULER_CREDIT2, SCHEDULER_PUT);
    domain.apply(&mut SchedulerOp { sched_id, cmd, credit2, ..SchedulerOp::default() })?;
    if config.cpus != u64::MAX {
        for vcpu in 0..config.vcpus {
            domain.set_affinity(VcpuId(vcpu), config.cpus)?;
        }
    }
    Ok(())
}
