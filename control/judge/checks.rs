//! The judges for compatibility behind one seam: told what came in and when, they
//! answer whether the rollout goes on, waits, or goes back, as the tool would that
//! they stand for.
//!
//! They know no weights and no steps, only that a step was reached and how long it
//! lasts. Time is what was watched: while nobody looked, nothing was due.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use super::aca;
use super::classic::measurements;
use super::classic::measurements::ERROR_RETRY;
use super::classic::strikes;
use super::classic::strikes::Strikes;
use super::evidence::Evidence;
use super::mann_whitney;
use super::mann_whitney::Strategy;
use super::samples::Arm;
use super::samples::Measure;
use super::samples::Samples;
use crate::clock::Moment;

/// What is asked of a rollout that is judged as another tool would.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    pub rule: Rule,
    pub scope: Scope,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    Strikes(strikes::Terms),
    Measurements {
        metrics: Vec<measurements::Metric>,
    },
    /// `lifetime` and `duration`: the time of the step or rollout where none.
    Scores {
        lifetime: Option<Duration>,
        terms: aca::Terms,
    },
    Ranks {
        duration: Option<Duration>,
        metrics: Vec<mann_whitney::Metric>,
    },
}

/// What one run of the analysis is about. Strikes are always of the rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Beside the steps, from the start to the promotion.
    Rollout,
    /// A new one at each step, which passes when it has passed.
    Step,
}

/// What the tool would do now.
#[derive(Clone, Debug, PartialEq)]
pub enum Advice {
    /// Nothing: time goes on.
    Wait,
    /// The present step has passed.
    Advance,
    /// The present step has not passed, and why.
    Hold(String),
    /// Wait for an operator's word, at the present weight.
    Pause(String),
    RollBack(String),
}

