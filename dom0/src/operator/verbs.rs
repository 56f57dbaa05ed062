//! What each verb does.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use embassy_futures::select::{Either3, select, select3};
use futures_util::future::join_all;
use pv_guest_sdk::control::{Plain, survey};
use pv_guest_sdk::time::{Duration, Instant, sleep};
use serde_json::{Value, json};
use toolstack::nodes;
use toolstack::operator::verbs::{self, Names};

use super::{Operator, counts, lists};
use crate::domain::Guest;
use crate::dump;

/// How long a domain may take to say that it has heard of a shutdown.
const ANSWER: Duration = Duration::from_secs(10);
/// How long domains may take to end when the machine is to be powered off.
const END: Duration = Duration::from_secs(30);
/// How much of a log one answer has at most. Unit: bytes.
const LOG: usize = 64 << 10;

impl Operator {
    /// Does what a verb says.
    ///
    /// # Errors
    /// What went wrong, as a sentence.
    pub(super) async fn perform(&self, verb: &str, words: &[String]) -> Result<Value, String> {
        verbs::find(verb, words.len())?;
        let world = &self.world;
        let first = words.first().map_or("", |word| word);
        match verb {
            "help" => verbs::help(words.first().map(String::as_str)).map(Value::from),
            "list" => lists::domains(world, words),
            "info" => lists::machine(),
            "create" => self.create(first, words.get(1..).unwrap_or_default()).await,
            "destroy" => {
                let (guest, begun) = (world.guest(first)?, Instant::now());
                guest.destroy().await;
                Ok(with(named(&guest), "took", nanos(begun.elapsed())))
            }
            "shutdown" => ask(self, world.guest(first)?.as_ref(), "poweroff").await,
            "reboot" => ask(self, world.guest(first)?.as_ref(), "reboot").await,
            "pause" => control(world.guest(first)?.as_ref(), Plain::Pause),
            "unpause" => control(world.guest(first)?.as_ref(), Plain::Unpause),
            "dump-core" => {
                let guest = world.guest(first)?;
                let partition = words.get(1).ok_or_else(|| {
                    format!("where to? A partition, such as /dev/vda3; for a file say `cargo xtask ctl dump-core {first} FILE` at the host")
                })?;
                dump::to_partition(world, &guest, partition).await
            }
            "log" => log(world.guest(first)?.as_ref(), words.get(1)),
            "input" => {
                let text = words.get(1).map_or("", |text| text);
                Ok(json!({ "taken": world.guest(first)?.console.input(text.as_bytes()) }))
            }
            "audit" => counts::audit(world),
            "dmesg" => dmesg(),
            "top" => lists::top(world, &mut self.top.borrow_mut()),
            "vcpu-list" => lists::vcpus(world, words),
            "sched" => lists::shares(world, words),
            "block-list" => lists::devices(world, world.guest(first)?.as_ref(), "vbd"),
            "network-list" => lists::devices(world, world.guest(first)?.as_ref(), "vif"),
            "uptime" => lists::uptime(world, words),
            "store" => lists::store(world, if first.is_empty() { "/" } else { first }),
            "poweroff" => self.power_off().await,
            _ => Err(format!("`{verb}` is not possible here")),
        }
    }

    async fn create(&self, name: &str, changes: &[String]) -> Result<Value, String> {
        let mut config = self.world.files.config(name).await?;
        for change in changes {
            config.change(change).map_err(|error| error.to_string())?;
        }
        let name = config.name.clone();
        let (id, took) = self.world.create(config).await?;
        Ok(json!({ "id": id.0, "name": name, "took": nanos(took) }))
    }

    /// Shuts all domains down, those by force that do not end in time.
    async fn power_off(&self) -> Result<Value, String> {
        let world = &self.world;
        world.close();
        let guests = world.guests();
        for guest in &guests {
            world.store.write(&shutdown_node(guest), "poweroff");
        }
        let all = join_all(guests.iter().map(|guest| guest.gone.raised()));
        select(all, sleep(END)).await;
        // Those too that began to live meanwhile.
        let late = world.guests();
        let forced: Vec<_> = late.iter().map(|guest| guest.config.name.clone()).collect();
        join_all(late.iter().map(|guest| guest.destroy())).await;
        self.done.raise();
        Ok(json!({ "domains": guests.len(), "destroyed": forced }))
    }

    /// Names for completion.
    pub(super) fn names(&self, what: Names) -> Vec<String> {
        match what {
            Names::Nothing => Vec::new(),
            Names::Verbs => verbs::names(),
            Names::Configurations => self.world.files.configs(),
            Names::Domains => {
                self.world.guests().iter().map(|guest| guest.config.name.clone()).collect()
            }
        }
    }
}

/// The configurations on a disk that the last word of a line may become.
pub(super) async fn on_disk(operator: &Operator, line: &str) -> Vec<String> {
    match line.split_once(' ') {
        Some(("create", words)) if !words.contains(' ') => operator.world.files.like(words).await,
        _ => Vec::new(),
    }
}

fn named(guest: &Guest) -> Value {
    json!({ "id": guest.id().0, "name": guest.config.name })
}

/// An answer with one more field.
pub(super) fn with(mut answer: Value, name: &str, value: impl Into<Value>) -> Value {
    if let Value::Object(fields) = &mut answer {
        fields.insert(name.to_string(), value.into());
    }
    answer
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn control(guest: &Guest, what: Plain) -> Result<Value, String> {
    guest.domain.control(what).map_err(|error| format!("{}: {error}", guest.config.name))?;
    Ok(named(guest))
}

fn shutdown_node(guest: &Guest) -> String {
    nodes::home(guest.id()) + "/control/shutdown"
}

/// Asks a domain to end, and waits until it has heard of it.
async fn ask(operator: &Operator, guest: &Guest, what: &str) -> Result<Value, String> {
    let store = &operator.world.store;
    let node = shutdown_node(guest);
    let watch = store.watch(&node);
    store.write(&node, what);
    let is_heard = || store.read(&node).is_none_or(|value| value != what);
    let heard = async {
        while !is_heard() {
            watch.changed().await;
        }
    };
    let acknowledged = match select3(heard, guest.gone.raised(), sleep(ANSWER)).await {
        Either3::First(()) | Either3::Second(()) => true,
        Either3::Third(()) => false,
    };
    Ok(with(named(guest), "acknowledged", acknowledged))
}

/// What a console said last.
fn log(guest: &Guest, from: Option<&String>) -> Result<Value, String> {
    let from = from.map_or(Ok(0), |from| from.parse());
    let from = from.map_err(|_| "FROM is a number of bytes".to_string())?;
    let (bytes, next) = guest.console.said(from, LOG);
    Ok(json!({ "next": next, "text": String::from_utf8_lossy(&bytes) }))
}

/// The hypervisor's log.
fn dmesg() -> Result<Value, String> {
    let (mut log, mut from) = (Vec::new(), None);
    let mut piece = alloc::vec![0; 4096];
    // As much as a hypervisor keeps, whatever is added meanwhile.
    while log.len() < 16 * LOG {
        let read = survey::log(from, &mut piece).map_err(|error| error.to_string())?;
        from = Some(read.1);
        if read.0.is_empty() {
            break;
        }
        log.extend_from_slice(read.0);
    }
    Ok(String::from_utf8_lossy(&log).into())
}
