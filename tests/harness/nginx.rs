//! The real nginx as two upstreams, each with an access log to count by.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::eventually;

/// Two servers in one nginx: `v1` always answers 200, `v2` answers as told.
pub struct Nginx {
    pub v1: SocketAddr,
    pub v2: SocketAddr,
    child: Child,
    folder: TempDir,
}

impl Nginx {
    /// `v2_answer` is an nginx statement, such as `return 200 v2;`.
    pub fn start(program: &Path, v2_answer: &str) -> Nginx {
        // nginx cannot be given port 0 and asked which it got: take free ones, and try again if one is lost.
        for _ in 0..10 {
            let folder = tempfile::tempdir().expect("a temporary folder can be made");
            let (v1, v2) = (free(), free());
            std::fs::write(folder.path().join("nginx.conf"), configuration(folder.path(), v1, v2, v2_answer))
                .expect("the folder is ours");
            let mut child = Command::new(program)
                .args(["-p".as_ref(), folder.path(), "-e".as_ref(), "stderr".as_ref(), "-c".as_ref()])
                .arg(folder.path().join("nginx.conf"))
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("nginx can be run");
            let mut up = false;
            eventually("nginx is up or gone", || {
                up = TcpStream::connect(v1).is_ok() && TcpStream::connect(v2).is_ok();
                up || matches!(child.try_wait(), Ok(Some(_)))
            });
            if up && matches!(child.try_wait(), Ok(None)) {
                return Nginx { v1, v2, child, folder };
            }
        }
        panic!("nginx did not start in ten attempts");
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A Unix socket at which it answers `unix`.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Requests that a version's access log holds.
    pub fn logged(&self, version: &str) -> u64 {
        let log = std::fs::read_to_string(self.folder.path().join(version)).unwrap_or_default();
        log.lines().count() as u64
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.child.wait();
    }
}

fn configuration(folder: &Path, v1: SocketAddr, v2: SocketAddr, v2_answer: &str) -> String {
    let at = |name: &str| -> PathBuf { folder.join(name) };
    format!(
        "daemon off;\nworker_processes 1;\npid {pid};\nevents {{ worker_connections 1024; }}\n\
         http {{\n  keepalive_requests 1000000;\n  client_body_temp_path {body};\n  proxy_temp_path {proxy};\n  \
         fastcgi_temp_path {fastcgi};\n  uwsgi_temp_path {uwsgi};\n  scgi_temp_path {scgi};\n  \
         log_format one '$status';\n  \
         server {{ listen {v1}; access_log {log1} one; location / {{ return 200 v1; }} }}\n  \
         server {{ listen {v2}; access_log {log2} one; location / {{ {v2_answer} }} }}\n  \
         server {{ listen unix:{socket}; location / {{ return 200 unix; }} }}\n}}\n",
        socket = at("socket").display(),
        pid = at("pid").display(),
        body = at("body").display(),
        proxy = at("proxy").display(),
        fastcgi = at("fastcgi").display(),
        uwsgi = at("uwsgi").display(),
        scgi = at("scgi").display(),
        log1 = at("v1").display(),
        log2 = at("v2").display(),
    )
}

/// A port that was free a moment ago.
pub fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("it is bound")
}

#[test]
fn nginx_answers_as_told_and_logs_it() {
    use super::{Ask, client::once, require};
    let Some(program) = require("nginx") else { return };
    let nginx = Nginx::start(&program, "return 500 broken;");
    assert_eq!(once(nginx.v1, &Ask::get("/x")).text(), "v1");
    assert_eq!(once(nginx.v2, &Ask::get("/x")).status, 500);
    eventually("both are logged", || (nginx.logged("v1"), nginx.logged("v2")) == (1, 1));
}
