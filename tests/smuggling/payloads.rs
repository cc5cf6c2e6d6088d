//! The messages themselves, by what is wrong with them.

pub struct Payload {
    pub name: String,
    pub bytes: Vec<u8>,
}

fn payload(name: &str, bytes: impl Into<Vec<u8>>) -> Payload {
    Payload { name: name.to_owned(), bytes: bytes.into() }
}

/// What would be smuggled.
const INNER: &str = "GET /inner HTTP/1.1\r\nhost: a\r\n\r\n";

/// A POST with these fields and this body.
fn post(name: &str, fields: &str, body: &str) -> Payload {
    payload(name, format!("POST /outer HTTP/1.1\r\nhost: a\r\n{fields}\r\n{body}"))
}

fn get(name: &str, fields: &str) -> Payload {
    payload(name, format!("GET /outer HTTP/1.1\r\nhost: a\r\n{fields}\r\n"))
}

pub fn refused() -> Vec<Payload> {
    let mut all = two_framings();
    all.extend(transfer_encodings());
    all.extend(lengths());
    all.extend(chunks());
    all.extend(lines());
    all.extend(targets());
    all
}

fn two_framings() -> Vec<Payload> {
    let chunked = format!("0\r\n\r\n{INNER}");
    vec![
        post("CL.TE", "content-length: 6\r\ntransfer-encoding: chunked\r\n", &chunked),
        post("TE.CL", "transfer-encoding: chunked\r\ncontent-length: 4\r\n", &chunked),
        post("CL.TE in capitals", "Content-Length: 6\r\nTRANSFER-ENCODING: Chunked\r\n", &chunked),
        post("CL 0 and TE", "content-length: 0\r\ntransfer-encoding: chunked\r\n", &chunked),
        payload(
            "TE in HTTP/1.0",
            format!("POST /outer HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunked}"),
        ),
    ]
}

fn transfer_encodings() -> Vec<Payload> {
    let forms = [
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: identity, chunked\r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: chunked, chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: x\r\n",
        "transfer-encoding: x\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding : chunked\r\n",
        "transfer-encoding\t: chunked\r\n",
        " transfer-encoding: chunked\r\n",
        "x: y\r\n transfer-encoding: chunked\r\n",
        "transfer-encoding:\r\n chunked\r\n",
        "transfer-encoding\r\n: chunked\r\n",
        "transfer-encoding: \"chunked\"\r\n",
        "transfer-encoding: 'chunked'\r\n",
        "transfer-encoding: chunked;q=1\r\n",
        "transfer-encoding: ,chunked\r\n",
        "transfer-encoding: \u{b}chunked\r\n",
        "transfer-encoding: \u{c}chunked\r\n",
        "transfer-encoding: chunked\u{0}\r\n",
        "transfer-encoding: chun\rked\r\n",
        "x: y\ntransfer-encoding: chunked\r\n",
        "x: y\rtransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\n content-length: 3\r\n",
        "transfer-encoding:\r\n",
    ];
    let body = format!("0\r\n\r\n{INNER}");
    forms.iter().map(|form| post(&format!("TE as {}", form.escape_debug()), form, &body)).collect()
}

fn lengths() -> Vec<Payload> {
    let forms = [
        "content-length: 3\r\ncontent-length: 4\r\n",
        "content-length: 4\r\ncontent-length: 3\r\n",
        "content-length: 3, 4\r\n",
        "content-length: +3\r\n",
        "content-length: -3\r\n",
        "content-length: 0x3\r\n",
        "content-length: 3.0\r\n",
        "content-length: 1e1\r\n",
        "content-length: 3 3\r\n",
        "content-length: 3;\r\n",
        "content-length: '3'\r\n",
        "content-length: \r\n",
        "content-length: three\r\n",
        "content-length: 3\u{0}\r\n",
        "content-length: \u{b}3\r\n",
        "content-length: 18446744073709551616\r\n",
        "content-length: 99999999999999999999999\r\n",
        "content-length : 3\r\n",
        " content-length: 3\r\n",
        "content-length:\r\n 3\r\n",
        "content-length: 3\r\n 4\r\n",
        "content-length: 3\ncontent-length: 4\r\n",
        "content length: 3\r\n",
    ];
    forms.iter().map(|form| post(&format!("CL as {}", form.escape_debug()), form, "abcd")).collect()
}

