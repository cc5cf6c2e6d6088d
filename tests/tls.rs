//! TLS from clients: certificates by name, versions, client certificates,
//! resumption, renewal, and how connections end.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::harness::app::{quiet, serin};
use crate::harness::certs::{Authority, Signed, TlsConn, certificates, connect};
use crate::harness::raw::{Manner, Raw};
use crate::harness::{Answer, App, Ask, Origin, eventually, require};

/// A listener with these lines under `tls`, and one under `listener` for others.
fn listening(upstream: SocketAddr, tls: &str, listener: &str) -> String {
    format!(
        "listeners:\n  - name: secure\n    address: 127.0.0.1:0\n    tls: {tls}\n{listener}\
         admin: 127.0.0.1:0\nworkers: 2\nservices:\n  web:\n    primary: {upstream}\n"
    )
}

/// One certificate for `web.example`.
fn secure(authority: &Authority, upstream: SocketAddr, more: &str) -> App {
    let pair = authority.put("web", &authority.sign(&["web.example"]));
    App::start(&listening(upstream, &format!("{{certificates: [{pair}]{more}}}"), ""))
}

fn open(app: &App, authority: &Authority) -> TlsConn {
    connect(app.address(), "web.example", &authority.client(None, &[])).expect("it listens")
}

/// Runs openssl's client with nothing to say; what it shows of the handshake.
fn s_client(to: SocketAddr, arguments: &[&str]) -> Option<String> {
    let program = require("openssl")?;
    let mut command = Command::new(program);
    command.args(["s_client", "-connect", &to.to_string()]).args(arguments).stdin(Stdio::null());
    let output = command.output().expect("openssl can be run");
    let text = [output.stdout, output.stderr].concat();
    Some(String::from_utf8_lossy(&text).into_owned())
}

