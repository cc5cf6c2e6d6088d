//! The PROXY protocol: who the client really is, said before its first byte.

use ipnet::IpNet;
use serde::Serialize;

/// What a listener makes of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProxyProtocol {
    /// A connection that does not begin with it is closed. If not, one that does
    /// not is taken as it is.
    pub required: bool,
    /// Who may say it; an empty list stands for everybody. From others it is not
    /// even looked for.
    pub trusted: Vec<IpNet>,
}

/// In which form a version's endpoints are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyHeader {
    V1,
    V2,
}
