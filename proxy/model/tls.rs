//! Encrypted connections, from clients and to endpoints. Certificates and keys
//! are here as their text, so that a renewed one is a changed model.

use std::fmt;

use serde::{Serialize, Serializer};

use super::TextMatch;

/// How a listener's clients speak TLS with us.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServerTls {
    /// The first that fits the name a client asks for; the first of all where
    /// none does.
    pub certificates: Vec<Certificate>,
    /// A client that asks for a name of no certificate, or for none, is turned away.
    pub refuse_unknown_names: bool,
    pub versions: TlsVersions,
    /// In the order of our preference.
    pub alpn: Vec<Alpn>,
    pub client: Option<ClientCertificates>,
    pub resumption: Resumption,
    /// Handshakes under way, per worker; past it a new connection is closed.
    pub max_handshakes: usize,
}

impl ServerTls {
    pub const MAX_HANDSHAKES: usize = 1024;

    pub fn new(certificates: Vec<Certificate>) -> ServerTls {
        ServerTls {
            certificates,
            refuse_unknown_names: false,
            versions: TlsVersions::default(),
            alpn: vec![Alpn::Http2, Alpn::Http1],
            client: None,
            resumption: Resumption::Tickets,
            max_handshakes: ServerTls::MAX_HANDSHAKES,
        }
    }
}

/// How a version's endpoints are spoken with by TLS.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ClientTls {
    pub name: ServerName,
    pub trust: Trust,
    /// Instead of the server's name: any of these must be in its certificate.
    pub subjects: Vec<Subject>,
    pub certificate: Option<Certificate>,
    pub versions: TlsVersions,
}

/// The name that the server is asked for, and that its certificate has to show.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerName {
    /// The endpoint's address; no name is asked for.
    #[default]
    Address,
    Name(String),
    /// The host of the request.
    Request,
}

/// Whose signature under a certificate is believed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// Those that the system believes.
    #[default]
    System,
    /// Certificates in PEM.
    Authorities(String),
    /// Anybody's: the other side may be anyone.
    Anybody,
}

/// A chain in PEM, the server's own first, and its key.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Certificate {
    pub chain: String,
    pub key: Secret,
}

/// A text that is never shown: not in a dump, not in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("[redacted]")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TlsVersions {
    pub least: TlsVersion,
    pub most: TlsVersion,
}

impl Default for TlsVersions {
    fn default() -> Self {
        TlsVersions { least: TlsVersion::V1_2, most: TlsVersion::V1_3 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum TlsVersion {
    #[serde(rename = "1.2")]
    V1_2,
    #[serde(rename = "1.3")]
    V1_3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Alpn {
    #[serde(rename = "h2")]
    Http2,
    #[serde(rename = "http/1.1")]
    Http1,
}

impl Alpn {
    pub fn as_str(self) -> &'static str {
        match self {
            Alpn::Http2 => "h2",
            Alpn::Http1 => "http/1.1",
        }
    }
}

/// Certificates that clients show.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClientCertificates {
    /// Certificates in PEM; a client's must be signed by one of them.
    pub authorities: String,
    /// A client without one is turned away.
    pub required: bool,
    /// Any of these must be in the client's; an empty list takes all.
    pub subjects: Vec<Subject>,
}

/// One of a certificate's alternative names.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Subject {
    pub kind: SubjectKind,
    pub value: TextMatch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SubjectKind {
    Dns,
    Uri,
    Email,
    Ip,
}

/// A part of a client's certificate that its version may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientDetail {
    Certificate,
    Chain,
    Subject,
    Uri,
    Dns,
}

impl ClientDetail {
    /// In the order in which they are told.
    pub const ALL: [ClientDetail; 5] = [
        ClientDetail::Certificate,
        ClientDetail::Chain,
        ClientDetail::Subject,
        ClientDetail::Uri,
        ClientDetail::Dns,
    ];
}

/// What a client that comes again may leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Resumption {
    /// The client keeps the session, under a key of all workers that changes
    /// every few hours.
    Tickets,
    /// We keep so many sessions for all workers.
    Cache(usize),
    Off,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_in_no_dump_and_no_log() {
        let certificate = Certificate { chain: "chain".to_owned(), key: Secret("sesame".to_owned()) };
        let tls = ServerTls::new(vec![certificate.clone()]);
        let client = ClientTls { certificate: Some(certificate), ..ClientTls::default() };
        let text = format!("{tls:#?} {client:?}");
        assert!(text.contains("chain") && !text.contains("sesame"), "{text}");
    }
}
