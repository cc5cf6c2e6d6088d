//! What a route changes in what passes: where a redirect sends the client, the
//! path and host that go on, and fields of both heads. Drawn by dice, of words
//! that meet those of requests and answers.

use crate::harness::Seeded;

#[derive(Clone, Debug)]
pub struct Redirect {
    pub status: u16,
    pub scheme: Option<&'static str>,
    pub host: Option<&'static str>,
    pub port: Option<u16>,
    pub path: Option<PathChange>,
    pub strip_query: bool,
}

#[derive(Clone, Debug)]
pub enum PathChange {
    Prefix(&'static str),
    Full(&'static str),
    Regex(Substitution),
}

#[derive(Clone, Copy, Debug)]
pub struct Substitution {
    pub pattern: &'static str,
    pub by: &'static str,
}

#[derive(Clone, Debug)]
pub struct Rewrite {
    pub path: Option<PathChange>,
    pub host: Option<HostChange>,
    pub tells_host: bool,
}

#[derive(Clone, Debug)]
pub enum HostChange {
    Literal(&'static str),
    FromHeader(&'static str),
    FromPath(Substitution),
    Endpoint,
}

/// In the order in which each list is made: see `How`.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    pub request: Level,
    pub response: Level,
}

#[derive(Clone, Debug, Default)]
pub struct Level {
    pub remove: Vec<&'static str>,
    pub put: Vec<Put>,
}

#[derive(Clone, Debug)]
pub struct Put {
    pub how: How,
    pub name: &'static str,
    pub value: String,
    pub keep_empty: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    Set,
    IfAbsent,
    IfPresent,
    Append,
}

pub const HOST_FIELD: &str = "x-host";
const HOSTS: [&str; 4] = ["other.test", "other.test:81", "[::1]:9", "UPPER.test"];
const PATHS: [&str; 5] = ["/new", "/", "/v2/", "/deep/er", "/a.b"];
const WITH_QUERY: [&str; 3] = ["/new?own=1", "/?", "/a?q=2&q=3"];
const SUBSTITUTIONS: [(&str, &str); 10] = [
    ("^/([^/]+)/(.*)$", "/\\2/\\1"),
    ("a", "b"),
    ("^/api", "/v9"),
    ("^/", ""),
    ("(?i)A", "x\\0x"),
    ("[0-9]+", "n"),
    (".*", "/all"),
    ("b*", "-"),
    ("/v1$", ""),
    ("%61", "a"),
];
/// Each makes a host of any path: Envoy would go on with what is none.
const HOST_SUBSTITUTIONS: [(&str, &str); 2] =
    [("^/[^a-z0-9]*([a-z0-9]*).*$", "h\\1.test"), ("^/.*$", "path.test:8")];
const REMOVED: [&str; 9] =
    ["x-a", "x-tenant", "user-agent", "cookie", "x-twice", "x-none", "via", "x-forwarded-for", "date"];
const REMOVED_OF_ANSWERS: [&str; 7] = ["x-b", "set-cookie", "content-type", "server", "date", "etag", "via"];
const NAMES: [&str; 9] =
    ["x-a", "x-tenant", "x-edit", "x-other", "x-twice", "user-agent", "accept", "via", "cookie"];
const NAMES_OF_ANSWERS: [&str; 9] =
    ["x-b", "x-edit", "x-other", "vary", "cache-control", "content-type", "set-cookie", "location", "server"];
/// What can be said of a request, in either head.
const VALUES: [&str; 20] = [
    "fixed",
    "two words",
    "100%%",
    "%REQ(x-a)%",
    "%REQ(x-none?x-a)%",
    "%REQ(X-Tenant):2%",
    "[%REQ(x-a)%|%REQ(x-none)%]",
    "%REQ(:METHOD)% %REQ(:PATH)%",
    "%REQ(:path):3%",
    "%REQ(:AUTHORITY)%",
    "%REQ(:SCHEME)%",
    "%PROTOCOL%",
    "%ROUTE_NAME%",
    "%UPSTREAM_CLUSTER%",
    "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
    "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%",
    "%HOSTNAME%",
    "%REQ(x-edit)%",
    "%REQ(x-envoy-original-path?:path)%",
];
const OF_ANSWERS: [&str; 7] = [
    "%RESP(x-b)%",
    "%RESP(x-none?content-type):4%",
    "%RESP(:status)%",
    "%RESPONSE_CODE%",
    "<%RESPONSE_CODE%,%RESP(x-edit)%>",
    "%RESP(location)%",
    "%RESP(set-cookie)%",
];

impl Level {
    pub fn names(&self) -> Vec<&'static str> {
        let put = self.put.iter().map(|put| put.name);
        self.remove.iter().copied().chain(put).collect()
    }
}

impl Redirect {
    pub fn draw(dice: &mut Seeded) -> Redirect {
        let mut redirect = Redirect {
            status: dice.pick(&[301, 302, 303, 307, 308]),
            scheme: dice.chance(40).then(|| dice.pick(&["https", "http"])),
            host: dice.chance(40).then(|| dice.pick(&HOSTS[..2])),
            port: dice.chance(30).then(|| dice.pick(&[80, 443, 8443])),
            path: dice.chance(60).then(|| path(dice, true)),
            strip_query: dice.chance(30),
        };
        // One port is enough, and something has to change.
        if redirect.host.is_some_and(|host| host.contains(':')) {
            redirect.port = None;
        }
        if redirect.path.is_none() && redirect.host.is_none() {
            redirect.scheme.get_or_insert("https");
        }
        redirect
    }
}

impl Rewrite {
    pub fn draw(dice: &mut Seeded) -> Rewrite {
        let host = match dice.below(8) {
            0 | 1 => Some(HostChange::Literal(dice.pick(&HOSTS))),
            2 => Some(HostChange::FromHeader(HOST_FIELD)),
            3 => Some(HostChange::FromPath(substitution(dice, &HOST_SUBSTITUTIONS))),
            4 => Some(HostChange::Endpoint),
            _ => None,
        };
        let path = (host.is_none() || dice.chance(50)).then(|| path(dice, false));
        Rewrite { tells_host: host.is_some() && dice.chance(40), path, host }
    }
}

fn path(dice: &mut Seeded, with_query: bool) -> PathChange {
    match dice.below(3) {
        0 => PathChange::Prefix(dice.pick(&PATHS)),
        1 if with_query && dice.chance(50) => PathChange::Full(dice.pick(&WITH_QUERY)),
        1 => PathChange::Full(dice.pick(&PATHS)),
        _ => PathChange::Regex(substitution(dice, &SUBSTITUTIONS)),
    }
}

fn substitution(dice: &mut Seeded, among: &[(&'static str, &'static str)]) -> Substitution {
    let (pattern, by) = dice.pick(among);
    Substitution { pattern, by }
}

impl Edits {
    pub fn draw(dice: &mut Seeded) -> Edits {
        let request = level(dice, &REMOVED, &NAMES, &VALUES);
        let values = [&VALUES[..], &OF_ANSWERS, &OF_ANSWERS].concat();
        Edits { request, response: level(dice, &REMOVED_OF_ANSWERS, &NAMES_OF_ANSWERS, &values) }
    }
}

fn level(
    dice: &mut Seeded,
    removed: &[&'static str],
    names: &[&'static str],
    values: &[&'static str],
) -> Level {
    let mut level = Level::default();
    for _ in 0..dice.below(3) {
        let name = dice.pick(removed);
        if !level.remove.contains(&name) {
            level.remove.push(name);
        }
    }
    for _ in 0..dice.below(5) {
        let how = dice.pick(&[How::Set, How::IfAbsent, How::IfPresent, How::Append]);
        let put = Put {
            how,
            name: dice.pick(names),
            value: dice.pick(values).to_owned(),
            keep_empty: dice.chance(20),
        };
        // A name stands once in a mapping.
        if !level.put.iter().any(|other| (other.how, other.name) == (put.how, put.name)) {
            level.put.push(put);
        }
    }
    level.put.sort_by_key(|put| put.how);
    level
}
