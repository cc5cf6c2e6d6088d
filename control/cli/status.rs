//! `serin status`: what people and scripts see of rollouts.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use comfy_table::{Table, presets};
use console::Term;
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
    #[serde(default)]
    doing: String,
    primary: String,
    canary: String,
    step: usize,
    steps: usize,
    step_progress: f64,
    active: bool,
    canary_parts: u32,
    sentence: String,
    rollback_meter: Option<f64>,
    tests: Vec<Test>,
    warnings: Vec<String>,
    versions: BTreeMap<String, Figures>,
    weights: BTreeMap<String, f64>,
}

#[derive(Debug, Deserialize)]
struct Test {
    test: String,
    share: f64,
    log_e: f64,
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
            match exit {
                Exit::Done => {}
                Exit::TimedOut => eprintln!("serin: waited long enough; {}", line(&seen)),
                _ => eprintln!("serin: {} is {}: {}", seen.name, seen.phase(), seen.sentence),
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
    let width = out.is_terminal().then(|| usize::from(Term::stdout().size().1));
    let text = tables(&seen, status.name.is_some(), width);
    if status.watch && width.is_some() {
        write!(out, "{CLEAR}{text}")?;
    } else if status.watch {
        for seen in &seen {
            writeln!(out, "{}", line(seen))?;
        }
    } else {
        write!(out, "{text}")?;
    }
    Ok(out.flush()?)
}

/// One line for logs and pipes.
pub fn line(seen: &Seen) -> String {
    let place = match seen.step_of() {
        None => String::new(),
        Some(_) if seen.phase == "promoting" => String::new(),
        Some(place) if seen.is_beyond_steps() => format!(", {place}"),
        Some(place) => format!(", step {place}"),
    };
    format!("{}: {}{place}, canary {} %: {}", seen.name, seen.phase(), seen.canary_percent(), seen.says())
}

/// Sentences are wrapped where there is a width to wrap to.
fn tables(all: &[Seen], with_tests: bool, width: Option<usize>) -> String {
    if all.is_empty() {
        return "no rollouts are configured\n".to_owned();
    }
    let mut rollouts = table(&["ROLLOUT", "PHASE", "STEP", "CANARY", "EVIDENCE"]);
    let mut versions =
        table(&["ROLLOUT", "VERSION", "WEIGHT", "RPS", "SUCCESS", "P50", "P99", "REQUESTS", "FAILED"]);
    for seen in all {
        rollouts.add_row(vec![
            seen.name.clone(),
            seen.phase(),
            seen.step_of().unwrap_or_else(|| "-".to_owned()),
            format!("{} %", seen.canary_percent()),
            seen.rollback_meter.map_or("-".to_owned(), |meter| format!("{:.0} %", meter * 100.0)),
        ]);
        for version in [&seen.primary, &seen.canary] {
            if let Some(figures) = seen.versions.get(version) {
                versions.add_row(version_row(seen, version, figures));
            }
        }
    }
    let mut text = format!("{}\n\n{}\n", rollouts.trim_fmt(), versions.trim_fmt());
    if with_tests {
        text.push_str(&tests(all));
    }
    text.push('\n');
    for seen in all {
        if with_tests && !seen.doing.is_empty() {
            text.push_str(&hanging(&format!(" {}: ", seen.name), &seen.doing, width));
        }
        let warnings = seen.warnings.iter().map(|warning| format!("warning: {warning}"));
        for said in std::iter::once(seen.says()).chain(warnings) {
            text.push_str(&hanging(&format!(" {}: ", seen.name), &said, width));
        }
    }
    text
}

fn tests(all: &[Seen]) -> String {
    let mut tests = table(&["ROLLOUT", "TEST", "BUDGET", "ODDS AGAINST THE CANARY"]);
    for seen in all {
        for Test { test, share, log_e } in &seen.tests {
            let (test, share) = (test.replace('_', " "), format!("{:.0} %", share * 100.0));
            tests.add_row(vec![seen.name.clone(), test, share, odds(*log_e)]);
        }
    }
    if tests.is_empty() { String::new() } else { format!("\n{}\n", tests.trim_fmt()) }
}

/// `0.87:1`, and `1e12:1` where digits say nothing any more.
fn odds(log_e: f64) -> String {
    let odds = log_e.exp();
    if odds < 10_000.0 { format!("{odds:.2}:1") } else { format!("{odds:.0e}:1") }
}

/// `text` after `head`, wrapped and hanging under its first word.
fn hanging(head: &str, text: &str, width: Option<usize>) -> String {
    let room = width.map_or(usize::MAX, |width| width.saturating_sub(head.len()).max(40));
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is a first line and none is taken away");
        if last.is_empty() {
            last.push_str(word);
        } else if last.chars().count() + 1 + word.chars().count() <= room {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    format!("{head}{}\n", lines.join(&format!("\n{}", " ".repeat(head.len()))))
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

    /// `2/4 (37 %)` or `bake (37 %)` while it runs, nothing before and after.
    fn step_of(&self) -> Option<String> {
        let progress = self.step_progress * 100.0;
        self.active.then(|| match self.is_beyond_steps() {
            true if self.phase == "promoting" => "way back".to_owned(),
            true => format!("bake ({progress:.0} %)"),
            false => format!("{}/{} ({progress:.0} %)", self.step + 1, self.steps),
        })
    }

    fn is_beyond_steps(&self) -> bool {
        self.step >= self.steps
    }

    fn phase(&self) -> String {
        self.phase.replace('_', " ")
    }

    /// The judge's sentence, corrected where the weights are no longer this rollout's.
    fn says(&self) -> String {
        let percent = self.canary_percent();
        if self.active || percent == f64::from(self.canary_parts) / 100.0 {
            return self.sentence.clone();
        }
        let others = format!("the canary's weight of {percent} % is set by hand or by the file");
        match self.phase.as_str() {
            "idle" => format!("idle: {others}"),
            _ => format!("{}; now {others}", self.sentence),
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
            "active": true, "canary_parts": 250,
            "tests": [{"test": "relative_failures", "share": 0.57, "log_e": -0.14, "log_raw": -0.14}],
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
        let text = tables(&[seen()], false, None);
        let row = |version: &str| {
            let line = text.lines().find(|line| line.split_whitespace().nth(1) == Some(version)).unwrap();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(row("primary"), "web primary 97.5 % 9 100.00 % 1.0 ms 2.2 ms 90 0");
        assert_eq!(row("canary"), "web canary 2.5 % 1 - - - 10 1");
        assert!(text.contains("web: nothing speaks against it\n web: warning: not randomised"), "{text}");
        assert!(!text.contains("TEST"));
        let text = tables(&[seen()], true, None);
        assert!(text.contains("web      relative failures  57 %    0.87:1"), "{text}");
    }

    #[test]
    fn place_is_told_in_words_in_every_phase() {
        let told =
            |phase: &str, step, active| line(&Seen { phase: phase.to_owned(), step, active, ..seen() });
        assert!(told("baking", 4, true).starts_with("web: baking, bake (37 %), canary 2.5 %: "));
        assert!(told("suspended", 3, true).starts_with("web: suspended, step 4/4 (37 %), canary"));
        assert!(told("rolled_back", 0, false).starts_with("web: rolled back, canary 2.5 %: "));
    }

    #[test]
    fn weights_of_others_are_not_told_as_the_rollouts() {
        let seen = Seen { active: false, canary_parts: 0, phase: "idle".to_owned(), ..seen() };
        assert_eq!(seen.says(), "idle: the canary's weight of 2.5 % is set by hand or by the file");
        let rolled_back = Seen { phase: "rolled_back".to_owned(), ..seen };
        assert!(
            rolled_back.says().starts_with("nothing speaks against it; now the canary's weight of 2.5 %")
        );
        assert_eq!(Seen { canary_parts: 250, ..rolled_back }.says(), "nothing speaks against it");
    }

    #[test]
    fn long_sentences_hang_under_their_first_word() {
        let text = hanging(" web: ", &"word ".repeat(20), Some(60));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.len() == 2 && lines.iter().all(|line| line.len() <= 60), "{text}");
        assert!(lines[0].starts_with(" web: word") && lines[1].starts_with("      word"), "{text}");
        assert_eq!(hanging("a: ", "b c", None), "a: b c\n");
    }
}
