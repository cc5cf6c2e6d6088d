//! Who is at the other end of a client's connection, and what versions are told
//! of it: `x-forwarded-*`, `x-request-id`, `x-forwarded-client-cert`.
//!
//! One set of rules for both codecs. Each field of a client is either believed
//! and passed on, or replaced by what we know ourselves.

use std::borrow::Cow;
use std::net::IpAddr;
use std::net::SocketAddr;

use http::HeaderMap;
use http::header::HOST;
use http::header::HeaderName;
use http::header::HeaderValue;
use xxhash_rust::xxh64::xxh64;

use crate::head::Head;
use crate::model::ClientCertificateMode;
use crate::model::Forwarded;
use crate::preamble::Ends;

/// The fields that tell of where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    For,
    Host,
    Proto,
    Port,
    RequestId,
    ClientCertificate,
}

impl Field {
    pub const ALL: [Field; 6] =
        [Field::For, Field::Host, Field::Proto, Field::Port, Field::RequestId, Field::ClientCertificate];

    pub const fn as_str(self) -> &'static str {
        match self {
            Field::For => "x-forwarded-for",
            Field::Host => "x-forwarded-host",
            Field::Proto => "x-forwarded-proto",
            Field::Port => "x-forwarded-port",
            Field::RequestId => "x-request-id",
            Field::ClientCertificate => "x-forwarded-client-cert",
        }
    }

    fn name(self) -> &'static HeaderName {
        static NAMES: [HeaderName; Field::ALL.len()] = {
            const fn name(field: Field) -> HeaderName {
                HeaderName::from_static(field.as_str())
            }
            let [a, b, c, d, e, f] = Field::ALL;
            [name(a), name(b), name(c), name(d), name(e), name(f)]
        };
        &NAMES[self as usize]
    }
}

/// Is it one of them?
pub fn is_field(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("x-") && Field::ALL.iter().any(|field| field.as_str() == name)
}

/// A set of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields(u8);

impl Fields {
    pub fn add(&mut self, field: Field) {
        self.0 |= 1 << field as u8;
    }

    pub fn has(self, field: Field) -> bool {
        self.0 & 1 << field as u8 != 0
    }
}

/// Who is at the other end of a downstream connection.
pub struct Peer {
    pub remote: SocketAddr,
    /// Where it came to.
    pub local: Option<SocketAddr>,
    pub https: bool,
    /// We ask ourselves, so that there is something to judge.
    pub load: bool,
    /// Its address as text.
    text: String,
    edge: bool,
    /// What it says of itself is replaced by what we know.
    believed: bool,
    /// Where in `x-forwarded-for` the first client stands that we believe in,
    /// counted from the end.
    client_at: Option<usize>,
    append: bool,
    /// The port that it came to, where that is to be told.
    port: Option<String>,
    /// Its own request's id is kept. `Internal`: only where it comes directly.
    keeps_id: KeepsId,
    certificate: ClientCertificateMode,
    /// What is told of the certificate that it has shown.
    element: Option<String>,
    /// The lines up to the host, where all that is said are the usual four fields.
    introduction: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeepsId {
    Always,
    WithoutChain,
    Never,
}

/// A client's certificate as it was shown in the handshake.
pub enum Shown {
    Nothing,
    Certificate {
        /// Nothing where it cannot be put into words.
        element: Option<String>,
    },
}

impl Peer {
    /// One that has shown nothing, where nothing else was asked for.
    #[cfg(any(test, fuzzing, feature = "micro"))]
    pub fn new(remote: SocketAddr, local: Option<SocketAddr>) -> Peer {
        Peer::known(remote, local, false, Shown::Nothing, &Forwarded::default())
    }

