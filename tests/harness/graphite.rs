//! The real Graphite: a carbon cache that takes lines, and graphite-web in the
//! server that Python brings along.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

use super::nginx::free;
use super::{eventually, require};

/// Debian's, whichever Python stands first in `PATH`: its packages are of this one.
const PYTHON: &str = "/usr/bin/python3";

/// Of port 0, and says which it was given.
const SERVE: &str = "
from wsgiref.simple_server import make_server
from graphite.wsgi import application
server = make_server('127.0.0.1', 0, application)
print(server.server_port, flush=True)
server.serve_forever()
";

pub struct Graphite {
    pub address: SocketAddr,
    lines: SocketAddr,
    carbon: Child,
    web: Child,
    _said: BufReader<ChildStdout>,
    _folder: TempDir,
}

impl Graphite {
    /// `None` where it is not installed, which is told.
    pub fn start() -> Option<Graphite> {
        let carbon = require("carbon-cache")?;
        require("graphite-manage")?;
        for _ in 0..10 {
            let folder = tempfile::tempdir().expect("a temporary folder can be made");
            let (lines, cached) = (free(), free());
            write_configuration(folder.path(), lines, cached);
            let mut carbon = quiet(Command::new(&carbon).args(["--nodaemon", "--debug"]).args([
                format!("--config={}", folder.path().join("carbon.conf").display()),
                "start".to_owned(),
            ]));
            let mut is_up = false;
            eventually("carbon listens or is gone", || {
                is_up = TcpStream::connect(lines).is_ok() && TcpStream::connect(cached).is_ok();
                is_up || matches!(carbon.try_wait(), Ok(Some(_)))
            });
            if !is_up {
                continue;
            }
            let (web, address, said) = serve(folder.path());
            return Some(Graphite { address, lines, carbon, web, _said: said, _folder: folder });
        }
        panic!("carbon did not start in ten attempts");
    }

    /// Sends it these points, each so many seconds ago.
    pub fn write(&self, metric: &str, points: &[(u64, f64)]) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs();
        let mut conn = TcpStream::connect(self.lines).expect("carbon listens");
        for (ago, value) in points {
            writeln!(conn, "{metric} {value} {}", now - ago).expect("carbon reads");
        }
    }
}

fn write_configuration(folder: &Path, lines: SocketAddr, cached: SocketAddr) {
    let path = folder.display();
    let carbon = format!(
        "[cache]\nSTORAGE_DIR = {path}\nLOCAL_DATA_DIR = {path}/whisper/\nCONF_DIR = {path}\nLOG_DIR = {path}\n\
         PID_DIR = {path}\nENABLE_LOGROTATION = False\nENABLE_TAGS = False\n\
         LINE_RECEIVER_INTERFACE = 127.0.0.1\nLINE_RECEIVER_PORT = {}\n\
         PICKLE_RECEIVER_INTERFACE = 127.0.0.1\nPICKLE_RECEIVER_PORT = 0\n\
         CACHE_QUERY_INTERFACE = 127.0.0.1\nCACHE_QUERY_PORT = {}\n",
        lines.port(),
        cached.port()
    );
    let web = format!(
        "STORAGE_DIR = WHISPER_DIR = LOG_DIR = '{path}'\nWHISPER_DIR += '/whisper'\nINDEX_FILE = '{path}/index'\n\
         CARBONLINK_HOSTS = ['{cached}']\nSECRET_KEY = 'of a test'\nLOG_ROTATION = False\n"
    );
    let files = [
        ("carbon.conf", carbon),
        ("storage-schemas.conf", "[all]\npattern = .*\nretentions = 1s:1h\n".to_owned()),
        ("serin_graphite.py", web),
    ];
    for (name, text) in files {
        std::fs::write(folder.join(name), text).expect("the folder is ours");
    }
    std::fs::create_dir(folder.join("whisper")).expect("the folder is ours");
}

fn serve(folder: &Path) -> (Child, SocketAddr, BufReader<ChildStdout>) {
    let mut web = Command::new(PYTHON)
        .args(["-c", SERVE])
        .env("PYTHONPATH", folder)
        .env("GRAPHITE_SETTINGS_MODULE", "serin_graphite")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("python can be run");
    let mut said = BufReader::new(web.stdout.take().expect("it is piped"));
    let mut port = String::new();
    said.read_line(&mut port).expect("text");
    let port: u16 = port.trim().parse().expect("graphite-web says its port");
    (web, SocketAddr::from(([127, 0, 0, 1], port)), said)
}

fn quiet(command: &mut Command) -> Child {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("it can be run")
}

impl Drop for Graphite {
    fn drop(&mut self) {
        for child in [&mut self.carbon, &mut self.web] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
