//! The certificates in use, and which of them will soon be good for nothing.

use serde::Serialize;
use serin_proxy::{CertificateFacts, Model};
use utoipa::ToSchema;

use crate::clock::Moment;

/// Days before its end from which on a certificate is warned of.
const SOON_DAYS: i64 = 14;
const DAY_SECONDS: i64 = 24 * 3600;

/// One certificate in one use.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Certificate {
    /// Such as `listener secure` or `service web version canary`.
    pub place: String,
    /// What it is there: `server`, `client` or `authority`.
    pub part: &'static str,
    pub subject: String,
    pub names: Vec<String>,
    pub serial: String,
    /// Seconds since the Unix epoch.
    pub not_before: i64,
    pub not_after: i64,
}

/// All that the model names, each by where it is used.
pub fn in_use(model: &Model) -> Vec<Certificate> {
    let mut found = Vec::new();
    for listener in &model.listeners {
        let Some(tls) = &listener.tls else { continue };
        let place = format!("listener {}", listener.name);
        for certificate in &tls.certificates {
            found.extend(first(&place, "server", &certificate.chain));
        }
        if let Some(client) = &tls.client {
            found.extend(all(&place, "authority", &client.authorities));
        }
    }
    for service in &model.services {
        for version in &service.versions {
            let Some(tls) = &version.tls else { continue };
            let place = format!("service {} version {}", service.name, version.name);
            if let Some(certificate) = &tls.certificate {
                found.extend(first(&place, "client", &certificate.chain));
            }
            if let serin_proxy::model::Trust::Authorities(pem) = &tls.trust {
                found.extend(all(&place, "authority", pem));
            }
        }
    }
    found
}

/// A line for each that has ended, has not begun, or ends soon.
pub fn warnings(model: &Model, now: Moment) -> Vec<String> {
    let now = i64::try_from(now.0 / 1000).unwrap_or(i64::MAX);
    let warning = |certificate: &Certificate| {
        let left = certificate.not_after.saturating_sub(now);
        let what = match (now < certificate.not_before, left) {
            (true, _) => "is not valid yet".to_owned(),
            (false, ..0) => format!("has expired {} days ago", -left / DAY_SECONDS),
            (false, left) if left < SOON_DAYS * DAY_SECONDS => {
                format!("expires in {} days", left / DAY_SECONDS)
            }
            _ => return None,
        };
        let Certificate { place, part, subject, serial, .. } = certificate;
        Some(format!("{place}: the {part}'s certificate {subject:?} (serial {serial}) {what}"))
    };
    in_use(model).iter().filter_map(warning).collect()
}

/// Of a chain the first is the one that speaks for somebody.
fn first(place: &str, part: &'static str, pem: &str) -> Option<Certificate> {
    all(place, part, pem).into_iter().next()
}

fn all(place: &str, part: &'static str, pem: &str) -> Vec<Certificate> {
    let certificate = |facts: CertificateFacts| Certificate {
        place: place.to_owned(),
        part,
        subject: facts.subject,
        names: facts.names,
        serial: facts.serial,
        not_before: facts.not_before,
        not_after: facts.not_after,
    };
    CertificateFacts::all(pem).into_iter().map(certificate).collect()
}
