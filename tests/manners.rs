//! What a listener does to all of its requests and answers: paths, `server`, a
//! rate limit; and an answer of our own that stands in a file.

use crate::harness::h2::H2;
use crate::harness::{Answer, App, Ask, Origin, eventually};

fn listening(origin: &Origin, listener: &str, more: &str) -> String {
    format!(
        "admin: 127.0.0.1:0\nworkers: 1\nlisteners:\n  - name: one\n    address: \"127.0.0.1:0\"\n{listener}\
         services:\n  web:\n    primary: {}\n{more}",
        origin.address
    )
}

const ROUTES: &str = "routes:\n  - {match: {prefix: /private}, direct: {status: 403}}\n  - {service: web}\n";

/// Whatever drives the client's connection: our own codec, hyper, or HTTP/2.
fn each_way(app: &App, ask: &Ask) -> [crate::harness::client::Reply; 3] {
    [
        app.conn().ask(ask),
        app.conn().ask(&ask.clone().header("te", "trailers")),
        H2::open(app.address()).ask(ask),
    ]
}

#[test]
fn paths_are_made_normal_before_they_are_routed() {
    let origin = Origin::answering("a", |_| Answer::echo());
    let paths = "    paths: {normalize: true, mergeSlashes: true, escapedSlashes: unescape}\n";
    let app = App::start(&listening(&origin, paths, ROUTES));
    let off = App::start(&listening(&origin, "", ROUTES));
    for (path, normal) in
        [("/a/./b//c?x=//", "/a/b/c?x=//"), ("/%61", "/a"), ("/a%2Fb", "/a/b"), ("/a/b", "/a/b")]
    {
        for reply in each_way(&app, &Ask::get(path)) {
            assert_eq!(reply.json()["path"], normal, "{path}");
        }
        for reply in each_way(&off, &Ask::get(path)) {
            assert_eq!(reply.json()["path"], path, "{path} stays by default");
        }
    }
    for path in ["/a/../private", "//private/x", "/x/%2e%2e/private", "/%70rivate", "/a%2f..%2fprivate"] {
        for reply in each_way(&app, &Ask::get(path)) {
            assert_eq!(reply.status, 403, "{path}");
        }
    }
    for reply in each_way(&app, &Ask::get("/a%00b")) {
        assert_eq!((reply.status, reply.cause()), (400, "bad-request"));
    }
    // Our own codec goes on where there is nothing to do.
    let mut conn = app.conn();
    assert_eq!((conn.get("/a").status, conn.get("/b/../c").json()["path"].as_str()), (200, Some("/c")));
    assert_eq!(conn.get("/d").json()["path"], "/d");
}

#[test]
fn escaped_slashes_are_refused_or_sent_elsewhere() {
    let origin = Origin::answering("a", |_| Answer::echo());
    let app = App::start(&listening(&origin, "    paths: {escapedSlashes: reject}\n", ""));
    for reply in each_way(&app, &Ask::get("/a%2Fb")) {
        assert_eq!((reply.status, reply.cause()), (400, "bad-request"));
    }
    let app = App::start(&listening(&origin, "    paths: {escapedSlashes: redirect}\n", ""));
    for reply in each_way(&app, &Ask::get("/a%2Fb?x=%2F")) {
        assert_eq!((reply.status, reply.header("location")), (307, Some("/a/b?x=%2F")));
    }
    for reply in each_way(&app, &Ask::get("/%2Fevil.example/")) {
        assert_eq!(reply.header("location"), Some("/evil.example/"), "never another host");
    }
    assert_eq!(origin.requests(), 0);
}

