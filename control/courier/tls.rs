//! Whom a call believes: the system's authorities, those of a file, or anybody. What
//! that means for a handshake is the proxy's to say, for its endpoints as for these.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serin_proxy::client_config;
use serin_proxy::model::Trust;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Fault;
use crate::outside::Tls;

pub async fn secure(stream: TcpStream, host: &str, tls: &Tls) -> Result<TlsStream<TcpStream>, Fault> {
    let name = ServerName::try_from(host.to_owned());
    let name = name.map_err(|_| Fault::Malformed("the URL names no host that TLS knows".to_owned()))?;
    let config = config(tls).map_err(Fault::Malformed)?;
    let secured = TlsConnector::from(config).connect(name, stream).await;
    secured.map_err(|cause| Fault::Unreachable(cause.to_string()))
}

/// The file is read each time, so that a renewed one is used by the next call.
fn config(tls: &Tls) -> Result<Arc<ClientConfig>, String> {
    let Some(path) = tls.ca.as_ref().filter(|_| !tls.insecure) else {
        return client_config(if tls.insecure { Trust::Anybody } else { Trust::System });
    };
    let told = |cause: &dyn std::fmt::Display| format!("{}: {cause}", path.display());
    let pem = std::fs::read_to_string(path).map_err(|cause| told(&cause))?;
    client_config(Trust::Authorities(pem)).map_err(|cause| told(&cause))
}
