//! Requests drawn by dice, most of them aimed at a table so that its routes are
//! met, and how they look in bytes.

use std::sync::Arc;

use super::change;
use super::deed::Deed;
use super::gate;
use super::odd;
use super::stage::CASE;
use super::table::{self, Action, Condition, Match, On, Path, Route, Table, Text};
use crate::harness::Seeded;

/// Requests one after the other on one connection.
#[derive(Clone, Debug)]
pub struct Talk {
    pub protocol: Protocol,
    pub cases: Vec<Case>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
}

/// What of the table the decisions have to know.
#[derive(Debug)]
pub struct Known {
    /// Some route retries.
    pub retries: bool,
    /// Origins that stand in for an endpoint that cannot be reached.
    pub stand_ins: Vec<String>,
    /// The client's side.
    pub http2: bool,
    /// Status and body of direct answers; whether their routes have CORS.
    pub direct: Vec<(u16, String, bool)>,
    /// Statuses of redirects; whether their routes have CORS.
    pub redirects: Vec<(u16, bool)>,
    /// Of each route with faults that answers itself, the fields that edits and
    /// CORS may change.
    pub edited_faults: Vec<Vec<&'static str>>,
    /// Some route hashes by a field that is edited.
    pub hashes_edited: bool,
}

/// One request, and what the origins do with it, try by try.
#[derive(Clone, Debug)]
pub struct Case {
    pub id: u64,
    pub request: Request,
    pub deeds: Vec<Deed>,
    pub known: Arc<Known>,
}

#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub minor: u8,
    pub fields: Vec<(String, String)>,
    pub body: Body,
    /// Waits for leave before the body is sent.
    pub expects: bool,
    /// Sent in two parts, the first so long.
    pub cut: Option<usize>,
    /// A head in place of all the above, which no server should take lightly.
    pub odd: Option<odd::Odd>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    None,
    Length(usize),
    Chunked { chunks: Vec<usize>, extension: bool, trailers: Vec<(String, String)> },
}

const FIELDS: [(&str, &str); 32] = [
    ("X-Mixed-Case", "Kept"),
    ("x-twice", "1"),
    ("x-twice", "2"),
    ("accept", "text/html"),
    ("accept", "*/*"),
    ("accept-encoding", "gzip"),
    ("cache-control", "no-cache"),
    ("user-agent", "tester/1"),
    ("referer", "http://elsewhere/"),
    ("authorization", "Basic eDp5"),
    ("x-empty", ""),
    ("x-spaces", "  a  b  "),
    ("x-latin", "caf\u{e9}"),
    ("x_under", "1"),
    ("te", "trailers"),
    ("te", "gzip"),
    ("connection", "keep-alive"),
    ("connection", "close"),
    ("connection", "x-twice"),
    ("keep-alive", "timeout=5"),
    ("proxy-connection", "keep-alive"),
    ("via", "1.0 old"),
    ("x-forwarded-for", "10.1.2.3"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "other.test"),
    ("x-request-id", "given-1"),
    ("x-envoy-upstream-rq-timeout-ms", "9000"),
    ("date", "Tue, 01 Jan 2019 00:00:00 GMT"),
    ("x-edit", "sent"),
    ("x-edit", "sent again"),
    ("x-envoy-original-path", "/sent"),
    ("origin", "http://a.example"),
];
const TARGETS: [&str; 14] = [
    "/",
    "/a/../b",
    "//a",
    "/a//b",
    "/./a",
    "/a%2Fb",
    "/%zz",
    "/a;p=1",
    "/a?x=1?y=2",
    "/a|b",
    "/a?q=\"x\"",
    "/a\\b",
    "/{a}",
    "/a?",
];

impl Talk {
    pub fn draw(dice: &mut Seeded, table: &Table, first: u64) -> Talk {
        let protocol = if dice.chance(15) { Protocol::Http2 } else { Protocol::Http1 };
        let mut cases = Vec::new();
        let known = Arc::new(table.known(protocol == Protocol::Http2));
        for n in 0..2 + dice.below(7) {
            let mut request = Request::draw(dice, table);
            if protocol == Protocol::Http2 {
                request.suit_http2();
            }
            let last = request.odd.is_some();
            let tries = if table.retries() && dice.chance(40) { 2 + dice.below(3) } else { 1 };
            let deeds = (0..tries).map(|nth| Deed::draw_try(dice, nth + 1 < tries)).collect();
            cases.push(Case { id: first + n as u64, request, deeds, known: known.clone() });
            // What follows on its connection could be read as its body.
            if last {
                break;
            }
        }
        Talk { protocol, cases }
    }

    pub fn only(&self, nth: usize) -> Talk {
        Talk { protocol: self.protocol, cases: vec![self.cases[nth].clone()] }
    }
}

