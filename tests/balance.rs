//! Which endpoint of a version gets a request: by turn, by load, by chance, and
//! by hash, the last held against a real Envoy configured alike.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::app::head;
use crate::harness::client::{Conn, Reply, once};
use crate::harness::dns::{NameServer, Says};
use crate::harness::envoy::{self, Envoy};
use crate::harness::h2::H2;
use crate::harness::load::tally;
use crate::harness::{Answer, App, Ask, Origin, eventually, plausible};

const NAMES: [&str; 6] = ["one", "two", "three", "four", "five", "six"];
const WEIGHTS: [u32; 6] = [1, 3, 1, 7, 2, 1];

/// A way to choose: how serin says it, how Envoy says it, and whether weights
/// and hostnames are given.
struct Way {
    name: &'static str,
    serin: &'static str,
    envoy: Value,
    weighted: bool,
}

fn ways() -> Vec<Way> {
    let ring = |config: Value| json!({"lb_policy": "RING_HASH", "ring_hash_lb_config": config});
    let by_hostname = json!({"consistent_hashing_lb_config": {"use_hostname_for_hashing": true}});
    let mut ring_by_hostname = ring(json!({}));
    ring_by_hostname["common_lb_config"] = by_hostname.clone();
    vec![
        Way { name: "ring", serin: "ringHash", envoy: ring(json!({})), weighted: false },
        Way { name: "ring-weighted", serin: "ringHash", envoy: ring(json!({})), weighted: true },
        Way {
            name: "ring-small",
            serin: "{algorithm: ringHash, minRing: 7, maxRing: 40}",
            envoy: ring(json!({"minimum_ring_size": 7, "maximum_ring_size": 40})),
            weighted: true,
        },
        Way {
            name: "ring-murmur",
            serin: "{algorithm: ringHash, hash: murmurHash2}",
            envoy: ring(json!({"hash_function": "MURMUR_HASH_2"})),
            weighted: true,
        },
        Way {
            name: "ring-hostname",
            serin: "{algorithm: ringHash, byHostname: true}",
            envoy: ring_by_hostname,
            weighted: false,
        },
        Way { name: "maglev", serin: "maglev", envoy: json!({"lb_policy": "MAGLEV"}), weighted: false },
        Way {
            name: "maglev-weighted",
            serin: "maglev",
            envoy: json!({"lb_policy": "MAGLEV"}),
            weighted: true,
        },
        Way {
            name: "maglev-small",
            serin: "{algorithm: maglev, tableSize: 251}",
            envoy: json!({"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 251}}),
            weighted: true,
        },
        Way {
            name: "maglev-hostname",
            serin: "{algorithm: maglev, byHostname: true}",
            envoy: json!({"lb_policy": "MAGLEV", "common_lb_config": by_hostname}),
            weighted: true,
        },
    ]
}

fn cluster(way: &Way, origins: &[Origin]) -> Value {
    let endpoints: Vec<Value> = origins
        .iter()
        .zip(WEIGHTS)
        .map(|(origin, weight)| {
            let address =
                json!({"address": origin.address.ip().to_string(), "port_value": origin.address.port()});
            let hostname = format!("host-{weight}-{}.test", origin.address.port());
            let weight = if way.weighted { weight } else { 1 };
            json!({
                "endpoint": {"address": {"socket_address": address}, "hostname": hostname},
                "load_balancing_weight": weight,
            })
        })
        .collect();
    let mut cluster = way.envoy.clone();
    cluster["name"] = json!(way.name);
    // Envoy takes hostnames only where something is resolved, be it an address.
    let kind = if way.name.ends_with("hostname") { "STRICT_DNS" } else { "STATIC" };
    cluster["type"] = json!(kind);
    cluster["load_assignment"] =
        json!({"cluster_name": way.name, "endpoints": [{"lb_endpoints": endpoints}]});
    cluster
}

fn service(way: &Way, origins: &[Origin]) -> String {
    let endpoints: Vec<String> = origins
        .iter()
        .zip(WEIGHTS)
        .map(|(origin, weight)| {
            let hostname = format!("host-{weight}-{}.test", origin.address.port());
            let weight = if way.weighted { weight } else { 1 };
            format!("{{address: \"{}\", hostname: {hostname}, weight: {weight}}}", origin.address)
        })
        .collect();
    format!("  {}: {{balance: {}, primary: [{}]}}\n", way.name, way.serin, endpoints.join(", "))
}

/// Routes `/<way><nth policy>` for both.
fn envoy_resources(ways: &[Way], policies: &[Value], origins: &[Origin]) -> Value {
    let mut routes = Vec::new();
    for way in ways {
        for (nth, policy) in policies.iter().enumerate() {
            routes.push(json!({
                "match": {"path": format!("/{}/{nth}", way.name)},
                "route": {"cluster": way.name, "hash_policy": policy},
            }));
        }
    }
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "test",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [{"name": "router", "typed_config":
            {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
    });
    let listener = json!({
        "name": "one",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    });
    let clusters: Vec<Value> = ways.iter().map(|way| cluster(way, origins)).collect();
    json!({"listeners": [listener], "clusters": clusters})
}

fn serin_config(ways: &[Way], policies: &[&str], origins: &[Origin]) -> String {
    let mut yaml = head(2) + "services:\n";
    for way in ways {
        yaml += &service(way, origins);
    }
    yaml += "routes:\n";
    for way in ways {
        for (nth, policy) in policies.iter().enumerate() {
            yaml += &format!(
                "  - {{match: {{exact: /{}/{nth}}}, service: {}, hash: {policy}}}\n",
                way.name, way.name
            );
        }
    }
    yaml
}

fn both(ways: &[Way], policies: &[(&str, Value)], origins: &[Origin]) -> Option<(Envoy, App)> {
    let program = envoy::program()?;
    let for_envoy: Vec<Value> = policies.iter().map(|(_, policy)| policy.clone()).collect();
    let for_serin: Vec<&str> = policies.iter().map(|(policy, _)| *policy).collect();
    let envoy = Envoy::start(&program, &envoy_resources(ways, &for_envoy, origins));
    Some((envoy, App::start(&serin_config(ways, &for_serin, origins))))
}

#[test]
fn rings_and_tables_send_every_key_where_envoy_sends_it() {
    let origins = NAMES.map(Origin::start);
    let policy = ("{header: x-user}", json!([{"header": {"header_name": "x-user"}}]));
    let Some((envoy, app)) = both(&ways(), &[policy], &origins) else { return };
    let (mut theirs, mut ours) = (Conn::open(envoy.listener("one")), app.conn());
    let mut h2 = H2::open(app.address());
    for way in ways() {
        let mut seen = BTreeMap::<String, u64>::new();
        for key in 0..300 {
            let ask = Ask::get(&format!("/{}/0", way.name)).header("x-user", &format!("user-{key}"));
            let expected = theirs.ask(&ask).origin().to_owned();
            let found = if key % 10 == 0 { h2.ask(&ask) } else { ours.ask(&ask) };
            assert_eq!(found.origin(), expected, "{}: user-{key}; {}", way.name, envoy.config().display());
            *seen.entry(expected).or_default() += 1;
        }
        // A small ring may leave an endpoint without any of these keys.
        assert!(seen.len() >= NAMES.len() / 2, "{}: the keys are spread: {seen:?}", way.name);
    }
}

#[test]
fn requests_are_hashed_as_envoy_hashes_them() {
    let origins = NAMES.map(Origin::start);
    let header = |name: &str| json!({"header": {"header_name": name}});
    let query = json!({"query_parameter": {"name": "user"}});
    let cookie = json!({"cookie": {"name": "sid"}});
    let ip = json!({"connection_properties": {"source_ip": true}});
    let last = |mut policy: Value| {
        policy["terminal"] = json!(true);
        policy
    };
    let policies = [
        ("{header: x-user}", json!([header("x-user")])),
        ("{query: user}", json!([query])),
        ("{cookie: sid}", json!([cookie])),
        ("{sourceIp: true}", json!([ip])),
        ("[{header: x-user}, {query: user}, {cookie: sid}]", json!([header("x-user"), query, cookie])),
        ("[{sourceIp: true}, {header: x-user}]", json!([ip, header("x-user")])),
        (
            "[{header: x-user, terminal: true}, {query: user}, {header: x-user}]",
            json!([last(header("x-user")), query, header("x-user")]),
        ),
        ("[{query: user, terminal: true}, {sourceIp: true}]", json!([last(query.clone()), ip])),
    ];
    let ways: Vec<Way> = ways().into_iter().filter(|way| way.name == "maglev").collect();
    let Some((envoy, app)) = both(&ways, &policies, &origins) else { return };
    let (mut theirs, mut ours) = (Conn::open(envoy.listener("one")), app.conn());
    for (nth, (policy, _)) in policies.iter().enumerate() {
        for key in 0..60 {
            let path = format!("/maglev/{nth}");
            let full = Ask::get(&format!("{path}?a=b&user=q%20{key}&user=2"))
                .header("x-user", &format!("user-{key}"))
                .header("cookie", &format!("a=b; sid=\"c{key}\"; sid=d"));
            let bare = Ask::get(&format!("{path}?user={key}")).header("x-user", &format!("{key}"));
            let twice = full.clone().header("x-user", "b").header("x-user", &format!("a{key}"));
            for ask in [full, bare, twice] {
                let (expected, found) = (theirs.ask(&ask), ours.ask(&ask));
                // Without a hash chance decides, and no two can be compared.
                let hashes =
                    !policy.starts_with("{cookie") || ask.headers.iter().any(|(name, _)| name == "cookie");
                if hashes {
                    assert_eq!(found.origin(), expected.origin(), "{policy}: {ask:?}");
                }
            }
        }
    }
}

fn handed_out(reply: &Reply) -> Option<(String, String)> {
    let cookie = reply.header("set-cookie")?;
    let (name, rest) = cookie.split_once("=\"")?;
    let (value, rest) = rest.split_once('"')?;
    assert!(value.len() == 16 && value.bytes().all(|b| b.is_ascii_hexdigit()), "{cookie}");
    Some((format!("{name}={value}"), format!("{name}=\"{}\"{rest}", "0".repeat(16))))
}

#[test]
fn a_cookie_is_handed_out_in_envoys_form_and_keeps_its_endpoint() {
    let origins = NAMES.map(Origin::start);
    let policies = [
        ("{cookie: rc, ttl: 1h, path: /}", json!([{"cookie": {"name": "rc", "ttl": "3600s", "path": "/"}}])),
        ("{cookie: rc, ttl: 0s}", json!([{"cookie": {"name": "rc", "ttl": "0s"}}])),
        ("{cookie: rc}", json!([{"cookie": {"name": "rc"}}])),
    ];
    let ways: Vec<Way> = ways().into_iter().filter(|way| way.name == "ring").collect();
    let Some((envoy, app)) = both(&ways, &policies, &origins) else { return };
    for (nth, (policy, _)) in policies.iter().enumerate() {
        let ask = Ask::get(&format!("/ring/{nth}"));
        let theirs = handed_out(&once(envoy.listener("one"), &ask));
        for by_h2 in [false, true] {
            let reply = if by_h2 { H2::open(app.address()).ask(&ask) } else { once(app.address(), &ask) };
            let ours = handed_out(&reply);
            let form = |handed: &Option<(String, String)>| handed.as_ref().map(|(_, form)| form.clone());
            assert_eq!(form(&ours), form(&theirs), "{policy}");
            let Some((cookie, _)) = ours else { continue };
            for _ in 0..5 {
                let again = once(app.address(), &ask.clone().header("cookie", &cookie));
                assert_eq!((again.origin(), again.header("set-cookie")), (reply.origin(), None), "{policy}");
            }
        }
    }
}

#[test]
fn a_version_that_does_not_hash_hands_out_no_cookie() {
    let origin = Origin::start("one");
    let yaml = format!(
        "{}services:\n  web: {{primary: {}}}\nroutes:\n  - {{service: web, hash: {{cookie: rc, ttl: 1h}}}}\n",
        head(1),
        origin.address
    );
    let app = App::start(&yaml);
    assert_eq!(once(app.address(), &Ask::get("/")).header("set-cookie"), None);
    assert!(app.log().contains("no version balances by"), "{}", app.log());
}

/// One service with these endpoints of these weights.
fn weighted(balance: &str, origins: &[Origin], weights: &[u32]) -> String {
    let endpoints: Vec<String> = origins
        .iter()
        .zip(weights)
        .map(|(origin, weight)| format!("{{address: \"{}\", weight: {weight}}}", origin.address))
        .collect();
    format!("{}services:\n  web: {{balance: {balance}, primary: [{}]}}\n", head(2), endpoints.join(", "))
}

#[test]
fn endpoints_have_their_weights_in_every_algorithm() {
    let origins = ["one", "two", "three"].map(Origin::start);
    let weights = [1, 2, 5];
    for (balance, sigmas) in [("roundRobin", 1.0), ("leastRequest", 1.0), ("random", 6.0)] {
        let app = App::start(&weighted(balance, &origins, &weights));
        // One at a time: requests under way count against an endpoint of least request.
        let seen = tally(app.address(), 1, 2_000, &Ask::get("/"));
        for (origin, weight) in ["one", "two", "three"].iter().zip(weights) {
            let count = seen.get(*origin).copied().unwrap_or(0);
            let share = f64::from(weight) / 8.0;
            assert!(plausible(count, 2_000, share, sigmas), "{balance}: {origin} got {count}: {seen:?}");
        }
    }
}

#[test]
fn least_request_leaves_the_busy_one_alone() {
    let origins = ["idle", "busy"].map(Origin::start);
    origins[1].behave(|_| Answer::ok().after(Duration::from_secs(2)));
    let app = App::start(&weighted("{algorithm: leastRequest, choices: 12}", &origins, &[1, 1]));
    std::thread::scope(|scope| {
        // Until the busy one has one of them.
        while origins[1].requests() == 0 {
            scope.spawn(|| once(app.address(), &Ask::get("/")));
            std::thread::sleep(Duration::from_millis(2));
        }
        let (before, mut conn) = (origins[1].requests(), app.conn());
        for _ in 0..40 {
            conn.get("/");
        }
        // Chance draws the same one twelve times in a row once in 4096.
        assert!(origins[1].requests() <= before + 2, "the busy one got {}", origins[1].requests() - before);
    });
    assert!(origins[0].requests() >= 38);
}

#[test]
fn a_new_endpoint_gets_its_share_slowly() {
    let server = NameServer::start();
    let origins = Origin::twins(&["old", "new"]);
    server.say("web.test", Says::loopback(&[1], 0));
    let config = |window: &str| {
        format!(
            "{}dns: {{servers: [\"{}\"], refresh: 50ms}}\nservices:\n  web:\n    balance: {{slowStart: {{window: {window}}}}}\n    \
             primary: web.test:{}\n",
            head(1),
            server.address,
            origins[0].address.port()
        )
    };
    let app = App::start(&config("10m"));
    eventually("one is there", || app.metric("serin_endpoints", &[]) == 1.0);
    // The old one is new as well, but both count from when they came.
    let quick = App::start(&config("1s"));
    eventually("one is there", || quick.metric("serin_endpoints", &[]) == 1.0);
    server.say("web.test", Says::loopback(&[1, 2], 0));
    eventually("both are there", || app.metric("serin_endpoints", &[]) == 2.0);
    eventually("the quick one has both in full", || {
        let seen = tally(quick.address(), 2, 200, &Ask::get("/"));
        plausible(seen.get("new").copied().unwrap_or(0), 200, 0.5, 1.0)
    });
    assert_eq!(app.metric("serin_endpoint_changes_total", &[]), 2.0);
}

#[test]
fn a_reload_that_adds_an_endpoint_starts_it_slowly_and_the_others_not_again() {
    let origins = ["one", "two", "three"].map(Origin::start);
    let slow = "{slowStart: {window: 2s, minWeight: 1%}}";
    let app = App::start(&weighted(slow, &origins[..2], &[1, 1]));
    eventually("the first two are in full", || {
        let seen = tally(app.address(), 1, 100, &Ask::get("/"));
        plausible(seen.get("one").copied().unwrap_or(0), 100, 0.5, 0.5)
    });
    std::thread::sleep(Duration::from_secs(2));
    let slower = slow.replace("2s", "20s");
    assert_eq!(app.reload(&weighted(&slower, &origins[..2], &[1, 1])).status, 200);
    // Under the longer window both are young, and alike.
    let seen = tally(app.address(), 2, 200, &Ask::get("/"));
    assert!(plausible(seen.get("one").copied().unwrap_or(0), 200, 0.5, 2.0), "{seen:?}");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(app.reload(&weighted(&slower, &origins, &[1, 1, 1])).status, 200);
    let seen = tally(app.address(), 2, 600, &Ask::get("/"));
    let new = seen.get("three").copied().unwrap_or(0);
    assert!((0..150).contains(&new), "one that came this moment got {new} of 600: {seen:?}");
}

#[test]
fn higher_priorities_are_asked_only_where_lower_ones_have_nobody() {
    let server = NameServer::start();
    let origins = Origin::twins(&["first", "second"]);
    let port = origins[0].address.port();
    server.say("web.test", Says::loopback(&[1], 0));
    let app = App::start(&format!(
        "{}dns: {{servers: [\"{}\"], refresh: 50ms}}\nservices:\n  web:\n    primary:\n      - web.test:{port}\n      \
         - {{address: \"{}\", priority: 1}}\n",
        head(2),
        server.address,
        origins[1].address
    ));
    let only = |name: &str| {
        eventually(&format!("only {name} answers"), || {
            let seen = tally(app.address(), 2, 50, &Ask::get("/"));
            seen.get(name) == Some(&50)
        });
    };
    only("first");
    server.say("web.test", Says::NoSuchName);
    only("second");
    server.say("web.test", Says::loopback(&[1], 0));
    only("first");
}

#[test]
fn versions_choose_their_endpoints_by_label() {
    let origins = ["one", "two", "three"].map(Origin::start);
    let app = App::start(&format!(
        "{}services:\n  web:\n    endpoints:\n      - {{address: \"{}\", labels: {{version: v1}}}}\n      \
         - {{address: \"{}\", labels: {{version: v2, zone: a}}}}\n      \
         - {{address: \"{}\", labels: {{version: v2, zone: b}}}}\n    \
         versions:\n      v1: {{role: primary, labels: {{version: v1}}}}\n      \
         v2: {{role: canary, labels: {{version: v2}}}}\n      v2b: {{labels: {{version: v2, zone: b}}}}\n",
        head(2),
        origins[0].address,
        origins[1].address,
        origins[2].address
    ));
    let answered = |weights: &[(&str, f64)]| {
        app.put_weights("web", weights);
        tally(app.address(), 2, 100, &Ask::get("/")).into_keys().collect::<Vec<_>>()
    };
    assert_eq!(answered(&[("v1", 100.0)]), ["one"]);
    assert_eq!(answered(&[("v2", 100.0)]), ["three", "two"]);
    assert_eq!(answered(&[("v2b", 100.0)]), ["three"]);
}
