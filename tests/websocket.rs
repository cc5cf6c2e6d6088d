//! WebSocket through the proxy, in every pairing of HTTP versions.

use std::net::SocketAddr;
use std::time::Duration;

use crate::harness::app::head;
use crate::harness::chat::{Chat, KEY, Talk};
use crate::harness::{Answer, App, Ask, Conn, Origin, eventually};

/// Upgrades are allowed below `/chat`, `/refuse`, `/ignore` and `/other`.
fn app(protocol: &str, upstream: SocketAddr) -> App {
    App::start(&format!(
        "{}services:\n  web:\n    primary: {{endpoints: [\"{upstream}\"], protocol: {protocol}}}\n\
         routes:\n  - match: [{{prefix: /chat}}, {{prefix: /refuse}}, {{prefix: /ignore}}, {{prefix: /other}}]\n    \
         service: web\n    upgrade: websocket\n    idleTimeout: 1s\n  - service: web\n",
        head(1)
    ))
}

type Open = fn(SocketAddr, &str) -> Result<Talk, crate::harness::client::Reply>;
const CLIENTS: [(&str, Open); 2] = [("HTTP/1.1", Talk::upgrade), ("HTTP/2", Talk::connect)];

fn talk(open: Open, app: &App) -> Talk {
    open(app.address(), "/chat").unwrap_or_else(|head| panic!("no conversation: {head:?}"))
}