    /// Ourselves, as if from this machine.
    pub fn load(https: bool, policy: &Forwarded) -> Peer {
        let here = SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0));
        Peer { load: true, ..Peer::known(here, None, https, Shown::Nothing, policy) }
    }

    pub fn known(
        remote: SocketAddr,
        local: Option<SocketAddr>,
        https: bool,
        shown: Shown,
        policy: &Forwarded,
    ) -> Peer {
        let ip = remote.ip().to_canonical();
        let is_internal = policy.internal.iter().any(|network| network.contains(&ip));
        let mode = policy.client_certificate.mode;
        let (certificate, element) = match shown {
            Shown::Certificate { element } => {
                let tells =
                    matches!(mode, ClientCertificateMode::AppendForward | ClientCertificateMode::SanitizeSet);
                (mode, element.filter(|_| tells))
            }
            Shown::Nothing if mode == ClientCertificateMode::AlwaysForwardOnly => (mode, None),
            Shown::Nothing => (ClientCertificateMode::Sanitize, None),
        };
        let text = ip.to_string();
        let port = local.filter(|_| policy.port).map(|local| local.port().to_string());
        let says_four = policy.edge && policy.append && port.is_none() && element.is_none();
        Peer {
            remote,
            local,
            https,
            load: false,
            introduction: says_four.then(|| format!("x-forwarded-for: {text}\r\nx-forwarded-host: ")),
            text,
            edge: policy.edge,
            believed: !policy.edge || policy.trusted_hops > 0,
            // At an edge our own client is the first of the trusted.
            client_at: (policy.trusted_hops as usize).checked_sub(usize::from(policy.edge)),
            append: policy.append,
            port,
            keeps_id: match (policy.edge && !policy.keep_request_id, is_internal) {
                (false, _) => KeepsId::Always,
                (true, true) => KeepsId::WithoutChain,
                (true, false) => KeepsId::Never,
            },
            certificate,
            element,
        }
    }

    /// By which a request came to the first of all proxies, as far as it is known.
    pub fn scheme<'h>(&self, head: &Head<'h>) -> &'h str {
        match head.field(Field::Proto.name()) {
            Some(b"http") if self.believed => "http",
            Some(b"https") if self.believed => "https",
            _ if self.https => "https",
            _ => "http",
        }
    }

    /// Who asks, as far as those who pass it on are believed; their ports nobody tells.
    pub fn client(&self, head: &Head<'_>) -> SocketAddr {
        self.told_client(head).map_or(self.remote, |ip| SocketAddr::new(ip, 0))
    }

    /// Its address without the port.
    pub fn client_text(&self, head: &Head<'_>) -> Cow<'_, str> {
        self.told_client(head).map_or(Cow::Borrowed(&self.text), |ip| Cow::Owned(ip.to_string()))
    }

    fn told_client(&self, head: &Head<'_>) -> Option<IpAddr> {
        let at = self.client_at?;
        let name = Field::For.name();
        let chain = || head.fields(name).flat_map(|line| line.split(|byte| *byte == b','));
        let entry = chain().nth(chain().count().checked_sub(1 + at)?)?;
        std::str::from_utf8(entry).ok()?.trim().parse().ok()
    }

    /// Its own ends of the connection, as it sees them.
    pub fn ends(&self) -> Option<Ends> {
        Some(Ends { client: self.remote, local: self.local? })
    }

    /// The same for all requests of a connection: of both its ends.
    pub fn number(&self) -> u64 {
        let local = self.local.map(|local| local.to_string()).unwrap_or_default();
        xxh64(format!("{}{local}", self.remote).as_bytes(), 0)
    }

    /// Is this field of the client passed on as it came? `chained` says that it
    /// has sent an `x-forwarded-for`.
    pub fn keeps(&self, field: Field, chained: bool) -> bool {
        match field {
            Field::For => !self.appends(),
            Field::Host | Field::Proto | Field::Port => self.believed,
            Field::RequestId => match self.keeps_id {
                KeepsId::Always => true,
                KeepsId::WithoutChain => !chained,
                KeepsId::Never => false,
            },
            Field::ClientCertificate => match self.certificate {
                ClientCertificateMode::ForwardOnly | ClientCertificateMode::AlwaysForwardOnly => true,
                ClientCertificateMode::AppendForward => self.element.is_none(),
                ClientCertificateMode::Sanitize | ClientCertificateMode::SanitizeSet => false,
            },
        }
    }

    /// Is this field of the client passed on with our own word behind it?
    pub fn extends(&self, field: Field) -> bool {
        match field {
            Field::For => self.appends(),
            Field::ClientCertificate => {
                self.certificate == ClientCertificateMode::AppendForward && self.element.is_some()
            }
            Field::Host | Field::Proto | Field::Port | Field::RequestId => false,
        }
    }

    /// What we say ourselves, for each field that was not passed on as it came.
    pub fn says(
        &self,
        kept: Fields,
        host: Option<&[u8]>,
        random: impl FnOnce() -> [u64; 2],
        mut say: impl FnMut(Field, &[u8]),
    ) {
        if self.appends() {
            say(Field::For, self.text.as_bytes());
        }
        if self.edge
            && !kept.has(Field::Host)
            && let Some(host) = host
        {
            say(Field::Host, host);
        }
        if !kept.has(Field::Proto) {
            say(Field::Proto, if self.https { b"https" } else { b"http" });
        }
        if !kept.has(Field::Port)
            && let Some(port) = &self.port
        {
            say(Field::Port, port.as_bytes());
        }
        if !kept.has(Field::RequestId) {
            say(Field::RequestId, &request_id(random()));
        }
        if let Some(element) = &self.element {
            say(Field::ClientCertificate, element.as_bytes());
        }
    }

    /// Whether `introduce` says it all.
    pub fn introduces(&self) -> bool {
        self.introduction.is_some()
    }

    /// What `says` says, to the end of the head, where nothing of it is the client's.
    pub fn introduce(&self, host: &[u8], random: impl FnOnce() -> [u64; 2], out: &mut Vec<u8>) {
        let introduction = self.introduction.as_deref().unwrap_or_default();
        let proto: &[u8] = match self.https {
            true => b"\r\nx-forwarded-proto: https\r\nx-request-id: ",
            false => b"\r\nx-forwarded-proto: http\r\nx-request-id: ",
        };
        for part in [introduction.as_bytes(), host, proto, &request_id(random()), b"\r\n\r\n"] {
            out.extend_from_slice(part);
        }
    }

    fn appends(&self) -> bool {
        self.edge && self.append
    }

    /// Makes a head that hyper has read tell what we know.
    pub fn edit(&self, headers: &mut HeaderMap, random: impl FnOnce() -> [u64; 2]) {
        let chained = headers.contains_key(Field::For.name());
        let mut kept = Fields::default();
        let mut before: [Vec<u8>; Field::ALL.len()] = Default::default();
        for field in Field::ALL {
            let name = field.name();
            if !headers.contains_key(name) {
                continue;
            }
            if self.keeps(field, chained) {
                kept.add(field);
                continue;
            }
            if self.extends(field) {
                let lines: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
                before[field as usize] = lines.join(&b","[..]);
            }
            headers.remove(name);
        }
        let host = headers.get(HOST).cloned();
        self.says(kept, host.as_ref().map(HeaderValue::as_bytes), random, |field, word| {
            let chain = &mut before[field as usize];
            let value = if chain.is_empty() {
                HeaderValue::from_bytes(word)
            } else {
                chain.push(b',');
                chain.extend_from_slice(word);
                HeaderValue::from_bytes(chain)
            };
            if let Ok(value) = value {
                headers.insert(field.name().clone(), value);
            }
        });
    }
}

