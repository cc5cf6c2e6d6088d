//! What a listener does to all requests and answers: paths, `server`, a limit.

use serin_proxy::model::EscapedSlashes;
use serin_proxy::model::Listener;
use serin_proxy::model::Paths;
use serin_proxy::model::ServerField;

use super::gates;
use crate::config::fields::Fields;
use crate::config::fields::Spot;

const PATHS: [&str; 3] = ["normalize", "mergeSlashes", "escapedSlashes"];
const SERVER: [&str; 2] = ["policy", "name"];
const ESCAPED: [(&str, EscapedSlashes); 4] = [
    ("keep", EscapedSlashes::Keep),
    ("reject", EscapedSlashes::Reject),
    ("redirect", EscapedSlashes::Redirect),
    ("unescape", EscapedSlashes::Unescape),
];
/// Whether to overwrite; nothing for what is left alone.
const POLICIES: [(&str, Option<bool>); 3] =
    [("passThrough", None), ("overwrite", Some(true)), ("appendIfAbsent", Some(false))];

pub fn read(fields: &Fields, listener: &mut Listener) {
    listener.paths = fields.get("paths").map(|spot| paths(&spot)).unwrap_or_default();
    listener.server = fields.get("server").and_then(|spot| server(&spot));
    listener.rate_limit = fields.get("rateLimit").and_then(|spot| gates::limit(&spot));
}

fn paths(spot: &Spot) -> Paths {
    let Some(fields) = spot.fields(&PATHS) else { return Paths::default() };
    let flag = |name: &str| fields.get(name).and_then(|spot| spot.bool()).unwrap_or(false);
    Paths {
        normalize: flag("normalize"),
        merge_slashes: flag("mergeSlashes"),
        escaped_slashes: fields
            .get("escapedSlashes")
            .and_then(|spot| spot.word(&ESCAPED))
            .unwrap_or_default(),
    }
}

fn server(spot: &Spot) -> Option<ServerField> {
    let fields = spot.fields(&SERVER)?;
    let policy = fields.need("policy").and_then(|spot| spot.word(&POLICIES));
    let name = match fields.get("name") {
        Some(spot) => spot.parsed(|text| {
            let fits = !text.is_empty() && text.bytes().all(|byte| (b' '..0x7f).contains(&byte));
            if fits { Ok(text.to_owned()) } else { Err(format!("{text:?} is no name in a header")) }
        }),
        None => Some("serin".to_owned()),
    };
    if let (Some(None), true) = (policy, fields.has("name")) {
        spot.error("what passes through needs no `name`");
    }
    Some(ServerField { overwrite: policy??, name: name? })
}
