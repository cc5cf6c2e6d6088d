//! A rollout on synthetic traffic and a virtual clock: the same engine as in
//! production, a proxy that only counts. Time moves by the millisecond; the same
//! seed gives the same rehearsal.
//!
//! Requests take time and end out of order, fail, are revealed while under way,
//! and belong to the generation whose coin assigned them, as the real proxy
//! counts them. Users who keep a version can be asked for. What is not here:
//! connections, retries.

pub mod advice;
pub mod blips;
pub mod crowd;
pub mod play;
pub mod report;
pub mod scenario;
pub mod tools;
pub mod users;

use std::f64::consts::TAU;

use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

use crate::clock::Moment;
use crate::judge::evidence::ArmDelta;
use crate::judge::evidence::Evidence;
use crate::judge::evidence::GenerationDelta;
use crate::judge::evidence::Pairs;
use crate::judge::evidence::add_sparse;
use crate::rollout::Action;
use crate::rollout::Command;
use crate::rollout::Rollout;
use serin_proxy::Weights;
use serin_proxy::histogram::BUCKETS;
use serin_proxy::histogram::index;
use serin_proxy::weights::WHOLE;
use users::Users;
use users::Visit;

/// Regular looks come this often; a canary that fails or grows slow is looked at
/// in the same millisecond.
const LOOK_MS: u64 = 100;

/// No request takes longer than this; also the length of the ring of endings.
const LONGEST_MS: usize = 1 << 14;

/// How traffic and versions are at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct World {
    pub requests_per_second: f64,
    pub primary: Version,
    pub canary: Version,
}

/// One request in so many is one that a trial's rules name.
const MATCHING: f64 = 0.25;

/// How a version answers: log-normal times, and independent failures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Version {
    pub failure: f64,
    pub median_ms: f64,
    /// Standard deviation of the time's logarithm.
    pub spread: f64,
}

impl Version {
    /// Median 50 ms, p99 near 200 ms.
    pub fn failing(failure: f64) -> Version {
        Version { failure, median_ms: 50.0, spread: 0.6 }
    }

    pub fn slower(self, factor: f64) -> Version {
        Version { median_ms: self.median_ms * factor, ..self }
    }
}

/// What the canary really got, as no judge sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub requests: u64,
    pub canary_requests: u64,
    pub canary_ok: u64,
    pub canary_failures: u64,
    /// Those that the proxy could tell something of: they ended, or were revealed before.
    pub canary_known: u64,
}

pub struct Rehearsal<W> {
    pub rollout: Rollout,
    pub totals: Totals,
    world: W,
    random: Xoshiro256PlusPlus,
    start: Moment,
    now: Moment,
    next_arrival_ms: f64,
    generation: u64,
    weights: Weights,
    marks: (Option<u64>, Option<u64>),
    /// What happens in each coming millisecond.
    ring: Vec<Vec<Happening>>,
    evidence: Evidence,
    alarmed: bool,
    users: Option<Users>,
}

#[derive(Clone, Copy)]
struct Happening {
    generation: u64,
    coin: Toss,
    what: What,
}

/// How a request came to its version.
#[derive(Clone, Copy)]
struct Toss {
    canary: bool,
    /// The chance with which it was the canary's, and among users who count.
    w: f64,
    fresh: f64,
    visit: Option<Visit>,
}

impl Toss {
    fn of(w: f64, canary: bool) -> Toss {
        Toss { canary, w, fresh: 0.0, visit: None }
    }
}

#[derive(Clone, Copy)]
enum What {
    Ok {
        us: u64,
    },
    OkRevealed,
    Failed {
        revealed: bool,
    },
    Slow,
    Revealed {
        us: u64,
    },
    /// A copy and what it is a copy of have both ended, and these have failed.
    Pair {
        primary: bool,
        canary: bool,
    },
}

impl<W: Fn(f64) -> World> Rehearsal<W> {
    /// `world` says how things are so many seconds after the beginning.
    pub fn new(rollout: Rollout, seed: u64, world: W) -> Rehearsal<W> {
        let start = Moment(1_700_000_000_000);
        Rehearsal {
            weights: rollout.weights(),
            marks: rollout.marks(),
            rollout,
            totals: Totals::default(),
            world,
            random: Xoshiro256PlusPlus::seed_from_u64(seed),
            start,
            now: start,
            next_arrival_ms: 0.0,
            generation: 1,
            ring: vec![Vec::new(); LONGEST_MS],
            evidence: Evidence::default(),
            alarmed: false,
            users: None,
        }
    }

