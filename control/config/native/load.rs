//! Load of serin's own under a rollout: what is asked, how often, and whether it
//! would reach the service at all.

use std::time::Duration;

use serin_proxy::{Destination, Model, Routing};

use crate::config::fields::{Fields, Spot};
use crate::outside::load::{Asked, During, Load};
use crate::rollout::Spec;
use crate::secret::Text;

use super::{secrets, units};

const FIELDS: [&str; 12] = [
    "rate",
    "during",
    "listener",
    "host",
    "path",
    "paths",
    "method",
    "body",
    "headers",
    "mostAtOnce",
    "timeout",
    "maxAnswer",
];
const REQUEST: [&str; 3] = ["path", "method", "body"];
const PATHS: usize = 1_000;
const BODY: usize = 1 << 20;
const AT_ONCE: usize = 16;
const TIMEOUT: Duration = Duration::from_secs(10);
const MOST_BYTES: usize = 1 << 20;

/// Host and listener are settled when the whole document is known.
pub fn read(rollout: &Fields) -> Option<Load> {
    let fields = rollout.get("load")?.fields(&FIELDS)?;
    let during = [("judged", During::Judged), ("rollout", During::Rollout)];
    let rate = fields.need("rate").and_then(|spot| spot.parsed(units::rate));
    let whole = |name, most, default: usize| {
        let given = fields.get(name).and_then(|spot| spot.whole(1, most));
        given.and_then(|given| usize::try_from(given).ok()).unwrap_or(default)
    };
    let text = |name| fields.get(name).and_then(|spot| spot.text().map(str::to_owned)).unwrap_or_default();
    Some(Load {
        per_second: rate?,
        during: fields.get("during").and_then(|spot| spot.word(&during)).unwrap_or(During::Judged),
        listener: text("listener"),
        host: text("host"),
        requests: requests(&fields)?,
        headers: secrets::headers(&fields),
        most_at_once: whole("mostAtOnce", 1_024, AT_ONCE),
        timeout: fields.get("timeout").and_then(|spot| spot.parsed(units::some_time)).unwrap_or(TIMEOUT),
        most_bytes: fields.get("maxAnswer").and_then(|spot| spot.parsed(units::size)).unwrap_or(MOST_BYTES),
    })
}

fn requests(fields: &Fields) -> Option<Vec<Asked>> {
    let usual = Asked {
        method: method(fields).unwrap_or_else(|| "GET".to_owned()),
        path: "/".to_owned(),
        body: body(fields).unwrap_or_default(),
    };
    let Some((name, spot)) = fields.any_of(&["path", "paths"]) else { return Some(vec![usual]) };
    if name == "path" {
        return Some(vec![Asked { path: spot.parsed(path)?, ..usual }]);
    }
    let items = spot.list()?;
    if items.is_empty() || items.len() > PATHS {
        spot.error(format!("expects 1 to {PATHS} paths, not {}", items.len()));
        return None;
    }
    items.iter().map(|spot| request(spot, &usual)).collect()
}

fn request(spot: &Spot, usual: &Asked) -> Option<Asked> {
    if !spot.is_map() {
        return Some(Asked { path: spot.parsed(path)?, ..usual.clone() });
    }
    let fields = spot.fields(&REQUEST)?;
    Some(Asked {
        path: fields.need("path")?.parsed(path)?,
        method: method(&fields).unwrap_or_else(|| usual.method.clone()),
        body: body(&fields).unwrap_or_else(|| usual.body.clone()),
    })
}

fn method(fields: &Fields) -> Option<String> {
    let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"].map(|word| (word, word));
    fields.get("method")?.word(&known).map(str::to_owned)
}

fn body(fields: &Fields) -> Option<String> {
    let spot = fields.get("body")?;
    let body = spot.text()?;
    if body.len() > BODY {
        spot.error(format!("a body has at most {BODY} bytes, this has {}", body.len()));
    }
    Some(body.to_owned())
}

fn path(text: &str) -> Result<String, String> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    match text.starts_with('/') && is_plain {
        true => Ok(text.to_owned()),
        false => Err(format!("expects a path as it stands in a request, such as /api?page=1, not {text:?}")),
    }
}

/// Says where each rollout's load comes in and what host it names, and refuses load
/// that would not reach the rollout's service.
pub fn settle(rollouts: &Fields, model: &Model, specs: &mut [Spec]) {
    if specs.iter().all(|spec| spec.load.is_none()) {
        return;
    }
    // A model with problems is refused for these.
    let Some(routing) = Routing::new(model) else { return };
    for spec in specs {
        let Some(load) = &mut spec.load else { continue };
        let spot = rollouts.get("rollouts").and_then(|spot| {
            let entries = spot.entries();
            entries.into_iter().find(|(name, _)| *name == spec.name).map(|(_, spot)| spot)
        });
        let spot = spot.and_then(|spot| load_of(&spot));
        let Some(spot) = spot else { continue };
        if load.listener.is_empty() {
            load.listener = model.listeners.first().map(|listener| listener.name.clone()).unwrap_or_default();
        } else if !model.listeners.iter().any(|listener| listener.name == load.listener) {
            spot.error(format!("there is no listener `{}`", load.listener));
        }
        settle_host(&spot, load, model, &routing, &spec.split);
    }
}

fn load_of<'t>(rollout: &Spot<'t>) -> Option<Spot<'t>> {
    rollout.entries().into_iter().find(|(name, _)| *name == "load").map(|(_, spot)| spot)
}

fn settle_host(spot: &Spot, load: &mut Load, model: &Model, routing: &Routing, split: &str) {
    let plain = |(name, text): (&String, &Text)| match text {
        Text::Plain(value) => Some((name.to_ascii_lowercase(), value.clone())),
        Text::Secret(_) => None,
    };
    let headers: Vec<(String, String)> = load.headers.iter().filter_map(plain).collect();
    // How many of the requests come through, and the first that does not.
    let reach = |host: &str| {
        let to = |asked: &Asked| routing.destination(&asked.method, host, &asked.path, &headers);
        let is_there = |to: &Destination| *to == Destination::Split(split.to_owned());
        let stray = load.requests.iter().map(|asked| (&asked.path, to(asked))).find(|(_, to)| !is_there(to));
        let arrive = load.requests.iter().filter(|asked| is_there(&to(asked))).count();
        (
            arrive,
            stray.map(|(path, to)| format!("{path} of host {host} {}, not to service `{split}`", goes(&to))),
        )
    };
    if !load.host.is_empty() {
        if let (_, Some(stray)) = reach(&load.host) {
            spot.error(stray);
        }
        return;
    }
    let named = model.hosts.iter().flat_map(|host| &host.domains).filter(|domain| !domain.contains('*'));
    let hosts = std::iter::once(split).chain(named.map(String::as_str));
    let reached = hosts.map(|host| (host.to_owned(), reach(host)));
    // Of equals the first.
    let best = reached.reduce(|best, next| if next.1.0 > best.1.0 { next } else { best });
    match best {
        Some((_, (_, Some(stray)))) => spot.error(format!("{stray}; name a `host`, or other paths")),
        Some((host, (_, None))) => load.host = host,
        None => {}
    }
}

fn goes(to: &Destination) -> String {
    match to {
        Destination::Split(split) => format!("goes to service `{split}`"),
        Destination::Answered { route } => format!("is answered by route `{route}`"),
        Destination::Chance => "goes by chance".to_owned(),
        Destination::Nowhere => "has no route".to_owned(),
    }
}