/// Found out in the body: the head may be on its way, but the request never ends.
fn chunks() -> Vec<Payload> {
    let bodies = [
        "\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "-1\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "\t3\r\nabc\r\n0\r\n\r\n",
        "3\nabc\n0\n\n",
        "3\r\nabc0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nab\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3;a\nb\r\nabc\r\n0\r\n\r\n",
        "3;a\rb\r\nabc\r\n0\r\n\r\n",
        "3;\u{0}\r\nabc\r\n0\r\n\r\n",
        "g\r\nabc\r\n0\r\n\r\n",
        "10000000000000003\r\nabc\r\n0\r\n\r\n",
        "ffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "00000000000000000000000000000003\r\nabc\r\n0\r\n\r\n",
        "0\r\nGET /inner HTTP/1.1\r\nhost: a\r\n\r\n",
        "0\r\n x: folded\r\n\r\n",
        "0\r\nx: 1\n\r\n",
        "0\r\nx\u{0}: 1\r\n\r\n",
        "0\r\n: 1\r\n\r\n",
        "0\n\n",
    ];
    bodies
        .iter()
        .map(|body| {
            post(&format!("chunks as {}", body.escape_debug()), "transfer-encoding: chunked\r\n", body)
        })
        .chain([post(
            "an endless extension",
            "transfer-encoding: chunked\r\n",
            &format!("3;{}\r\nabc\r\n0\r\n\r\n", "a".repeat(64 * 1024)),
        )])
        .collect()
}

fn lines() -> Vec<Payload> {
    let mut all = vec![
        payload("bare line feeds", "GET /outer HTTP/1.1\nhost: a\n\n"),
        payload("a bare line feed after the request line", "GET /outer HTTP/1.1\nhost: a\r\n\r\n"),
        payload("a bare line feed at the end", "GET /outer HTTP/1.1\r\nhost: a\r\n\n"),
        payload("no host", "GET /outer HTTP/1.1\r\nx: y\r\n\r\n"),
        payload("a space before the request line", " GET /outer HTTP/1.1\r\nhost: a\r\n\r\n"),
        payload("a space before the first field", "GET /outer HTTP/1.1\r\n host: a\r\n\r\n"),
        payload("HTTP/1.2", "GET /outer HTTP/1.2\r\nhost: a\r\n\r\n"),
        payload("HTTP/9.9", "GET /outer HTTP/9.9\r\nhost: a\r\n\r\n"),
        payload("http in small letters", "GET /outer http/1.1\r\nhost: a\r\n\r\n"),
        payload("no version", "GET /outer\r\nhost: a\r\n\r\n"),
        payload("two spaces in the request line", "GET  /outer HTTP/1.1\r\nhost: a\r\n\r\n"),
        payload("a tab in the request line", "GET\t/outer\tHTTP/1.1\r\nhost: a\r\n\r\n"),
        payload("a method that is no token", "GE(T /outer HTTP/1.1\r\nhost: a\r\n\r\n"),
        payload("HTTP/2's preface as a second request", {
            let mut bytes = b"GET /x\0 HTTP/1.1\r\nhost: a\r\n\r\n".to_vec();
            bytes.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
            bytes
        }),
    ];
    all.extend([
        get("a folded field", "x: a\r\n b\r\n"),
        get("a field folded by a tab", "x: a\r\n\tb\r\n"),
        get("a carriage return in a value", "x: a\rb\r\n"),
        get("a NUL in a value", "x: a\0b\r\n"),
        get("a control byte in a value", "x: a\u{1}b\r\n"),
        get("a delete byte in a value", "x: a\u{7f}b\r\n"),
        get("a NUL in a name", "x\0y: a\r\n"),
        get("a space in a name", "x y: a\r\n"),
        get("a space before the colon", "x : a\r\n"),
        get("no colon", "xyz\r\n"),
        get("no name", ": a\r\n"),
        get("a bracket in a name", "x[y]: a\r\n"),
        get("two hosts", "host: b\r\n"),
        get("the same host twice", "host: a\r\n"),
        get("a host that is folded", "x: y\r\n host: b\r\n"),
    ]);
    all
}

