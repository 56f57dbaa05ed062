//! The verbs, as xl's: what each takes and does; words of a line; completion.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// What the words behind a verb name, for completion.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Names {
    /// Nothing that could be completed.
    Nothing,
    /// Domains.
    Domains,
    /// Configurations.
    Configurations,
    /// Verbs.
    Verbs,
}

/// A verb.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Verb {
    /// What it is called.
    pub name: &'static str,
    /// What it takes, as in a usage line.
    pub takes: &'static str,
    /// What it does.
    pub does: &'static str,
    /// How many words at least, and at most.
    pub words: (usize, usize),
    /// What they name.
    pub names: Names,
}

const fn verb(
    name: &'static str,
    takes: &'static str,
    does: &'static str,
    words: (usize, usize),
    names: Names,
) -> Verb {
    Verb { name, takes, does, words, names }
}

/// As many words as one likes.
const MANY: usize = usize::MAX;

/// All verbs. A domain is named by its name or its number.
pub const VERBS: &[Verb] = &[
    verb("list", "[DOMAIN ...]", "domains, and what they are doing", (0, MANY), Names::Domains),
    verb("info", "", "the machine and the hypervisor", (0, 0), Names::Nothing),
    verb(
        "create",
        "CONFIGURATION [KEY=VALUE ...]",
        "makes a domain of a configuration (a file, or the name in it), with changes",
        (1, MANY),
        Names::Configurations,
    ),
    verb("destroy", "DOMAIN", "ends a domain at once", (1, 1), Names::Domains),
    verb("shutdown", "DOMAIN", "asks a domain to power itself off", (1, 1), Names::Domains),
    verb("reboot", "DOMAIN", "asks a domain to reboot", (1, 1), Names::Domains),
    verb("pause", "DOMAIN", "stops a domain's CPUs", (1, 1), Names::Domains),
    verb("unpause", "DOMAIN", "lets them run again", (1, 1), Names::Domains),
    verb("console", "DOMAIN", "attaches to a console; ctrl-] leaves", (1, 1), Names::Domains),
    verb(
        "log",
        "DOMAIN [FROM]",
        "what a console said last, from a byte on",
        (1, 2),
        Names::Domains,
    ),
    verb(
        "dump-core",
        "DOMAIN [PARTITION]",
        "writes memory and registers for gdb; from the host to a FILE",
        (1, 2),
        Names::Domains,
    ),
    verb("input", "DOMAIN TEXT", "types text at a console", (2, 2), Names::Domains),
    verb(
        "audit",
        "",
        "what this program has in use, and what the hypervisor finds wrong",
        (0, 0),
        Names::Nothing,
    ),
    verb("dmesg", "", "the hypervisor's log", (0, 0), Names::Nothing),
    verb(
        "top",
        "",
        "CPU time of each domain, and its share since the last top",
        (0, 0),
        Names::Nothing,
    ),
    verb("vcpu-list", "[DOMAIN ...]", "virtual CPUs", (0, MANY), Names::Domains),
    verb(
        "sched",
        "[DOMAIN [weight=N] [cap=N]]",
        "shows or sets the share of the CPUs",
        (0, 3),
        Names::Domains,
    ),
    verb("block-list", "DOMAIN", "disks of a domain", (1, 1), Names::Domains),
    verb("network-list", "DOMAIN", "network interfaces of a domain", (1, 1), Names::Domains),
    verb("uptime", "[DOMAIN ...]", "how long domains have been running", (0, MANY), Names::Domains),
    verb("store", "[PATH]", "the store's nodes", (0, 1), Names::Nothing),
    verb("help", "[VERB]", "this list, or what a verb takes", (0, 1), Names::Verbs),
    verb("poweroff", "", "shuts all domains down, then the machine", (0, 0), Names::Nothing),
];

