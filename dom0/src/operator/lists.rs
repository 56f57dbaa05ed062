//! What there is: domains, virtual CPUs, devices, the machine.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use hypercall_abi::domctl::{Credit2, DomainInfo};
use hypercall_abi::types::{DomId, VcpuId};
use netback::Counters;
use pv_guest_sdk::control::survey;
use pv_guest_sdk::time::Instant;
use pv_guest_sdk::{Machine, version};
use serde_json::{Map, Value, json};
use toolstack::nodes;
use toolstack::operator::show::{cpus, state};

use crate::domain::Guest;
use crate::world::World;

/// Domains that are asked for at once.
const BATCH: usize = 16;
/// Pages in a MiB.
const PAGES_PER_MIB: u64 = 256;
/// Nodes of the store that one answer has at most.
const NODES: usize = 4096;

type Answer = Result<Value, String>;

/// What domains had used when somebody looked.
#[derive(Debug, Default)]
pub(super) struct Usage {
    at: Option<Instant>,
    used: Vec<(DomId, u64)>,
}

/// A domain that the hypervisor knows, and its name.
struct Known {
    info: DomainInfo,
    name: String,
}

/// All domains, or those that are named; it is an error if one is not there.
fn known(world: &World, names: &[String]) -> Result<Vec<Known>, String> {
    let guests = world.guests();
    let mut all = Vec::new();
    let mut first = DomId(0);
    loop {
        let mut some = [DomainInfo::default(); BATCH];
        let got = survey::domains(first, &mut some).map_err(|error| error.to_string())?;
        for info in got {
            let guest = guests.iter().find(|guest| guest.id() == info.domain);
            let name = match (info.domain, guest) {
                (_, Some(guest)) => guest.config.name.clone(),
                (DomId(0), None) => "Domain-0".to_string(),
                _ => "(null)".to_string(),
            };
            all.push(Known { info: *info, name });
        }
        match got.last().and_then(|last| last.domain.0.checked_add(1)) {
            Some(next) if got.len() == BATCH => first = DomId(next),
            _ => break,
        }
    }
    let is = |known: &Known, name: &String| {
        known.name == *name || known.info.domain.0.to_string() == *name
    };
    if let Some(name) = names.iter().find(|name| !all.iter().any(|known| is(known, name))) {
        return Err(format!("there is no domain `{name}`"));
    }
    all.retain(|known| names.is_empty() || names.iter().any(|name| is(known, name)));
    Ok(all)
}

fn rows<T>(all: Vec<T>, row: impl FnMut(T) -> Value) -> Answer {
    Ok(Value::Array(all.into_iter().map(row).collect()))
}

pub(super) fn domains(world: &World, names: &[String]) -> Answer {
    rows(known(world, names)?, |Known { info, name }| {
        json!({
            "name": name,
            "id": info.domain.0,
            "mem": info.tot_pages / PAGES_PER_MIB,
            "vcpus": info.nr_online_vcpus,
            "state": state(info.flags),
            "cpu_time": info.cpu_time,
        })
    })
}

/// What domains have used, and their share of one CPU since the last time, in thousandths.
pub(super) fn top(world: &World, last: &mut Usage) -> Answer {
    let all = known(world, &[])?;
    let now = Instant::now();
    let passed = last.at.map(|at| now.since(at).as_nanos()).filter(|passed| *passed > 0);
    let used: Vec<_> = all.iter().map(|known| (known.info.domain, known.info.cpu_time)).collect();
    let before = core::mem::replace(last, Usage { at: Some(now), used });
    rows(all, |Known { info, name }| {
        let was = before.used.iter().find(|(id, _)| *id == info.domain).map_or(0, |(_, it)| *it);
        let share = passed.map(|it| u128::from(info.cpu_time.saturating_sub(was)) * 1000 / it);
        let net = world.network.counters(info.domain);
        json!({
            "name": name,
            "id": info.domain.0,
            "state": state(info.flags),
            "cpu_time": info.cpu_time,
            "net_tx": net.iter().map(|(_, it)| it.from.bytes).sum::<u64>(),
            "net_rx": net.iter().map(|(_, it)| it.to.bytes).sum::<u64>(),
            "share": share.and_then(|share| u64::try_from(share).ok()),
        })
    })
}

