//! One rollout from its start to its end on a crowd's traffic, and what became of
//! it. The engine is the one that runs in production; the clock is a number.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

use super::World;
use super::blips::Course;
use super::crowd;
use super::crowd::Ages;
use super::crowd::Marks;
use super::scenario::Scenario;
use crate::clock::Moment;
use crate::judge::evidence::Evidence;
use crate::judge::evidence::GenerationDelta;
use crate::judge::evidence::Pairs;
use crate::rollout::Action;
use crate::rollout::Command;
use crate::rollout::Phase;
use crate::rollout::Rollout;
use crate::rollout::Spec;
use serin_proxy::Weights;
use serin_proxy::weights::WHOLE;

/// Watching the primary before the start.
const HISTORY: Duration = Duration::from_secs(600);
/// From look to look while nothing fails, and where the canary does.
const CALM_MS: u64 = 1_000;
const LOOK_MS: u64 = 100;
const START: Moment = Moment(1_700_000_000_000);

/// How a rollout ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It has all traffic for good, or would have had at the end of the bake.
    Promoted,
    RolledBack,
    /// Neither, within three times its plan and an hour more.
    Undecided,
}

/// What had happened when something did: since the release began to differ, or
/// since the start where it never does.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    pub seconds: f64,
    pub requests: u64,
    pub failures: u64,
}

/// One run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Run {
    pub end: End,
    /// When the canary's weight first fell.
    pub cut: Option<Cost>,
    pub ended: Cost,
    /// From the start to the promotion.
    pub promoted_after: Option<f64>,
    /// What there was when it was promoted.
    pub promoted: Option<Cost>,
}

/// Plays `spec` once. The same seed gives the same run.
pub fn play(spec: &Spec, scenario: &Scenario, seed: u64) -> Run {
    let mut player = Player::new(spec, scenario, seed);
    player.watch_primary();
    player.run()
}

/// How the traffic is divided: `compared` of it is the canary's with chance `w`, or
/// else of whom it is compared with.
#[derive(Clone, Copy)]
struct Divided {
    w: f64,
    compared: f64,
}

impl Divided {
    /// To the canary, and to whom it is compared with.
    fn arrivals(self, world: World, ms: u64, random: &mut Xoshiro256PlusPlus) -> (u64, u64) {
        let requests_per_second = world.requests_per_second * self.compared;
        let world = World { requests_per_second, ..world };
        crowd::arrivals(&world, self.w, ms as f64 / 1000.0, random)
    }

    fn others(self, world: World, ms: u64, random: &mut Xoshiro256PlusPlus) -> u64 {
        if self.compared >= 1.0 {
            return 0;
        }
        let rest = Divided { w: 0.0, compared: 1.0 - self.compared };
        rest.arrivals(world, ms, random).1
    }
}

struct Player<'s> {
    rollout: Rollout,
    scenario: &'s Scenario,
    course: Course,
    random: Xoshiro256PlusPlus,
    now: Moment,
    started: Option<Moment>,
    /// Of the primary and of the canary.
    ages: [Ages; 2],
    generation: u64,
    weights: Weights,
    marks: Marks,
    cost: Cost,
    cut: Option<Cost>,
    promoted_after: Option<f64>,
    promoted: Option<Cost>,
}

