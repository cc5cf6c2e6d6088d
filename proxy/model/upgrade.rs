//! Connections that a route lets stop being HTTP.

use serde::Serialize;

/// What requests of a route may turn into. By default nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Upgrades {
    /// Names as in an `upgrade` field or in `:protocol`, such as `websocket`;
    /// compared without case.
    pub protocols: Vec<String>,
    /// What is done with a CONNECT that this route matches.
    pub connect: Option<Connect>,
}

impl Upgrades {
    pub fn is_default(&self) -> bool {
        *self == Upgrades::default()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Connect {
    /// We answer, and the tunnel's bytes go straight to the endpoint.
    Terminate,
    /// The version is asked by a CONNECT of our own.
    Forward,
}
