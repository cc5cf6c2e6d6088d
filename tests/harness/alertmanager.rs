//! The real Alertmanager.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::client::{Ask, once};
use super::program::{Program, answers, free};

pub struct Alertmanager {
    pub address: SocketAddr,
    _program: Program,
}

impl Alertmanager {
    pub fn start(program: &Path) -> Alertmanager {
        let prepare = |folder: &Path| {
            let config = folder.join("alertmanager.yml");
            std::fs::write(&config, "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
                .expect("the folder is ours");
            let (address, mut command) = (free(), Command::new(program));
            command
                .arg(format!("--config.file={}", config.display()))
                .arg(format!("--storage.path={}", folder.join("data").display()))
                .arg(format!("--web.listen-address={address}"))
                .arg("--cluster.listen-address=");
            (command, address)
        };
        let (program, address) =
            Program::start("alertmanager", prepare, |address| answers(*address, "/-/ready", 200));
        Alertmanager { address, _program: program }
    }

    /// The alerts that fire.
    pub fn firing(&self) -> Vec<Value> {
        let ask = Ask::get("/api/v2/alerts?active=true").header("connection", "close");
        let reply = once(self.address, &ask);
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json().as_array().expect("a list of alerts").clone()
    }
}