pub(super) fn vcpus(world: &World, names: &[String]) -> Answer {
    let machine = survey::machine().map_err(|error| error.to_string())?;
    let mut rows = Vec::new();
    for Known { info, name } in known(world, names)? {
        for number in 0..=info.max_vcpu_id.min(127) {
            let (id, vcpu) = (info.domain, VcpuId(number));
            let Ok(what) = survey::vcpu(id, vcpu) else { continue };
            let letter = |set: u8, letter| if set == 0 { '-' } else { letter };
            let state = [
                letter(what.running, 'r'),
                letter(what.blocked, 'b'),
                letter(1 - what.online.min(1), 'p'),
            ];
            let affinity = survey::affinity(id, vcpu).map(|set| cpus(set, machine.nr_cpus));
            rows.push(json!({
                "name": name,
                "id": id.0,
                "vcpu": number,
                "cpu": if what.online == 0 { Value::from("-") } else { what.cpu.into() },
                "state": state.iter().collect::<String>(),
                "cpu_time": what.cpu_time,
                "affinity": affinity.unwrap_or_else(|_| "-".to_string()),
            }));
        }
    }
    Ok(Value::Array(rows))
}

/// Shows shares of the CPUs; of one domain they can be changed first.
pub(super) fn shares(world: &World, words: &[String]) -> Answer {
    let (names, changes) = words.split_at(words.len().min(1));
    let all = known(world, names)?;
    let mut change = None;
    for word in changes {
        let number = word.split_once('=').and_then(|(key, value)| Some((key, value.parse().ok()?)));
        let id = all.first().map_or(DomId(0), |known| known.info.domain);
        let old = survey::share(id, None).map_err(|error| error.to_string())?;
        let credit = change.get_or_insert(old);
        match number {
            Some(("weight", weight @ 1..)) => *credit = Credit2 { weight, ..*credit },
            Some(("cap", cap)) => *credit = Credit2 { cap, ..*credit },
            _ => return Err(format!("`{word}`: weight=1 to 65535 or cap=0 to 65535 is expected")),
        }
    }
    let mut rows = Vec::new();
    for Known { info, name } in all {
        let share = survey::share(info.domain, change);
        let share = share.map_err(|error| format!("{name}: {error}"))?;
        let (weight, cap) = (share.weight, share.cap);
        rows.push(json!({ "name": name, "id": info.domain.0, "weight": weight, "cap": cap }));
    }
    Ok(Value::Array(rows))
}

pub(super) fn uptime(world: &World, names: &[String]) -> Answer {
    let guests = world.guests();
    rows(known(world, names)?, |Known { info, name }| {
        let guest = guests.iter().find(|guest| guest.id() == info.domain);
        let since = guest.map_or(world.since, |guest| guest.since);
        json!({ "name": name, "id": info.domain.0, "seconds": since.elapsed().as_secs() })
    })
}

