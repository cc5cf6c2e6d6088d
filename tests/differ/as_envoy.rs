//! A table as Envoy's static resources.
//!
//! serin asks all routes in their order whatever their hosts; Envoy asks the
//! most specific virtual host only. So each domain here becomes a virtual host
//! with every route that holds for it. The same is done in serin's reader of
//! its own format, by other code: here the two are compared.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::table::{Action, Condition, End, Match, On, Path, Retry, Route, Service, Table, Text};

const HTTP: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3";
const FILTERS: &str = "type.googleapis.com/envoy.extensions.filters.http";

/// One listener, one cluster per version; `address` says what stands at its end.
pub fn render(table: &Table, name: &str, address: &impl Fn(End) -> SocketAddr) -> Value {
    let clusters: Vec<_> = table
        .services
        .iter()
        .flat_map(|service| service.versions.iter().map(move |version| (service, version)))
        .map(|(service, version)| {
            cluster(&format!("{}/{}", service.name, version.name), address(version.end))
        })
        .collect();
    json!({"listeners": [listener(name, virtual_hosts(table))], "clusters": clusters})
}

fn listener(name: &str, hosts: Vec<Value>) -> Value {
    let manager = json!({
        "@type": format!("{HTTP}.HttpConnectionManager"),
        "stat_prefix": "differ",
        "codec_type": "AUTO",
        // serin does not put its name on answers.
        "server_header_transformation": "PASS_THROUGH",
        // serin serves HTTP/1.0, and passes trailers on.
        "http_protocol_options": {"accept_http_10": true, "enable_trailers": true},
        // Only how long a test waits to see a connection close.
        "delayed_close_timeout": "0.05s",
        "route_config": {
            "virtual_hosts": hosts,
            // serin's hosts have no port.
            "ignore_port_in_host_matching": true,
        },
        "http_filters": [{"name": "router", "typed_config": {"@type": format!("{FILTERS}.router.v3.Router")}}],
    });
    json!({
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    })
}

fn cluster(name: &str, to: SocketAddr) -> Value {
    let address = json!({"socket_address": {"address": to.ip().to_string(), "port_value": to.port()}});
    let options = json!({
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http_protocol_options": {"enable_trailers": true}},
    });
    json!({
        "name": name,
        "type": "STATIC",
        // Talks run side by side; what they share may not stand between them.
        "circuit_breakers": {"thresholds": [{"max_retries": 1000}]},
        "connect_timeout": "5s",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    })
}

fn virtual_hosts(table: &Table) -> Vec<Value> {
    let mut domains: Vec<&str> = Vec::new();
    for domain in table.routes.iter().flat_map(domains_of) {
        if !domains.contains(&domain) {
            domains.push(domain);
        }
    }
    domains
        .iter()
        .enumerate()
        .map(|(n, domain)| {
            let held = table.routes.iter().filter(|route| domains_of(route).any(|wide| covers(wide, domain)));
            let routes: Vec<_> = held.flat_map(|route| entries(route, table)).collect();
            json!({
                "name": format!("host-{n}"),
                "domains": [domain],
                "routes": routes,
                "include_request_attempt_count": table.tells_tries,
                "include_attempt_count_in_response": table.tells_tries,
            })
        })
        .collect()
}

fn domains_of(route: &Route) -> impl Iterator<Item = &str> {
    let any = route.hosts.is_empty().then_some("*");
    route.hosts.iter().map(String::as_str).chain(any)
}

/// Whether every host that `narrow` names is one of `wide`'s.
fn covers(wide: &str, narrow: &str) -> bool {
    if wide == "*" || wide == narrow {
        return true;
    }
    let proper = |part: &str| narrow.len() > part.len();
    match (wide.strip_prefix('*'), wide.strip_suffix('*')) {
        (Some(end), _) => narrow.ends_with(end) && proper(end),
        (_, Some(start)) => narrow.starts_with(start) && proper(start),
        _ => false,
    }
}

