//! Where a redirect sends a client: what is not said stays as it asked, and the
//! default port of the scheme it came by is not taken along to another.

use bytes::Bytes;
use http::StatusCode;
use http::header::HeaderValue;
use http::header::LOCATION;

use crate::edit::Matched;
use crate::edit::PathEdit;
use crate::head::Head;
use crate::model;
use crate::reply::Reply;

pub struct Redirect {
    status: StatusCode,
    scheme: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    path: Option<PathEdit>,
    strip_query: bool,
}

impl Redirect {
    pub fn new(redirect: &model::Redirect) -> Result<Redirect, String> {
        let status = StatusCode::from_u16(redirect.status).ok();
        let status = status.filter(|status| matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308));
        let status = status.ok_or_else(|| {
            format!("a redirect answers 301, 302, 303, 307 or 308, not {}", redirect.status)
        })?;
        let authority = |text: &str| http::uri::Authority::try_from(text).is_ok();
        if let Some(host) = redirect.host.as_deref().filter(|host| !authority(host)) {
            return Err(format!("{host:?} is no host"));
        }
        if let Some(scheme) = redirect.scheme.as_deref()
            && http::uri::Scheme::try_from(scheme).is_err()
        {
            return Err(format!("{scheme:?} is no scheme"));
        }
        Ok(Redirect {
            status,
            scheme: redirect.scheme.clone(),
            host: redirect.host.clone(),
            port: redirect.port,
            path: redirect.path.as_ref().map(PathEdit::new).transpose()?,
            strip_query: redirect.strip_query,
        })
    }

    pub fn reply(&self, head: &Head<'_>, scheme: &str, matched: Matched) -> Reply {
        let mut reply = Reply::new(self.status, Bytes::new());
        // Out of a legal target and texts that were checked.
        if let Ok(location) = HeaderValue::try_from(self.location(head, scheme, matched)) {
            reply.headers.insert(LOCATION, location);
        }
        reply
    }

    fn location(&self, head: &Head<'_>, asked: &str, matched: Matched) -> String {
        let scheme = self.scheme.as_deref().unwrap_or(asked);
        let host = match &self.host {
            Some(host) => host,
            None if self.port.is_some() => head.host(),
            None => {
                let default = if asked == "https" { ":443" } else { ":80" };
                let bare = head.authority().strip_suffix(default).filter(|_| asked != scheme);
                bare.unwrap_or(head.authority())
            }
        };
        let port = self.port.map_or(String::new(), |port| format!(":{port}"));
        let mut target = head.target().to_owned();
        let mut own_query = false;
        if let Some(path) = &self.path {
            target = path.apply(&target, matched);
            own_query = matches!(path, PathEdit::Full(path) if path.contains('?'));
        }
        if self.strip_query && !own_query {
            target.truncate(target.find('?').unwrap_or(target.len()));
        }
        format!("{scheme}://{host}{port}{target}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PathRewrite;

    fn location(redirect: model::Redirect, uri: &str, fields: &[(&str, &str)]) -> String {
        location_from("http", redirect, uri, fields)
    }

    fn location_from(scheme: &str, redirect: model::Redirect, uri: &str, fields: &[(&str, &str)]) -> String {
        let mut request = http::Request::builder().uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let parts = request.body(()).unwrap().into_parts().0;
        let head = Head::of(&parts).ok().unwrap();
        let reply = Redirect::new(&redirect).unwrap().reply(&head, scheme, Matched::Prefix(2));
        reply.headers["location"].to_str().unwrap().to_owned()
    }

    #[test]
    fn default_ports_follow_envoys_rules() {
        let to_https = || model::Redirect { scheme: Some("https".into()), ..model::Redirect::new(301) };
        for (host, expected) in [
            ("a.com", "https://a.com/x"),
            ("a.com:80", "https://a.com/x"),
            ("a.com:443", "https://a.com:443/x"),
            ("a.com:8080", "https://a.com:8080/x"),
            ("[::1]:80", "https://[::1]/x"),
        ] {
            assert_eq!(location(to_https(), "/x", &[("host", host)]), expected);
        }
        let host = [("host", "a.com:443")];
        assert_eq!(location_from("https", to_https(), "/x", &host), "https://a.com:443/x");
        let to_http = model::Redirect { scheme: Some("http".into()), ..model::Redirect::new(301) };
        assert_eq!(location_from("https", to_http, "/x", &host), "http://a.com/x");
        let to_port = model::Redirect { port: Some(443), ..to_https() };
        assert_eq!(location(to_port, "/x", &[("host", "a.com:99")]), "https://a.com:443/x");
    }

    #[test]
    fn a_path_of_its_own_brings_its_own_query() {
        let full = |path: &str, strip_query| model::Redirect {
            path: Some(PathRewrite::Full(path.into())),
            host: Some("h.com".into()),
            strip_query,
            ..model::Redirect::new(308)
        };
        let host = [("host", "a.com")];
        assert_eq!(location(full("/n", false), "/x?q", &host), "http://h.com/n?q");
        assert_eq!(location(full("/n", true), "/x?q", &host), "http://h.com/n");
        assert_eq!(location(full("/n?r", true), "/x?q", &host), "http://h.com/n?r");
        let prefix = PathRewrite::Prefix("/n/".into());
        let prefix = model::Redirect { path: Some(prefix), ..model::Redirect::new(302) };
        assert_eq!(location(prefix, "/x/y?q", &host), "http://a.com/n//y?q");
        assert!(Redirect::new(&model::Redirect::new(305)).is_err());
    }
}