    /// Requests come from these users, who keep their version.
    pub fn among(self, users: Users) -> Rehearsal<W> {
        Rehearsal { users: Some(users), ..self }
    }

    pub fn now(&self) -> Moment {
        self.now
    }

    pub fn seconds(&self) -> f64 {
        self.now.since(self.start).as_secs_f64()
    }

    /// The canary's weight that traffic obeys now.
    pub fn parts(&self) -> u32 {
        self.weights.of(&self.rollout.spec().canary)
    }

    /// All weights that traffic obeys now.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Goes on to the next look. Answers with what came in since the last.
    pub fn wait(&mut self) -> Evidence {
        loop {
            self.live_one_millisecond();
            if self.alarmed || self.now.0.is_multiple_of(LOOK_MS) {
                break;
            }
        }
        self.alarmed = false;
        let mut evidence = std::mem::take(&mut self.evidence);
        evidence.sticky = self.users.is_some();
        evidence
    }

    /// Goes on to the next look, looks, and carries out what was decided.
    pub fn look(&mut self, commands: &[Command]) -> Vec<Action> {
        let evidence = self.wait();
        let actions = self.rollout.step(self.now, &evidence, commands);
        for action in &actions {
            self.act(action);
        }
        actions
    }

    /// Lets time pass without a look, as when the process is down.
    pub fn sleep(&mut self, ms: u64) {
        for _ in 0..ms {
            self.live_one_millisecond();
        }
    }

    /// Loses what was counted since the last look.
    pub fn lose_evidence(&mut self) {
        self.evidence = Evidence::default();
    }

    pub fn act(&mut self, action: &Action) {
        match action {
            Action::Shift { weights, .. } => {
                if *weights != self.weights {
                    let canary = &self.rollout.spec().canary;
                    let (before, now) = (self.weights.of(canary), weights.of(canary));
                    if let Some(users) = &mut self.users {
                        users.shift(before, now);
                    }
                    self.weights = weights.clone();
                    self.generation += 1;
                }
            }
            Action::Mark { slow_us, reveal_us } => self.marks = (*slow_us, *reveal_us),
            Action::Renew => self.generation += 1,
            Action::Tell { .. } => {}
        }
    }

    fn live_one_millisecond(&mut self) {
        self.now.0 += 1;
        let world = (self.world)(self.seconds());
        let since_start = (self.now.0 - self.start.0) as f64;
        while self.next_arrival_ms < since_start {
            self.arrive(&world);
            let wait = -(1.0 - self.random.random::<f64>()).ln();
            self.next_arrival_ms += wait * 1000.0 / world.requests_per_second;
        }
        let slot = self.now.0 as usize % LONGEST_MS;
        let mut happenings = std::mem::take(&mut self.ring[slot]);
        for happening in happenings.drain(..) {
            self.count(happening);
        }
        self.ring[slot] = happenings;
    }

    fn arrive(&mut self, world: &World) {
        self.totals.requests += 1;
        let spec = self.rollout.spec();
        let canary = self.weights.of(&spec.canary);
        let baseline = spec.baseline.as_ref().map_or(0, |baseline| self.weights.of(baseline));
        let matched = self.weights.matched();
        if let Some(users) = &mut self.users {
            let visit = users.visit(self.marks.1.is_some(), &mut self.random);
            let w = f64::from(canary) / f64::from(WHOLE);
            let (fresh, canary) = (users.fresh_share(canary), visit.point < canary);
            return self.ask(world, Toss { canary, w, fresh, visit: Some(visit) });
        }
        if matched > 0 && self.random.random::<f64>() < MATCHING {
            let w = f64::from(matched) / f64::from(WHOLE);
            let canary = self.random.random::<f64>() < w;
            return self.ask(world, Toss::of(w, canary));
        }
        let point = self.random.random::<f64>() * f64::from(WHOLE);
        let against = if baseline > 0 { baseline } else { WHOLE - canary };
        let w = f64::from(canary) / f64::from(canary + against);
        if point < f64::from(canary) {
            self.ask(world, Toss::of(w, true));
        } else if point < f64::from(canary + against) {
            self.ask(world, Toss::of(w, false));
            let copied = f64::from(self.weights.copied()) / f64::from(WHOLE);
            if copied > 0.0 && self.random.random::<f64>() < copied {
                self.pair(world);
            }
        } else {
            self.evidence.others += 1;
        }
    }

