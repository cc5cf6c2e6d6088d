//! Messages that two readers could end in different places, or read as
//! different messages: each is refused and its connection closed, and no
//! complete request of it reaches the upstream. What is merely odd arrives in a
//! form that has one reading.

mod payloads;

use std::io::ErrorKind;
use std::time::Duration;

use crate::harness::app::single;
use crate::harness::client::Reply;
use crate::harness::h2::H2;
use crate::harness::recorder::Recorder;
use crate::harness::{App, Ask, Conn, eventually};

use payloads::Payload;

/// Makes serin's other codec take the connection over.
const TO_HYPER: &[u8] = b"GET /first HTTP/1.1\r\nhost: a\r\nconnection: x-none\r\n\r\n";

const REFUSALS: [u16; 6] = [400, 413, 414, 431, 501, 505];
/// A connection that lasts longer than this after a refusal is open.
const OPEN: Duration = Duration::from_secs(4);

/// Both readers of HTTP/1 that serin has.
#[derive(Clone, Copy, Debug)]
enum Codec {
    Plain,
    Hyper,
}

fn open(app: &App, codec: Codec) -> Conn {
    let mut conn = app.conn();
    if let Codec::Hyper = codec {
        conn.write(TO_HYPER);
        assert_eq!(conn.read_reply("GET").expect("an answer").status, 200);
    }
    conn
}

/// All answers until the connection ends; an error if it does not.
fn answers(mut conn: Conn) -> Result<Vec<Reply>, String> {
    let mut replies = Vec::new();
    conn.stream.set_read_timeout(Some(OPEN)).expect("a legal timeout");
    loop {
        match conn.read_reply("POST") {
            Ok(reply) => replies.push(reply),
            Err(error) if is_end(&error) => return Ok(replies),
            Err(error) => return Err(format!("stays open after {} answers: {error}", replies.len())),
        }
    }
}

fn is_end(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// What is wrong with how this payload was met, if anything.
fn refusal(app: &App, recorder: &Recorder, codec: Codec, bytes: &[u8]) -> Result<(), String> {
    let mut conn = open(app, codec);
    recorder.forget();
    conn.write(bytes);
    let replies = answers(conn)?;
    if replies.len() > 1 {
        return Err(format!("got {} answers", replies.len()));
    }
    if let Some(reply) = replies.first().filter(|reply| !REFUSALS.contains(&reply.status)) {
        return Err(format!("got {}", reply.status));
    }
    match recorder.requests().first() {
        Some(seen) => Err(format!("reached the upstream as {}", seen.escape_ascii())),
        None => Ok(()),
    }
}

#[test]
fn an_ambiguous_request_is_refused_and_reaches_nobody() {
    let recorder = Recorder::start();
    let app = App::start(&single(recorder.address));
    let mut wrong = Vec::new();
    for codec in [Codec::Plain, Codec::Hyper] {
        for Payload { name, bytes } in payloads::refused() {
            if let Err(what) = refusal(&app, &recorder, codec, &bytes) {
                wrong.push(format!("{name} ({codec:?}) {what}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} payloads:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(app.conn().get("/").status, 200, "and others are served as before");
}

#[test]
fn an_odd_but_clear_request_is_passed_on_in_one_form() {
    let recorder = Recorder::start();
    let app = App::start(&single(recorder.address));
    for codec in [Codec::Plain, Codec::Hyper] {
        for Payload { name, bytes } in payloads::clear() {
            let mut conn = open(&app, codec);
            recorder.forget();
            conn.write(&bytes);
            let reply = conn.read_reply("POST").unwrap_or_else(|error| panic!("{name} ({codec:?}): {error}"));
            assert_eq!(reply.status, 200, "{name} ({codec:?})");
            eventually("the upstream has it whole", || !recorder.requests().is_empty());
            let seen = recorder.requests();
            assert_eq!(seen.len(), 1, "{name} ({codec:?})");
            let text = String::from_utf8_lossy(&seen[0]).to_ascii_lowercase();
            let head = text.split("\r\n\r\n").next().expect("a head");
            let count = |field: &str| head.matches(&format!("\r\n{field}:")).count();
            assert_eq!(count("host"), 1, "{name} ({codec:?}): {head}");
            assert!(count("content-length") + count("transfer-encoding") <= 1, "{name} ({codec:?}): {head}");
            assert!(!head.replace("\r\n", "").contains(['\r', '\n', '\0']), "{name} ({codec:?}): {head}");
        }
    }
}

#[test]
fn an_ambiguous_answer_is_never_passed_on() {
    let recorder = Recorder::start();
    let app = App::start(&single(recorder.address));
    let mut wrong = Vec::new();
    for codec in [Codec::Plain, Codec::Hyper] {
        for Payload { name, bytes } in payloads::answers() {
            let mut conn = open(&app, codec);
            recorder.answer_next(&bytes);
            conn.write(b"GET /asked HTTP/1.1\r\nhost: a\r\n\r\n");
            match conn.read_reply("GET") {
                Ok(reply) if reply.status == 502 && reply.header("x-evil").is_none() => {}
                Ok(reply) => wrong.push(format!("{name} ({codec:?}) got {}", reply.status)),
                // Found out in the middle of the body: broken off, never ended.
                Err(error) if is_end(&error) => {}
                Err(error) => wrong.push(format!("{name} ({codec:?}) got {error}")),
            }
            let again = app.conn().get("/");
            if (again.status, again.text().as_str()) != (200, "ok") {
                wrong.push(format!("{name} ({codec:?}) spoilt the next answer: {}", again.text()));
            }
        }
    }
    assert!(wrong.is_empty(), "{} answers:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn an_ambiguous_answer_is_no_answer_for_an_http2_client() {
    let recorder = Recorder::start();
    let app = App::start(&single(recorder.address));
    let mut wrong = Vec::new();
    for Payload { name, bytes } in payloads::answers() {
        recorder.answer_next(&bytes);
        // Found out in the middle of the body it resets the stream.
        if let Ok(reply) = H2::open(app.address()).try_ask(&Ask::get("/asked"))
            && (reply.status != 502 || reply.header("x-evil").is_some())
        {
            wrong.push(format!("{name} got {}", reply.status));
        }
        let again = H2::open(app.address()).ask(&Ask::get("/"));
        if (again.status, again.text().as_str()) != (200, "ok") {
            wrong.push(format!("{name} spoilt the next answer: {}", again.text()));
        }
    }
    assert!(wrong.is_empty(), "{} answers:\n{}", wrong.len(), wrong.join("\n"));
}
