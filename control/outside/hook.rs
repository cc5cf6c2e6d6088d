//! Webhooks: who is asked about a rollout or told of it, when, and what came of it.
//! Names and meaning are Flagger's.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Tls;
use super::provider::Query;
use crate::secret::{self, Secret, Text};

/// When a webhook is called, and what its answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HookType {
    /// Before anything goes to the canary; until it agrees nothing does.
    ConfirmRollout,
    /// After that; a failure counts.
    PreRollout,
    /// Again and again while steps run; a failure counts, and no step passes.
    Rollout,
    /// Before each rise of the weight, the first one too. Trials and copies are no weight.
    ConfirmTrafficIncrease,
    /// Before the canary gets everything.
    ConfirmPromotion,
    /// When it is over, whatever came of it.
    PostRollout,
    /// Again and again; one that agrees rolls back.
    Rollback,
    /// Everything that the rollout tells.
    Event,
}

impl HookType {
    pub const ALL: [HookType; 8] = [
        HookType::ConfirmRollout,
        HookType::PreRollout,
        HookType::Rollout,
        HookType::ConfirmTrafficIncrease,
        HookType::ConfirmPromotion,
        HookType::PostRollout,
        HookType::Rollback,
        HookType::Event,
    ];

    pub fn name(self) -> &'static str {
        match self {
            HookType::ConfirmRollout => "confirm-rollout",
            HookType::PreRollout => "pre-rollout",
            HookType::Rollout => "rollout",
            HookType::ConfirmTrafficIncrease => "confirm-traffic-increase",
            HookType::ConfirmPromotion => "confirm-promotion",
            HookType::PostRollout => "post-rollout",
            HookType::Rollback => "rollback",
            HookType::Event => "event",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    pub name: String,
    #[serde(rename = "type")]
    pub on: HookType,
    pub to: Where,
    /// Of each attempt.
    pub timeout: Duration,
    /// Attempts after the first.
    pub retries: u32,
    /// How soon it is asked again.
    pub interval: Duration,
    /// So many failures over the whole rollout roll it back.
    pub failures: u32,
    pub mute_alert: bool,
    /// What the canary's namespace would be.
    pub namespace: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Text>,
    /// The key of a signature over the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign: Option<Secret>,
    #[serde(default)]
    pub tls: Tls,
}

impl Hook {
    /// As others may see it.
    pub fn shown(&self) -> Hook {
        let to = match &self.to {
            Where::Url(url) => Where::Url(url.host_only()),
            Where::Gate | Where::Query(_) => self.to.clone(),
        };
        Hook { to, headers: secret::shown(&self.headers), ..self.clone() }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Where {
    Url(Text),
    /// The gate of this rollout that the admin API opens and closes.
    Gate,
    /// A number that has to be within its bounds.
    Query(Query),
}

/// What all webhooks of one type answered to a question about a rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Word {
    pub on: HookType,
    /// The step that the question was about.
    pub step: usize,
    pub answer: Answer,
    /// Who said so, and what.
    pub why: String,
}

/// That nobody has answered yet is neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Open,
    Closed,
    /// Asked, and neither yes nor no came of it: what was said before is over.
    Silent,
}
