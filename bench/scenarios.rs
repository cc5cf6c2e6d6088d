//! How many users meet a bad release: time, canary requests and failures until
//! its exposure is cut and until it is rolled back, played through the real
//! engine on synthetic traffic. Beside it stand the least number of requests that
//! any method with the same error bound needs, and a once-a-minute rule with five
//! strikes on the same traffic (success below 99 % fails a check; rollback at the
//! check after the fifth failed one), as Flagger applies it.

use std::fmt::Write;
use std::time::Duration;

use serin::judge::analysis::Analysis;
use serin::judge::projection::Boundary;
use serin::rehearse::Totals;
use serin::rehearse::Version;
use serin::rollout::Phase;

use crate::crew;
use crate::exposure;
use crate::least;
use crate::trial;
use crate::trial::Cost;
use crate::trial::Trial;

const HOUR: f64 = 3600.0;
const RPS: f64 = 1000.0;

struct Scenario {
    name: &'static str,
    percent: u32,
    primary: Version,
    canary: Version,
}

/// What became of one seed: the first cut, the rollback, and what five strikes would have done.
type Seen = [Option<Cost>; 3];

/// A markdown table of means over so many seeds.
pub fn run(seeds: u32) -> String {
    let mut text = String::from(
        "| release | split | exposure cut after: s / canary requests / failures | rolled back after: s / requests / \
         failures | least possible requests | once a minute, five strikes: s / requests / failures |\n\
         |---|---|---|---|---|---|\n",
    );
    let (scenarios, seeds) = (scenarios(), seeds as usize);
    let seen = crew::each("scenarios", scenarios.len() * seeds, |at| {
        let (scenario, seed) = (&scenarios[at / seeds], (at % seeds) as u64);
        let [cut, back] = engine(scenario, seed);
        [cut, back, five_strikes(scenario, seed)]
    });
    for (scenario, seen) in scenarios.iter().zip(seen.chunks(seeds)) {
        let [cut, back, strikes] = [0, 1, 2].map(|at| mean(seen, at));
        let least = least_requests(scenario);
        let (name, percent) = (scenario.name, scenario.percent);
        let _ = writeln!(text, "| {name} | {percent} % | {cut} | {back} | {least:.1} | {strikes} |");
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

/// Nothing watches: for the traffic that another rule would have seen.
fn unjudged() -> Analysis {
    Analysis { relative_failures: None, relative_latency: None, ..Analysis::default() }
}

fn trial(scenario: &Scenario, analysis: Analysis) -> Trial {
    let Scenario { percent, primary, canary, .. } = *scenario;
    Trial { percent, rps: RPS, primary, canary, analysis, hold: Duration::from_secs(2 * 3600) }
}

/// Until the canary's weight first falls, and until it is rolled back.
fn engine(scenario: &Scenario, seed: u64) -> [Option<Cost>; 2] {
    let trial = trial(scenario, exposure::with_objective());
    let mut rehearsal = trial.started(seed);
    let mut cut = None;
    while trial::seconds(&rehearsal) < HOUR {
        rehearsal.look(&[]);
        if cut.is_none() && rehearsal.parts() < trial.parts() {
            cut = Some(trial::cost(&rehearsal));
        }
        if rehearsal.rollout.phase() == Phase::RolledBack {
            return [cut, Some(trial::cost(&rehearsal))];
        }
    }
    [cut, None]
}

fn five_strikes(scenario: &Scenario, seed: u64) -> Option<Cost> {
    let mut rehearsal = trial(scenario, unjudged()).started(seed);
    let mut strikes = 0;
    let mut before = Totals::default();
    for minute in 1..=60 {
        while trial::seconds(&rehearsal) < 60.0 * f64::from(minute) {
            rehearsal.look(&[]);
        }
        if strikes == 5 {
            return Some(trial::cost(&rehearsal));
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

fn least_requests(scenario: &Scenario) -> f64 {
    let (primary, canary) = (scenario.primary, scenario.canary);
    let w = f64::from(scenario.percent) / 100.0;
    if primary.failure == canary.failure {
        return least::slowness(primary, canary, exposure::SLACK, w, 0.001);
    }
    let tolerated = Boundary { rho: 1.2, delta: 0.0005 };
    least::rates(tolerated, primary.failure, canary.failure, w, 0.001)
}

/// Of the seeds in which it happened; how many those were, where not all.
fn mean(seen: &[Seen], at: usize) -> String {
    let seeds = seen.len();
    let costs: Vec<Cost> = seen.iter().filter_map(|seen| seen[at]).collect();
    if costs.is_empty() {
        return format!("never in an hour (0 of {seeds})");
    }
    let n = costs.len() as f64;
    let of = |part: fn(&Cost) -> f64| costs.iter().map(part).sum::<f64>() / n;
    let (s, requests, failures) = (of(|c| c.seconds), of(|c| c.requests), of(|c| c.failures));
    let share = if costs.len() < seeds { format!(" ({} of {seeds})", costs.len()) } else { String::new() };
    format!("{s:.2} / {requests:.1} / {failures:.1}{share}")
}
