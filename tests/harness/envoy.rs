//! The real Envoy, started on a configuration of the test's.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::{Ask, Conn};
use super::{eventually, require_at};

/// A running Envoy with one worker; it is killed when dropped.
pub struct Envoy {
    listeners: Vec<(String, SocketAddr)>,
    child: Child,
    folder: TempDir,
}

/// The program, as `tests/run` set it up or as it stands in `PATH`.
pub fn program() -> Option<PathBuf> {
    require_at("envoy", &["target/tools/venv/bin"])
}

impl Envoy {
    /// Starts on these static resources and waits until its listeners are up.
    /// Listeners may ask for port 0.
    pub fn start(program: &Path, resources: &Value) -> Envoy {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let any = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
        let config = json!({"static_resources": resources, "admin": {"address": any}});
        let text = serde_json::to_string_pretty(&config).expect("a value can be written");
        std::fs::write(folder.path().join("envoy.json"), text).expect("the folder is ours");
        let log = std::fs::File::create(folder.path().join("stderr")).expect("the folder is ours");
        let child = Command::new(program)
            .args(["-c", "envoy.json", "--concurrency", "1", "--disable-hot-restart"])
            .args(["--admin-address-path", "admin", "-l", "warning"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("envoy can be run");
        let mut envoy = Envoy { listeners: Vec::new(), child, folder };
        let wanted = resources["listeners"].as_array().map_or(0, Vec::len);
        eventually("envoy listens", || {
            assert!(matches!(envoy.child.try_wait(), Ok(None)), "envoy ended:\n{}", envoy.log());
            envoy.listeners = envoy.announced();
            envoy.listeners.len() == wanted
        });
        envoy
    }

    pub fn listener(&self, name: &str) -> SocketAddr {
        let found = self.listeners.iter().find(|(key, _)| key == name);
        found.unwrap_or_else(|| panic!("no listener {name:?} in {:?}", self.listeners)).1
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("envoy.json")
    }

    /// What it has said on stderr so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
    }

    /// The admin door says where the listeners are, as `name::address` lines.
    fn announced(&self) -> Vec<(String, SocketAddr)> {
        let admin = std::fs::read_to_string(self.folder.path().join("admin")).unwrap_or_default();
        let Ok(admin) = admin.trim().parse() else { return Vec::new() };
        let asked = Conn::try_open(admin)
            .and_then(|mut conn| conn.try_ask(&Ask::get("/listeners").header("connection", "close")));
        let Ok(reply) = asked else { return Vec::new() };
        let line = |line: &str| {
            let (name, address) = line.split_once("::")?;
            Some((name.to_owned(), address.parse().ok().filter(|address: &SocketAddr| address.port() != 0)?))
        };
        reply.text().lines().filter_map(line).collect()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn envoy_starts_and_answers_as_told() {
    let Some(program) = program() else { return };
    let routes = json!([{"match": {"prefix": "/"}, "direct_response": {"status": 418}}]);
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "test",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [{"name": "router", "typed_config":
            {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
    });
    let listener = json!({
        "name": "one",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    });
    let envoy = Envoy::start(&program, &json!({"listeners": [listener]}));
    assert_eq!(super::client::once(envoy.listener("one"), &Ask::get("/x")).status, 418);
}
