//! Trying faults, one after the other.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::options::Options;
use crate::record::{Entry, Outcome, Record, is_random};
use crate::suite::{self, Noticed, Stage, Suite};
use crate::tree::Tree;
use crate::{Mutation, Places, draw, faults, report};

/// Tries all that are asked for and have no result: by the host's tests, and at the same time, each in a
/// copy of the workspace of its own, by guests what these did not notice.
///
/// # Errors
///
/// As of [`crate::command`].
pub(crate) fn all(places: &Places, options: &Options, record: &mut Record) -> Result<()> {
    let record = &Mutex::new(record);
    let (to, open) = mpsc::channel::<Mutation>();
    thread::scope(|scope| {
        let guests = scope.spawn(move || {
            let mut runner = None;
            for mutation in open {
                let made = match runner.take() {
                    Some(made) => made,
                    None => Runner::new(places, options, Stage::Machine, record)?,
                };
                runner.insert(made).attempt(&mutation)?;
            }
            anyhow::Ok(())
        });
        let by_host = Runner::new(places, options, Stage::Host, record).and_then(|runner| {
            by_host(runner, options, |one| !options.host && to.send(one).is_ok())
        });
        if let Err(error) = &by_host {
            // Said now: guests may have work for hours.
            eprintln!("mutate: {error:#}");
        }
        drop(to);
        let by_guests = match guests.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        by_host.and(by_guests)
    })
}

/// Tries all by the host's tests, and passes on what these do not notice.
fn by_host(
    mut runner: Runner<'_, '_>,
    options: &Options,
    mut pass_on: impl FnMut(Mutation) -> bool,
) -> Result<()> {
    let faults = faults::read(&runner.places.root)?.into_iter().map(|fault| fault.mutation);
    if let Some(id) = &options.only {
        let drawn = runner.known(id).map(|entry| entry.mutation).filter(|_| is_random(id));
        let one = drawn.or_else(|| faults.into_iter().find(|fault| fault.id == *id));
        let one = one.with_context(|| format!("there is no fault `{id}`"))?;
        if runner.attempt(&one)? == Outcome::Open {
            pass_on(one);
        }
        return Ok(());
    }
    for one in faults.filter(|_| options.lessons) {
        if runner.once(&one)? == Outcome::Open {
            pass_on(one);
        }
    }
    if !options.random {
        return Ok(());
    }
    let drawn_by = runner.record().seed;
    if drawn_by != options.seed {
        runner.record().draw_anew(options.seed);
    }
    let mut all = draw::all(runner.places, runner.tree.root(), options.seed)?.into_iter();
    let mut compiled = 0;
    while compiled < options.count {
        let next = all.next().context("there are not so many mutations")?;
        // What was drawn once stays, also when the sources have changed since.
        let next = runner.known(&next.id).map_or(next, |known| known.mutation);
        let outcome = runner.once(&next)?;
        compiled += usize::from(outcome != Outcome::NotCompiled);
        if outcome == Outcome::Open {
            pass_on(next);
        }
    }
    Ok(())
}

/// Tries faults by the suites of one stage.
struct Runner<'a, 'r> {
    places: &'a Places,
    stage: Stage,
    tree: Tree,
    /// Suites are taken to pass without a fault.
    trust: bool,
    /// Suites that have been seen to pass without a fault.
    sound: Vec<&'static str>,
    record: &'a Mutex<&'r mut Record>,
    /// Why nothing can notice some.
    reasons: BTreeMap<String, String>,
}

impl<'a, 'r> Runner<'a, 'r> {
    fn new(
        places: &'a Places,
        options: &Options,
        stage: Stage,
        record: &'a Mutex<&'r mut Record>,
    ) -> Result<Self> {
        let folder = if stage == Stage::Host { "tree" } else { "guests" };
        let tree = Tree::renew(&places.root, places.scratch.join(folder))?;
        let reasons = report::reasons(&places.root)?;
        Ok(Self { places, stage, tree, trust: options.trust, sound: Vec::new(), record, reasons })
    }

    fn record(&self) -> MutexGuard<'a, &'r mut Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, id: &str) -> Option<Entry> {
        self.record().get(id).cloned()
    }

    /// Tries a fault, unless it is known what comes of it.
    fn once(&mut self, mutation: &Mutation) -> Result<Outcome> {
        match self.known(&mutation.id) {
            Some(known)
                if known.outcome == Outcome::Open && self.reasons.contains_key(&mutation.id) =>
            {
                self.record().keep(mutation, Outcome::Survived)?;
                Ok(Outcome::Survived)
            }
            Some(known) => Ok(known.outcome),
            None => self.attempt(mutation),
        }
    }

    /// Tries a fault, and keeps what comes of it.
    fn attempt(&mut self, mutation: &Mutation) -> Result<Outcome> {
        let outcome = self.suites(mutation)?;
        tell(mutation, &outcome);
        self.record().keep(mutation, outcome.clone())?;
        Ok(outcome)
    }

    fn suites(&mut self, mutation: &Mutation) -> Result<Outcome> {
        let stage = self.stage;
        for suite in suite::of(&mutation.file).filter(|suite| suite.stage == stage) {
            self.prove_sound(suite, &mutation.file)?;
            let mutated = match self.tree.mutate(mutation) {
                Ok(mutated) => mutated,
                Err(error) if is_random(&mutation.id) => {
                    eprintln!("mutate: {}: left as it was: {error:#}", mutation.id);
                    return Ok(Outcome::Open);
                }
                Err(error) => return Err(error),
            };
            let attempt =
                || self.tree.work(|tree| suite.run(&self.places.cargo, tree, &mutation.file));
            let mut noticed = attempt()?;
            if stage == Stage::Machine && matches!(noticed, Noticed::By(_)) {
                // What a busy host did to a guest in QEMU does not come twice.
                noticed = attempt()?;
            }
            drop(mutated);
            match noticed {
                Noticed::No => {}
                Noticed::By(what) => return Ok(Outcome::Caught(suite.name.into(), what)),
                Noticed::NotCompiled(why) => {
                    eprintln!("mutate: {}: {why}", mutation.id);
                    return Ok(Outcome::NotCompiled);
                }
            }
        }
        // What can't be noticed need not be tried by guests.
        let explained = self.reasons.contains_key(&mutation.id);
        Ok(if stage == Stage::Host && !explained { Outcome::Open } else { Outcome::Survived })
    }

    /// A suite that fails anyway would notice everything.
    fn prove_sound(&mut self, suite: &'static Suite, file: &str) -> Result<()> {
        if !self.trust && !self.sound.contains(&suite.name) {
            eprintln!("mutate: {} without a fault", suite.name);
            let noticed = self.tree.work(|tree| suite.run(&self.places.cargo, tree, file))?;
            if noticed != Noticed::No {
                bail!("{} fails without a fault: {noticed:?}", suite.name);
            }
            self.sound.push(suite.name);
        }
        Ok(())
    }
}

fn tell(mutation: &Mutation, outcome: &Outcome) {
    let Mutation { id, what, .. } = mutation;
    match outcome {
        Outcome::Caught(suite, by) => println!("{id:5} caught    {what} [{suite}: {by}]"),
        Outcome::NotCompiled => println!("{id:5} not compiled  {what}"),
        Outcome::Open => println!("{id:5} open      {what}"),
        Outcome::Survived => println!("{id:5} SURVIVED  {what}"),
    }
}
