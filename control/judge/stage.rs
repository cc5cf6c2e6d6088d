//! One stage's proof that the canary is good enough: the tests of `promotion.rs`
//! on live traffic, begun afresh with all their stake at each weight.
//!
//! They count good answers, so they must not see requests that are still under
//! way: the slower version's would be missing. What they are given is a cohort, all
//! requests of one generation, when every one of them has ended or is older than
//! the patience (one that goes on has not failed within it). Cohorts are taken in
//! the order in which they began, so that failures that take their time are never
//! overtaken by good answers. A generation ends with the weights, or when the
//! engine renews it at equal weights; it is asked to in steps that grow with the
//! stage, so that their number is its length's logarithm and the proof is late by
//! an eighth.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use super::analysis::Analysis;
use super::analysis::Slack;
pub use super::cohort::Counts;
use super::cohort::Open;
use super::evidence::Evidence;
use super::evidence::GenerationDelta;
use super::evidence::Per;
use super::history::Belief;
use super::history::History;
use super::logs::clamp_rate;
use super::logs::divergence;
use super::panel::Kind;
use super::projection::Boundary;
use super::promotion;
use super::promotion::Cohort;
use super::purse::Purse;
use super::slowness::Hundredth;
use crate::clock::Moment;

/// Each restart is another attempt for a bad canary to pass.
const RESTARTS: u8 = 3;

/// A cohort is this part of the stage so far, and no shorter than this.
const PART: u32 = 8;
const SHORTEST: Duration = Duration::from_millis(500);

/// Cohorts that wait for their last requests. While there are this many no more
/// are asked for, and what comes beyond twice as many is left out.
const WAITING: usize = 32;

/// What is foreseen of the canary's rate starts from as many requests as this.
const FORESEEN: f64 = 200.0;

/// All stake plays at once; the rest keeps the logarithm finite.
const ALL: f64 = 1.0 - 1e-12;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    beta: f64,
    patience: Duration,
    slowdown: Option<Slack>,
    checks: Vec<Check>,
    hundredth: Option<Hundredth>,
    /// What is one toss.
    #[serde(default)]
    per: Per,
    open: VecDeque<Open>,
    /// Generations up to this one are known: open, taken in, or of no use.
    newest: u64,
    /// Requests begin in a generation that is of no use.
    is_behind: bool,
    /// Numbers may have begun anew; what is seen next is from before.
    is_lost: bool,
    restarts: u8,
    began: Moment,
    /// When the last cohort was asked for, and when one was last taken in.
    asked: Moment,
    at: Moment,
}

/// One thing that has to be shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    pub kind: Kind,
    boundary: Boundary,
    purse: Purse,
    /// Of the primary's share of bad requests.
    belief: Belief,
    /// The canary's requests that were taken in, and the bad ones of them.
    requests: u64,
    bad: u64,
}

/// How far the proof is.
#[derive(Clone, Debug, PartialEq)]
pub enum Promotion {
    /// Nothing has to be shown here.
    NotAsked,
    Proved,
    Undecided(Outlook),
}

/// What is missing, of the check that needs the most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outlook {
    pub kind: Kind,
    pub boundary: Boundary,
    /// What is counted, and how many of the canary's come in a second.
    pub per: Per,
    pub pace: f64,
    /// How many until it is shown, if things stay as they are; none where
    /// the canary does not look good enough, or too little is known to say.
    pub missing: Option<u64>,
    pub eta: Option<Duration>,
}

impl Stage {
    /// `None` where nothing has to be shown.
    pub fn new(analysis: &Analysis, history: &History, now: Moment) -> Option<Stage> {
        let asked = analysis.promotion?;
        let against_primary = Boundary { rho: asked.ratio, delta: asked.margin };
        let mut checks = Vec::new();
        let mut check = |kind, boundary| checks.push(Check::new(kind, boundary));
        if analysis.relative_failures.is_some() {
            check(Kind::RelativeFailures, against_primary);
        }
        if analysis.relative_latency.is_some() {
            check(Kind::RelativeLatency, against_primary);
        }
        if let Some(objective) = analysis.success {
            check(Kind::Success, Boundary { rho: 0.0, delta: 1.0 - objective.min });
        }
        if let Some(objective) = analysis.latency {
            check(Kind::Latency, Boundary { rho: 0.0, delta: 1.0 - objective.quantile });
        }
        if checks.is_empty() {
            return None;
        }
        let threshold = analysis.latency.map_or(Duration::ZERO, |objective| objective.threshold);
        let mut stage = Stage {
            beta: asked.beta,
            patience: asked.patience.max(threshold),
            slowdown: analysis.relative_latency.map(|asked| asked.slack),
            checks,
            hundredth: None,
            per: Per::Request,
            open: VecDeque::new(),
            newest: 0,
            is_behind: false,
            is_lost: false,
            restarts: 0,
            began: now,
            asked: now,
            at: now,
        };
        stage.begin(now, history, 0);
        Some(stage)
    }

