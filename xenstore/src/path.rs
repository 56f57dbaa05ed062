//! Names of nodes: what is one, and how two of them stand to each other.

use alloc::format;
use alloc::string::String;

use hypercall_abi::xenstore::ABSOLUTE_PATH_MAX;

/// Where all domains' own places are.
const HOMES: &str = "/local/domain/";

/// A domain's own place, at which its relative paths begin.
#[must_use]
pub fn home(domid: u16) -> String {
    format!("{HOMES}{domid}")
}

/// The path from the root: a relative one begins at the domain's own place. A name with `@` in front
/// stands for an event, not for a node, and stays.
pub(crate) fn absolute(domid: u16, path: &str) -> String {
    match path.as_bytes().first() {
        Some(b'/' | b'@') => path.into(),
        _ => format!("{HOMES}{domid}/{path}"),
    }
}

/// Whether this is the name of a node.
pub(crate) fn valid(path: &str) -> bool {
    let legal = |letter: u8| letter.is_ascii_alphanumeric() || b"-/_@".contains(&letter);
    path.starts_with('/')
        && (path == "/" || !path.ends_with('/'))
        && !path.contains("//")
        && path.len() <= ABSOLUTE_PATH_MAX as usize
        && path.bytes().all(legal)
}

/// The part of a path that the length quota is about: what is below a domain's own place.
pub(crate) fn counted(path: &str) -> &str {
    let below = path.strip_prefix(HOMES).and_then(|rest| rest.split_once('/'));
    below.map_or(path, |(_, own)| own)
}

/// The node above; the root is above itself.
pub(crate) fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(end) => &path[..end],
    }
}

/// A node's name within the one above.
pub(crate) fn leaf(path: &str) -> &str {
    path.rfind('/').map_or(path, |slash| &path[slash + 1..])
}

/// A child's path.
pub(crate) fn join(above: &str, leaf: &str) -> String {
    if above == "/" { format!("/{leaf}") } else { format!("{above}/{leaf}") }
}

/// Whether a path is the other one or below it.
pub(crate) fn within(path: &str, above: &str) -> bool {
    above == "/"
        || path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::{absolute, counted, leaf, parent, valid, within};

    #[test]
    fn what_is_a_path() {
        for good in ["/", "/a", "/local/domain/0/a-b_c@D9"] {
            assert!(valid(good), "{good}");
        }
        for bad in ["", "a", "/a/", "//", "/a//b", "/a b", "/a.b", "/a+b", "/\u{e4}"] {
            assert!(!valid(bad), "{bad}");
        }
        let longest = alloc::format!("/{}", "x".repeat(3071));
        assert!(valid(&longest) && !valid(&alloc::format!("{longest}x")));
    }

    #[test]
    fn how_paths_stand_to_each_other() {
        assert_eq!((parent("/a/b"), parent("/a"), parent("/")), ("/a", "/", "/"));
        assert_eq!((leaf("/a/b"), leaf("/a")), ("b", "a"));
        assert!(within("/a", "/") && within("/a", "/a") && within("/a/b", "/a"));
        assert!(!within("/ab", "/a") && !within("/a", "/a/b"));
        assert_eq!(absolute(7, "x/y"), "/local/domain/7/x/y");
        assert_eq!((absolute(7, "/x"), absolute(7, "@y")), ("/x".into(), "@y".into()));
        assert!(!valid(&absolute(7, "")), "an empty path is none");
        assert_eq!((counted("/local/domain/7/a/b"), counted("/vm/a")), ("a/b", "/vm/a"));
    }
}