impl Request {
    pub fn get(target: &str) -> Request {
        Request {
            method: "GET".into(),
            target: target.into(),
            minor: 1,
            fields: vec![("host".into(), "plain.test".into())],
            body: Body::None,
            expects: false,
            cut: None,
            odd: None,
        }
    }

    pub fn draw(dice: &mut Seeded, table: &Table) -> Request {
        let mut request = Request::get("/");
        request.method = dice.pick(&table::METHODS).to_owned();
        request.target = match dice.below(10) {
            0 => dice.pick(&TARGETS).to_owned(),
            _ => table::path(dice),
        };
        let mut host = dice.pick(&["plain.test", "a.example.com", "example.com", "x.org"]).to_owned();
        if dice.chance(75) {
            aim(dice, &mut request, &mut host, table);
        }
        request.set_host(dice, host);
        for _ in 0..dice.below(5) {
            let (name, value) = dice.pick(&FIELDS);
            request.add(name, value);
        }
        if dice.chance(25) {
            let (on, key) = (dice.pick(&[On::Header, On::Query, On::Cookie]), dice.pick(&table::VALUES));
            let name = match on {
                On::Header => dice.pick(&table::NAMES),
                On::Query => dice.pick(&table::KEYS),
                On::Cookie => dice.pick(&table::COOKIES),
            };
            request.say(on, name, key);
        }
        request.body = body(dice, &request.method);
        request.expects = request.body != Body::None && dice.chance(10);
        if dice.chance(8) {
            request.minor = 0;
            if !matches!(request.body, Body::Length(_)) {
                request.body = Body::None;
            }
            request.expects = false;
        }
        if dice.chance(15) {
            request.cut = Some(dice.below(200));
        }
        if dice.chance(7) {
            request.odd = Some(odd::Odd::draw(dice));
            request.expects = false;
        }
        request
    }

    fn set_host(&mut self, dice: &mut Seeded, mut host: String) {
        if dice.chance(15) {
            host.push_str(dice.pick(&[":80", ":8080", ":65535"]));
        }
        if dice.chance(15) {
            host = host.to_ascii_uppercase();
        }
        if dice.chance(4) {
            self.target = format!("http://{host}{}", self.target);
            if dice.chance(50) {
                host = "elsewhere.test".to_owned();
            }
        }
        self.fields[0].1 = host;
    }

    /// Fields that Envoy knows by heart it joins before it matches: one line of each.
    fn add(&mut self, name: &str, value: &str) {
        let known = ["accept", "user-agent", "origin", "x-envoy-original-path", "x-forwarded-proto"];
        if !known.contains(&name) || self.says(name).next().is_none() {
            self.fields.push((name.to_owned(), value.to_owned()));
        }
    }

    /// Says something where a condition may look for it.
    fn say(&mut self, on: On, name: &str, value: &str) {
        match on {
            On::Header => self.add(name, value),
            On::Query => {
                let mark = if self.target.contains('?') { '&' } else { '?' };
                self.target += &format!("{mark}{name}={}", value.replace(' ', "+"));
            }
            On::Cookie => self.fields.push(("cookie".to_owned(), format!("z=0; {name}={value}"))),
        }
    }

    /// What HTTP/2 cannot say is left out.
    fn suit_http2(&mut self) {
        const HTTP1: [&str; 5] =
            ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
        self.fields.retain(|(name, value)| {
            !HTTP1.contains(&name.as_str()) && (name != "te" || value == "trailers") && value.is_ascii()
        });
        (self.minor, self.cut, self.odd, self.expects) = (1, None, None, false);
        if !self.target.starts_with('/') || self.target.contains(['"', '|', '\\', '{', '#']) {
            self.target = "/".into();
        }
    }

    pub fn host(&self) -> &str {
        &self.fields[0].1
    }

    pub fn says(&self, name: &str) -> impl Iterator<Item = &str> {
        let same = move |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        self.fields.iter().filter(same).map(|(_, value)| value.as_str())
    }

    /// The head in bytes; letters are bytes, as in Latin-1.
    pub fn head(&self, case: u64) -> Vec<u8> {
        if let Some(odd) = &self.odd {
            return odd.head(self, case);
        }
        let mut text = format!("{} {} HTTP/1.{}\r\n", self.method, self.target, self.minor);
        for (name, value) in &self.fields {
            text += &format!("{name}: {value}\r\n");
        }
        text += &format!("{CASE}: {case}\r\n");
        match &self.body {
            Body::None => {}
            Body::Length(length) => text += &format!("content-length: {length}\r\n"),
            Body::Chunked { .. } => text += "transfer-encoding: chunked\r\n",
        }
        if self.expects {
            text += "expect: 100-continue\r\n";
        }
        bytes(&(text + "\r\n"))
    }

    pub fn content(&self) -> Vec<u8> {
        let all = match &self.body {
            Body::None => 0,
            Body::Length(length) => *length,
            Body::Chunked { chunks, .. } => chunks.iter().sum(),
        };
        (0..all).map(|n| b'A' + (n % 26) as u8).collect()
    }

