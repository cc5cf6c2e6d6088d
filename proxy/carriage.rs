//! How connections to a version's endpoints are made and what is said on them
//! before the first request: the PROXY protocol, the handshake of TLS.

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio_rustls::TlsConnector;

use crate::location::Location;
use crate::model::Protocol;
use crate::model::ProxyHeader;
use crate::preamble;
use crate::preamble::Ends;
use crate::tls::ClientPlan;
use crate::wire::Tls;
use crate::wire::Wire;

#[derive(Clone)]
pub struct Carriage {
    pub protocol: Protocol,
    pub tls: Option<Arc<ClientPlan>>,
    /// Each connection speaks for one client, and is used for no other.
    pub proxy_header: Option<ProxyHeader>,
}

/// What tells one kind of connection to an endpoint from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mark(Protocol, usize, Option<ProxyHeader>);

/// Why there is no connection.
pub enum Failed {
    Connect(io::Error),
    Handshake(io::Error),
}

impl Carriage {
    /// The settings are told apart by where they are: whoever keeps the mark
    /// keeps the carriage, too.
    pub fn mark(&self) -> Mark {
        let tls = self.tls.as_ref().map_or(0, |plan| Arc::as_ptr(plan) as usize);
        Mark(self.protocol, tls, self.proxy_header)
    }

    pub fn asks_for_host(&self) -> bool {
        self.tls.as_ref().is_some_and(|plan| plan.asks_for_host())
    }

    /// `host` is the request's, `ends` are its client's.
    pub async fn connect(
        &self,
        location: &Location,
        host: Option<&str>,
        ends: Option<Ends>,
    ) -> Result<Wire, Failed> {
        let mut wire = location.connect().await.map_err(Failed::Connect)?;
        if let Some(form) = self.proxy_header {
            let mut header = Vec::new();
            preamble::write(form, ends, &mut header);
            wire.write_all(&header).await.map_err(Failed::Connect)?;
        }
        match &self.tls {
            None => Ok(wire),
            Some(plan) => shake(plan, wire, location, host).await.map_err(Failed::Handshake),
        }
    }
}

async fn shake(plan: &ClientPlan, wire: Wire, location: &Location, host: Option<&str>) -> io::Result<Wire> {
    let endpoint = match location {
        Location::Tcp(address) => Some(address.ip()),
        Location::Unix(_) => None,
    };
    let name: Option<ServerName<'static>> = plan.name(host, endpoint);
    let name = name.ok_or_else(|| io::Error::other("the request's host is no name of a server"))?;
    let stream = TlsConnector::from(plan.config.clone()).connect(name, wire).await?;
    let (wire, session) = stream.into_inner();
    Ok(Wire::Tls(Box::new(Tls::new(wire, rustls::Connection::Client(session)))))
}
