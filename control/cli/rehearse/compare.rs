//! `serin rehearse --compare`: one table of what each judge would have made of the
//! same releases.

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::{count, words};
use crate::rehearse::report::Report;
use crate::rehearse::scenario::Scenario;
use crate::rehearse::tools::Tool;
use crate::rollout::Spec;

/// One judge and what came of it, a report for each scenario.
#[derive(Serialize)]
pub struct Judged {
    judge: &'static str,
    rules: String,
    reports: Vec<Report>,
}

/// The tools' rules on the seeds that serin's own judge had.
pub fn judged(
    spec: &Spec,
    tools: &[Tool],
    scenarios: &[Scenario],
    own: Vec<Report>,
    seed: u64,
    played: &dyn Fn(),
) -> Vec<Judged> {
    let runs = own.first().map_or(0, |report| report.runs);
    let rules = "the plan as it stands in the file".to_owned();
    let mut judged = vec![Judged { judge: "serin", rules, reports: own }];
    for tool in tools {
        let other = tool.spec(spec);
        let report = |scenario| Report::watched(&other, scenario, runs, seed, played);
        let reports = scenarios.iter().map(report).collect();
        judged.push(Judged { judge: tool.name(), rules: tool.rules(spec), reports });
    }
    judged
}

pub fn show(judged: &[Judged]) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "RELEASE",
        "JUDGE",
        "ROLLED BACK",
        "CUT AFTER",
        "ROLLED BACK AFTER",
        "FAILED REQUESTS",
        "PROMOTED",
        "PROMOTED AFTER",
    ]);
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let scenarios = judged.first().map_or(0, |judged| judged.reports.len());
    for at in 0..scenarios {
        for Judged { judge, reports, .. } in judged {
            table.add_row(row(judge, &reports[at]));
        }
    }
    println!("{table}");
    println!(
        "FAILED REQUESTS: of the canary, mean of all runs, until it was rolled back or promoted. \
         A release that is no worse and rolled back is a false alarm."
    );
    for Judged { judge, rules, .. } in judged {
        println!("{judge}: {rules}");
    }
    println!("The others are their rules, played by serin on the same traffic; none of these tools was run.");
}

fn row(judge: &str, report: &Report) -> [String; 8] {
    let share = |count: u32| {
        let percent = 100.0 * f64::from(count) / f64::from(report.runs.max(1));
        format!("{} %", (percent * 10.0).round() / 10.0)
    };
    let of = |seconds: Option<f64>| seconds.map_or("-".to_owned(), words);
    [
        report.scenario.clone(),
        judge.to_owned(),
        share(report.rolled_back),
        of(report.cut.map(|cut| cut.seconds)),
        of(report.rollback.map(|back| back.seconds)),
        count(report.exposed_failures),
        share(report.promoted),
        of(report.promoted_after_seconds),
    ]
}
