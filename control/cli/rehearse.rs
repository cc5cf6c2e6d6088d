//! `serin rehearse`: what a rollout's plan would do, before it has to.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

mod compare;

use super::{Exit, Rehearse};
use crate::config;
use crate::config::Files;
use crate::judge::analysis::Stratum;
use crate::judge::checks::Terms;
use crate::rehearse::advice::{self, Advice, OFTEN_ENOUGH};
use crate::rehearse::report::Report;
use crate::rehearse::scenario::Scenario;
use crate::rehearse::tools::Tool;
use crate::rollout::Spec;
use crate::rollout::spec::{OnDifference, Step};
use crate::source;
use compare::Judged;

/// The faults that are played where none is asked for.
const USUAL: [&str; 6] = ["", "errors=1%", "errors=5%", "errors=100%", "latency=x1.5", "tail=x2"];
/// Runs of each scenario; with others' rules there are several times as many.
const RUNS: u32 = 1000;
const RUNS_COMPARED: u32 = 100;
/// Runs of each change that is tried.
const TRIALS: u32 = 200;

pub fn rehearse(options: &Rehearse) -> anyhow::Result<Exit> {
    let specs = specs_of(&options.config.config, options.name.as_deref())?;
    let scenarios = scenarios(&options.scenario)?;
    let usual = if options.compare.is_empty() { RUNS } else { RUNS_COMPARED };
    let runs = options.runs.unwrap_or(usual);
    let mut told = Vec::new();
    for spec in specs {
        let left_out = left_out(&spec, &options.compare);
        let spec = alone(spec);
        let all = runs as usize * scenarios.len() * (1 + options.compare.len());
        let bar = progress(&spec.name, all as u64);
        let played = || bar.inc(1);
        let reports: Vec<Report> = scenarios
            .iter()
            .map(|scenario| Report::watched(&spec, scenario, runs, options.seed, &played))
            .collect();
        let findings = if options.compare.is_empty() {
            let advice = advice(&spec, &scenarios, &reports, options.seed, &bar);
            Findings::Own { reports, advice }
        } else {
            let judged = compare::judged(&spec, &options.compare, &scenarios, reports, options.seed, &played);
            Findings::Compared(judged)
        };
        bar.finish_and_clear();
        if options.json {
            told.push(findings.json(&spec, &left_out));
        } else {
            println!("{}", heading(&spec, &scenarios, runs));
            findings.show();
            left_out.iter().for_each(|what| println!("not played: {what}"));
        }
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&told)?);
    }
    Ok(Exit::Done)
}

/// What became of one plan.
enum Findings {
    Own { reports: Vec<Report>, advice: Vec<Advice> },
    Compared(Vec<Judged>),
}

impl Findings {
    fn json(&self, spec: &Spec, left_out: &[String]) -> Value {
        match self {
            Findings::Own { reports, advice } => {
                json!({ "rollout": spec.name, "reports": reports, "advice": advice, "left_out": left_out })
            }
            Findings::Compared(judged) => {
                json!({ "rollout": spec.name, "compared": judged, "left_out": left_out })
            }
        }
    }

    fn show(&self) {
        match self {
            Findings::Own { reports, advice } => show(reports, advice),
            Findings::Compared(judged) => compare::show(judged),
        }
    }
}

/// How far it is, where somebody watches.
fn progress(rollout: &str, runs: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg}: {pos} of {len} runs played, {eta} left");
    ProgressBar::with_draw_target(Some(runs), ProgressDrawTarget::stderr())
        .with_style(style.expect("the template is a constant"))
        .with_message(rollout.to_owned())
}

