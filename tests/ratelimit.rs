//! The rate limit of a route: its bucket, its words, and that it outlives a
//! reload.

use crate::harness::app::head;
use crate::harness::ways::ways;
use crate::harness::{App, Ask, Origin};

fn yaml(origin: &Origin, routes: &str) -> String {
    format!("{}services:\n  web: {{primary: {}}}\nroutes:\n{routes}", head(2), origin.address)
}

#[test]
fn what_finds_no_token_is_refused_whatever_its_way() {
    let origin = Origin::start("a");
    let limit = "{requests: 1, per: 1h, burst: 2, tell: true}";
    let app = App::start(&yaml(&origin, &format!("  - {{service: web, rateLimit: {limit}}}\n")));
    let told = |reply: &crate::harness::client::Reply| {
        ["limit", "remaining"].map(|name| reply.header(&format!("x-ratelimit-{name}")).map(str::to_owned))
    };
    for left in ["1", "0"] {
        let reply = app.conn().get("/");
        assert_eq!((reply.status, told(&reply)), (200, [Some("2".into()), Some(left.into())]));
    }
    for (way, reply) in ways(&app, &Ask::get("/")) {
        assert_eq!((reply.status, reply.cause()), (429, "rate-limited"), "{way}");
        assert_eq!((reply.text().as_str(), told(&reply)[1].as_deref()), ("local_rate_limited", Some("0")));
        let wait: u64 = reply.header("x-ratelimit-reset").and_then(|wait| wait.parse().ok()).expect("a wait");
        assert!((3500..=3600).contains(&wait), "{wait} by {way}");
    }
    for (way, reply) in ways(&app, &Ask::post("/", "").header("content-type", "application/grpc")) {
        assert_eq!((reply.status, reply.header("grpc-status")), (200, Some("14")), "{way}");
    }
    assert_eq!(origin.requests(), 2);
    assert_eq!(app.metric("serin_rate_limited_requests_total", &[]), 6.0);
}

#[test]
fn a_bucket_outlives_a_reload_and_is_one_for_all_hosts() {
    let origin = Origin::start("a");
    let limited = "  - {name: limited, hosts: [one.example, two.example, \"*\"], service: web, rateLimit: {requests: 1, per: 1h, burst: 2}}\n";
    let app = App::start(&yaml(&origin, limited));
    assert_eq!(app.conn().ask(&Ask::get("/").host("one.example")).status, 200);
    assert_eq!(app.conn().ask(&Ask::get("/").host("two.example")).status, 200);
    assert_eq!(app.conn().ask(&Ask::get("/").host("one.example")).status, 429);
    let other = "  - {name: other, match: {prefix: /other}, service: web}\n";
    assert_eq!(app.reload(&yaml(&origin, &format!("{other}{limited}"))).status, 200);
    assert_eq!(app.conn().get("/other").status, 200);
    assert_eq!(app.conn().get("/").status, 429);
}

#[test]
fn a_limit_that_is_not_enforced_only_counts() {
    let origin = Origin::start("a");
    let app = App::start(&yaml(
        &origin,
        "  - {match: {prefix: /shadow}, service: web, rateLimit: {requests: 1, per: 1h, enforced: 0}}\n\
         \x20 - {match: {prefix: /free}, service: web, rateLimit: {requests: 1, per: 1h, percent: 0}}\n",
    ));
    for path in ["/shadow", "/free"] {
        let mut conn = app.conn();
        assert!((0..5).all(|_| conn.get(path).status == 200), "{path}");
    }
}
