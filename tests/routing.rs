//! Which requests a route takes: hosts, paths, methods, headers, query, cookies.
//! Direct answers name the route that matched, so no upstream is needed.

use crate::harness::app::{head, single};
use crate::harness::h2::H2;
use crate::harness::{App, Ask, Conn, Origin};

/// A route that answers with its own name.
fn route(name: &str, rest: &str) -> String {
    format!("  - {{name: {name}, {rest}, direct: {{status: 200, body: {name}}}}}\n")
}

fn app(routes: &[(&str, &str)]) -> App {
    let routes: String = routes.iter().map(|(name, rest)| route(name, rest)).collect();
    App::start(&format!("{}routes:\n{routes}", head(1)))
}

/// Name of the route that took the request, or `404`.
fn taken(conn: &mut Conn, ask: &Ask) -> String {
    let reply = conn.ask(ask);
    match reply.status {
        200 => reply.text(),
        404 => {
            assert_eq!(reply.cause(), "no-route");
            "404".into()
        }
        other => panic!("status {other} for {} {}", ask.method, ask.path),
    }
}

fn expect(app: &App, cases: &[(Ask, &str)]) {
    let mut conn = app.conn();
    for (ask, name) in cases {
        assert_eq!(
            taken(&mut conn, ask),
            *name,
            "{} {} of {} {:?}",
            ask.method,
            ask.path,
            ask.host,
            ask.headers
        );
    }
}

#[test]
fn paths_match_by_exact_prefix_and_whole_regex() {
    let app = app(&[
        ("exact", "match: [{exact: /a}]"),
        ("prefix", "match: [{prefix: /v1}]"),
        ("regex", "match: [{regex: \"/item/[0-9]+\"}]"),
    ]);
    expect(
        &app,
        &[
            (Ask::get("/a"), "exact"),
            (Ask::get("/a?x=1"), "exact"),
            (Ask::get("/a/"), "404"),
            (Ask::get("/A"), "404"),
            (Ask::get("/v1"), "prefix"),
            (Ask::get("/v1/x/y"), "prefix"),
            (Ask::get("/v12"), "prefix"),
            (Ask::get("/v"), "404"),
            (Ask::get("/item/42"), "regex"),
            (Ask::get("/item/42?n=x"), "regex"),
            (Ask::get("/item/42x"), "404"),
            (Ask::get("/x/item/42"), "404"),
        ],
    );
}

#[test]
fn the_first_route_in_file_order_wins_whatever_its_hosts() {
    let app = app(&[
        ("everyone", "match: [{prefix: /shared}]"),
        ("exact", "hosts: [api.example.com]"),
        ("wild", "hosts: [\"*.example.com\"]"),
        ("late", "hosts: [api.example.com], match: [{prefix: /never}]"),
        ("rest", "match: [{prefix: /}]"),
    ]);
    expect(
        &app,
        &[
            (Ask::get("/shared").host("api.example.com"), "everyone"),
            (Ask::get("/shared").host("other.org"), "everyone"),
            (Ask::get("/never").host("api.example.com"), "exact"),
            (Ask::get("/").host("API.Example.COM"), "exact"),
            (Ask::get("/").host("api.example.com:8080"), "exact"),
            (Ask::get("/").host("b.example.com"), "wild"),
            (Ask::get("/").host("a.b.example.com"), "wild"),
            (Ask::get("/").host("example.com"), "rest"),
            (Ask::get("/").host("example.com.evil.org"), "rest"),
            (Ask::get("/").host("notexample.com"), "rest"),
        ],
    );
}

