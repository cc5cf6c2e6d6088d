//! `serin rehearse`: what a rollout's plan would do, before it has to.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;

mod compare;

use super::{Exit, Rehearse};
use crate::config;
use crate::config::Files;
use crate::rehearse::advice::{self, Advice, OFTEN_ENOUGH};
use crate::rehearse::report::Report;
use crate::rehearse::scenario::Scenario;
use crate::rollout::Spec;
use crate::source;

/// The faults that are played where none is asked for.
const USUAL: [&str; 6] = ["", "errors=1%", "errors=5%", "errors=100%", "latency=x1.5", "tail=x2"];
/// Runs of each scenario; with others' rules there are several times as many.
const RUNS: u32 = 1000;
const RUNS_COMPARED: u32 = 100;
/// Runs of each change that is tried.
const TRIALS: u32 = 200;

pub fn rehearse(options: &Rehearse) -> anyhow::Result<Exit> {
    let specs: Vec<Spec> =
        specs_of(&options.config.config, options.name.as_deref())?.into_iter().map(alone).collect();
    let scenarios = scenarios(&options.scenario)?;
    let usual = if options.compare.is_empty() { RUNS } else { RUNS_COMPARED };
    let runs = options.runs.unwrap_or(usual);
    let mut told = Vec::new();
    for spec in &specs {
        let reports: Vec<Report> =
            scenarios.iter().map(|scenario| Report::of(spec, scenario, runs, options.seed)).collect();
        if !options.compare.is_empty() {
            let judged = compare::judged(spec, &options.compare, &scenarios, reports, options.seed);
            if options.json {
                told.push(json!({ "rollout": spec.name, "compared": judged }));
            } else {
                println!("{}", heading(spec, &scenarios, runs));
                compare::show(&judged);
            }
            continue;
        }
        let slips = scenarios
            .iter()
            .zip(&reports)
            .filter(|(scenario, report)| !scenario.is_healthy() && report.caught() < OFTEN_ENOUGH);
        let advice: Vec<Advice> = slips
            .map(|(scenario, _)| advice::advise(spec, scenario, runs.min(TRIALS), options.seed))
            .collect();
        if options.json {
            told.push(json!({ "rollout": spec.name, "reports": reports, "advice": advice }));
        } else {
            show(spec, &scenarios, &reports, &advice);
        }
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&told)?);
    }
    Ok(Exit::Done)
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
fn alone(spec: Spec) -> Spec {
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

fn show(spec: &Spec, scenarios: &[Scenario], reports: &[Report], advice: &[Advice]) {
    println!("{}", heading(spec, scenarios, reports[0].runs));
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
