//! The judge: is the canary worse than the primary, or than what was promised?
//! Pure. It is told what came in and when, and answers with a verdict and one
//! sentence; the same evidence always gives the same verdict, to the bit.
//!
//! It knows no weights, steps or commands. A verdict is about the canary; what
//! follows from it is the rollout engine's to say.

pub mod aca;
pub mod alone;
pub mod alternatives;
pub mod analysis;
pub mod checks;
pub mod classic;
pub mod cohort;
pub mod coin;
pub mod condition;
pub mod evidence;
pub mod failures;
pub mod history;
pub mod interval;
pub mod logs;
pub mod mann_whitney;
pub mod mirrored;
pub mod objective;
pub mod panel;
pub mod projection;
pub mod promotion;
pub mod purse;
pub mod ranks;
pub mod samples;
pub mod sentence;
pub mod slowness;
pub mod stage;
pub mod stratum;
pub mod tally;
#[cfg(test)]
mod users;

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::clock::Moment;
use alone::Alone;
use alone::Suspicion;
use analysis::Analysis;
use coin::Coin;
use coin::Tosses;
use evidence::Evidence;
use evidence::GenerationDelta;
use history::History;
use panel::Kind;
use panel::Panel;
use panel::Seat;
use panel::View;
use serin_proxy::histogram::BUCKETS;
use serin_proxy::histogram::lower_us;
use slowness::Slowness;
use stage::Promotion;
use stage::Stage;
use tally::Tally;

/// Odds at which the relative tests say that the canary, and not something that
/// both versions share, is to blame.
const BLAME: f64 = 20.0;

/// So often a canary with no primary beside it is suspected, compared, and let go on.
const SUSPICIONS: u32 = 3;

/// Within one window no test may win more than this factor.
const CAP: f64 = 10.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The canary is worse. Certain to the error budget.
    Rollback,
    /// Something is wrong and it is not known to be the canary.
    Hold(Cause),
    /// It looks bad in this window alone: cut exposure, and ask again.
    Suspend,
    /// Nothing is certain. Not a success: only no reason to stop.
    Continue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Both versions are out of the objective.
    Shared,
    /// Routing does not follow the weights.
    Coin,
}

/// Judges one rollout from its start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judge {
    alpha: f64,
    probes: u64,
    window_ms: u64,
    top_up_ms: u64,
    panel: Panel,
    coin: Coin,
    coin_trusted: bool,
    tally: Tally,
    /// Suspended, and how many canary answers in a row were clean since.
    suspended: bool,
    clean: u64,
    /// The newest generation seen, and the one that was newest at suspension.
    newest: u64,
    suspect: u64,
    /// The newest traffic has no primary beside it, and how the canary does meanwhile.
    alone: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    watch: Option<Alone>,
    /// What it was suspected of then, and how often it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    suspicion: Option<Suspicion>,
    #[serde(default)]
    suspicions: u32,
    #[serde(default)]
    unwatched: bool,
    /// Without its cap the present window would have been enough, or the one before.
    troubled: [bool; 2],
    at: Moment,
    window_end: Moment,
    next_top_up: Moment,
    windows: u64,
    /// What is to be shown before a step passes, where anything is.
    #[serde(default)]
    stage: Option<Stage>,
    warnings: Vec<String>,
}

impl Judge {
    /// Objectives that the primary already breaks are left out, and said so.
    pub fn new(analysis: &Analysis, planned: Duration, history: &History, now: Moment) -> Judge {
        let mut analysis = analysis.clone();
        let warnings = drop_broken(&mut analysis, history);
        let window_ms = millis(analysis.window);
        let (top_up_ms, top_ups) = pay_ins(millis(planned), window_ms);
        let cap = (window_ms > 0).then(|| CAP.ln());
        Judge {
            alpha: analysis.alpha,
            probes: u64::from(analysis.probes),
            window_ms,
            top_up_ms,
            panel: Panel::new(&analysis, top_ups, cap),
            coin: Coin::default(),
            coin_trusted: true,
            tally: Tally::default(),
            suspended: false,
            clean: 0,
            newest: 0,
            suspect: 0,
            alone: false,
            watch: None,
            suspicion: None,
            suspicions: 0,
            unwatched: false,
            troubled: [false; 2],
            at: now,
            window_end: Moment(now.0.saturating_add(window_ms)),
            next_top_up: Moment(now.0.saturating_add(top_up_ms)),
            windows: 0,
            stage: Stage::new(&analysis, history, now),
            warnings,
        }
    }

