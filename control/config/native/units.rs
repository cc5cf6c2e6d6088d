//! Durations, sizes, percents, addresses and names as people write them.
//!
//! Strict on purpose: a bare `30` as a duration is refused, because whoever
//! wrote it may have meant milliseconds.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use regex::Regex;

/// Longer than anything meant, short enough that adding it to a time is safe.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

const DURATION_UNITS: [(&str, u128); 6] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
];

/// `30s`, `1m30s`, `250ms`, `1.5s`; larger units first, each once.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("expects a duration such as 30s, 1m30s or 250ms, not {text:?}");
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(format!("a duration needs a unit: {text}s, {text}ms or {text}m"));
    }
    let mut rest = text;
    let mut units = DURATION_UNITS.iter();
    let mut nanos: u128 = 0;
    loop {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_lowercase()).len();
        let (unit, tail) = tail.split_at(letters);
        let (_, size) = units.by_ref().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let value = scaled(number, 6).ok_or_else(wrong)?;
        nanos = nanos.saturating_add(value.saturating_mul(*size) / 1_000_000);
        if tail.is_empty() {
            break;
        }
        rest = tail;
    }
    let nanos = u64::try_from(nanos).map_err(|_| too_long(text))?;
    let duration = Duration::from_nanos(nanos);
    if duration > LONGEST { Err(too_long(text)) } else { Ok(duration) }
}

/// As [`duration`], but not zero.
pub fn some_time(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be longer than 0s".to_owned()),
        duration => Ok(duration),
    }
}

/// `20/s`, `90/m` or `100/h`, as a number per second.
pub fn rate(text: &str) -> Result<f64, String> {
    let wrong = || format!("expects a rate such as 20/s or 90/m, not {text:?}");
    let (number, unit) = text.split_once('/').ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err(wrong()),
    };
    let per_second = decimal(number).map_err(|_| wrong())? / seconds;
    match per_second > 0.0 && per_second <= 10_000.0 {
        true => Ok(per_second),
        false => Err(format!("a rate is more than 0 and at most 10000/s, not {text}")),
    }
}

/// As [`duration`], where `0s` means "never".
pub fn timeout(text: &str) -> Result<Option<Duration>, String> {
    Ok(Some(duration(text)?).filter(|duration| !duration.is_zero()))
}

/// `64KiB`, `1MiB`, `512B`.
pub fn size(text: &str) -> Result<usize, String> {
    let wrong = || format!("expects a size such as 64KiB or 1MiB, not {text:?}");
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "" if !number.is_empty() => return Err(format!("a size needs a unit: {number}B, {number}KiB")),
        _ => return Err(wrong()),
    };
    let number: usize = number.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).filter(|size| *size <= 1 << 40).ok_or_else(wrong)
}

/// Hundredths of a percent: `90`, `12.5` or `0.25%` up to 100.
pub fn parts(text: &str) -> Result<u32, String> {
    let number = percent_number(text)?;
    let parts = scaled(number, 2).ok_or_else(|| {
        if scaled(number, 12).is_some() {
            format!("a share has at most two decimals, {text} has more")
        } else {
            not_percent(text)
        }
    })?;
    match u32::try_from(parts) {
        Ok(parts @ 0..=10_000) => Ok(parts),
        _ => Err(format!("a share is at most 100, not {text}")),
    }
}

/// Millionths: as [`parts`], with up to four decimals.
pub fn millionths(text: &str) -> Result<u32, String> {
    let number = percent_number(text)?;
    match scaled(number, 4).map(u32::try_from) {
        Some(Ok(share @ 0..=1_000_000)) => Ok(share),
        Some(_) => Err(format!("a share is at most 100, not {text}")),
        None => Err(not_percent(text)),
    }
}

/// `0.1%` (or `0.1`, also percent) as 0.001.
pub fn fraction(text: &str) -> Result<f64, String> {
    let number = percent_number(text)?;
    scaled(number, 12).ok_or_else(|| not_percent(text))?;
    // Moving the point in the text keeps 99.9% from becoming 0.9990000000000001.
    format!("{number}e-2").parse().map_err(|_| not_percent(text))
}

/// `1.2`.
pub fn decimal(text: &str) -> Result<f64, String> {
    let wrong = || format!("expects a number such as 1.2, not {text:?}");
    scaled(text, 12).ok_or_else(wrong)?;
    text.parse().map_err(|_| wrong())
}