    /// One request under a coin, from now until its end.
    fn ask(&mut self, world: &World, coin: Toss) {
        let version = if coin.canary { world.canary } else { world.primary };
        let version = version.slower(coin.visit.map_or(1.0, |visit| visit.slower));
        self.totals.canary_requests += u64::from(coin.canary);
        let arm = arm_of(&mut self.evidence, self.generation, coin);
        arm.dispatched += 1;

        let us = self.time_us(version);
        let failed = self.random.random::<f64>() < version.failure;
        let (slow_us, reveal_us) = self.marks;
        let reveals = reveal_us.filter(|mark| us > *mark);
        if let Some(mark) = slow_us.filter(|mark| us > *mark) {
            self.schedule(mark, coin, What::Slow);
        }
        if let Some(mark) = reveals {
            self.schedule(mark, coin, What::Revealed { us: mark });
        }
        let end = match (failed, reveals) {
            (true, _) => What::Failed { revealed: reveals.is_some() },
            (false, Some(_)) => What::OkRevealed,
            (false, None) => What::Ok { us },
        };
        self.schedule(us, coin, end);
    }

    /// A copy and what it is a copy of: counted when both have ended. No user sees
    /// the copy's answer, so it is in no total.
    fn pair(&mut self, world: &World) {
        let [(primary_us, primary), (canary_us, canary)] = [world.primary, world.canary]
            .map(|version| (self.time_us(version), self.random.random::<f64>() < version.failure));
        let coin = Toss::of(0.0, true);
        self.schedule(primary_us.max(canary_us), coin, What::Pair { primary, canary });
    }

    fn time_us(&mut self, version: Version) -> u64 {
        let (a, b) = (1.0 - self.random.random::<f64>(), self.random.random::<f64>());
        let normal = (-2.0 * a.ln()).sqrt() * (TAU * b).cos();
        let us = version.median_ms * 1000.0 * (version.spread * normal).exp();
        us.clamp(1.0, (LONGEST_MS - 2) as f64 * 1000.0) as u64
    }

    fn schedule(&mut self, after_us: u64, coin: Toss, what: What) {
        let at = self.now.0 + after_us / 1000;
        let happening = Happening { generation: self.generation, coin, what };
        self.ring[at as usize % LONGEST_MS].push(happening);
    }

    fn count(&mut self, happening: Happening) {
        let Happening { generation, coin, what } = happening;
        if let What::Pair { primary, canary } = what {
            return self.evidence.pairs.add(Pairs::of(primary, canary));
        }
        let arm = arm_of(&mut self.evidence, generation, coin);
        let first = coin.visit.is_some_and(|visit| visit.first);
        let told = |arm: &mut ArmDelta, us: u64| {
            add_sparse(&mut arm.latency, index(us) as u32, 1);
            if first {
                add_sparse(&mut arm.first, index(us) as u32, 1);
            }
        };
        match what {
            What::Ok { us } => {
                arm.ok += 1;
                told(arm, us);
            }
            What::OkRevealed => arm.ok += 1,
            What::Failed { revealed } => {
                arm.failed += 1;
                arm.failed_revealed += u64::from(revealed);
                arm.first_failed += u64::from(first);
                if first && !revealed {
                    add_sparse(&mut arm.first, BUCKETS as u32 - 1, 1);
                }
                let new = |visit: Visit| self.users.as_mut().is_some_and(|users| users.fails_first(visit));
                arm.failed_units += u64::from(coin.visit.is_none_or(new));
            }
            What::Slow => arm.slow += 1,
            What::Revealed { us } => told(arm, us),
            What::Pair { .. } => unreachable!("pairs have been counted above"),
        }
        if coin.canary {
            self.alarmed |= matches!(what, What::Failed { .. } | What::Slow);
            self.totals.canary_failures += u64::from(matches!(what, What::Failed { .. }));
            let ends_known = matches!(what, What::OkRevealed | What::Failed { revealed: true } | What::Slow);
            self.totals.canary_known += u64::from(!ends_known);
            self.totals.canary_ok += u64::from(matches!(what, What::Ok { .. } | What::OkRevealed));
        }
    }
}

/// The counts of one arm of one generation, made where they are new.
fn arm_of(evidence: &mut Evidence, id: u64, coin: Toss) -> &mut ArmDelta {
    let Toss { canary, w, fresh, .. } = coin;
    let generations = &mut evidence.generations;
    let at = match generations.iter().rposition(|delta| (delta.id, delta.w, delta.fresh) == (id, w, fresh)) {
        Some(at) => at,
        None => {
            generations.push(GenerationDelta { id, w, fresh, ..GenerationDelta::default() });
            generations.len() - 1
        }
    };
    if canary { &mut generations[at].canary } else { &mut generations[at].primary }
}