/// Devices of a class, as the store has them.
pub(super) fn devices(world: &World, guest: &Guest, class: &str) -> Answer {
    let (id, counters) = (guest.id(), world.network.counters(guest.id()));
    let place = format!("/local/domain/0/backend/{class}/{}", id.0);
    let list = world.store.change(|store, me| store.directory(me, &place)).unwrap_or_default();
    rows(list, |number| {
        let back = format!("{place}/{number}");
        let front = nodes::home(id) + &format!("/device/{class}/{number}");
        let read = |half: &str, name: &str| -> Value {
            let value = world.store.read(&format!("{half}/{name}"));
            value.map_or_else(|| Value::from("-"), Value::from)
        };
        let first = |names: &[&str]| {
            let mut values = names.iter().map(|name| read(&front, name));
            values.find(|value| value != "-").unwrap_or_else(|| "-".into())
        };
        let mut row = json!({
            "be": 0,
            "state": read(&back, "state"),
            "evt_ch": first(&["event-channel", "event-channel-tx"]),
            "be_path": back,
        });
        let more = if class == "vbd" {
            json!({
                "vdev": number,
                "name": read(&back, "dev"),
                "ring_ref": first(&["ring-ref", "ring-ref0"]),
                "target": read(&back, "params"),
            })
        } else {
            let ring = |name| match read(&front, name) {
                Value::String(text) => text,
                _ => String::new(),
            };
            let rings = format!("{}/{}", ring("tx-ring-ref"), ring("rx-ring-ref"));
            let own = |(idx, _): &&(u32, Counters)| idx.to_string() == number;
            let (from, to, spoofed) = counters
                .iter()
                .find(own)
                .map_or_else(Default::default, |(_, it)| (it.from, it.to, it.spoofed));
            json!({
                "idx": number,
                "mac": read(&back, "mac"),
                "bridge": read(&back, "bridge"),
                "rings": rings,
                "tx_packets": from.packets,
                "tx_bytes": from.bytes,
                "tx_dropped": from.dropped + from.errors,
                "tx_spoofed": spoofed,
                "rx_packets": to.packets,
                "rx_bytes": to.bytes,
                "rx_dropped": to.dropped + to.errors,
            })
        };
        if let (Value::Object(row), Value::Object(more)) = (&mut row, more) {
            row.extend(more);
        }
        row
    })
}

/// What the machine has.
pub(super) fn machine() -> Answer {
    let info = survey::machine().map_err(|error| error.to_string())?;
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| drop(fields.insert(name.to_string(), value));
    set("nr_cpus", info.nr_cpus.into());
    set("nr_nodes", info.nr_nodes.into());
    set("cores_per_socket", info.cores_per_socket.into());
    set("threads_per_core", info.threads_per_core.into());
    set("cpu_mhz", (info.cpu_khz / 1000).into());
    set("total_memory", (info.total_pages / PAGES_PER_MIB).into());
    set("free_memory", (info.free_pages / PAGES_PER_MIB).into());
    set("free_pages", info.free_pages.into());
    if let (Ok(number), Ok(extra)) = (version::version(&Machine), version::extra_version(&Machine))
    {
        set("xen_version", format!("{number}{extra}").into());
    }
    if let Ok(capabilities) = version::capabilities(&Machine) {
        set("xen_caps", capabilities.to_string().into());
    }
    if let Ok(words) = version::command_line(&Machine) {
        set("xen_commandline", words.to_string().into());
    }
    if let Ok(changeset) = version::changeset(&Machine) {
        set("xen_changeset", changeset.to_string().into());
    }
    set("xen_scheduler", "credit2".into());
    Ok(Value::Object(fields))
}

/// A part of the store: a line for each node.
pub(super) fn store(world: &World, path: &str) -> Answer {
    let mut text = String::new();
    let mut waiting = alloc::vec![path.trim_end_matches('/').to_string()];
    let mut count = 0;
    while let Some(path) = waiting.pop() {
        let place = if path.is_empty() { "/" } else { &*path };
        let read = world
            .store
            .change(|store, me| Ok((store.read(me, place)?, store.directory(me, place)?)));
        let (value, mut below): (Vec<u8>, Vec<String>) =
            read.map_err(|error: xenstore::Error| format!("{place}: {error:?}"))?;
        text += &format!("{place} = \"{}\"\n", String::from_utf8_lossy(&value).escape_debug());
        below.sort_unstable_by(|a, b| b.cmp(a));
        waiting.extend(below.iter().map(|name| format!("{path}/{name}")));
        count += 1;
        if count == NODES {
            return Err(format!("{path}: there are more than {NODES} nodes; name a path"));
        }
    }
    Ok(text.into())
}