fn curl(app: &App, authority: &Authority, arguments: &[&str]) -> Option<String> {
    let program = require("curl")?;
    let port = app.address().port();
    let output = Command::new(program)
        .args(["-sS", "--max-time", "30", "--cacert"])
        .arg(authority.ca())
        .args(["--resolve", &format!("web.example:{port}:127.0.0.1")])
        .args(arguments)
        .arg(format!("https://web.example:{port}/x"))
        .output()
        .expect("curl can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn curl_is_served_over_http1_and_http2_and_the_version_learns_of_https() {
    let authority = Authority::new();
    let origin = Origin::answering("a", |_| Answer::echo());
    let app = secure(&authority, origin.address, "");
    for (flag, spoken) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let Some(said) = curl(&app, &authority, &[flag, "-w", "|%{http_version}"]) else { return };
        let (body, version) = said.rsplit_once('|').expect("both are written");
        assert_eq!(version, spoken);
        let echo: serde_json::Value = serde_json::from_str(body).expect("the echo");
        let headers = echo["headers"].to_string();
        assert!(headers.contains(r#"["x-forwarded-proto","https"]"#), "{headers}");
        assert_eq!(echo["authority"], format!("web.example:{}", app.address().port()));
    }
    assert_eq!(app.requests(&[("outcome", "success")]), 2);
}

#[test]
fn bodies_of_any_size_pass_both_ways() {
    let authority = Authority::new();
    let origin = Origin::answering("a", |_| Answer::send_back());
    let app = secure(&authority, origin.address, "");
    let mut conn = open(&app, &authority);
    for size in [0, 1, 16_384, 16_385, 300_000, 5_000_000] {
        let body: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        let sent = body.clone();
        let reply = conn.ask(&Ask::post("/", sent));
        assert!(reply.status == 200 && reply.body == body, "{size}");
    }
    assert_eq!(origin.connections(), 1, "connections are kept on both sides");
}

#[test]
fn the_certificate_is_chosen_by_name_exact_then_wildcard_then_first() {
    let authority = Authority::new();
    let origin = Origin::start("a");
    let pairs: Vec<String> = [&["first.example"][..], &["*.shop.example"], &["a.shop.example", "b.example"]]
        .iter()
        .map(|names| authority.put(&names[0].replace('*', "any"), &authority.sign(names)))
        .collect();
    let certificates = pairs.join(", ");
    let app = App::start(&listening(origin.address, &format!("{{certificates: [{certificates}]}}"), ""));
    let strict = format!("{{certificates: [{certificates}], refuseUnknownNames: true}}");
    let strict = App::start(&listening(origin.address, &strict, ""));
    for (name, common, known) in [
        ("first.example", "first.example", true),
        ("A.shop.example", "a.shop.example", true),
        ("x.shop.example", "*.shop.example", true),
        ("b.example", "a.shop.example", true),
        ("x.y.shop.example", "first.example", false),
        ("other.example", "first.example", false),
    ] {
        let Some(said) = s_client(app.address(), &["-servername", name]) else { return };
        assert!(said.contains(&format!("subject=O = serin, CN = {common}\n")), "{name}: {said}");
        let said = s_client(strict.address(), &["-servername", name]).expect("it was there");
        assert_eq!(said.contains("BEGIN CERTIFICATE"), known, "{name}: {said}");
    }
    let said = s_client(app.address(), &["-noservername"]).expect("it was there");
    assert!(said.contains("CN = first.example"), "{said}");
    let said = s_client(strict.address(), &["-noservername"]).expect("it was there");
    assert!(!said.contains("BEGIN CERTIFICATE"), "{said}");
}

#[test]
fn versions_have_a_floor_and_a_ceiling_and_protocols_are_agreed_on() {
    let authority = Authority::new();
    let origin = Origin::start("a");
    for (versions, works, fails) in [
        ("minVersion: 1.3", "-tls1_3", "-tls1_2"),
        ("maxVersion: 1.2", "-tls1_2", "-tls1_3"),
        ("minVersion: 1.2", "-tls1_2", "-tls1_1"),
    ] {
        let app = secure(&authority, origin.address, &format!(", {versions}, alpn: [http/1.1]"));
        let alpn = ["-alpn", "h2,http/1.1"];
        let Some(said) = s_client(app.address(), &[&[works], &alpn[..]].concat()) else { return };
        assert!(said.contains("BEGIN CERTIFICATE") && said.contains("ALPN protocol: http/1.1"), "{said}");
        let said = s_client(app.address(), &[fails]).expect("it was there");
        assert!(!said.contains("BEGIN CERTIFICATE"), "{versions} {fails}: {said}");
        eventually("the failure is counted", || {
            app.metric("serin_tls_handshakes_total", &[("result", "failure")]) == 1.0
        });
        assert!(app.metric("serin_tls_handshakes_total", &[("result", "success")]) >= 1.0);
    }
}

#[test]
fn sessions_are_resumed_by_tickets_by_cache_or_not_at_all() {
    let authority = Authority::new();
    let origin = Origin::start("a");
    for (resumption, resumes) in [("tickets", true), ("{cache: 100}", true), ("off", false)] {
        let app = secure(&authority, origin.address, &format!(", resumption: {resumption}"));
        let Some(said) = s_client(app.address(), &["-tls1_2", "-reconnect"]) else { return };
        assert_eq!(said.matches("Reused, ").count(), if resumes { 5 } else { 0 }, "{resumption}: {said}");
        // Sessions of TLS 1.3 come after the handshake, with the first answer.
        let config = authority.client(None, &[]);
        let mut kinds = Vec::new();
        for _ in 0..8 {
            let mut conn = connect(app.address(), "web.example", &config).expect("it listens");
            assert_eq!(conn.get("/").status, 200);
            kinds.push(conn.stream.conn.handshake_kind());
        }
        let resumed = kinds[1..].iter().all(|kind| *kind == Some(rustls::HandshakeKind::Resumed));
        assert_eq!(resumed, resumes, "{resumption}, over two workers: {kinds:?}");
    }
}

#[test]
fn clients_show_certificates_where_they_must_and_the_version_is_told() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let origin = Origin::answering("a", |_| Answer::echo());
    let (good, other) =
        (authority.sign_client("spiffe://td/ns/a"), authority.sign_client("spiffe://td/ns/b"));
    let foreign = stranger.sign_client("spiffe://td/ns/a");
    let pair = authority.put("web", &authority.sign(&["web.example"]));
    let start = |required: bool| {
        let ca = authority.ca();
        let tls = format!(
            "{{certificates: [{pair}], clientCertificates: {{ca: {}, required: {required}, subjects: \
             [{{type: uri, exact: 'spiffe://td/ns/a'}}, {{type: dns, prefix: nobody}}]}}}}",
            ca.display()
        );
        let field =
            "    forwarded: {clientCertificate: {mode: sanitize_set, details: [dns, uri, subject]}}\n";
        App::start(&listening(origin.address, &tls, field))
    };
    let ask = |app: &App, own: Option<&Signed>| {
        let mut conn =
            connect(app.address(), "web.example", &authority.client(own, &[])).expect("it listens");
        let ask = Ask::get("/").header("x-forwarded-client-cert", "Hash=forged");
        conn.try_ask(&ask).map(|reply| reply.json()["headers"].to_string()).ok()
    };
    for required in [true, false] {
        let app = start(required);
        let told = ask(&app, Some(&good)).expect("a good client is served");
        assert!(told.contains("x-forwarded-client-cert") && !told.contains("forged"), "{told}");
        let subject = r#";Subject=\"CN=client.example,O=serin\";URI=spiffe://td/ns/a;DNS=client.example"#;
        assert!(told.contains(subject), "{told}");
        assert!(ask(&app, Some(&other)).is_none(), "another subject");
        assert!(ask(&app, Some(&foreign)).is_none(), "another authority");
        match ask(&app, None) {
            Some(told) => assert!(!required && !told.contains("client-cert"), "{told}"),
            None => assert!(required),
        }
    }
}

#[test]
fn a_renewed_certificate_is_shown_at_once_and_no_request_fails() {
    let authority = Authority::new();
    let origin = Origin::start("a");
    let app = secure(&authority, origin.address, "");
    let (stop, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let config = authority.client(None, &[]);
    let shown = || {
        let mut conn =
            connect(app.address(), "web.example", &authority.client(None, &[])).expect("it listens");
        assert_eq!(conn.get("/").status, 200);
        asked.fetch_add(1, Ordering::Relaxed);
        conn.stream.conn.peer_certificates().expect("a server shows one")[0].to_vec()
    };
    std::thread::scope(|scope| {
        for kept in [true, true, false, false] {
            let (stop, asked, config, app) = (&stop, &asked, &config, &app);
            scope.spawn(move || {
                let mut conn = connect(app.address(), "web.example", config).expect("it listens");
                while !stop.load(Ordering::Relaxed) {
                    if !kept {
                        conn = connect(app.address(), "web.example", config).expect("it listens");
                    }
                    assert_eq!(conn.get("/").status, 200);
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let pass = |more: u64| {
            let target = asked.load(Ordering::Relaxed) + more;
            eventually("the load makes progress", || asked.load(Ordering::Relaxed) >= target);
        };
        for _ in 0..5 {
            pass(50);
            let renewed = authority.sign(&["web.example"]);
            authority.put("web", &renewed);
            let new = certificates(&renewed.chain)[0].to_vec();
            eventually("the renewed certificate is shown", || shown() == new);
        }
        pass(50);
        stop.store(true, Ordering::Relaxed);
    });
    quiet(&app);
    assert_eq!(app.requests(&[]), asked.load(Ordering::Relaxed), "each request is counted once");
}

#[test]
fn a_broken_certificate_is_refused_and_the_old_one_stays() {
    let authority = Authority::new();
    let origin = Origin::start("a");
    let app = secure(&authority, origin.address, "");
    let rejected = || app.metric("serin_config_reloads_total", &[("result", "rejected")]) as u64;
    let path = authority.path("web", "pem");
    let good = std::fs::read_to_string(&path).expect("it was put there");
    let foreign = authority.sign(&["web.example"]).chain;
    for (text, said) in [
        (foreign.as_str(), "web.key belongs to another certificate"),
        ("nothing", "web.pem holds no certificate in PEM"),
        ("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n", "web.pem is no PEM"),
    ] {
        let before = rejected();
        std::fs::write(&path, text).expect("the folder is ours");
        eventually("it is refused", || rejected() > before);
        assert!(app.log().contains(said), "{said}: {}", app.log());
        assert_eq!(open(&app, &authority).get("/").status, 200);
        let output = serin(&["check", "-c", &app.config().display().to_string()]);
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            !output.status.success() && printed.contains(said) && printed.contains("listeners[0].tls"),
            "{printed}"
        );
    }
    std::fs::remove_file(&path).expect("it is there");
    let gone = rejected();
    eventually("it is refused", || rejected() > gone || app.log().contains("cannot read"));
    std::fs::write(&path, good).expect("the folder is ours");
    eventually("it is taken again", || {
        app.metric("serin_config_reloads_total", &[("result", "accepted")]) >= 1.0
    });
    assert_eq!(open(&app, &authority).get("/").status, 200);
}

#[test]
fn a_key_is_in_no_dump_and_no_log() {
    let authority = Authority::new();
    let origin = Origin::start("a");
    let app = secure(&authority, origin.address, "");
    let key = std::fs::read_to_string(authority.path("web", "key")).expect("it was put there");
    let secret = key.lines().nth(1).expect("a line of the key");
    let reload = app.post("/reload");
    let output = serin(&["check", "-c", &app.config().display().to_string()]);
    let checked = String::from_utf8_lossy(&output.stdout).into_owned();
    let dump = app.get("/config_dump").text();
    assert!(dump.contains("[redacted]") && dump.contains("BEGIN CERTIFICATE"), "{dump}");
    for text in [dump, reload.text(), checked, app.log(), app.get("/metrics").text()] {
        assert!(!text.contains(secret) && !text.contains("PRIVATE KEY"), "{text}");
    }
}

#[test]
fn a_client_that_does_not_shake_hands_is_let_go() {
    let authority = Authority::new();
    let origin = Origin::start("a");
    let pair = authority.put("web", &authority.sign(&["web.example"]));
    let limits = "    limits: {headerTimeout: 1s}\n";
    let app = App::start(&listening(origin.address, &format!("{{certificates: [{pair}]}}"), limits));
    let mut silent = app.conn();
    let mut clear = app.conn();
    clear.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(silent.is_closed_by_peer() && clear.is_closed_by_peer());
    // Whoever has shaken hands is a client like any other, and may be silent.
    let mut idle = open(&app, &authority);
    idle.stream.conn.complete_io(&mut idle.stream.sock).expect("a handshake");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(idle.get("/").status, 200);
}

#[test]
fn a_client_that_leaves_ends_its_request_whether_it_says_so_or_not() {
    let authority = Authority::new();
    let origin = Origin::answering("a", |_| Answer::ok().after(Duration::from_secs(60)));
    let app = secure(&authority, origin.address, "");
    let uncounted = || app.requests(&[("outcome", "uncounted")]);
    for (nth, says) in [(1, true), (2, false)] {
        let mut conn = open(&app, &authority);
        conn.stream.write_all(&Ask::get("/").bytes()).expect("the proxy reads");
        eventually("it is under way", || origin.requests() == nth);
        if says {
            // Announced, with the socket still open.
            conn.stream.conn.send_close_notify();
            conn.stream.conn.write_tls(&mut conn.stream.sock).expect("the proxy reads");
            eventually("it is given up", || uncounted() == nth);
        } else {
            drop(conn);
        }
        eventually("it is given up", || uncounted() == nth);
        quiet(&app);
    }
}

#[test]
fn an_answer_that_ends_with_the_connection_is_announced_only_when_it_is_whole() {
    let authority = Authority::new();
    let whole = Raw::start(Manner::CloseAfterHead);
    drop(whole);
    for (cut, expected) in [(false, true), (true, false)] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let upstream = listener.local_addr().expect("it is bound");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("the proxy comes");
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).expect("a head");
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\npart of it").expect("the proxy reads");
            std::thread::sleep(Duration::from_millis(200));
            if cut {
                crate::harness::raw::reset(stream);
            }
        });
        let app = secure(&authority, upstream, "");
        let mut conn = open(&app, &authority);
        let answer = conn.try_ask(&Ask::get("/"));
        assert_eq!(
            answer.as_ref().map(|reply| reply.text()).ok().as_deref() == Some("part of it"),
            expected,
            "{answer:?}"
        );
        server.join().expect("the server does not panic");
    }
}

#[test]
fn the_end_of_each_certificate_is_told_and_warned_of() {
    let authority = Authority::new();
    let origin = Origin::start("a");
    let old = authority.sign_with(vec!["old.example".to_owned()], |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    let (old, new) = (authority.put("old", &old), authority.put("web", &authority.sign(&["web.example"])));
    let ca = authority.ca().display().to_string();
    let tls = format!("{{certificates: [{new}, {old}], clientCertificates: {{ca: {ca}, required: false}}}}");
    let app = App::start(&listening(origin.address, &tls, ""));
    let ends = |subject: &str, part: &str| {
        let labels = [("place", "listener secure"), ("subject", subject), ("part", part)];
        app.metric("serin_certificate_expiry_timestamp_seconds", &labels)
    };
    assert_eq!(ends("CN=old.example,O=serin", "server"), 1_609_459_200.0);
    assert!(ends("CN=web.example,O=serin", "server") > 4e9 && ends("CN=test authority", "authority") > 4e9);
    let listed = app.get_json("/certificates");
    let listed = listed.as_array().expect("a list");
    assert_eq!(listed.len(), 3, "{listed:?}");
    assert_eq!(listed[1]["names"][0], "dns:old.example");
    assert!(app.log().contains("has expired"), "{}", app.log());
    let output = serin(&["check", "-c", &app.config().display().to_string()]);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && printed.contains("warning: listener secure: the server's certificate"),
        "{printed}"
    );
}
