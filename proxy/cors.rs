//! CORS, as Envoy's filter has it: preflights of allowed origins are answered
//! here, answers to their requests are marked, and whatever else comes passes.

use http::Method;
use http::StatusCode;
use http::header;
use http::header::HeaderName;
use http::header::HeaderValue;

use crate::head::Head;
use crate::model;
use crate::model::TextMatch;
use crate::reply::Reply;
use crate::text::Pattern;

const REQUEST_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

pub struct Cors {
    origins: Vec<Pattern>,
    any: bool,
    methods: Option<HeaderValue>,
    headers: Option<HeaderValue>,
    expose: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
    credentials: bool,
    private_network: bool,
    forward_other_preflights: bool,
}

/// What CORS makes of a request.
pub struct Verdict {
    /// To be put into whatever answer it gets.
    pub marks: Vec<(HeaderName, HeaderValue)>,
    pub reply: Option<Reply>,
}

impl Cors {
    pub fn new(cors: &model::Cors) -> Result<Cors, String> {
        let list = |values: &[String]| -> Result<Option<HeaderValue>, String> {
            let joined = values.join(", ");
            let value = HeaderValue::try_from(&joined).map_err(|_| format!("{joined:?} is no list"))?;
            Ok((!values.is_empty()).then_some(value))
        };
        Ok(Cors {
            origins: cors.origins.iter().map(Pattern::new).collect::<Result<_, _>>()?,
            any: cors.origins.iter().any(|origin| *origin == TextMatch::Exact("*".to_owned())),
            methods: list(&cors.methods)?,
            headers: list(&cors.headers)?,
            expose: list(&cors.expose)?,
            max_age: cors.max_age.map(|age| HeaderValue::from(age.as_secs())),
            credentials: cors.credentials,
            private_network: cors.private_network,
            forward_other_preflights: cors.forward_other_preflights,
        })
    }

    pub fn judge(&self, head: &Head<'_>) -> Verdict {
        let nothing = Verdict { marks: Vec::new(), reply: None };
        let Some(origin) = head.field(&header::ORIGIN).filter(|origin| !origin.is_empty()) else {
            return nothing;
        };
        let asked =
            head.field(&header::ACCESS_CONTROL_REQUEST_METHOD).is_some_and(|method| !method.is_empty());
        let preflight = asked && head.method() == Method::OPTIONS.as_str();
        let allowed = self.any || self.origins.iter().any(|pattern| pattern.matches(origin));
        let empty = || Reply::new(StatusCode::OK, bytes::Bytes::new());
        let Some(origin) = HeaderValue::from_bytes(origin).ok().filter(|_| allowed) else {
            let reply = (preflight && !self.forward_other_preflights).then(empty);
            return Verdict { reply, ..nothing };
        };
        let mut marks = vec![(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin)];
        let yes = HeaderValue::from_static("true");
        if self.credentials {
            marks.push((header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes.clone()));
        }
        marks.extend(self.expose.clone().map(|expose| (header::ACCESS_CONTROL_EXPOSE_HEADERS, expose)));
        if !preflight {
            return Verdict { marks, reply: None };
        }
        let mut reply = empty();
        for (name, value) in [
            (header::ACCESS_CONTROL_ALLOW_METHODS, &self.methods),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, &self.headers),
            (header::ACCESS_CONTROL_MAX_AGE, &self.max_age),
        ] {
            if let Some(value) = value {
                reply.headers.insert(name, value.clone());
            }
        }
        if self.private_network && head.field(&REQUEST_PRIVATE_NETWORK) == Some(b"true") {
            reply.headers.insert(ALLOW_PRIVATE_NETWORK, yes);
        }
        Verdict { marks, reply: Some(reply) }
    }
}
