//! What a configuration says, whatever dialect it was written in.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serin_proxy::Model;

use crate::answers::Settings;
use crate::config::problem::Problem;
use crate::outside::alert::Alerts;
use crate::outside::provider::Provider;
use crate::rollout::Spec;

/// How long the process goes on when it has been told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Drain {
    /// While it already says that it is not ready, and still accepts: whoever
    /// sends it traffic has so long to hear of it.
    pub delay: Duration,
    /// From when it accepts no more; what has not ended by then is broken off.
    pub timeout: Duration,
}

impl Default for Drain {
    fn default() -> Drain {
        Drain { delay: Duration::ZERO, timeout: Duration::from_secs(30) }
    }
}

/// Whose words are spoken of what we count, beside our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Dialect {
    Istio,
    Envoy,
    Http,
    Nginx,
    Osm,
    Linkerd,
    Traefik,
}

/// Which metrics there are, and for how long they are remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Metrics {
    pub dialects: Vec<Dialect>,
    /// What the others call a namespace.
    pub namespace: String,
    /// A cluster's name in Envoy's words, of `{namespace}`, `{service}` and `{version}`.
    pub cluster: String,
    /// None is kept where this is zero.
    pub history: Duration,
    pub memory_bytes: usize,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            dialects: vec![Dialect::Istio, Dialect::Envoy, Dialect::Http],
            namespace: "default".to_owned(),
            cluster: "{namespace}_{service}-{version}_80".to_owned(),
            history: Duration::from_secs(6 * 3600),
            memory_bytes: 64 << 20,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    pub model: Model,
    pub rollouts: Vec<Spec>,
    /// Splits whose answers are compared.
    pub compared: BTreeMap<String, Settings>,
    pub admin: SocketAddr,
    /// Available cores where not given.
    pub workers: Option<usize>,
    /// Directory of the rollout journal, as written.
    pub state: Option<PathBuf>,
    pub drain: Drain,
    pub metrics: Metrics,
    pub alerts: Alerts,
    pub providers: Vec<Provider>,
    pub warnings: Vec<Problem>,
}

impl Loaded {
    /// The service whose versions a rollout moves between; of several the first.
    pub fn service(&self, rollout: &Spec) -> Option<&str> {
        let mut splits = self.model.splits.iter();
        splits.find(|split| split.name == rollout.split).map(|split| split.service.as_str())
    }
}
