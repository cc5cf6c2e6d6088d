//! The real Alertmanager on free ports.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::client::{Ask, Conn, once};
use super::eventually;
use super::nginx::free;

pub struct Alertmanager {
    pub address: SocketAddr,
    child: Child,
    _folder: TempDir,
}

impl Alertmanager {
    pub fn start(program: &Path) -> Alertmanager {
        for _ in 0..10 {
            let folder = tempfile::tempdir().expect("a temporary folder can be made");
            let config = folder.path().join("alertmanager.yml");
            std::fs::write(&config, "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
                .expect("the folder is ours");
            let address = free();
            let mut child = Command::new(program)
                .arg(format!("--config.file={}", config.display()))
                .arg(format!("--storage.path={}", folder.path().join("data").display()))
                .arg(format!("--web.listen-address={address}"))
                .arg("--cluster.listen-address=")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("alertmanager can be run");
            let mut up = false;
            eventually("alertmanager is ready or gone", || {
                up = Conn::try_open(address)
                    .and_then(|mut conn| conn.try_ask(&Ask::get("/-/ready")))
                    .is_ok_and(|reply| reply.status == 200);
                up || matches!(child.try_wait(), Ok(Some(_)))
            });
            if up {
                return Alertmanager { address, child, _folder: folder };
            }
        }
        panic!("alertmanager did not start in ten attempts");
    }

    /// The alerts that fire.
    pub fn firing(&self) -> Vec<Value> {
        let ask = Ask::get("/api/v2/alerts?active=true").header("connection", "close");
        let reply = once(self.address, &ask);
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json().as_array().expect("a list of alerts").clone()
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
