//! What clients are believed of where they come from, and who may speak for them.

use ipnet::IpNet;
use serin_proxy::model::{
    ClientCertificateField, ClientCertificateMode, ClientDetail, Forwarded, ProxyProtocol,
};

use crate::config::fields::Spot;

use super::units;

const FIELDS: [&str; 7] =
    ["edge", "trustedHops", "append", "port", "keepRequestId", "internal", "clientCertificate"];
const CLIENT_CERTIFICATE: [&str; 2] = ["mode", "details"];
const PROXY_PROTOCOL: [&str; 2] = ["required", "trusted"];
const MODES: [(&str, ClientCertificateMode); 5] = [
    ("sanitize", ClientCertificateMode::Sanitize),
    ("forward_only", ClientCertificateMode::ForwardOnly),
    ("append_forward", ClientCertificateMode::AppendForward),
    ("sanitize_set", ClientCertificateMode::SanitizeSet),
    ("always_forward_only", ClientCertificateMode::AlwaysForwardOnly),
];
const DETAILS: [(&str, ClientDetail); 5] = [
    ("certificate", ClientDetail::Certificate),
    ("chain", ClientDetail::Chain),
    ("subject", ClientDetail::Subject),
    ("uri", ClientDetail::Uri),
    ("dns", ClientDetail::Dns),
];

pub fn read(spot: &Spot) -> Forwarded {
    let mut forwarded = Forwarded::default();
    let Some(fields) = spot.fields(&FIELDS) else { return forwarded };
    let flags = [
        ("edge", &mut forwarded.edge),
        ("append", &mut forwarded.append),
        ("port", &mut forwarded.port),
        ("keepRequestId", &mut forwarded.keep_request_id),
    ];
    for (name, flag) in flags {
        if let Some(value) = fields.get(name).and_then(|spot| spot.bool()) {
            *flag = value;
        }
    }
    if let Some(hops) = fields.get("trustedHops").and_then(|spot| spot.whole(0, 64)) {
        forwarded.trusted_hops = u32::try_from(hops).unwrap_or_default();
    }
    if let Some(spot) = fields.get("internal") {
        forwarded.internal = networks(&spot);
    }
    if let Some(spot) = fields.get("clientCertificate") {
        forwarded.client_certificate = client_certificate(&spot);
    }
    if !forwarded.edge {
        for name in ["trustedHops", "append", "keepRequestId", "internal"] {
            if let Some(spot) = fields.get(name) {
                spot.warn("says nothing where `edge` is false: all fields are passed on as they come");
            }
        }
    }
    forwarded
}

fn client_certificate(spot: &Spot) -> ClientCertificateField {
    let mut field = ClientCertificateField::default();
    let Some(fields) = spot.fields(&CLIENT_CERTIFICATE) else { return field };
    if let Some(mode) = fields.need("mode").and_then(|spot| spot.word(&MODES)) {
        field.mode = mode;
    }
    if let Some(spot) = fields.get("details") {
        field.details = spot.one_or_more().iter().filter_map(|spot| spot.word(&DETAILS)).collect();
        let tells =
            matches!(field.mode, ClientCertificateMode::AppendForward | ClientCertificateMode::SanitizeSet);
        if !tells {
            spot.warn("says nothing unless `mode` is append_forward or sanitize_set");
        }
    }
    field
}

/// `true` asks for it from everybody.
pub fn proxy_protocol(spot: &Spot) -> Option<ProxyProtocol> {
    match spot.as_bool() {
        Some(true) => return Some(ProxyProtocol { required: true, trusted: Vec::new() }),
        Some(false) => return None,
        None => {}
    }
    if !spot.is_map() {
        spot.wrong("true, false or fields (required, trusted)");
        return None;
    }
    let fields = spot.fields(&PROXY_PROTOCOL)?;
    let required = fields.get("required").and_then(|spot| spot.bool()).unwrap_or(true);
    let trusted = fields.get("trusted").map(|spot| networks(&spot)).unwrap_or_default();
    if !required && trusted.is_empty() {
        spot.warn("anybody may claim any address; name those who may in `trusted`");
    }
    Some(ProxyProtocol { required, trusted })
}

fn networks(spot: &Spot) -> Vec<IpNet> {
    spot.one_or_more().iter().filter_map(|spot| spot.parsed(units::network)).collect()
}
