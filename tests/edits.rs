//! What routes and versions change in heads: fields, paths, hosts; by every way
//! through the proxy alike.

use crate::harness::app::head;
use crate::harness::ways::{echoed, values, ways};
use crate::harness::{Answer, App, Ask, Origin};

fn app(origin: &Origin, routes: &str) -> App {
    app_with(origin, routes, "")
}

/// `rest` is the document's.
fn app_with(origin: &Origin, routes: &str, rest: &str) -> App {
    let service = format!("services:\n  web: {{primary: {}}}\n", origin.address);
    App::start(&format!("{}{service}routes:\n{routes}{rest}", head(1)))
}

fn echo() -> Origin {
    Origin::answering("a", |_| Answer::echo().header("x-up", "1").header("x-up", "2"))
}

#[test]
fn paths_are_rewritten_and_the_query_stays() {
    let origin = echo();
    let app = app(
        &origin,
        "  - {match: {prefix: /old/}, service: web, rewrite: {prefix: /new/}}\n\
         \x20 - {match: {segments: /seg}, service: web, rewrite: {prefix: /}}\n\
         \x20 - {match: {exact: /exact}, service: web, rewrite: {prefix: /z}}\n\
         \x20 - {match: {prefix: /full}, service: web, rewrite: {path: /all/of/it}}\n\
         \x20 - {match: {regex: \"/re/.*\"}, service: web, rewrite: {regex: {pattern: \"^/re/([a-z]+)/(.*)$\", substitution: '/\\2/\\1'}}}\n\
         \x20 - {match: {prefix: /CASE, ignoreCase: true}, service: web, rewrite: {prefix: /case}}\n\
         \x20 - {service: web}\n",
    );
    for (asked, expected) in [
        ("/old/a?q=/old/", "/new/a?q=/old/"),
        ("/seg/a", "/a"),
        ("/seg", "/"),
        ("/seg?x", "/?x"),
        ("/exact?q", "/z?q"),
        ("/full/x?q", "/all/of/it?q"),
        ("/re/abc/d%20e?re", "/d%20e/abc?re"),
        ("/cAsE/x", "/case/x"),
    ] {
        for (way, reply) in ways(&app, &Ask::get(asked)) {
            assert_eq!(reply.json()["path"], expected, "{asked} by {way}");
            assert_eq!(echoed(&reply, "x-envoy-original-path"), [asked], "{asked} by {way}");
        }
    }
    for (way, reply) in ways(&app, &Ask::get("/same?x")) {
        assert_eq!(reply.json()["path"], "/same?x", "{way}");
        assert!(echoed(&reply, "x-envoy-original-path").is_empty(), "{way}");
    }
}

#[test]
fn hosts_are_rewritten_and_the_old_one_is_told() {
    let origin = echo();
    let app = app(
        &origin,
        "  - {match: {prefix: /literal}, service: web, rewrite: {host: \"other.example:81\"}}\n\
         \x20 - {match: {prefix: /append}, service: web, rewrite: {host: other.example, appendForwardedHost: true}}\n\
         \x20 - {match: {prefix: /header}, service: web, rewrite: {hostFromHeader: x-host}}\n\
         \x20 - {match: {prefix: /from/}, service: web, rewrite: {hostFromPath: {pattern: \"^/from/([^/]+).*$\", substitution: '\\1'}, prefix: /gone/}}\n",
    );
    for (ask, host, original) in [
        (Ask::get("/literal"), "other.example:81", &["test.example"][..]),
        (Ask::get("/header").header("x-host", "named.example"), "named.example", &["test.example"]),
        (Ask::get("/header").header("x-host", "no host/"), "test.example", &[]),
        (Ask::get("/header"), "test.example", &[]),
        (Ask::get("/from/path.example/x"), "path.example", &["test.example"]),
    ] {
        for (way, reply) in ways(&app, &ask) {
            assert_eq!(reply.json()["authority"], host, "{} by {way}", ask.path);
            assert_eq!(echoed(&reply, "x-envoy-original-host"), original, "{} by {way}", ask.path);
        }
    }
    // A client at the edge is not believed; who is further in, is.
    let append = Ask::get("/append").header("x-forwarded-host", "first");
    for (way, reply) in ways(&app, &append) {
        assert_eq!(echoed(&reply, "x-forwarded-host"), ["test.example"], "{way}");
    }
    let inside = App::start(&format!(
        "listeners: [{{name: in, address: \"127.0.0.1:0\", forwarded: {{edge: false}}}}]\nadmin: 127.0.0.1:0\n\
         services:\n  web: {{primary: {}}}\nroutes:\n\
         \x20 - {{service: web, rewrite: {{host: other.example, appendForwardedHost: true}}}}\n",
        origin.address
    ));
    for (way, reply) in ways(&inside, &append) {
        assert_eq!(echoed(&reply, "x-forwarded-host"), ["first,test.example"], "{way}");
    }
}