    /// The body in its frame.
    pub fn framed(&self) -> Vec<u8> {
        if let Some(odd) = &self.odd {
            return odd.body();
        }
        let content = self.content();
        let Body::Chunked { chunks, extension, trailers } = &self.body else { return content };
        let (mut framed, mut at) = (Vec::new(), 0);
        for size in chunks {
            let note = if *extension { ";name=value" } else { "" };
            framed.extend_from_slice(format!("{size:x}{note}\r\n").as_bytes());
            framed.extend_from_slice(&content[at..at + size]);
            framed.extend_from_slice(b"\r\n");
            at += size;
        }
        framed.extend_from_slice(b"0\r\n");
        for (name, value) in trailers {
            framed.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        framed.extend_from_slice(b"\r\n");
        framed
    }
}

pub fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|letter| u8::try_from(u32::from(letter)).unwrap_or(b'?')).collect()
}

/// Makes the request one that some route may want.
fn aim(dice: &mut Seeded, request: &mut Request, host: &mut String, table: &Table) {
    let route: &Route = &table.routes[dice.below(table.routes.len())];
    if !route.hosts.is_empty() {
        *host = route.hosts[dice.below(route.hosts.len())].replace('*', dice.pick(&["x", "b", "a.b"]));
    }
    if !route.matches.is_empty() {
        let wanted: &Match = &route.matches[dice.below(route.matches.len())];
        if let Some(method) = &wanted.method {
            request.method.clone_from(method);
        }
        match &wanted.path {
            Some(Path::Exact(path)) => request.target.clone_from(path),
            Some(Path::Prefix(path)) => {
                request.target = format!("{path}{}", dice.pick(&["", "/", "x", "/x", "/api"]));
            }
            Some(Path::Regex(_)) | None => {}
        }
        for asked in &wanted.asked {
            satisfy(dice, request, asked);
        }
    }
    approach(dice, request, route);
    if let Action::Service(nth) = route.action
        && dice.chance(40)
        && let Some(force) = table.services[nth].force.first()
    {
        let value = force.value.clone();
        satisfy(dice, request, &Condition { on: force.on, name: force.name.clone(), value, invert: false });
    }
}

/// Says what the gates and the changes of a route look at.
fn approach(dice: &mut Seeded, request: &mut Request, route: &Route) {
    if route.gates.cors.is_some() && dice.chance(80) {
        request.add("origin", dice.pick(&gate::ORIGINS));
        if dice.chance(50) {
            request.method = "OPTIONS".to_owned();
        }
        if dice.chance(60) {
            request.add("access-control-request-method", dice.pick(&["GET", "PUT", ""]));
        }
        if dice.chance(30) {
            request.add("access-control-request-private-network", dice.pick(&["true", "false"]));
        }
    }
    if let Some(faults) = &route.gates.faults {
        for asked in &faults.when {
            satisfy(dice, request, asked);
        }
        for _ in 0..dice.below(3) {
            let (name, value) = dice.pick(&gate::ASKS);
            if request.says(name).next().is_none() {
                request.add(name, value);
            }
        }
    }
    if route.rewrite.is_some() && dice.chance(40) {
        request.add(change::HOST_FIELD, dice.pick(&["named.test", "named.test:7"]));
    }
    if let Action::Service(_) = route.action {
        for by in &route.hash {
            if let Some((on, name)) = &by.on
                && dice.chance(40)
            {
                request.say(*on, name, dice.pick(&table::VALUES));
            }
        }
    }
}

fn satisfy(dice: &mut Seeded, request: &mut Request, asked: &Condition) {
    if dice.chance(10) {
        return;
    }
    let value = match &asked.value {
        Text::Exact(value) => value.clone(),
        Text::Prefix(value) => format!("{value}{}", dice.pick(&["", "1"])),
        Text::Suffix(value) => format!("{}{value}", dice.pick(&["", "1"])),
        Text::Regex(_) | Text::Present => dice.pick(&table::VALUES).to_owned(),
    };
    request.say(asked.on, &asked.name, &value);
}

fn body(dice: &mut Seeded, method: &str) -> Body {
    let likely = matches!(method, "POST" | "PUT" | "PATCH");
    if !dice.chance(if likely { 90 } else { 12 }) {
        return Body::None;
    }
    let size = match dice.below(10) {
        0 => 0,
        1 => 200_000,
        2 => 20_000,
        _ => 1 + dice.below(2_000),
    };
    if dice.chance(60) {
        return Body::Length(size);
    }
    let chunks = (0..dice.below(5)).map(|_| 1 + dice.below(1 + size / 2)).collect();
    let trailers = if dice.chance(30) { vec![("x-end".into(), "1".into())] } else { Vec::new() };
    Body::Chunked { chunks, extension: dice.chance(20), trailers }
}
