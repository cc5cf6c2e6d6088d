//! The real InfluxDB 1.8, with the query API of version 2 that it has for those who
//! are about to change. Version 2 itself needs a Rust library built by its own tools.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::client::{Ask, once};
use super::program::{Program, answers, free};
use super::require_at;

pub struct Influx {
    pub address: SocketAddr,
    _program: Program,
}

impl Influx {
    /// With a database `birds`; `None` where it is not installed, which is told.
    pub fn start() -> Option<Influx> {
        let program = require_at("influxd", &["target/tools/go/bin"])?;
        let prepare = |folder: &Path| {
            let (address, backup, path) = (free(), free(), folder.display());
            let text = format!(
                "reporting-disabled = true\nbind-address = \"{backup}\"\n[meta]\n  dir = \"{path}/meta\"\n\
                 [data]\n  dir = \"{path}/data\"\n  wal-dir = \"{path}/wal\"\n[monitor]\n  store-enabled = false\n\
                 [http]\n  bind-address = \"{address}\"\n  flux-enabled = true\n"
            );
            let config = folder.join("influx.conf");
            std::fs::write(&config, text).expect("the folder is ours");
            let mut command = Command::new(&program);
            command.args(["run", "-config"]).arg(config);
            (command, address)
        };
        let (program, address) =
            Program::start("influxd", prepare, |address| answers(*address, "/ping", 204));
        let influx = Influx { address, _program: program };
        influx.post("/query?q=CREATE+DATABASE+birds", "");
        Some(influx)
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
