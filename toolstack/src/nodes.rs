//! What a new domain finds in the store: the nodes that its kernel and its back ends look for.
//!
//! Paths and values are those that xl's tools write, because kernels were written against them.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use hypercall_abi::types::{DomId, Mfn, Port};
use hypercall_abi::xenstore::STATE_INITIALISING;

use crate::config::{Config, Disk, Mac, Vif};

/// Who may do what with a node. The owner, and the control domain, may do anything.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rights {
    /// Whose the node is.
    pub owner: DomId,
    /// Who may read it, beside the owner.
    pub reader: Option<DomId>,
}

/// One node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Node {
    /// Its path.
    pub path: String,
    /// What is in it.
    pub value: String,
    /// Who may do what with it.
    pub rights: Rights,
}

/// The control domain.
const CONTROL: DomId = DomId(0);

/// A domain, as the store shows it.
#[derive(Clone, Copy, Debug)]
pub struct Described<'a> {
    /// Its number.
    pub id: DomId,
    /// The name by which the hypervisor knows it for ever.
    pub uuid: &'a str,
    /// How it is configured.
    pub config: &'a Config,
    /// The frame and port of its store's ring.
    pub store: (Mfn, Port),
    /// The same of its console's.
    pub console: (Mfn, Port),
}

/// A domain's own place.
#[must_use]
pub fn home(id: DomId) -> String {
    format!("/local/domain/{}", id.0)
}

/// Where a device's back end is.
#[must_use]
pub fn back_end(class: &str, id: DomId, device: u32) -> String {
    format!("/local/domain/0/backend/{class}/{}/{device}", id.0)
}

/// Where a device's front end is.
#[must_use]
pub fn front_end(class: &str, id: DomId, device: u32) -> String {
    format!("{}/device/{class}/{device}", home(id))
}

/// Collects nodes below one place.
struct Below<'a> {
    nodes: &'a mut Vec<Node>,
    place: String,
    rights: Rights,
}

impl Below<'_> {
    fn set(&mut self, name: &str, value: impl ToString) {
        let separator = if name.is_empty() { "" } else { "/" };
        let path = format!("{}{separator}{name}", self.place);
        self.nodes.push(Node { path, value: value.to_string(), rights: self.rights });
    }

    /// A node that the domain may write.
    fn set_own(&mut self, name: &str, value: impl ToString, owner: DomId) {
        let shared = core::mem::replace(&mut self.rights, Rights { owner, reader: None });
        self.set(name, value);
        self.rights = shared;
    }
}

/// Everything but devices, parents before children.
#[must_use]
pub fn of_domain(domain: &Described<'_>) -> Vec<Node> {
    let Described { id, uuid, config, .. } = *domain;
    let mut nodes = Vec::new();
    let readable = Rights { owner: CONTROL, reader: Some(id) };
    let vm = format!("/vm/{uuid}");
    let mut below = Below { nodes: &mut nodes, place: vm.clone(), rights: readable };
    below.set("", "");
    below.set("name", &config.name);
    below.set("uuid", uuid);
    below.set("image/ostype", "linux");
    below.set("image/kernel", &config.kernel);
    below.set("image/ramdisk", config.ramdisk.as_deref().unwrap_or_default());
    below.set("image/cmdline", &config.extra);
    below.place = home(id);
    below.set("", "");
    below.set("vm", vm);
    below.set("name", &config.name);
    below.set("domid", id.0);
    for vcpu in 0..config.vcpus {
        below.set(&format!("cpu/{vcpu}/availability"), "online");
    }
    let kib = config.memory * 1024;
    below.set("memory/static-max", kib);
    below.set("memory/target", kib);
    below.set("memory/videoram", 0);
    below.set("device", "");
    for name in ["shutdown", "feature-poweroff", "feature-reboot", "feature-suspend", "sysrq"] {
        below.set_own(&format!("control/{name}"), "", id);
    }
    below.set("control/platform-feature-multiprocessor-suspend", 1);
    below.set("control/platform-feature-xs_reset_watches", 1);
    for name in ["device/suspend/event-channel", "data", "drivers", "feature", "attr", "error"] {
        below.set_own(name, "", id);
    }
    below.set("store/port", domain.store.1);
    below.set("store/ring-ref", domain.store.0.0);
    below.set(
        "console/backend",
        "/local/domain/0/backend/console/".to_string() + &format!("{}/0", id.0),
    );
    below.set("console/backend-id", 0);
    below.set("console/limit", 1_048_576);
    below.set("console/type", "xenconsoled");
    below.set("console/output", "pty");
    below.set("console/port", domain.console.1);
    below.set("console/ring-ref", domain.console.0.0);
    nodes
}

/// Both halves of a device that is to be connected: what each holds beside what all have.
fn device(
    class: &str,
    id: DomId,
    number: u32,
    front: &[(&str, String)],
    back: &[(&str, String)],
) -> Vec<Node> {
    let mut nodes = Vec::new();
    let (front_place, back_place) = (front_end(class, id, number), back_end(class, id, number));
    let rights = Rights { owner: CONTROL, reader: Some(id) };
    let mut below = Below { nodes: &mut nodes, place: back_place.clone(), rights };
    below.set("", "");
    below.set("frontend", &front_place);
    below.set("frontend-id", id.0);
    below.set("online", 1);
    back.iter().for_each(|(name, value)| below.set(name, value));
    below.set("state", STATE_INITIALISING);
    below.place = front_place;
    below.rights = Rights { owner: id, reader: Some(CONTROL) };
    below.set("", "");
    below.set("backend", &back_place);
    below.set("backend-id", CONTROL.0);
    below.set("trusted", 1);
    front.iter().for_each(|(name, value)| below.set(name, value));
    below.set("state", STATE_INITIALISING);
    nodes
}

