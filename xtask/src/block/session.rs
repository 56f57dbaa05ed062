//! Domains that come and go while something else is looked at, and what is left of them.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use crate::ctl::Channel;

/// How much more of dom0's heap may be in use. Unit: bytes.
const ROOM: u64 = 4096;

/// Rule over a machine until a time is over.
pub(crate) struct Session<'a> {
    channel: &'a mut Channel,
    deadline: Instant,
}

impl<'a> Session<'a> {
    pub(crate) fn new(channel: &'a mut Channel, deadline: Instant) -> Self {
        Self { channel, deadline }
    }

    /// Says a verb. The answer, or what the machine says is wrong.
    ///
    /// # Errors
    ///
    /// When the machine does not answer, or the time is over.
    pub(crate) fn ask(&mut self, words: &str) -> Result<Result<Value, String>> {
        ensure!(Instant::now() < self.deadline, "{words}: the time is over");
        let mut words = words.split(' ').map(str::to_owned);
        let verb = words.next().unwrap_or_default();
        self.channel.ask(&verb, &words.collect::<Vec<_>>(), false)
    }

    /// Says a verb that is to be done.
    ///
    /// # Errors
    ///
    /// When it is not.
    pub(crate) fn order(&mut self, words: &str) -> Result<Value> {
        match self.ask(words)? {
            Ok(answer) => Ok(answer),
            Err(error) => bail!("{words}: {error}"),
        }
    }

    /// Has a domain's core written to a file.
    ///
    /// # Errors
    ///
    /// As of [`Channel::dump`].
    pub(crate) fn dump(&mut self, name: &str, file: &Path) -> Result<Result<Value, String>> {
        self.channel.dump(name, file)
    }

    /// Says a verb that is to be refused, with an error that begins so.
    ///
    /// # Errors
    ///
    /// When it is done, or the error is another.
    pub(crate) fn refused(&mut self, words: &str, error: &str) -> Result<()> {
        match self.ask(words)? {
            Err(said) if said.starts_with(error) => Ok(()),
            other => bail!("{words}: the answer is {other:?}, not the error {error:?}"),
        }
    }

    /// Whether a domain is there.
    ///
    /// # Errors
    ///
    /// When it has crashed, which its configuration is to preserve.
    pub(crate) fn lives(&mut self, name: &str) -> Result<bool> {
        let Ok(list) = self.ask(&format!("list {name}"))? else { return Ok(false) };
        if list[0]["state"].as_str().is_some_and(|state| state.contains('c')) {
            bail!("{name} has crashed; it said:\n{}", self.said(name)?);
        }
        Ok(true)
    }

    /// What a domain has said.
    ///
    /// # Errors
    ///
    /// When it is not there.
    fn said(&mut self, name: &str) -> Result<String> {
        let log = self.order(&format!("log {name}"))?;
        Ok(log["text"].as_str().unwrap_or_default().to_owned())
    }

    /// Waits until a domain has said something.
    ///
    /// # Errors
    ///
    /// When it has gone before.
    pub(crate) fn hears(&mut self, name: &str, text: &str) -> Result<()> {
        while !self.said(name)?.contains(text) {
            ensure!(self.lives(name)?, "{name} has ended and did not say `{text}`");
        }
        Ok(())
    }

    /// What is in use, and what the hypervisor finds wrong with itself, which is to be nothing.
    ///
    /// # Errors
    ///
    /// When it finds something.
    pub(crate) fn audit(&mut self) -> Result<Value> {
        let counts = self.order("audit")?;
        ensure!(counts["wrong"].as_u64().unwrap_or(0) == 0, "the hypervisor's audit: {counts}");
        Ok(counts)
    }

    /// Waits until no more is in use than was: of the machine's pages so many may be missing.
    ///
    /// # Errors
    ///
    /// When it never is.
    pub(crate) fn settle(&mut self, before: &Value, pages: u64) -> Result<()> {
        loop {
            let after = self.audit()?;
            if is_no_more(before, &after, pages) {
                return Ok(());
            }
            if Instant::now() > self.deadline {
                bail!("something is left: before there was {before}, afterwards {after}");
            }
        }
    }
}

/// Whether nothing is left: lists in the heap keep some room for what may come. What was still being given
/// back before may have been since then.
fn is_no_more(before: &Value, after: &Value, pages: u64) -> bool {
    let (Some(before), Some(after)) = (before.as_object(), after.as_object()) else { return false };
    before.iter().all(|(name, was)| {
        let Some(is) = after.get(name) else { return false };
        match (&**name, was.as_u64(), is.as_u64()) {
            ("heap", Some(was), Some(is)) => is <= was + ROOM,
            ("free_pages", Some(was), Some(is)) => is + pages >= was,
            ("free_frames" | "frames_in_rows", was, is) => is >= was,
            (_, was, is) => is <= was,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_shows() {
        let before = serde_json::json!({
            "heap": 9000, "ports": 7, "free_pages": 100, "free_frames": 50,
        });
        let changed = |name: &str, value: u64| {
            let mut after = before.clone();
            after[name] = value.into();
            is_no_more(&before, &after, 2)
        };
        assert!(is_no_more(&before, &before, 0) && !is_no_more(&Value::Null, &before, 0));
        assert!(changed("heap", 9000 + ROOM) && !changed("heap", 9001 + ROOM));
        assert!(changed("free_pages", 98) && !changed("free_pages", 97));
        assert!(changed("free_frames", 51) && !changed("free_frames", 49));
        assert!(changed("ports", 6) && !changed("ports", 8));
    }
}
