//! A table as Envoy's static resources.
//!
//! serin asks all routes in their order whatever their hosts; Envoy asks the
//! most specific virtual host only. So each domain here becomes a virtual host
//! with every route that holds for it. The same is done in serin's reader of
//! its own format, by other code: here the two are compared.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::change::{Edits, HostChange, How, Level, PathChange, Put, Redirect, Rewrite, Substitution};
use super::gate::{Abort, Cors, Delay, Faults, Gates, With};
use super::table::{
    Action, Condition, End, HashBy, Hashing, Match, On, Path, Retry, Route, Service, Table, Text, Version,
};

const HTTP: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3";
const RETRY: &str = "type.googleapis.com/envoy.extensions.retry.host";
const FILTERS: &str = "type.googleapis.com/envoy.extensions.filters.http";

/// One listener, one cluster per version; `address` says what stands at its end.
pub fn render(table: &Table, name: &str, address: &impl Fn(End) -> SocketAddr) -> Value {
    let clusters: Vec<_> = table
        .services
        .iter()
        .flat_map(|service| service.versions.iter().map(move |version| (service, version)))
        .map(|(service, version)| {
            cluster(&format!("{}/{}", service.name, version.name), service.hashing, version, address)
        })
        .collect();
    json!({"listeners": [listener(name, table)], "clusters": clusters})
}

fn listener(name: &str, table: &Table) -> Value {
    let mut routes = json!({
        "virtual_hosts": virtual_hosts(table),
        // serin's hosts have no port.
        "ignore_port_in_host_matching": true,
    });
    edits(&table.edits, &mut routes);
    listener_of(name, routes)
}

/// With all filters that a route may ask for.
pub fn listener_of(name: &str, routes: Value) -> Value {
    let filter = |name: &str, kind: &str| json!({"name": name, "typed_config": {"@type": format!("{FILTERS}.{kind}")}});
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
        "route_config": routes,
        // In the order of serin's gates.
        "http_filters": [
            filter("cors", "cors.v3.Cors"),
            filter("fault", "fault.v3.HTTPFault"),
            filter("router", "router.v3.Router"),
        ],
    });
    json!({
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    })
}

fn cluster(
    name: &str,
    hashing: Option<Hashing>,
    version: &Version,
    address: &impl Fn(End) -> SocketAddr,
) -> Value {
    let endpoint = |(end, weight): &(End, u32)| {
        let to = address(*end);
        let address = json!({"socket_address": {"address": to.ip().to_string(), "port_value": to.port()}});
        let mut endpoint = json!({"address": address});
        if version.named {
            endpoint["hostname"] = json!(end.hostname());
        }
        json!({"endpoint": endpoint, "load_balancing_weight": weight})
    };
    let options = options(version.http2);
    let mut cluster = json!({
        "name": name,
        // Envoy takes names only where something is resolved, be it an address.
        "type": if version.named { "STRICT_DNS" } else { "STATIC" },
        // Talks run side by side; what they share may not stand between them.
        "circuit_breakers": {"thresholds": [{"max_retries": 1000}]},
        "connect_timeout": "5s",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": version.ends.iter().map(endpoint).collect::<Vec<_>>()}],
        },
    });
    if let Some(hashing) = hashing {
        let by_name = json!({"consistent_hashing_lb_config": {"use_hostname_for_hashing": true}});
        cluster["common_lb_config"] = by_name;
        match hashing {
            Hashing::Ring => cluster["lb_policy"] = json!("RING_HASH"),
            Hashing::Maglev => {
                cluster["lb_policy"] = json!("MAGLEV");
                cluster["maglev_lb_config"] = json!({"table_size": 251});
            }
        }
    }
    cluster
}

/// One endpoint and nothing beyond.
pub fn cluster_of(name: &str, to: SocketAddr, http2: bool) -> Value {
    let address = json!({"socket_address": {"address": to.ip().to_string(), "port_value": to.port()}});
    let endpoints = json!([{"lb_endpoints": [{"endpoint": {"address": address}}]}]);
    json!({
        "name": name,
        "type": "STATIC",
        "typed_extension_protocol_options":
            {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options(http2)},
        "load_assignment": {"cluster_name": name, "endpoints": endpoints},
    })
}

