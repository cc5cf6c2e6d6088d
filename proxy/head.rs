//! What routing may see of a request: method, authority, path, fields.
//!
//! Matching and splitting look through this and never at a codec's own types,
//! so another codec can stand behind it.

use http::HeaderMap;
use http::header;
use http::header::COOKIE;
use http::header::GetAll;
use http::header::HeaderName;
use http::header::HeaderValue;
use http::request::Parts;

use crate::fault::Fault;
use crate::fault::Kind;

pub struct Head<'a> {
    method: &'a str,
    authority: &'a str,
    target: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    fields: Fields<'a>,
}

/// A head's fields as hyper keeps them, or as our own codec does.
#[derive(Clone, Copy)]
pub enum Fields<'a> {
    Map(&'a HeaderMap),
    List(&'a [httparse::Header<'a>]),
}

impl<'a> Head<'a> {
    /// Refuses a head whose meaning another server could read differently.
    pub fn of(parts: &'a Parts) -> Result<Head<'a>, Fault> {
        let bad = Fault::downstream(Kind::BadRequest);
        let mut hosts = parts.headers.get_all(header::HOST).iter();
        let host = hosts.next();
        if hosts.next().is_some() {
            return Err(bad);
        }
        let mut lengths = parts.headers.get_all(header::CONTENT_LENGTH).iter();
        let has_length = lengths.next().is_some();
        if lengths.next().is_some() || has_length && parts.headers.contains_key(header::TRANSFER_ENCODING) {
            return Err(bad);
        }
        let authority = match (parts.uri.authority(), host) {
            (Some(authority), Some(host))
                if !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) =>
            {
                return Err(bad);
            }
            (Some(authority), _) if !is_authority(authority.as_str().as_bytes()) => return Err(bad),
            (Some(authority), _) => authority.as_str(),
            (None, Some(host)) if host.is_empty() => "",
            (None, Some(host)) => {
                let host = host.to_str().map_err(|_| bad)?;
                http::uri::Authority::try_from(host).map_err(|_| bad)?;
                host
            }
            (None, None) if parts.version < http::Version::HTTP_11 => "",
            (None, None) => return Err(bad),
        };
        // As it goes on: of a query without a path `path` would say that it has one.
        let target = parts.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
        let whole = match target {
            "" => parts.method == http::Method::CONNECT,
            "*" => parts.method == http::Method::OPTIONS,
            target => target.starts_with('/'),
        };
        if !whole {
            return Err(bad);
        }
        Ok(Head {
            method: parts.method.as_str(),
            authority,
            target,
            path: parts.uri.path(),
            query: parts.uri.query(),
            fields: Fields::Map(&parts.headers),
        })
    }

    /// A head that our own codec has read and found regular.
    pub fn of_list(
        method: &'a str,
        target: &'a str,
        authority: &'a str,
        fields: &'a [httparse::Header<'a>],
    ) -> Head<'a> {
        let (path, query) = match memchr::memchr(b'?', target.as_bytes()) {
            Some(at) => (&target[..at], Some(&target[at + 1..])),
            None => (target, None),
        };
        Head { method, authority, target, path, query, fields: Fields::List(fields) }
    }

    pub fn method(&self) -> &'a str {
        self.method
    }

    pub fn authority(&self) -> &'a str {
        self.authority
    }

    /// Path and query.
    pub fn target(&self) -> &'a str {
        self.target
    }

    pub fn path(&self) -> &'a str {
        self.path
    }

    pub fn query(&self) -> Option<&'a str> {
        self.query
    }

    /// The authority without its port.
    pub fn host(&self) -> &'a str {
        let authority = self.authority;
        match memchr::memrchr(b':', authority.as_bytes()) {
            Some(colon) if !authority.ends_with(']') => &authority[..colon],
            _ => authority,
        }
    }

    pub fn all_fields(&self) -> Fields<'a> {
        self.fields
    }

    pub fn fields<'n>(&self, name: &'n HeaderName) -> Values<'a, 'n> {
        self.fields.values(name)
    }

    pub fn field(&self, name: &HeaderName) -> Option<&'a [u8]> {
        self.fields(name).next()
    }

    pub fn is_grpc(&self) -> bool {
        self.field(&http::header::CONTENT_TYPE).is_some_and(is_grpc)
    }

    /// The first cookie of this name.
    pub fn cookie(&self, name: &str) -> Option<&'a [u8]> {
        self.fields(&COOKIE).find_map(|line| cookie_in(line, name))
    }

    /// The first query parameter of this name, not percent-decoded (as Envoy).
    pub fn parameter(&self, name: &str) -> Option<&'a str> {
        self.query()?.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then_some(value)
        })
    }
}

