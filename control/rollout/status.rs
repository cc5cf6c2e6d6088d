//! A rollout as people see it.

use serde::Serialize;
use utoipa::ToSchema;

use super::Phase;
use super::Rollout;
use super::phase::Place;
use crate::clock::Moment;
use crate::judge::Judge;
use crate::judge::Verdict;
use crate::judge::panel::View;
use crate::judge::stage::Check;
use crate::judge::stage::Promotion;
use crate::judge::stage::Stage;
use crate::judge::tally::Tally;
use crate::outside::hook::HookType;

/// What people see.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Status {
    pub name: String,
    pub split: String,
    pub primary: String,
    pub canary: String,
    pub phase: Phase,
    /// What is done with the traffic in this place, in plain words.
    pub doing: String,
    /// Index into the spec's steps while running, and how many there are.
    pub step: usize,
    pub steps: usize,
    /// Share of the present step's time that has passed, 0 to 1.
    pub step_progress: f64,
    /// Whose agreement it waits for.
    pub waiting: Vec<HookType>,
    /// It asks whether it may begin: nothing has gone to the canary yet.
    #[serde(skip)]
    pub opening: bool,
    /// The canary's weight that should be in force, in hundredths of a percent.
    pub canary_parts: u32,
    /// Since when in this phase's place: a step, the bake, the end.
    pub since: Moment,
    /// The judge's sentence of now.
    pub sentence: String,
    /// `ln E / ln(1/alpha)` clipped to 0..1.
    pub rollback_meter: f64,
    /// How far it is shown that the canary is good enough for the next step:
    /// `ln E / ln(1/beta)` of the check that is furthest from it, clipped to 0..1.
    /// Null where nothing has to be shown.
    #[schema(required = true)]
    pub promotion_meter: Option<f64>,
    /// Canary requests until that is shown, if things stay as they are, and the
    /// seconds that takes at the present pace.
    #[schema(required = true)]
    pub requests_needed: Option<u64>,
    #[schema(required = true)]
    pub proof_eta_seconds: Option<f64>,
    /// Per check: what has to be shown, and its evidence as odds for the canary.
    pub checks: Vec<CheckStatus>,
    /// Per test: its name, weight, evidence as odds against the canary.
    pub tests: Vec<TestStatus>,
    /// Judged since the rollout began, without what clients broke off.
    pub canary_requests: u64,
    pub canary_failures: u64,
    pub primary_requests: u64,
    pub primary_failures: u64,
    /// Of all these, those that serin has sent by itself (`load`).
    pub load_requests: u64,
    pub load_failures: u64,
    /// Answers of both versions compared since the rollout began, and at how many places
    /// the canary's differ.
    pub answers_compared: u64,
    pub answers_differing: u64,
    pub warnings: Vec<String>,
}