fn targets() -> Vec<Payload> {
    let mut all = Vec::new();
    for target in [
        "/a\0b",
        "/a\u{1}b",
        "/a\u{7f}b",
        "/a\tb",
        "/a#b",
        "*",
        "a",
        "//\\\0",
        "http:///outer",
        "http://",
        "?a=b",
        "http://u:p@b/outer",
    ] {
        let bytes = format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n");
        all.push(payload(&format!("the target {}", target.escape_debug()), bytes));
    }
    for host in
        ["a b", "a/b", "a@b", "a,b", "a\u{1}", "a:b:c", "a:99999", "[::0", "a?b", "a#b", "a\\b", "http://a"]
    {
        let bytes = format!("GET /outer HTTP/1.1\r\nhost: {host}\r\n\r\n");
        all.push(payload(&format!("the host {}", host.escape_debug()), bytes));
    }
    all.push(payload(
        "a target for another host than the field's",
        "GET http://b/outer HTTP/1.1\r\nhost: a\r\n\r\n",
    ));
    all
}

/// Unusual, and still with one meaning.
pub fn clear() -> Vec<Payload> {
    vec![
        get("a GET as such", ""),
        get("many spaces around a value", "x:    a    \r\n"),
        get("an empty value", "x:\r\n"),
        get("bytes beyond ASCII in a value", "x: ä\r\n"),
        get("a length of nothing", "content-length: 0\r\n"),
        payload("an absolute target for the same host", "GET http://a/outer HTTP/1.1\r\nhost: a\r\n\r\n"),
        payload("an empty line before", "\r\nGET /outer HTTP/1.1\r\nhost: a\r\n\r\n"),
        payload("a name in capitals", "POST /outer HTTP/1.1\r\nHOST: a\r\nCONTENT-LENGTH: 3\r\n\r\nabc"),
        post("zeros before a length", "content-length: 003\r\n", "abc"),
        post("spaces around a length", "content-length:  3 \r\n", "abc"),
        post("chunks", "transfer-encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
        post("chunked in capitals", "Transfer-Encoding: CHUNKED\r\n", "3\r\nabc\r\n0\r\n\r\n"),
        post("a chunk extension", "transfer-encoding: chunked\r\n", "3;a=\"b\"\r\nabc\r\n0\r\n\r\n"),
        post("a request inside a body", "content-length: 33\r\n", "GET /inner HTTP/1.1\r\nhost: a\r\n\r\n.."),
        payload(
            "a length that a connection field names",
            "POST /outer HTTP/1.1\r\nhost: a\r\nconnection: content-length, host\r\ncontent-length: 3\r\n\r\nabc",
        ),
    ]
}

/// From the upstream: what must not become two answers.
pub fn answers() -> Vec<Payload> {
    let heads = [
        ("two lengths", "content-length: 2\r\ncontent-length: 3\r\n", "okx"),
        ("CL and TE", "content-length: 2\r\ntransfer-encoding: chunked\r\n", "2\r\nok\r\n0\r\n\r\n"),
        ("a signed length", "content-length: +2\r\n", "ok"),
        ("a length that is none", "content-length: 2x\r\n", "ok"),
        ("a NUL in a value", "x-evil: a\0b\r\ncontent-length: 2\r\n", "ok"),
        ("a carriage return in a value", "x: a\rx-evil: b\r\ncontent-length: 2\r\n", "ok"),
        ("a space before the colon", "x-evil : a\r\ncontent-length: 2\r\n", "ok"),
        ("a bad chunk", "transfer-encoding: chunked\r\n", "zz\r\nok\r\n0\r\n\r\n"),
        ("a chunk too large", "transfer-encoding: chunked\r\n", "fffffffffffffffff\r\nok\r\n0\r\n\r\n"),
        ("a chunk without its end", "transfer-encoding: chunked\r\n", "2\r\nokok\r\n0\r\n\r\n"),
    ];
    let mut all: Vec<Payload> = heads
        .iter()
        .map(|(name, fields, body)| payload(name, format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}")))
        .collect();
    all.push(payload("no status line", "hello\r\n\r\n"));
    all.push(payload("a status that is none", "HTTP/1.1 2000 OK\r\ncontent-length: 2\r\n\r\nok"));
    all.push(payload("a version that is none", "HTTP/3.1 200 OK\r\ncontent-length: 2\r\n\r\nok"));
    all
}
