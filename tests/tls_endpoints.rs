//! Endpoints behind TLS that choose their protocol, break off, are checked, or are
//! tunnelled to. The other side of each handshake is rustls.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

use crate::harness::app::{head, quiet};
use crate::harness::certs::{Authority, connect};
use crate::harness::chat::{Chat, Talk};
use crate::harness::client::Reply;
use crate::harness::front::{Back, Front};
use crate::harness::h2::H2;
use crate::harness::script::Script;
use crate::harness::{Answer, App, Ask, Origin, eventually};

const NAME: &str = "up.example";

type Open = fn(SocketAddr, &str) -> Result<Talk, Reply>;

/// A version at these endpoints that is reached over TLS.
fn over(authority: &Authority, endpoints: &[&Front], more: &str) -> App {
    let endpoints: Vec<_> = endpoints.iter().map(|front| format!("\"{}\"", front.address)).collect();
    let tls = format!("{{sni: {NAME}, ca: {}}}", authority.ca().display());
    let version = format!("{{endpoints: [{}], tls: {tls}, {more}}}", endpoints.join(", "));
    App::start(&format!("{}services:\n  web:\n    primary: {version}\n", head(1)))
}

/// TLS to clients as well, as `web.example`.
fn between(authority: &Authority, front: &Front, more: &str, route: &str) -> App {
    between_with(authority, front, more, route, "")
}

fn between_with(authority: &Authority, front: &Front, more: &str, route: &str, listener: &str) -> App {
    let own = authority.put("web", &authority.sign(&["web.example"]));
    let tls = format!("{{sni: {NAME}, ca: {}}}", authority.ca().display());
    App::start(&format!(
        "admin: 127.0.0.1:0\nworkers: 1\nlisteners:\n  - name: secure\n    address: \"127.0.0.1:0\"\n    tls: \
         {{certificates: [{own}]{listener}}}\nservices:\n  web:\n    primary: {{endpoints: [\"{}\"], tls: {tls}, {more}}}\n\
         routes:\n  {route}\n",
        front.address
    ))
}

#[test]
fn each_endpoint_chooses_its_protocol_in_the_handshake() {
    let authority = Authority::new();
    let origins = [1, 2, 3].map(|_| Origin::answering("a", |_| Answer::echo()));
    let offers: [&[&str]; 3] = [&["h2", "http/1.1"], &["http/1.1"], &[]];
    for (origin, (offer, spoken)) in
        origins.iter().zip(offers.into_iter().zip(["HTTP/2.0", "HTTP/1.1", "HTTP/1.1"]))
    {
        let front = Front::start(&authority, NAME, offer, origin.address);
        let app = over(&authority, &[&front], "protocol: auto");
        let mut conn = app.conn();
        for n in 0..20 {
            let echo = conn.ask(&Ask::post(&format!("/{n}"), "body")).json();
            assert_eq!(
                (echo["version"].as_str(), echo["body"].as_str()),
                (Some(spoken), Some("body")),
                "{offer:?}"
            );
        }
        let mut h2 = H2::open(app.address());
        assert_eq!(h2.ask(&Ask::get("/")).json()["version"], spoken);
        assert_eq!(front.handshakes(), 1, "{offer:?}: the connection is kept");
    }
}

#[test]
fn requests_at_once_share_streams_or_have_connections_of_their_own() {
    let authority = Authority::new();
    let slow = || Origin::answering("a", |_| Answer::echo().after(std::time::Duration::from_millis(200)));
    for (offer, most) in [("h2", 2), ("http/1.1", 40)] {
        let origin = slow();
        let front = Front::start(&authority, NAME, &[offer], origin.address);
        let app = over(&authority, &[&front], "protocol: auto");
        let mut h2 = H2::open(app.address());
        let asks: Vec<_> = (0..40).map(|n| Ask::post(&format!("/{n}"), format!("b{n}"))).collect();
        for (n, reply) in h2.ask_together(&asks).iter().enumerate() {
            assert_eq!(reply.status, 200, "{offer}: {}", reply.cause());
            assert_eq!(reply.json()["body"], format!("b{n}"));
        }
        let handshakes = front.handshakes();
        assert!(handshakes <= most, "{offer}: {handshakes} handshakes for 40 requests at once");
        assert!(offer == "h2" || handshakes > 20, "HTTP/1 carries one request at a time: {handshakes}");
    }
}