    /// Another weight: nothing has been shown of it yet. `newest` is the newest
    /// generation from before.
    pub fn begin(&mut self, now: Moment, history: &History, newest: u64) {
        self.restarts = 0;
        self.start(now, history, newest);
    }

    /// The same weight after a pause or a hold. A few times only.
    pub fn begin_again(&mut self, now: Moment, history: &History, newest: u64) {
        if self.restarts < RESTARTS {
            self.restarts += 1;
            self.start(now, history, newest);
        }
    }

    fn start(&mut self, now: Moment, history: &History, newest: u64) {
        for check in &mut self.checks {
            *check = Check::new(check.kind, check.boundary);
            check.belief = history.failures();
        }
        (self.began, self.asked, self.at) = (now, now, now);
        self.newest = newest;
        self.is_behind = false;
        self.open.clear();
        self.hundredth = None;
        self.look_for_slowest(history);
    }

    /// After a restart generations may be numbered anew and what was under way is
    /// unknown: goes on with what begins from now on.
    pub fn resume(&mut self, now: Moment) {
        let gap = now.since(self.at);
        for moment in [&mut self.began, &mut self.asked, &mut self.at] {
            *moment = moment.after(gap);
        }
        self.open.clear();
        self.is_lost = true;
    }

    /// Before the panel sees it: what is believed may not know of it.
    pub fn observe(&mut self, now: Moment, evidence: &Evidence, history: &History) {
        if self.is_lost && !evidence.generations.is_empty() {
            self.newest = evidence.generations.iter().map(|delta| delta.id).max().unwrap_or(0);
            self.is_lost = false;
        }
        self.look_for_slowest(history);
        if !evidence.generations.is_empty() {
            self.per = if evidence.sticky { Per::User } else { Per::Request };
        }
        // Where the canary had no part there is nothing to show. A trial's generation
        // comes twice: what the trial's rules took, and the rest.
        let per = self.per;
        for delta in evidence.generations.iter().filter(|delta| delta.share(per) > 0.0) {
            self.count(now, delta);
        }
        while let Some(cohort) = self.open.front()
            && cohort.is_complete(now, self.patience)
        {
            let seconds = now.since(self.at).as_secs_f64();
            self.at = now;
            let (canary, primary, w) = (cohort.canary, cohort.primary, cohort.w);
            self.open.pop_front();
            self.take_in(canary, primary, w, seconds);
        }
    }

    /// Bets on a cohort that is complete.
    pub fn take_in(&mut self, canary: Counts, primary: Counts, w: f64, seconds: f64) {
        for check in &mut self.checks {
            check.bet([canary, primary].map(|counts| counts.of(check.kind, self.per)), w, seconds);
        }
    }

    /// Should new requests be of a new generation?
    pub fn wants_cohort(&self, now: Moment) -> bool {
        let least = SHORTEST.max(now.since(self.began) / PART);
        let is_due = |since: Moment| now.since(since) >= least;
        let waits = self.open.len() >= WAITING;
        !waits
            && is_due(self.asked)
            && match self.open.back() {
                Some(cohort) => is_due(cohort.born),
                None => self.is_behind,
            }
    }

    pub fn cohort_is_asked(&mut self, now: Moment) {
        self.asked = now;
    }

    /// Takes checks out: what nobody can tell any more is not asked.
    pub fn drop(&mut self, out: impl Fn(Kind) -> bool) {
        self.checks.retain(|check| !out(check.kind));
    }

    /// Is it shown, for traffic of which a share `w` is the canary's, `pace` requests
    /// a second?
    pub fn promotion(&self, w: f64, pace: f64) -> Promotion {
        let mut missing = self.asked_at(w).filter(|check| check.log_e() < self.needed()).peekable();
        if self.asked_at(w).next().is_none() {
            return Promotion::NotAsked;
        }
        if missing.peek().is_none() {
            return Promotion::Proved;
        }
        let outlooks = missing.map(|check| self.outlook(check, w, pace));
        let last = outlooks.max_by_key(|outlook| outlook.missing.unwrap_or(u64::MAX));
        last.map_or(Promotion::Proved, Promotion::Undecided)
    }

