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

use serin_proxy::histogram::BUCKETS;
use serin_proxy::histogram::lower_us;

use super::analysis::Analysis;
use super::analysis::Slack;
pub use super::cohort::Counts;
use super::cohort::Open;
use super::evidence::Evidence;
use super::evidence::GenerationDelta;
use super::evidence::Pairs;
use super::evidence::Per;
use super::history::Belief;
use super::history::History;
use super::logs::clamp_rate;
use super::logs::divergence;
use super::mirrored::Copies;
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
    /// Copies of the primary's requests go to the canary here, and those under way.
    #[serde(default)]
    mirrors: bool,
    #[serde(default)]
    copies: Copies,
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
    /// The last look.
    #[serde(default)]
    seen: Moment,
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

/// What a check is shown by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    Requests,
    /// Who are new to the canary, where users keep a version.
    Users,
    /// Of the primary's requests.
    Copies,
}

/// What is missing, of the check that needs the most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outlook {
    pub kind: Kind,
    pub boundary: Boundary,
    /// What is counted, and how many of the canary's come in a second.
    pub counted: Counted,
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
            check(Kind::Mirrored, Boundary { rho: 0.0, delta: asked.margin });
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
            mirrors: false,
            copies: Copies::default(),
            open: VecDeque::new(),
            newest: 0,
            is_behind: false,
            is_lost: false,
            restarts: 0,
            began: now,
            asked: now,
            at: now,
            seen: now,
        };
        stage.begin(now, history, 0, false);
        Some(stage)
    }

    /// Another weight: nothing has been shown of it yet. `newest` is the newest
    /// generation from before.
    pub fn begin(&mut self, now: Moment, history: &History, newest: u64, mirrors: bool) {
        (self.restarts, self.mirrors) = (0, mirrors);
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
        (self.began, self.asked, self.at, self.seen) = (now, now, now, now);
        self.newest = newest;
        self.is_behind = false;
        self.open.clear();
        self.copies = Copies::default();
        self.hundredth = None;
        self.look_for_slowest(history);
    }

    /// After a restart generations may be numbered anew and what was under way is
    /// unknown: goes on with what begins from now on.
    pub fn resume(&mut self, now: Moment) {
        let gap = now.since(self.at);
        for moment in [&mut self.began, &mut self.asked, &mut self.at, &mut self.seen] {
            *moment = moment.after(gap);
        }
        self.open.clear();
        self.copies = Copies::default();
        self.is_lost = true;
    }

    /// Before the panel sees it: what is believed may not know of it.
    pub fn observe(&mut self, now: Moment, evidence: &Evidence, history: &History) {
        if self.is_lost && !evidence.generations.is_empty() {
            self.newest = evidence.generations.iter().map(|delta| delta.id).max().unwrap_or(0);
            self.is_lost = false;
        }
        self.look_for_slowest(history);
        self.seen = now;
        if !evidence.generations.is_empty() {
            self.per = evidence.per();
        }
        // Where the canary had no part there is nothing to show. A trial's generation
        // comes twice: what the trial's rules took, and the rest.
        let per = self.per;
        for delta in evidence.generations.iter().filter(|delta| delta.share(per) > 0.0) {
            self.count(now, delta);
        }
        if self.mirrors {
            self.count_copies(now, evidence.pairs);
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
        for check in self.checks.iter_mut().filter(|check| check.kind != Kind::Mirrored) {
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
        self.checks.iter().filter(move |check| match check.kind {
            Kind::Mirrored => self.mirrors,
            kind => is_beside || (!kind.leans_on_coin() && w > 0.0),
        })
    }

    /// The age from which on an answer of the canary's is among the slowest.
    pub fn reveal_us(&self) -> Option<u64> {
        self.hundredth.map(|edges| lower_us(edges.canary.min(BUCKETS - 1)))
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

    fn count_copies(&mut self, now: Moment, pairs: Pairs) {
        let (bad, good) = self.copies.take(now, pairs, self.patience);
        for check in self.checks.iter_mut().filter(|check| check.kind == Kind::Mirrored) {
            check.bet_inside(bad, good);
        }
    }

    fn outlook(&self, check: &Check, w: f64, pace: f64) -> Outlook {
        let missing = self.needed() - check.log_e();
        // An answer's age may be told before it is older than the objective's, so of that requests count.
        let counted = match check.kind {
            Kind::Mirrored => Counted::Copies,
            Kind::Latency => Counted::Requests,
            _ if self.per == Per::User => Counted::Users,
            _ => Counted::Requests,
        };
        let of_open = |count: fn(&Open) -> u64| self.open.iter().map(count).sum();
        let (w, pace, waiting): (f64, f64, u64) = match counted {
            Counted::Requests => (w, pace, of_open(|cohort| cohort.canary.dispatched)),
            Counted::Users => (
                self.fresh_share(w),
                self.pace_of(check, of_open(|cohort| cohort.canary.users)),
                of_open(|cohort| cohort.canary.users),
            ),
            Counted::Copies => (w, self.pace_of(check, self.copies.waiting()), self.copies.waiting()),
        };
        let growth = check.growth(w);
        let is_blind = check.kind == Kind::RelativeLatency && self.hundredth.is_none();
        // What is under way will count.
        let missing =
            (growth > 0.0 && !is_blind).then(|| ((missing / growth).ceil() as u64).saturating_sub(waiting));
        let delay = if counted == Counted::Copies { Copies::delay(self.patience) } else { Duration::ZERO };
        let eta = missing.filter(|_| pace > 0.0).map(|missing| seconds(missing as f64 / pace) + delay);
        Outlook { kind: check.kind, boundary: check.boundary, counted, pace, missing, eta }
    }

    /// Of users who are tossed for now.
    fn fresh_share(&self, otherwise: f64) -> f64 {
        self.open.back().map_or(otherwise, |cohort| cohort.w)
    }

    /// How many have come in a second, with those that wait. New users grow fewer, so
    /// what follows from their pace is the least.
    fn pace_of(&self, check: &Check, waiting: u64) -> f64 {
        let passed = self.seen.since(self.began).as_secs_f64();
        if passed > 0.0 { (check.requests + waiting) as f64 / passed } else { 0.0 }
    }

    /// Users have to be told apart for what is to be shown.
    pub fn counts_users(&self) -> bool {
        self.per == Per::User
    }
}

impl Check {
    fn new(kind: Kind, boundary: Boundary) -> Check {
        let even = [1.0 / promotion::OBJECTIVE_SHARES.len() as f64; 4];
        let parts = if kind.leans_on_coin() { &promotion::PARTS[..] } else { &even[..] };
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
        if !self.kind.leans_on_coin() {
            return self.bet_inside(canary_bad, canary_good);
        }
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
        self.count(canary_bad, canary_good);
    }

    /// On the canary's alone.
    fn bet_inside(&mut self, bad: u64, good: u64) {
        self.purse.bet(promotion::inside(self.boundary.delta, bad, good));
        self.count(bad, good);
    }

    fn count(&mut self, bad: u64, good: u64) {
        self.requests += bad + good;
        self.bad += bad;
    }

    /// Nats per canary request, if the canary goes on as it looks; none where it
    /// does not look good enough.
    fn growth(&self, w: f64) -> f64 {
        let is_relative = self.kind.leans_on_coin();
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
mod tests;
