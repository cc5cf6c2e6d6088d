//! Thanos's query API over its store of a real Prometheus (`tests/thanos/`).

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};

use super::prometheus::Prometheus;
use super::require_at;

pub struct Thanos {
    pub address: SocketAddr,
    child: Child,
    _said: BufReader<ChildStdout>,
}

impl Thanos {
    /// `None` where it is not installed, which is told.
    pub fn start(prometheus: &Prometheus) -> Option<Thanos> {
        let program = require_at("thanos-query", &["target/tools/go/bin"])?;
        let mut child = Command::new(program)
            .arg(format!("http://{}", prometheus.address))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("thanos-query can be run");
        let mut said = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut address = String::new();
        said.read_line(&mut address).expect("text");
        let address = address.trim().parse().expect("it says its address");
        Some(Thanos { address, child, _said: said })
    }
}

impl Drop for Thanos {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
