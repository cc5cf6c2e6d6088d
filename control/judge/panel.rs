//! All tests of one rollout and the one error budget they share: the weighted
//! mean of their evidence. The mean of such evidence is again evidence, however
//! the tests depend on each other.

use serde::Deserialize;
use serde::Serialize;

use super::analysis;
use super::analysis::OnDifference;
use super::evidence::ArmDelta;
use super::evidence::Evidence;
use super::failures::Failed;
use super::failures::Failures;
use super::history::History;
use super::logs::log_mean;
use super::mirrored;
use super::objective::Objective;
use super::purse::Purse;
use super::slowness::Slowness;
use super::stratum::Stratum;
use crate::judge::Analysis;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Panel {
    seats: Vec<Seat>,
}

/// One test and its share of the budget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seat {
    pub kind: Kind,
    pub share: f64,
    test: Test,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    RelativeFailures,
    RelativeLatency,
    /// Failures of mirrored requests that only one version failed.
    Mirrored,
    /// Answers to mirrored requests that only the canary gave otherwise.
    Answers,
    /// Failures of one part of the traffic.
    Stratum,
    Success,
    Latency,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Test {
    Failures(Failures),
    Slowness(Slowness),
    Objective(Objective),
    /// What was won by bets that others have made.
    Won(Purse),
    Stratum(Box<Stratum>),
}

/// Evidence as it decides, or as it would be without the burst guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    Capped,
    Raw,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::RelativeFailures => "relative_failures",
            Kind::RelativeLatency => "relative_latency",
            Kind::Mirrored => "mirrored",
            Kind::Answers => "answers",
            Kind::Stratum => "stratum",
            Kind::Success => "success",
            Kind::Latency => "latency",
        }
    }

    pub fn is_relative(self) -> bool {
        self.leans_on_coin() || matches!(self, Kind::Mirrored | Kind::Answers)
    }

    pub fn leans_on_coin(self) -> bool {
        matches!(self, Kind::RelativeFailures | Kind::RelativeLatency | Kind::Stratum)
    }
}

impl Panel {
    /// The configured tests, their shares made to sum to one.
    pub fn new(analysis: &Analysis, planned: u32, cap: Option<f64>) -> Panel {
        let mut seats = Vec::new();
        let mut sit = |kind, share, test| seats.push(Seat { kind, share, test });
        if let Some(asked) = analysis.relative_failures {
            let test = Failures::new(asked.rho, asked.delta, planned, cap);
            sit(Kind::RelativeFailures, asked.share, Test::Failures(test));
        }
        if let Some(asked) = analysis.relative_latency {
            let test = Slowness::new(asked.slack, planned, cap);
            sit(Kind::RelativeLatency, asked.share, Test::Slowness(test));
        }
        if let Some(asked) = analysis.mirrored {
            let test = Failures::new(asked.rho, asked.delta, planned, cap);
            sit(Kind::Mirrored, asked.share, Test::Failures(test));
        }
        if analysis.answers == OnDifference::Rollback {
            let test = Purse::new(&[1.0], planned, cap);
            sit(Kind::Answers, OnDifference::SHARE, Test::Won(test));
        }
        // Compared as all requests are; nothing is where that is off.
        let strata =
            analysis.relative_failures.map(|asked| analysis.strata.iter().map(move |part| (part, asked)));
        for (stratum, asked) in strata.into_iter().flatten() {
            let share = analysis::Stratum::SHARES / analysis.strata.len() as f64;
            let test = Stratum::new(stratum.name(), asked, planned, cap);
            sit(Kind::Stratum, share, Test::Stratum(Box::new(test)));
        }
        if let Some(asked) = analysis.success {
            let test = Objective::new(1.0 - asked.min, planned, cap);
            sit(Kind::Success, asked.share, Test::Objective(test));
        }
        if let Some(asked) = analysis.latency {
            let test = Objective::new(1.0 - asked.quantile, planned, cap);
            sit(Kind::Latency, asked.share, Test::Objective(test));
        }
        let sum: f64 = seats.iter().map(|seat: &Seat| seat.share).sum();
        for seat in &mut seats {
            seat.share /= sum;
        }
        Panel { seats }
    }

    /// Bets on what came in. The history must not know of it yet.
    pub fn tick(&mut self, evidence: &Evidence, history: &History) {
        let per = evidence.per();
        for seat in &mut self.seats {
            match &mut seat.test {
                Test::Failures(test) => {
                    let (failed, good) = match seat.kind {
                        Kind::Mirrored => mirrored::asked(evidence),
                        _ => {
                            test.count_per(per);
                            tossed(evidence)
                        }
                    };
                    test.tick(&failed, good, history.failure_rate());
                }
                Test::Slowness(test) => {
                    test.begin(history.latency());
                    for delta in &evidence.generations {
                        test.tick(delta, per);
                    }
                }
                Test::Stratum(part) => part.tick(evidence),
                Test::Objective(test) => {
                    let (bad, good) = absolute(seat.kind, evidence);
                    test.tick(bad, good);
                }
                Test::Won(purse) => purse.bet(evidence.answers.iter().map(|answers| answers.log_factor)),
            }
        }
    }