#[test]
fn endpoints_of_one_version_may_choose_differently_and_change_their_minds() {
    let authority = Authority::new();
    let origins = [1, 2].map(|_| Origin::answering("a", |_| Answer::echo()));
    let fronts = [
        Front::start(&authority, NAME, &["h2"], origins[0].address),
        Front::start(&authority, NAME, &["http/1.1"], origins[1].address),
    ];
    let app = over(&authority, &[&fronts[0], &fronts[1]], "protocol: auto, connections: {maxRequests: 4}");
    let mut conn = app.conn();
    let mut spoken = |of: usize| {
        let replies: Vec<_> =
            (0..of).map(|_| conn.get("/").json()["version"].as_str().unwrap_or("none").to_owned()).collect();
        ["HTTP/2.0", "HTTP/1.1"].map(|version| replies.iter().filter(|reply| *reply == version).count())
    };
    assert_eq!(spoken(40), [20, 20]);
    for (front, offer) in fronts.iter().zip(["http/1.1", "h2"]) {
        front.choose(&authority, NAME, &[offer]);
    }
    eventually("both are found out", || spoken(8) == [4, 4]);
    let seen =
        |origin: &Origin, version| origin.seen().iter().rev().take(2).all(|seen| seen.version == version);
    assert!(seen(&origins[0], hyper::Version::HTTP_11) && seen(&origins[1], hyper::Version::HTTP_2));
    quiet(&app);
    assert_eq!(app.requests(&[("outcome", "failure")]), 0, "nobody lost a request");
}

#[test]
fn checks_go_over_tls_whatever_the_endpoint_chooses() {
    let authority = Authority::new();
    for (protocol, offer) in [("http1", "http/1.1"), ("http2", "h2"), ("auto", "h2"), ("auto", "http/1.1")] {
        let origin = Origin::answering("a", |seen| match seen.path.as_str() {
            "/healthz" if seen.authority == "check.local" => Answer::ok(),
            "/healthz" => Answer::status(500),
            _ => Answer::echo(),
        });
        let front = Front::start(&authority, NAME, &[offer], origin.address);
        let health = "health: {http: {path: /healthz, host: check.local}, interval: 50ms, timeout: 5s, unhealthyThreshold: 1, healthyThreshold: 1}";
        let app = over(&authority, &[&front], &format!("protocol: {protocol}, {health}"));
        let checks = || origin.seen().iter().filter(|seen| seen.path == "/healthz").count();
        eventually("checks come over TLS", || checks() >= 3);
        eventually("it is well", || app.conn().get("/").status == 200);
        origin.behave(|seen| if seen.path == "/healthz" { Answer::status(500) } else { Answer::echo() });
        let unwell = || app.get("/clusters").text().contains("failed_active_hc");
        eventually("a check over TLS finds it unwell", unwell);
        // Checks keep to one connection, requests to another.
        assert!(front.handshakes() <= 4, "{protocol}: {} handshakes", front.handshakes());
    }
}

#[test]
fn an_endpoint_whose_certificate_is_wrong_fails_its_check() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let origin = Origin::start("a");
    let front = Front::start(&stranger, NAME, &["http/1.1"], origin.address);
    let health = "health: {http: /healthz, interval: 50ms, unhealthyThreshold: 1}";
    let app = over(&authority, &[&front], health);
    eventually("the check fails by the handshake", || app.log().contains("why=\"tls-handshake\""));
    assert_eq!((origin.requests(), app.conn().get("/").status), (0, 503));
}

#[test]
fn a_conversation_goes_through_tls_on_both_sides() {
    let authority = Authority::new();
    let clients = [("http/1.1", Talk::upgrade as Open), ("h2", Talk::connect)];
    for (protocol, offer) in [("http1", "http/1.1"), ("http2", "h2")] {
        let chat = Chat::start("a");
        let front = Front::start(&authority, NAME, &[offer], chat.address);
        let more = format!("protocol: {protocol}");
        let app = between(&authority, &front, &more, "- {service: web, upgrade: websocket}");
        for (spoken, open) in clients {
            let back = Back::start(&authority, "web.example", spoken, app.address());
            let mut talk =
                open(back.address, "/").unwrap_or_else(|head| panic!("{spoken} to {offer}: {head:?}"));
            assert_eq!(talk.hear().as_deref(), Some("a"), "{spoken} to {offer}");
            for text in ["one", &"long".repeat(100_000)] {
                talk.say(text);
                assert_eq!(talk.hear().as_deref(), Some(text), "{spoken} to {offer}");
            }
            talk.say("leave");
            assert_eq!(talk.hear(), None, "{spoken} to {offer}: the upstream's end is the client's");
        }
        eventually("all conversations have ended", || chat.live() == 0);
        let connections = if protocol == "http1" { 2 } else { 1 };
        assert_eq!((front.handshakes(), app.requests(&[("outcome", "success")])), (connections, 2));
    }
}

