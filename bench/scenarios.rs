//! How many users meet a bad release: time, canary requests and failures until
//! its exposure is cut and until it is rolled back, played through the real
//! engine on synthetic traffic. Beside it stand the least number of requests that
//! any method with the same error bound needs, and a once-a-minute rule with five
//! strikes on the same traffic (success below 99 % fails a check; rollback at the
//! check after the fifth failed one), as Flagger applies it.

use std::fmt::Write;
use std::time::Duration;

use serin::judge::analysis::Analysis;
use serin::judge::analysis::OnShared;
use serin::judge::analysis::SuccessObjective;
use serin::judge::projection::Boundary;
use serin::rehearse::Rehearsal;
use serin::rehearse::Totals;
use serin::rehearse::Version;
use serin::rehearse::World;
use serin::rollout::Command;
use serin::rollout::Phase;
use serin::rollout::Rollout;
use serin::rollout::Spec;
use serin::rollout::spec::Step;

/// Watching the primary before the start.
const HISTORY_SECONDS: f64 = 60.0;
const HOUR: f64 = 3600.0;
const RPS: f64 = 1000.0;

struct Scenario {
    name: &'static str,
    percent: u32,
    primary: Version,
    canary: Version,
}

/// What had happened since the start when something did.
#[derive(Clone, Copy, Default)]
struct Cost {
    seconds: f64,
    requests: f64,
    failures: f64,
}

/// A markdown table of means over so many seeds.
pub fn run(seeds: u32) -> String {
    let mut text = String::from(
        "| release | split | exposure cut after: s / canary requests / failures | rolled back after: s / requests / \
         failures | least possible requests | once a minute, five strikes: s / requests / failures |\n\
         |---|---|---|---|---|---|\n",
    );
    for scenario in scenarios() {
        let (cuts, backs): (Vec<_>, Vec<_>) = (0..seeds).map(|seed| engine(&scenario, seed)).unzip();
        let strikes: Vec<_> = (0..seeds).map(|seed| five_strikes(&scenario, seed)).collect();
        let [cut, back, strikes] = [cuts, backs, strikes].map(|costs| mean(&costs));
        let least = least_requests(&scenario).map_or("-".to_owned(), |n| format!("{n:.1}"));
        let (name, percent) = (scenario.name, scenario.percent);
        let _ = writeln!(text, "| {name} | {percent} % | {cut} | {back} | {least} | {strikes} |");
    }
    text.push('\n');
    for (percent, failure) in [(5, 0.001), (50, 0.001), (5, 0.05), (50, 0.05)] {
        let _ = writeln!(text, "{}", same_release(percent, failure, seeds));
    }
    text
}

