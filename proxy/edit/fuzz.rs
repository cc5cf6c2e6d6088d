//! What must hold of a value with operators for any text.

use http::HeaderMap;
use http::header::HeaderValue;

use super::*;
use template::Template;

/// It comes out as one line; the same of a request and of the answer to it; and
/// as it came out, written as plain text, it is that text.
pub fn template(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut asked = Vec::new();
    let of_request = Template::of_request(text);
    let Ok(of_answer) = Template::of_answer(text, &mut asked) else {
        assert!(of_request.is_err(), "what a request knows, its answer knows");
        return;
    };
    let mut request = http::Request::builder().uri("/a/b?c=%25");
    for (name, value) in [("host", "a.b:80"), ("x-a", "1 2"), ("x-forwarded-proto", "https")] {
        request = request.header(name, value);
    }
    let request = request.body(()).expect("a request").into_parts().0;
    let peer = Peer::new(([127, 0, 0, 1], 1).into(), None);
    let (protocol, version) = (http::Version::HTTP_11, "web/canary");
    let scene = Scene {
        peer: &peer,
        client: peer.remote,
        protocol,
        route: "route",
        version,
        matched: Matched::Whole,
    };
    let mut fields = HeaderMap::new();
    fields.insert("x-b", HeaderValue::from_static("\t%50 x"));
    let kept: Vec<_> = asked.iter().map(|asking| asking.answer(&request, &scene)).collect();
    let answered = Answered { status: 200, version, upstream: Some(&"10.0.0.1:5") };
    let mut value = Vec::new();
    of_answer
        .fill(&Facts { kept: &kept, answer: Some((&fields, &answered)), ..Facts::default() }, &mut value);
    let one_line = value.iter().all(|byte| !byte.is_ascii_control() || matches!(byte, b'\t' | 0x7f));
    assert!(one_line, "{}", value.escape_ascii());
    let Ok(of_request) = of_request else { return };
    let mut same = Vec::new();
    of_request.fill(&Facts { request: Some((&request, &scene)), ..Facts::default() }, &mut same);
    // Time goes on between the two.
    if !text.contains("START_TIME") {
        assert_eq!(same.escape_ascii().to_string(), value.escape_ascii().to_string());
    }
    if let Some(fixed) = of_request.fixed() {
        assert_eq!(fixed, same);
    } else {
        assert!(text.contains('%'), "without an operator it is always the same");
    }
    if let Ok(plain) = String::from_utf8(same) {
        let again = Template::of_request(&plain.replace('%', "%%"));
        assert_eq!(again.ok().as_ref().and_then(Template::fixed), Some(plain.as_bytes()));
    }
}