#[test]
fn an_endpoints_own_name_can_be_the_host_and_its_address_be_told() {
    let origin = echo();
    let told = "responseHeaders: {set: {x-host: \"%UPSTREAM_HOST%\"}}";
    let app = App::start(&format!(
        "{}services:\n  named: {{primary: {{endpoints: [{{address: \"{}\", hostname: one.internal}}]}}}}\n  \
         plain: {{primary: {}}}\nroutes:\n\
         \x20 - {{match: {{prefix: /named}}, service: named, rewrite: {{hostFromEndpoint: true}}, {told}}}\n\
         \x20 - {{match: {{prefix: /plain}}, service: plain, rewrite: {{hostFromEndpoint: true}}, {told}}}\n\
         \x20 - {{service: plain, {told}}}\n",
        head(1),
        origin.address,
        origin.address
    ));
    let address = origin.address.to_string();
    for (path, host, original) in [
        ("/named", "one.internal", &["test.example"][..]),
        ("/plain", "test.example", &[]),
        ("/", "test.example", &[]),
    ] {
        for (way, reply) in ways(&app, &Ask::get(path)) {
            assert_eq!(reply.json()["authority"], host, "{path} by {way}");
            assert_eq!(echoed(&reply, "x-envoy-original-host"), original, "{path} by {way}");
            assert_eq!(values(&reply, "x-host"), [address.as_str()], "{path} by {way}");
        }
    }
}

#[test]
fn header_edits_are_made_from_the_version_outwards() {
    let origin = echo();
    let yaml = format!(
        "{}services:\n  web:\n    primary:\n      endpoints: {}\n      \
         requestHeaders: {{append: {{x-order: version}}, set: {{x-last: version}}}}\n      \
         responseHeaders: {{append: {{x-order: version}}}}\n\
         routes:\n  - name: named\n    service: web\n    \
         requestHeaders:\n      remove: [x-gone, x-in-*]\n      append: {{x-order: [route, again]}}\n      \
         set: {{x-last: route, x-line: \"%REQ(x-old)%|%REQ(x-none?x-old):2%|%ROUTE_NAME%|%UPSTREAM_CLUSTER%|%REQ(:path)%|100%%\"}}\n      \
         setIfAbsent: {{x-old: never, x-fresh: \"yes\"}}\n      setIfPresent: {{x-absent: never, x-old: new}}\n    \
         responseHeaders:\n      remove: x-up\n      append: {{x-order: route}}\n      \
         set: {{x-seen: \"%REQ(x-old)%|%RESPONSE_CODE%|%RESP(x-kept)%|%RESP(x-up)%|%UPSTREAM_CLUSTER%\", x-none: \"%REQ(x-none)%\"}}\n\
         requestHeaders: {{append: {{x-order: all}}, set: {{x-last: all}}}}\n\
         responseHeaders: {{append: {{x-order: all}}}}\n",
        head(1),
        origin.address
    );
    let app = App::start(&yaml);
    origin.behave(|_| Answer::echo().header("x-up", "1").header("x-up", "2").header("x-kept", "k"));
    let ask = Ask::get("/a?b").header("x-old", "older").header("x-gone", "1").header("X-In-Side", "1");
    for (way, reply) in ways(&app, &ask) {
        let sent = |name: &str| echoed(&reply, name);
        assert_eq!(sent("x-order"), ["version", "route", "again", "all"], "{way}");
        assert_eq!(sent("x-last"), ["all"], "{way}");
        assert_eq!(sent("x-line"), ["older|ol|named|web/primary|/a?b|100%"], "{way}");
        assert_eq!((sent("x-old"), sent("x-fresh")), (vec!["new".into()], vec!["yes".into()]), "{way}");
        for gone in ["x-gone", "x-in-side", "x-absent"] {
            assert!(sent(gone).is_empty(), "{gone} by {way}");
        }
        assert_eq!(values(&reply, "x-order"), ["version", "route", "all"], "{way}");
        assert_eq!(values(&reply, "x-seen"), ["new|200|k||web/primary"], "{way}");
        assert!(values(&reply, "x-up").is_empty() && values(&reply, "x-none").is_empty(), "{way}");
    }
}