    /// After a restart: the time in between was not watched and counts for
    /// nothing, and generations are numbered anew.
    pub fn resume(&mut self, now: Moment) {
        let gap = now.since(self.at);
        self.window_end = self.window_end.after(gap);
        self.next_top_up = self.next_top_up.after(gap);
        self.at = now;
        self.newest = 0;
        self.suspect = 0;
        self.coin = Coin::default();
        if let Some(stage) = &mut self.stage {
            stage.resume(now);
        }
    }

    /// Takes in what came since the last look. `history` does not know of it yet.
    pub fn observe(&mut self, now: Moment, evidence: &Evidence, history: &History) {
        self.tally.mark(self.reveal_us());
        self.end_windows(history);
        self.at = self.at.max(now);
        if let Some(stage) = &mut self.stage {
            stage.observe(self.at, evidence, history);
        }
        self.panel.tick(evidence, history);
        let had_traffic = self.tally.canary.requests > 0;
        self.tally.observe(evidence);
        if self.coin_trusted && !evidence.sticky {
            self.coin.observe(evidence);
        }
        self.count_probes(evidence);
        self.watch_company(evidence, had_traffic, history);
        self.troubled[0] |= self.log_e(View::Raw) >= self.needed();
    }

    pub fn decide(&mut self) -> Verdict {
        if self.distrusted().is_some() {
            return Verdict::Hold(Cause::Coin);
        }
        if self.log_e(View::Capped) >= self.needed() {
            return if self.blames(View::Capped) { Verdict::Rollback } else { Verdict::Hold(Cause::Shared) };
        }
        if self.suspended {
            if self.clean < self.probes {
                return Verdict::Suspend;
            }
            // What made the suspicion has been answered; it must not count twice.
            self.suspended = false;
            self.suspicion = None;
            self.panel.close_window();
        }
        if self.log_e(View::Raw) >= self.needed() && self.blames(View::Raw) {
            self.suspect();
            return Verdict::Suspend;
        }
        self.suspicion = self.watch.as_ref().and_then(|watch| watch.suspects(self.needed()));
        match self.suspicion {
            None => Verdict::Continue,
            // Beside a primary it has been no worse, time and again: somebody has to look.
            Some(_) if self.suspicions >= SUSPICIONS => Verdict::Hold(Cause::Shared),
            Some(_) => {
                self.suspicions += 1;
                self.suspect();
                Verdict::Suspend
            }
        }
    }

    /// It was suspicious when the process was killed, whatever it knows now.
    pub fn suspect(&mut self) {
        self.suspended = true;
        self.clean = 0;
        self.suspect = self.newest;
    }

    /// The suspicion could not lower the canary's weight any further, so the
    /// traffic that answers it is of the generation that raised it.
    pub fn probe_same_generation(&mut self) {
        self.suspect = 0;
    }

    /// Ends the present burst window. Time does so by itself.
    pub fn close_window(&mut self) {
        self.panel.close_window();
        self.windows += 1;
        self.troubled = [false, self.troubled[0]];
    }

    /// Something was badly wrong within the present window or the last, whoever
    /// is to blame: no time to give the canary more.
    pub fn is_troubled(&self) -> bool {
        self.troubled.contains(&true)
    }

    /// Pays the next part of the cash in. Time does so by itself.
    pub fn top_up(&mut self, history: &History) {
        self.panel.top_up(history);
    }

    /// Goes on without what cannot be told apart: after a shared cause, without
    /// the objectives; after unfair tosses, without the relative tests.
    pub fn set_aside(&mut self, cause: Cause) {
        match cause {
            Cause::Shared => {
                self.drop(|kind| !kind.is_relative());
                (self.watch, self.suspicion, self.unwatched) = (None, None, true);
            }
            Cause::Coin => {
                self.drop(Kind::leans_on_coin);
                self.coin = Coin::default();
                self.coin_trusted = false;
            }
        }
        let what = if cause == Cause::Shared { "objectives" } else { "comparisons with the primary" };
        self.warnings.push(format!("{what} are set aside for the rest of this rollout"));
    }

