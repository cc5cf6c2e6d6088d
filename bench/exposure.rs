//! How many users meet a bad release, beside the least number that any method with the same bound on false
//! rollbacks needs to know that it is bad.

use std::fmt::Write;
use std::time::Duration;

use serin::judge::analysis::Analysis;
use serin::judge::analysis::OnShared;
use serin::judge::analysis::RelativeFailures;
use serin::judge::analysis::RelativeLatency;
use serin::judge::analysis::Slack;
use serin::judge::analysis::SuccessObjective;
use serin::judge::projection::Boundary;
use serin::rehearse::Version;

use crate::crew;
use crate::least;
use crate::shares::Mean;
use crate::trial::Cost;
use crate::trial::Trial;

const RPS: f64 = 1000.0;
/// So long that nothing that is looked for here outlasts it.
const MOST: Duration = Duration::from_secs(6 * 3600);
const SPLITS: [u32; 4] = [1, 5, 10, 50];
/// Of the primary and of the canary, in percent.
const FAILURES: [(f64, f64); 5] = [(0.1, 0.3), (0.1, 1.0), (0.1, 5.0), (0.5, 50.0), (1.0, 100.0)];
pub const SLACK: Slack = Slack { margin: 0.1, least_us: 1_000 };

/// What is asked of the judge, and by what its requests may exceed the least: so many times, and two more.
struct Asked {
    name: &'static str,
    analysis: Analysis,
    tolerated: Boundary,
    goal: f64,
}

/// One line of a table.
struct Case {
    name: String,
    trial: Trial,
    least: f64,
    goal: f64,
}

pub fn failures(seeds: u32) -> String {
    let mut text = String::new();
    for asked in asked_of_failures() {
        let cases = SPLITS.iter().flat_map(|percent| FAILURES.map(|rates| (*percent, rates))).map(
            |(percent, (primary, canary))| {
                let (p, c) = (primary / 100.0, canary / 100.0);
                let (primary_is, canary_is) = (Version::failing(p), Version::failing(c));
                let trial = trial(percent, primary_is, canary_is, &asked.analysis);
                let least = least::rates(asked.tolerated, p, c, trial.w(), 0.001);
                Case { name: format!("{primary} -> {canary} %"), trial, least, goal: asked.goal }
            },
        );
        let _ =
            write!(text, "**{}**\n\n{}\n", asked.name, table(asked.name, &cases.collect::<Vec<_>>(), seeds));
    }
    text
}

pub fn slowness(seeds: u32) -> String {
    let primary = Version::failing(0.001);
    let wider = |factor: f64| Version { spread: primary.spread + factor.ln() / Z99, ..primary };
    let slower = [
        ("all x 1.5", primary.slower(1.5)),
        ("all x 2", primary.slower(2.0)),
        ("all x 5", primary.slower(5.0)),
        ("same median, p99 x 1.5", wider(1.5)),
        ("same median, p99 x 2", wider(2.0)),
        ("same median, p99 x 5", wider(5.0)),
    ];
    let mut text = String::new();
    for (name, analysis) in [("The whole budget on latency", latency_alone()), (DEFAULTS, with_objective())] {
        let cases = SPLITS.iter().flat_map(|percent| slower.map(|slower| (*percent, slower))).map(
            |(percent, (name, canary))| {
                let trial = trial(percent, primary, canary, &analysis);
                let least = least::slowness(primary, canary, SLACK, trial.w(), 0.001);
                Case { name: name.to_owned(), trial, least, goal: 2.0 }
            },
        );
        let _ = write!(text, "**{name}**\n\n{}\n", table(name, &cases.collect::<Vec<_>>(), seeds));
    }
    text
}

/// The standard normal distribution's 99th percentile.
const Z99: f64 = 2.326_347_874_040_841;
const DEFAULTS: &str = "The defaults and a 99 % objective";

/// The defaults, which two tests share, and an objective beside them.
pub fn with_objective() -> Analysis {
    let success = Some(SuccessObjective { min: 0.99, share: SuccessObjective::SHARE });
    Analysis { success, on_shared: OnShared::Hold, ..Analysis::default() }
}

fn asked_of_failures() -> [Asked; 3] {
    let failures = |rho: f64, delta: f64| Analysis {
        relative_failures: Some(RelativeFailures { rho, delta, share: 1.0 }),
        relative_latency: None,
        promotion: None,
        ..Analysis::default()
    };
    let (nothing, usual) = (Boundary { rho: 1.0, delta: 0.0 }, Boundary { rho: 1.2, delta: 0.0005 });
    let asked = |name, analysis, tolerated| Asked { name, analysis, tolerated, goal: 1.5 };
    [
        asked("The whole budget on failures, nothing tolerated", failures(1.0, 0.0), nothing),
        asked("The whole budget on failures, 1.2 x and 0.05 points tolerated", failures(1.2, 0.0005), usual),
        asked(DEFAULTS, with_objective(), usual),
    ]
}

fn latency_alone() -> Analysis {
    Analysis {
        relative_failures: None,
        relative_latency: Some(RelativeLatency { slack: SLACK, share: 1.0 }),
        promotion: None,
        ..Analysis::default()
    }
}

fn trial(percent: u32, primary: Version, canary: Version, analysis: &Analysis) -> Trial {
    Trial { percent, rps: RPS, primary, canary, analysis: analysis.clone(), hold: MOST }
}

fn table(name: &str, cases: &[Case], seeds: u32) -> String {
    let seeds = seeds as usize;
    let cuts = crew::each(&name.to_lowercase(), cases.len() * seeds, |at| {
        cases[at / seeds].trial.cut((at % seeds) as u64, MOST.as_secs_f64())
    });
    let mut text = String::from(
        "| release | split | least possible | known when cut | of the least | goal met | sent when cut | goal met \
         | failed | s from the first failure |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let mut met = [0; 2];
    for (case, cuts) in cases.iter().zip(cuts.chunks(seeds)) {
        let seen: Vec<(Cost, f64)> = cuts.iter().copied().flatten().collect();
        let of = |part: fn(&(Cost, f64)) -> f64| Mean::of(seen.iter().map(part));
        let (known, sent) = (of(|cut| cut.0.known), of(|cut| cut.0.requests));
        let most = case.goal * case.least + 2.0;
        let reached = [known, sent].map(|mean| mean.value <= most);
        (0..2).for_each(|at| met[at] += usize::from(reached[at]));
        let [answered, exposed] = reached.map(|reached| if reached { "yes" } else { "no" });
        let missing = seeds - seen.len();
        let never = if missing == 0 { String::new() } else { format!(" ({missing} of {seeds} not in 6 h)") };
        let _ = writeln!(
            text,
            "| {}{never} | {} % | {:.1} | {known} | {:.2} | {answered} | {sent} | {exposed} | {:.1} | {:.2} |",
            case.name,
            case.trial.percent,
            case.least,
            known.value / case.least,
            of(|cut| cut.0.failures).value,
            of(|cut| cut.1).value,
        );
    }
    let (goal, of) = (cases.first().map_or(0.0, |case| case.goal), cases.len());
    let _ = writeln!(
        text,
        "\nAt most {goal} x the least and 2 requests: {} of {of} by what was known, {} of {of} by what had been sent.",
        met[0], met[1]
    );
    text
}
