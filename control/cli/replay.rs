//! `serin replay`: decides again from a journal, and under another policy.

use std::collections::BTreeMap;
use std::path::Path;

use comfy_table::{ContentArrangement, Table, presets};
use console::Term;
use jiff::Timestamp;
use serde_json::json;

use super::rehearse::{specs_of, words};
use super::{Exit, Replay};
use crate::clock::Moment;
use crate::events::word;
use crate::journal::saved;
use crate::replay;
use crate::replay::report::{Again, Break, Decided, Report, Run, Supposed, Tally, told};
use crate::rollout::{Action, EventKind};

const LIMIT: &str = "\
The evidence is what was recorded, under the weights that were in force then. Under another policy they would have
differed, and so would the canary's requests; a step at a weight that was not in force has none of its own to pass on.";

/// Gaps that are told one by one.
const GAPS: usize = 6;

pub fn replay(options: &Replay) -> anyhow::Result<Exit> {
    let policies = match &options.policy {
        Some(path) => specs_of(path, options.name.as_deref())?,
        None => Vec::new(),
    };
    let mut replay = replay::Replay::new(policies.clone());
    let mut notes = Vec::new();
    for file in saved::files(&options.journal)? {
        let torn = saved::lines(&file, |line| replay.take(line))?;
        if torn > 0 {
            notes.push(format!("{}: the last line is torn, {torn} bytes are left out", file.display()));
        }
    }
    let mut reports = replay.end();
    reports.retain(|report| options.name.as_ref().is_none_or(|name| report.rollout == *name));
    match &options.name {
        Some(name) if reports.is_empty() => anyhow::bail!("the record has no rollout {name:?}"),
        None if reports.is_empty() => notes.push("the record has no rollout yet".to_owned()),
        _ => {}
    }
    for policy in policies.iter().filter(|policy| reports.iter().all(|report| report.rollout != policy.name))
    {
        notes.push(format!("the record has no rollout {:?}", policy.name));
    }
    if let Some(path) = &options.policy {
        let any = reports.iter().any(|report| report.supposed.is_some());
        anyhow::ensure!(any, "{} has no rollout that the record has", path.display());
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&json!({ "notes": notes, "rollouts": reports }))?);
    } else {
        notes.iter().for_each(|note| println!("{note}"));
        for report in &reports {
            show(report, options.policy.as_deref());
        }
    }
    let differs = reports.iter().any(|report| report.tally().different > 0);
    Ok(if differs { Exit::Error } else { Exit::Done })
}

fn show(report: &Report, policy: Option<&Path>) {
    println!("{}", heading(report));
    report.breaks.iter().take(GAPS).for_each(|gap| println!("  {}", gap_of(gap)));
    if report.breaks.len() > GAPS {
        println!("  and {} further gaps", report.breaks.len() - GAPS);
    }
    if let Some(at) = report.differs_from {
        let Report { states, states_differ, .. } = report;
        println!(
            "  {states_differ} of {states} states that were written on the way are others, from {} on: \
             another serin has written them",
            time(at)
        );
    }
    match (&report.supposed, policy) {
        (Some(supposed), Some(path)) => show_supposed(report, supposed, path),
        _ => show_decisions(report),
    }
}

fn heading(report: &Report) -> String {
    let Tally { same, different, unknown } = report.tally();
    let Some(since) = report.since else {
        return format!("{}: nothing was decided that is in the record", report.rollout);
    };
    let mut text = format!(
        "{}: {} looks from {} to {} UTC; {same} decisions are the same again, {different} are not",
        report.rollout,
        report.looks,
        date(since),
        date(report.until)
    );
    if unknown > 0 {
        text.push_str(&format!(", {unknown} cannot be decided again"));
    }
    if report.was_under_way {
        text.push_str("; it was under way already, what came before is no longer in the record");
    }
    text
}

fn gap_of(gap: &Break) -> String {
    let until = gap.to.map(|to| format!(" to {}", time(to))).unwrap_or_default();
    let lost = gap.lost.map(|lost| format!(", {lost} looks were not kept")).unwrap_or_default();
    let phase = gap.phase.name();
    format!("nothing is known from {}{until}: {}{lost}; {phase} after it", time(gap.from), gap.why)
}

fn show_decisions(report: &Report) {
    let mut table = table(["TIME", "DECISION", "AGAIN"]);
    let mut quiet = 0;
    for decided in &report.decisions {
        let again = match &decided.again {
            Again::Same if told(&decided.actions).next().is_none() => {
                quiet += 1;
                continue;
            }
            Again::Same => "same".to_owned(),
            Again::Different { actions } => format!("DIFFERENT: {}", in_words(actions)),
            Again::Unknown { why } => format!("not known: {why}"),
        };
        table.add_row([time(decided.at), recorded(decided), again]);
    }
    if table.row_iter().next().is_some() {
        println!("{table}");
    }
    if quiet > 0 {
        println!("  and {quiet} the same of which nobody is told (ages to report, new generations)");
    }
}

