//! What a webhook is sent, in Flagger's words, and when its answer is a yes.

use std::collections::BTreeMap;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use secrecy::SecretString;
use serde::Serialize;
use serin_proxy::Model;

use crate::courier::{Answer, Call, signature};
use crate::outside::hook::{Hook, Where};
use crate::rollout::Spec;

const SIGNATURE: &str = "x-serin-signature";

#[derive(Clone, Debug, Serialize)]
pub struct Payload {
    pub name: String,
    pub namespace: String,
    pub phase: &'static str,
    /// Differs from release to release.
    pub checksum: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// Flagger's rule, by which 204 is a no.
pub fn is_yes(answer: &Answer) -> bool {
    is_yes_status(answer.status)
}

fn is_yes_status(status: u16) -> bool {
    status <= 202
}

/// The request of this moment; secrets are fetched for it.
pub fn call(hook: &Hook, payload: &impl Serialize) -> Result<Call, String> {
    let Where::Url(url) = &hook.to else { return Err("a gate is not called".to_owned()) };
    let body = Bytes::from(serde_json::to_vec(payload).expect("text keys and plain data"));
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let url = url.fetch().map_err(|missing| missing.to_string())?;
    let bare = Call::bare(hyper::Method::POST, url, hook.timeout);
    let mut call = Call { headers, body, tls: hook.tls.clone(), ..bare };
    if let Some(key) = &hook.sign {
        let signed = signature(key, &call.body)?;
        call.header(SIGNATURE, &SecretString::from(signed))?;
    }
    for (name, value) in &hook.headers {
        let value = value.fetch().map_err(|missing| missing.to_string())?;
        call.header(name, &value)?;
    }
    Ok(call)
}

/// Of the canary's endpoints as the file names them: what tells one release from
/// another here.
pub fn checksum(model: &Model, spec: &Spec) -> String {
    let split = model.splits.iter().find(|split| split.name == spec.split);
    let service = split.and_then(|split| model.services.iter().find(|service| service.name == split.service));
    let version =
        service.and_then(|service| service.versions.iter().find(|version| version.name == spec.canary));
    let mut told = version.map(|version| version.release.join("\n")).unwrap_or_default();
    if told.is_empty()
        && let Some(version) = version
    {
        told = version
            .endpoints
            .iter()
            .map(|endpoint| endpoint.address.to_string())
            .collect::<Vec<_>>()
            .join("\n");
    }
    // FNV-1a: short, and the same after every restart.
    let sum = told
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{:010x}", sum >> 24)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_is_flaggers_and_no_content_is_no_yes() {
        let mut payload = Payload {
            name: "podinfo".into(),
            namespace: "test".into(),
            phase: "Progressing",
            checksum: "85d557f47b".into(),
            metadata: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
        };
        assert_eq!(
            serde_json::to_string(&payload).unwrap(),
            r#"{"name":"podinfo","namespace":"test","phase":"Progressing","checksum":"85d557f47b","metadata":{"k":"v"}}"#
        );
        payload.metadata.clear();
        assert!(!serde_json::to_string(&payload).unwrap().contains("metadata"));
        assert_eq!(
            [200, 201, 202, 203, 204, 302, 403, 500].map(is_yes_status),
            [true, true, true, false, false, false, false, false]
        );
    }
}