/// `p99` or `p99.9` as 0.99 and 0.999.
pub fn quantile(text: &str) -> Result<f64, String> {
    let wrong = || format!("expects a percentile such as p99 or p99.9, not {text:?}");
    let value = fraction(text.strip_prefix('p').ok_or_else(wrong)?).map_err(|_| wrong())?;
    if value > 0.0 && value < 1.0 { Ok(value) } else { Err(wrong()) }
}

/// An address to listen on; port 0 asks the system for a free one.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        return Err(format!("an address has no scheme; drop `{scheme}://` and give IP:port ({rest})"));
    }
    let example = "expects IP:port such as 127.0.0.1:8080";
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(format!("{example}, not {text:?}"));
    };
    let Ok(port) = port.parse::<u16>() else {
        return Err(format!("{example}, not {text:?}"));
    };
    match host {
        "localhost" => Ok(SocketAddr::from(([127, 0, 0, 1], port))),
        "" | "*" => Err(format!("{example}; to listen on every interface give 0.0.0.0:{port}")),
        _ if host.contains(':') && !host.starts_with('[') => {
            Err(format!("an IPv6 address stands in brackets: [{host}]:{port}"))
        }
        _ if is_host_name(host) => {
            Err(format!("{host:?} is a host name; here an address is needed, such as 127.0.0.1:{port}"))
        }
        _ => Err(format!("{example}, not {text:?}")),
    }
}

/// The address of a server.
pub fn endpoint(text: &str) -> Result<SocketAddr, String> {
    let address = address(text)?;
    if address.port() == 0 {
        return Err("an endpoint needs a port other than 0".to_owned());
    }
    if address.ip().is_unspecified() {
        return Err(format!("{} is no address to connect to", address.ip()));
    }
    Ok(address)
}

/// A host name and its port, in lower case; `None` where it is an address or no
/// name at all.
pub fn named(text: &str) -> Result<Option<(String, u16)>, String> {
    let Some((host, port)) = text.rsplit_once(':') else {
        return if is_host_name(text) && host_name(text).is_ok() {
            Err(format!("a host name needs a port, such as {text}:8080"))
        } else {
            Ok(None)
        };
    };
    if host == "localhost" || !is_host_name(host) || host.parse::<std::net::IpAddr>().is_ok() {
        return Ok(None);
    }
    let port = port.parse::<u16>().ok().filter(|port| *port != 0);
    let port = port.ok_or_else(|| format!("a host name needs a port, such as {host}:8080, not {text:?}"))?;
    Ok(Some((host_name(host)?, port)))
}

/// A name that DNS may know, without a port.
pub fn host_name(text: &str) -> Result<String, String> {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    let whole = text.strip_suffix('.').unwrap_or(text);
    if whole.len() <= 253 && whole.split('.').all(is_label) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!("{text:?} is no host name"))
    }
}

/// `10.0.0.0/8`, or one address alone.
pub fn network(text: &str) -> Result<IpNet, String> {
    let one = || text.parse::<std::net::IpAddr>().map(IpNet::from);
    match text.parse::<IpNet>() {
        Ok(network) if network.trunc() != network => {
            Err(format!("{text} has bits beyond its mask; {} is meant", network.trunc()))
        }
        Ok(network) => Ok(network),
        Err(_) => {
            one().map_err(|_| format!("expects addresses such as 10.0.0.0/8 or 10.1.2.3, not {text:?}"))
        }
    }
}

/// A name that stands in metrics, URLs and commands.
pub fn name(text: &str) -> Result<String, String> {
    let fits = text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if fits {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "{text:?} is no name; use up to 63 letters, digits, `-`, `_` and `.`, a letter or digit first"
        ))
    }
}

/// A header's, cookie's or method's name in HTTP.
pub fn token(text: &str) -> Result<String, String> {
    let fits = !text.is_empty()
        && text.len() <= 256
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
    if fits { Ok(text.to_owned()) } else { Err(format!("{text:?} is no name in HTTP")) }
}

pub fn cookie_path(text: &str) -> Result<String, String> {
    let fits = text.starts_with('/') && text.bytes().all(|b| (b' '..0x7f).contains(&b) && b != b';');
    if fits { Ok(text.to_owned()) } else { Err(format!("{text:?} is no path for a cookie")) }
}

