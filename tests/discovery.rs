//! Where endpoints come from: names, files, Unix sockets; and that requests under
//! way never notice when they change.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::harness::app::head;
use crate::harness::client::once;
use crate::harness::dns::{NameServer, Says};
use crate::harness::nginx::Nginx;
use crate::harness::{Answer, App, Ask, Load, Origin, eventually, eventually_some, require};

/// One service whose primary is a name that this server is asked for.
fn named(server: &NameServer, port: u16, dns: &str) -> String {
    format!(
        "{}dns: {{servers: [\"{}\"], refresh: 100ms{dns}}}\nservices:\n  web:\n    primary: web.test:{port}\n",
        head(2),
        server.address
    )
}

fn endpoints(app: &App) -> u64 {
    app.metric("serin_endpoints", &[]) as u64
}

/// Asks until these origins, and no others, answer.
fn answered_by(app: &App, names: &[&str]) {
    eventually(&format!("{names:?} answer"), || {
        let mut seen: Vec<String> =
            (0..20).map(|_| once(app.address(), &Ask::get("/")).origin().to_owned()).collect();
        seen.sort();
        seen.dedup();
        seen == names
    });
}

#[test]
fn every_address_of_a_name_is_an_endpoint_and_changes_are_followed() {
    let server = NameServer::start();
    let origins = Origin::twins(&["one", "two", "three"]);
    server.say("web.test", Says::loopback(&[1, 2], 0));
    let app = App::start(&named(&server, origins[0].address.port(), ""));
    answered_by(&app, &["one", "two"]);
    assert_eq!(endpoints(&app), 2);
    server.say("web.test", Says::loopback(&[3, 2], 0));
    answered_by(&app, &["three", "two"]);
    server.say("web.test", Says::loopback(&[3], 0));
    answered_by(&app, &["three"]);
    assert!(app.metric("serin_endpoint_changes_total", &[]) >= 3.0);
}

#[test]
fn an_answer_holds_for_its_time_to_live() {
    let server = NameServer::start();
    let origin = Origin::twins(&["one"]).remove(0);
    server.say("web.test", Says::loopback(&[1], 3600));
    let app = App::start(&named(&server, origin.address.port(), ""));
    answered_by(&app, &["one"]);
    let asked = server.asked("web.test").0;
    // The refresh rate alone would have asked ten times by now.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(server.asked("web.test").0, asked, "a record that holds is not asked for again");
}

#[test]
fn a_name_that_does_not_resolve_at_start_is_told_and_used_when_it_does() {
    let server = NameServer::start();
    let origin = Origin::twins(&["one"]).remove(0);
    server.say("web.test", Says::Nothing);
    let app = App::start(&named(&server, origin.address.port(), ""));
    let reply = once(app.address(), &Ask::get("/"));
    assert_eq!((reply.status, reply.cause()), (503, "no-healthy-upstream"));
    eventually("the metrics tell", || {
        app.metric("serin_dns_unresolved_names", &[("version", "primary")]) == 1.0
            && app.metric("serin_dns_resolutions_total", &[("result", "failed")]) >= 1.0
    });
    assert!(app.log().contains("name is not resolved"), "{}", app.log());
    let splits = app.get_json("/splits");
    let told = splits[0]["endpoints"]["primary"]["unresolved"][0].as_str().unwrap_or_default().to_owned();
    assert!(told.starts_with("web.test: "), "{splits}");
    server.say("web.test", Says::loopback(&[1], 0));
    answered_by(&app, &["one"]);
    eventually("the metrics tell that it is over", || app.metric("serin_dns_unresolved_names", &[]) == 0.0);
}

#[test]
fn a_name_server_that_fails_leaves_the_last_good_addresses_in_force() {
    let server = NameServer::start();
    let origin = Origin::twins(&["one"]).remove(0);
    server.say("web.test", Says::loopback(&[1], 0));
    let app = App::start(&named(&server, origin.address.port(), ""));
    answered_by(&app, &["one"]);
    server.say("web.test", Says::Failure);
    eventually("failures are seen", || {
        app.metric("serin_dns_resolutions_total", &[("result", "failed")]) >= 2.0
    });
    assert_eq!(once(app.address(), &Ask::get("/")).origin(), "one");
    server.say("web.test", Says::NoSuchName);
    eventually("a name that is gone has no endpoint", || endpoints(&app) == 0);
    assert_eq!(once(app.address(), &Ask::get("/")).cause(), "no-healthy-upstream");
    server.say("web.test", Says::loopback(&[1], 0));
    answered_by(&app, &["one"]);
}

