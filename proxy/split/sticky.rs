//! A user's fixed point among the points that versions own.
//!
//! The point is a hash of something the user keeps sending, so nothing is
//! stored. Weights move the borders between versions, never the points.

use xxhash_rust::xxh64::xxh64;

use crate::head::Head;
use crate::model::Sticky;
use crate::model::StickyKey;
use crate::weights::WHOLE;

use http::header::HeaderName;

pub struct Compiled {
    source: Source,
    /// Different splits toss independently for the same user.
    seed: u64,
}

enum Source {
    Header(HeaderName),
    Cookie(String),
    Issue { cookie: String, attributes: String },
}

/// Where a sticky request stands.
pub struct Place {
    /// The user, as a uniform number.
    pub unit: u64,
    /// The cookie to hand out with the answer.
    pub set_cookie: Option<String>,
}

impl Compiled {
    pub fn new(sticky: &Sticky, split: &str) -> Result<Compiled, String> {
        let source = match &sticky.key {
            StickyKey::Header(name) => Source::Header(
                HeaderName::try_from(name.as_str()).map_err(|_| format!("{name:?} is no header name"))?,
            ),
            StickyKey::Cookie(cookie) => Source::Cookie(cookie.clone()),
            StickyKey::Issue { cookie, max_age, path } => {
                let age = max_age.map(|age| format!("; Max-Age={}", age.as_secs())).unwrap_or_default();
                let attributes = format!("; Path={path}{age}; HttpOnly; SameSite=Lax");
                Source::Issue { cookie: cookie.clone(), attributes }
            }
        };
        Ok(Compiled { source, seed: xxh64(split.as_bytes(), 0) })
    }

    /// `None` when the request carries no key: the coin decides.
    pub fn place(&self, head: &Head<'_>, random: u64) -> Option<Place> {
        let key = match &self.source {
            Source::Header(name) => head.field(name),
            Source::Cookie(name) => head.cookie(name),
            Source::Issue { cookie, attributes } => match head.cookie(cookie) {
                Some(key) => Some(key),
                None => return Some(self.issue(cookie, attributes, random)),
            },
        };
        key.map(|key| Place { unit: self.unit(key), set_cookie: None })
    }

    fn issue(&self, cookie: &str, attributes: &str, random: u64) -> Place {
        let key = format!("{random:016x}");
        let set_cookie = format!("{cookie}={key}{attributes}");
        Place { unit: self.unit(key.as_bytes()), set_cookie: Some(set_cookie) }
    }

    fn unit(&self, key: &[u8]) -> u64 {
        xxh64(key, self.seed)
    }
}

/// A uniform 64-bit number as a point in `0..WHOLE`.
pub fn point_of(uniform: u64) -> u32 {
    (((uniform >> 32) * u64::from(WHOLE)) >> 32) as u32
}
