//! Whom serin talks to beside its traffic, as data: who is asked or told, where,
//! and when. Nobody is asked here; a secret is a reference and never a value.

pub mod alert;

pub mod hook;

pub mod load;

pub mod provider;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How a connection to somebody outside is made sure of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Certificates of the authorities to trust; without it the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Whoever answers is believed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
}
