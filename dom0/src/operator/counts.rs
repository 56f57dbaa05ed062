//! What this program has in use, so that what a domain has left behind shows.

use alloc::rc::Rc;
use alloc::string::{String, ToString};

use hypercall_abi::event::TWO_LEVEL_PORTS;
use hypercall_abi::types::Port;
use pv_guest_sdk::control::survey;
use pv_guest_sdk::event::port::{State, status};
use pv_guest_sdk::{Machine, extension};
use serde_json::{Value, json};

use crate::world::World;

/// Counts everything that is taken for a domain and given back after it. What the hypervisor finds
/// wrong is `null` where it can't tell.
///
/// # Errors
/// If the hypervisor refuses to be asked.
pub(super) fn audit(world: &World) -> Result<Value, String> {
    let (store, listeners) = world.store.counts();
    let (heap, heap_size) = crate::heap();
    let wrong = extension::audit(&Machine).map_err(|error| error.to_string())?;
    let machine = survey::machine().map_err(|error| error.to_string())?;
    Ok(json!({
        "domains": world.guests().len(),
        "back_ends": Rc::strong_count(&world.back_ends) - 1,
        "disks": world.storage.claimed(),
        "tasks": world.tasks(),
        "mapped": world.windows.used(),
        "ports": ports(),
        "free_frames": world.memory.free(),
        "frames_in_rows": world.memory.in_rows(),
        "heap": heap,
        "heap_size": heap_size,
        "nodes": store.nodes,
        "clients": store.clients,
        "watches": store.watches,
        "transactions": store.transactions,
        "introduced": store.domains,
        "listeners": listeners,
        "free_pages": machine.free_pages,
        "wrong": wrong,
    }))
}

/// How many ports are open, as the hypervisor says.
fn ports() -> usize {
    let all = (0..TWO_LEVEL_PORTS).map_while(|port| status(&Machine, Port(port)).ok());
    all.filter(|port| port.state != State::Closed).count()
}
