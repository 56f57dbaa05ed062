//! Random clients, with transactions and watches, against a naive model that decides what every
//! request answers, which events there are, and what the tree is in the end.
//!
//! The model knows when each node was last changed, and when each transaction first looked at it:
//! a transaction conflicts if for one of them the first is later than the second.

use std::collections::BTreeMap;

use proptest::prelude::*;
use xenstore::{Access, Client, Error, Perms, Quotas, Scope, Store};

/// Who takes part, as (domain, relative paths begin at).
const CLIENTS: [u16; 3] = [0, 1, 2];
const PATHS: [&str; 10] = [
    "/",
    "/a",
    "/a/b",
    "/a/b/c",
    "/a/d",
    "/e",
    "x",
    "x/y",
    "/local/domain/1/x",
    "/local/domain/2/x/y",
];
const PERMS: [&[&str]; 6] =
    [&["n0"], &["n1"], &["r1", "b2"], &["b2", "n1"], &["n2", "r1"], &["w0", "r2"]];

#[derive(Clone, Debug)]
enum Op {
    Read(&'static str),
    List(&'static str),
    Perms(&'static str),
    Write(&'static str, u8),
    Mkdir(&'static str),
    Rm(&'static str),
    Set(&'static str, &'static [&'static str]),
    Start,
    Commit,
    Abort,
}

fn ops() -> impl Strategy<Value = Vec<(usize, bool, Op)>> {
    let path = || prop::sample::select(&PATHS[..]);
    let op = prop_oneof![
        2 => path().prop_map(Op::Read),
        1 => path().prop_map(Op::List),
        1 => path().prop_map(Op::Perms),
        4 => (path(), any::<u8>()).prop_map(|(path, value)| Op::Write(path, value)),
        1 => path().prop_map(Op::Mkdir),
        2 => path().prop_map(Op::Rm),
        2 => (path(), prop::sample::select(&PERMS[..])).prop_map(|(path, perms)| Op::Set(path, perms)),
        2 => Just(Op::Start),
        2 => Just(Op::Commit),
        1 => Just(Op::Abort),
    ];
    prop::collection::vec((0..CLIENTS.len(), any::<bool>(), op), 1..120)
}

type Rows = Vec<String>;

#[derive(Clone, Debug, PartialEq)]
struct Node {
    value: Vec<u8>,
    children: Vec<String>,
    perms: Rows,
}

/// What a transaction has: each node as it has it, when it first looked, and whether it changed it.
#[derive(Default)]
struct Tx {
    nodes: BTreeMap<String, (Option<Node>, u64, bool)>,
    /// First looks in their order, with what is to be told.
    order: Vec<String>,
    events: BTreeMap<String, bool>,
}

#[derive(Default)]
struct Model {
    nodes: BTreeMap<String, Node>,
    changed: BTreeMap<String, u64>,
    now: u64,
    txs: [Option<Tx>; 3],
    told: Vec<(usize, String)>,
}

fn up(path: &str) -> String {
    let end = path.rfind('/').unwrap();
    if end == 0 { "/".into() } else { path[..end].into() }
}

fn name(path: &str) -> String {
    path[path.rfind('/').unwrap() + 1..].into()
}

fn below(path: &str, leaf: &str) -> String {
    format!("{}/{leaf}", path.trim_end_matches('/'))
}

/// The letters of what a domain may do.
fn may(perms: &[String], domid: u16) -> &str {
    if domid == 0 || perms[0][1..] == domid.to_string() {
        return "rwo";
    }
    let row = perms[1..].iter().find(|row| row[1..] == domid.to_string()).unwrap_or(&perms[0]);
    match &row[..1] {
        "r" => "r",
        "w" => "w",
        "b" => "rw",
        _ => "",
    }
}

impl Model {
    fn new() -> Self {
        let mut model = Self::default();
        let root = Node { value: vec![], children: vec![], perms: vec!["n0".into()] };
        model.nodes.insert("/".into(), root);
        model
    }

    fn get(&mut self, who: usize, in_tx: bool, path: &str) -> Option<Node> {
        let real = self.nodes.get(path).cloned();
        let now = self.now;
        match self.txs[who].as_mut().filter(|_| in_tx) {
            None => real,
            Some(tx) => {
                if !tx.nodes.contains_key(path) {
                    tx.order.push(path.into());
                }
                tx.nodes.entry(path.into()).or_insert((real, now, false)).0.clone()
            }
        }
    }

    fn set(&mut self, who: usize, in_tx: bool, path: &str, node: Option<Node>) {
        match self.txs[who].as_mut().filter(|_| in_tx) {
            Some(tx) => {
                let entry = tx.nodes.get_mut(path).unwrap();
                (entry.0, entry.2) = (node, true);
            }
            None => self.set_real(path, node),
        }
    }

    fn set_real(&mut self, path: &str, node: Option<Node>) {
        self.now += 1;
        self.changed.insert(path.into(), self.now);
        match node {
            Some(node) => self.nodes.insert(path.into(), node),
            None => self.nodes.remove(path),
        };
    }

    fn readers(&self, path: &str) -> Vec<Rows> {
        let nodes = [path.to_owned(), up(path)];
        nodes.iter().filter_map(|path| Some(self.nodes.get(path)?.perms.clone())).collect()
    }

    fn tell(&mut self, who: usize, in_tx: bool, path: &str, exact: bool, old: &[Rows]) {
        if let Some(tx) = self.txs[who].as_mut().filter(|_| in_tx) {
            tx.events.insert(path.into(), exact);
            return;
        }
        let readers = [self.readers(path), old.to_vec()].concat();
        for (client, domid) in CLIENTS.into_iter().enumerate() {
            if !readers.iter().any(|perms| may(perms, domid).contains('r')) {
                continue;
            }
            for (watch, start, shown) in watches(domid) {
                let is_below =
                    path == watch || watch == "/" || path.starts_with(&format!("{watch}/"));
                if if exact { path == watch } else { is_below } {
                    let path = path[start.min(path.len())..].trim_start_matches(shown);
                    self.told.push((client, path.into()));
                }
            }
        }
    }

    fn find(&mut self, who: usize, in_tx: bool, path: &str, need: char) -> Result<Node, Error> {
        let domid = CLIENTS[who];
        if let Some(node) = self.get(who, in_tx, path) {
            return if may(&node.perms, domid).contains(need) {
                Ok(node)
            } else {
                Err(Error::Eacces)
            };
        }
        let mut above = up(path);
        let node = loop {
            match self.get(who, in_tx, &above) {
                Some(node) => break node,
                None => above = up(&above),
            }
        };
        Err(if may(&node.perms, domid).contains(need) { Error::Enoent } else { Error::Eacces })
    }

    fn make(&mut self, who: usize, in_tx: bool, path: &str, value: Vec<u8>) -> Rows {
        let above = up(path);
        if self.get(who, in_tx, &above).is_none() {
            self.make(who, in_tx, &above, vec![]);
        }
        let mut parent = self.get(who, in_tx, &above).unwrap();
        let mut perms = parent.perms.clone();
        if who != 0 {
            perms[0] = format!("{}{}", &perms[0][..1], CLIENTS[who]);
        }
        parent.children.push(name(path));
        self.set(who, in_tx, &above, Some(parent));
        self.get(who, in_tx, path);
        self.set(who, in_tx, path, Some(Node { value, children: vec![], perms: perms.clone() }));
        perms
    }

    fn remove(&mut self, who: usize, in_tx: bool, path: &str, top: &str) {
        // A transaction may see a name of which the node was gone when it looked there.
        let Some(node) = self.get(who, in_tx, path) else { return };
        for leaf in node.children {
            self.remove(who, in_tx, &below(path, &leaf), top);
        }
        self.tell(who, in_tx, path, path != top, &[]);
        self.set(who, in_tx, path, None);
        let mut parent = self.get(who, in_tx, &up(path)).unwrap();
        parent.children.retain(|leaf| *leaf != name(path));
        self.set(who, in_tx, &up(path), Some(parent));
    }

    fn write(
        &mut self,
        who: usize,
        in_tx: bool,
        path: &str,
        value: Option<u8>,
    ) -> Result<String, Error> {
        match (self.find(who, in_tx, path, 'w'), value) {
            (Ok(_), None) => return Ok(String::new()),
            (Ok(node), Some(value)) => {
                self.set(who, in_tx, path, Some(Node { value: vec![value], ..node }));
            }
            (Err(Error::Enoent), value) => {
                self.make(who, in_tx, path, value.into_iter().collect());
            }
            (Err(error), _) => return Err(error),
        }
        self.tell(who, in_tx, path, false, &[]);
        Ok(String::new())
    }

    fn commit(&mut self, who: usize) -> Result<String, Error> {
        let Some(tx) = self.txs[who].take() else { return Err(Error::Enoent) };
        let is_old = |(path, (_, at, _)): (&String, &(_, u64, bool))| {
            self.changed.get(path).is_some_and(|changed| changed > at)
        };
        if tx.nodes.iter().any(is_old) {
            return Err(Error::Eagain);
        }
        let before: BTreeMap<_, _> =
            tx.events.keys().map(|path| (path.clone(), self.readers(path))).collect();
        for (path, (node, _, is_changed)) in &tx.nodes {
            if *is_changed {
                self.set_real(path, node.clone());
            }
        }
        for path in &tx.order {
            if let Some(exact) = tx.events.get(path) {
                self.tell(who, false, path, *exact, &before[path]);
            }
        }
        Ok(String::new())
    }

    fn run(&mut self, who: usize, in_tx: bool, op: &Op) -> Result<String, Error> {
        let in_tx = in_tx && self.txs[who].is_some();
        let full = |path: &str| {
            if path.starts_with('/') {
                path.into()
            } else {
                below(&xenstore::home(CLIENTS[who]), path)
            }
        };
        match op {
            Op::Read(path) => Ok(format!("{:?}", self.find(who, in_tx, &full(path), 'r')?.value)),
            Op::List(path) => {
                Ok(format!("{:?}", self.find(who, in_tx, &full(path), 'r')?.children))
            }
            Op::Perms(path) => Ok(format!("{:?}", self.find(who, in_tx, &full(path), 'r')?.perms)),
            Op::Write(path, value) => self.write(who, in_tx, &full(path), Some(*value)),
            Op::Mkdir(path) => self.write(who, in_tx, &full(path), None),
            Op::Rm(path) => {
                let path = full(path);
                match self.find(who, in_tx, &path, 'w') {
                    Ok(_) if path == "/" => return Err(Error::Einval),
                    Ok(_) if self.get(who, in_tx, &up(&path)).is_none() => {
                        return Err(Error::Einval);
                    }
                    Ok(_) => self.remove(who, in_tx, &path, &path),
                    Err(Error::Enoent) if self.get(who, in_tx, &up(&path)).is_some() => {}
                    Err(error) => return Err(error),
                }
                Ok(String::new())
            }
            Op::Set(path, perms) => {
                let path = full(path);
                let node = self.find(who, in_tx, &path, 'w')?;
                if !may(&node.perms, CLIENTS[who]).contains('o') {
                    return Err(Error::Eacces);
                }
                if who != 0 && perms[0][1..] != node.perms[0][1..] {
                    return Err(Error::Eperm);
                }
                let perms = perms.iter().map(ToString::to_string).collect();
                let old = [node.perms.clone()];
                self.set(who, in_tx, &path, Some(Node { perms, ..node }));
                self.tell(who, in_tx, &path, false, &old);
                Ok(String::new())
            }
            Op::Start => {
                self.txs[who] = Some(Tx::default());
                Ok(String::new())
            }
            Op::Commit => self.commit(who),
            Op::Abort => self.txs[who].take().map(|_| String::new()).ok_or(Error::Enoent),
        }
    }
}

/// Everyone's watches: the node, how much of a path is not shown, and the slash that follows.
fn watches(domid: u16) -> [(String, usize, &'static str); 3] {
    let home = xenstore::home(domid);
    [("/".into(), 0, ""), ("/a/b".into(), 0, ""), (format!("{home}/x"), home.len(), "/")]
}

/// The store with one open transaction for each client at most.
struct Real {
    store: Store,
    clients: Vec<Client>,
    txs: [Option<Scope>; 3],
}

impl Real {
    fn new() -> Self {
        let mut store = Store::new(Quotas::default());
        let clients: Vec<_> = CLIENTS.iter().map(|domid| store.connect(*domid)).collect();
        for client in &clients {
            for watch in ["/", "/a/b", "x"] {
                store.watch(*client, watch, b"").unwrap();
            }
            store.take_events(*client);
        }
        Self { store, clients, txs: [None; 3] }
    }

    fn run(&mut self, who: usize, in_tx: bool, op: &Op) -> Result<String, Error> {
        let client = self.clients[who];
        let scope = self.txs[who].filter(|_| in_tx).unwrap_or(client.within(0));
        let store = &mut self.store;
        let empty = |()| String::new();
        match op {
            Op::Read(path) => Ok(format!("{:?}", store.read(scope, path)?)),
            Op::List(path) => Ok(format!("{:?}", store.directory(scope, path)?)),
            Op::Perms(path) => {
                Ok(format!("{:?}", store.perms(scope, path)?.texts().collect::<Vec<_>>()))
            }
            Op::Write(path, value) => store.write(scope, path, &[*value]).map(empty),
            Op::Mkdir(path) => store.mkdir(scope, path).map(empty),
            Op::Rm(path) => store.rm(scope, path).map(empty),
            Op::Set(path, perms) => {
                let perms = Perms::parse(perms.iter().copied()).unwrap();
                store.set_perms(scope, path, &perms).map(empty)
            }
            Op::Start => {
                if let Some(old) = self.txs[who].take() {
                    store.abort(old).unwrap();
                }
                self.txs[who] = Some(store.start(client)?);
                Ok(String::new())
            }
            Op::Commit => store.commit(self.txs[who].take().ok_or(Error::Enoent)?).map(empty),
            Op::Abort => store.abort(self.txs[who].take().ok_or(Error::Enoent)?).map(empty),
        }
    }

    /// The events of all clients, in each one's order.
    fn told(&mut self) -> Vec<(usize, String)> {
        let mut told = Vec::new();
        for (place, client) in self.clients.iter().enumerate() {
            told.extend(
                self.store.take_events(*client).into_iter().map(|event| (place, event.path)),
            );
        }
        told
    }
}

/// An event that waits already is not queued again.
fn once(mut events: Vec<(usize, String)>) -> Vec<(usize, String)> {
    events.sort_by_key(|(client, _)| *client);
    let mut seen = Vec::new();
    for event in events {
        if !seen.contains(&event) {
            seen.push(event);
        }
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn the_store_is_what_the_model_says(open in any::<bool>(), ops in ops()) {
        let (mut model, mut real) = (Model::new(), Real::new());
        // Half of the time everyone may begin at the root.
        let first = if open { Op::Set("/", &["b0"]) } else { Op::Write("x/y", 1) };
        for (who, in_tx, op) in [(0, false, first)].into_iter().chain(ops) {
            let before = real.store.dump();
            let expected = model.run(who, in_tx, &op);
            let answer = real.run(who, in_tx, &op);
            prop_assert_eq!(&answer, &expected, "{} {} {:?}", who, in_tx, op);
            prop_assert_eq!(real.told(), once(std::mem::take(&mut model.told)), "{} {:?}", who, op);
            if answer.is_err() {
                prop_assert_eq!(real.store.dump(), before, "{:?}", op);
            }
        }
        for (path, node) in &model.nodes {
            let me = real.clients[0];
            prop_assert_eq!(&real.store.read(me, path).unwrap(), &node.value);
            prop_assert_eq!(&real.store.directory(me, path).unwrap(), &node.children);
            let perms = real.store.perms(me, path).unwrap();
            prop_assert_eq!(perms.texts().collect::<Vec<_>>(), &node.perms[..]);
            prop_assert_eq!(perms.rows()[0].access == Access::NONE, node.perms[0].starts_with('n'));
        }
        let copy = Store::load(&real.store.dump(), Quotas::default()).unwrap();
        prop_assert_eq!(copy.dump(), real.store.dump());
    }
}