/// A random UUID, version 4.
pub fn request_id(random: [u64; 2]) -> [u8; 36] {
    let [first, second] = [random[0] & !0xf000 | 0x4000, random[1] & !(3 << 62) | 2 << 62];
    let [a, b] = [digits((first >> 32) as u32), digits(first as u32)];
    let [c, d] = [digits((second >> 32) as u32), digits(second as u32)];
    let mut text = [b'-'; 36];
    text[..8].copy_from_slice(&a);
    text[9..13].copy_from_slice(&b[..4]);
    text[14..18].copy_from_slice(&b[4..]);
    text[19..23].copy_from_slice(&c[..4]);
    text[24..28].copy_from_slice(&c[4..]);
    text[28..].copy_from_slice(&d);
    text
}

/// Eight hexadecimal digits at once: each in a byte of its own, then made a letter.
fn digits(number: u32) -> [u8; 8] {
    const ONES: u64 = u64::MAX / 255;
    let mut each = u64::from(number);
    each = (each | each << 16) & 0x0000_ffff_0000_ffff;
    each = (each | each << 8) & 0x00ff_00ff_00ff_00ff;
    each = (each | each << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let above_nine = (each + 6 * ONES) >> 4 & ONES;
    (each + u64::from(b'0') * ONES + above_nine * u64::from(b'a' - b'9' - 1)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;

    use super::*;
    use crate::model::ClientCertificateField;

    /// What a version is told of a client at 10.0.0.5 that sends these.
    fn told(policy: &Forwarded, shown: Shown, sent: &[(&'static str, &'static str)]) -> Vec<String> {
        let (remote, local) = ("10.0.0.5:9".parse().unwrap(), "10.9.9.9:443".parse().unwrap());
        let peer = Peer::known(remote, Some(local), true, shown, policy);
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("a.example"));
        for (name, value) in sent {
            headers.append(*name, HeaderValue::from_static(value));
        }
        peer.edit(&mut headers, || [0; 2]);
        let short = |name: &HeaderName| name.as_str().trim_start_matches("x-forwarded-").to_owned();
        let text = |value: &HeaderValue| String::from_utf8(value.as_bytes().to_vec()).unwrap();
        headers.remove(HOST);
        let mut lines: Vec<_> =
            headers.iter().map(|(name, value)| format!("{}: {}", short(name), text(value))).collect();
        lines.sort();
        lines
    }

    const OURS: &str = "x-request-id: 00000000-0000-4000-8000-000000000000";
    const CLAIMS: [(&str, &str); 6] = [
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-for", "2.2.2.2"),
        ("x-forwarded-host", "evil"),
        ("x-forwarded-proto", "http"),
        ("x-request-id", "7"),
        ("x-forwarded-port", "1"),
    ];

    #[test]
    fn an_edge_believes_nothing_but_the_chain() {
        let edge = Forwarded::default();
        let expected = ["for: 1.1.1.1,2.2.2.2,10.0.0.5", "host: a.example", "proto: https", OURS];
        assert_eq!(told(&edge, Shown::Nothing, &CLAIMS), expected);
        let expected = ["for: 10.0.0.5", "host: a.example", "proto: https", OURS];
        assert_eq!(told(&edge, Shown::Nothing, &[]), expected);
        let port = Forwarded { port: true, keep_request_id: true, append: false, ..edge };
        let expected = ["for: 1.1.1.1", "for: 2.2.2.2", "host: a.example", "port: 443", "proto: https"];
        assert_eq!(told(&port, Shown::Nothing, &CLAIMS)[..5], expected);
    }

    #[test]
    fn trusted_proxies_are_believed_but_the_request_is_ours() {
        let hops = Forwarded { trusted_hops: 1, ..Forwarded::default() };
        let expected = ["for: 1.1.1.1,2.2.2.2,10.0.0.5", "host: evil", "port: 1", "proto: http", OURS];
        assert_eq!(told(&hops, Shown::Nothing, &CLAIMS), expected);
    }

    #[test]
    fn the_client_is_whom_the_trusted_name() {
        let client = |edge, trusted_hops, chain: &[&'static str]| {
            let policy = Forwarded { edge, trusted_hops, ..Forwarded::default() };
            let peer = Peer::known("10.0.0.5:9".parse().unwrap(), None, false, Shown::Nothing, &policy);
            let mut request = http::Request::builder().header("host", "a");
            for line in chain {
                request = request.header("x-forwarded-for", *line);
            }
            let parts = request.body(()).unwrap().into_parts().0;
            let head = Head::of(&parts).unwrap();
            assert_eq!(peer.client_text(&head), peer.client(&head).ip().to_string());
            peer.client(&head).to_string()
        };
        let chain = ["1.1.1.1, 2.2.2.2", "3.3.3.3"];
        for (edge, hops, expected) in [
            (true, 0, "10.0.0.5:9"),
            (true, 1, "3.3.3.3:0"),
            (true, 2, "2.2.2.2:0"),
            (true, 4, "10.0.0.5:9"),
            (false, 0, "3.3.3.3:0"),
            (false, 2, "1.1.1.1:0"),
            (false, 3, "10.0.0.5:9"),
        ] {
            assert_eq!(client(edge, hops, &chain), expected, "{edge} {hops}");
        }
        assert_eq!(client(false, 0, &["nobody"]), "10.0.0.5:9");
        assert_eq!(client(false, 0, &[]), "10.0.0.5:9");
    }

    #[test]
    fn a_sidecar_passes_on_what_it_is_told() {
        let sidecar = Forwarded { edge: false, ..Forwarded::default() };
        let expected =
            ["for: 1.1.1.1", "for: 2.2.2.2", "host: evil", "port: 1", "proto: http", "x-request-id: 7"];
        assert_eq!(told(&sidecar, Shown::Nothing, &CLAIMS), expected);
        assert_eq!(told(&sidecar, Shown::Nothing, &[]), ["proto: https", OURS]);
    }

    #[test]
    fn an_internal_client_keeps_its_id_unless_somebody_stands_before_it() {
        let internal: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let policy = Forwarded { internal, ..Forwarded::default() };
        let id = ("x-request-id", "7");
        assert!(told(&policy, Shown::Nothing, &[id]).contains(&"x-request-id: 7".to_owned()));
        assert!(told(&policy, Shown::Nothing, &CLAIMS).contains(&OURS.to_owned()));
    }

    #[test]
    fn the_field_of_client_certificates_follows_its_mode() {
        use ClientCertificateMode::*;
        let field = |mode, certified: bool, sent: bool| {
            let client_certificate = ClientCertificateField { mode, details: Vec::new() };
            let policy = Forwarded { client_certificate, ..Forwarded::default() };
            let shown = if certified {
                Shown::Certificate { element: Some("Hash=1".to_owned()) }
            } else {
                Shown::Nothing
            };
            let sent: &[_] = if sent { &[("x-forwarded-client-cert", "Hash=0")] } else { &[] };
            let told = told(&policy, shown, sent);
            told.iter().find_map(|line| line.strip_prefix("client-cert: ")).map(str::to_owned)
        };
        for (mode, certified, sent, expected) in [
            (Sanitize, true, true, None),
            (ForwardOnly, true, true, Some("Hash=0")),
            (ForwardOnly, true, false, None),
            (ForwardOnly, false, true, None),
            (AppendForward, true, true, Some("Hash=0,Hash=1")),
            (AppendForward, true, false, Some("Hash=1")),
            (AppendForward, false, true, None),
            (SanitizeSet, true, true, Some("Hash=1")),
            (SanitizeSet, false, true, None),
            (AlwaysForwardOnly, false, true, Some("Hash=0")),
            (AlwaysForwardOnly, true, true, Some("Hash=0")),
        ] {
            assert_eq!(field(mode, certified, sent).as_deref(), expected, "{mode:?} {certified} {sent}");
        }
    }

    #[test]
    fn request_id_is_a_version_4_uuid() {
        let id = request_id([0x0123_4567_89ab_cdef, 0x0123_4567_89ab_cdef]);
        assert_eq!(&id, b"01234567-89ab-4def-8123-456789abcdef");
    }
}
