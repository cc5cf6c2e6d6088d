//! The real Graphite: a carbon cache that takes lines, and graphite-web in the
//! server that Python brings along.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use super::program::{Program, free};
use super::require;

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
    web: Child,
    _said: BufReader<ChildStdout>,
    _carbon: Program,
}

impl Graphite {
    /// `None` where it is not installed, which is told.
    pub fn start() -> Option<Graphite> {
        let carbon = require("carbon-cache")?;
        require("graphite-manage")?;
        let prepare = |folder: &Path| {
            let (lines, cached, mut command) = (free(), free(), Command::new(&carbon));
            write_configuration(folder, lines, cached);
            let config = format!("--config={}", folder.join("carbon.conf").display());
            command.args(["--nodaemon", "--debug", &config, "start"]);
            (command, [lines, cached])
        };
        let is_up = |at: &[SocketAddr; 2]| at.iter().all(|address| TcpStream::connect(address).is_ok());
        let (carbon, [lines, _]) = Program::start("carbon", prepare, is_up);
        let (web, address, said) = serve(carbon.folder());
        Some(Graphite { address, lines, web, _said: said, _carbon: carbon })
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

impl Drop for Graphite {
    fn drop(&mut self) {
        let _ = self.web.kill();
        let _ = self.web.wait();
    }
}
