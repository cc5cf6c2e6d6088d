//! TLS to endpoints: whom they have to be, what they are shown, and what becomes
//! of a handshake that fails. The endpoints are the real nginx.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use crate::harness::app::{head, serin};
use crate::harness::certs::Authority;
use crate::harness::client::once;
use crate::harness::h2::H2;
use crate::harness::program::free;
use crate::harness::{App, Ask, eventually, require};

/// An nginx that tells of its side of the handshake.
struct Secure {
    address: SocketAddr,
    child: Child,
}

impl Secure {
    /// `more` are further statements of the server; `None` without an nginx.
    fn start(authority: &Authority, name: &str, more: &str) -> Option<Secure> {
        let program = require("nginx")?;
        authority.put(name, &authority.sign(&[name]));
        for _ in 0..10 {
            let (address, folder) = (free(), authority.path("x", "x").parent().expect("a folder").to_owned());
            let at = |file: &str| folder.join(format!("{name}-{file}")).display().to_string();
            let conf = format!(
                "daemon off;\nworker_processes 1;\npid {};\nevents {{ worker_connections 256; }}\nhttp {{\n  \
                 client_body_temp_path {}; proxy_temp_path {}; fastcgi_temp_path {}; uwsgi_temp_path {}; \
                 scgi_temp_path {};\n  access_log off;\n  server {{\n    listen {address} ssl http2;\n    \
                 ssl_certificate {};\n    ssl_certificate_key {};\n    {more}\n    location / {{ return 200 \
                 'sni=$ssl_server_name client=$ssl_client_s_dn $ssl_protocol reused=$ssl_session_reused \
                 $server_protocol requests=$connection_requests host=$host'; }}\n  }}\n}}\n",
                at("pid"),
                at("1"),
                at("2"),
                at("3"),
                at("4"),
                at("5"),
                authority.path(name, "pem").display(),
                authority.path(name, "key").display(),
            );
            std::fs::write(at("conf"), conf).expect("the folder is ours");
            let mut child = Command::new(&program)
                .args(["-p".as_ref(), folder.as_os_str(), "-e".as_ref(), "stderr".as_ref(), "-c".as_ref()])
                .arg(at("conf"))
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("nginx can be run");
            let mut up = false;
            eventually("nginx is up or gone", || {
                up = TcpStream::connect(address).is_ok();
                up || matches!(child.try_wait(), Ok(Some(_)))
            });
            if up && matches!(child.try_wait(), Ok(None)) {
                return Some(Secure { address, child });
            }
        }
        panic!("nginx did not start in ten attempts");
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.child.wait();
    }
}

/// One version with these settings of TLS and more.
fn over(upstream: SocketAddr, tls: &str, more: &str) -> App {
    let version = format!("{{endpoints: {upstream}, tls: {tls}{more}}}");
    App::start(&format!("{}services:\n  web:\n    primary: {version}\n", head(1)))
}

#[test]
fn requests_go_up_over_tls_under_the_name_asked_for_and_connections_are_kept() {
    let authority = Authority::new();
    let Some(nginx) = Secure::start(&authority, "up.example", "ssl_protocols TLSv1.2 TLSv1.3;") else {
        return;
    };
    let ca = authority.ca().display().to_string();
    for (more, spoken) in [("", "HTTP/1.1"), (", protocol: http2", "HTTP/2.0")] {
        let app = over(nginx.address, &format!("{{sni: up.example, ca: {ca}}}"), more);
        let mut conn = app.conn();
        let first = conn.get("/");
        assert_eq!(first.status, 200, "{}", first.cause());
        assert!(first.text().contains("sni=up.example client= TLSv1.3"), "{}", first.text());
        assert!(
            first.text().contains(spoken) && first.text().contains("host=test.local"),
            "{}",
            first.text()
        );
        let second = conn.get("/").text();
        assert!(second.contains("requests=2"), "the connection is kept: {second}");
        let h2 = H2::open(app.address()).ask(&Ask::get("/"));
        assert!(h2.text().contains("sni=up.example"), "by hyper too: {}", h2.text());
    }
}