/// The numbers of it that machines watch, without the words.
#[derive(Clone, Debug)]
pub struct Meters {
    pub rollout: String,
    pub phase: Phase,
    pub rollback: f64,
    pub promotion: Option<f64>,
    pub requests_needed: Option<u64>,
    pub tests: Vec<TestStatus>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TestStatus {
    /// relative_failures, relative_latency, mirrored, answers, success or latency.
    pub test: String,
    /// Of the error budget.
    pub share: f64,
    /// Natural logarithm of its evidence: as it decides, and as it would without
    /// the burst guard.
    pub log_e: f64,
    pub log_raw: f64,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CheckStatus {
    /// relative_failures, relative_latency, success or latency.
    pub check: String,
    pub log_e: f64,
    /// The `log_e` at which it is shown.
    pub needed: f64,
    /// The canary's requests that were taken in so far and have all ended; its users
    /// where they keep a version.
    pub requests: u64,
}

/// Logarithms this small read as "none at all"; JSON has no infinity.
const NOTHING: f64 = -700.0;

impl Rollout {
    pub fn status(&self, now: Moment) -> Status {
        let state = &self.state;
        let judge = state.judge.as_ref();
        let tally = judge.map(Judge::tally).cloned().unwrap_or_default();
        let stage = self.stage();
        let outlook = match self.promotion() {
            Promotion::Undecided(outlook) => Some(outlook),
            Promotion::NotAsked | Promotion::Proved => None,
        };
        Status {
            name: self.spec.name.clone(),
            split: self.spec.split.clone(),
            primary: self.spec.primary.clone(),
            canary: self.spec.canary.clone(),
            phase: self.phase(),
            doing: self.doing(now),
            step: self.step_number(),
            steps: self.spec.steps.len(),
            step_progress: self.step_progress(now),
            waiting: self.waiting().to_vec(),
            opening: matches!(state.place, Place::Step(_)) && self.is_opening(),
            canary_parts: self.parts(),
            since: state.since,
            sentence: self.sentence(now),
            rollback_meter: self.rollback_meter(),
            promotion_meter: self.promotion_meter(),
            requests_needed: outlook.and_then(|outlook| outlook.missing),
            proof_eta_seconds: outlook.and_then(|outlook| outlook.eta).map(|eta| eta.as_secs_f64()),
            checks: stage.map(|stage| check_statuses(stage, self.share())).unwrap_or_default(),
            tests: judge.map(test_statuses).unwrap_or_default(),
            canary_requests: tally.canary.requests,
            canary_failures: tally.canary.failures,
            primary_requests: tally.primary.requests,
            primary_failures: tally.primary.failures,
            load_requests: tally.canary.load + tally.primary.load,
            load_failures: tally.canary.load_failures + tally.primary.load_failures,
            answers_compared: state.answers.compared,
            answers_differing: state.answers.differing,
            warnings: self.warnings(),
        }
    }

    /// The numbers among these.
    pub fn meters(&self) -> Meters {
        let requests_needed = match self.promotion() {
            Promotion::Undecided(outlook) => outlook.missing,
            Promotion::NotAsked | Promotion::Proved => None,
        };
        Meters {
            rollout: self.spec.name.clone(),
            phase: self.phase(),
            rollback: self.rollback_meter(),
            promotion: self.promotion_meter(),
            requests_needed,
            tests: self.state.judge.as_ref().map(test_statuses).unwrap_or_default(),
        }
    }

    fn rollback_meter(&self) -> f64 {
        let judge = self.state.judge.as_ref();
        judge.map_or(0.0, |judge| judge.log_e(View::Capped) / judge.needed()).clamp(0.0, 1.0)
    }

    fn promotion_meter(&self) -> Option<f64> {
        let stage = self.stage()?;
        Some((stage.log_e(self.share())? / stage.needed()).clamp(0.0, 1.0))
    }

    /// What is to be shown before the present step passes.
    fn stage(&self) -> Option<&Stage> {
        let judge = self.state.judge.as_ref();
        judge.and_then(Judge::stage).filter(|_| matches!(self.state.place, Place::Step(_)))
    }

    /// Index of the present step; beyond the last one once promoted.
    pub fn step_number(&self) -> usize {
        match self.state.place {
            Place::Step(at) => at,
            Place::Bake | Place::Handover | Place::Return | Place::Succeeded => self.spec.steps.len(),
            Place::Idle | Place::Queued | Place::RolledBack | Place::Aborted => 0,
        }
    }

    fn step_progress(&self, now: Moment) -> f64 {
        let Some(lasts) = self.lasts() else {
            return if self.state.place == Place::Succeeded { 1.0 } else { 0.0 };
        };
        let runs = self.state.guard.is_none() && !self.state.paused;
        let since = if runs { now.since(self.state.at).as_millis() as u64 } else { 0 };
        let passed = (self.state.elapsed_ms + since) as f64;
        if lasts.is_zero() { 1.0 } else { (passed / lasts.as_millis() as f64).min(1.0) }
    }

    fn doing(&self, now: Moment) -> String {
        let state = &self.state;
        match state.place {
            Place::Idle => "nothing yet".to_owned(),
            Place::Queued => self.waits_for(now),
            Place::Step(_) => self.describe(),
            Place::Bake => format!("all traffic to the canary, {}", self.watches()),
            Place::Handover => "all traffic to the canary until the primary has its version".to_owned(),
            Place::Return => self.returned(),
            Place::Succeeded if state.old_kept && !self.spec.keep_old.is_zero() => {
                let left = self.spec.keep_old.saturating_sub(now.since(state.since)).as_secs();
                format!("the old version is kept for another {left} s; `rollback` brings it back at once")
            }
            Place::Succeeded | Place::RolledBack | Place::Aborted => "nothing more".to_owned(),
        }
    }

    fn sentence(&self, now: Moment) -> String {
        let state = &self.state;
        let Some(judge) = state.judge.as_ref().filter(|_| state.place.is_active()) else {
            return match state.place {
                Place::Queued => format!("queued: {}", self.waits_for(now)),
                Place::Handover => self.awaited(),
                Place::Step(_) if self.is_opening() => match self.waits_for_words() {
                    Some(waits) => waits,
                    None => self.waits_for(now),
                },
                Place::Step(_) if self.spec.skip_analysis => "not judged: analysis is skipped".to_owned(),
                Place::Step(_) if state.judge.is_none() => {
                    format!("not judged before step {}", self.spec.judged_from + 1)
                }
                Place::Bake => "not judged: analysis was skipped".to_owned(),
                Place::Idle => format!("idle: all traffic goes to {}", self.spec.primary),
                _ => state.last_words.clone(),
            };
        };
        let mut sentence = match state.place {
            Place::Return => format!("{}; nothing against it", self.returned()),
            _ => self.explain(),
        };
        if state.frozen {
            sentence.push_str("; frozen: nothing moves");
        }
        if !self.is_open(now) && state.place != Place::Return {
            sentence.push_str(&format!("; {}", self.waits_for(now)));
        }
        if let Some(waits) = self.waits_for_words() {
            sentence.push_str(&format!("; {waits}"));
        }
        match state.verdict {
            Verdict::Suspend => {
                let (clean, needed) = judge.clean_probes();
                sentence.push_str(&format!("; {clean} of {needed} clean answers"));
            }
            Verdict::Continue => {
                let says = if self.is_judged_by_checks() { None } else { self.prospect(judge) };
                if let Some(says) = says {
                    sentence.push_str(&format!("; {says}"));
                }
                if self.missing() > 0 {
                    let missing = self.missing();
                    sentence
                        .push_str(&format!("; {missing} more canary answers needed before this can pass"));
                }
            }
            Verdict::Rollback | Verdict::Hold(_) => {}
        }
        if let Some(says) = self.compared() {
            sentence.push_str(&format!("; {says}"));
        }
        if let Some(says) = load_of(judge.tally()) {
            sentence.push_str(&format!("; {says}"));
        }
        sentence
    }

    /// What is to be expected.
    fn prospect(&self, judge: &Judge) -> Option<String> {
        match self.promotion() {
            Promotion::Undecided(outlook) => Some(self.explain_outlook(&outlook)),
            Promotion::Proved => Some("good enough for the next step".to_owned()),
            Promotion::NotAsked => judge.forecast(self.share(), self.pace(), &self.state.history),
        }
    }

    fn warnings(&self) -> Vec<String> {
        let judge = self.state.judge.as_ref();
        let mut warnings = judge.map(|judge| judge.warnings().to_vec()).unwrap_or_default();
        if self.state.sticky {
            warnings.push(
                "requests are pinned to users: a user counts once, by the first failure since the rollout began and \
                 by the first answer since the weight rose, so that bounds hold per user"
                    .to_owned(),
            );
        }
        let a = &self.spec.analysis;
        if a.checks.is_none()
            && a.relative_failures.is_none()
            && a.relative_latency.is_none()
            && a.success.is_none()
            && a.latency.is_none()
        {
            warnings.push("no test is configured: nothing can roll this rollout back".to_owned());
        }
        warnings
    }
}

/// How much of what was judged serin has sent by itself.
fn load_of(tally: &Tally) -> Option<String> {
    let load = tally.canary.load + tally.primary.load;
    let all = tally.canary.requests + tally.primary.requests;
    // Requests under way may count in one of the two alone.
    let all = all.max(load);
    (load > 0).then(|| format!("{load} of the {all} requests judged are load of serin's own"))
}

fn check_statuses(stage: &Stage, share: f64) -> Vec<CheckStatus> {
    let status = |check: &Check| CheckStatus {
        check: check.kind.name().to_owned(),
        log_e: check.log_e().max(NOTHING),
        needed: stage.needed(),
        requests: check.requests(),
    };
    stage.asked_at(share).map(status).collect()
}

fn test_statuses(judge: &Judge) -> Vec<TestStatus> {
    let status = |seat: &crate::judge::panel::Seat| TestStatus {
        test: seat.name(),
        share: seat.share,
        log_e: seat.log_e(View::Capped).max(NOTHING),
        log_raw: seat.log_e(View::Raw).max(NOTHING),
    };
    judge.tests().iter().map(status).collect()
}
