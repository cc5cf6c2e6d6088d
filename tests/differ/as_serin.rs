//! A table in serin's own format; JSON is YAML.

use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use super::change::{Edits, HostChange, How, Level, PathChange, Put, Redirect, Rewrite, Substitution};
use super::gate::{Cors, Delay, Faults, With};
use super::table::{
    Action, Condition, End, HashBy, Hashing, Match, On, Path, Retry, Route, Service, Table, Text, Version,
};

/// The whole file; `address` says what stands at a version's end.
pub fn render(table: &Table, address: &impl Fn(End) -> SocketAddr) -> Value {
    let services: Map<_, _> =
        table.services.iter().map(|one| (one.name.clone(), service(one, address))).collect();
    let routes: Vec<_> = table.routes.iter().map(|one| route(one, table)).collect();
    let mut document = json!({
        // Not the edge: what clients say of where they come from passes, as in Envoy by default.
        "listeners": [{"name": "default", "address": "127.0.0.1:0", "forwarded": {"edge": false}}],
        "admin": "127.0.0.1:0",
        "workers": 1,
        "services": services,
        "routes": routes,
    });
    edits(&table.edits, &mut document);
    document
}

fn service(service: &Service, address: &impl Fn(End) -> SocketAddr) -> Value {
    let mut versions = Map::new();
    for (n, version) in service.versions.iter().enumerate() {
        // Any one may be the primary: roles mean nothing to a request here.
        let role = if n == 0 { "primary" } else { "other" };
        let mut fields = self::version(version, address);
        fields["role"] = json!(role);
        versions.insert(version.name.clone(), fields);
    }
    let mut fields = json!({"versions": versions});
    match service.hashing {
        Some(Hashing::Ring) => fields["balance"] = json!({"algorithm": "ringHash", "byHostname": true}),
        Some(Hashing::Maglev) => {
            fields["balance"] = json!({"algorithm": "maglev", "tableSize": 251, "byHostname": true});
        }
        None => {}
    }
    fields["weights"] = json!({ (service.versions[service.chosen].name.as_str()): 100 });
    let force: Vec<_> = service
        .force
        .iter()
        .map(|force| {
            let mut fields = text(&force.value);
            fields[if force.on == On::Header { "header" } else { "cookie" }] = json!(force.name);
            fields["version"] = json!(service.versions[force.version].name);
            fields
        })
        .collect();
    if !force.is_empty() {
        fields["force"] = json!(force);
    }
    fields
}

fn version(version: &Version, address: &impl Fn(End) -> SocketAddr) -> Value {
    let endpoint = |(end, weight): &(End, u32)| {
        let mut fields = json!({"address": address(*end).to_string(), "weight": weight});
        if version.named {
            fields["hostname"] = json!(end.hostname());
        }
        fields
    };
    let mut fields = json!({"endpoints": version.ends.iter().map(endpoint).collect::<Vec<_>>()});
    if version.http2 {
        fields["protocol"] = json!("http2");
    }
    edits(&version.edits, &mut fields);
    fields
}

fn edits(edits: &Edits, fields: &mut Value) {
    for (name, level) in [("requestHeaders", &edits.request), ("responseHeaders", &edits.response)] {
        if !level.remove.is_empty() || !level.put.is_empty() {
            fields[name] = self::level(level);
        }
    }
}

fn level(level: &Level) -> Value {
    let mut fields = json!({});
    if !level.remove.is_empty() {
        fields["remove"] = json!(level.remove);
    }
    for Put { how, name, value, keep_empty } in &level.put {
        let list = match how {
            How::Set => "set",
            How::IfAbsent => "setIfAbsent",
            How::IfPresent => "setIfPresent",
            How::Append => "append",
        };
        fields[list][*name] = json!({"value": value, "keepEmpty": keep_empty});
    }
    fields
}

fn rewrite(rewrite: &Rewrite) -> Value {
    let mut fields = json!({});
    if let Some(path) = &rewrite.path {
        change_path(path, &mut fields);
    }
    match &rewrite.host {
        Some(HostChange::Literal(host)) => fields["host"] = json!(host),
        Some(HostChange::FromHeader(name)) => fields["hostFromHeader"] = json!(name),
        Some(HostChange::FromPath(by)) => fields["hostFromPath"] = substitution(by),
        Some(HostChange::Endpoint) => fields["hostFromEndpoint"] = json!(true),
        None => {}
    }
    if rewrite.tells_host {
        fields["appendForwardedHost"] = json!(true);
    }
    fields
}

fn redirect(redirect: &Redirect) -> Value {
    let mut fields = json!({"status": redirect.status, "stripQuery": redirect.strip_query});
    let said = [
        ("scheme", redirect.scheme.map(Value::from)),
        ("host", redirect.host.map(Value::from)),
        ("port", redirect.port.map(Value::from)),
    ];
    for (name, value) in said {
        if let Some(value) = value {
            fields[name] = value;
        }
    }
    if let Some(path) = &redirect.path {
        change_path(path, &mut fields);
    }
    fields
}

fn change_path(change: &PathChange, fields: &mut Value) {
    match change {
        PathChange::Prefix(path) => fields["prefix"] = json!(path),
        PathChange::Full(path) => fields["path"] = json!(path),
        PathChange::Regex(by) => fields["regex"] = substitution(by),
    }
}

