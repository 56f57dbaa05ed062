//! Requests as they come on the wire, and the answers to them.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write as _;

use hypercall_abi::types::DomId;
use hypercall_abi::xenstore as wire;
use hypercall_abi::xenstore::{Header, PAYLOAD_MAX};

use crate::client::{Client, Scope};
use crate::error::Error;
use crate::path;
use crate::perms::Perms;
use crate::store::Store;

/// The answer to most requests that only do something.
const OK: &[u8] = b"OK\0";
/// What the daemon itself can be told to do.
const COMMANDS: &[u8] = b"check\0help\0quota\0";

type Answer = Result<Vec<u8>, Error>;

impl Store {
    /// Does what a request asks for, and queues the answer.
    pub(crate) fn request(&mut self, client: Client, header: Header, body: &[u8]) {
        let mut watch = None;
        let answer = match self.check(client, header) {
            Ok(()) if header.kind == wire::WATCH => self.wire_watch(client, body).map(|place| {
                watch = Some(place);
                OK.into()
            }),
            Ok(()) => self.run(client.within(header.tx_id), header.kind, body),
            Err(error) => Err(error),
        };
        let answer = answer.and_then(|body| {
            if body.len() > PAYLOAD_MAX as usize { Err(Error::E2big) } else { Ok(body) }
        });
        let (kind, body) = match answer {
            Ok(body) => (header.kind, body),
            Err(error) => (wire::ERROR, terminated(error.name())),
        };
        // Never above the limit of a message, which is far below that of the type.
        let len = u32::try_from(body.len()).unwrap_or(0);
        if let Ok(state) = self.state(client) {
            state.push_answer(Header { kind, len, ..header }, body);
        }
        // The client knows of its watch before it hears the first event.
        if let Some(place) = watch {
            self.tell_watch(client, place);
        }
    }

    /// What is refused whatever the request says: kinds that are none, those for the privileged, and
    /// transactions that there are not. Watches are the same within each transaction.
    fn check(&mut self, client: Client, header: Header) -> Result<(), Error> {
        match header.kind {
            wire::WATCH_EVENT | wire::ERROR => return Err(Error::Enosys),
            wire::CONTROL
            | wire::INTRODUCE
            | wire::RELEASE
            | wire::IS_DOMAIN_INTRODUCED
            | wire::RESUME
            | wire::SET_TARGET => self.require_privilege(client)?,
            kind if !wire::KINDS.iter().any(|(_, number)| *number == kind) => {
                return Err(Error::Enosys);
            }
            _ => {}
        }
        let is_for_all = matches!(header.kind, wire::WATCH | wire::UNWATCH);
        let transactions = &self.state(client)?.transactions;
        if header.tx_id != 0 && !is_for_all && !transactions.contains_key(&header.tx_id) {
            return Err(Error::Enoent);
        }
        Ok(())
    }

    /// One line for each kind; those that [`Store::check`] refuses do not come here.
    fn run(&mut self, scope: Scope, kind: u32, body: &[u8]) -> Answer {
        let client = scope.client;
        match kind {
            wire::DIRECTORY => Ok(joined(self.directory(scope, only(body)?)?)),
            wire::DIRECTORY_PART => self.directory_part(scope, body),
            wire::READ => self.read(scope, only(body)?),
            wire::GET_PERMS => Ok(joined(self.perms(scope, only(body)?)?.texts())),
            wire::SET_PERMS => done(self.wire_set_perms(scope, body)),
            wire::WRITE => {
                let (path, value) = first(body)?;
                done(self.write(scope, path, value))
            }
            wire::MKDIR => done(self.mkdir(scope, only(body)?)),
            wire::RM => done(self.rm(scope, only(body)?)),
            wire::UNWATCH => {
                let [path, token] = exactly(body)?;
                done(self.unwatch(client, text(path)?, token))
            }
            wire::RESET_WATCHES => {
                self.reset(client);
                Ok(OK.into())
            }
            wire::TRANSACTION_START if scope.transaction != 0 => Err(Error::Ebusy),
            wire::TRANSACTION_START => Ok(terminated(&self.start(client)?.transaction.to_string())),
            wire::TRANSACTION_END => match only(body)? {
                "T" => done(self.commit(scope)),
                "F" => done(self.abort(scope)),
                _ => Err(Error::Einval),
            },
            wire::GET_DOMAIN_PATH => Ok(terminated(&path::home(domid(only(body)?)?))),
            wire::IS_DOMAIN_INTRODUCED => {
                let domid = domid(only(body)?)?;
                let is_known = domid == DomId::SELF.0 || self.is_introduced(domid);
                Ok(terminated(if is_known { "T" } else { "F" }))
            }
            wire::INTRODUCE => {
                let [domain, frame, port] = at_least(body)?;
                let frame = number(text(frame)?).cast_unsigned();
                let port = u32::try_from(number(text(port)?)).map_err(|_| Error::Einval)?;
                done(self.introduce(client, domid(text(domain)?)?, frame, port))
            }
            wire::RELEASE => done(self.release(client, domid(only(body)?)?)),
            wire::RESUME => done(self.resume(client, domid(only(body)?)?)),
            wire::SET_TARGET => {
                let [domain, target] = at_least(body)?;
                done(self.set_target(client, domid(text(domain)?)?, domid(text(target)?)?))
            }
            wire::CONTROL => self.control(body),
            _ => Err(Error::Enosys),
        }
    }