#[test]
fn methods_headers_and_their_inversions_match() {
    let app = app(&[
        ("post", "match: [{prefix: /m, method: POST}]"),
        ("exact", "match: [{prefix: /h, headers: [{name: x-a, exact: one}]}]"),
        ("prefix", "match: [{prefix: /h, headers: [{name: x-a, prefix: pre}]}]"),
        ("suffix", "match: [{prefix: /h, headers: [{name: X-A, suffix: end}]}]"),
        ("regex", "match: [{prefix: /h, headers: [{name: x-a, regex: \"[0-9]{3}\"}]}]"),
        ("both", "match: [{prefix: /h, headers: [{name: x-b, present: true}, {name: x-c, exact: c}]}]"),
        ("not-one", "match: [{prefix: /i, headers: [{name: x-a, exact: one, invert: true}]}]"),
        ("absent", "match: [{prefix: /i, headers: [{name: x-a, present: true, invert: true}]}]"),
    ]);
    expect(
        &app,
        &[
            (Ask::post("/m", "x"), "post"),
            (Ask::get("/m"), "404"),
            (Ask::get("/h").header("x-a", "one"), "exact"),
            (Ask::get("/h").header("X-A", "one"), "exact"),
            (Ask::get("/h").header("x-a", "One"), "404"),
            (Ask::get("/h").header("x-a", "prefer"), "prefix"),
            (Ask::get("/h").header("x-a", "the end"), "suffix"),
            (Ask::get("/h").header("x-a", "123"), "regex"),
            (Ask::get("/h").header("x-a", "1234"), "404"),
            (Ask::get("/h").header("x-b", "").header("x-c", "c"), "both"),
            (Ask::get("/h").header("x-b", "1"), "404"),
            (Ask::get("/i").header("x-a", "two"), "not-one"),
            (Ask::get("/i").header("x-a", "one"), "404"),
            // A missing field fails a value match both ways; only `present` sees absence.
            (Ask::get("/i"), "absent"),
        ],
    );
}

#[test]
fn query_parameters_and_cookies_match() {
    let app = app(&[
        ("q-exact", "match: [{prefix: /q, query: [{name: a, exact: \"1\"}]}]"),
        ("q-present", "match: [{prefix: /q, query: [{name: b, present: true}]}]"),
        ("q-regex", "match: [{prefix: /q, query: [{name: c, regex: \"x+\"}]}]"),
        ("c-exact", "match: [{prefix: /c, cookies: [{name: sid, exact: abc}]}]"),
        ("c-prefix", "match: [{prefix: /c, cookies: [{name: tier, prefix: gold}]}]"),
        ("c-other", "match: [{prefix: /c, cookies: [{name: c, regex: \"a.*\", invert: true}]}]"),
    ]);
    expect(
        &app,
        &[
            (Ask::get("/q?a=1"), "q-exact"),
            (Ask::get("/q?z=9&a=1&y"), "q-exact"),
            (Ask::get("/q?a=12"), "404"),
            (Ask::get("/q?aa=1"), "404"),
            (Ask::get("/q?b"), "q-present"),
            (Ask::get("/q?b="), "q-present"),
            (Ask::get("/q?c=xxx"), "q-regex"),
            (Ask::get("/q?c=xxy"), "404"),
            (Ask::get("/c").header("cookie", "sid=abc"), "c-exact"),
            (Ask::get("/c").header("cookie", "x=1; sid=abc; y=2"), "c-exact"),
            (Ask::get("/c").header("cookie", "x=1").header("cookie", "sid=abc"), "c-exact"),
            (Ask::get("/c").header("cookie", "xsid=abc"), "404"),
            (Ask::get("/c").header("cookie", "tier=golden"), "c-prefix"),
            (Ask::get("/c").header("cookie", "c=beta"), "c-other"),
            (Ask::get("/c").header("cookie", "c=alpha"), "404"),
            (Ask::get("/c"), "404"),
        ],
    );
}

#[test]
fn segments_case_numbers_and_grpc_match() {
    let app = app(&[
        ("grpc", "match: [{prefix: /g, grpc: true}]"),
        ("segments", "match: [{segments: /api}]"),
        ("case", "match: [{segments: /Case, ignoreCase: true}, {exact: /One, ignoreCase: true}]"),
        ("range", "match: [{prefix: /n, headers: [{name: x-n, range: {from: -1, to: 10}}]}]"),
        ("part", "match: [{prefix: /n, headers: [{name: x-a, contains: AbC, ignoreCase: true}]}]"),
        (
            "empty",
            "match: [{prefix: /n, headers: [{name: x-b, exact: \"1\", invert: true, missingAsEmpty: true}]}]",
        ),
    ]);
    let grpc = |content_type: &str| Ask::post("/g", "").header("content-type", content_type);
    expect(
        &app,
        &[
            // An answer to a gRPC client has no body to say its route in.
            (grpc("application/grpc"), ""),
            (grpc("application/grpc+proto"), ""),
            (grpc("application/grpc-web"), "404"),
            (Ask::get("/g"), "404"),
            (Ask::get("/api"), "segments"),
            (Ask::get("/api/?x"), "segments"),
            (Ask::get("/apis"), "404"),
            (Ask::get("/API"), "404"),
            (Ask::get("/cASE/x"), "case"),
            (Ask::get("/caser"), "404"),
            (Ask::get("/ONE"), "case"),
            (Ask::get("/n").header("x-n", "-1"), "range"),
            (Ask::get("/n").header("x-n", "10").header("x-b", "1"), "404"),
            (Ask::get("/n").header("x-a", "xaBcx"), "part"),
            (Ask::get("/n"), "empty"),
        ],
    );
}

