//! What a look costs the control side: the engine's own work on it, and keeping it for the journal until its
//! line is written. Ten looks a second are made of each rollout under way.

use std::cell::RefCell;
use std::hint::black_box;

use anyhow::Result;
use anyhow::bail;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use serin::clock::Moment;
use serin::journal::looks::Looks;
use serin::journal::looks::room;
use serin::judge::evidence::Evidence;
use serin::judge::evidence::GenerationDelta;
use serin::rehearse::Version;
use serin::rehearse::World;
use serin::rehearse::crowd;
use serin::rehearse::crowd::Ages;
use serin::rehearse::crowd::Marks;
use serin::rollout::Command;
use serin::rollout::Rollout;

use crate::trial::Trial;

const LOOK_MS: u64 = 100;
/// A checkpoint is written, and with it the looks before it, when a burst window ends.
const LOOKS_A_LINE: u64 = 100;
const START: Moment = Moment(1_700_000_000_000);
const W: f64 = 0.1;
pub const NAMES: [&str; 4] = ["look/decided/0", "look/decided/1000", "look/kept/0", "look/kept/1000"];

/// A rollout in its first step, and what it is given.
struct Looking {
    rollout: RefCell<Rollout>,
    given: Vec<Evidence>,
}

/// So many looks at a split with so many requests a second.
pub fn part(what: &str, rps: u64) -> Result<Box<dyn Fn(u64)>> {
    let looking = Looking::new(rps as f64);
    Ok(match what {
        "decided" => Box::new(move |times| looking.decide(times)),
        "kept" => Box::new(move |times| looking.keep(times)),
        _ => bail!("nothing is {what} of a look"),
    })
}

impl Looking {
    fn new(rps: f64) -> Looking {
        // The looks are given over and over: a failure among them would be one each time.
        let version = Version::failing(0.0);
        let analysis = crate::exposure::with_objective();
        let hold = std::time::Duration::from_secs(24 * 3600);
        let trial = Trial { percent: 10, rps, primary: version, canary: version, analysis, hold };
        let mut rollout = Rollout::new(trial.spec());
        let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
        let world = World { requests_per_second: rps, primary: version, canary: version };
        let ages = Ages::of(version);
        let mut look = |w: f64| {
            let (canary, primary) = crowd::arrivals(&world, w, LOOK_MS as f64 / 1000.0, &mut random);
            let mut arm = |count: u64| {
                let failed = crowd::binomial(count, version.failure, &mut random);
                crowd::counted(count, failed, &ages, Marks::default(), &mut random)
            };
            let (canary, primary) = (arm(canary), arm(primary));
            let generations =
                vec![GenerationDelta { id: 1, w, canary, primary, ..GenerationDelta::default() }];
            if rps > 0.0 { Evidence { generations, ..Evidence::default() } } else { Evidence::default() }
        };
        for at in 0..600 {
            rollout.step(START.after(ms(at)), &look(0.0), &[]);
        }
        rollout.step(START.after(ms(600)), &look(0.0), &[Command::Start]);
        let given = (0..100).map(|_| look(W)).collect();
        Looking { rollout: RefCell::new(rollout), given }
    }

    fn decide(&self, times: u64) {
        let mut rollout = self.rollout.borrow_mut();
        let start = rollout.at();
        for at in 0..times {
            let evidence = &self.given[at as usize % self.given.len()];
            black_box(rollout.step(start.after(ms(at + 1)), evidence, &[]));
        }
    }

    /// As the tick does it, the line of the journal included, the writing to the disk not.
    fn keep(&self, times: u64) {
        let rollout = self.rollout.borrow();
        let mut looks = Looks::default();
        let start = rollout.at();
        for at in 0..times {
            let (now, evidence) = (start.after(ms(at + 1)), &self.given[at as usize % self.given.len()]);
            assert!(looks.before(&rollout, now, &[]), "it is under way");
            looks.add(&rollout, now, evidence, room(1));
            if at % LOOKS_A_LINE == LOOKS_A_LINE - 1 {
                black_box(serde_json::to_string(&looks.entry(now, "bench")).expect("looks are plain data"));
                looks.kept_with_state();
            }
        }
    }
}

fn ms(looks: u64) -> std::time::Duration {
    std::time::Duration::from_millis(looks * LOOK_MS)
}