    fn wire_watch(&mut self, client: Client, body: &[u8]) -> Result<usize, Error> {
        let [path, token] = exactly(body)?;
        self.add_watch(client, text(path)?, token)
    }

    fn wire_set_perms(&mut self, scope: Scope, body: &[u8]) -> Result<(), Error> {
        let strings = strings(body);
        let (path, rows) = strings.split_first().ok_or(Error::Einval)?;
        let rows: Result<Vec<_>, _> = rows.iter().map(|row| text(row)).collect();
        self.set_perms(scope, text(path)?, &Perms::parse(rows?)?)
    }

    /// The children from a byte of the list on, after the node's generation: who gets the same one
    /// with each piece has got one list. An empty name ends the last piece.
    fn directory_part(&mut self, scope: Scope, body: &[u8]) -> Answer {
        let [path, offset] = exactly(body)?;
        let node = self.readable(scope, text(path)?)?;
        let offset = usize::try_from(number(text(offset)?)).unwrap_or(usize::MAX);
        let list = joined(&node.children);
        let mut answer = terminated(&node.generation.to_string());
        let rest = list.get(offset..).unwrap_or_default();
        let room = PAYLOAD_MAX as usize - answer.len() - 1;
        let fits = if rest.len() <= room {
            rest.len()
        } else {
            rest[..room].iter().rposition(|byte| *byte == 0).map_or(0, |end| end + 1)
        };
        answer.extend_from_slice(&rest[..fits]);
        if fits == rest.len() {
            answer.push(0);
        }
        Ok(answer)
    }

    fn control(&mut self, body: &[u8]) -> Answer {
        match *strings(body).as_slice() {
            [b"help"] => Ok(COMMANDS.into()),
            [b"check"] if self.tree.is_sound() => Ok(OK.into()),
            [b"check"] => Ok(terminated("the tree is damaged")),
            [b"quota"] => Ok(terminated(&alloc::format!("{:#?}\n", self.quotas))),
            [b"quota", domain] => self.usage(domid(text(domain)?)?),
            _ => Err(Error::Einval),
        }
    }

    /// What of its quotas a domain has used.
    fn usage(&mut self, domid: u16) -> Answer {
        if !self.is_introduced(domid) {
            return Err(Error::Enoent);
        }
        let (mut watches, mut transactions, mut answers, mut memory) = (0, 0, 0, 0);
        for state in self.clients.values().filter(|state| state.domid == domid) {
            watches += state.watches.len();
            transactions += state.transactions.len();
            answers += state.answers();
            memory += state.memory();
        }
        let owned = self.tree.owned(domid);
        memory += owned.memory;
        let nodes = owned.nodes;
        let mut table = alloc::format!("Domain {domid}:\n");
        let rows = [("watches", watches), ("transactions", transactions), ("outstanding", answers)];
        // Writing into a string does not fail.
        let _ = writeln!(table, "{:<16}: {nodes:8}", "nodes");
        for (name, count) in rows.into_iter().chain([("memory", memory)]) {
            let _ = writeln!(table, "{name:<16}: {count:8}");
        }
        Ok(terminated(&table))
    }
}

fn done(result: Result<(), Error>) -> Answer {
    result.map(|()| OK.into())
}

fn terminated(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

fn joined(texts: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<u8> {
    texts.into_iter().flat_map(|text| terminated(text.as_ref())).collect()
}

fn text(bytes: &[u8]) -> Result<&str, Error> {
    core::str::from_utf8(bytes).map_err(|_| Error::Einval)
}

/// All strings with an end; what comes after the last end is none.
fn strings(body: &[u8]) -> Vec<&[u8]> {
    let mut parts: Vec<_> = body.split(|byte| *byte == 0).collect();
    parts.pop();
    parts
}

/// The body, if it is one string.
fn only(body: &[u8]) -> Result<&str, Error> {
    match first(body)? {
        (path, []) => Ok(path),
        _ => Err(Error::Einval),
    }
}

/// The first string, and what follows.
fn first(body: &[u8]) -> Result<(&str, &[u8]), Error> {
    let end = body.iter().position(|byte| *byte == 0).ok_or(Error::Einval)?;
    Ok((text(&body[..end])?, &body[end + 1..]))
}

/// Exactly so many strings.
fn exactly<const N: usize>(body: &[u8]) -> Result<[&[u8]; N], Error> {
    strings(body).try_into().map_err(|_| Error::Einval)
}

/// So many strings or more, of which the others do not matter.
fn at_least<const N: usize>(body: &[u8]) -> Result<[&[u8]; N], Error> {
    strings(body).first_chunk().copied().ok_or(Error::Einval)
}

/// A number as the protocol has them: up to the first letter that is no digit; none is 0.
fn number(text: &str) -> i64 {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
    digits.parse::<i64>().map_or(0, |value| sign * value)
}

fn domid(text: &str) -> Result<u16, Error> {
    u16::try_from(number(text)).map_err(|_| Error::Einval)
}
