//! The hash of a request, by what its route says: Envoy's hashes and its way to
//! join them, so that both choose the same endpoint.

use http::header::HeaderName;
use xxhash_rust::xxh64::xxh64;

use crate::head::Head;
use crate::model::HashBy;
use crate::model::HashPolicy;

#[derive(Default)]
pub struct Hashing(Vec<Rule>);

struct Rule {
    by: By,
    terminal: bool,
}

enum By {
    Header(HeaderName),
    /// Attributes of the cookie that is handed out, if one is.
    Cookie(String, Option<String>),
    SourceIp,
    Query(String),
}

/// A request's hash, and the cookies that keep it.
#[derive(Default)]
pub struct Hashed {
    pub hash: Option<u64>,
    pub set_cookies: Vec<String>,
}

impl Hashing {
    pub fn new(policies: &[HashPolicy]) -> Result<Hashing, String> {
        let rule = |policy: &HashPolicy| {
            let by = match &policy.by {
                HashBy::Header(name) => By::Header(
                    HeaderName::try_from(name.as_str()).map_err(|_| format!("{name:?} is no header name"))?,
                ),
                HashBy::Cookie { name, ttl, path } => {
                    let attributes = ttl.map(|ttl| {
                        let age = ttl.as_secs();
                        let age = if age == 0 { String::new() } else { format!("; Max-Age={age}") };
                        let path = path.as_ref().map(|path| format!("; Path={path}")).unwrap_or_default();
                        format!("{age}{path}; HttpOnly")
                    });
                    By::Cookie(name.clone(), attributes)
                }
                HashBy::SourceIp => By::SourceIp,
                HashBy::Query(name) => By::Query(name.clone()),
            };
            Ok(Rule { by, terminal: policy.terminal })
        };
        policies.iter().map(rule).collect::<Result<_, _>>().map(Hashing)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `issue` gives the value of a cookie to hand out, the same for all requests
    /// of a connection; without it none is.
    pub fn hash(&self, head: &Head<'_>, source_ip: &[u8], issue: Option<&dyn Fn() -> u64>) -> Hashed {
        let mut hashed = Hashed::default();
        for rule in &self.0 {
            let new = match &rule.by {
                By::Header(name) => header(head, name),
                By::Cookie(name, attributes) => match head.cookie(name).filter(|value| !value.is_empty()) {
                    Some(value) => Some(xxh64(value, 0)),
                    None => attributes.as_ref().zip(issue).map(|(attributes, issue)| {
                        let value = format!("{:016x}", issue());
                        hashed.set_cookies.push(format!("{name}=\"{value}\"{attributes}"));
                        xxh64(value.as_bytes(), 0)
                    }),
                },
                By::SourceIp => Some(xxh64(source_ip, 0)),
                By::Query(name) => head.parameter(name).map(|value| xxh64(value.as_bytes(), 0)),
            };
            if let Some(new) = new {
                hashed.hash = Some(hashed.hash.unwrap_or(0).rotate_left(1) ^ new);
            }
            if rule.terminal && hashed.hash.is_some() {
                break;
            }
        }
        hashed
    }
}

/// Several values are hashed one after the other, in order of their bytes.
fn header(head: &Head<'_>, name: &HeaderName) -> Option<u64> {
    let mut values = head.fields(name);
    let first = values.next()?;
    let Some(second) = values.next() else { return Some(xxh64(first, 0)) };
    let mut all: Vec<&[u8]> = [first, second].into_iter().chain(values).collect();
    all.sort_unstable();
    Some(all.into_iter().fold(0, |hash, value| xxh64(value, hash)))
}