#[test]
fn a_share_of_what_fits_is_taken() {
    let app = app(&[
        ("never", "match: [{prefix: /, percent: 0}]"),
        ("some", "match: [{prefix: /, percent: 30}]"),
        ("rest", "match: [{prefix: /}]"),
    ]);
    let mut conn = app.conn();
    let some = (0..2000).filter(|_| taken(&mut conn, &Ask::get("/")) == "some").count() as u64;
    assert!(crate::harness::plausible(some, 2000, 0.3, 5.0), "{some} of 2000");
}

#[test]
fn any_match_suffices_and_all_its_parts_must_hold() {
    let app = app(&[(
        "api",
        "match: [{prefix: /v1, method: GET, headers: [{name: x-a, exact: b}]}, {exact: /health}]",
    )]);
    expect(
        &app,
        &[
            (Ask::get("/health"), "api"),
            (Ask::get("/v1/x").header("x-a", "b"), "api"),
            (Ask::get("/v1/x"), "404"),
            (Ask::post("/v1/x", "").header("x-a", "b"), "404"),
            (Ask::get("/v2").header("x-a", "b"), "404"),
        ],
    );
}

#[test]
fn routes_match_alike_over_http2_and_in_absolute_form() {
    let app =
        app(&[("api", "hosts: [api.example.com], match: [{prefix: /v1}]"), ("rest", "match: [{prefix: /}]")]);
    let mut h2 = H2::open(app.address());
    assert_eq!(h2.ask(&Ask::get("/v1/x").host("api.example.com")).text(), "api");
    assert_eq!(h2.ask(&Ask::get("/v1/x").host("other.example.com")).text(), "rest");
    let mut conn = app.conn();
    conn.write(b"GET http://api.example.com/v1/y HTTP/1.1\r\nhost: api.example.com\r\n\r\n");
    assert_eq!(conn.read_reply("GET").expect("an answer").text(), "api");
}

#[test]
fn direct_answers_carry_their_status_and_are_counted_as_unrouted() {
    let app = App::start(&format!(
        "{}routes:\n  - {{name: gone, match: [{{prefix: /gone}}], direct: {{status: 410, body: \"no more\"}}}}\n",
        head(1)
    ));
    let mut conn = app.conn();
    let reply = conn.get("/gone/x");
    assert_eq!((reply.status, reply.text().as_str()), (410, "no more"));
    assert_eq!(conn.get("/elsewhere").status, 404);
    crate::harness::eventually("both are counted", || {
        app.metric("serin_unrouted_requests_total", &[]) == 2.0
    });
}

#[test]
fn without_routes_every_request_goes_to_the_only_service() {
    let origin = Origin::start("only");
    let app = App::start(&single(origin.address));
    let mut conn = app.conn();
    for ask in [Ask::get("/"), Ask::get("/any/path").host("any.host"), Ask::new("DELETE", "/x")] {
        assert_eq!(conn.ask(&ask).origin(), "only");
    }
    assert_eq!(origin.seen()[1].path, "/any/path");
    assert_eq!(origin.seen()[1].header("host"), Some("any.host"));
}

#[test]
fn two_listeners_are_announced_by_name_and_both_serve() {
    let origin = Origin::start("only");
    let app = App::start(&format!(
        "listeners:\n  - {{name: one, address: \"127.0.0.1:0\"}}\n  - {{name: two, address: \"127.0.0.1:0\"}}\n\
         admin: 127.0.0.1:0\nservices:\n  web:\n    primary: {}\n",
        origin.address
    ));
    for name in ["one", "two"] {
        assert_eq!(Conn::open(app.listener(name)).get("/").origin(), "only");
    }
}