    /// `ln E` of the check that is furthest from shown; none without any.
    pub fn log_e(&self, w: f64) -> Option<f64> {
        self.asked_at(w).map(Check::log_e).reduce(f64::min)
    }

    pub fn needed(&self) -> f64 {
        -self.beta.ln()
    }

    /// The checks that can be asked at this share.
    pub fn asked_at(&self, w: f64) -> impl Iterator<Item = &Check> {
        let is_beside = w > 0.0 && w < 1.0;
        self.checks.iter().filter(move |check| is_beside || (!check.kind.is_relative() && w > 0.0))
    }

    /// Once known, where the primary's slowest are stays for the stage.
    fn look_for_slowest(&mut self, history: &History) {
        if self.hundredth.is_none()
            && let Some(slack) = self.slowdown
            && let Some((edges, belief)) = Hundredth::of(history.latency(), slack)
        {
            self.hundredth = Some(edges);
            for check in self.checks.iter_mut().filter(|check| check.kind == Kind::RelativeLatency) {
                check.belief = belief;
            }
        }
    }

    fn count(&mut self, now: Moment, delta: &GenerationDelta) {
        if delta.id > self.newest {
            self.newest = delta.id;
            if let Some(last) = self.open.back_mut() {
                last.closed.get_or_insert(now);
            }
            if self.open.len() < 2 * WAITING {
                self.open.push_back(Open::new(delta, self.per, now));
                self.is_behind = false;
            }
        }
        let (slowest, per) = (self.hundredth, self.per);
        match self.open.iter_mut().find(|cohort| cohort.generation == delta.id) {
            Some(cohort) => {
                cohort.canary.add(&delta.canary, slowest.map(|edges| edges.canary), per);
                cohort.primary.add(&delta.primary, slowest.map(|edges| edges.primary), per);
            }
            None => self.is_behind |= delta.canary.dispatched + delta.primary.dispatched > 0,
        }
    }

    fn outlook(&self, check: &Check, w: f64, pace: f64) -> Outlook {
        let missing = self.needed() - check.log_e();
        // An answer's age may be told before it is older than the objective's, so of that requests count.
        let per = if check.kind == Kind::Latency { Per::Request } else { self.per };
        let (w, pace, waiting): (f64, f64, fn(&Open) -> u64) = match per {
            Per::Request => (w, pace, |cohort| cohort.canary.dispatched),
            Per::User => (self.fresh_share(w), self.pace_of_users(check), |cohort| cohort.canary.users),
        };
        let growth = check.growth(w);
        // What is under way will count.
        let waiting: u64 = self.open.iter().map(waiting).sum();
        let is_blind = check.kind == Kind::RelativeLatency && self.hundredth.is_none();
        let missing =
            (growth > 0.0 && !is_blind).then(|| ((missing / growth).ceil() as u64).saturating_sub(waiting));
        let eta = missing.filter(|_| pace > 0.0).map(|missing| seconds(missing as f64 / pace));
        Outlook { kind: check.kind, boundary: check.boundary, per, pace, missing, eta }
    }

    /// Of users who are tossed for now.
    fn fresh_share(&self, otherwise: f64) -> f64 {
        self.open.back().map_or(otherwise, |cohort| cohort.w)
    }

    /// New ones in a second. They grow fewer, so what follows from it is the least.
    fn pace_of_users(&self, check: &Check) -> f64 {
        let passed = self.at.since(self.began).as_secs_f64();
        if passed > 0.0 { check.requests as f64 / passed } else { 0.0 }
    }

    /// Users have to be told apart for what is to be shown.
    pub fn counts_users(&self) -> bool {
        self.per == Per::User
    }
}

impl Check {
    fn new(kind: Kind, boundary: Boundary) -> Check {
        let even = [1.0 / promotion::OBJECTIVE_SHARES.len() as f64; 4];
        let parts = if kind.is_relative() { &promotion::PARTS[..] } else { &even[..] };
        Check {
            kind,
            boundary,
            purse: Purse::staked(parts, ALL, 0, None),
            belief: Belief::default(),
            requests: 0,
            bad: 0,
        }
    }

    pub fn log_e(&self) -> f64 {
        self.purse.log_e()
    }

    pub fn boundary(&self) -> Boundary {
        self.boundary
    }

