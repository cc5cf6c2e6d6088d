//! Where a connection can be dialled to: no name, nothing left to look up.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::net::{TcpStream, UnixStream};

use crate::wire::Wire;

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Location {
    Tcp(SocketAddr),
    Unix(Arc<Path>),
}

impl Location {
    pub async fn connect(&self) -> io::Result<Wire> {
        match self {
            Location::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                // An endpoint that closes at once is met by the request that follows.
                let _ = stream.set_nodelay(true);
                Ok(Wire::Tcp(stream))
            }
            Location::Unix(path) => UnixStream::connect(path).await.map(Wire::Unix),
        }
    }

    /// What stands in `host` where nobody has said better. A path would be no
    /// host at all.
    pub fn authority(&self) -> String {
        match self {
            Location::Tcp(address) => address.to_string(),
            Location::Unix(_) => "localhost".to_owned(),
        }
    }
}

/// As Envoy writes it, and so as it is hashed.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Tcp(address) => address.fmt(f),
            Location::Unix(path) => path.display().fmt(f),
        }
    }
}