#[test]
fn a_name_with_more_addresses_than_a_datagram_holds_has_them_all() {
    let server = NameServer::start();
    let origin = Origin::twins(&["one"]).remove(0);
    let many: Vec<u8> = (1..=200).collect();
    server.say("web.test", Says::loopback(&many, 0));
    let app = App::start(&named(&server, origin.address.port(), ""));
    eventually("all are endpoints", || endpoints(&app) == 200);
    assert!(server.over_tcp() >= 1);
    // Most refuse; a connection refused leads to the next.
    let one = eventually_some("one of them answers", || {
        let reply = once(app.address(), &Ask::get("/"));
        (reply.status == 200).then(|| reply.origin().to_owned())
    });
    assert_eq!(one, "one");
}

#[test]
fn logical_names_keep_to_one_address_while_they_have_it() {
    let server = NameServer::start();
    let origins = Origin::twins(&["one", "two", "three"]);
    server.say("web.test", Says::loopback(&[2, 1], 0));
    let app = App::start(&named(&server, origins[0].address.port(), ", mode: logical"));
    answered_by(&app, &["two"]);
    assert_eq!(endpoints(&app), 1);
    server.say("web.test", Says::loopback(&[1, 2, 3], 0));
    let asked = server.asked("web.test").0;
    eventually("it was asked again", || server.asked("web.test").0 > asked + 2);
    answered_by(&app, &["two"]);
    server.say("web.test", Says::loopback(&[3, 1], 0));
    answered_by(&app, &["three"]);
}

#[test]
fn the_family_that_is_asked_for_is_the_one_configured() {
    let server = NameServer::start();
    let origin = Origin::twins(&["one"]).remove(0);
    let both = vec!["127.0.0.1".parse().expect("an address"), "::1".parse().expect("an address")];
    server.say("web.test", Says::Addresses(both, 0));
    for (family, count) in [("v4", 1), ("v6", 1), ("all", 2), ("preferV4", 1)] {
        let app = App::start(&named(&server, origin.address.port(), &format!(", family: {family}")));
        eventually(&format!("{family} finds {count}"), || endpoints(&app) == count);
        if family.ends_with('4') {
            assert_eq!(once(app.address(), &Ask::get("/")).origin(), "one", "{family}");
        }
    }
    let (v4, v6) = server.asked("web.test");
    assert!(v4 > 0 && v6 > 0);
}

#[test]
fn etc_hosts_is_honoured() {
    let known = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let listed = known.lines().filter_map(|line| {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let address: IpAddr = words.next()?.parse().ok()?;
        Some((address, words.find(|name| *name != "localhost")?.to_owned()))
    });
    // One of this machine's own, so that something can listen there.
    let found = listed
        .filter_map(|(address, name)| Some((Origin::at("one", SocketAddr::new(address, 0)).ok()?, name)));
    let Some((origin, name)) = found.into_iter().next() else {
        crate::harness::skip("/etc/hosts has no name but localhost for this machine");
        return;
    };
    let family = if origin.address.is_ipv4() { ", family: v4" } else { ", family: v6" };
    let server = NameServer::start();
    let app = App::start(&named(&server, origin.address.port(), family).replace("web.test", &name));
    answered_by(&app, &["one"]);
    assert_eq!(server.asked(&name), (0, 0), "DNS is not asked what the file says");
}

#[test]
fn changing_addresses_drop_no_request_under_way() {
    let server = NameServer::start();
    let origins = Origin::twins(&["one", "two"]);
    for origin in &origins {
        origin.behave(|_| Answer::ok().after(Duration::from_millis(30)));
    }
    server.say("web.test", Says::loopback(&[1], 0));
    let app = App::start(&named(&server, origins[0].address.port(), ""));
    answered_by(&app, &["one"]);
    let load = Load::start(app.address(), 4, Duration::ZERO, Ask::get("/"));
    for turn in 0..20 {
        let (now, other) = (turn % 2, 1 - turn % 2);
        let before = origins[other].requests();
        server.say("web.test", Says::loopback(&[other as u8 + 1], 0));
        eventually("the other one is asked", || origins[other].requests() > before + 4);
        assert!(origins[now].requests() > 0);
    }
    let report = load.stop();
    assert_eq!((report.failures(), report.reopened), (0, 0), "of {}", report.requests);
}