    /// The canary's that were taken in.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// On the bad and the good of the canary and of the primary.
    fn bet(&mut self, counts: [(u64, u64); 2], w: f64, seconds: f64) {
        let [(canary_bad, canary_good), (primary_bad, primary_good)] = counts;
        if self.kind.is_relative() {
            if !(w > 0.0 && w < 1.0) {
                return;
            }
            let cohort = Cohort {
                canary_failed: canary_bad,
                canary_ok: canary_good,
                primary_failed: primary_bad,
                primary_ok: primary_good,
                w,
            };
            self.purse.bet(promotion::good_enough(cohort, self.boundary, self.belief.rate()));
            self.belief.observe(primary_bad, primary_bad + primary_good, seconds);
        } else {
            self.purse.bet(promotion::inside(self.boundary.delta, canary_bad, canary_good));
        }
        self.requests += canary_bad + canary_good;
        self.bad += canary_bad;
    }

    /// Nats per canary request, if the canary goes on as it looks; none where it
    /// does not look good enough.
    fn growth(&self, w: f64) -> f64 {
        let is_relative = self.kind.is_relative();
        let primary = if is_relative { self.belief.rate() } else { self.boundary.delta / 5.0 };
        let limit = self.boundary.at(primary);
        let seen = self.bad as f64 + FORESEEN * primary;
        let canary = clamp_rate(seen / (self.requests as f64 + FORESEEN));
        if canary >= limit {
            0.0
        } else if is_relative {
            self.boundary.growth(primary, canary, w) / w
        } else {
            divergence(canary, limit)
        }
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use rand::RngExt;
    use rand::SeedableRng;
    use rand::rngs::Xoshiro256PlusPlus;

    use super::*;
    use crate::judge::evidence::ArmDelta;

    fn stage() -> Stage {
        let analysis = Analysis { relative_latency: None, ..Analysis::default() };
        Stage::new(&analysis, &History::of(10.0, 10_000.0), Moment(0)).expect("failures are compared")
    }

    fn delta(id: u64, canary: ArmDelta) -> Evidence {
        let primary = ArmDelta { dispatched: 900, ok: 900, ..ArmDelta::default() };
        let delta = GenerationDelta { id, w: 0.1, canary, primary, ..GenerationDelta::default() };
        Evidence { generations: vec![delta], ..Evidence::default() }
    }

    fn ended(n: u64) -> ArmDelta {
        ArmDelta { dispatched: n, ok: n, ..ArmDelta::default() }
    }

    fn log_e(stage: &Stage) -> f64 {
        stage.log_e(0.1).expect("there is a check")
    }

    #[test]
    fn cohort_counts_when_it_is_over_and_its_last_request_has_ended() {
        let (mut stage, history) = (stage(), History::default());
        stage.observe(Moment(100), &delta(1, ended(300)), &history);
        stage.observe(Moment(5_000), &Evidence::default(), &history);
        assert_eq!(log_e(&stage), 0.0, "more may begin in it");
        stage.observe(Moment(5_100), &delta(2, ended(1)), &history);
        assert_eq!(log_e(&stage), 0.0, "a worker may not know of the new one yet");
        stage.observe(Moment(5_400), &Evidence::default(), &history);
        assert!(log_e(&stage) > 0.5, "{}", log_e(&stage));
    }

    /// Failures that come late must not be overtaken by the good answers of later
    /// cohorts: with those alone a canary that fails by timeout would look perfect.
    #[test]
    fn good_answers_do_not_overtake_failures_that_take_their_time() {
        let (mut stage, history) = (stage(), History::default());
        let hanging = ArmDelta { dispatched: 100, ok: 90, ..ArmDelta::default() };
        stage.observe(Moment(100), &delta(1, hanging), &history);
        for id in 2..20 {
            stage.observe(Moment(id * 1_000), &delta(id, ended(1_000)), &history);
        }
        assert_eq!(log_e(&stage), 0.0, "nothing is known of the first ten");
        let failures = ArmDelta { failed: 10, ..ArmDelta::default() };
        let late = Evidence {
            generations: vec![GenerationDelta {
                id: 1,
                w: 0.1,
                canary: failures,
                ..GenerationDelta::default()
            }],
            ..Evidence::default()
        };
        stage.observe(Moment(20_000), &late, &history);
        let first = &stage.checks[0];
        assert_eq!((first.bad, first.requests), (10, 100 + 17 * 1_000), "then all of them at once");
    }

    #[test]
    fn what_goes_on_beyond_the_patience_has_not_failed() {
        let (mut stage, history) = (stage(), History::default());
        let streams = ArmDelta { dispatched: 300, ..ArmDelta::default() };
        stage.observe(Moment(100), &delta(1, streams), &history);
        stage.observe(Moment(1_000), &delta(2, ended(1)), &history);
        stage.observe(Moment(60_900), &Evidence::default(), &history);
        assert_eq!(log_e(&stage), 0.0);
        stage.observe(Moment(61_000), &Evidence::default(), &history);
        assert!(log_e(&stage) > 0.5, "{}", log_e(&stage));
    }

    #[test]
    fn requests_from_before_the_stage_do_not_count_and_a_cohort_is_asked_for() {
        let (mut stage, history) = (stage(), History::default());
        stage.begin(Moment(1_000), &history, 7);
        for tick in 11..30 {
            stage.observe(Moment(tick * 100), &delta(7, ended(100)), &history);
        }
        assert!(stage.wants_cohort(Moment(3_000)), "else it would wait for ever");
        assert!(stage.open.is_empty());
    }

    #[test]
    fn restarts_are_few_and_number_of_cohorts_is_a_logarithm() {
        let (mut stage, history) = (stage(), History::default());
        stage.begin(Moment(0), &history, 0);
        let mut asked = 0;
        for tick in 1..36_000 {
            let now = Moment(tick * 100);
            stage.observe(now, &delta(1 + asked, ended(1)), &history);
            if stage.wants_cohort(now) {
                stage.cohort_is_asked(now);
                asked += 1;
            }
        }
        assert!((40..80).contains(&asked), "{asked} cohorts in an hour");
        assert!(log_e(&stage) > 3.0);
        for _ in 0..3 {
            stage.begin_again(Moment(3_600_000), &history, 99);
            assert_eq!(log_e(&stage), 0.0);
        }
        stage.take_in(
            Counts { dispatched: 300, ok: 300, ..Counts::default() },
            Counts { dispatched: 900, ok: 900, ..Counts::default() },
            0.1,
            1.0,
        );
        let before = log_e(&stage);
        stage.begin_again(Moment(3_700_000), &history, 100);
        assert_eq!(log_e(&stage), before, "no fourth attempt for free");
    }

    /// So many users who come fifty times each, half of them to the canary. Of its users
    /// a share `bad` fails with every request, of the primary's one in a hundred. Is the
    /// canary thought good enough?
    fn is_proved(seed: u64, users: usize, bad: f64, sticky: bool) -> bool {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let history = History::of(10_000.0, 1_000_000.0);
        let mut stage = stage();
        stage.begin(Moment(0), &history, 0);
        let users: Vec<(bool, bool)> = (0..users)
            .map(|_| {
                let canary = random.random::<f64>() < 0.5;
                (canary, random.random::<f64>() < if canary { bad } else { 0.01 })
            })
            .collect();
        for visit in 0..50 {
            let mut delta =
                GenerationDelta { id: visit + 1, w: 0.5, fresh: 0.5, ..GenerationDelta::default() };
            for (canary, fails) in &users {
                let arm = if *canary { &mut delta.canary } else { &mut delta.primary };
                arm.dispatched += 1;
                *if *fails { &mut arm.failed } else { &mut arm.ok } += 1;
                arm.failed_units += u64::from(*fails && visit == 0);
            }
            if visit == 0 {
                for arm in [&mut delta.canary, &mut delta.primary] {
                    arm.first = vec![(100, arm.ok), (200, arm.failed)];
                }
            }
            let evidence = Evidence { generations: vec![delta], sticky, ..Evidence::default() };
            stage.observe(Moment(1_000 * (visit + 1)), &evidence, &history);
        }
        stage.promotion(0.5, 1.0) == Promotion::Proved
    }

    /// Requests of a user are no tosses of their own: counted as such they prove a
    /// canary that is beyond the margin good enough, far more often than is allowed.
    #[test]
    fn users_who_come_often_prove_no_more_than_once_each() {
        let beyond = 1.2 * 0.01 + 0.005;
        let proved = |seeds, users, bad, sticky| {
            (0..seeds).filter(|seed| is_proved(*seed, users, bad, sticky)).count()
        };
        let by_user = proved(200, 2_000, beyond, true);
        let by_request = proved(200, 2_000, beyond, false);
        assert!(by_user <= 10, "{by_user} of 200, and one in twenty may");
        assert!(by_request > 25, "{by_request} of 200: else this says nothing");
        let good = proved(50, 20_000, 0.01, true);
        assert!(good > 40, "of users enough it can be had: {good} of 50");
    }
}