#[test]
fn the_server_field_passes_is_filled_in_or_overwritten() {
    let origin = Origin::answering("a", |seen| match seen.path.as_str() {
        "/named" => Answer::ok().header("server", "origin/1"),
        _ => Answer::ok(),
    });
    for (policy, named, unnamed) in [
        ("", Some("origin/1"), None),
        ("    server: {policy: passThrough}\n", Some("origin/1"), None),
        ("    server: {policy: appendIfAbsent, name: edge}\n", Some("origin/1"), Some("edge")),
        ("    server: {policy: overwrite}\n", Some("serin"), Some("serin")),
    ] {
        let app = App::start(&listening(&origin, policy, ROUTES));
        for (path, status, expected) in
            [("/named", 200, named), ("/x", 200, unnamed), ("/private", 403, unnamed)]
        {
            for reply in each_way(&app, &Ask::get(path)) {
                let servers: Vec<_> = reply.headers.iter().filter(|(name, _)| name == "server").collect();
                assert!(servers.len() <= 1, "{policy:?} {path}: {servers:?}");
                assert_eq!((reply.status, reply.header("server")), (status, expected), "{policy:?} {path}");
            }
        }
    }
    let (app, closed) = {
        let gone = Origin::start("gone");
        let app = App::start(&listening(&gone, "    server: {policy: overwrite}\n", ""));
        (app, gone)
    };
    drop(closed);
    for reply in each_way(&app, &Ask::get("/")) {
        assert_eq!((reply.status, reply.header("server")), (503, Some("serin")));
    }
}

#[test]
fn a_listeners_limit_is_over_all_its_routes_and_lives_through_a_reload() {
    let origin = Origin::start("a");
    let limit = "    rateLimit: {requests: 4, per: 1h, tell: true}\n";
    let yaml = listening(&origin, limit, ROUTES);
    let app = App::start(&yaml);
    let mut conn = app.conn();
    let replies = [conn.get("/"), conn.get("/private"), H2::open(app.address()).ask(&Ask::get("/"))];
    assert_eq!(replies.each_ref().map(|reply| reply.status), [200, 403, 200]);
    let left = replies.each_ref().map(|reply| reply.header("x-ratelimit-remaining").map(str::to_owned));
    assert_eq!(left, ["3", "2", "1"].map(|left| Some(left.to_owned())));
    assert_eq!(app.reload(&(yaml + "  # a change\n")).status, 200);
    assert_eq!(app.conn().get("/").status, 200);
    for _ in 0..2 {
        let reply = app.conn().get("/");
        assert_eq!(
            (reply.status, reply.text().as_str(), reply.cause()),
            (429, "local_rate_limited", "rate-limited")
        );
    }
    assert_eq!(app.metric("serin_rate_limited_requests_total", &[]), 2.0);
    assert_eq!(origin.requests(), 3);
}

#[test]
fn an_answer_of_our_own_comes_from_a_file_and_follows_it() {
    let origin = Origin::start("a");
    let routes = "routes:\n  - {match: {prefix: /page}, direct: {status: 200, bodyFile: page.html}, responseHeaders: \
                  {set: {content-type: text/html}}}\n  - {service: web}\n";
    let yaml = listening(&origin, "", routes);
    let app = App::start_by(&yaml, |folder| {
        std::fs::write(folder.join("page.html"), "<p>one</p>").expect("the folder is ours");
        std::process::Command::new(crate::harness::app::SERIN)
    });
    for reply in each_way(&app, &Ask::get("/page")) {
        assert_eq!((reply.status, reply.text().as_str()), (200, "<p>one</p>"));
        assert_eq!(reply.header("content-type"), Some("text/html"));
    }
    let replace = |text: &str| {
        std::fs::write(app.folder().join("new"), text).expect("the folder is ours");
        std::fs::rename(app.folder().join("new"), app.folder().join("page.html"))
            .expect("the folder is ours");
    };
    replace("<p>two</p>");
    eventually("the new page is served", || app.conn().get("/page").text() == "<p>two</p>");
    replace(&"x".repeat((1 << 20) + 1));
    eventually("a page too large is refused", || app.log().contains("1048577 bytes"));
    assert_eq!(app.conn().get("/page").text(), "<p>two</p>", "and changes nothing");
}
