//! Trying faults, one after the other.

use anyhow::{Context, Result, bail};

use crate::options::Options;
use crate::record::{Outcome, Record, is_random};
use crate::suite::{self, Noticed, Stage, Suite};
use crate::tree::Tree;
use crate::{Mutation, Places, draw, faults};

/// Tries all that are asked for and have no result: all of them by the host's tests, then by guests what
/// these did not notice.
///
/// # Errors
///
/// As of [`crate::command`].
pub(crate) fn all(places: &Places, options: &Options, record: &mut Record) -> Result<()> {
    let tree = Tree::renew(&places.root, places.scratch.join("tree"))?;
    let mut runner = Runner { places, tree, sound: Vec::new() };
    let faults = faults::read(&places.root)?.into_iter().map(|fault| fault.mutation);
    if let Some(id) = &options.only {
        let drawn = record.get(id).map(|entry| entry.mutation.clone()).filter(|_| is_random(id));
        let one = drawn.or_else(|| faults.into_iter().find(|fault| fault.id == *id));
        let one = one.with_context(|| format!("there is no fault `{id}`"))?;
        runner.by_host(&one, record)?;
        return if options.host { Ok(()) } else { runner.by_guests(&one, record) };
    }
    let mut chosen: Vec<_> = if options.lessons { faults.collect() } else { Vec::new() };
    for one in &chosen {
        if record.get(&one.id).is_none() {
            runner.by_host(one, record)?;
        }
    }
    if options.random {
        chosen.extend(runner.random(options, record)?);
    }
    for one in chosen.iter().filter(|_| !options.host) {
        if record.get(&one.id).is_some_and(|entry| entry.outcome == Outcome::Open) {
            runner.by_guests(one, record)?;
        }
    }
    Ok(())
}

struct Runner<'a> {
    places: &'a Places,
    tree: Tree,
    /// Suites that have been seen to pass without a fault.
    sound: Vec<&'static str>,
}

impl Runner<'_> {
    /// Draws by chance until there are as many as asked for that compile, and tries each by the host's
    /// tests.
    fn random(&mut self, options: &Options, record: &mut Record) -> Result<Vec<Mutation>> {
        if record.seed != options.seed {
            record.draw_anew(options.seed);
        }
        let mut all = draw::all(self.places, self.tree.root(), options.seed)?.into_iter();
        let mut chosen = Vec::new();
        while chosen.len() < options.count {
            let next = all.next().context("there are not so many mutations")?;
            // What was drawn once stays, also when the sources have changed since.
            let known = record.get(&next.id).map(|entry| entry.mutation.clone());
            let next = match known {
                Some(known) => known,
                None => {
                    self.by_host(&next, record)?;
                    next
                }
            };
            if record.get(&next.id).is_some_and(|it| it.outcome != Outcome::NotCompiled) {
                chosen.push(next);
            }
        }
        Ok(chosen)
    }

    fn by_host(&mut self, mutation: &Mutation, record: &mut Record) -> Result<()> {
        let outcome = self.by(mutation, Stage::Host)?;
        tell(mutation, &outcome);
        record.keep(mutation, outcome)
    }

    fn by_guests(&mut self, mutation: &Mutation, record: &mut Record) -> Result<()> {
        if record.get(&mutation.id).is_some_and(|entry| entry.outcome != Outcome::Open) {
            return Ok(());
        }
        let outcome = self.by(mutation, Stage::Machine)?;
        tell(mutation, &outcome);
        record.keep(mutation, outcome)
    }

    /// What the suites of a stage make of a fault.
    fn by(&mut self, mutation: &Mutation, stage: Stage) -> Result<Outcome> {
        for suite in suite::of(&mutation.file).filter(|suite| suite.stage == stage) {
            self.prove_sound(suite)?;
            let mutated = self.tree.mutate(mutation)?;
            let noticed = suite.run(&self.places.cargo, self.tree.root())?;
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
        Ok(if stage == Stage::Host { Outcome::Open } else { Outcome::Survived })
    }

    /// A suite that fails anyway would notice everything.
    fn prove_sound(&mut self, suite: &'static Suite) -> Result<()> {
        if !self.sound.contains(&suite.name) {
            eprintln!("mutate: {} without a fault", suite.name);
            let noticed = suite.run(&self.places.cargo, self.tree.root())?;
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
