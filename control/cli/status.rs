//! `serin status`: what people and scripts see of rollouts.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use comfy_table::{Table, presets};
use hyper::Method;
use serde::Deserialize;
use serde_json::Value;

use super::client::{Client, segment};
use super::{Exit, Status};
use crate::clock::{Clock, Moment};
use crate::figures::Figures;

/// Between two looks while waiting.
const LOOK: Duration = Duration::from_millis(200);
const REDRAW: Duration = Duration::from_secs(1);
/// Clears the screen from its top.
const CLEAR: &str = "\x1b[H\x1b[J";

/// What the table needs of the API's answer.
#[derive(Debug, Deserialize)]
pub struct Seen {
    pub name: String,
    phase: String,
    primary: String,
    canary: String,
    step: usize,
    steps: usize,
    step_progress: f64,
    sentence: String,
    rollback_meter: Option<f64>,
    warnings: Vec<String>,
    versions: BTreeMap<String, Figures>,
    weights: BTreeMap<String, f64>,
}

pub fn status(status: &Status) -> anyhow::Result<Exit> {
    let client = Client::new(&status.ask.admin)?;
    if status.wait {
        return wait(&client, status);
    }
    loop {
        let answer = look(&client, status.name.as_deref())?;
        show(&answer, status)?;
        if !status.watch {
            return Ok(Exit::Done);
        }
        std::thread::sleep(REDRAW);
    }
}

/// Returns when the rollout has come to an end, or the time is over.
fn wait(client: &Client, status: &Status) -> anyhow::Result<Exit> {
    let clock = Clock::start(Moment::default());
    let started = clock.now();
    let mut last = String::new();
    loop {
        let answer = look(client, status.name.as_deref())?;
        let seen: Seen = serde_json::from_value(answer.clone())?;
        let exit = match seen.phase.as_str() {
            "succeeded" => Some(Exit::Done),
            "rolled_back" | "aborted" => Some(Exit::RolledBack),
            _ if status.timeout.is_some_and(|timeout| clock.now().since(started) >= timeout) => {
                Some(Exit::TimedOut)
            }
            _ => None,
        };
        let place = format!("{} {}", seen.phase, seen.step);
        if !status.ask.json && place != last {
            println!("{}", line(&seen));
            last = place;
        }
        if let Some(exit) = exit {
            if status.ask.json {
                println!("{answer}");
            }
            if exit != Exit::Done {
                eprintln!("serin: {} is {}: {}", seen.name, seen.phase.replace('_', " "), seen.sentence);
            }
            return Ok(exit);
        }
        std::thread::sleep(LOOK);
    }
}

fn look(client: &Client, name: Option<&str>) -> anyhow::Result<Value> {
    let path = name.map_or("/rollouts".to_owned(), |name| format!("/rollouts/{}", segment(name)));
    client.send(Method::GET, &path, None)
}

fn show(answer: &Value, status: &Status) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if status.ask.json {
        writeln!(out, "{answer}")?;
        return Ok(());
    }
    let seen: Vec<Seen> = match status.name {
        Some(_) => vec![serde_json::from_value(answer.clone())?],
        None => serde_json::from_value(answer.clone())?,
    };
    if status.watch && out.is_terminal() {
        write!(out, "{CLEAR}{}", tables(&seen))?;
    } else if status.watch {
        for seen in &seen {
            writeln!(out, "{}", line(seen))?;
        }
    } else {
        write!(out, "{}", tables(&seen))?;
    }
    Ok(out.flush()?)
}

/// One line for logs and pipes.
pub fn line(seen: &Seen) -> String {
    let percent = seen.canary_percent();
    let Seen { name, phase, sentence, .. } = seen;
    format!("{name}: {phase}, step {}, canary {percent} %: {sentence}", seen.step_of())
}