impl<'a> Fields<'a> {
    pub fn values<'n>(self, name: &'n HeaderName) -> Values<'a, 'n> {
        match self {
            Fields::Map(map) => Values::Map(map.get_all(name).into_iter()),
            Fields::List(list) => Values::List(list.iter(), name.as_str()),
        }
    }
}

/// Is a body of this content type gRPC? gRPC-Web is not: it has its status in
/// the body.
pub fn is_grpc(content_type: &[u8]) -> bool {
    let rest = content_type.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// A host that every reader reads alike: a name or address and perhaps a port.
pub fn is_authority(value: &[u8]) -> bool {
    if let Some(bracketed) = value.strip_prefix(b"[") {
        let Some(end) = memchr::memchr(b']', bracketed) else { return false };
        let address = std::str::from_utf8(&bracketed[..end]).ok();
        return address.is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok())
            && is_port(&bracketed[end + 1..]);
    }
    let end = value.iter().position(|byte| !HOST[usize::from(*byte)]).unwrap_or(value.len());
    end > 0 && is_port(&value[end..])
}

/// Bytes of a host's name.
static HOST: [bool; 256] = {
    let mut host = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let letter = byte as u8;
        host[byte] = letter.is_ascii_alphanumeric() || matches!(letter, b'.' | b'-' | b'_');
        byte += 1;
    }
    host
};

/// `:` and a number, or nothing.
fn is_port(rest: &[u8]) -> bool {
    match rest {
        [] => true,
        [b':', digits @ ..] if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
            let add = |sum: u32, digit: &u8| sum.saturating_mul(10).saturating_add(u32::from(digit - b'0'));
            digits.iter().fold(0, add) <= u32::from(u16::MAX)
        }
        _ => false,
    }
}

/// The values of one field, line by line.
pub enum Values<'a, 'n> {
    Map(<GetAll<'a, HeaderValue> as IntoIterator>::IntoIter),
    List(std::slice::Iter<'a, httparse::Header<'a>>, &'n str),
}

impl<'a> Iterator for Values<'a, '_> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        match self {
            Values::Map(values) => values.next().map(HeaderValue::as_bytes),
            Values::List(fields, name) => {
                fields.find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
            }
        }
    }
}

fn cookie_in<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut rest = Some(line);
    while let Some(pairs) = rest {
        let end = memchr::memchr(b';', pairs);
        rest = end.map(|end| &pairs[end + 1..]);
        let pair = pairs[..end.unwrap_or(pairs.len())].trim_ascii_start();
        // A name has neither `=` nor blanks in it.
        let behind = pair.strip_prefix(name.as_bytes()).map(<[u8]>::trim_ascii_start);
        if let Some(value) = behind.and_then(|behind| behind.strip_prefix(b"=")) {
            let value = value.trim_ascii();
            let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
            return Some(unquoted.unwrap_or(value));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(uri: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn cookie_is_found_wherever_it_stands() {
        let parts = parts("/", &[("host", "a"), ("cookie", "a=1; canary=\"always\";b=2"), ("cookie", "c=3")]);
        let head = Head::of(&parts).unwrap();
        assert_eq!(head.cookie("canary"), Some(&b"always"[..]));
        assert_eq!(head.cookie("b"), Some(&b"2"[..]));
        assert_eq!(head.cookie("c"), Some(&b"3"[..]));
        assert_eq!(head.cookie("ary"), None);
        assert_eq!(head.cookie("can"), None);
    }

    #[test]
    fn host_is_the_authority_without_its_port() {
        for (authority, host) in
            [("a.b:80", "a.b"), ("a.b", "a.b"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]")]
        {
            let parts = parts("/", &[("host", authority)]);
            assert_eq!(Head::of(&parts).unwrap().host(), host);
        }
    }

    #[test]
    fn ambiguous_heads_are_refused() {
        assert!(Head::of(&parts("/", &[("host", "a"), ("host", "b")])).is_err());
        assert!(Head::of(&parts("/", &[])).is_err());
        let both = [("host", "a"), ("content-length", "3"), ("transfer-encoding", "chunked")];
        assert!(Head::of(&parts("/", &both)).is_err());
        let twice = [("host", "a"), ("content-length", "3"), ("content-length", "3")];
        assert!(Head::of(&parts("/", &twice)).is_err());
        assert!(Head::of(&parts("http://a?x", &[("host", "a")])).is_err(), "it has no path");
    }

    #[test]
    fn first_value_of_a_query_parameter_counts() {
        let parts = parts("/x?a=2&a=1&flag", &[("host", "a")]);
        let head = Head::of(&parts).unwrap();
        assert_eq!(head.parameter("a"), Some("2"));
        assert_eq!(head.parameter("flag"), Some(""));
        assert_eq!(head.parameter("b"), None);
    }
}
