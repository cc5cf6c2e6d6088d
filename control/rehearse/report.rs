//! Many runs of one rollout under one supposition, summed up.

use serde::Serialize;

use super::play::Cost;
use super::play::End;
use super::play::Run;
use super::play::play;
use super::scenario::Scenario;
use crate::rollout::Spec;

/// What became of so many runs. Seconds and counts of a release that differs begin
/// where it begins to differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub scenario: String,
    pub runs: u32,
    pub rolled_back: u32,
    pub promoted: u32,
    /// Neither, within three times the plan and an hour more.
    pub undecided: u32,
    /// Until the canary's weight first fell, over the runs that were rolled back.
    pub cut: Option<Mean>,
    /// Until its weight was zero for good, over the same.
    pub rollback: Option<Mean>,
    /// Seconds from start to promotion, over the runs that were promoted.
    pub promoted_after_seconds: Option<f64>,
    /// Canary failures of a run, over all of them.
    pub failures: f64,
    /// The same until the run was rolled back or promoted: after a promotion others
    /// watch nothing, so only so far can they be compared.
    pub exposed_failures: f64,
}

/// Means, and what one run in twenty exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Mean {
    pub seconds: f64,
    pub seconds_p95: f64,
    pub requests: f64,
    pub failures: f64,
    pub failures_p95: f64,
}

impl Report {
    /// Plays `runs` seeds from `seed` on.
    pub fn of(spec: &Spec, scenario: &Scenario, runs: u32, seed: u64) -> Report {
        Report::watched(spec, scenario, runs, seed, &|| {})
    }

    /// The same; `played` is told of each run that is over.
    pub fn watched(spec: &Spec, scenario: &Scenario, runs: u32, seed: u64, played: &dyn Fn()) -> Report {
        let run = |run: u32| {
            let run = play(spec, scenario, seed.wrapping_add(u64::from(run)));
            played();
            run
        };
        Report::sum_up(scenario.describe(), &(0..runs).map(run).collect::<Vec<Run>>())
    }

    pub fn sum_up(scenario: String, runs: &[Run]) -> Report {
        let ended = |end: End| runs.iter().filter(move |run| run.end == end);
        let back: Vec<&Run> = ended(End::RolledBack).collect();
        let promoted: Vec<f64> = ended(End::Promoted).filter_map(|run| run.promoted_after).collect();
        let count = |end: End| u32::try_from(ended(end).count()).expect("there are no more runs than that");
        Report {
            scenario,
            runs: u32::try_from(runs.len()).expect("there are no more runs than that"),
            rolled_back: count(End::RolledBack),
            promoted: count(End::Promoted),
            undecided: count(End::Undecided),
            cut: Mean::of(&back.iter().map(|run| run.cut.unwrap_or(run.ended)).collect::<Vec<_>>()),
            rollback: Mean::of(&back.iter().map(|run| run.ended).collect::<Vec<_>>()),
            promoted_after_seconds: mean(&promoted),
            failures: mean(&runs.iter().map(|run| run.ended.failures as f64).collect::<Vec<_>>())
                .unwrap_or(0.0),
            exposed_failures: mean(&runs.iter().map(exposed).collect::<Vec<_>>()).unwrap_or(0.0),
        }
    }

    /// The share of runs that were rolled back.
    pub fn caught(&self) -> f64 {
        f64::from(self.rolled_back) / f64::from(self.runs.max(1))
    }
}

impl Mean {
    fn of(costs: &[Cost]) -> Option<Mean> {
        let column = |of: fn(&Cost) -> f64| costs.iter().map(of).collect::<Vec<f64>>();
        let seconds = column(|cost| cost.seconds);
        let failures = column(|cost| cost.failures as f64);
        Some(Mean {
            seconds: mean(&seconds)?,
            seconds_p95: p95(seconds)?,
            requests: mean(&column(|cost| cost.requests as f64))?,
            failures: mean(&failures)?,
            failures_p95: p95(failures)?,
        })
    }
}

fn exposed(run: &Run) -> f64 {
    let until = match run.end {
        End::Promoted => run.promoted.unwrap_or(run.ended),
        End::RolledBack | End::Undecided => run.ended,
    };
    until.failures as f64
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn p95(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    values.get((values.len() * 95 / 100).min(last)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(end: End, seconds: f64, failures: u64) -> Run {
        let ended = Cost { seconds, requests: 10 * failures, failures };
        let promoted_after = (end == End::Promoted).then_some(seconds);
        let promoted = (end == End::Promoted).then(Cost::default);
        Run { end, cut: None, ended, promoted_after, promoted }
    }

    #[test]
    fn runs_are_summed_up_by_how_they_ended() {
        let mut runs: Vec<Run> = (1..=100).map(|i| run(End::RolledBack, f64::from(i), 4)).collect();
        runs.push(run(End::Promoted, 600.0, 0));
        runs.push(run(End::Undecided, 9999.0, 1));
        let report = Report::sum_up("x".to_owned(), &runs);
        assert_eq!((report.rolled_back, report.promoted, report.undecided), (100, 1, 1));
        let rollback = report.rollback.unwrap();
        assert_eq!((rollback.seconds, rollback.seconds_p95, rollback.failures), (50.5, 96.0, 4.0));
        assert_eq!(report.promoted_after_seconds, Some(600.0));
        assert!((report.failures - 401.0 / 102.0).abs() < 1e-9);
        assert_eq!(Report::sum_up("x".to_owned(), &[]).rollback, None);
    }
}
