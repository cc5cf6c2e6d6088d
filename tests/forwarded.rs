//! What versions are told of where a request comes from, by both codecs alike.

use crate::harness::h2::H2;
use crate::harness::{Answer, App, Ask, Origin};

const CLAIMS: [(&str, &str); 5] = [
    ("x-forwarded-for", "1.1.1.1"),
    ("x-forwarded-host", "claimed"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-client-cert", "Hash=forged"),
    ("x-request-id", "claimed-7"),
];

fn listening(origin: &Origin, forwarded: &str) -> App {
    App::start(&format!(
        "listeners:\n  - name: web\n    address: 127.0.0.1:0\n    forwarded: {forwarded}\nadmin: 127.0.0.1:0\n\
         workers: 1\nservices:\n  web:\n    primary: {}\n",
        origin.address
    ))
}

/// What the version is told, by field; over HTTP/1.1 and over HTTP/2.
fn told(app: &App) -> [Vec<String>; 2] {
    let ask =
        CLAIMS.iter().fold(Ask::get("/").host("shop.example"), |ask, (name, value)| ask.header(name, value));
    [app.conn().ask(&ask), H2::open(app.address()).ask(&ask)].map(|reply| {
        let echo = reply.json();
        let headers = echo["headers"].as_array().expect("a list of fields");
        let value = |name: &str| {
            let found = headers.iter().find(|pair| pair[0] == name);
            found.and_then(|pair| pair[1].as_str()).unwrap_or("-").to_owned()
        };
        CLAIMS.iter().map(|(name, _)| value(name)).collect()
    })
}

#[test]
fn an_edge_replaces_what_its_clients_claim() {
    let origin = Origin::answering("a", |_| Answer::echo());
    for fields in told(&listening(&origin, "{edge: true}")) {
        assert_eq!(fields[..4], ["1.1.1.1,127.0.0.1", "shop.example", "http", "-"]);
        assert!(fields[4].len() == 36 && fields[4] != "claimed-7", "{fields:?}");
    }
}

#[test]
fn behind_a_trusted_proxy_its_word_is_kept() {
    let origin = Origin::answering("a", |_| Answer::echo());
    for fields in told(&listening(&origin, "{trustedHops: 1, keepRequestId: true}")) {
        assert_eq!(fields, ["1.1.1.1,127.0.0.1", "claimed", "https", "-", "claimed-7"]);
    }
    let sidecar = "{edge: false, clientCertificate: {mode: always_forward_only}}";
    for fields in told(&listening(&origin, sidecar)) {
        assert_eq!(fields, ["1.1.1.1", "claimed", "https", "Hash=forged", "claimed-7"]);
    }
}

#[test]
fn a_reload_reaches_the_connections_that_come_after_it() {
    let origin = Origin::answering("a", |_| Answer::echo());
    let app = listening(&origin, "{edge: false}");
    assert_eq!(told(&app)[0][0], "1.1.1.1");
    let yaml = std::fs::read_to_string(app.config()).expect("it was written");
    let reload = app.reload(&yaml.replace("{edge: false}", "{edge: true, append: false, port: true}"));
    assert_eq!(reload.status, 200, "{}", reload.text());
    let fields = &told(&app)[0];
    assert_eq!(fields[..3], ["1.1.1.1", "shop.example", "http"]);
}
