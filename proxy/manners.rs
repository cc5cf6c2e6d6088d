//! What a listener does to every request before it is routed, and to the head of
//! every answer: paths, a rate limit over all routes, the `server` field.
//!
//! Our own codec leaves whatever this would stop or change to hyper's way, where it
//! is done once; only the `server` field is written on both.

use bytes::Bytes;
use http::HeaderMap;
use http::Request;
use http::StatusCode;
use http::header::HeaderName;
use http::header::HeaderValue;
use http::header::LOCATION;
use http::header::SERVER;
use http::uri::PathAndQuery;

use crate::fault::Fault;
use crate::fault::Kind;
use crate::limit::Limit;
use crate::model::Listener;
use crate::model::Paths;
use crate::paths;
use crate::paths::Outcome;
use crate::reply::Reply;

pub struct Manners {
    paths: Paths,
    pub server: Option<Server>,
    limit: Option<Limit>,
}

/// The `server` field of answers.
pub struct Server {
    pub value: HeaderValue,
    pub overwrite: bool,
}

/// What stops a request, and what its answer says whoever gives it.
#[derive(Default)]
pub struct Greeting {
    pub reply: Option<Reply>,
    pub marks: Vec<(HeaderName, HeaderValue)>,
    pub limited: bool,
}

impl Manners {
    /// `None` for a listener without any. `before` was there until now: a limit
    /// that is the same goes on.
    pub fn new(listener: &Listener, before: Option<&Manners>) -> Result<Option<Manners>, (String, String)> {
        let Listener { paths, server, rate_limit, .. } = listener;
        if paths.is_default() && server.is_none() && rate_limit.is_none() {
            return Ok(None);
        }
        let server = server.as_ref().map(|server| -> Result<Server, (String, String)> {
            let value = HeaderValue::try_from(&server.name);
            let value = value.map_err(|_| ("server".to_owned(), "no value of a field".to_owned()))?;
            Ok(Server { value, overwrite: server.overwrite })
        });
        let limit = rate_limit.as_ref().map(|model| {
            let known = before.and_then(|manners| manners.limit.as_ref());
            let bucket = known.filter(|limit| limit.model == *model).map(|limit| limit.bucket.clone());
            Limit::new(model, bucket).map_err(|text| ("rate_limit".to_owned(), text))
        });
        Ok(Some(Manners { paths: *paths, server: server.transpose()?, limit: limit.transpose()? }))
    }

    /// Could a request for this be stopped or changed?
    pub fn concern(&self, target: &str) -> bool {
        self.limit.is_some() || paths::concerns(self.paths, target)
    }

    /// Takes a request in; its target may be another then.
    pub fn greet<B>(&self, request: &mut Request<B>, now_us: u64, random: impl FnMut() -> u64) -> Greeting {
        let mut greeting = Greeting::default();
        if let Some(limit) = &self.limit {
            let verdict = limit.judge(now_us, random);
            greeting.limited = verdict.reply.is_some();
            (greeting.reply, greeting.marks) = (verdict.reply, verdict.marks);
        }
        if greeting.reply.is_none() {
            greeting.reply = self.straighten(request);
        }
        greeting
    }

    fn straighten<B>(&self, request: &mut Request<B>) -> Option<Reply> {
        let outcome = paths::apply(self.paths, request.uri().path_and_query()?.as_str());
        let refused = || Some(Reply::of_fault(Fault::downstream(Kind::BadRequest)));
        match outcome {
            Outcome::Same => None,
            Outcome::Refused => refused(),
            Outcome::Moved(target) => {
                let Ok(target) = HeaderValue::try_from(target) else { return refused() };
                let mut reply = Reply::new(StatusCode::TEMPORARY_REDIRECT, Bytes::new());
                reply.headers.insert(LOCATION, target);
                Some(reply)
            }
            Outcome::Changed(target) => {
                let mut parts = std::mem::take(request.uri_mut()).into_parts();
                parts.path_and_query = PathAndQuery::try_from(target).ok();
                if parts.path_and_query.is_none() {
                    return refused();
                }
                match http::Uri::from_parts(parts) {
                    Ok(uri) => *request.uri_mut() = uri,
                    Err(_) => return refused(),
                }
                None
            }
        }
    }

    /// Signs the head of an answer.
    pub fn sign(&self, headers: &mut HeaderMap) {
        if let Some(server) = &self.server
            && (server.overwrite || !headers.contains_key(SERVER))
        {
            headers.insert(SERVER, server.value.clone());
        }
    }
}