#[test]
fn a_conversation_goes_through_every_pairing_of_versions() {
    for protocol in ["http1", "http2"] {
        let chat = Chat::start("a");
        let app = app(protocol, chat.address);
        for (client, open) in CLIENTS {
            let mut talk = talk(open, &app);
            assert_eq!(talk.hear().as_deref(), Some("a"), "{client} to {protocol}");
            for text in ["one", "two", &"long".repeat(100_000)] {
                talk.say(text);
                assert_eq!(talk.hear().as_deref(), Some(text), "{client} to {protocol}");
            }
            let head = &talk.head;
            assert_eq!(head.header("sec-websocket-protocol"), Some("chat"));
            if client == "HTTP/1.1" {
                assert_eq!(head.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
            } else {
                assert_eq!((head.header("sec-websocket-accept"), head.header("upgrade")), (None, None));
            }
            let seen = chat.seen().pop().expect("it was asked");
            let method = if protocol == "http1" { "GET" } else { "CONNECT" };
            assert_eq!((&*seen.method, &*seen.path), (method, "/chat"));
            assert_eq!(seen.header("sec-websocket-key").is_some(), protocol == "http1");
            assert_eq!(seen.header("sec-websocket-version"), Some("13"));
            talk.say("leave");
            assert_eq!(talk.hear(), None, "the upstream's end is the client's");
        }
        eventually("all conversations have ended", || chat.live() == 0);
    }
}

#[test]
fn a_conversation_is_one_request_that_succeeded_at_its_head() {
    let chat = Chat::start("a");
    let app = app("http1", chat.address);
    for (n, (client, open)) in CLIENTS.into_iter().enumerate() {
        let n = n as u64 + 1;
        let mut talk = talk(open, &app);
        assert_eq!(talk.hear().as_deref(), Some("a"));
        eventually(&format!("{client}: counted while it goes on"), || {
            app.requests(&[("outcome", "success")]) == n && app.requests(&[]) == n
        });
        assert_eq!(app.metric("serin_connections", &[]), 1.0, "{client}");
        talk.say("some words");
        assert_eq!(talk.hear().as_deref(), Some("some words"));
        drop(talk);
        eventually("the client's end is the upstream's", || chat.live() == 0);
        eventually("the connection is closed", || app.metric("serin_connections", &[]) == 0.0);
        assert_eq!(app.requests(&[("outcome", "success")]), n, "{client}: how it ends changes nothing");
    }
}

#[test]
fn what_a_route_does_not_allow_is_refused() {
    let chat = Chat::start("a");
    let app = app("http1", chat.address);
    for (client, open) in CLIENTS {
        let head = open(app.address(), "/").err().expect("no upgrade here");
        assert_eq!((head.status, head.cause()), (403, "upgrade-refused"), "{client}");
    }
    for upgrade in ["TLS/1.2", "websocket, other", "other"] {
        let mut conn = app.conn();
        let ask = Ask::get("/chat").header("connection", "upgrade").header("upgrade", upgrade);
        let reply = conn.ask(&ask);
        assert_eq!((reply.status, reply.cause()), (403, "upgrade-refused"), "{upgrade}");
        assert!(conn.is_closed_by_peer(), "what comes next may be anything");
    }
    assert_eq!(chat.seen().len(), 0);
    assert_eq!(app.requests(&[]), 0, "no version was asked");
}

#[test]
fn what_is_no_upgrade_goes_on_as_a_plain_request() {
    let origin = Origin::answering("a", |_| Answer::echo());
    let app = app("http1", origin.address);
    let mut conn = app.conn();
    for ask in [
        Ask::get("/chat").header("upgrade", "websocket"),
        Ask::get("/").header("connection", "upgrade, http2-settings").header("upgrade", "h2c"),
        Ask::get("/").header("connection", "upgrade"),
    ] {
        let reply = conn.ask(&ask.header("http2-settings", "AAMAAABkAAQAAP__"));
        assert_eq!(reply.status, 200);
        let echo = reply.json().to_string();
        assert!(!echo.contains("\"upgrade\"") && !echo.contains("\"connection\""), "{echo}");
    }
}

#[test]
fn an_upstream_that_does_not_switch_is_answered_for() {
    let chat = Chat::start("a");
    for (protocol, status) in [("http1", 200), ("http2", 101)] {
        let app = app(protocol, chat.address);
        for (client, open) in CLIENTS {
            let head = open(app.address(), "/refuse").err().expect("a refusal");
            assert_eq!((head.status, head.origin()), (503, "none"), "{client} to {protocol}");
            assert_eq!(head.cause(), "none", "its own answer");
        }
        // To an HTTP/2 client a 200 would say that the stream has switched; an
        // HTTP/2 upstream says so by it.
        let told = Talk::upgrade(app.address(), "/ignore");
        assert_eq!(told.map_or_else(|head| head.status, |talk| talk.head.status), status, "{protocol}");
    }
    let app = app("http1", chat.address);
    let head = Talk::connect(app.address(), "/ignore").err().expect("no conversation");
    assert_eq!((head.status, head.cause()), (502, "garbage"));
    for (client, open) in CLIENTS {
        let head = open(app.address(), "/other").err().expect("nobody asked for that protocol");
        assert_eq!((head.status, head.cause()), (502, "garbage"), "{client}");
    }
}

#[test]
fn an_upgrade_with_a_body_is_refused() {
    let chat = Chat::start("a");
    let app = app("http1", chat.address);
    let ask = Ask::get("/chat").header("connection", "upgrade").header("upgrade", "websocket");
    let mut conn = app.conn();
    assert_eq!(
        conn.ask(&ask.header("sec-websocket-key", KEY).body("GET /smuggled HTTP/1.1\r\n\r\n")).status,
        400
    );
    assert!(conn.is_closed_by_peer());
    assert_eq!(chat.seen().len(), 0);
}

#[test]
fn bytes_sent_along_with_the_upgrade_arrive() {
    let chat = Chat::start("a");
    let app = app("http1", chat.address);
    let ask = Ask::get("/chat").header("connection", "upgrade").header("upgrade", "websocket");
    let mut conn = app.conn();
    // A masked text frame "hi" with a mask of zeros.
    let frame = [0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];
    conn.write(&[&ask.header("sec-websocket-key", KEY).bytes()[..], &frame].concat());
    let mut reply = conn.read_head().expect("a head");
    assert_eq!(reply.status, 101);
    // Until silence has ended the conversation.
    conn.read_body("GET", &mut reply).expect("an end");
    assert!(reply.text().contains("hi"), "{:?}", reply.body);
}

#[test]
fn silence_ends_a_conversation_and_words_keep_it_alive() {
    let chat = Chat::start("a");
    let app = app("http1", chat.address);
    for (client, open) in CLIENTS {
        let mut talk = talk(open, &app);
        assert_eq!(talk.hear().as_deref(), Some("a"));
        for n in 0..8 {
            std::thread::sleep(Duration::from_millis(250));
            talk.say(&n.to_string());
            assert_eq!(talk.hear(), Some(n.to_string()), "{client}");
        }
        assert_eq!(talk.hear(), None, "{client}: silence has an end");
        eventually("the upstream was told", || chat.live() == 0);
    }
}

#[test]
fn conversations_are_split_shielded_before_the_switch_and_never_mirrored() {
    let (primary, canary, shadow) = (Chat::start("p"), Chat::start("c"), Origin::start("s"));
    let app = App::start(&format!(
        "{}services:\n  web:\n    versions:\n      stable: {{role: primary, endpoints: [\"{}\"]}}\n      \
         new: {{role: canary, endpoints: [\"{}\"]}}\n      shadow: {{endpoints: [\"{}\"]}}\n    \
         weights: {{stable: 50, new: 50}}\n    shield: true\n    mirror: {{version: shadow}}\n\
         routes:\n  - service: web\n    upgrade: [websocket]\n",
        head(1),
        primary.address,
        canary.address,
        shadow.address
    ));
    let mut names = std::collections::BTreeSet::new();
    for n in 0..40 {
        let mut talk = talk(CLIENTS[n % 2].1, &app);
        names.insert(talk.hear().expect("a name"));
    }
    assert_eq!(names.into_iter().collect::<String>(), "cp");
    app.put_weights("web", &[("new", 100.0)]);
    drop(canary);
    let mut talk = talk(Talk::upgrade, &app);
    assert_eq!(talk.hear().as_deref(), Some("p"), "the primary steps in");
    eventually("the canary failed", || app.requests(&[("version", "new"), ("outcome", "failure")]) == 1);
    assert_eq!(shadow.requests(), 0);
}

#[test]
fn a_drain_lets_conversations_go_on_until_its_deadline() {
    let chat = Chat::start("a");
    for (client, open) in CLIENTS {
        let mut app = app("http1", chat.address);
        let mut talk = talk(open, &app);
        assert_eq!(talk.hear().as_deref(), Some("a"));
        app.signal("TERM");
        eventually("no more connections are accepted", || Conn::try_open(app.address()).is_err());
        talk.say("still here");
        assert_eq!(talk.hear().as_deref(), Some("still here"), "{client}");
        drop(talk);
        assert_eq!(app.ended(), Some(0));
    }
}