fn options(http2: bool) -> Value {
    let protocol = match http2 {
        true => json!({"http2_protocol_options": {}}),
        false => json!({"http_protocol_options": {"enable_trailers": true}}),
    };
    json!({
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": protocol,
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
    let mut entries: Vec<_> = match &route.action {
        Action::Direct { status, body } => {
            let mut answer = json!({"status": status});
            if !body.is_empty() {
                answer["body"] = json!({"inline_string": body});
            }
            let entry = |one| json!({"match": condition_list(one, None), "direct_response": answer});
            matches.iter().map(entry).collect()
        }
        Action::Redirect(to) => {
            let entry = |one| json!({"match": condition_list(one, None), "redirect": redirect(to)});
            matches.iter().map(entry).collect()
        }
        Action::Service(nth) => {
            let service = &table.services[*nth];
            matches.iter().flat_map(|one| to_service(route, one, service)).collect()
        }
    };
    for entry in &mut entries {
        entry["name"] = json!(route.name);
        edits(&route.edits, entry);
        gates(&route.gates, entry);
    }
    entries
}

fn to_service(route: &Route, one: &Match, service: &Service) -> Vec<Value> {
    let entry = |version: usize, force: Option<&Condition>| {
        let time = seconds(route.timeout_ms);
        let version = &service.versions[version];
        let cluster = format!("{}/{}", service.name, version.name);
        // What is said of a version is said where its weight is.
        let mut weighted = json!({"name": cluster, "weight": 1});
        edits(&version.edits, &mut weighted);
        let mut action =
            json!({"weighted_clusters": {"clusters": [weighted]}, "timeout": time, "idle_timeout": time});
        if let Some(policy) = &route.retry {
            action["retry_policy"] = retry(policy);
        }
        if let Some(change) = &route.rewrite {
            rewrite(change, &mut action);
        }
        if service.hashing.is_some() {
            action["hash_policy"] = route.hash.iter().map(hash).collect();
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

fn edits(edits: &Edits, fields: &mut Value) {
    for (name, Level { remove, put }) in [("request", &edits.request), ("response", &edits.response)] {
        fields[format!("{name}_headers_to_remove")] = json!(remove);
        fields[format!("{name}_headers_to_add")] = put.iter().map(added).collect();
    }
}

fn added(Put { how, name, value, keep_empty }: &Put) -> Value {
    let action = match how {
        How::Set => "OVERWRITE_IF_EXISTS_OR_ADD",
        How::IfAbsent => "ADD_IF_ABSENT",
        How::IfPresent => "OVERWRITE_IF_EXISTS",
        How::Append => "APPEND_IF_EXISTS_OR_ADD",
    };
    json!({"header": {"key": name, "value": value}, "append_action": action, "keep_empty_value": keep_empty})
}

fn redirect(to: &Redirect) -> Value {
    let status = match to.status {
        302 => "FOUND",
        303 => "SEE_OTHER",
        307 => "TEMPORARY_REDIRECT",
        308 => "PERMANENT_REDIRECT",
        _ => "MOVED_PERMANENTLY",
    };
    let mut fields = json!({"response_code": status, "strip_query": to.strip_query});
    if let Some(scheme) = to.scheme {
        fields["scheme_redirect"] = json!(scheme);
    }
    if let Some(host) = to.host {
        fields["host_redirect"] = json!(host);
    }
    if let Some(port) = to.port {
        fields["port_redirect"] = json!(port);
    }
    match &to.path {
        Some(PathChange::Full(path)) => fields["path_redirect"] = json!(path),
        Some(change) => change_path(change, &mut fields),
        None => {}
    }
    fields
}

fn rewrite(change: &Rewrite, action: &mut Value) {
    match &change.host {
        Some(HostChange::Literal(host)) => action["host_rewrite_literal"] = json!(host),
        Some(HostChange::FromHeader(name)) => action["host_rewrite_header"] = json!(name),
        Some(HostChange::FromPath(by)) => action["host_rewrite_path_regex"] = substitution(by),
        Some(HostChange::Endpoint) => action["auto_host_rewrite"] = json!(true),
        None => {}
    }
    if change.tells_host {
        action["append_x_forwarded_host"] = json!(true);
    }
    match &change.path {
        // Envoy has no word for the whole of a path.
        Some(PathChange::Full(path)) => {
            action["regex_rewrite"] = json!({"pattern": {"regex": "^.*$"}, "substitution": path});
        }
        Some(change) => change_path(change, action),
        None => {}
    }
}

fn change_path(change: &PathChange, fields: &mut Value) {
    match change {
        PathChange::Prefix(path) | PathChange::Full(path) => fields["prefix_rewrite"] = json!(path),
        PathChange::Regex(by) => fields["regex_rewrite"] = substitution(by),
    }
}

fn substitution(by: &Substitution) -> Value {
    json!({"pattern": {"regex": by.pattern}, "substitution": by.by})
}

fn gates(gates: &Gates, entry: &mut Value) {
    if let Some(policy) = &gates.cors {
        entry["typed_per_filter_config"]["cors"] = cors(policy);
    }
    if let Some(policy) = &gates.faults {
        entry["typed_per_filter_config"]["fault"] = faults(policy);
    }
}

fn cors(cors: &Cors) -> Value {
    let mut fields = json!({
        "@type": format!("{FILTERS}.cors.v3.CorsPolicy"),
        "allow_origin_string_match": cors.origins.iter().map(text).collect::<Vec<_>>(),
        "allow_credentials": cors.credentials,
        "allow_private_network_access": cors.private_network,
        "forward_not_matching_preflights": cors.forwards_others,
    });
    let lists = [
        ("allow_methods", &cors.methods),
        ("allow_headers", &cors.headers),
        ("expose_headers", &cors.expose),
    ];
    for (name, list) in lists {
        if !list.is_empty() {
            fields[name] = json!(list.join(", "));
        }
    }
    if let Some(age) = cors.max_age_s {
        fields["max_age"] = json!(age.to_string());
    }
    fields
}

fn faults(faults: &Faults) -> Value {
    let share = |all: bool| json!({"numerator": if all { 100 } else { 0 }});
    let mut fields = json!({
        "@type": format!("{FILTERS}.fault.v3.HTTPFault"),
        "headers": faults.when.iter().map(header).collect::<Vec<_>>(),
    });
    if let Some(Delay { ms, all }) = &faults.delay {
        fields["delay"] = match ms {
            Some(ms) => json!({"fixed_delay": seconds(*ms), "percentage": share(*all)}),
            None => json!({"header_delay": {}, "percentage": share(*all)}),
        };
    }
    if let Some(Abort { with, all }) = &faults.abort {
        let (name, value) = match with {
            With::Status(status) => ("http_status", json!(status)),
            With::Grpc(code) => ("grpc_status", json!(code)),
            With::Field => ("header_abort", json!({})),
        };
        fields["abort"] = json!({name: value, "percentage": share(*all)});
    }
    fields
}

fn hash(by: &HashBy) -> Value {
    let mut fields = match &by.on {
        None => json!({"connection_properties": {"source_ip": true}}),
        Some((On::Header, name)) => json!({"header": {"header_name": name}}),
        Some((On::Query, name)) => json!({"query_parameter": {"name": name}}),
        Some((On::Cookie, name)) => json!({"cookie": {"name": name}}),
    };
    fields["terminal"] = json!(by.terminal);
    fields
}

fn retry(policy: &Retry) -> Value {
    let mut fields = json!({
        "retry_on": policy.on.join(","),
        "num_retries": policy.retries,
        "retriable_status_codes": policy.statuses,
        "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.01s"},
        // serin looks for an endpoint that has not failed yet without being asked.
        "retry_host_predicate": [{
            "name": "previous",
            "typed_config": {"@type": format!("{RETRY}.previous_hosts.v3.PreviousHostsPredicate")},
        }],
        "host_selection_retry_max_attempts": 5,
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
