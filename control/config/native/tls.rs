//! Certificates, keys and what is asked of the other side of a handshake. Files
//! are named, and what they hold is checked where they are named.

use serin_proxy::model::{
    Alpn, Certificate, ClientCertificates, ClientTls, Resumption, Secret, ServerName, ServerTls, Subject,
    SubjectKind, TextMatch, TlsVersion, TlsVersions, Trust,
};
use serin_proxy::{CertificatePart, check_authorities, check_certificate};

use crate::config::fields::Fields;
use crate::config::fields::Spot;

use super::matching;
use super::units;

const SERVER: [&str; 8] = [
    "certificates",
    "refuseUnknownNames",
    "minVersion",
    "maxVersion",
    "alpn",
    "clientCertificates",
    "resumption",
    "maxHandshakes",
];
const CLIENT: [&str; 8] =
    ["sni", "autoSni", "ca", "subjects", "certificate", "minVersion", "maxVersion", "insecureSkipVerify"];
const CERTIFICATE: [&str; 2] = ["certificate", "key"];
const CLIENT_CERTIFICATES: [&str; 3] = ["ca", "required", "subjects"];
const SUBJECT: [&str; 5] = ["type", "exact", "prefix", "suffix", "regex"];
const VERSIONS: [(&str, TlsVersion); 2] = [("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)];
const ALPN: [(&str, Alpn); 2] = [("h2", Alpn::Http2), ("http/1.1", Alpn::Http1)];
const KINDS: [(&str, SubjectKind); 4] = [
    ("dns", SubjectKind::Dns),
    ("uri", SubjectKind::Uri),
    ("email", SubjectKind::Email),
    ("ip", SubjectKind::Ip),
];

/// A listener's.
pub fn server(spot: &Spot) -> Option<ServerTls> {
    let fields = spot.fields(&SERVER)?;
    let certificates = fields.need("certificates").map(|spot| {
        let spots = spot.one_or_more();
        spots.iter().filter_map(certificate).collect()
    });
    let mut tls = ServerTls::new(certificates.unwrap_or_default());
    if let Some(strict) = fields.get("refuseUnknownNames").and_then(|spot| spot.bool()) {
        tls.refuse_unknown_names = strict;
    }
    tls.versions = versions(&fields);
    if let Some(spot) = fields.get("alpn") {
        tls.alpn = spot.one_or_more().iter().filter_map(|spot| spot.word(&ALPN)).collect();
    }
    tls.client = fields.get("clientCertificates").and_then(|spot| client_certificates(&spot));
    if let Some(spot) = fields.get("resumption") {
        tls.resumption = resumption(&spot).unwrap_or(tls.resumption);
    }
    if let Some(most) = fields.get("maxHandshakes").and_then(|spot| spot.whole(1, 1_000_000)) {
        tls.max_handshakes = usize::try_from(most).unwrap_or(tls.max_handshakes);
    }
    Some(tls)
}

/// A version's. `true` asks for what the system believes.
pub fn client(spot: &Spot) -> Option<ClientTls> {
    match spot.as_bool() {
        Some(true) => return Some(ClientTls::default()),
        Some(false) => return None,
        None => {}
    }
    let fields = spot.fields(&CLIENT)?;
    let mut tls = ClientTls::default();
    match fields.any_of(&["sni", "autoSni"]) {
        Some(("sni", spot)) => {
            if let Some(name) = spot.parsed(units::host_name) {
                tls.name = ServerName::Name(name);
            }
        }
        Some((_, spot)) if spot.bool() == Some(true) => tls.name = ServerName::Request,
        Some(_) | None => {}
    }
    match fields.any_of(&["ca", "insecureSkipVerify"]) {
        Some(("ca", spot)) => {
            if let Some(pem) = authorities(&spot) {
                tls.trust = Trust::Authorities(pem);
            }
        }
        Some((_, spot)) if spot.bool() == Some(true) => {
            spot.warn("the endpoint's certificate is not checked: anybody on the way can read and answer");
            tls.trust = Trust::Anybody;
        }
        Some(_) | None => {}
    }
    if let Some(spot) = fields.get("subjects") {
        tls.subjects = subjects(&spot);
        if tls.trust == Trust::Anybody {
            spot.error("cannot be asked for where `insecureSkipVerify` asks for nothing");
        }
    }
    tls.certificate = fields.get("certificate").and_then(|spot| certificate(&spot));
    tls.versions = versions(&fields);
    Some(tls)
}

fn certificate(spot: &Spot) -> Option<Certificate> {
    let fields = spot.fields(&CERTIFICATE)?;
    let (chain, key) = (fields.need("certificate"), fields.need("key"));
    let texts = (chain.as_ref().and_then(Spot::file_text), key.as_ref().and_then(Spot::file_text));
    let (Some(chain), Some(key), (Some(chain_text), Some(key_text))) = (chain, key, texts) else {
        return None;
    };
    let certificate = Certificate { chain: chain_text, key: Secret(key_text) };
    if let Err((part, text)) = check_certificate(&certificate) {
        let spot = match part {
            CertificatePart::Chain => chain,
            CertificatePart::Key => key,
        };
        spot.error(format!("{} {text}", spot.text().unwrap_or_default()));
    }
    Some(certificate)
}

fn client_certificates(spot: &Spot) -> Option<ClientCertificates> {
    let fields = spot.fields(&CLIENT_CERTIFICATES)?;
    let pem = fields.need("ca").and_then(|spot| authorities(&spot));
    let required = fields.get("required").and_then(|spot| spot.bool()).unwrap_or(true);
    let subjects = fields.get("subjects").map(|spot| subjects(&spot)).unwrap_or_default();
    Some(ClientCertificates { authorities: pem?, required, subjects })
}

fn authorities(spot: &Spot) -> Option<String> {
    let pem = spot.file_text()?;
    if let Err(text) = check_authorities(&pem) {
        spot.error(format!("{} {text}", spot.text().unwrap_or_default()));
    }
    Some(pem)
}

fn subjects(spot: &Spot) -> Vec<Subject> {
    spot.one_or_more().iter().filter_map(subject).collect()
}

fn subject(spot: &Spot) -> Option<Subject> {
    let fields = spot.fields(&SUBJECT)?;
    let kind = fields.need("type").and_then(|spot| spot.word(&KINDS));
    let value = matching::text(&fields).filter(|value| *value != TextMatch::Present);
    Some(Subject { kind: kind?, value: value? })
}

fn versions(fields: &Fields) -> TlsVersions {
    let mut versions = TlsVersions::default();
    for (name, version) in [("minVersion", &mut versions.least), ("maxVersion", &mut versions.most)] {
        if let Some(asked) = fields.get(name).and_then(|spot| spot.word(&VERSIONS)) {
            *version = asked;
        }
    }
    if versions.least > versions.most
        && let Some(spot) = fields.get("maxVersion")
    {
        spot.error("is below `minVersion`");
    }
    versions
}

fn resumption(spot: &Spot) -> Option<Resumption> {
    if spot.is_map() {
        let sessions = spot.fields(&["cache"])?.need("cache").and_then(|spot| spot.whole(1, 10_000_000))?;
        return Some(Resumption::Cache(usize::try_from(sessions).ok()?));
    }
    // YAML takes an unquoted `off` for a truth value in some readers; ours does not.
    spot.word(&[("tickets", Resumption::Tickets), ("off", Resumption::Off)])
}
