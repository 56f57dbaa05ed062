//! A domain's life: it is built, served, watched, and buried.

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use core::error::Error;

use embassy_futures::select::select;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::signal::Signal;
use hypercall_abi::domctl::{Credit2, SCHEDULER_CREDIT2, SCHEDULER_PUT, SchedulerOp};
use hypercall_abi::types::{DomId, VcpuId};
use pv_guest_sdk::control::{Domain, Plain};
use pv_guest_sdk::println;
use pv_guest_sdk::time::Duration;
use toolstack::build::{self, Built, Settings};
use toolstack::config::{Config, Then};
use toolstack::end::End;

use crate::console::Console;
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
    let built = make(world, config)?;
    let (console, port) = (built.console, built.console_port);
    let ended = Signal::new();
    let guest = Rc::new(Guest { config: config.clone(), domain: built.domain, ended });
    world.add(&guest);
    let end = serve(world, &guest, (console, port)).await;
    world.remove(guest.id());
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

/// Runs a domain that was built, with what it needs, to its end.
async fn serve(world: &World, guest: &Guest, console: Ring) -> Result<End, Box<dyn Error>> {
    let window = world.window()?;
    let console = Console::new(&guest.config.name, &guest.domain, console, window)?;
    guest.domain.control(Plain::Unpause)?;
    let ended = async { guest.ended.wait().await };
    let end = match select(ended, console.serve()).await {
        embassy_futures::select::Either::First(end) => end,
        embassy_futures::select::Either::Second(()) => End::Dying,
    };
    console.end();
    Ok(end)
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