#[test]
fn connections_to_an_address_that_is_gone_are_let_go() {
    let server = NameServer::start();
    let origins = Origin::twins(&["one", "two"]);
    server.say("web.test", Says::loopback(&[1], 0));
    let app = App::start(&named(&server, origins[0].address.port(), ""));
    answered_by(&app, &["one"]);
    let open = |port: u16, address: &str| {
        let tcp = std::fs::read_to_string(format!("/proc/{}/net/tcp", app.pid())).expect("Linux tells");
        let wanted = format!("{address}:{port:04X}");
        // 01 is an established connection; the third column is its other end.
        tcp.lines()
            .filter(|line| {
                let words: Vec<_> = line.split_whitespace().collect();
                words.get(2) == Some(&wanted.as_str()) && words.get(3) == Some(&"01")
            })
            .count()
    };
    let port = origins[0].address.port();
    assert!(open(port, "0100007F") > 0, "connections are kept");
    server.say("web.test", Says::loopback(&[2], 0));
    eventually("none is open to who is gone", || open(port, "0100007F") == 0);
}

#[test]
fn a_file_of_endpoints_is_followed() {
    let origins = Origin::twins(&["one", "two"]);
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("web.yaml");
    let write = |text: String| {
        let new = folder.path().join("new");
        std::fs::write(&new, text).expect("the folder is ours");
        std::fs::rename(&new, &file).expect("the folder is ours");
    };
    write(format!("- {}\n", origins[0].address));
    let yaml = format!("{}services:\n  web:\n    primary: {{file: {}}}\n", head(2), file.display());
    let app = App::start(&yaml);
    answered_by(&app, &["one"]);
    write(format!("{{\"endpoints\": [{{\"address\": \"{}\", \"weight\": 3}}]}}", origins[1].address));
    answered_by(&app, &["two"]);
    write("- nonsense\n".to_owned());
    eventually("a broken file is told", || app.log().contains("web.yaml:1"));
    assert_eq!(once(app.address(), &Ask::get("/")).origin(), "two", "and changes nothing");
    write("[]\n".to_owned());
    eventually("an empty file means nobody", || endpoints(&app) == 0);
    write(format!("- {}\n- {}\n", origins[0].address, origins[1].address));
    answered_by(&app, &["one", "two"]);
}

#[test]
fn a_file_that_changes_whole_is_the_same_release_unless_said_otherwise() {
    let origins = Origin::twins(&["primary", "one", "two"]);
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("canary.yaml");
    std::fs::write(&file, format!("- {}\n", origins[1].address)).expect("the folder is ours");
    let yaml = |release: &str| {
        format!(
            "{}services:\n  web:\n    primary: {}\n    canary: {{endpoints: {{file: {}}}{release}}}\nrollouts:\n  \
             web: {{steps: [{{weight: 20, for: 10m}}]}}\n",
            head(2),
            origins[0].address,
            file.display()
        )
    };
    let app = App::start(&yaml(""));
    app.command("web", "start");
    app.await_phase("web", "running");
    std::fs::write(&file, format!("- {}\n", origins[2].address)).expect("the folder is ours");
    assert_eq!(app.reload(&yaml("")).status, 200);
    assert_eq!(app.phase("web"), "running", "who answers may change, as when machines are replaced");
    assert_eq!(app.reload(&yaml(", release: build-7")).status, 200);
    assert_eq!(app.phase("web"), "idle", "another release starts anew");
}

#[test]
fn unix_sockets_are_endpoints_on_both_paths() {
    let Some(program) = require("nginx") else { return };
    let nginx = Nginx::start(&program, "return 200 v2;");
    let socket = nginx.socket();
    let app =
        App::start(&format!("{}services:\n  web:\n    primary: \"unix:{}\"\n", head(2), socket.display()));
    let mut conn = app.conn();
    for _ in 0..50 {
        assert_eq!(conn.get("/").text(), "unix");
    }
    // A second client, of HTTP/2.
    let mut h2 = crate::harness::h2::H2::open(app.address());
    assert_eq!(h2.ask(&Ask::get("/")).text(), "unix");
    let gone = App::start(&format!("{}services:\n  web:\n    primary: unix:/nowhere/at.all\n", head(2)));
    assert_eq!(once(gone.address(), &Ask::get("/")).cause(), "connect-failure");
}