/// Headers have no case; their names are kept in lower case.
pub fn header(text: &str) -> Result<String, String> {
    Ok(token(text)?.to_ascii_lowercase())
}

/// A host that can be named in a request, perhaps with a port.
pub fn host(text: &str) -> Result<String, String> {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !text.ends_with(']') => (name, port),
        _ => (text, "0"),
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let fits = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)),
    };
    if fits && port.parse::<u16>().is_ok() {
        Ok(text.to_owned())
    } else {
        Err(format!("expects a host such as api.example.com or 10.0.0.1:8080, not {text:?}"))
    }
}

/// A pattern that is asked to match the whole of a text.
pub fn pattern(text: &str) -> Result<String, String> {
    // Alone first: `a)|(b` would only be made valid by what is put around it.
    for pattern in [text, &format!("^(?:{text})$")] {
        if let Err(error) = Regex::new(pattern) {
            let error = error.to_string();
            let last = error.lines().last().unwrap_or_default();
            let why = last.strip_prefix("error: ").unwrap_or(last);
            return Err(format!("{text:?} is no regular expression: {why}"));
        }
    }
    Ok(text.to_owned())
}

pub fn directory(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() || text.contains('\0') {
        return Err("expects a directory".to_owned());
    }
    Ok(PathBuf::from(text))
}

fn percent_number(text: &str) -> Result<&str, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim_end();
    if number.starts_with('-') {
        return Err(format!("a share cannot be negative: {text}"));
    }
    Ok(number)
}

fn not_percent(text: &str) -> String {
    format!("expects a percentage such as 5 or 0.1%, not {text:?}")
}

fn too_long(text: &str) -> String {
    format!("{text} is longer than a year")
}

fn is_host_name(host: &str) -> bool {
    host.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && host.contains(|c: char| c.is_ascii_alphabetic())
}

/// A plain decimal times ten to the `decimals`, if it has no more decimals
/// (trailing zeros aside) and no more than twelve digits before the point.
fn scaled(text: &str, decimals: usize) -> Option<u128> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || whole.len() > 12 {
        return None;
    }
    let part = part.trim_end_matches('0');
    if part.len() > decimals {
        return None;
    }
    format!("{whole}{part:0<decimals$}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("1h0m5s10ms"), Ok(Duration::from_millis(3_605_010)));
        assert_eq!(timeout("0s"), Ok(None));
        for wrong in
            ["", "s", "30", "1s1m", "1s1s", "1 s", "-1s", "1e3s", "1.s", "99999d", "1sec", "9999999999999s"]
        {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert!(duration("30").is_err_and(|text| text.contains("30s")));
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("0B"), Ok(0));
        for wrong in ["", "64", "KiB", "64KB", "1.5MiB", "-1B", "99999999999999999999GiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn shares_are_exact() {
        assert_eq!(parts("90"), Ok(9_000));
        assert_eq!(parts("0.29%"), Ok(29));
        assert_eq!(parts("12.500"), Ok(1_250));
        for wrong in ["", "%", "100.01", "0.001", "-1", "1e1", ".5", "5.", "nan"] {
            assert!(parts(wrong).is_err(), "{wrong}");
        }
        assert_eq!(fraction("99.9%"), Ok(0.999));
        assert_eq!(quantile("p99.9"), Ok(0.999));
        assert!(quantile("p100").is_err() && quantile("99").is_err() && quantile("p0").is_err());
    }

    #[test]
    fn addresses_are_numbers() {
        assert_eq!(address("localhost:80"), Ok(SocketAddr::from(([127, 0, 0, 1], 80))));
        assert!(address("[::1]:80").is_ok());
        assert!(address("web.local:80").is_err_and(|text| text.contains("host name")));
        assert!(address("::1:80").is_err());
        assert!(address("http://127.0.0.1:80").is_err_and(|text| text.contains("scheme")));
        assert!(endpoint("127.0.0.1:0").is_err() && endpoint("0.0.0.0:1").is_err());
    }

    #[test]
    fn patterns_stand_alone() {
        assert!(pattern("a|b").is_ok());
        assert!(pattern("a)|(b").is_err());
        assert!(pattern("(").is_err_and(|text| !text.contains('\n')));
    }
}