/// A route is one entry per match and, before each, one per forced version.
fn entries(route: &Route, table: &Table) -> Vec<Value> {
    let everything = [Match { path: None, method: None, asked: Vec::new() }];
    let matches = if route.matches.is_empty() { &everything[..] } else { &route.matches };
    match &route.action {
        Action::Direct { status, body } => {
            let mut answer = json!({"status": status});
            if !body.is_empty() {
                answer["body"] = json!({"inline_string": body});
            }
            let entry = |one| json!({"match": condition_list(one, None), "direct_response": answer});
            matches.iter().map(entry).collect()
        }
        Action::Service(nth) => {
            let service = &table.services[*nth];
            matches.iter().flat_map(|one| to_service(route, one, service)).collect()
        }
    }
}

fn to_service(route: &Route, one: &Match, service: &Service) -> Vec<Value> {
    let entry = |version: usize, force: Option<&Condition>| {
        let time = seconds(route.timeout_ms);
        let cluster = format!("{}/{}", service.name, service.versions[version].name);
        let mut action = json!({"cluster": cluster, "timeout": time, "idle_timeout": time});
        if let Some(policy) = &route.retry {
            action["retry_policy"] = retry(policy);
        }
        json!({"match": condition_list(one, force), "route": action})
    };
    let forced = service.force.iter().map(|force| {
        let value = force.value.clone();
        let asked = Condition { on: force.on, name: force.name.clone(), value, invert: false };
        entry(force.version, Some(&asked))
    });
    forced.chain([entry(service.chosen, None)]).collect()
}

fn retry(policy: &Retry) -> Value {
    let mut fields = json!({
        "retry_on": policy.on.join(","),
        "num_retries": policy.retries,
        "retriable_status_codes": policy.statuses,
        "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.01s"},
    });
    if let Some(time) = policy.per_try_ms {
        fields["per_try_timeout"] = json!(seconds(time));
    }
    fields
}

fn seconds(milliseconds: u64) -> String {
    format!("{}.{:03}s", milliseconds / 1000, milliseconds % 1000)
}

fn condition_list(wanted: &Match, more: Option<&Condition>) -> Value {
    let mut fields = match &wanted.path {
        None => json!({"prefix": ""}),
        Some(Path::Exact(path)) => json!({"path": path}),
        Some(Path::Prefix(path)) => json!({"prefix": path}),
        Some(Path::Regex(path)) => json!({"safe_regex": {"regex": path}}),
    };
    let list = |on| wanted.asked.iter().chain(more).filter(move |condition| condition.on == on);
    let mut headers: Vec<_> = list(On::Header).map(header).collect();
    if let Some(method) = &wanted.method {
        headers.push(json!({"name": ":method", "string_match": {"exact": method}}));
    }
    fields["headers"] = json!(headers);
    fields["query_parameters"] = list(On::Query).map(parameter).collect();
    // A cookie that is not there fits an inverted question in Envoy, and none in serin.
    let asks_value = |asked: &&Condition| asked.invert && !matches!(asked.value, Text::Present);
    let there = list(On::Cookie).filter(asks_value).map(|asked| {
        let there = Condition { value: Text::Present, invert: false, ..asked.clone() };
        cookie(&there)
    });
    fields["cookies"] = list(On::Cookie).map(cookie).chain(there).collect();
    fields
}

fn header(asked: &Condition) -> Value {
    let mut fields = json!({"name": asked.name, "invert_match": asked.invert});
    match text(&asked.value) {
        None => fields["present_match"] = json!(true),
        Some(value) => fields["string_match"] = value,
    }
    fields
}

fn parameter(asked: &Condition) -> Value {
    match text(&asked.value) {
        None => json!({"name": asked.name, "present_match": true}),
        Some(value) => json!({"name": asked.name, "string_match": value}),
    }
}

/// Envoy asks only for a cookie's value, so presence is any value.
fn cookie(asked: &Condition) -> Value {
    let value = text(&asked.value).unwrap_or_else(|| json!({"safe_regex": {"regex": ".*"}}));
    json!({"name": asked.name, "string_match": value, "invert_match": asked.invert})
}

fn text(value: &Text) -> Option<Value> {
    Some(match value {
        Text::Exact(text) => json!({"exact": text}),
        Text::Prefix(text) => json!({"prefix": text}),
        Text::Suffix(text) => json!({"suffix": text}),
        Text::Regex(text) => json!({"safe_regex": {"regex": text}}),
        Text::Present => return None,
    })
}
