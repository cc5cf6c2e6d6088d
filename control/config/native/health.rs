//! Active health checks: what is asked, how often, and how many answers decide.

use std::time::Duration;

use serin_proxy::model::{GrpcProbe, HealthCheck, HttpProbe, Probe, TcpProbe};

use crate::config::fields::Fields;
use crate::config::fields::Spot;

use super::units;

const FIELDS: [&str; 17] = [
    "http",
    "tcp",
    "grpc",
    "timeout",
    "interval",
    "noTrafficInterval",
    "noTrafficHealthyInterval",
    "unhealthyInterval",
    "unhealthyEdgeInterval",
    "healthyEdgeInterval",
    "initialJitter",
    "jitter",
    "jitterPercent",
    "unhealthyThreshold",
    "healthyThreshold",
    "reuseConnection",
    "port",
];
const HTTP: [&str; 6] = ["path", "method", "host", "headers", "expect", "retry"];
const TCP: [&str; 2] = ["send", "receive"];
const GRPC: [&str; 3] = ["service", "authority", "metadata"];

/// `false` for none; otherwise `None` means that it was wrong.
pub fn read(spot: &Spot) -> Option<HealthCheck> {
    if spot.as_bool() == Some(false) {
        return None;
    }
    let fields = spot.fields(&FIELDS)?;
    let probe = match fields.one_of(&["http", "tcp", "grpc"]) {
        Some(("http", at)) => http(&at).map(Probe::Http),
        Some(("tcp", at)) => tcp(&at).map(Probe::Tcp),
        Some((_, at)) => grpc(&at).map(Probe::Grpc),
        None => None,
    };
    // Whatever is wrong with the probe, the rest is read for its own problems.
    let probe = probe.unwrap_or_else(|| Probe::Tcp(TcpProbe::default()));
    let time = |name: &str| fields.get(name).and_then(|spot| spot.parsed(units::some_time));
    let pause = |name: &str| fields.get(name).and_then(|spot| spot.parsed(units::duration));
    let count = |name: &str| whole(&fields, name, 1, 1_000_000);
    let mut check = HealthCheck::new(probe);
    if let Some(interval) = time("interval") {
        check = check.every(interval);
    }
    set(&mut check.timeout, time("timeout"));
    intervals(&mut check, time);
    set(&mut check.initial_jitter, pause("initialJitter"));
    set(&mut check.interval_jitter, pause("jitter"));
    set(&mut check.interval_jitter_percent, whole(&fields, "jitterPercent", 0, 100));
    set(&mut check.unhealthy_threshold, count("unhealthyThreshold"));
    set(&mut check.healthy_threshold, count("healthyThreshold"));
    set(&mut check.reuse_connection, fields.get("reuseConnection").and_then(|spot| spot.bool()));
    check.port = whole(&fields, "port", 1, 65_535).and_then(|port| u16::try_from(port).ok());
    Some(check)
}

/// What is not given is as what it refines.
fn intervals(check: &mut HealthCheck, time: impl Fn(&str) -> Option<Duration>) {
    set(&mut check.no_traffic_interval, time("noTrafficInterval"));
    check.no_traffic_healthy_interval = time("noTrafficHealthyInterval").unwrap_or(check.no_traffic_interval);
    set(&mut check.unhealthy_interval, time("unhealthyInterval"));
    check.unhealthy_edge_interval = time("unhealthyEdgeInterval").unwrap_or(check.unhealthy_interval);
    set(&mut check.healthy_edge_interval, time("healthyEdgeInterval"));
}

fn set<T>(place: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *place = given;
    }
}

fn whole(fields: &Fields, name: &str, least: u64, most: u64) -> Option<u32> {
    fields.get(name).and_then(|spot| spot.whole(least, most)).and_then(|number| u32::try_from(number).ok())
}