    pub fn close_window(&mut self) {
        for seat in &mut self.seats {
            match &mut seat.test {
                Test::Failures(test) => test.close_window(),
                Test::Slowness(test) => test.close_window(),
                Test::Objective(test) => test.purse.close_window(),
                Test::Won(purse) => purse.close_window(),
                Test::Stratum(part) => part.test.close_window(),
            }
        }
    }

    pub fn top_up(&mut self, history: &History) {
        for seat in &mut self.seats {
            match &mut seat.test {
                Test::Failures(test) => test.top_up(),
                Test::Slowness(test) => test.top_up(history.latency()),
                Test::Objective(test) => test.purse.top_up(),
                Test::Won(purse) => purse.top_up(),
                Test::Stratum(part) => part.test.top_up(),
            }
        }
    }

    /// Takes tests out. Their shares are not handed on: that would be choosing
    /// the weights after having seen the evidence.
    pub fn drop(&mut self, out: impl Fn(Kind) -> bool) {
        self.seats.retain(|seat| !out(seat.kind));
    }

    /// Takes from the objectives what they have won so far. Giving money up is
    /// always allowed.
    pub fn forgive_objectives(&mut self) {
        for seat in &mut self.seats {
            if let Test::Objective(test) = &mut seat.test {
                test.purse.forgive();
            }
        }
    }

    pub fn seats(&self) -> &[Seat] {
        &self.seats
    }

    pub fn has(&self, kind: impl Fn(Kind) -> bool) -> bool {
        self.seats.iter().any(|seat| kind(seat.kind))
    }

    /// Evidence of the whole panel; with no test left there is none.
    pub fn log_e(&self, view: View) -> f64 {
        let parts: Vec<(f64, f64)> = self.seats.iter().map(|seat| (seat.share, seat.log_e(view))).collect();
        log_mean(&parts)
    }

    /// Evidence of the relative tests alone.
    pub fn log_relative(&self, view: View) -> f64 {
        let relative = || self.seats.iter().filter(|seat| seat.kind.is_relative());
        let sum: f64 = relative().map(|seat| seat.share).sum();
        let parts: Vec<(f64, f64)> = relative().map(|seat| (seat.share / sum, seat.log_e(view))).collect();
        log_mean(&parts)
    }

    /// The test that says most.
    pub fn loudest(&self, view: View) -> Option<&Seat> {
        let weight = |seat: &Seat| seat.share.ln() + seat.log_e(view);
        self.seats.iter().max_by(|a, b| weight(a).total_cmp(&weight(b)))
    }

    pub fn slowness(&self) -> Option<&Slowness> {
        self.seats.iter().find_map(|seat| match &seat.test {
            Test::Slowness(test) => Some(test),
            _ => None,
        })
    }

    pub fn failures(&self) -> Option<&Failures> {
        self.seats.iter().find_map(|seat| match &seat.test {
            Test::Failures(test) if seat.kind == Kind::RelativeFailures => Some(test),
            _ => None,
        })
    }
}

impl Seat {
    pub fn log_e(&self, view: View) -> f64 {
        match &self.test {
            Test::Failures(test) => test.log_e(view),
            Test::Objective(test) => view.of(&test.purse),
            Test::Won(purse) => view.of(purse),
            Test::Slowness(test) => test.purse().map_or(0.0, |purse| view.of(purse)),
            Test::Stratum(part) => part.test.log_e(view),
        }
    }

    /// The part of the traffic that it is about, where it is about one.
    pub fn stratum(&self) -> Option<&Stratum> {
        match &self.test {
            Test::Stratum(part) => Some(part),
            _ => None,
        }
    }

    /// In one or two words, for a reader or a label.
    pub fn name(&self) -> String {
        match self.stratum() {
            Some(part) => format!("{} {}", self.kind.name(), part.name),
            None => self.kind.name().to_owned(),
        }
    }
}

impl View {
    pub fn of(self, purse: &Purse) -> f64 {
        match self {
            View::Capped => purse.log_e(),
            View::Raw => purse.log_raw(),
        }
    }
}

/// Failures of requests that a coin assigned, and by how many the canary's good
/// ones grew. Where a user's requests go one way the coin was tossed for the user:
/// each counts once.
fn tossed(evidence: &Evidence) -> (Vec<Failed>, i64) {
    let mut good = 0;
    let failed = evidence.generations.iter().map(|delta| {
        let canary = &delta.canary;
        good += canary.dispatched as i64 - canary.aborted as i64 - canary.failed as i64;
        let failed = |arm: &ArmDelta| if evidence.sticky { arm.failed_units } else { arm.failed };
        Failed { canary: failed(canary), primary: failed(&delta.primary), w: delta.w }
    });
    (failed.collect(), good)
}

/// New bad requests of the canary, forced ones included, and by how many the
/// good ones grew. What the client or we broke off was never a failure, so it is
/// taken out of the success test; it may well have been slow, so in the latency
/// test it stays good until its age says otherwise.
fn absolute(kind: Kind, evidence: &Evidence) -> (i64, i64) {
    let mut sums = (0, 0);
    for delta in &evidence.generations {
        for arm in [&delta.canary, &delta.canary_forced] {
            let (bad, out) = if kind == Kind::Success { (arm.failed, arm.aborted) } else { (arm.slow, 0) };
            sums.0 += bad as i64;
            sums.1 += arm.dispatched as i64 - out as i64 - bad as i64;
        }
    }
    sums
}
