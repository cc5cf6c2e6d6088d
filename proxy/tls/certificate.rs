//! One certificate with its key: read, checked against each other, and what
//! people want to know of it.

use std::sync::Arc;

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem;
use rustls::pki_types::pem::PemObject;
use rustls::sign::CertifiedKey;
use serde::Serialize;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::certificates;
use super::details;
use super::provider;
use super::subject;
use crate::model::Certificate;
use crate::model::SubjectKind;

/// What is to be known of a certificate in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Facts {
    pub subject: String,
    /// The names it is good for, as `dns:a.example`.
    pub names: Vec<String>,
    /// Hexadecimal.
    pub serial: String,
    /// Seconds since the Unix epoch.
    pub not_before: i64,
    pub not_after: i64,
}

impl Facts {
    /// Of every certificate in the text that can be read.
    pub fn all(pem: &str) -> Vec<Facts> {
        certificates(pem).unwrap_or_default().iter().filter_map(|der| Facts::of(der)).collect()
    }

    fn of(der: &[u8]) -> Option<Facts> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let mut names = Vec::new();
        for kind in [SubjectKind::Dns, SubjectKind::Uri, SubjectKind::Email, SubjectKind::Ip] {
            let word = subject::word(kind);
            names.extend(subject::names(&certificate, kind).map(|name| format!("{word}:{name}")));
        }
        Some(Facts {
            subject: details::subject(&certificate),
            names,
            serial: certificate.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
        })
    }
}

/// The two texts that make a certificate of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Chain,
    Key,
}

impl Part {
    pub fn as_str(self) -> &'static str {
        match self {
            Part::Chain => "chain",
            Part::Key => "key",
        }
    }
}

/// The chain and its key, if they belong together. The problem names the part.
pub fn load(certificate: &Certificate) -> Result<Arc<CertifiedKey>, (Part, String)> {
    let chain = certificates(&certificate.chain).map_err(|text| (Part::Chain, text))?;
    let key = PrivateKeyDer::from_pem_slice(certificate.key.0.as_bytes());
    let key = key.map_err(|error| (Part::Key, unreadable(&error).to_owned()))?;
    let key = provider().key_provider.load_private_key(key);
    let key = key.map_err(|error| (Part::Key, format!("is no key that can be used: {error}")))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) => Ok(Arc::new(certified)),
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            Err((Part::Key, "belongs to another certificate".to_owned()))
        }
        Err(rustls::Error::InconsistentKeys(_)) => Ok(Arc::new(certified)),
        Err(error) => Err((Part::Chain, format!("cannot be used: {error}"))),
    }
}

/// In words that hold nothing of what was read: it may be the key.
fn unreadable(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::NoItemsFound => "holds no private key in PEM",
        pem::Error::MissingSectionEnd { .. } => "is no PEM: the end of a section is missing",
        pem::Error::IllegalSectionStart { .. } => "is no PEM: a section begins wrongly",
        pem::Error::Base64Decode(_) => "is no PEM: a section is not base64",
        _ => "is no PEM",
    }
}

/// The names of a server's certificate: its DNS names, or where it has no
/// alternative names its common name.
pub fn server_names(certified: &CertifiedKey) -> Vec<String> {
    let Some((_, certificate)) = certified.cert.first().and_then(|der| X509Certificate::from_der(der).ok())
    else {
        return Vec::new();
    };
    let names: Vec<String> = subject::names(&certificate, SubjectKind::Dns).collect();
    if !names.is_empty() {
        return names;
    }
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    common.map(str::to_owned).collect()
}