impl<'s> Player<'s> {
    fn new(spec: &Spec, scenario: &'s Scenario, seed: u64) -> Player<'s> {
        let rollout = Rollout::new(spec.clone());
        let (slow_us, reveal_us) = rollout.marks();
        let ages = Ages::of(scenario.primary());
        let course = Course::of(scenario.blip, scenario.endpoints, HISTORY + longest(spec), seed);
        Player {
            course,
            weights: rollout.weights(),
            rollout,
            scenario,
            random: Xoshiro256PlusPlus::seed_from_u64(seed),
            now: START,
            started: None,
            ages: [ages.clone(), ages],
            generation: 1,
            marks: Marks { slow_us, reveal_us },
            cost: Cost::default(),
            cut: None,
            promoted_after: None,
            promoted: None,
        }
    }

    fn watch_primary(&mut self) {
        let until = START.after(HISTORY);
        while self.now < until {
            let left = until.since(self.now).as_millis() as u64;
            self.live(self.steady_ms(left.min(CALM_MS * 10)), &[]);
        }
    }

    fn run(&mut self) -> Run {
        let most = longest(self.rollout.spec());
        self.started = Some(self.now);
        self.live(0, &[Command::Start]);
        while self.since_start() < most {
            // Whoever would end a pause by hand does it at once.
            let resume = [Command::Resume];
            let commands: &[Command] = if self.rollout.phase() == Phase::Paused { &resume } else { &[] };
            self.second(commands);
            let end = match self.rollout.phase() {
                Phase::RolledBack | Phase::Aborted => End::RolledBack,
                Phase::Succeeded => End::Promoted,
                _ => continue,
            };
            return self.over(end);
        }
        self.over(End::Undecided)
    }

    fn over(&self, end: End) -> Run {
        let (promoted_after, promoted) = (self.promoted_after, self.promoted);
        Run { end, cut: self.cut, ended: self.cost, promoted_after, promoted }
    }

    fn since_start(&self) -> Duration {
        self.started.map_or(Duration::ZERO, |started| self.now.since(started))
    }

    /// A second, or less where the world changes within it: one look, and one more at each
    /// tenth in which the canary fails. After a shift the rest of it is drawn anew.
    fn second(&mut self, commands: &[Command]) {
        let (world, divided) = (self.world(), self.divided());
        let mut left_ms = self.steady_ms(CALM_MS);
        let (canary, primary) = divided.arrivals(world, left_ms, &mut self.random);
        let failed = crowd::binomial(canary, world.canary.failure, &mut self.random);
        if failed == 0 {
            return self.look(left_ms, world, (canary, 0), primary, commands);
        }
        let (mut canary, mut failed, mut primary) = (canary - failed, failed, primary);
        let generation = self.generation;
        let (mut seen_ms, mut seen) = (0, [0; 3]);
        while left_ms > 0 {
            let ms = left_ms.min(LOOK_MS);
            let chance = ms as f64 / left_ms as f64;
            (left_ms, seen_ms) = (left_ms - ms, seen_ms + ms);
            for (left, seen) in [&mut canary, &mut failed, &mut primary].into_iter().zip(&mut seen) {
                let here = crowd::binomial(*left, chance, &mut self.random);
                (*left, *seen) = (*left - here, *seen + here);
            }
            let [good, bad, others] = seen;
            if bad == 0 && left_ms > 0 {
                continue;
            }
            self.look(seen_ms, world, (good + bad, bad), others, commands);
            if self.generation != generation || self.rollout.phase().is_final() {
                return;
            }
            (seen_ms, seen) = (0, [0; 3]);
        }
    }

    /// Time passes, and so many requests with it; then one look.
    fn live(&mut self, ms: u64, commands: &[Command]) {
        let (world, divided) = (self.world(), self.divided());
        let (canary, primary) = divided.arrivals(world, ms, &mut self.random);
        let failed = crowd::binomial(canary, world.canary.failure, &mut self.random);
        self.look(ms, world, (canary, failed), primary, commands);
    }

    fn look(
        &mut self,
        ms: u64,
        world: World,
        (canary, failed): (u64, u64),
        primary: u64,
        commands: &[Command],
    ) {
        self.now = self.now.after(Duration::from_millis(ms));
        let divided = self.divided();
        let primary_failed = crowd::binomial(primary, world.primary.failure, &mut self.random);
        for (ages, version) in self.ages.iter_mut().zip([world.primary, world.canary]) {
            if !ages.is_of(version) {
                *ages = Ages::of(version);
            }
        }
        let delta = GenerationDelta {
            id: self.generation,
            w: divided.w,
            canary: crowd::counted(canary, failed, &self.ages[1], self.marks, &mut self.random),
            primary: crowd::counted(primary, primary_failed, &self.ages[0], self.marks, &mut self.random),
            ..GenerationDelta::default()
        };
        self.pay(ms, canary, failed);
        let mut evidence = Evidence { generations: vec![delta], ..Evidence::default() };
        self.count_others(&mut evidence, world, ms, primary);
        for action in self.rollout.step(self.now, &evidence, commands) {
            self.act(&action);
        }
        let promoted = matches!(self.rollout.phase(), Phase::Baking | Phase::Succeeded);
        if promoted && self.promoted_after.is_none() {
            self.promoted_after = Some(self.since_start().as_secs_f64());
            self.promoted = Some(self.cost);
        }
    }

    fn pay(&mut self, ms: u64, canary: u64, failed: u64) {
        let differs = self.started.is_some() && self.since_start() > self.scenario.onset;
        if differs {
            self.cost.seconds += ms as f64 / 1000.0;
            self.cost.requests += canary;
            self.cost.failures += failed;
        }
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Shift { weights, .. } => {
                if self.is_less(weights) && self.cut.is_none() && self.started.is_some() {
                    self.cut = Some(self.cost);
                }
                if *weights != self.weights {
                    self.weights = weights.clone();
                    self.generation += 1;
                }
            }
            Action::Mark { slow_us, reveal_us } => {
                self.marks = Marks { slow_us: *slow_us, reveal_us: *reveal_us };
            }
            Action::Renew => self.generation += 1,
            Action::Tell { .. } => {}
        }
    }

