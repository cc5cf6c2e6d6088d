//! What an alert says: the judge's sentence, the figures it rests on, and where to
//! look. The same for every receiver; only `format` knows how each writes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::clock::Moment;
use crate::events::{Told, word};
use crate::judge::sentence::significant;
use crate::outside::alert::Severity;
use crate::rollout::EventKind;
use crate::template;
use crate::tick::view::{Detail, phase_word};

/// Where messages lead to, and where they come from.
pub struct Page<'a> {
    pub link: Option<&'a str>,
    pub admin: &'a str,
    pub environment: Option<&'a str>,
    pub labels: &'a BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    pub id: u64,
    pub at: Moment,
    /// The same in words.
    pub time: String,
    pub severity: Severity,
    pub event: String,
    pub rollout: String,
    pub service: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// The rollout's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    pub phase: String,
    pub title: String,
    /// What happened, and the judge's reason.
    pub text: String,
    pub canary_percent: f64,
    pub figures: Vec<Figure>,
    pub link: String,
    /// What was wrong before is so no more.
    pub resolves: bool,
    /// Messages to this receiver that were left out since the last one.
    #[serde(default, skip_serializing_if = "is_none")]
    pub left_out: u64,
    /// When it was said again, where a receiver forgets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<Moment>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    pub name: String,
    pub value: String,
}

fn is_none(left_out: &u64) -> bool {
    *left_out == 0
}

impl Message {
    pub fn of(told: &Told, detail: &Detail, page: &Page) -> Message {
        let (event, status) = (&told.event, &detail.status);
        let word = word(event.kind).to_owned();
        let percent = serin_proxy::weights::percent(event.canary_parts);
        let mut message = Message {
            id: told.id,
            at: event.at,
            time: time(event.at),
            severity: severity(event.kind),
            rollout: event.rollout.clone(),
            service: status.split.clone(),
            environment: page.environment.map(str::to_owned),
            labels: page.labels.clone(),
            phase: phase_word(status.phase).to_owned(),
            title: format!("{}: {}", event.rollout, word.replace('_', " ")),
            text: event.text.clone(),
            canary_percent: percent,
            figures: figures(detail, percent),
            link: String::new(),
            resolves: resolves(event.kind),
            left_out: 0,
            again: None,
            event: word,
        };
        message.link = message.leads_to(page);
        message
    }

    pub fn test(severity: Severity, page: &Page, now: Moment) -> Message {
        let mut message = Message {
            id: now.0,
            at: now,
            time: time(now),
            severity,
            event: "test".to_owned(),
            rollout: "test".to_owned(),
            service: "test".to_owned(),
            environment: page.environment.map(str::to_owned),
            labels: page.labels.clone(),
            phase: "idle".to_owned(),
            title: "test: this is a test".to_owned(),
            text: "a test that somebody asked serin for; nothing has happened".to_owned(),
            canary_percent: 0.0,
            figures: Vec::new(),
            link: String::new(),
            resolves: severity == Severity::Info,
            left_out: 0,
            again: None,
        };
        message.link = message.leads_to(page);
        message
    }

    fn leads_to(&self, page: &Page) -> String {
        let own = || format!("http://{}/rollouts/{}", page.admin, self.rollout);
        let Some(link) = page.link else { return own() };
        let names = json!({"rollout": self.rollout, "service": self.service, "event": self.event,
            "environment": self.environment.clone().unwrap_or_default(), "labels": self.labels, "id": self.id});
        template::render(link, names).unwrap_or_else(|wrong| {
            tracing::warn!(%wrong, "the link of alerts cannot be rendered");
            own()
        })
    }
}

/// How bad it is that this happens.
fn severity(kind: EventKind) -> Severity {
    match kind {
        EventKind::RolledBack | EventKind::TurnedBack => Severity::Error,
        EventKind::Halted
        | EventKind::Inconclusive
        | EventKind::Differs
        | EventKind::Aborted
        | EventKind::Superseded
        | EventKind::Suspended
        | EventKind::Held
        | EventKind::Waiting => Severity::Warn,
        _ => Severity::Info,
    }
}

/// Whether it ends what an earlier event began.
fn resolves(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Started
            | EventKind::Step
            | EventKind::Resumed
            | EventKind::Probed
            | EventKind::Released
            | EventKind::Promoted
            | EventKind::Returning
            | EventKind::Baked
    )
}

/// Whether a receiver that holds a state of the rollout has another one after it.
pub fn says_how_it_stands(kind: EventKind) -> bool {
    resolves(kind) || severity(kind) >= Severity::Warn
}

fn figures(detail: &Detail, percent: f64) -> Vec<Figure> {
    let status = &detail.status;
    let figure = |name: &str, value: String| Figure { name: name.to_owned(), value };
    let mut figures = vec![figure("Canary weight", format!("{percent} %"))];
    if status.canary_requests > 0 {
        let failed = |failures: u64, requests: u64| format!("{failures} of {requests} requests");
        figures.push(figure("Canary failed", failed(status.canary_failures, status.canary_requests)));
        figures.push(figure("Primary failed", failed(status.primary_failures, status.primary_requests)));
    }
    for test in &status.tests {
        // As odds: what people compare with the odds that a rollback needs.
        figures.push(figure(&test.test.replace('_', " "), format!("{}:1", significant(test.log_e.exp()))));
    }
    figures
}

pub fn time(at: Moment) -> String {
    let milliseconds = i64::try_from(at.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(milliseconds).map(|time| time.to_string()).unwrap_or_default()
}

impl Message {
    /// So long after it was last said, written the same way.
    pub fn time_after(&self, lasts: std::time::Duration) -> String {
        time(self.again.unwrap_or(self.at).after(lasts))
    }
}
