//! What a route and a version change in the heads that pass: fields, path and
//! host, in Envoy's order.
//!
//! It sees heads through traits, so one set of edits serves every codec. A route
//! that changes nothing has no `Edits` at all, and costs one comparison.

mod fields;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod host;
mod level;
mod moment;
mod path;
mod template;

use std::fmt::Display;
use std::net::SocketAddr;

use http::header::HOST;
use http::header::HeaderName;

use crate::forwarded::Peer;
use crate::model;

pub use fields::{Asked, Fields, Request};
pub use path::{Matched, PathEdit};

use host::HostEdit;
use level::Level;
use template::Asking;
use template::Facts;

const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");

/// Compiled edits of a route (its own, its host's and the global ones) or of a
/// version.
#[derive(Default)]
pub struct Edits {
    request: Vec<Level>,
    response: Vec<Level>,
    /// What the answers' edits have to know of the request.
    kept: Vec<Asking>,
    path: Option<PathEdit>,
    host: Option<HostEdit>,
    append_forwarded_host: bool,
}

/// What was kept of a request for the edits of its answer.
#[derive(Default)]
pub struct Kept {
    version: Vec<Vec<u8>>,
    route: Vec<Vec<u8>>,
}

/// Who asks, over what, and which way.
pub struct Scene<'a> {
    pub peer: &'a Peer,
    /// As those before us tell it, where they are believed.
    pub client: SocketAddr,
    pub protocol: http::Version,
    pub route: &'a str,
    /// `service/version`; empty where none has been chosen.
    pub version: &'a str,
    pub matched: Matched,
}

/// An answer's head before it is edited, beyond its fields.
pub struct Answered<'a> {
    pub status: u16,
    pub version: &'a str,
    pub upstream: Option<&'a dyn Display>,
}

/// The edits that one request and its answer are subject to.
#[derive(Clone, Copy)]
pub struct InForce<'p> {
    pub version: Option<&'p Edits>,
    pub route: Option<&'p Edits>,
}

impl Edits {
    /// In the order in which they are made; `None` where there is nothing to do.
    /// On problems, each with the place below the owner.
    pub fn new(
        levels: &[&model::Edits],
        rewrite: &model::Rewrite,
    ) -> Result<Option<Box<Edits>>, Vec<(&'static str, String)>> {
        if levels.iter().all(|level| level.is_empty()) && rewrite.is_empty() {
            return Ok(None);
        }
        let mut problems = Vec::new();
        let mut edits = Edits { append_forwarded_host: rewrite.append_forwarded_host, ..Edits::default() };
        for level in levels {
            match Level::of_requests(&level.request) {
                Ok(level) => edits.request.extend(level),
                Err(text) => problems.push(("edits.request", text)),
            }
            match Level::of_answers(&level.response, &mut edits.kept) {
                Ok(level) => edits.response.extend(level),
                Err(text) => problems.push(("edits.response", text)),
            }
        }
        match rewrite.path.as_ref().map(PathEdit::new).transpose() {
            Ok(path) => edits.path = path,
            Err(text) => problems.push(("rewrite.path", text)),
        }
        match rewrite.host.as_ref().map(HostEdit::new).transpose() {
            Ok(host) => edits.host = host,
            Err(text) => problems.push(("rewrite.host", text)),
        }
        if problems.is_empty() { Ok(Some(Box::new(edits))) } else { Err(problems) }
    }

    /// The endpoint's name becomes the host, which is known only at the last.
    pub fn takes_endpoints_host(&self) -> bool {
        matches!(self.host, Some(HostEdit::Endpoint))
    }

    /// Makes the edit that had to wait for the endpoint. Without a name of its own
    /// it leaves the request's host.
    pub fn edit_endpoint(&self, message: &mut impl Request, hostname: Option<&str>) {
        if let Some(hostname) = hostname.filter(|_| self.takes_endpoints_host()) {
            host::set_host(message, hostname, self.append_forwarded_host);
        }
    }

    fn edit_request(&self, message: &mut impl Request, scene: &Scene<'_>) {
        for level in &self.request {
            level.apply(message, |message, template, out| {
                let facts = Facts { request: Some((message.asked(), scene)), ..Facts::default() };
                template.fill(&facts, out);
            });
        }
        if let Some(host) = &self.host {
            host.apply(message, self.append_forwarded_host);
        }
        if let Some(path) = &self.path {
            let before = message.target().to_owned();
            // A CONNECT has no path, and `OPTIONS *` none that could be rewritten.
            if before.starts_with('/') {
                message.set(&ORIGINAL_PATH, before.as_bytes());
                message.set_target(&path.apply(&before, scene.matched));
            }
        }
    }

    fn edit_answer(&self, message: &mut impl Fields, kept: &[Vec<u8>], answered: &Answered<'_>) {
        for level in &self.response {
            level.apply(message, |message, template, out| {
                template.fill(&Facts { kept, answer: Some((message, answered)), ..Facts::default() }, out);
            });
        }
    }

    fn keep(&self, request: &dyn Asked, scene: &Scene<'_>) -> Vec<Vec<u8>> {
        self.kept.iter().map(|asking| asking.answer(request, scene)).collect()
    }
}

impl InForce<'_> {
    pub fn is_none(&self) -> bool {
        self.version.is_none() && self.route.is_none()
    }

    /// Makes the request's edits; answers with what those of its answer need.
    pub fn edit_request(&self, message: &mut impl Request, scene: &Scene<'_>) -> Kept {
        for edits in [self.version, self.route].into_iter().flatten() {
            edits.edit_request(message, scene);
        }
        self.keep(message.asked(), scene)
    }

    pub fn keep(&self, request: &dyn Asked, scene: &Scene<'_>) -> Kept {
        let keep = |edits: Option<&Edits>| edits.map_or(Vec::new(), |edits| edits.keep(request, scene));
        Kept { version: keep(self.version), route: keep(self.route) }
    }

    pub fn edit_answer(&self, message: &mut impl Fields, kept: &Kept, answered: &Answered<'_>) {
        for (edits, kept) in [(self.version, &kept.version), (self.route, &kept.route)] {
            if let Some(edits) = edits {
                edits.edit_answer(message, kept, answered);
            }
        }
    }
}

/// Is this a field that the proxy sets by what it does, or that ends the message?
fn is_protected(name: &str) -> bool {
    let protected = [
        HOST.as_str(),
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "upgrade",
        "expect",
    ];
    protected.contains(&name)
}

#[cfg(test)]
mod tests;
