//! The real nginx as two upstreams, each with an access log to count by.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::program::{Program, free};

/// Two servers in one nginx: `v1` always answers 200, `v2` answers as told.
pub struct Nginx {
    pub v1: SocketAddr,
    pub v2: SocketAddr,
    program: Program,
}

impl Nginx {
    /// `v2_answer` is an nginx statement, such as `return 200 v2;`.
    pub fn start(program: &Path, v2_answer: &str) -> Nginx {
        let prepare = |folder: &Path| {
            let (v1, v2, config) = (free(), free(), folder.join("nginx.conf"));
            std::fs::write(&config, configuration(folder, v1, v2, v2_answer)).expect("the folder is ours");
            let mut command = Command::new(program);
            command
                .args(["-p".as_ref(), folder, "-e".as_ref(), "stderr".as_ref(), "-c".as_ref()])
                .arg(config);
            (command, [v1, v2])
        };
        let is_up = |at: &[SocketAddr; 2]| at.iter().all(|address| TcpStream::connect(address).is_ok());
        let (program, [v1, v2]) = Program::start("nginx", prepare, is_up);
        Nginx { v1, v2, program }
    }

    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// A Unix socket at which it answers `unix`.
    pub fn socket(&self) -> PathBuf {
        self.program.folder().join("socket")
    }

    /// Requests that a version's access log holds.
    pub fn logged(&self, version: &str) -> u64 {
        let log = std::fs::read_to_string(self.program.folder().join(version)).unwrap_or_default();
        log.lines().count() as u64
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

#[test]
fn nginx_answers_as_told_and_logs_it() {
    use super::{Ask, client::once, eventually, require};
    let Some(program) = require("nginx") else { return };
    let nginx = Nginx::start(&program, "return 500 broken;");
    assert_eq!(once(nginx.v1, &Ask::get("/x")).text(), "v1");
    assert_eq!(once(nginx.v2, &Ask::get("/x")).status, 500);
    eventually("both are logged", || (nginx.logged("v1"), nginx.logged("v2")) == (1, 1));
}