fn recorded(decided: &Decided) -> String {
    let commands: Vec<&str> = decided.commands.iter().map(|command| command.name()).collect();
    match commands.is_empty() {
        true => in_words(&decided.actions),
        false => format!("[{}] {}", commands.join(", "), in_words(&decided.actions)),
    }
}

fn in_words(actions: &[Action]) -> String {
    let events: Vec<String> =
        told(actions).map(|event| format!("{}: {}", word(event.kind), event.text)).collect();
    if !events.is_empty() {
        return events.join("; ");
    }
    let what = |action: &Action| match action {
        Action::Shift { split, weights } => format!("weights of {split}: {weights:?}"),
        Action::Mark { .. } => "ages to report".to_owned(),
        Action::Renew => "a new generation".to_owned(),
        Action::Tell { event } => event.text.clone(),
    };
    if actions.is_empty() {
        "nothing".to_owned()
    } else {
        actions.iter().map(what).collect::<Vec<_>>().join("; ")
    }
}

/// Both courses in one table, by time.
fn show_supposed(report: &Report, supposed: &Supposed, path: &Path) {
    let policy = path.display().to_string();
    let mut rows: BTreeMap<Moment, [String; 2]> = BTreeMap::new();
    for decided in report.decisions.iter().filter(|decided| told(&decided.actions).next().is_some()) {
        rows.entry(decided.at).or_default()[0] = recorded(decided);
    }
    for done in &supposed.decisions {
        let events = done.events.iter().map(|event| format!("{}: {}", word(event.kind), event.text));
        rows.entry(done.at).or_default()[1] = events.collect::<Vec<_>>().join("; ");
    }
    let mut table = table(["TIME", "RECORDED", &policy]);
    for (at, [was, would]) in rows {
        let would = if was == would { "the same".to_owned() } else { would };
        table.add_row([time(at), was, would]);
    }
    println!("{table}");
    for run in &supposed.recorded {
        let twin = supposed.runs.iter().find(|other| other.since == run.since);
        println!("  {}", compared(run, twin, &policy));
    }
    println!("{LIMIT}");
}

fn compared(was: &Run, would: Option<&Run>, policy: &str) -> String {
    let mut text = format!("begun at {}: recorded, {}; ", time(was.since), fate(was));
    let Some(would) = would else {
        text.push_str(&format!("by {policy} it does not begin there"));
        return text;
    };
    text.push_str(&format!("by {policy}, {}", fate(would)));
    if let (Some(was_end), Some(end)) = (was.end, would.end)
        && was_end.kind == end.kind
        && end.at != was_end.at
    {
        let (earlier, later) = (end.at.min(was_end.at), end.at.max(was_end.at));
        let apart = words(later.since(earlier).as_secs_f64());
        let sense = if end.at < was_end.at { "sooner" } else { "later" };
        let requests = was.requests.abs_diff(would.requests);
        text.push_str(&format!(": {apart} and {requests} canary requests {sense}"));
    }
    text
}

fn fate(run: &Run) -> String {
    let after = |at: Moment| words(at.since(run.since).as_secs_f64());
    let mut parts = Vec::new();
    if let Some(cut) = run.cut {
        parts.push(format!("cut to a trickle after {}", after(cut)));
    }
    if let Some(promoted) = run.promoted {
        parts.push(format!("promoted after {}", after(promoted)));
    }
    match (&run.end, &run.stands) {
        (Some(end), _) => {
            let kind = match end.kind {
                EventKind::RolledBack => "rolled back",
                EventKind::Baked => "good for good",
                EventKind::Aborted => "aborted",
                _ => "turned back",
            };
            parts.push(format!("{kind} after {}", after(end.at)));
        }
        (None, Some(stands)) => parts.push(format!("{stands} when no more is known")),
        (None, None) => parts.push("not over when the record ends".to_owned()),
    }
    format!("{} with {} canary requests, {} failed", parts.join(", "), run.requests, run.failures)
}

fn table(heads: [&str; 3]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(heads);
    // Sentences are long; where nobody looks on they are for other programs.
    if let Some((_, columns)) = Term::stdout().size_checked() {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns);
    }
    table
}

fn date(at: Moment) -> String {
    shown(at, "%F %T%.3f")
}

fn time(at: Moment) -> String {
    shown(at, "%T%.3f")
}

fn shown(at: Moment, how: &str) -> String {
    let time = i64::try_from(at.0).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| format!("{} ms", at.0), |time| time.strftime(how).to_string())
}
