//! A table in serin's own format; JSON is YAML.

use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use super::table::{Action, End, Match, On, Path, Retry, Route, Service, Table, Text};

/// The whole file; `address` says what stands at a version's end.
pub fn render(table: &Table, address: &impl Fn(End) -> SocketAddr) -> Value {
    let services: Map<_, _> =
        table.services.iter().map(|one| (one.name.clone(), service(one, address))).collect();
    let routes: Vec<_> = table.routes.iter().map(|one| route(one, table)).collect();
    json!({
        // Not the edge: what clients say of where they come from passes, as in Envoy by default.
        "listeners": [{"name": "default", "address": "127.0.0.1:0", "forwarded": {"edge": false}}],
        "admin": "127.0.0.1:0",
        "workers": 1,
        "services": services,
        "routes": routes,
    })
}

fn service(service: &Service, address: &impl Fn(End) -> SocketAddr) -> Value {
    let mut versions = Map::new();
    for (n, version) in service.versions.iter().enumerate() {
        // Any one may be the primary: roles mean nothing to a request here.
        let role = if n == 0 { "primary" } else { "other" };
        let endpoints = json!([address(version.end).to_string()]);
        versions.insert(version.name.clone(), json!({"role": role, "endpoints": endpoints}));
    }
    let mut fields = json!({"versions": versions});
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

fn route(route: &Route, table: &Table) -> Value {
    let mut fields = json!({"name": route.name});
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
            if table.tells_tries {
                fields["tell"] = json!({"attempts": true, "attemptsToClient": true});
            }
        }
        Action::Direct { status, body } => fields["direct"] = json!({"status": status, "body": body}),
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
        let asked: Vec<_> = asked
            .map(|condition| {
                let mut fields = text(&condition.value);
                fields["name"] = json!(condition.name);
                if condition.invert {
                    fields["invert"] = json!(true);
                }
                fields
            })
            .collect();
        if !asked.is_empty() {
            fields[list] = json!(asked);
        }
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