    fn drop(&mut self, out: impl Fn(Kind) -> bool) {
        if let Some(stage) = &mut self.stage {
            stage.drop(&out);
        }
        self.panel.drop(out);
    }

    /// The canary has another weight from now on, and copies or none; nothing is shown
    /// of it yet.
    pub fn begin_stage(&mut self, now: Moment, history: &History, mirrors: bool) {
        if let Some(stage) = &mut self.stage {
            stage.begin(now, history, self.newest, mirrors);
        }
    }

    /// The same weight goes on after a pause or a hold: what was shown before it is
    /// forgotten, for good and ill, at most three times in a stage.
    pub fn begin_stage_again(&mut self, now: Moment, history: &History) {
        if let Some(stage) = &mut self.stage {
            stage.begin_again(now, history, self.newest);
        }
    }

    /// Is it shown that the canary is good enough, at a share `w` of the traffic and
    /// while the canary gets so many requests a second?
    pub fn promotion(&self, w: f64, pace: f64) -> Promotion {
        self.stage.as_ref().map_or(Promotion::NotAsked, |stage| stage.promotion(w, pace))
    }

    /// Requests that have all ended, counted by somebody else.
    pub fn take_in(&mut self, canary: stage::Counts, primary: stage::Counts, w: f64, seconds: f64) {
        if let Some(stage) = &mut self.stage {
            stage.take_in(canary, primary, w, seconds);
        }
    }

    pub fn stage(&self) -> Option<&Stage> {
        self.stage.as_ref()
    }

    /// Proof needs requests that have all ended: should new ones be of a new
    /// generation, at the same weights? To be told when that is so.
    pub fn wants_cohort(&self, now: Moment) -> bool {
        self.stage.as_ref().is_some_and(|stage| stage.wants_cohort(now))
    }

    pub fn cohort_is_asked(&mut self, now: Moment) {
        if let Some(stage) = &mut self.stage {
            stage.cohort_is_asked(now);
        }
    }

    /// `ln E` of the whole panel.
    pub fn log_e(&self, view: View) -> f64 {
        self.panel.log_e(view)
    }

    pub fn log_relative(&self, view: View) -> f64 {
        self.panel.log_relative(view)
    }

    /// The `ln E` at which the canary is rolled back.
    pub fn needed(&self) -> f64 {
        -self.alpha.ln()
    }

    pub fn tests(&self) -> &[Seat] {
        self.panel.seats()
    }

    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Burst windows that have ended; a good moment for a checkpoint.
    pub fn windows(&self) -> u64 {
        self.windows
    }

    pub fn clean_probes(&self) -> (u64, u64) {
        (self.clean.min(self.probes), self.probes)
    }

    pub fn distrusted(&self) -> Option<Tosses> {
        self.coin.unfair()
    }

    /// The age at which a request under way is as slow as an answer can be, whoever asks:
    /// while the cuts of one test move with the primary, another holds to where they were.
    pub fn reveal_us(&self) -> Option<u64> {
        // Proof counts users, who are told apart while there is a mark: one that is no answer's.
        let counts_users = self.stage.as_ref().is_some_and(Stage::counts_users);
        let Some(of_slowness) = self.panel.slowness().and_then(Slowness::reveal_us) else {
            return counts_users.then(|| lower_us(BUCKETS - 1));
        };
        let of_stage = self.stage.as_ref().and_then(Stage::reveal_us);
        let of_watch = self.watch.as_ref().and_then(Alone::reveal_us);
        [of_stage, of_watch].into_iter().flatten().chain([of_slowness]).max()
    }

    /// Is it the canary, and not something that both versions share? Where
    /// nothing can be compared, the objective alone decides.
    fn blames(&self, view: View) -> bool {
        let nothing_shared = !self.panel.has(|kind| !kind.is_relative());
        let nothing_beside = self.alone || self.tally.primary.requests == 0;
        let nothing_to_compare = !self.panel.has(Kind::is_relative);
        nothing_shared || nothing_beside || nothing_to_compare || self.panel.log_relative(view) >= BLAME.ln()
    }

