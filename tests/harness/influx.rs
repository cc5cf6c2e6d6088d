//! The real InfluxDB 1.8, with the query API of version 2 that it has for those who
//! are about to change. Version 2 itself needs a Rust library built by its own tools.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::client::{Ask, Conn, once};
use super::nginx::free;
use super::{eventually, require_at};

pub struct Influx {
    pub address: SocketAddr,
    child: Child,
    _folder: TempDir,
}

impl Influx {
    /// With a database `birds`; `None` where it is not installed, which is told.
    pub fn start() -> Option<Influx> {
        let program = require_at("influxd", &["target/tools/go/bin"])?;
        for _ in 0..10 {
            let folder = tempfile::tempdir().expect("a temporary folder can be made");
            let (address, backup) = (free(), free());
            let path = folder.path().display();
            let text = format!(
                "reporting-disabled = true\nbind-address = \"{backup}\"\n[meta]\n  dir = \"{path}/meta\"\n\
                 [data]\n  dir = \"{path}/data\"\n  wal-dir = \"{path}/wal\"\n[monitor]\n  store-enabled = false\n\
                 [http]\n  bind-address = \"{address}\"\n  flux-enabled = true\n"
            );
            let config = folder.path().join("influx.conf");
            std::fs::write(&config, text).expect("the folder is ours");
            let mut child = Command::new(&program)
                .args(["run", "-config"])
                .arg(config)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("influxd can be run");
            let mut is_up = false;
            eventually("influxd is up or gone", || {
                is_up = Conn::try_open(address)
                    .and_then(|mut conn| conn.try_ask(&Ask::get("/ping")))
                    .is_ok_and(|reply| reply.status == 204);
                is_up || matches!(child.try_wait(), Ok(Some(_)))
            });
            if is_up {
                let influx = Influx { address, child, _folder: folder };
                influx.post("/query?q=CREATE+DATABASE+birds", "");
                return Some(influx);
            }
        }
        panic!("influxd did not start in ten attempts");
    }

    /// Points in its line protocol.
    pub fn write(&self, lines: &str) {
        self.post("/write?db=birds", lines);
    }

    fn post(&self, path: &str, body: &str) {
        let reply = once(self.address, &Ask::post(path, body).header("connection", "close"));
        assert_eq!(reply.status / 100, 2, "{path}: {}", reply.text());
    }
}

impl Drop for Influx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