/// What would catch those that slip through.
fn advice(
    spec: &Spec,
    scenarios: &[Scenario],
    reports: &[Report],
    seed: u64,
    bar: &ProgressBar,
) -> Vec<Advice> {
    let runs = reports.first().map_or(0, |report| report.runs).min(TRIALS);
    let slips = scenarios
        .iter()
        .zip(reports)
        .filter(|(scenario, report)| !scenario.is_healthy() && report.caught() < OFTEN_ENOUGH);
    let advise = |scenario: &Scenario| {
        bar.set_message(format!("{}, what would catch {}", spec.name, scenario.describe()));
        // How many changes are tried is known when one has helped.
        let played = || {
            bar.inc_length(1);
            bar.inc(1);
        };
        advice::advise(spec, scenario, runs, seed, &played)
    };
    slips.map(|(scenario, _)| advise(scenario)).collect()
}

/// What of the plan synthetic traffic cannot show, in words.
fn left_out(spec: &Spec, others: &[Tool]) -> Vec<String> {
    let analysis = &spec.analysis;
    let copies = spec.steps.iter().any(|step| matches!(step, Step::Trial { copied: 1.., .. }));
    let by_figures = !others.is_empty() || analysis.checks.is_some();
    let outside = !spec.hooks.is_empty() || !spec.after.is_empty() || spec.at_once.is_some();
    let strata: Vec<String> = analysis.strata.iter().map(Stratum::name).collect();
    let said = [
        (!strata.is_empty()).then(|| {
            format!(
                "{} apart: no request of this traffic is of a part; the parts keep their share of the budget",
                strata.join(", ")
            )
        }),
        (analysis.answers != OnDifference::Report)
            .then(|| "answers compared: the versions' answers are not made up".to_owned()),
        (copies && by_figures).then(|| {
            "times of copies: rules on latency rest while the canary gets nothing else, as with serin's own counts"
                .to_owned()
        }),
        (!analysis.questions.is_empty()).then(|| {
            let names: Vec<&str> = analysis.questions.iter().map(|question| question.name.as_str()).collect();
            format!("what providers say ({}): it is not made up, and the rules go without it", names.join(", "))
        }),
        spec.load.is_some().then(|| "load: all requests are the users'".to_owned()),
        outside.then(|| "who is asked or waited for: everybody agrees at once".to_owned()),
        spec.hours.is_some().then(|| "hours: it may go on at any time".to_owned()),
        spec.way_back.is_some().then(|| "the way back: the end of the bake is the end".to_owned()),
    ];
    said.into_iter().flatten().collect()
}

/// The rollouts of a file, or the one of that name.
pub(super) fn specs_of(path: &Path, name: Option<&str>) -> anyhow::Result<Vec<Spec>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let files = Files::beside(path, source::file::read_referenced);
    let loaded = config::load(&path.display().to_string(), &text, &files).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("{}", lines.join("\n"))
    })?;
    let wanted = loaded.rollouts.into_iter().filter(|spec| name.is_none_or(|name| spec.name == name));
    let specs: Vec<Spec> = wanted.collect();
    anyhow::ensure!(
        !specs.is_empty(),
        "{} has no rollout{}",
        path.display(),
        name.map(|name| format!(" {name:?}")).unwrap_or_default()
    );
    Ok(specs)
}

/// Nobody is there to be asked or waited for: everybody is taken to agree at once,
/// the hours to allow it, and the end of the bake to be the end.
fn alone(mut spec: Spec) -> Spec {
    spec.analysis.checks = spec.analysis.checks.map(Terms::alone);
    Spec { hooks: Vec::new(), after: Vec::new(), at_once: None, hours: None, way_back: None, ..spec }
}

/// Each `--scenario` is one; what `--scenario rps=50` says alone goes for the
/// usual ones.
fn scenarios(asked: &[String]) -> anyhow::Result<Vec<Scenario>> {
    let (mut base, mut own) = (Scenario::default(), Vec::new());
    for words in asked {
        let scenario = base.with(words).map_err(|cause| anyhow::anyhow!("--scenario {words}: {cause}"))?;
        if scenario.is_healthy() && own.is_empty() { base = scenario } else { own.push(scenario) }
    }
    if own.is_empty() {
        let usual = USUAL.iter().map(|words| base.with(words));
        return usual.collect::<Result<_, _>>().map_err(anyhow::Error::msg);
    }
    own.insert(0, base);
    Ok(own)
}