    fn divided(&self) -> Divided {
        let whole = f64::from(WHOLE);
        let spec = self.rollout.spec();
        let (parts, matched) = (self.weights.of(&spec.canary), self.weights.matched());
        if parts == 0 && matched > 0 {
            return Divided { w: f64::from(matched) / whole, compared: self.scenario.matching };
        }
        let baseline = spec.baseline.as_ref().map_or(0, |baseline| self.weights.of(baseline));
        let both = if baseline > 0 { parts + baseline } else { WHOLE };
        Divided { w: f64::from(parts) / f64::from(both), compared: f64::from(both) / whole }
    }

    /// Requests that no rule names, or that go to versions which are not compared;
    /// and the copies of the primary's.
    fn count_others(&mut self, evidence: &mut Evidence, world: World, ms: u64, primary: u64) {
        let divided = self.divided();
        let others = divided.others(world, ms, &mut self.random);
        let is_trial = self.weights.matched() > 0;
        if is_trial && others > 0 {
            let failed = crowd::binomial(others, world.primary.failure, &mut self.random);
            evidence.generations.push(GenerationDelta {
                id: self.generation,
                primary: crowd::counted(others, failed, &self.ages[0], self.marks, &mut self.random),
                ..GenerationDelta::default()
            });
        } else {
            evidence.others = others;
        }
        let tossed = if is_trial { others } else { primary };
        let copied = f64::from(self.weights.copied()) / f64::from(WHOLE);
        let copies = crowd::binomial(tossed, copied, &mut self.random);
        let canary = crowd::binomial(copies, world.canary.failure, &mut self.random);
        let both = crowd::binomial(canary, world.primary.failure, &mut self.random);
        let primary_only = crowd::binomial(copies - canary, world.primary.failure, &mut self.random);
        evidence.pairs =
            Pairs { canary_only: canary - both, primary_only, neither: copies - canary - primary_only, both };
    }

    /// Would the canary get less, and no more in any other way?
    fn is_less(&self, weights: &Weights) -> bool {
        let canary = &self.rollout.spec().canary;
        let of = |weights: &Weights| [weights.of(canary), weights.matched(), weights.copied()];
        let (now, then) = (of(&self.weights), of(weights));
        now != then && now.iter().zip(then).all(|(now, then)| then <= *now)
    }

    /// Before the start the canary has no traffic and is like the primary.
    fn world(&self) -> World {
        let world = match self.started {
            Some(_) => self.scenario.world(self.since_start()),
            None => {
                let primary = self.scenario.primary();
                World { requests_per_second: self.scenario.rps, primary, canary: primary }
            }
        };
        self.course.on(world, self.now.since(START))
    }

    /// How long nothing changes in the world by blips; at most so long.
    fn steady_ms(&self, most: u64) -> u64 {
        self.course.steady_ms(self.now.since(START), most)
    }
}

/// The end of a run that nothing else ends.
fn longest(spec: &Spec) -> Duration {
    3 * (spec.planned() + spec.bake) + Duration::from_secs(3600)
}
