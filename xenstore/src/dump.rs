//! The contents of a store as bytes, for a server that takes over from another.
//!
//! A row for each node, after the nodes above it: the lengths of its path, its permissions' text
//! and its value, each as 32 bits; then the three. What stands for clients is not in it: they
//! connect, watch and introduce again.

use alloc::string::String;
use alloc::vec::Vec;

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::Error;
use crate::path;
use crate::perms::Perms;
use crate::quota::Quotas;
use crate::store::Store;
use crate::tree::Node;

const MAGIC: &[u8] = b"xenstore 1\n";

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Row {
    path: U32,
    perms: U32,
    value: U32,
}

impl Store {
    /// All nodes with their values and permissions.
    #[must_use]
    pub fn dump(&self) -> Vec<u8> {
        let mut dump = MAGIC.to_vec();
        for (path, node) in self.tree.downwards() {
            let perms: Vec<String> = node.perms.texts().collect();
            let perms = perms.join(",");
            let parts = [path.as_bytes(), perms.as_bytes(), &node.value];
            // No part is near the limit of the type: requests are far smaller.
            let [path, perms, value] =
                parts.map(|part| U32::new(u32::try_from(part.len()).unwrap_or(0)));
            dump.extend_from_slice(Row { path, perms, value }.as_bytes());
            parts.iter().for_each(|part| dump.extend_from_slice(part));
        }
        dump
    }

    /// A store with the contents of another.
    ///
    /// # Errors
    ///
    /// [`Error::Einval`]: this is no dump, or a part of one.
    pub fn load(dump: &[u8], quotas: Quotas) -> Result<Self, Error> {
        let mut store = Self::new(quotas);
        let mut rest = dump.strip_prefix(MAGIC).ok_or(Error::Einval)?;
        while !rest.is_empty() {
            let (row, after) = Row::read_from_prefix(rest).map_err(|_| Error::Einval)?;
            rest = after;
            let path = text(part(&mut rest, row.path)?)?;
            let perms = Perms::parse(text(part(&mut rest, row.perms)?)?.split(','))?;
            let value = part(&mut rest, row.value)?.to_vec();
            store.load_node(path, Node { value, ..Node::empty(perms) })?;
        }
        Ok(store)
    }

    fn load_node(&mut self, path: &str, node: Node) -> Result<(), Error> {
        if !path::valid(path) || (path != "/" && self.tree.get(path).is_some()) {
            return Err(Error::Einval);
        }
        if path != "/" {
            let above = path::parent(path);
            let mut parent = (**self.tree.get(above).ok_or(Error::Einval)?).clone();
            parent.children.push(path::leaf(path).into());
            self.tree.put(above, parent);
        }
        self.tree.put(path, node);
        Ok(())
    }
}

fn part<'a>(rest: &mut &'a [u8], length: U32) -> Result<&'a [u8], Error> {
    let (part, after) = rest.split_at_checked(length.get() as usize).ok_or(Error::Einval)?;
    *rest = after;
    Ok(part)
}

fn text(bytes: &[u8]) -> Result<&str, Error> {
    core::str::from_utf8(bytes).map_err(|_| Error::Einval)
}
