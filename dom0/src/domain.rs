//! A domain's life: it is built, served, watched, and buried.

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::error::Error;

use embassy_futures::select::{Either3, select3};
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::signal::Signal;
use hypercall_abi::domctl::{Credit2, SCHEDULER_CREDIT2, SCHEDULER_PUT, SchedulerOp};
use hypercall_abi::types::{DomId, VcpuId};
use pv_guest_sdk::control::{Domain, Plain};
use pv_guest_sdk::println;
use pv_guest_sdk::time::{Duration, wall_clock};
use toolstack::build::{self, Built, Settings};
use toolstack::config::{Config, Disk, Then};
use toolstack::end::End;
use toolstack::nodes::{self, Described};

use crate::block;
use crate::console::Console;
use crate::storage::Claim;
use crate::store;
use crate::world::World;

/// Pages in a MiB.
const PAGES_PER_MIB: u64 = 256;

/// A domain that runs.
pub(crate) struct Guest {
    /// What it is.
    pub(crate) config: Rc<Config>,
    /// The domain.
    pub(crate) domain: Domain,
    /// Told when it has ended.
    ended: Signal<NoopRawMutex, End>,
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
}

/// Lets a domain live, again and again if it is to be restarted. Says what goes wrong; the answer is
/// whether it ended well.
pub(crate) async fn live(world: Rc<World>, config: Rc<Config>) -> bool {
    loop {
        match once(&world, &config).await {
            Ok((_, Then::Restart)) => {}
            Ok((end, _)) => return end.is_success(),
            Err(error) => {
                println!("{}: {error}", config.name);
                return false;
            }
        }
    }
}

/// One life; how it ended, and what is to be done then.
async fn once(world: &Rc<World>, config: &Rc<Config>) -> Result<(End, Then), Box<dyn Error>> {
    let disks = open(world, config).await?;
    let built = make(world, config)?;
    let (console, store) = ((built.console, built.console_port), (built.store, built.store_port));
    let ended = Signal::new();
    let guest = Rc::new(Guest { config: config.clone(), domain: built.domain, ended });
    let (id, uuid) = (guest.id(), uuid(guest.id()));
    let described = Described { id, uuid: &uuid, config, store, console };
    world.store.make(&nodes::of_domain(&described));
    world.add(&guest);
    let served = disks.into_iter().map(|(disk, claim)| connect(world, id, &disk, claim));
    let disks: Vec<_> = served.collect();
    let end = serve(world, &guest, store, console).await;
    for disk in disks.into_iter().flatten() {
        disk.stop.signal(());
        disk.stopped.wait().await;
    }
    world.remove(id);
    world.store.ended(id);
    world.store.gone(id);
    world.store.remove(&nodes::home(id));
    world.store.remove(&format!("/vm/{uuid}"));
    let info = guest.domain.info();
    let buried = guest.domain.control(Plain::Destroy);
    let end = end?;
    let ran = Duration::from_nanos(info?.cpu_time);
    println!("{}: {end} after {ran:?}", config.name);
    buried?;
    let then = match end {
        End::Shutdown(hypercall_abi::sched::REASON_POWEROFF) => config.on_poweroff,
        End::Shutdown(hypercall_abi::sched::REASON_REBOOT) => config.on_reboot,
        End::Shutdown(_) => config.on_crash,
        End::Dying => Then::Destroy,
    };
    Ok((end, then))
}

type Ring = (hypercall_abi::types::Mfn, hypercall_abi::types::Port);

/// A back end that runs as a task.
struct BackEnd {
    /// To be told that the domain is gone.
    stop: Signal<NoopRawMutex, ()>,
    /// Told when it is done.
    stopped: Signal<NoopRawMutex, ()>,
}

/// Opens a domain's disks.
async fn open(world: &World, config: &Config) -> Result<Vec<(Disk, Claim)>, Box<dyn Error>> {
    let mut disks = Vec::new();
    for disk in &config.disks {
        let file = |name: &str| world.file(name).ok();
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
    let (task, store) = (end.clone(), world.store.clone());
    let spawned = world.spawn(async move {
        block::serve(served, store, &task.stop).await;
        drop(claim);
        task.stopped.signal(());
    });
    if let Err(error) = &spawned {
        println!("{}: {error}", disk.vdev);
    }
    spawned.is_ok().then_some(end)
}

/// Runs a domain that was built, with what it needs, to its end.
async fn serve(
    world: &World,
    guest: &Guest,
    store: Ring,
    console: Ring,
) -> Result<End, Box<dyn Error>> {
    let domain = &guest.domain;
    let console = Console::new(&guest.config.name, domain, console, world.window()?)?;
    let store = store::serve(&world.store, domain, store, world.window()?);
    domain.control(Plain::Unpause)?;
    let end = match select3(guest.ended.wait(), console.serve(), store).await {
        Either3::First(end) => end,
        Either3::Second(()) => End::Dying,
        Either3::Third(served) => {
            return Err(served.err().unwrap_or_else(|| "its store is gone".into()));
        }
    };
    console.end();
    Ok(end)
}

/// The name of a domain in the store for all time.
fn uuid(id: DomId) -> String {
    let time = wall_clock().as_nanos() & 0xffff_ffff_ffff_ffff_ffff;
    format!(
        "{:08x}-{:04x}-4000-8000-{:012x}",
        time >> 48 & 0xffff_ffff,
        time >> 32 & 0xffff,
        (time & 0xffff_ffff) << 16 | u128::from(id.0)
    )
}

/// Builds a domain as it is configured, paused.
fn make(world: &World, config: &Config) -> Result<Built, Box<dyn Error>> {
    let settings = Settings {
        image: world.file(&config.kernel)?,
        ramdisk: config.ramdisk.as_ref().map_or(Ok(&[][..]), |name| world.file(name))?,
        command_line: &config.extra,
        pages: config.memory * PAGES_PER_MIB,
        vcpus: config.vcpus,
    };
    let window = world.window()?;
    let built = build::domain(&settings, window.page())
        .map_err(|error| format!("it can't be built: {error}"))?;
    if let Err(error) = share(&built.domain, config) {
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