/// Finds a verb and checks how many words it gets.
///
/// # Errors
/// What is wrong, as a sentence.
pub fn find(name: &str, words: usize) -> Result<&'static Verb, String> {
    let verb = VERBS
        .iter()
        .find(|verb| verb.name == name)
        .ok_or_else(|| format!("there is no verb `{name}`: `help` lists them"))?;
    if words < verb.words.0 || words > verb.words.1 {
        return Err(format!("usage: {}", usage(verb)));
    }
    Ok(verb)
}

fn usage(verb: &Verb) -> String {
    format!("{} {}", verb.name, verb.takes).trim_end().to_string()
}

/// The text of `help`.
///
/// # Errors
/// If there is no such verb.
pub fn help(name: Option<&str>) -> Result<String, String> {
    let line = |verb: &Verb| format!("{:<34} {}\n", usage(verb), verb.does);
    match name {
        None => Ok(VERBS.iter().map(line).collect()),
        Some(name) => VERBS
            .iter()
            .find(|verb| verb.name == name)
            .map(line)
            .ok_or_else(|| format!("there is no verb `{name}`: `help` lists them")),
    }
}

/// Cuts a line into words; quotes of either kind keep blanks together.
///
/// # Errors
/// If a quote is not closed.
pub fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in line.chars() {
        match quote {
            Some(open) if letter == open => quote = None,
            None if letter == '"' || letter == '\'' => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            None if letter.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    words.extend(word);
    Ok(words)
}

/// What the last word of a line can become: the candidates that begin like it, sorted.
pub fn complete(line: &str, names: impl Fn(Names) -> Vec<String>) -> Vec<String> {
    let begun: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
    let (last, before) = match begun.split_last() {
        Some((last, before)) if !line.ends_with(' ') => (*last, before),
        _ => ("", &*begun),
    };
    let all = match before {
        [] => names(Names::Verbs),
        [name, ..] => match VERBS.iter().find(|verb| verb.name == *name) {
            Some(verb) if before.len() <= verb.words.1 => names(verb.names),
            _ => Vec::new(),
        },
    };
    let mut found: Vec<String> = all.into_iter().filter(|it| it.starts_with(last)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// The names of all verbs.
#[must_use]
pub fn names() -> Vec<String> {
    VERBS.iter().map(|verb| verb.name.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;

    use super::{Names, complete, find, help, names, words};

    #[test]
    fn words_are_cut_at_blanks_but_not_within_quotes() {
        assert_eq!(
            words(" create  web \textra='a b' x\"\"y ''").unwrap(),
            ["create", "web", "extra=a b", "xy", ""]
        );
        assert!(words("  ").unwrap().is_empty());
        assert_eq!(words("say 'x").unwrap_err(), "a quote is not closed");
    }

    #[test]
    fn a_verb_says_what_it_takes() {
        assert_eq!(find("list", 0).unwrap().name, "list");
        assert_eq!(find("destroy", 0).unwrap_err(), "usage: destroy DOMAIN");
        assert_eq!(find("info", 1).unwrap_err(), "usage: info");
        assert_eq!(find("lisp", 0).unwrap_err(), "there is no verb `lisp`: `help` lists them");
        assert!(help(Some("pause")).unwrap().starts_with("pause DOMAIN"));
        assert_eq!(help(None).unwrap().lines().count(), names().len());
    }

    #[test]
    fn what_can_follow_is_completed() {
        let known = |what: Names| -> Vec<String> {
            match what {
                Names::Verbs => names(),
                Names::Domains => ["web", "db", "web2"].map(|it| it.to_string()).into(),
                _ => Vec::new(),
            }
        };
        assert_eq!(complete("p", known), ["pause", "poweroff"]);
        assert_eq!(complete("destroy w", known), ["web", "web2"]);
        assert_eq!(complete("destroy ", known), ["db", "web", "web2"]);
        assert!(complete("destroy web w", known).is_empty(), "it takes one");
        assert_eq!(complete("list db w", known), ["web", "web2"]);
        assert!(complete("lisp w", known).is_empty());
    }
}
