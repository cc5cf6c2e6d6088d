//! The PROXY protocol: taken from those who may say it, said to those who ask.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::mpsc;

use crate::harness::client::Conn;
use crate::harness::program::free;
use crate::harness::{Answer, App, Ask, Origin, PATIENCE, eventually, require};

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\x13\x88\x01\xbb";

fn listening(upstream: SocketAddr, policy: &str) -> App {
    App::start(&format!(
        "listeners:\n  - name: web\n    address: 127.0.0.1:0\n    proxyProtocol: {policy}\n    \
         limits: {{headerTimeout: 2s}}\nadmin: 127.0.0.1:0\nworkers: 1\nservices:\n  web:\n    primary: {upstream}\n"
    ))
}

fn echo() -> Origin {
    Origin::answering("a", |_| Answer::echo())
}

/// The client's address as the version is told, of a connection that begins so.
fn told(app: &App, before: &[u8]) -> Option<String> {
    let mut conn = app.conn();
    conn.stream.write_all(before).ok()?;
    let reply = conn.try_ask(&Ask::get("/")).ok()?;
    if reply.status != 200 {
        return None;
    }
    let echo = reply.json();
    let headers = echo["headers"].as_array()?.clone();
    headers
        .iter()
        .find(|pair| pair[0] == "x-forwarded-for")
        .and_then(|pair| Some(pair[1].as_str()?.to_owned()))
}

#[test]
fn both_forms_are_taken_and_the_version_learns_of_the_client() {
    let origin = echo();
    let app = listening(origin.address, "true");
    let said = |before: &[u8]| told(&app, before);
    assert_eq!(said(b"PROXY TCP4 1.2.3.4 5.6.7.8 5000 443\r\n").as_deref(), Some("1.2.3.4"));
    assert_eq!(said(b"PROXY TCP6 2001:db8::1 2001:db8::2 5000 443\r\n").as_deref(), Some("2001:db8::1"));
    assert_eq!(said(V2).as_deref(), Some("1.2.3.4"));
    assert_eq!(said(b"PROXY UNKNOWN\r\n").as_deref(), Some("127.0.0.1"));
    for wrong in [&b""[..], b"PROXY TCP4 1.2.3.4\r\n", b"PROXY TCP4 x y 1 2\r\n", &[b'P'; 300]] {
        assert_eq!(said(wrong), None, "{:?}", String::from_utf8_lossy(wrong));
    }
}

#[test]
fn a_header_may_come_in_pieces_but_not_for_ever() {
    let origin = echo();
    let app = listening(origin.address, "true");
    let mut conn = app.conn();
    for byte in V2 {
        conn.stream.write_all(&[*byte]).expect("it waits for the rest");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(conn.get("/").status, 200);
    let mut slow = app.conn();
    slow.write(&V2[..20]);
    assert!(slow.is_closed_by_peer());
}

#[test]
fn where_it_is_optional_or_not_trusted_connections_are_as_they_are() {
    let origin = echo();
    let optional = listening(origin.address, "{required: false, trusted: [127.0.0.0/8]}");
    assert_eq!(told(&optional, b"").as_deref(), Some("127.0.0.1"));
    assert_eq!(told(&optional, V2).as_deref(), Some("1.2.3.4"));
    // Its beginning could be a header's, for a while.
    let mut conn = optional.conn();
    conn.write(b"P");
    std::thread::sleep(std::time::Duration::from_millis(100));
    conn.write(b"OST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(conn.read_reply("POST").expect("an answer").status, 200);
    let stranger = listening(origin.address, "{required: false, trusted: [10.0.0.0/8]}");
    assert_eq!(told(&stranger, b"").as_deref(), Some("127.0.0.1"));
    assert_eq!(told(&stranger, V2), None, "it is not believed, and it is no request");
    let closed = listening(origin.address, "{required: true, trusted: [10.0.0.0/8]}");
    assert_eq!((told(&closed, V2), told(&closed, b"")), (None, None));
}

#[test]
fn curl_and_haproxy_are_understood() {
    let origin = echo();
    let app = listening(origin.address, "true");
    if let Some(curl) = require("curl") {
        let output = Command::new(curl)
            .args(["-sS", "--max-time", "30", "--haproxy-protocol", &format!("http://{}/", app.address())])
            .output()
            .expect("curl can be run");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains(r#"["x-forwarded-for","127.0.0.1"]"#), "{said}");
    }
    let Some(haproxy) = require("haproxy") else { return };
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    for form in ["send-proxy", "send-proxy-v2"] {
        let front = free();
        let conf = format!(
            "global\n  maxconn 64\ndefaults\n  mode tcp\n  timeout connect 10s\n  timeout client 30s\n  timeout server \
             30s\nlisten x\n  bind {front}\n  server s {} {form}\n",
            app.address()
        );
        let path = folder.path().join(form);
        std::fs::write(&path, conf).expect("the folder is ours");
        let mut child = Command::new(&haproxy)
            .args(["-db".as_ref(), "-f".as_ref(), path.as_os_str()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("haproxy can be run");
        eventually("haproxy is up", || std::net::TcpStream::connect(front).is_ok());
        let mut conn = Conn::open(front);
        let port = conn.stream.local_addr().expect("it is connected").port();
        let reply = conn.get("/");
        let _ = child.kill();
        let _ = child.wait();
        assert!(reply.status == 200 && port > 0, "{form}: {}", reply.text());
        assert!(reply.text().contains(r#"["x-forwarded-for","127.0.0.1"]"#), "{form}: {}", reply.text());
    }
}

/// A server that tells the first bytes of each connection and answers once.
fn recorder() -> (SocketAddr, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    let (sender, first) = mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut bytes = Vec::new();
            let mut chunk = [0; 4096];
            while !bytes.windows(4).any(|end| end == b"\r\n\r\n" && bytes.len() > 40) {
                match stream.read(&mut chunk) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => bytes.extend_from_slice(&chunk[..count]),
                }
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            if sender.send(bytes).is_err() {
                return;
            }
        }
    });
    (address, first)
}

#[test]
fn an_endpoint_is_told_of_each_client_on_a_connection_of_its_own() {
    // With room for one at a time, each makes way for the next.
    for (form, bound) in [("v1", ""), ("v2", ""), ("v1", ", connections: {maxPerEndpoint: 1}")] {
        let (upstream, first) = recorder();
        let app = App::start(&format!(
            "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nworkers: 1\nservices:\n  web:\n    primary: {{endpoints: \
             {upstream}, proxyProtocol: {form}{bound}}}\n"
        ));
        for _ in 0..2 {
            let mut conn = app.conn();
            let port = conn.stream.local_addr().expect("it is connected").port();
            for _ in 0..2 {
                assert_eq!(conn.get("/").text(), "ok", "{form}");
                let bytes = first.recv_timeout(PATIENCE).expect("a connection");
                let expected = match form {
                    "v1" => format!("PROXY TCP4 127.0.0.1 127.0.0.1 {port} {}\r\n", app.address().port())
                        .into_bytes(),
                    _ => {
                        let ports = [port.to_be_bytes(), app.address().port().to_be_bytes()].concat();
                        [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01"[..], &ports].concat()
                    }
                };
                assert!(bytes.starts_with(&expected), "{form}: {}", String::from_utf8_lossy(&bytes));
            }
        }
    }
}
