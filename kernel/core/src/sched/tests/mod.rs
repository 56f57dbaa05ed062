//! Shares, limits and delays, measured.

pub(super) mod interleavings;
mod simulation;

use std::vec::Vec;
use std::{eprintln, vec};

use simulation::{Life, MS, SECOND, Simulation};

use super::{Reasons, Unit};

/// Random numbers, the same each time; a failure shows the seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % end
    }

    fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// A weight, small ones as often as large ones.
    fn weight(&mut self) -> u32 {
        let octave = self.between(5, 10);
        u32::try_from(self.between(1 << octave, 2 << octave)).unwrap()
    }
}

fn seeds(count: u64, mut test: impl FnMut(&mut Random)) {
    for seed in 1..=count {
        eprintln!("seed {seed}");
        test(&mut Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    }
}

/// What each is due: by weight, but nobody can use more than one CPU.
fn due(weights: &[u32], cpus: u8, time: u64) -> Vec<f64> {
    let mut due = vec![None; weights.len()];
    loop {
        let full = due.iter().flatten().count();
        let left = (f64::from(cpus) - full as f64) * time as f64;
        let open = |due: &[Option<f64>]| -> f64 {
            weights
                .iter()
                .zip(due)
                .filter(|(_, due)| due.is_none())
                .map(|(w, _)| f64::from(*w))
                .sum()
        };
        let sum = open(&due);
        let part = |weight: u32| left * f64::from(weight) / sum;
        let above = |(at, weight): (usize, &u32)| {
            (due[at].is_none() && part(*weight) > time as f64).then_some(at)
        };
        match weights.iter().enumerate().find_map(above) {
            Some(at) => due[at] = Some(time as f64),
            None => {
                return weights.iter().zip(&due).map(|(w, due)| due.unwrap_or(part(*w))).collect();
            }
        }
    }
}

fn assert_near(what: &str, ran: u64, due: f64, percent: f64) {
    let off = (ran as f64 - due) / due * 100.0;
    assert!(off.abs() <= percent, "{what}: ran {ran} ns, due were {due} ns, {off:.2} % off");
}

#[test]
fn weights_are_shares() {
    seeds(25, |random| {
        let cpus = u8::try_from(random.between(1, 2)).unwrap();
        let weights: Vec<u32> = (0..random.between(2, 6)).map(|_| random.weight()).collect();
        let mut machine = Simulation::new(cpus);
        for weight in &weights {
            let share = machine.share(*weight, 0);
            machine.add(&share, Life::Hog);
        }
        machine.run_until(10 * SECOND);
        eprintln!("{cpus} cpus, weights {weights:?}, {} switches", machine.switches);
        for (seen, due) in machine.seen.iter().zip(due(&weights, cpus, 10 * SECOND)) {
            assert_near("weight", seen.ran, due, 5.0);
        }
    });
}

#[test]
fn weights_are_shares_of_those_that_also_wait() {
    // The waiting ones want less than they are due, so they get all of it.
    seeds(12, |random| {
        let mut machine = Simulation::new(1);
        let share = machine.share(256, 0);
        let [a, b] = [(); 2].map(|()| machine.add(&share, Life::Hog));
        let run = random.between(20_000, MS);
        let c = machine.add(&share, Life::Bursts { run, wait: run * 4 });
        machine.run_until(10 * SECOND);
        let c = machine.seen[c].ran;
        assert_near("waiting", c, 2e9, 8.0);
        for hog in [a, b] {
            assert_near("hog", machine.seen[hog].ran, (10 * SECOND - c) as f64 / 2.0, 1.0);
        }
    });
}

#[test]
fn caps_limit_exactly() {
    seeds(25, |random| {
        let cpus = random.between(1, 4);
        let mut machine = Simulation::new(u8::try_from(cpus).unwrap());
        let units = random.between(1, 4);
        let cap = random.between(1, (90 * units.min(cpus)).min(150));
        let limited = machine.share(4096, u32::try_from(cap).unwrap());
        for _ in 0..units {
            machine.add(&limited, Life::Hog);
        }
        let free = machine.share(32, 0);
        for _ in 0..random.below(3) {
            machine.add(&free, Life::Hog);
        }
        machine.run_until(10 * SECOND);
        eprintln!("{units} units on {cpus} cpus, cap {cap} %");
        let ran: u64 =
            machine.seen.iter().take(usize::try_from(units).unwrap()).map(|s| s.ran).sum();
        // Beside others on several CPUs it may get less, as it may by its weight.
        let percent = if cpus > 1 && machine.seen.len() as u64 > units { 5.0 } else { 2.0 };
        assert_near("capped", ran, cap as f64 * 1e8, percent);
        assert!(ran as f64 <= cap as f64 * 1.02e8);
    });
}

#[test]
fn caps_come_and_go() {
    let mut machine = Simulation::new(1);
    let share = machine.share(256, 0);
    let hog = machine.add(&share, Life::Hog);
    machine.run_until(SECOND);
    machine.set_cap(&share, 10);
    machine.reconsider(hog);
    machine.run_until(2 * SECOND);
    // What it used before counts for no more than 64 periods.
    assert!(machine.seen[hog].ran < SECOND + 101 * MS);
    machine.set_cap(&share, 0);
    let before = machine.seen[hog].ran;
    machine.run_until(3 * SECOND);
    assert!(machine.seen[hog].ran - before > 989 * MS);
}

#[test]
fn dodging_gains_nothing() {
    for run in [100_000, 490_000, MS - 1, 2 * MS - 1, 4 * MS - 1, 4 * MS + 1, 10 * MS - 1] {
        for wait in [1, 1000, 10_000] {
            let mut machine = Simulation::new(1);
            let share = machine.share(256, 0);
            let hog = machine.add(&share, Life::Hog);
            let dodger = machine.add(&share, Life::Bursts { run, wait });
            machine.run_until(10 * SECOND);
            let (hog, dodger) = (machine.seen[hog].ran, machine.seen[dodger].ran);
            assert!(dodger <= 5 * SECOND + 10 * MS, "{run} {wait}: it ran {dodger} ns");
            assert!(dodger >= 4700 * MS && hog <= 5300 * MS, "{run} {wait}: only {dodger} ns");
        }
    }
}

#[test]
fn yielding_lets_others_run_and_loses_nothing_among_equals() {
    let mut machine = Simulation::new(1);
    let share = machine.share(256, 0);
    let units = [(); 3].map(|()| machine.add(&share, Life::Yields { run: 10_000 }));
    machine.run_until(SECOND);
    for unit in units {
        assert_near("yielding", machine.seen[unit].ran, 1e9 / 3.0, 1.0);
        assert!(machine.seen[unit].starved <= 21_000, "{}", machine.seen[unit].starved);
    }
    let hogs = [(); 2].map(|()| machine.add(&share, Life::Hog));
    machine.run_until(2 * SECOND);
    hogs.iter().for_each(|&hog| assert!(machine.seen[hog].ran > 450 * MS));
    // Who yielded has at most a little credit when it stops to do so.
    units.iter().for_each(|&unit| machine.seen[unit].life = Life::Hog);
    let before = hogs.map(|hog| machine.seen[hog].ran);
    machine.run_until(3 * SECOND);
    for (hog, before) in hogs.iter().zip(before) {
        assert_near("hog", machine.seen[*hog].ran - before, 2e8, 8.0);
    }
}

#[test]
fn the_woken_run_within_a_millisecond() {
    seeds(25, |random| {
        let cpus = random.between(1, 3);
        let mut machine = Simulation::new(u8::try_from(cpus).unwrap());
        for _ in 0..random.between(cpus, 2 * cpus) {
            let share = machine.share(random.weight(), 0);
            machine.add(&share, Life::Hog);
        }
        let share = machine.share(256, 0);
        let run = random.between(5_000, 50_000);
        let io = machine.add(&share, Life::Bursts { run, wait: random.between(2, 10) * MS });
        machine.run_until(10 * SECOND);
        assert!(machine.seen[io].delay <= MS, "{} ns", machine.seen[io].delay);
        assert!(machine.seen[io].ran > 4 * run * 100, "it was not served");
    });
}

#[test]
fn frequent_io_is_served_promptly() {
    let mut machine = Simulation::new(1);
    let share = machine.share(256, 0);
    machine.add(&share, Life::Hog);
    let io = machine.add(&share, Life::Bursts { run: 20_000, wait: 80_000 });
    machine.run_until(10 * SECOND);
    // It wants a fifth; the limit on preemption may cost it half of that rate.
    assert!(machine.seen[io].ran > 900 * MS, "{}", machine.seen[io].ran);
    assert!(machine.seen[io].delay <= 200_000, "{}", machine.seen[io].delay);
}

#[test]
fn pinned_units_stay() {
    let mut machine = Simulation::new(2);
    let share = machine.share(256, 0);
    let units = [(); 3].map(|()| machine.add(&share, Life::Hog));
    units.iter().for_each(|&unit| machine.pin(unit, 1));
    machine.run_until(3 * SECOND);
    units.iter().for_each(|&unit| assert_near("third", machine.seen[unit].ran, 1e9, 1.0));
    machine.pin(units[2], 2);
    machine.run_until(4 * SECOND);
    assert!(machine.seen[units[2]].ran > 1985 * MS, "it got its CPU at once");
}

#[test]
fn units_go_where_they_would_best_run() {
    for cpu in 0..2 {
        let mut machine = Simulation::new(2);
        let share = machine.share(256, 0);
        let unit = machine.add(&share, Life::Bursts { run: MS, wait: MS });
        machine.prefer(unit, 1 << cpu);
        machine.run_until(10 * MS);
        assert_eq!(u32::from(machine.seen[unit].unit.scheduling().cpu().number()), cpu);
        // What prefers a CPU that is busy takes the other one all the same.
        let hogs = [(); 2].map(|()| machine.add(&share, Life::Hog));
        machine.pin(unit, 1);
        hogs.iter().for_each(|&hog| machine.prefer(hog, 1));
        machine.run_until(SECOND);
        let ran: u64 = machine.seen.iter().map(|seen| seen.ran).sum();
        assert!(ran > 1950 * MS, "no CPU was idle: {ran}");
    }
}

#[test]
fn nobody_starves() {
    seeds(12, |random| {
        let mut machine = Simulation::new(2);
        for _ in 0..12 {
            let share = machine.share(random.weight(), 0);
            let life = match random.below(3) {
                0 => Life::Hog,
                1 => Life::Yields { run: random.between(1_000, MS) },
                _ => Life::Bursts { run: random.between(1_000, MS), wait: random.between(1, MS) },
            };
            machine.add(&share, life);
        }
        machine.run_until(3 * SECOND);
        for seen in &machine.seen {
            // The lightest is due 1/400 of two CPUs; its shortest slice comes twice a second.
            assert!(seen.starved < 600 * MS && seen.ran > 0, "{:?}: {}", seen.life, seen.starved);
        }
    });
}

#[test]
fn anything_may_happen() {
    seeds(25, |random| {
        let cpus = random.between(1, 4);
        let mut machine = Simulation::new(u8::try_from(cpus).unwrap());
        let shares: Vec<_> = (0..4).map(|_| machine.share(random.weight(), 0)).collect();
        let units = random.between(1, 12);
        for _ in 0..units {
            let share = &shares[usize::try_from(random.below(4)).unwrap()];
            let life = match random.below(3) {
                0 => Life::Hog,
                1 => Life::Yields { run: random.between(1, MS) },
                _ => Life::Bursts { run: random.between(1, 5 * MS), wait: random.between(1, MS) },
            };
            machine.add(share, life);
        }
        for _ in 0..400 {
            machine.run_until(machine.now + random.below(3 * MS));
            let unit = usize::try_from(random.below(units)).unwrap();
            let share = &shares[usize::try_from(random.below(4)).unwrap()];
            match random.below(7) {
                0 => machine.hold(unit, Reasons::PAUSED),
                1 | 2 => machine.release(unit, Reasons::PAUSED),
                3 => machine.pin(unit, random.between(1, (1 << cpus) - 1)),
                4 => share.set_weight(random.weight()),
                5 => machine.set_cap(share, u32::try_from(random.below(3) * 30).unwrap()),
                _ => machine.reconsider(unit),
            }
        }
        for unit in 0..machine.seen.len() {
            machine.release(unit, Reasons::PAUSED);
            machine.pin(unit, u64::MAX);
        }
        shares.iter().for_each(|share| machine.set_cap(share, 0));
        machine.run_until(machine.now + 5 * SECOND);
        machine.seen.iter().for_each(|seen| assert!(seen.ran > 0));
    });
}