#[test]
fn bodies_and_kept_connections_survive_edits() {
    let origin = echo();
    let edits =
        "rewrite: {prefix: /x}, requestHeaders: {set: {x-a: \"1\"}}, responseHeaders: {set: {x-b: \"2\"}}";
    let app = app(&origin, &format!("  - {{match: {{prefix: /p}}, service: web, {edits}}}\n"));
    let mut conn = app.conn();
    for round in 0..3 {
        let body = "b".repeat(100_000 * round);
        let reply = conn.ask(&Ask::post("/p/q", body.clone()));
        assert_eq!(reply.json()["length"], body.len(), "round {round}");
        assert_eq!((reply.json()["path"].as_str(), reply.header("x-b")), (Some("/x/q"), Some("2")));
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn the_primary_in_a_failed_canarys_place_gets_its_own_edits() {
    let (primary, canary) = (echo(), Origin::answering("b", |_| Answer::status(500)));
    let version = |origin: &Origin, name: &str| {
        format!(
            "{{endpoints: {}, requestHeaders: {{append: {{x-version: {name}}}}}, responseHeaders: {{append: {{x-by: \"%UPSTREAM_CLUSTER%\"}}}}}}",
            origin.address
        )
    };
    let app = App::start(&format!(
        "{}services:\n  web:\n    primary: {}\n    canary: {}\n    weights: {{canary: 100}}\n    shield: true\n\
         routes:\n  - {{service: web, requestHeaders: {{append: {{x-route: r}}}}}}\n",
        head(1),
        version(&primary, "primary"),
        version(&canary, "canary")
    ));
    for (way, reply) in ways(&app, &Ask::get("/")) {
        assert_eq!(reply.status, 200, "{way}");
        assert_eq!(echoed(&reply, "x-version"), ["primary"], "{way}");
        assert_eq!(echoed(&reply, "x-route"), ["r"], "{way}");
        assert_eq!(values(&reply, "x-by"), ["web/primary"], "{way}");
    }
    assert!(canary.seen().iter().all(|seen| seen.header("x-version") == Some("canary")));
}

#[test]
fn answers_of_our_own_are_edited_too() {
    let closed = crate::harness::raw::closed();
    let app = App::start(&format!(
        "{}services:\n  web: {{primary: {}}}\nroutes:\n\
         \x20 - {{name: direct, match: {{prefix: /direct}}, direct: {{status: 200, body: <p>}}, responseHeaders: {{set: {{content-type: text/html, x-asked: \"%REQ(x-a)%\"}}}}}}\n\
         \x20 - {{match: {{prefix: /dead}}, service: web}}\n\
         responseHeaders: {{set: {{x-all: \"%REQ(x-a)%\"}}}}\n",
        head(1),
        closed.address
    ));
    for (way, reply) in ways(&app, &Ask::get("/direct").header("x-a", "1")) {
        assert_eq!((reply.status, reply.text().as_str()), (200, "<p>"), "{way}");
        assert_eq!(values(&reply, "content-type"), ["text/html"], "{way}");
        assert_eq!((values(&reply, "x-asked"), values(&reply, "x-all")), (vec!["1"], vec!["1"]), "{way}");
    }
    for (way, reply) in ways(&app, &Ask::get("/dead").header("x-a", "1")) {
        assert_eq!((reply.status, reply.cause()), (503, "connect-failure"), "{way}");
        assert_eq!(values(&reply, "content-type"), ["text/plain"], "{way}");
        assert_eq!(values(&reply, "x-all"), ["1"], "{way}");
    }
    for (way, reply) in ways(&app, &Ask::get("/nowhere")) {
        assert_eq!((reply.status, reply.cause()), (404, "no-route"), "{way}");
    }
}

#[test]
fn grpc_clients_get_grpc_answers() {
    let closed = crate::harness::raw::closed();
    let app = App::start(&format!(
        "{}services:\n  web: {{primary: {}}}\nroutes:\n\
         \x20 - {{match: {{prefix: /direct}}, direct: {{status: 503, body: \"50% off\"}}}}\n\
         \x20 - {{match: {{prefix: /moved}}, redirect: {{scheme: https}}}}\n\
         \x20 - {{match: {{prefix: /dead}}, service: web}}\n",
        head(1),
        closed.address
    ));
    for (path, code, message) in [
        ("/direct", "14", Some("50%25 off")),
        ("/moved", "2", None),
        ("/dead", "14", Some("connect-failure")),
        ("/nowhere", "12", Some("no-route")),
    ] {
        let ask = Ask::post(path, "").header("content-type", "application/grpc+proto");
        for (way, reply) in ways(&app, &ask) {
            assert_eq!((reply.status, reply.text().as_str()), (200, ""), "{path} by {way}");
            assert_eq!(reply.header("content-type"), Some("application/grpc"), "{path} by {way}");
            assert_eq!(reply.header("grpc-status"), Some(code), "{path} by {way}");
            assert_eq!(reply.header("grpc-message"), message, "{path} by {way}");
        }
        let plain = Ask::get(path).header("content-type", "application/json");
        assert!(ways(&app, &plain).iter().all(|(_, reply)| reply.status != 200), "{path}");
    }
}

#[test]
fn what_we_hand_out_and_the_date_are_not_taken_off() {
    let origin = echo();
    let app = App::start(&format!(
        "{}services:\n  web: {{primary: {}, sticky: {{issue: sid}}}}\nroutes:\n  - {{service: web, responseHeaders: {{remove: [set-cookie, date]}}}}\n",
        head(1),
        origin.address
    ));
    origin.behave(|_| Answer::echo().header("set-cookie", "theirs=1").header("date", "long ago"));
    for (way, reply) in ways(&app, &Ask::get("/")) {
        let [cookie] = values(&reply, "set-cookie")[..] else { panic!("one cookie by {way}: {reply:?}") };
        assert!(cookie.starts_with("sid="), "{cookie} by {way}");
        let [date] = values(&reply, "date")[..] else { panic!("one date by {way}: {reply:?}") };
        assert!(date.ends_with("GMT"), "{date} by {way}");
    }
}

#[test]
fn the_environment_adds_no_line_to_a_head() {
    let origin = echo();
    let yaml = format!(
        "{}services:\n  web: {{primary: {}}}\nroutes:\n  - {{name: r, service: web, requestHeaders: {{set: {{x-a: \"%ENVIRONMENT(TOLD)%\"}}}}}}\n",
        head(1),
        origin.address
    );
    let started = |told: &str| {
        App::try_start_by(&yaml, |_| {
            let mut command = std::process::Command::new(crate::harness::app::SERIN);
            command.env("TOLD", told);
            command
        })
    };
    let app = started("one line").expect("a value");
    assert!(ways(&app, &Ask::get("/")).iter().all(|(_, reply)| echoed(reply, "x-a") == ["one line"]));
    let said = started("one\nx-b: 2").err().expect("no value");
    assert!(said.contains("TOLD holds control characters"), "{said}");
}

#[test]
fn edits_that_make_no_sense_are_refused_with_their_place() {
    let origin = echo();
    let app = app(&origin, "  - {service: web}\n");
    for (edit, told) in [
        ("requestHeaders: {set: {host: x}}", "host cannot be edited"),
        ("requestHeaders: {set: {x-a: \"%NOPE%\"}}", "%NOPE% is no operator"),
        ("requestHeaders: {set: {x-a: \"100%\"}}", "a percent sign is `%%`"),
        ("requestHeaders: {set: {x-a: \"%DYNAMIC_METADATA(a:b)%\"}}", "is not supported"),
        ("responseHeaders: {remove: [transfer-encoding]}", "transfer-encoding cannot be edited"),
        ("rewrite: {regex: {pattern: a, substitution: '\\1'}}", "the pattern has 0 groups"),
    ] {
        let yaml = format!(
            "{}services:\n  web: {{primary: {}}}\nroutes:\n  - {{name: bad, service: web, {edit}}}\n",
            head(1),
            origin.address
        );
        let reply = app.reload(&yaml);
        assert_ne!(reply.status, 200, "{edit}");
        assert!(reply.text().contains(told) && reply.text().contains("bad"), "{edit}: {}", reply.text());
    }
}
