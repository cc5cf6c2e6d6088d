//! What a listener's clients are believed about where a request comes from, and
//! what versions are told of it.

use ipnet::IpNet;
use serde::Serialize;

use super::ClientDetail;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forwarded {
    /// Clients come to us directly, or through so many proxies that are trusted:
    /// what they say of themselves beyond that is replaced by what we know. If
    /// not, we stand behind such a proxy and pass on what it says. Envoy's
    /// `use_remote_address`.
    pub edge: bool,
    /// Trusted proxies in front of us, nearest last in `x-forwarded-for`.
    pub trusted_hops: u32,
    /// At an edge our client's address is put behind `x-forwarded-for`.
    pub append: bool,
    /// `x-forwarded-port` is set to the port that the client came to.
    pub port: bool,
    /// A client's own `x-request-id` is kept also at an edge.
    pub keep_request_id: bool,
    /// Clients from here are our own people: their `x-request-id` is kept at an edge.
    pub internal: Vec<IpNet>,
    pub client_certificate: ClientCertificateField,
}

impl Default for Forwarded {
    fn default() -> Self {
        Forwarded {
            edge: true,
            trusted_hops: 0,
            append: true,
            port: false,
            keep_request_id: false,
            internal: Vec::new(),
            client_certificate: ClientCertificateField::default(),
        }
    }
}

impl Forwarded {
    pub fn is_default(&self) -> bool {
        *self == Forwarded::default()
    }
}

/// What becomes of `x-forwarded-client-cert`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClientCertificateField {
    pub mode: ClientCertificateMode,
    /// Parts of the certificate that are told beside its hash.
    pub details: Vec<ClientDetail>,
}

impl Default for ClientCertificateField {
    fn default() -> Self {
        ClientCertificateField { mode: ClientCertificateMode::Sanitize, details: Vec::new() }
    }
}

/// Envoy's modes by Envoy's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientCertificateMode {
    /// Taken off.
    Sanitize,
    /// Passed on as it came where the client has shown a certificate, else taken off.
    ForwardOnly,
    /// The same, with the client's certificate put behind.
    AppendForward,
    /// Replaced by the client's certificate.
    SanitizeSet,
    /// Passed on as it came.
    AlwaysForwardOnly,
}
