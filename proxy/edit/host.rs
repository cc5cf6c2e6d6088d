//! Rewriting of a request's host.

use http::header::HOST;
use http::header::HeaderName;
use http::uri::Authority;

use crate::edit::fields::Request;
use crate::model::HostRewrite;
use crate::text::Replacing;

const ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-envoy-original-host");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

pub enum HostEdit {
    Literal(String),
    Header(HeaderName),
    /// The name of the endpoint, set by whoever has chosen it.
    Endpoint,
    Path(Replacing),
}

impl HostEdit {
    pub fn new(rewrite: &HostRewrite) -> Result<HostEdit, String> {
        Ok(match rewrite {
            HostRewrite::Literal(host) => match Authority::try_from(host.as_str()) {
                Ok(_) => HostEdit::Literal(host.clone()),
                Err(_) => return Err(format!("{host:?} is no host")),
            },
            HostRewrite::Header(name) => HostEdit::Header(
                HeaderName::try_from(name.as_str()).map_err(|_| format!("{name:?} is no header name"))?,
            ),
            HostRewrite::Endpoint => HostEdit::Endpoint,
            HostRewrite::Path(substitution) => HostEdit::Path(Replacing::new(substitution)?),
        })
    }

    /// What is no host, or missing, leaves the request's own.
    pub fn apply(&self, message: &mut impl Request, append_forwarded: bool) {
        let host = match self {
            HostEdit::Literal(host) => host.clone(),
            HostEdit::Header(name) => {
                let value = message.first(name).and_then(|value| std::str::from_utf8(value).ok());
                value.unwrap_or_default().to_owned()
            }
            HostEdit::Endpoint => return,
            HostEdit::Path(replacing) => {
                let target = message.target();
                replacing.apply(target.split('?').next().unwrap_or(target))
            }
        };
        if Authority::try_from(host.as_str()).is_ok() {
            set_host(message, &host, append_forwarded);
        }
    }
}

/// Puts `host` in the place of the request's and tells upstream what it was.
pub fn set_host(message: &mut impl Request, host: &str, append_forwarded: bool) {
    let before = message.authority().as_bytes().to_owned();
    if append_forwarded && !before.is_empty() {
        let known = message.first(&FORWARDED_HOST).unwrap_or_default().to_owned();
        let last = known.rsplit(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
        if known.is_empty() {
            message.set(&FORWARDED_HOST, &before);
        } else if last != before {
            message.set(&FORWARDED_HOST, &[&known[..], &before].join(&b","[..]));
        }
    }
    message.set(&ORIGINAL_HOST, &before);
    message.set(&HOST, host.as_bytes());
}
