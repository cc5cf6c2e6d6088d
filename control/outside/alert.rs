//! Alerts: who hears of which events, and how it is said there.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Tls;
use crate::secret::{self, Secret, Text};

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Alerts {
    /// A template of the page that a message leads to; without it the admin API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Where this serin stands, such as `production`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    pub receivers: Vec<Receiver>,
    /// A message goes by every route that takes it, but to a receiver only once.
    pub routes: Vec<Route>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Receiver {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: Kind,
    pub url: Text,
    /// Slack: a bearer token. PagerDuty: the integration's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The body of a plain webhook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sign: Option<Secret>,
    pub tls: Tls,
    pub timeout: Duration,
    pub retries: u32,
    /// More messages than these are left out and counted in the next.
    pub per_minute: u32,
    /// The same is not said again within.
    pub repeat: Duration,
    /// Alertmanager: how long an alert fires when nobody says it again.
    pub lasts: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    Slack,
    RocketChat,
    Discord,
    /// The card of Teams' connectors, which Flagger sends.
    Teams,
    /// The card of Teams' workflows.
    TeamsWorkflow,
    GoogleChat,
    PagerDuty,
    Webhook,
    Alertmanager,
    CloudEvents,
}

/// An empty list is no condition.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    pub receiver: String,
    /// The least that is sent.
    pub severity: Severity,
    pub events: Vec<String>,
    pub ignore_events: Vec<String>,
    pub rollouts: Vec<String>,
    pub ignore_rollouts: Vec<String>,
    pub services: Vec<String>,
    pub ignore_services: Vec<String>,
    pub environments: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignore_environments: Vec<String>,
    /// The rollout has to have all of them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ignore_labels: BTreeMap<String, String>,
}

#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    #[default]
    Info,
    Warn,
    Error,
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warn => "warn",
            Severity::Error => "error",
        }
    }
}

impl Alerts {
    /// As others may see them.
    pub fn shown(&self) -> Alerts {
        let shown = |receiver: &Receiver| {
            let (url, headers) = (receiver.url.host_only(), secret::shown(&receiver.headers));
            Receiver { url, headers, ..receiver.clone() }
        };
        Alerts { receivers: self.receivers.iter().map(shown).collect(), ..self.clone() }
    }

    pub fn receiver(&self, name: &str) -> Option<&Receiver> {
        self.receivers.iter().find(|receiver| receiver.name == name)
    }
}

impl Kind {
    /// Those that open an alert and resolve it later.
    pub fn resolves(self) -> bool {
        matches!(self, Kind::PagerDuty | Kind::Alertmanager)
    }
}