fn scenarios() -> Vec<Scenario> {
    let failing = |name, primary, canary| {
        [5, 50].map(|percent| Scenario {
            name,
            percent,
            primary: Version::failing(primary),
            canary: Version::failing(canary),
        })
    };
    // The same median, p99 from 202 ms to 404 ms.
    let tail = Version { spread: 0.898, ..Version::failing(0.001) };
    let slow = [5, 50].map(|percent| Scenario {
        name: "same median, p99 x 2",
        percent,
        primary: Version::failing(0.001),
        canary: tail,
    });
    [
        failing("failures 0.1 -> 1 %", 0.001, 0.01),
        failing("failures 0.1 -> 5 %", 0.001, 0.05),
        failing("failures 0.5 -> 50 %", 0.005, 0.5),
        failing("failures 1 -> 100 %", 0.01, 1.0),
        slow,
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn spec(percent: u32, analysis: Analysis) -> Spec {
    Spec {
        name: "bench".to_owned(),
        split: "bench".to_owned(),
        primary: "primary".to_owned(),
        canary: "canary".to_owned(),
        steps: vec![Step::Weight { parts: percent * 100, hold: Duration::from_secs(2 * 3600) }],
        bake: Duration::ZERO,
        analysis,
        ..Spec::default()
    }
}

/// The defaults and a 99 % objective.
fn judged() -> Analysis {
    let success = Some(SuccessObjective { min: 0.99, share: SuccessObjective::SHARE });
    Analysis { success, on_shared: OnShared::Hold, ..Analysis::default() }
}

/// Nothing watches: for the traffic that another rule would have seen.
fn unjudged() -> Analysis {
    Analysis { relative_failures: None, relative_latency: None, ..Analysis::default() }
}

fn started(
    scenario: &Scenario,
    analysis: Analysis,
    rps: f64,
    seed: u32,
) -> Rehearsal<impl Fn(f64) -> World + use<>> {
    let (primary, canary) = (scenario.primary, scenario.canary);
    let world = move |_| World { requests_per_second: rps, primary, canary };
    let rollout = Rollout::new(spec(scenario.percent, analysis));
    let mut rehearsal = Rehearsal::new(rollout, u64::from(seed), world);
    while rehearsal.seconds() < HISTORY_SECONDS {
        rehearsal.look(&[]);
    }
    rehearsal.look(&[Command::Start]);
    rehearsal
}

fn cost(rehearsal: &Rehearsal<impl Fn(f64) -> World>) -> Cost {
    Cost {
        seconds: rehearsal.seconds() - HISTORY_SECONDS,
        requests: rehearsal.totals.canary_requests as f64,
        failures: rehearsal.totals.canary_failures as f64,
    }
}

/// Until the canary's weight first falls, and until it is rolled back.
fn engine(scenario: &Scenario, seed: u32) -> (Option<Cost>, Option<Cost>) {
    let mut rehearsal = started(scenario, judged(), RPS, seed);
    let mut cut = None;
    while rehearsal.seconds() < HISTORY_SECONDS + HOUR {
        rehearsal.look(&[]);
        if cut.is_none() && rehearsal.parts() < scenario.percent * 100 {
            cut = Some(cost(&rehearsal));
        }
        if rehearsal.rollout.phase() == Phase::RolledBack {
            return (cut, Some(cost(&rehearsal)));
        }
    }
    (cut, None)
}

fn five_strikes(scenario: &Scenario, seed: u32) -> Option<Cost> {
    let mut rehearsal = started(scenario, unjudged(), RPS, seed);
    let mut strikes = 0;
    let mut before = Totals::default();
    for minute in 1..=60 {
        while rehearsal.seconds() < HISTORY_SECONDS + 60.0 * f64::from(minute) {
            rehearsal.look(&[]);
        }
        if strikes == 5 {
            return Some(cost(&rehearsal));
        }
        let now = rehearsal.totals;
        let ok = (now.canary_ok - before.canary_ok) as f64;
        let failed = (now.canary_failures - before.canary_failures) as f64;
        strikes += u32::from(ok / (ok + failed) < 0.99);
        before = now;
        // No failure rate near the objective, no slow answer: it will never strike.
        if minute >= 3 && strikes == 0 && scenario.canary.failure < 0.005 {
            return None;
        }
    }
    None
}

fn least_requests(scenario: &Scenario) -> Option<f64> {
    let (primary, canary) = (scenario.primary.failure, scenario.canary.failure);
    if primary == canary {
        return None;
    }
    let w = f64::from(scenario.percent) / 100.0;
    let canary = canary.min(1.0 - 1e-9);
    let growth = Boundary { rho: 1.2, delta: 0.0005 }.growth(primary, canary, w);
    Some(w * 1000_f64.ln() / growth)
}

/// Of the seeds in which it happened; how many those were, where not all.
fn mean(costs: &[Option<Cost>]) -> String {
    let seeds = costs.len();
    let costs: Vec<Cost> = costs.iter().copied().flatten().collect();
    if costs.is_empty() {
        return format!("never in an hour (0 of {seeds})");
    }
    let n = costs.len() as f64;
    let of = |part: fn(&Cost) -> f64| costs.iter().map(part).sum::<f64>() / n;
    let (s, requests, failures) = (of(|c| c.seconds), of(|c| c.requests), of(|c| c.failures));
    let share = if costs.len() < seeds { format!(" ({} of {seeds})", costs.len()) } else { String::new() };
    format!("{s:.2} / {requests:.1} / {failures:.1}{share}")
}

/// One hour of the same version on both sides, at a tenth of the traffic.
fn same_release(percent: u32, failure: f64, seeds: u32) -> String {
    let version = Version::failing(failure);
    let scenario = Scenario { name: "same", percent, primary: version, canary: version };
    let (mut back, mut suspended) = (0, 0);
    for seed in 0..seeds {
        // A 99 % objective that the primary already breaks is left out by itself.
        let mut rehearsal = started(&scenario, judged(), RPS / 10.0, seed);
        let mut before = rehearsal.parts();
        while rehearsal.seconds() < HISTORY_SECONDS + HOUR && !rehearsal.rollout.phase().is_final() {
            rehearsal.look(&[]);
            suspended += u32::from(rehearsal.parts() < before);
            before = rehearsal.parts();
        }
        back += u32::from(rehearsal.rollout.phase() == Phase::RolledBack);
    }
    format!(
        "Same release on both sides, {} % failures, {percent} % split, one hour at {} requests/s: \
         {back} of {seeds} rolled back, {suspended} suspensions.",
        100.0 * failure,
        RPS / 10.0
    )
}