#[test]
fn a_tunnel_by_connect_goes_through_tls_on_both_sides() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let echo = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut back = stream.try_clone().expect("a socket has two ends");
            std::thread::spawn(move || std::io::copy(&mut stream, &mut back));
        }
    });
    let front = Front::start(&authority, NAME, &["http/1.1"], echo);
    let routes = "- {match: {connect: true}, service: web, connect: terminate}";
    let app = between(&authority, &front, "protocol: http1", routes);
    let mut conn =
        connect(app.address(), "web.example", &authority.client(None, &["http/1.1"])).expect("a socket");
    conn.write(b"CONNECT db.test:5432 HTTP/1.1\r\nhost: db.test:5432\r\n\r\n");
    assert_eq!(conn.read_head().expect("an answer").status, 200);
    for text in ["hello", "and good-bye"] {
        conn.write(text.as_bytes());
        let mut heard = vec![0; text.len()];
        conn.stream.read_exact(&mut heard).expect("it comes back");
        assert_eq!(heard, text.as_bytes());
    }
    assert_eq!(front.handshakes(), 1);
    drop(conn);
    eventually("the tunnel has ended", || app.metric("serin_connections", &[]) == 0.0);
}

#[test]
fn handshakes_at_once_have_a_bound_and_those_that_linger_lose_their_place_at_its_end() {
    let authority = Authority::new();
    let origin = Origin::start("a");
    let front = Front::start(&authority, NAME, &["http/1.1"], origin.address);
    let app = between_with(&authority, &front, "protocol: http1", "- {service: web}", ", maxHandshakes: 3");
    // These have connected and say nothing.
    let silent: Vec<_> = (0..3).map(|_| app.conn()).collect();
    let refused = || {
        let mut conn = app.conn();
        conn.stream.set_read_timeout(Some(std::time::Duration::from_millis(200))).expect("a legal timeout");
        conn.is_closed_by_peer()
    };
    eventually("one more is closed at once", refused);
    let client = authority.client(None, &["http/1.1"]);
    let ask =
        || connect(app.address(), "web.example", &client).and_then(|mut conn| conn.try_ask(&Ask::get("/")));
    assert!(ask().is_err(), "the bound is for everybody");
    drop(silent);
    eventually("who has left has left their place", || ask().is_ok_and(|reply| reply.status == 200));
    // A handshake that is over holds no place.
    let held: Vec<_> = (0..10)
        .map(|_| {
            let mut conn = connect(app.address(), "web.example", &client).expect("a socket");
            assert_eq!(conn.get("/").status, 200);
            conn
        })
        .collect();
    assert_eq!(held.len(), 10);
}

/// What of an answer is there when the endpoint closes its socket, having said
/// nothing of an end.
const CUT: [(&str, &[u8]); 3] = [
    ("length", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart"),
    ("chunks", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n"),
    // Here the end of the connection is the end of the answer, if it is announced.
    ("close", b"HTTP/1.1 200 OK\r\n\r\npart"),
];

#[test]
fn an_answer_that_is_cut_within_tls_is_a_failure_and_never_a_clean_end() {
    let authority = Authority::new();
    for (name, bytes) in CUT {
        for cut in [true, false] {
            let origin = Script::start(move |_, stream| {
                stream.write_all(bytes)?;
                Err(std::io::ErrorKind::Other.into())
            });
            let front = Front::start(&authority, NAME, &["http/1.1"], origin.address);
            if cut {
                front.cut();
            }
            let app = over(&authority, &[&front], "protocol: http1");
            // Of a client of hyper's, of our own codec and of HTTP/2.
            let whole = name == "close" && !cut;
            let (plain, unusual) = (Ask::get("/"), Ask::get("/").header("te", "trailers"));
            for ask in [&plain, &unusual] {
                let answer = app.conn().try_ask(ask);
                assert_eq!(answer.is_ok(), whole, "{name}, cut: {cut}: {answer:?}");
            }
            let answer = H2::open(app.address()).try_ask(&plain);
            assert_eq!(answer.is_ok(), whole, "{name}, cut: {cut}, over HTTP/2: {answer:?}");
            let expected = if whole { "success" } else { "failure" };
            eventually("all are counted", || app.requests(&[]) == 3);
            assert_eq!(app.requests(&[("outcome", expected)]), 3, "{name}, cut: {cut}");
        }
    }
}
