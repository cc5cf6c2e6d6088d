//! One request by every way through the proxy: our own HTTP/1 codec, the
//! library's, and HTTP/2. What a route means must not depend on the way.

use super::h2::H2;
use super::{App, Ask, client::Reply};

/// The same request three times, each answer with the name of its way.
pub fn ways(app: &App, ask: &Ask) -> [(&'static str, Reply); 3] {
    let ask = if ask.host == "test.local" { ask.clone().host("test.example") } else { ask.clone() };
    // A field that our own codec leaves to the library.
    let unusual = ask.clone().header("te", "trailers");
    [
        ("plain", app.conn().ask(&ask)),
        ("library", app.conn().ask(&unusual)),
        ("http2", H2::open(app.address()).ask(&ask)),
    ]
}

/// As the origin echoes it: the values of one field of a request.
pub fn echoed(reply: &Reply, name: &str) -> Vec<String> {
    let echo = reply.json();
    let fields = echo["headers"].as_array().expect("an echo has fields");
    let named = fields.iter().filter(|field| field[0] == name);
    named.map(|field| field[1].as_str().expect("values are text").to_owned()).collect()
}

/// The values of one field of an answer.
pub fn values<'r>(reply: &'r Reply, name: &str) -> Vec<&'r str> {
    let named = reply.headers.iter().filter(|(key, _)| key == name);
    named.map(|(_, value)| value.as_str()).collect()
}
