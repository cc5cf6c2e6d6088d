//! Header edits, of requests and of answers.

use serin_proxy::model::{Edits, HeaderEdits, HeaderPut, Put};

use crate::config::fields::Fields;
use crate::config::fields::Spot;

use super::units;

/// What a version, a route and the document may say.
pub const FIELDS: [&str; 2] = ["requestHeaders", "responseHeaders"];

const LISTS: [(&str, Put); 4] = [
    ("set", Put::Set),
    ("setIfAbsent", Put::SetIfAbsent),
    ("setIfPresent", Put::SetIfPresent),
    ("append", Put::Append),
];
const WORDS: [&str; 5] = ["remove", "set", "setIfAbsent", "setIfPresent", "append"];
const VALUE: [&str; 2] = ["value", "keepEmpty"];

pub fn read(fields: &Fields) -> Edits {
    let [request, response] =
        FIELDS.map(|name| fields.get(name).map_or(HeaderEdits::default(), |spot| edits(&spot)));
    Edits { request, response }
}

fn edits(spot: &Spot) -> HeaderEdits {
    let mut edits = HeaderEdits::default();
    let Some(fields) = spot.fields(&WORDS) else {
        return edits;
    };
    for spot in fields.get("remove").map(|spot| spot.one_or_more()).unwrap_or_default() {
        edits.remove.extend(spot.parsed(removal));
    }
    for (list, how) in LISTS {
        let Some(spot) = fields.get(list) else { continue };
        for (name, spot) in spot.entries() {
            let name = match units::header(name) {
                Ok(name) => name,
                Err(text) => {
                    spot.error(text);
                    continue;
                }
            };
            for spot in spot.one_or_more() {
                edits.put.extend(value(&spot).map(|(value, keep_empty)| HeaderPut {
                    name: name.clone(),
                    value,
                    how,
                    keep_empty,
                }));
            }
        }
    }
    edits
}

/// A text, or one with more to say.
fn value(spot: &Spot) -> Option<(String, bool)> {
    if !spot.is_map() {
        let value = spot.text()?;
        if value.is_empty() {
            spot.error("an empty value is not sent; give {value: \"\", keepEmpty: true} to send it");
        }
        return Some((value.to_owned(), false));
    }
    let fields = spot.fields(&VALUE)?;
    let keep_empty = fields.get("keepEmpty").and_then(|spot| spot.bool()).unwrap_or(false);
    Some((fields.need("value")?.text()?.to_owned(), keep_empty))
}

/// A header's name, or the beginning of some with a `*`.
fn removal(text: &str) -> Result<String, String> {
    match text.strip_suffix('*') {
        Some(prefix) => Ok(units::header(prefix)? + "*"),
        None => units::header(text),
    }
}