/// One metric as people see it.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckStatus {
    pub name: String,
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checks {
    terms: Terms,
    run: Run,
    samples: Samples,
    at: Moment,
    /// Watched since the run began.
    clock_ms: u64,
    /// Time of the step, or of the whole rollout.
    lasts: Duration,
    /// An advice that was given and holds until a new run begins.
    concluded: bool,
    /// The present step has had its passed checks.
    advanced: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Run {
    Strikes(Strikes),
    Measurements(measurements::Run),
    Scores(Box<aca::Stage>),
    Ranks(mann_whitney::Stage),
}

impl Checks {
    /// For a rollout planned to last so long. `before` is what judged the release
    /// before this one.
    pub fn new(terms: &Terms, planned: Duration, before: Option<&Checks>, now: Moment) -> Checks {
        let before = before.map(|before| &before.run);
        Checks {
            run: terms.run(planned, before),
            samples: terms.samples(),
            terms: terms.clone(),
            at: now,
            clock_ms: 0,
            lasts: planned,
            concluded: false,
            advanced: false,
        }
    }

    /// The time until now was not watched: after a restart, or while nothing moves.
    pub fn resume(&mut self, now: Moment) {
        self.at = now;
    }

    /// The rollout has come to a step that lasts so long.
    pub fn arrive(&mut self, hold: Duration) {
        self.advanced = false;
        if let Run::Strikes(strikes) = &mut self.run {
            strikes.arrive(hold);
        } else if self.terms.scope == Scope::Step {
            self.lasts = hold;
            self.begin();
        }
    }

    /// All traffic is the canary's, and it is watched over for so long.
    pub fn watch(&mut self, bake: Duration) {
        self.advanced = false;
        if let Run::Strikes(strikes) = &mut self.run {
            strikes.arrive(bake);
        } else {
            self.lasts = bake;
            self.begin();
        }
    }

    /// An operator has ended a pause that was advised: the analysis begins anew.
    pub fn resumed(&mut self) {
        if self.concluded {
            self.begin();
        }
    }

    fn begin(&mut self) {
        self.run = self.terms.run(self.lasts, Some(&self.run));
        self.samples = self.terms.samples();
        self.clock_ms = 0;
        self.concluded = false;
    }

    /// Takes in what came since the last look and answers what follows.
    pub fn look(&mut self, now: Moment, evidence: &Evidence) -> Advice {
        self.clock_ms += millis(now.since(self.at));
        self.at = self.at.max(now);
        self.samples.observe(self.clock_ms, self.at, evidence);
        if self.concluded {
            return Advice::Wait;
        }
        let advice = self.ask(now);
        self.concluded = matches!(advice, Advice::Pause(_) | Advice::RollBack(_));
        // A check that fails keeps the step from passing, whatever passed before it.
        self.advanced = match advice {
            Advice::Advance => true,
            Advice::Hold(_) => false,
            Advice::Wait | Advice::Pause(_) | Advice::RollBack(_) => self.advanced,
        };
        advice
    }

    fn ask(&mut self, now: Moment) -> Advice {
        let failed = |result: Result<(), String>| result.map_or_else(Advice::RollBack, |()| Advice::Wait);
        match &mut self.run {
            Run::Strikes(strikes) => strikes.look(self.clock_ms, &self.samples),
            Run::Measurements(run) => match run.pass(self.clock_ms, now, &self.samples) {
                measurements::Phase::Failed | measurements::Phase::Error => {
                    Advice::RollBack(run.message().to_owned())
                }
                measurements::Phase::Inconclusive => Advice::Pause(run.message().to_owned()),
                _ => Advice::Wait,
            },
            Run::Scores(stage) => failed(stage.look(self.clock_ms, &self.samples)),
            Run::Ranks(stage) => failed(stage.look(self.clock_ms, &self.samples)),
        }
    }

    /// A step passes by its advice alone, and not by time.
    pub fn paces(&self) -> bool {
        matches!(self.run, Run::Strikes(_))
    }

    /// Whether the present step may pass, as far as the analysis goes.
    pub fn lets_step_pass(&self) -> bool {
        match &self.run {
            Run::Strikes(_) => self.advanced,
            _ => self.terms.scope == Scope::Rollout || self.has_passed(),
        }
    }

    /// Whether the canary may get all traffic.
    pub fn lets_promote(&self) -> bool {
        match &self.run {
            // They end with the rollout, whatever they have seen.
            Run::Measurements(_) => self.lets_step_pass(),
            Run::Strikes(_) => true,
            Run::Scores(_) | Run::Ranks(_) => self.has_passed(),
        }
    }

    fn has_passed(&self) -> bool {
        match &self.run {
            Run::Strikes(_) => self.advanced,
            Run::Measurements(run) => run.phase() == measurements::Phase::Successful,
            Run::Scores(stage) => stage.is_over() && !self.concluded,
            Run::Ranks(stage) => stage.is_over() && !self.concluded,
        }
    }

    /// Whether it can go on where the primary has no traffic to compare with.
    pub fn can_watch(&self) -> bool {
        self.terms.can_watch()
    }

    /// In a line, what was found so far.
    pub fn sentence(&self) -> String {
        match &self.run {
            Run::Strikes(strikes) => {
                let (failed, threshold) = strikes.failed();
                format!("{failed} of {threshold} failed checks; {}", strikes.last())
            }
            Run::Measurements(run) => match run.message() {
                "" => format!("analysis {}: {}", run.phase().name(), join(&self.statuses())),
                message => message.to_owned(),
            },
            Run::Scores(stage) => {
                let (judged, all) = stage.judged();
                let last = stage.last().map_or("no score yet".to_owned(), |last| {
                    let grade = match last.score.grade {
                        aca::score::Grade::Pass => "pass",
                        aca::score::Grade::Marginal => "marginal",
                        aca::score::Grade::Fail => "fail",
                    };
                    format!("score {} ({grade})", last.score.score)
                });
                format!("judgement {judged} of {all}: {last}")
            }
            Run::Ranks(_) => join(&self.statuses()),
        }
    }

    pub fn statuses(&self) -> Vec<CheckStatus> {
        match &self.run {
            Run::Strikes(strikes) => {
                vec![CheckStatus { name: "checks".to_owned(), text: strikes.last().to_owned() }]
            }
            Run::Measurements(run) => run.metrics().iter().map(measured_status).collect(),
            Run::Scores(stage) => {
                let findings = stage.last().map(|last| &last.findings[..]).unwrap_or_default();
                let status = |(name, finding): &(String, aca::classify::Finding)| CheckStatus {
                    name: name.clone(),
                    text: finding.reason.clone(),
                };
                findings.iter().map(status).collect()
            }
            Run::Ranks(stage) => stage
                .tallies()
                .map(|(name, checks, failures, limit, last)| CheckStatus {
                    name: name.to_owned(),
                    text: format!(
                        "{checks} checks, {failures} failures with a limit of {limit}, last: {last}"
                    ),
                })
                .collect(),
        }
    }
}

fn measured_status(measured: &measurements::Measured) -> CheckStatus {
    let counts = &measured.counts;
    let mut text = format!(
        "{}, {} successful, {} failed, {} inconclusive, {} errors",
        measured.phase.name(),
        counts.successful,
        counts.failed,
        counts.inconclusive,
        counts.error
    );
    if counts.unknown > 0 {
        text.push_str(&format!(", {} not known of copies", counts.unknown));
    }
    CheckStatus { name: measured.name().to_owned(), text }
}

fn join(statuses: &[CheckStatus]) -> String {
    let texts: Vec<String> =
        statuses.iter().map(|status| format!("{}: {}", status.name, status.text)).collect();
    texts.join("; ")
}

impl Terms {
    /// As in the configuration.
    pub fn judge_name(&self) -> &'static str {
        match self.rule {
            Rule::Strikes(_) | Rule::Measurements { .. } => "classic",
            Rule::Scores { .. } => "netflix-aca",
            Rule::Ranks { .. } => "mann-whitney",
        }
    }

    /// The same without what others are asked for.
    pub fn alone(mut self) -> Terms {
        let is_ours = |measure: &Measure| !matches!(measure, Measure::Outside { .. });
        match &mut self.rule {
            Rule::Strikes(terms) => terms.checks.retain(|check| is_ours(&check.measure)),
            Rule::Measurements { metrics } => metrics.retain(|metric| is_ours(&metric.measure)),
            Rule::Scores { terms, .. } => terms.metrics.retain(|metric| is_ours(&metric.measure)),
            Rule::Ranks { metrics, .. } => metrics.retain(|metric| is_ours(&metric.measure)),
        }
        self
    }

    /// Whether nothing that it asks is of the primary.
    pub fn can_watch(&self) -> bool {
        match &self.rule {
            Rule::Strikes(terms) => terms.checks.iter().all(|check| check.arm == Arm::Canary),
            Rule::Measurements { metrics } => {
                metrics.iter().all(|metric| metric.arm == Arm::Canary || metric.dry_run)
            }
            Rule::Scores { .. } => false,
            Rule::Ranks { metrics, .. } => {
                metrics.iter().all(|metric| matches!(metric.strategy, Strategy::Threshold { .. }))
            }
        }
    }

    fn run(&self, lasts: Duration, before: Option<&Run>) -> Run {
        match &self.rule {
            Rule::Strikes(terms) => Run::Strikes(Strikes::new(terms)),
            Rule::Measurements { metrics } => Run::Measurements(measurements::Run::new(metrics)),
            Rule::Scores { lifetime, terms } => {
                Run::Scores(Box::new(aca::Stage::new(terms, lifetime.unwrap_or(lasts))))
            }
            Rule::Ranks { duration, metrics } => {
                let before = match before {
                    Some(Run::Ranks(stage)) => Some(stage),
                    _ => None,
                };
                Run::Ranks(mann_whitney::Stage::new(metrics, duration.unwrap_or(lasts), before))
            }
        }
    }

    pub fn measures(&self) -> Box<dyn Iterator<Item = &Measure> + '_> {
        match &self.rule {
            Rule::Strikes(terms) => Box::new(terms.checks.iter().map(|check| &check.measure)),
            Rule::Measurements { metrics } => Box::new(metrics.iter().map(|metric| &metric.measure)),
            Rule::Scores { terms, .. } => Box::new(terms.metrics.iter().map(|metric| &metric.measure)),
            Rule::Ranks { metrics, .. } => Box::new(metrics.iter().map(|metric| &metric.measure)),
        }
    }

    /// Cells as fine as its windows and times need.
    fn samples(&self) -> Samples {
        let mut edges = Vec::new();
        let mut reach = Duration::ZERO;
        match &self.rule {
            Rule::Strikes(terms) => {
                edges.push(terms.interval);
                edges.extend(terms.checks.iter().map(|check| check.window));
                reach = edges.iter().copied().max().unwrap_or_default();
            }
            Rule::Measurements { metrics } => {
                for metric in metrics {
                    edges.extend([metric.window, metric.initial_delay, ERROR_RETRY]);
                    edges.extend(metric.interval);
                    reach = reach.max(metric.window);
                }
            }
            Rule::Scores { terms, .. } => {
                edges.extend([terms.step, terms.delay]);
                reach = terms.step;
            }
            Rule::Ranks { metrics, .. } => {
                for metric in metrics {
                    edges.extend([metric.interval, metric.step()]);
                    reach = reach.max(metric.interval + metric.step());
                }
            }
        }
        Samples::new(&edges, reach, self.measures().any(Measure::is_latency))
    }
}

pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Failed checks that others have made. Only strikes know failed checks.
impl Checks {
    /// The next tick has failed by it; answers with whether it counts here.
    pub fn refuse(&mut self, why: &str) -> bool {
        match &mut self.run {
            Run::Strikes(strikes) => strikes.refuse(why),
            Run::Measurements(_) | Run::Scores(_) | Run::Ranks(_) => return false,
        }
        true
    }

    /// So many failed before it was there.
    pub fn charge(&mut self, failed: u32) {
        if let Run::Strikes(strikes) = &mut self.run {
            strikes.charge(failed);
        }
    }
}

impl Terms {
    /// Failed checks that roll back, where such are counted.
    pub fn threshold(&self) -> Option<u32> {
        match &self.rule {
            Rule::Strikes(terms) => Some(terms.threshold.max(1)),
            Rule::Measurements { .. } | Rule::Scores { .. } | Rule::Ranks { .. } => None,
        }
    }
}
