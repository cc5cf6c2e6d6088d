//! A secret is named by its place: `{file: token}` or `{env: TOKEN}`. One that stood
//! in the file itself would be in every copy of it, so that is refused.

use std::collections::BTreeMap;

use crate::config::fields::{Fields, Spot};
use crate::outside::Tls;
use crate::secret::{Secret, Text};

const PLACES: [&str; 2] = ["file", "env"];

pub fn secret(spot: &Spot) -> Option<Secret> {
    if !spot.is_map() {
        spot.error("a secret does not stand here itself; give `{file: PATH}` or `{env: NAME}`");
        return None;
    }
    match spot.fields(&PLACES)?.one_of(&PLACES)? {
        ("file", spot) => Some(Secret::File(spot.file_path()?)),
        (_, spot) => Some(Secret::Env(spot.parsed(variable)?)),
    }
}

/// A text that may as well be a secret.
pub fn text(spot: &Spot) -> Option<Text> {
    if spot.is_map() { secret(spot).map(Text::Secret) } else { Some(Text::Plain(spot.text()?.to_owned())) }
}

/// A URL of http or https, or a secret that is one.
pub fn url(spot: &Spot) -> Option<Text> {
    let text = text(spot)?;
    if let Text::Plain(plain) = &text {
        let parsed = url::Url::parse(plain);
        let is_good = parsed.is_ok_and(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
        if !is_good {
            spot.error(format!("expects a URL that begins with http:// or https://, not {plain:?}"));
            return None;
        }
        if url::Url::parse(plain).is_ok_and(|url| !url.username().is_empty() || url.password().is_some()) {
            spot.error(
                "a login does not stand here itself; give `{file: PATH}` or `{env: NAME}` of the whole URL",
            );
            return None;
        }
    }
    Some(text)
}

pub fn headers(fields: &Fields) -> BTreeMap<String, Text> {
    let mut headers = BTreeMap::new();
    for (name, spot) in fields.get("headers").map(|spot| spot.entries()).unwrap_or_default() {
        if name.parse::<http::HeaderName>().is_err() {
            spot.error(format!("{name:?} is no name of a header"));
        }
        if let Some(text) = text(&spot) {
            headers.insert(name.to_owned(), text);
        }
    }
    headers
}

/// `ca` and `insecure`.
pub fn tls(fields: &Fields) -> Tls {
    let tls = Tls {
        ca: fields.get("ca").and_then(|spot| spot.file_path()),
        insecure: fields.get("insecure").and_then(|spot| spot.bool()).unwrap_or_default(),
    };
    if let Some(spot) = fields.get("insecure").filter(|_| tls.insecure) {
        spot.warn("whoever answers there is believed, and gets what is sent");
    }
    tls
}

fn variable(text: &str) -> Result<String, String> {
    let is_good =
        !text.is_empty() && text.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    if is_good { Ok(text.to_owned()) } else { Err(format!("{text:?} is no name of an environment variable")) }
}
