//! One place where a version answers: its address as the operator wrote it, and
//! what is said of it. A name is not resolved here; [`crate::hosts`] holds what
//! names stand for at the moment.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;
use serde::Serializer;
use serde::ser::SerializeStruct;

/// What an endpoint is called, so that versions can choose by it.
pub type Labels = BTreeMap<String, String>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: Address,
    /// Its share among the endpoints of its priority; not zero.
    pub weight: u32,
    /// Endpoints of a higher number are used where lower ones are too few.
    pub priority: u32,
    pub labels: Labels,
    /// What the endpoint calls itself, in TLS and in `host`. A name that was
    /// resolved is this by itself.
    pub hostname: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    Socket(SocketAddr),
    Unix(PathBuf),
    /// Stands for all addresses (or one of them) that the name resolves to.
    Name {
        host: String,
        port: u16,
    },
}

impl Endpoint {
    pub fn new(address: Address) -> Endpoint {
        Endpoint { address, weight: 1, priority: 0, labels: Labels::new(), hostname: None }
    }

    /// Whether it is called all that is wanted.
    pub fn bears(&self, wanted: &Labels) -> bool {
        wanted.iter().all(|(name, value)| self.labels.get(name) == Some(value))
    }

    fn is_plain(&self) -> bool {
        *self == Endpoint::new(self.address.clone())
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Endpoint {
        Endpoint::new(Address::Socket(address))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Socket(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An address alone where nothing else is said of it.
impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_plain() {
            return self.address.serialize(serializer);
        }
        let mut fields = serializer.serialize_struct("Endpoint", 5)?;
        fields.serialize_field("address", &self.address)?;
        fields.serialize_field("weight", &self.weight)?;
        fields.serialize_field("priority", &self.priority)?;
        fields.serialize_field("labels", &self.labels)?;
        fields.serialize_field("hostname", &self.hostname)?;
        fields.end()
    }
}
