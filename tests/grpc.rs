//! gRPC through the proxy: the official interoperability client and server at
//! the two ends, and the counts in the middle.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::harness::app::{head, quiet};
use crate::harness::{App, eventually, require_at};

const FOLDER: &[&str] = &["target/tools/go/bin"];

/// Cases that need nothing but the two programs, and how many of their calls
/// count as successes and as failures of the server. No numbers where it depends
/// on who is first. Left out, as they fail without a proxy in between as well:
/// pick_first_unary and orca_*, for which this server has no answer.
const CASES: [(&str, Option<(u64, u64)>); 14] = [
    ("empty_unary", Some((1, 0))),
    ("large_unary", Some((1, 0))),
    ("client_streaming", Some((1, 0))),
    ("server_streaming", Some((1, 0))),
    ("ping_pong", Some((1, 0))),
    ("empty_stream", Some((1, 0))),
    ("custom_metadata", Some((2, 0))),
    // UNKNOWN, once in a unary call and once in a stream.
    ("status_code_and_message", Some((0, 2))),
    ("special_status_message", Some((0, 1))),
    // UNIMPLEMENTED.
    ("unimplemented_method", Some((0, 1))),
    ("unimplemented_service", Some((0, 1))),
    ("timeout_on_sleeping_server", None),
    ("cancel_after_begin", None),
    ("cancel_after_first_response", None),
];

struct Server {
    address: SocketAddr,
    child: Child,
}

impl Server {
    /// It cannot be given port 0 and asked which it got: take a free one, and
    /// try again if it is lost.
    fn start(program: &PathBuf) -> Server {
        for _ in 0..10 {
            let free = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
            let address = free.local_addr().expect("it is bound");
            drop(free);
            let mut child = Command::new(program)
                .args(["-port", &address.port().to_string()])
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("the server can be run");
            let mut up = false;
            eventually("the server is up or gone", || {
                up = TcpStream::connect(address).is_ok();
                up || matches!(child.try_wait(), Ok(Some(_)))
            });
            if up && matches!(child.try_wait(), Ok(None)) {
                return Server { address, child };
            }
        }
        panic!("the server did not start in ten attempts");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_official_client_and_server_understand_each_other_through_the_proxy() {
    let Some(client) = require_at("grpc-interop-client", FOLDER) else { return };
    let Some(server) = require_at("grpc-interop-server", FOLDER) else { return };
    let server = Server::start(&server);
    let app = App::start(&format!(
        "{}services:\n  web:\n    primary: {{endpoints: [\"{}\"], protocol: http2}}\n",
        head(1),
        server.address
    ));
    let count = |outcome| app.requests(&[("outcome", outcome)]);
    for (case, counted) in CASES {
        let (successes, failures) = (count("success"), count("failure"));
        let output = Command::new(&client)
            .args(["-server_host", "127.0.0.1", "-server_port", &app.address().port().to_string()])
            .args(["-test_case", case])
            .output()
            .expect("the client can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{case}: {said}");
        quiet(&app);
        if let Some(counted) = counted {
            let found = (count("success") - successes, count("failure") - failures);
            assert_eq!(found, counted, "successes and failures of {case}");
        }
    }
}