fn substitution(by: &Substitution) -> Value {
    json!({"pattern": by.pattern, "substitution": by.by})
}

fn cors(cors: &Cors) -> Value {
    let mut fields = json!({
        "origins": cors.origins.iter().map(text).collect::<Vec<_>>(),
        "credentials": cors.credentials,
        "privateNetwork": cors.private_network,
        "forwardOtherPreflights": cors.forwards_others,
    });
    for (name, list) in [("methods", &cors.methods), ("headers", &cors.headers), ("expose", &cors.expose)] {
        if !list.is_empty() {
            fields[name] = json!(list);
        }
    }
    if let Some(age) = cors.max_age_s {
        fields["maxAge"] = json!(format!("{age}s"));
    }
    fields
}

fn faults(faults: &Faults) -> Value {
    let mut fields = json!({});
    if !faults.when.is_empty() {
        fields["when"] = faults.when.iter().map(condition).collect();
    }
    let percent = |all| if all { 100 } else { 0 };
    if let Some(Delay { ms, all }) = &faults.delay {
        fields["delay"] = match ms {
            Some(ms) => json!({"time": format!("{ms}ms"), "percent": percent(*all)}),
            None => json!({"byHeader": true, "percent": percent(*all)}),
        };
    }
    if let Some(abort) = &faults.abort {
        let (name, value) = match abort.with {
            With::Status(status) => ("status", json!(status)),
            With::Grpc(code) => ("grpcStatus", json!(code)),
            With::Field => ("byHeader", json!(true)),
        };
        fields["abort"] = json!({name: value, "percent": percent(abort.all)});
    }
    fields
}

fn hash(by: &HashBy) -> Value {
    let mut fields = match &by.on {
        None => json!({"sourceIp": true}),
        Some((On::Header, name)) => json!({"header": name}),
        Some((On::Query, name)) => json!({"query": name}),
        Some((On::Cookie, name)) => json!({"cookie": name}),
    };
    fields["terminal"] = json!(by.terminal);
    fields
}

fn route(route: &Route, table: &Table) -> Value {
    let mut fields = json!({"name": route.name});
    edits(&route.edits, &mut fields);
    if let Some(policy) = &route.gates.cors {
        fields["cors"] = cors(policy);
    }
    if let Some(policy) = &route.gates.faults {
        fields["faults"] = faults(policy);
    }
    if !route.hosts.is_empty() {
        fields["hosts"] = json!(route.hosts);
    }
    if !route.matches.is_empty() {
        fields["match"] = route.matches.iter().map(one_match).collect();
    }
    match &route.action {
        Action::Service(nth) => {
            fields["service"] = json!(table.services[*nth].name);
            let time = format!("{}ms", route.timeout_ms);
            fields["timeout"] = json!(if route.to_the_end { "0s" } else { &time });
            if route.to_the_end {
                fields["totalTimeout"] = json!(time);
            }
            fields["idleTimeout"] = json!(time);
            if let Some(policy) = &route.retry {
                fields["retry"] = retry(policy);
            }
            if let Some(change) = &route.rewrite {
                fields["rewrite"] = rewrite(change);
            }
            if table.services[*nth].hashing.is_some() {
                fields["hash"] = route.hash.iter().map(hash).collect();
            }
            if table.tells_tries {
                fields["tell"] = json!({"attempts": true, "attemptsToClient": true});
            }
        }
        Action::Direct { status, body } => fields["direct"] = json!({"status": status, "body": body}),
        Action::Redirect(to) => fields["redirect"] = redirect(to),
    }
    fields
}

fn retry(policy: &Retry) -> Value {
    let mut fields =
        json!({"on": policy.on, "retries": policy.retries, "backoff": {"base": "1ms", "max": "10ms"}});
    if !policy.statuses.is_empty() {
        fields["statuses"] = json!(policy.statuses);
    }
    if let Some(time) = policy.per_try_ms {
        fields["perTryTimeout"] = json!(format!("{time}ms"));
    }
    fields
}

fn one_match(wanted: &Match) -> Value {
    let mut fields = match &wanted.path {
        None => json!({}),
        Some(Path::Exact(path)) => json!({"exact": path}),
        Some(Path::Prefix(path)) => json!({"prefix": path}),
        Some(Path::Regex(path)) => json!({"regex": path}),
    };
    if let Some(method) = &wanted.method {
        fields["method"] = json!(method);
    }
    for (list, on) in [("headers", On::Header), ("query", On::Query), ("cookies", On::Cookie)] {
        let asked = wanted.asked.iter().filter(|condition| condition.on == on);
        let asked: Vec<_> = asked.map(condition).collect();
        if !asked.is_empty() {
            fields[list] = json!(asked);
        }
    }
    fields
}

fn condition(condition: &Condition) -> Value {
    let mut fields = text(&condition.value);
    fields["name"] = json!(condition.name);
    if condition.invert {
        fields["invert"] = json!(true);
    }
    fields
}

fn text(value: &Text) -> Value {
    match value {
        Text::Exact(text) => json!({"exact": text}),
        Text::Prefix(text) => json!({"prefix": text}),
        Text::Suffix(text) => json!({"suffix": text}),
        Text::Regex(text) => json!({"regex": text}),
        Text::Present => json!({"present": true}),
    }
}