/// `/healthz`, or fields.
fn http(spot: &Spot) -> Option<HttpProbe> {
    if !spot.is_map() {
        return spot.parsed(path).map(HttpProbe::new);
    }
    let fields = spot.fields(&HTTP)?;
    let path = fields.need("path").and_then(|spot| spot.parsed(path));
    let mut probe = HttpProbe::new(path.unwrap_or_default());
    set(&mut probe.method, fields.get("method").and_then(|spot| spot.parsed(method)));
    probe.host = fields.get("host").and_then(|spot| spot.parsed(host));
    probe.headers = fields.get("headers").map(|spot| headers(&spot)).unwrap_or_default();
    if let Some(spot) = fields.get("expect") {
        probe.expected = statuses(&spot);
    }
    if let Some(spot) = fields.get("retry") {
        probe.retriable = statuses(&spot);
    }
    Some(probe)
}

/// `true` where a connection is enough, or fields.
fn tcp(spot: &Spot) -> Option<TcpProbe> {
    if spot.as_bool() == Some(true) {
        return Some(TcpProbe::default());
    }
    let fields = spot.fields(&TCP)?;
    let receive = fields.get("receive").map(|spot| spot.one_or_more()).unwrap_or_default();
    Some(TcpProbe {
        send: fields.get("send").and_then(|spot| spot.parsed(bytes)).unwrap_or_default(),
        receive: receive.iter().filter_map(|spot| spot.parsed(bytes)).collect(),
    })
}

/// `true` for the whole server, or fields.
fn grpc(spot: &Spot) -> Option<GrpcProbe> {
    if spot.as_bool() == Some(true) {
        return Some(GrpcProbe::default());
    }
    let fields = spot.fields(&GRPC)?;
    Some(GrpcProbe {
        service: fields.get("service").and_then(|spot| spot.text()).unwrap_or_default().to_owned(),
        authority: fields.get("authority").and_then(|spot| spot.parsed(host)),
        metadata: fields.get("metadata").map(|spot| headers(&spot)).unwrap_or_default(),
    })
}

fn headers(spot: &Spot) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for (name, spot) in spot.entries() {
        let name = units::header(name).and_then(|name| match name.as_str() {
            "host" => Err("the host has a field of its own".to_owned()),
            "content-length" | "transfer-encoding" | "connection" | "te" => {
                Err(format!("`{name}` is not for a file to say"))
            }
            _ => Ok(name),
        });
        match name {
            Ok(name) => headers.extend(spot.parsed(value).map(|value| (name, value))),
            Err(text) => spot.error(text),
        }
    }
    headers
}

fn statuses(spot: &Spot) -> Vec<(u16, u16)> {
    spot.one_or_more().iter().filter_map(|spot| spot.parsed(range)).collect()
}

/// `200` or `200-299`.
fn range(text: &str) -> Result<(u16, u16), String> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    match (from.trim().parse(), to.trim().parse()) {
        (Ok(from @ 100..=599), Ok(to @ 100..=599)) if from <= to => Ok((from, to)),
        _ => Err(format!("expects a status such as 204 or a range such as 200-299, not {text:?}")),
    }
}

fn path(text: &str) -> Result<String, String> {
    let fits = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if fits { Ok(text.to_owned()) } else { Err(format!("expects a path such as /healthz, not {text:?}")) }
}

/// A check has no body and opens no tunnel.
fn method(text: &str) -> Result<String, String> {
    match text {
        "CONNECT" => Err("a health check cannot use CONNECT".to_owned()),
        text => units::token(text),
    }
}

fn host(text: &str) -> Result<String, String> {
    let fits =
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#@".contains(&byte));
    if fits { Ok(text.to_owned()) } else { Err(format!("expects a host such as web.local, not {text:?}")) }
}

fn value(text: &str) -> Result<String, String> {
    let fits = text.bytes().all(|byte| (b' '..0x7f).contains(&byte) || byte == b'\t');
    if fits { Ok(text.to_owned()) } else { Err(format!("{text:?} is no value for a header")) }
}

/// A text, or `hex:` and bytes.
fn bytes(text: &str) -> Result<Vec<u8>, String> {
    let Some(digits) = text.strip_prefix("hex:") else {
        return match text {
            "" => Err("is empty".to_owned()),
            text => Ok(text.as_bytes().to_vec()),
        };
    };
    let wrong = || format!("expects pairs of hexadecimal digits after `hex:`, not {digits:?}");
    if digits.is_empty() || !digits.len().is_multiple_of(2) || !digits.is_ascii() {
        return Err(wrong());
    }
    let pair = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| wrong());
    (0..digits.len()).step_by(2).map(pair).collect()
}