    /// Is there a primary beside the newest traffic? When it leaves, what the
    /// objectives have against the canary may stem from causes that both shared,
    /// and nothing will tell them apart any more: it is forgiven. From then on the
    /// canary is held to what the primary was like.
    fn watch_company(&mut self, evidence: &Evidence, had_traffic: bool, history: &History) {
        let newest = evidence.generations.iter().map(|delta| delta.id).max();
        let newest = newest.unwrap_or(0).max(self.newest);
        // Requests that the canary had no part in do not tell.
        let shared = |delta: &&GenerationDelta| {
            delta.id == newest && delta.w > 0.0 && delta.canary.dispatched + delta.primary.dispatched > 0
        };
        let mut shared = evidence.generations.iter().filter(shared).peekable();
        if shared.peek().is_some() {
            let was_alone = std::mem::replace(&mut self.alone, shared.all(|delta| delta.w >= 1.0));
            if self.alone && !was_alone && had_traffic {
                self.panel.forgive_objectives();
            }
            if self.alone != was_alone {
                let slack = self.panel.slowness().map(Slowness::slack);
                let watch = || Alone::new(self.panel.failures().is_some(), slack, history);
                self.watch = (self.alone && !self.unwatched).then(watch);
            }
        }
        if let Some(watch) = &mut self.watch {
            watch.observe(evidence);
        }
        self.newest = newest;
    }

    /// Windows hold whole ticks: a boundary that the last tick reached ends the
    /// window before this one.
    fn end_windows(&mut self, history: &History) {
        if self.window_ms > 0 && self.at >= self.window_end {
            self.close_window();
            let passed = self.at.since(self.window_end).as_millis() as u64 / self.window_ms + 1;
            self.window_end = Moment(self.window_end.0 + passed * self.window_ms);
        }
        if self.at >= self.next_top_up {
            self.top_up(history);
            let passed = self.at.since(self.next_top_up).as_millis() as u64 / self.top_up_ms + 1;
            self.next_top_up = Moment(self.next_top_up.0 + passed * self.top_up_ms);
        }
    }

    /// A clean probe is a good canary answer that was asked after the suspension
    /// and is not among the slowest; a bad one starts the count again.
    fn count_probes(&mut self, evidence: &Evidence) {
        if !self.suspended {
            return;
        }
        let slowness = self.panel.slowness();
        let watches_slow = self.panel.has(|kind| kind == Kind::Latency);
        let mut bad = false;
        let mut clean = 0;
        for delta in &evidence.generations {
            let canary = &delta.canary;
            let asked_since = delta.id > self.suspect;
            bad |= canary.failed > 0 || (watches_slow && canary.slow > 0);
            if asked_since {
                bad |= slowness.is_some_and(|test| test.slowest(canary) > 0);
                clean += canary.ok;
            }
        }
        // Where no weight could be lowered, copies answer it too.
        if self.suspect == 0 {
            bad |= evidence.pairs.canary_only > 0;
            bad |= evidence.answers.as_ref().is_some_and(|answers| answers.canary_only > 0);
            clean += evidence.pairs.neither + evidence.pairs.primary_only;
        }
        self.clean = if bad { 0 } else { self.clean + clean };
    }
}

/// How often cash is paid in, and how many times while the plan lasts: sixty
/// times, but not more often than each minute, and at whole windows.
fn pay_ins(planned_ms: u64, window_ms: u64) -> (u64, u32) {
    const COUNT: u64 = 60;
    const LEAST_MS: u64 = 60_000;
    let unit = window_ms.max(1);
    let every = (planned_ms / COUNT).max(LEAST_MS).div_ceil(unit).saturating_mul(unit);
    let count = if planned_ms == 0 { COUNT } else { planned_ms.div_ceil(every) };
    (every, u32::try_from(count).unwrap_or(u32::MAX))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// An objective that the primary breaks would roll every release back.
fn drop_broken(analysis: &mut Analysis, history: &History) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(asked) = analysis.success
        && history.fails_more_than(1.0 - asked.min)
    {
        analysis.success = None;
        let percent = 100.0 * asked.min;
        warnings.push(format!(
            "the primary itself is below the objective of {percent} % success; it is left out of this rollout"
        ));
    }
    if let Some(asked) = analysis.latency
        && history.slow_more_than(1.0 - asked.quantile)
    {
        analysis.latency = None;
        let (percentile, ms) = (100.0 * asked.quantile, asked.threshold.as_millis());
        warnings.push(format!(
            "the primary itself breaks the objective p{percentile} <= {ms} ms; it is left out of this rollout"
        ));
    }
    warnings
}