#[test]
fn an_endpoint_that_is_not_whom_it_should_be_counts_against_its_version() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let Some(nginx) = Secure::start(&authority, "up.example", "ssl_protocols TLSv1.2;") else { return };
    let (ca, foreign) = (authority.ca().display().to_string(), stranger.ca().display().to_string());
    for (tls, good) in [
        (format!("{{sni: up.example, ca: {ca}}}"), true),
        (format!("{{sni: other.example, ca: {ca}}}"), false),
        (format!("{{sni: up.example, ca: {foreign}}}"), false),
        (format!("{{sni: up.example, ca: {ca}, minVersion: 1.3}}"), false),
        (format!("{{sni: x.example, ca: {ca}, subjects: [{{type: dns, suffix: .example}}]}}"), true),
        (format!("{{sni: up.example, ca: {ca}, subjects: [{{type: dns, exact: no.example}}]}}"), false),
        (format!("{{ca: {ca}}}"), false),
        ("{insecureSkipVerify: true}".to_owned(), true),
    ] {
        let app = over(nginx.address, &tls, "");
        let reply = once(app.address(), &Ask::get("/"));
        let expected = if good { (200, "none") } else { (503, "tls-handshake") };
        assert_eq!((reply.status, reply.cause()), expected, "{tls}: {}", reply.text());
        assert_eq!(app.requests(&[("outcome", "failure")]), u64::from(!good), "{tls}");
        let checked = serin(&["check", "-c", &app.config().display().to_string()]);
        let warned = String::from_utf8_lossy(&checked.stdout).contains("is not checked");
        assert_eq!(warned, tls.contains("insecure"), "{tls}");
    }
}

#[test]
fn the_server_name_follows_the_request_and_connections_are_not_mixed() {
    let authority = Authority::new();
    let Some(nginx) = Secure::start(&authority, "*.up.example", "") else { return };
    let ca = authority.ca().display().to_string();
    // A bound on connections keeps no host waiting for another's.
    for (protocol, bound) in [("http1", ""), ("http2", ""), ("http1", ", connections: {maxPerEndpoint: 1}")] {
        let more = format!(", protocol: {protocol}{bound}");
        let app = over(nginx.address, &format!("{{autoSni: true, ca: {ca}}}"), &more);
        let mut conn = app.conn();
        for host in ["a.up.example", "b.up.example:8080", "a.up.example"] {
            let reply = conn.ask(&Ask::get("/").host(host));
            let name = host.split(':').next().expect("a host");
            assert!(reply.text().contains(&format!("sni={name} ")), "{protocol}: {}", reply.text());
        }
        let reply = conn.ask(&Ask::get("/").host("elsewhere.test"));
        assert_eq!((reply.status, reply.cause()), (503, "tls-handshake"));
    }
}

#[test]
fn a_certificate_is_shown_to_an_endpoint_that_asks() {
    let authority = Authority::new();
    let ask = format!("ssl_client_certificate {}; ssl_verify_client on;", authority.ca().display());
    let Some(nginx) = Secure::start(&authority, "up.example", &ask) else { return };
    let ca = authority.ca().display().to_string();
    let own = authority.put("own", &authority.sign_client("spiffe://td/serin"));
    let app = over(nginx.address, &format!("{{sni: up.example, ca: {ca}, certificate: {own}}}"), "");
    let reply = once(app.address(), &Ask::get("/"));
    assert!(reply.text().contains("client=CN=client.example,O=serin"), "{} {}", reply.status, reply.text());
    let app = over(nginx.address, &format!("{{sni: up.example, ca: {ca}}}"), "");
    assert_eq!(once(app.address(), &Ask::get("/")).status, 400, "nginx asks for a certificate");
}
