//! TLS as it was asked for, made ready for handshakes: certificates chosen by
//! name, whose signatures are believed, what is offered.
//!
//! It knows no socket and no listener. All its problems are told at once, so
//! that a certificate that does not fit its key never comes into force.

mod certificate;
mod client;
mod details;
mod server;
mod subject;

use std::sync::Arc;
use std::sync::OnceLock;

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::SupportedProtocolVersion;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::model::Certificate;
use crate::model::ClientTls;
use crate::model::Protocol;
use crate::model::TlsVersion;
use crate::model::TlsVersions;
use crate::model::Trust;

pub use certificate::Facts;
pub use certificate::Part;
pub use client::ClientPlan;
pub use details::Details;
pub use server::ServerPlan;

/// Something wrong, and with which part.
pub type Fault = (String, String);

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())).clone()
}

fn versions(asked: TlsVersions) -> Result<&'static [&'static SupportedProtocolVersion], String> {
    use rustls::version::{TLS12, TLS13};
    static OLD: [&SupportedProtocolVersion; 1] = [&TLS12];
    static BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
    static NEW: [&SupportedProtocolVersion; 1] = [&TLS13];
    match (asked.least, asked.most) {
        (TlsVersion::V1_2, TlsVersion::V1_2) => Ok(&OLD),
        (TlsVersion::V1_2, TlsVersion::V1_3) => Ok(&BOTH),
        (TlsVersion::V1_3, TlsVersion::V1_3) => Ok(&NEW),
        (TlsVersion::V1_3, TlsVersion::V1_2) => Err("the least version is above the most".to_owned()),
    }
}

/// All certificates of a text, at least one.
fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match read {
        Ok(certificates) if certificates.is_empty() => Err("holds no certificate in PEM".to_owned()),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("is no PEM: {error}")),
    }
}

fn authorities(pem: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in certificates(pem)?.into_iter().enumerate() {
        let added = roots.add(certificate);
        added.map_err(|error| format!("certificate {} is no authority's: {error}", index + 1))?;
    }
    Ok(roots)
}

/// For connections beside the traffic, to those whom their operator trusts so.
pub fn client_config(trust: Trust) -> Result<Arc<ClientConfig>, String> {
    let asked = ClientTls { trust, ..ClientTls::default() };
    let plan = ClientPlan::new(&asked, Protocol::Http1);
    plan.map(|plan| plan.config).map_err(|faults| {
        let texts: Vec<String> = faults.into_iter().map(|(_, text)| text).collect();
        texts.join("; ")
    })
}

/// Whether the chain can be read and the key is its own; a problem says which of
/// the two is to blame.
pub fn check_certificate(certificate: &Certificate) -> Result<(), (Part, String)> {
    certificate::load(certificate).map(drop)
}

/// Whether these are certificates of authorities.
pub fn check_authorities(pem: &str) -> Result<(), String> {
    authorities(pem).map(drop)
}