fn show(reports: &[Report], advice: &[Advice]) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "RELEASE",
        "ROLLED BACK",
        "CUT AFTER",
        "ROLLED BACK AFTER",
        "CANARY REQUESTS",
        "FAILED",
        "PROMOTED",
        "PROMOTED AFTER",
    ]);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for report in reports {
        table.add_row(row(report));
    }
    println!("{table}");
    for advice in advice {
        println!("{}", sentence(advice));
    }
}

fn heading(spec: &Spec, scenarios: &[Scenario], runs: u32) -> String {
    let base = &scenarios[0];
    format!(
        "{}: {} until promoted, then {} of bake; {} requests/s, the primary fails {} %, p50 {} ms, p99 {} ms; {runs} runs each",
        spec.name,
        words(spec.planned().as_secs_f64()),
        words(spec.bake.as_secs_f64()),
        base.rps,
        (base.baseline * 1e8).round() / 1e6,
        base.median_ms,
        base.p99_ms,
    )
}

fn row(report: &Report) -> [String; 8] {
    let share =
        |count: u32| format!("{} %", (1000.0 * f64::from(count) / f64::from(report.runs)).round() / 10.0);
    let of = |seconds: Option<f64>| seconds.map_or("-".to_owned(), words);
    let back = report.rollback;
    [
        report.scenario.clone(),
        share(report.rolled_back),
        of(report.cut.map(|cut| cut.seconds)),
        of(back.map(|back| back.seconds)),
        back.map_or("-".to_owned(), |back| count(back.requests)),
        count(back.map_or(report.failures, |back| back.failures)),
        share(report.promoted),
        of(report.promoted_after_seconds),
    ]
}

fn sentence(advice: &Advice) -> String {
    let Advice { scenario, change, caught, planned_seconds } = advice;
    let percent = (caught * 1000.0).round() / 10.0;
    match change {
        Some(change) => format!(
            "{scenario}: {change}, and it is caught in {percent} % of runs; the whole then takes {}",
            words(*planned_seconds)
        ),
        None => format!(
            "{scenario}: not caught reliably by longer or heavier steps either ({percent} % at best); \
             more traffic, a tighter tolerance or mirroring would tell"
        ),
    }
}

/// `0.2s`, `19s`, `6m`, `1h 4m`.
pub(super) fn words(seconds: f64) -> String {
    if seconds < 10.0 {
        return format!("{}s", (seconds * 10.0).round() / 10.0);
    }
    let whole = Duration::from_secs(seconds.round() as u64).as_secs();
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, 0) => format!("{minutes}m"),
        (0, minutes, seconds) => format!("{minutes}m {seconds}s"),
        (hours, minutes, _) => format!("{hours}h {minutes}m"),
    }
}

fn count(number: f64) -> String {
    if number < 10.0 { format!("{}", (number * 10.0).round() / 10.0) } else { format!("{}", number.round()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suppositions_about_traffic_alone_go_for_all_usual_faults() {
        let usual = scenarios(&["rps=50".to_owned()]).unwrap();
        assert_eq!(usual.len(), USUAL.len());
        assert!(usual.iter().all(|scenario| scenario.rps == 50.0) && usual[0].is_healthy());
        let own = scenarios(&["rps=50".to_owned(), "errors=2%".to_owned()]).unwrap();
        assert_eq!((own.len(), own[1].rps, own[1].errors), (2, 50.0, Some(0.02)));
        assert!(scenarios(&["x=1".to_owned()]).is_err());
    }

    #[test]
    fn durations_read_as_people_say_them() {
        let said = [0.24, 19.0, 360.0, 371.4, 3840.0].map(words);
        assert_eq!(said, ["0.2s", "19s", "6m", "6m 11s", "1h 4m"]);
    }
}