/// A disk.
#[must_use]
pub fn of_disk(id: DomId, disk: &Disk) -> Vec<Node> {
    let number = disk.number();
    let front = [
        ("virtual-device", number.to_string()),
        ("device-type", "disk".to_string()),
        ("protocol", "x86_64-abi".to_string()),
    ];
    let back = [
        ("params", disk.target.clone()),
        ("type", "phy".to_string()),
        ("dev", disk.vdev.clone()),
        ("mode", if disk.readonly { "r" } else { "w" }.to_string()),
        ("removable", "0".to_string()),
        ("bootable", "1".to_string()),
        ("device-type", "disk".to_string()),
        ("discard-enable", "1".to_string()),
    ];
    device("vbd", id, number, &front, &back)
}

/// A network interface, by its number in the domain.
#[must_use]
pub fn of_vif(id: DomId, number: u32, vif: &Vif, mac: Mac) -> Vec<Node> {
    let front =
        [("handle", number.to_string()), ("mac", mac.to_string()), ("mtu", "1500".to_string())];
    let mut back = Vec::from([
        ("handle", number.to_string()),
        ("mac", mac.to_string()),
        ("bridge", vif.bridge.clone().unwrap_or_else(|| "xenbr0".to_string())),
        ("type", "vif".to_string()),
    ]);
    back.extend(vif.rate.map(|it| ("rate", format!("{},{}", it.bytes, it.interval))));
    device("vif", id, number, &front, &back)
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec::Vec;

    use hypercall_abi::types::{DomId, Mfn, Port};

    use super::{CONTROL, Described, Node, Rights, of_disk, of_domain, of_vif};
    use crate::config::{Config, Disk, Mac, Vif};

    fn find<'a>(nodes: &'a [Node], path: &str) -> &'a Node {
        nodes.iter().find(|node| node.path == path).unwrap_or_else(|| panic!("no {path}"))
    }

    #[test]
    fn a_domain_finds_what_kernels_look_for_and_may_write_some_of_it() {
        let config = Config { name: "d".to_string(), memory: 64, vcpus: 2, ..Config::default() };
        let rings = ((Mfn(5), Port(1)), (Mfn(6), Port(2)));
        let described = Described {
            id: DomId(3),
            uuid: "u",
            config: &config,
            store: rings.0,
            console: rings.1,
        };
        let nodes = of_domain(&described);
        let value = |path: &str| &*find(&nodes, path).value;
        assert_eq!(value("/local/domain/3/cpu/1/availability"), "online");
        assert_eq!(value("/local/domain/3/memory/static-max"), "65536");
        assert_eq!(value("/local/domain/3/console/ring-ref"), "6");
        assert_eq!(value("/local/domain/3/store/port"), "1");
        let rights = |path: &str| find(&nodes, path).rights;
        let shared = Rights { owner: CONTROL, reader: Some(DomId(3)) };
        assert_eq!(rights("/local/domain/3"), shared);
        assert_eq!(rights("/local/domain/3/memory/target"), shared);
        let own = Rights { owner: DomId(3), reader: None };
        assert_eq!(rights("/local/domain/3/control/shutdown"), own);
        assert_eq!(rights("/local/domain/3/data"), own);
        assert!(nodes.iter().filter(|node| node.path.contains("/cpu/")).count() == 2);
    }

    #[test]
    fn the_halves_of_a_device_name_each_other() {
        let disk = Disk { target: "/dev/vda".into(), vdev: "xvdb".into(), readonly: true };
        let nodes = of_disk(DomId(3), &disk);
        let (front, back) =
            ("/local/domain/3/device/vbd/51728", "/local/domain/0/backend/vbd/3/51728");
        assert_eq!(find(&nodes, &(front.to_string() + "/backend")).value, back);
        assert_eq!(find(&nodes, &(back.to_string() + "/frontend")).value, front);
        assert_eq!(find(&nodes, &(back.to_string() + "/mode")).value, "r");
        let front_rights = find(&nodes, &(front.to_string() + "/state")).rights;
        assert_eq!(front_rights, Rights { owner: DomId(3), reader: Some(CONTROL) });
        let back_rights = find(&nodes, &(back.to_string() + "/state")).rights;
        assert_eq!(back_rights, Rights { owner: CONTROL, reader: Some(DomId(3)) });
        let vif = of_vif(DomId(3), 0, &Vif::default(), Mac([0, 0x16, 0x3e, 0, 0, 2]));
        let states: Vec<_> = vif.iter().filter(|node| node.path.ends_with("/state")).collect();
        assert_eq!(states.len(), 2);
        assert_eq!(find(&vif, "/local/domain/3/device/vif/0/mac").value, "00:16:3e:00:00:02");
    }
}