fn tables(all: &[Seen]) -> String {
    if all.is_empty() {
        return "no rollouts are configured\n".to_owned();
    }
    let mut rollouts = table(&["ROLLOUT", "PHASE", "STEP", "CANARY", "EVIDENCE", "SAYS"]);
    let mut versions =
        table(&["ROLLOUT", "VERSION", "WEIGHT", "RPS", "SUCCESS", "P50", "P99", "REQUESTS", "FAILED"]);
    for seen in all {
        rollouts.add_row(vec![
            seen.name.clone(),
            seen.phase.clone(),
            seen.step_of(),
            format!("{} %", seen.canary_percent()),
            seen.rollback_meter.map_or("-".to_owned(), |meter| format!("{:.0} %", meter * 100.0)),
            seen.sentence.clone(),
        ]);
        for version in [&seen.primary, &seen.canary] {
            if let Some(figures) = seen.versions.get(version) {
                versions.add_row(version_row(seen, version, figures));
            }
        }
    }
    let mut text = format!("{}\n\n{}\n", rollouts.trim_fmt(), versions.trim_fmt());
    for seen in all {
        for warning in &seen.warnings {
            text.push_str(&format!("{}: {warning}\n", seen.name));
        }
    }
    text
}

fn version_row(seen: &Seen, version: &str, figures: &Figures) -> Vec<String> {
    let none = || "-".to_owned();
    let ms = |ms: Option<f64>| ms.map_or_else(none, |ms| format!("{ms:.1} ms"));
    let success = figures.failure_share.map(|share| format!("{:.2} %", (1.0 - share) * 100.0));
    vec![
        seen.name.clone(),
        version.to_owned(),
        format!("{} %", seen.weights.get(version).copied().unwrap_or(0.0)),
        format!("{:.0}", figures.rps),
        success.unwrap_or_else(none),
        ms(figures.p50_ms),
        ms(figures.p99_ms),
        figures.requests.to_string(),
        figures.failures.to_string(),
    ]
}

fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(head.to_vec());
    table
}

impl Seen {
    fn canary_percent(&self) -> f64 {
        self.weights.get(&self.canary).copied().unwrap_or(0.0)
    }

    /// `2/4 (37 %)` while it runs, nothing before and after.
    fn step_of(&self) -> String {
        match self.phase.as_str() {
            "running" | "paused" | "suspended" | "held" => {
                let progress = self.step_progress * 100.0;
                format!("{}/{} ({progress:.0} %)", (self.step + 1).min(self.steps), self.steps)
            }
            _ => format!("-/{}", self.steps),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> Seen {
        serde_json::from_value(serde_json::json!({
            "name": "web", "split": "web", "phase": "running", "primary": "primary", "canary": "canary",
            "step": 1, "steps": 4, "step_progress": 0.37, "sentence": "nothing speaks against it",
            "rollback_meter": 0.1, "warnings": ["not randomised"],
            "versions": {
                "primary": {"requests": 90, "failures": 0, "shielded": 0, "in_flight": 0, "rps": 9.0,
                            "failure_share": 0.0, "p50_ms": 1.0, "p99_ms": 2.25},
                "canary": {"requests": 10, "failures": 1, "shielded": 1, "in_flight": 0, "rps": 1.0,
                           "failure_share": null, "p50_ms": null, "p99_ms": null},
            },
            "weights": {"primary": 97.5, "canary": 2.5},
        }))
        .unwrap()
    }

    #[test]
    fn line_says_where_the_rollout_is() {
        assert_eq!(line(&seen()), "web: running, step 2/4 (37 %), canary 2.5 %: nothing speaks against it");
    }

    #[test]
    fn table_has_a_row_for_each_version_and_no_figure_where_there_is_none() {
        let text = tables(&[seen()]);
        let row = |version: &str| {
            let line = text.lines().find(|line| line.split_whitespace().nth(1) == Some(version)).unwrap();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(row("primary"), "web primary 97.5 % 9 100.00 % 1.0 ms 2.2 ms 90 0");
        assert_eq!(row("canary"), "web canary 2.5 % 1 - - - 10 1");
        assert!(text.contains("web: not randomised"));
    }
}
