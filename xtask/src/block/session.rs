//! Domains that come and go while something else is looked at, and what is left of them.

use std::time::Instant;

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use crate::ctl::Channel;

/// Rule over a machine until a time is over.
pub(super) struct Session<'a> {
    channel: &'a mut Channel,
    deadline: Instant,
}

impl<'a> Session<'a> {
    pub(super) fn new(channel: &'a mut Channel, deadline: Instant) -> Self {
        Self { channel, deadline }
    }

    /// Says a verb. The answer, or what the machine says is wrong.
    ///
    /// # Errors
    ///
    /// When the machine does not answer, or the time is over.
    pub(super) fn ask(&mut self, words: &str) -> Result<Result<Value, String>> {
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
    pub(super) fn order(&mut self, words: &str) -> Result<Value> {
        match self.ask(words)? {
            Ok(answer) => Ok(answer),
            Err(error) => bail!("{words}: {error}"),
        }
    }

    /// Says a verb that is to be refused, with an error that begins so.
    ///
    /// # Errors
    ///
    /// When it is done, or the error is another.
    pub(super) fn refused(&mut self, words: &str, error: &str) -> Result<()> {
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
    pub(super) fn lives(&mut self, name: &str) -> Result<bool> {
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
    pub(super) fn hears(&mut self, name: &str, text: &str) -> Result<()> {
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
    pub(super) fn audit(&mut self) -> Result<Value> {
        let counts = self.order("audit")?;
        ensure!(counts["wrong"].as_u64().unwrap_or(0) == 0, "the hypervisor's audit: {counts}");
        Ok(counts)
    }

    /// Waits until what is in use is what it was.
    ///
    /// # Errors
    ///
    /// When it never is.
    pub(super) fn settle(&mut self, before: &Value) -> Result<()> {
        loop {
            let after = self.audit()?;
            if after == *before {
                return Ok(());
            }
            if Instant::now() > self.deadline {
                bail!("something is left: before there was {before}, afterwards {after}");
            }
        }
    }
}
