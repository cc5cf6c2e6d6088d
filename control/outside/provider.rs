//! Metric stores and whatever else gives a number: where they are and how they are
//! asked, as Flagger, Argo Rollouts and PipeCD ask them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json_path::JsonPath;

use super::Tls;
use crate::secret::{self, Text};

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Provider {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Where it is; nothing for a command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Text>,
    pub login: Login,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Text>,
    pub tls: Tls,
    /// Of one question.
    pub timeout: Duration,
}

impl Provider {
    /// As others may see it. The address of a store is no secret; a page's may be.
    pub fn shown(&self) -> Provider {
        let is_page = matches!(self.kind, Kind::Web { .. });
        let address = self.address.clone().map(|text| if is_page { text.host_only() } else { text });
        Provider { address, headers: secret::shown(&self.headers), ..self.clone() }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// And all that speak its API: Thanos, Mimir, VictoriaMetrics, serin.
    Prometheus,
    /// The query is a JSONPath into the answer.
    Web {
        #[serde(skip_serializing_if = "Option::is_none")]
        body: Option<String>,
        method: String,
    },
    /// The query is the last argument.
    Command {
        arguments: Vec<String>,
        value: CommandValue,
    },
    Datadog,
    CloudWatch {
        region: String,
    },
    NewRelic {
        account: String,
    },
    Graphite,
    InfluxDb {
        organization: String,
    },
}

/// What of a command is its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum CommandValue {
    /// The number that it prints; an exit code other than 0 is an error.
    Output,
    ExitCode,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Login {
    #[default]
    None,
    Basic {
        username: Text,
        password: Text,
    },
    Bearer(Text),
    /// Datadog has two; others have the first.
    Keys {
        key: Text,
        #[serde(skip_serializing_if = "Option::is_none")]
        application: Option<Text>,
        /// Of keys that are good for a time only.
        #[serde(skip_serializing_if = "Option::is_none")]
        session: Option<Text>,
    },
}

/// What is asked of a provider, and between which values the answer is good.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Query {
    pub provider: String,
    /// A template of names that `provider::names` gives.
    pub text: String,
    /// The past that is asked about, for those that have to be told.
    pub window: Duration,
    /// Prometheus: a range query with a point each so often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    pub no_data: NoData,
    pub on_error: NoData,
}

/// What follows where there is no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NoData {
    /// It is neither yes nor no.
    Hold,
    Fail,
    Pass,
}

/// Into a document of JSON, with or without the braces that Argo Rollouts and
/// kubectl put around one. Empty is the whole document.
pub fn path(text: &str) -> Result<JsonPath, String> {
    let text = text.trim();
    let bare = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text).trim();
    let rooted = match bare {
        "" => "$".to_owned(),
        bare if bare.starts_with('$') => bare.to_owned(),
        bare if bare.starts_with('.') || bare.starts_with('[') => format!("${bare}"),
        bare => format!("$.{bare}"),
    };
    JsonPath::parse(&rooted).map_err(|cause| format!("{text:?} is no JSONPath: {cause}"))
}
